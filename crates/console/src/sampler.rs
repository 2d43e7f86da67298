//! Measures memory and CPU of every instance, seldom enough to cost nothing.
//!
//! Why adaptive: reading `/proc` costs a few microseconds a process, which is nothing for ten and a
//! lot for ten thousand. The pause after a round is a thousand times the round's cost, so that the
//! sampler never takes more than a thousandth of a core, however many there are.
//! Invariants: only numbers are kept of a process; a process that ends is forgotten in the next
//! round; the root is asked for a snapshot only when something has changed, or where detectors
//! measure.
//! Source: proc(5), `/proc/PID/stat`; cgroups(7), `cgroup.procs`.

use crate::App;
use crate::samples::{Ring, Sample, SampleBook};
use control::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Pause while somebody watches.
const WATCHED_INTERVAL: Duration = Duration::from_secs(2);

/// The pause is at least this many times the cost of the round before: 0.1 % of a core.
const COST_FACTOR: u32 = 1000;

/// Processes of one instance that are looked at; more is a fork bomb, and is measured by its first.
const PROCESSES_MAX: usize = 1024;

/// `cgroup.procs` of [`PROCESSES_MAX`] processes.
const PROCS_BYTES_MAX: u64 = 16 * 1024;

/// Where the processes of an instance are found: all that is kept of a snapshot between rounds.
struct Target {
    name: String,
    pid: Option<u32>,
    cgroup: Option<String>,
}

struct Round {
    targets: Arc<[Target]>,
    done: oneshot::Sender<Duration>,
}

/// Lets rounds happen until `shutdown`.
pub(crate) async fn run(app: Arc<App>, shutdown: CancellationToken) {
    let (rounds, todo) = sync_channel(1);
    let book = app.samples.clone();
    let thread = std::thread::Builder::new().name("sampler".into());
    if let Err(error) = thread.spawn(move || Sampler::new(book).run(&todo)) {
        tracing::error!(%error, "cannot start the sampler's thread; there will be no samples");
        return;
    }
    let drive = drive(&app, &rounds);
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = drive => {}
    }
}

async fn drive(app: &App, rounds: &SyncSender<Round>) {
    let mut changes = app.history.changes();
    let mut watchers = app.watchers.subscribe();
    let mut targets: Option<Arc<[Target]>> = None;
    let mut cost = Duration::ZERO;
    let mut measuring = false;
    loop {
        let changed = changes.has_changed().unwrap_or(false);
        if changed || measuring || targets.is_none() {
            changes.mark_unchanged();
            let snapshot = app.snapshots.fresh().await.ok();
            // Numbers of detectors change without an event.
            measuring = snapshot.as_deref().is_some_and(|snapshot| app.trends.take(snapshot));
            targets = snapshot.map(|snapshot| targets_of(&snapshot));
        }
        if let Some(targets) = &targets {
            let (done, finished) = oneshot::channel();
            if rounds.try_send(Round { targets: Arc::clone(targets), done }).is_ok() {
                cost = finished.await.unwrap_or_default();
                app.samples.round_done();
            }
        }
        pause(app, cost, &mut watchers).await;
    }
}

/// Waits for the next round; less long as soon as somebody begins to watch.
async fn pause(app: &App, cost: Duration, watchers: &mut tokio::sync::watch::Receiver<usize>) {
    let began = tokio::time::Instant::now();
    loop {
        let watched = 0 < *watchers.borrow_and_update();
        let usual = app.config.console.sample_interval;
        let wanted = if watched { usual.min(WATCHED_INTERVAL) } else { usual };
        let until = began + wanted.max(cost * COST_FACTOR);
        tokio::select! {
            () = tokio::time::sleep_until(until) => return,
            changed = watchers.changed() => if changed.is_err() { return },
        }
    }
}

/// What is known of a process from the round before.
#[derive(Clone, Copy)]
struct Seen {
    start_ticks: u64,
    cpu_ticks: u64,
    round: u64,
}

fn targets_of(snapshot: &Snapshot) -> Arc<[Target]> {
    let instances = snapshot.services.iter().flat_map(|service| &service.instances);
    let targets = instances.map(|instance| Target {
        name: instance.name.clone(),
        pid: instance.pid,
        cgroup: instance.cgroup.clone(),
    });
    targets.collect()
}

struct Sampler {
    book: SampleBook,
    processes: BTreeMap<u32, Seen>,
    round: u64,
    before: Option<base::Now>,
    ticks_per_second: f64,
    page_bytes: u64,
    text: String,
    pids: Vec<u32>,
}

impl Sampler {
    fn new(book: SampleBook) -> Self {
        Self {
            book,
            processes: BTreeMap::new(),
            round: 0,
            before: None,
            ticks_per_second: sys::proc_fs::clock_ticks_per_second() as f64,
            page_bytes: sys::proc_fs::page_size(),
            text: String::new(),
            pids: Vec::new(),
        }
    }

    fn run(mut self, todo: &Receiver<Round>) {
        let mut known: Arc<[Target]> = Arc::default();
        while let Ok(Round { targets, done }) = todo.recv() {
            let began = Instant::now();
            self.round(&targets);
            if !Arc::ptr_eq(&targets, &known) {
                // They were taken out of a picture of everything, which is large and gone by now.
                known = targets;
                sys::memory::give_back();
            }
            let _ = done.send(began.elapsed());
        }
    }

    fn round(&mut self, targets: &[Target]) {
        self.round += 1;
        let now = sys::clock::now();
        let at_us = sys::clock::wall().as_micros();
        let seconds = self.before.map_or(0.0, |before| now.since(before).as_secs_f64());
        self.before = Some(now);
        let mut measured = Vec::with_capacity(targets.len());
        for target in targets {
            if let Some(usage) = self.measure(target) {
                measured.push((target.name.as_str(), usage));
            }
        }
        self.processes.retain(|_, seen| seen.round == self.round);
        let mut rings = self.book.lock();
        // Only a change of configuration makes an instance unknown: compare when numbers differ.
        if targets.len() < rings.len() {
            let known: BTreeSet<&str> = targets.iter().map(|target| target.name.as_str()).collect();
            rings.retain(|name, _| known.contains(name.as_str()));
        }
        for (name, usage) in measured {
            let cpu_seconds = usage.cpu_ticks as f64 / self.ticks_per_second;
            let share = if 0.0 < seconds {
                usage.recent_ticks as f64 / self.ticks_per_second / seconds
            } else {
                0.0
            };
            let sample = Sample {
                at_us,
                rss_bytes: usage.rss_pages * self.page_bytes,
                cpu_percent: (share * 10_000.0).round() / 100.0,
                threads: usage.threads,
                processes: usage.processes,
            };
            if !rings.contains_key(name) {
                rings.insert(name.to_owned(), Ring::new(at_us));
            }
            if let Some(ring) = rings.get_mut(name) {
                ring.push(sample, cpu_seconds);
            }
        }
    }

    /// Adds up the processes of one instance; `None` when it has none.
    fn measure(&mut self, target: &Target) -> Option<Usage> {
        let mut pids = std::mem::take(&mut self.pids);
        pids.clear();
        if let Some(group) = &target.cgroup {
            self.members(group, &mut pids);
        }
        if pids.is_empty() {
            pids.extend(target.pid);
        }
        let mut usage = Usage::default();
        for pid in &pids {
            self.add(*pid, &mut usage);
        }
        self.pids = pids;
        (0 < usage.processes).then_some(usage)
    }

    fn members(&mut self, group: &str, pids: &mut Vec<u32>) {
        self.text.clear();
        let path = Path::new(group).join("cgroup.procs");
        let read = File::open(path)
            .and_then(|file| file.take(PROCS_BYTES_MAX).read_to_string(&mut self.text));
        if read.is_ok() {
            pids.extend(
                self.text.lines().filter_map(|line| line.parse::<u32>().ok()).take(PROCESSES_MAX),
            );
        }
    }

    fn add(&mut self, pid: u32, usage: &mut Usage) {
        let Ok(stat) = sys::proc_fs::stat(pid) else { return };
        if stat.state == 'Z' {
            return;
        }
        let cpu_ticks = stat.utime_ticks + stat.stime_ticks;
        let before = self
            .processes
            .insert(pid, Seen { start_ticks: stat.start_ticks, cpu_ticks, round: self.round });
        let before = before.filter(|seen| seen.start_ticks == stat.start_ticks);
        // A process that is new to us counts whole; but in the first round nothing is recent.
        let grown = cpu_ticks.saturating_sub(before.map_or(0, |seen| seen.cpu_ticks));
        usage.cpu_ticks += grown;
        usage.recent_ticks += if before.is_some() || 1 < self.round { grown } else { 0 };
        usage.rss_pages += stat.rss_pages;
        usage.threads += stat.threads;
        usage.processes += 1;
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    cpu_ticks: u64,
    recent_ticks: u64,
    rss_pages: u64,
    threads: u32,
    processes: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{InstanceView, ServiceView};

    fn snapshot(instances: Vec<InstanceView>) -> Arc<[Target]> {
        let services = vec![ServiceView { instances, ..ServiceView::default() }];
        targets_of(&Snapshot { services, ..Snapshot::default() })
    }

    fn instance(name: &str, pid: Option<u32>, cgroup: Option<String>) -> InstanceView {
        InstanceView { name: name.into(), pid, cgroup, ..InstanceView::default() }
    }

    #[test]
    fn a_group_is_measured_whole_and_without_one_the_main_process() {
        let dir = tempfile::TempDir::new().unwrap();
        let sleeper = || std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let mut children = [sleeper(), sleeper()];
        let [one, other] = [children[0].id(), children[1].id()];
        // Asleep, they do not grow any more.
        let asleep =
            |pid| sys::proc_fs::stat(pid).is_ok_and(|s| s.comm == "sleep" && s.state == 'S');
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while !(asleep(one) && asleep(other)) {
            assert!(std::time::Instant::now() < deadline, "they do not fall asleep");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        // A process that is gone by the time it is looked at is left out.
        let members = format!("{one}\n{other}\n4194304\n");
        std::fs::write(dir.path().join("cgroup.procs"), members).unwrap();
        let group = Some(dir.path().display().to_string());
        let book = SampleBook::new();
        let mut sampler = Sampler::new(book.clone());
        sampler.round(&snapshot(vec![
            instance("whole", Some(one), group),
            instance("main", Some(one), None),
            instance("down", None, None),
        ]));
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let rings = book.lock();
        let first = |name: &str| rings[name].samples().next().unwrap();
        let processes = |name: &str| first(name).processes;
        assert_eq!((processes("whole"), processes("main")), (2, 1));
        assert!(first("main").rss_bytes < first("whole").rss_bytes);
        assert!(!rings.contains_key("down"));
    }

    #[test]
    fn cpu_time_is_counted_and_never_falls_when_a_process_is_replaced() {
        let book = SampleBook::new();
        let mut sampler = Sampler::new(book.clone());
        let me = snapshot(vec![instance("me", Some(std::process::id()), None)]);
        sampler.round(&me);
        let first = book.lock()["me"].cpu_seconds;
        // Work until the kernel has counted some of it.
        let ticks = || {
            let stat = sys::proc_fs::stat(std::process::id()).unwrap();
            stat.utime_ticks + stat.stime_ticks
        };
        let begin = ticks();
        while ticks() < begin + 3 {}
        sampler.round(&me);
        let (second, percent) = {
            let rings = book.lock();
            (rings["me"].cpu_seconds, rings["me"].last().unwrap().cpu_percent)
        };
        assert!(first + 0.02 <= second, "{first} {second}");
        assert!(0.0 < percent);
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        sampler.round(&snapshot(vec![instance("me", Some(child.id()), None)]));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(second <= book.lock()["me"].cpu_seconds);
    }

    #[test]
    fn instances_that_are_gone_are_forgotten() {
        let book = SampleBook::new();
        let mut sampler = Sampler::new(book.clone());
        let me = Some(std::process::id());
        sampler.round(&snapshot(vec![instance("a", me, None), instance("b", me, None)]));
        sampler.round(&snapshot(vec![instance("b", me, None)]));
        assert_eq!(book.lock().keys().collect::<Vec<_>>(), ["b"]);
    }
}

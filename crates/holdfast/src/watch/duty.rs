//! The duty's loop: one owner of the watcher and of everything it needs to ask.

mod evidence;
mod questions;

use super::ask::{Commands, Doors, LineCounter, Places};
use super::facts::{self, History};
use super::link::Link;
use super::looker::{Key, Looked, Looker};
use super::protocol::{self, FromWatch, RunFacts, ToWatch, VerdictSaid};
use base::{InstanceId, Now, RunId};
use evidence::GATHERS_MAX;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use supervisor::watch::{Input, Output, Watch, Watcher};
use supervisor::{CounterSource, Dependency, DependencyTarget, Mode, Tolerance};
use sys::sample::Wants;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Runs whose history is kept when they are no longer watched: their evidence may still be wanted.
const FORMER_MAX: usize = 64;

/// By then the root has told of all runs that are to be watched.
const SWEEP_AFTER: Duration = Duration::from_mins(5);

/// Things that can't be read of one run, of which the root is told.
const NOTICES_MAX: usize = 16;

/// Where the duty works.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The state directory.
    pub(crate) state: PathBuf,
    /// The node's name.
    pub(crate) node: String,
    /// The root's process: orphans come to it.
    pub(crate) adopter: u32,
}

/// A run that is watched.
struct Watched {
    facts: RunFacts,
    mode: Mode,
    ready_at: Now,
    history: History,
    lines: BTreeMap<PathBuf, Arc<Mutex<LineCounter>>>,
    told: BTreeSet<&'static str>,
}

pub(super) struct Duty {
    options: Options,
    config: config::Config,
    link: Link,
    is_linked: bool,
    watcher: Watcher,
    looker: Looker,
    seen: mpsc::Receiver<Looked>,
    runs: BTreeMap<Key, Watched>,
    former: VecDeque<(Key, History)>,
    asking: JoinSet<Input>,
    answering: JoinSet<FromWatch>,
    doors: Arc<Doors>,
    commands: Commands,
    places: Places,
    gathers: Arc<Semaphore>,
    pressure: Option<String>,
    dependencies: BTreeMap<InstanceId, BTreeMap<String, String>>,
    due: BTreeSet<Key>,
    host_due: bool,
    sweep_at: Option<Now>,
}

impl Duty {
    pub(super) fn new(link: Link, config: config::Config, options: Options) -> Self {
        let (looker, seen) = Looker::new(options.adopter);
        Self {
            watcher: Watcher::new(seed(&options.node)),
            options,
            config,
            link,
            is_linked: true,
            looker,
            seen,
            runs: BTreeMap::new(),
            former: VecDeque::new(),
            asking: JoinSet::new(),
            answering: JoinSet::new(),
            doors: Arc::new(Doors::new()),
            commands: Commands::new(),
            places: Places::default(),
            gathers: Arc::new(Semaphore::new(GATHERS_MAX)),
            pressure: None,
            dependencies: BTreeMap::new(),
            due: BTreeSet::new(),
            host_due: false,
            sweep_at: Some(sys::clock::now() + SWEEP_AFTER),
        }
    }

    /// Serves until the root is gone.
    pub(super) async fn serve(&mut self) {
        while self.is_linked {
            let wake = [self.watcher.next_wake(), self.looker.next_wake(), self.sweep_at];
            tokio::select! {
                order = self.link.receive() => match order {
                    Some(order) => self.take(order).await,
                    None => return,
                },
                looked = self.seen.recv() => if let Some(looked) = looked {
                    self.looker.answered(&looked);
                    self.looked(looked);
                },
                Some(answer) = self.asking.join_next() => if let Ok(input) = answer {
                    self.tell(input);
                },
                Some(answer) = self.answering.join_next() => if let Ok(message) = answer {
                    self.say(message);
                },
                () = sleep_until(wake.into_iter().flatten().min()) => self.on_time(),
            }
        }
    }

    fn on_time(&mut self) {
        let now = sys::clock::now();
        if let Some((answers, why)) = self.looker.overdue(now) {
            tracing::error!(error = %why, "looking hangs");
            self.say(FromWatch::Notice { subject: "duty/watch".to_owned(), message: why });
            for looked in answers {
                self.looked(looked);
            }
        }
        if self.sweep_at.take_if(|at| *at <= now).is_some() {
            let directory = counts(&self.options.state);
            let watched = self.runs.keys().map(|key| format!("{}.{}", key.0, key.1)).collect();
            tokio::task::spawn_blocking(move || sweep_marks(&directory, &watched));
        }
        if self.watcher.next_wake().is_some_and(|wake| wake <= now) {
            self.tell(Input::Tick);
        }
    }

    /// Tells the watcher something, and does all that follows.
    fn tell(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.watcher.handle(sys::clock::now(), input, &mut outputs);
        for output in outputs {
            self.carry_out(output);
        }
        let (due, host) = (std::mem::take(&mut self.due), std::mem::take(&mut self.host_due));
        if host || !due.is_empty() {
            for refused in self.looker.look(due, host) {
                self.looked(refused);
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Sample { instance, run } => drop(self.due.insert((instance, run))),
            Output::LookAtHost => self.host_due = true,
            Output::LookAtDisk { instance, run, detector, path } => {
                let looking = self.places.disk(&path);
                self.asking.spawn(async move {
                    let result = looking.await.map(|seen| supervisor::watch::DiskSample {
                        used: seen.used,
                        total: seen.total,
                    });
                    Input::Disk { instance, run, detector, result }
                });
            }
            Output::Probe { instance, run, detector, probe, timeout } => {
                let asking = self.probe(&instance, Some(run), probe, timeout);
                self.asking.spawn(async move {
                    let (answer, took) = asking.await;
                    Input::Probed { instance, run, detector, answer, took }
                });
            }
            Output::Count { instance, run, source, timeout } => {
                self.count(instance, run, source, timeout);
            }
            Output::AskDependency { instance, dependency, target, timeout } => {
                self.ask_dependency(instance, dependency, target, timeout);
            }
            Output::Verdict { instance, run, verdict } => {
                let verdict = VerdictSaid::of(&verdict);
                if let Some(watched) = self.runs.get_mut(&(instance.clone(), run)) {
                    let verdicts = &mut watched.history.verdicts;
                    verdicts.insert(verdict.detector.clone(), verdict.clone());
                }
                let instance = instance.to_string();
                self.say(FromWatch::Verdict { instance, run: run.0, verdict });
            }
            Output::Pressure(reason) => {
                self.pressure.clone_from(&reason);
                self.say(FromWatch::Pressure { reason });
            }
            Output::Dependency { instance, name, state, message } => {
                let known = self.dependencies.entry(instance.clone()).or_default();
                known.insert(name.clone(), message.clone());
                let (instance, state) = (instance.to_string(), state.as_str().to_owned());
                self.say(FromWatch::Dependency { instance, name, state, message });
            }
        }
    }

    fn looked(&mut self, looked: Looked) {
        match looked {
            Looked::Host(Ok(sample)) => self.tell(Input::Host(sample)),
            // Without an answer the watcher asks again by itself.
            Looked::Host(Err(why)) => tracing::warn!(error = %why, "no look at the machine"),
            Looked::Runs(runs) => {
                for (key, result, cannot_tell) in runs {
                    self.sampled(key, result, &cannot_tell);
                }
            }
        }
    }

    fn sampled(
        &mut self,
        key: Key,
        result: Result<supervisor::watch::Sample, String>,
        cannot_tell: &[&'static str],
    ) {
        let mut notices = Vec::new();
        if let Some(watched) = self.runs.get_mut(&key) {
            if let Ok(sample) = &result {
                watched.history.keep(sys::clock::wall(), sample.clone());
            }
            for why in cannot_tell {
                if watched.told.len() < NOTICES_MAX && watched.told.insert(why) {
                    notices.push((*why).to_owned());
                }
            }
        }
        let (instance, run) = key;
        for message in notices {
            self.say(FromWatch::Notice { subject: instance.to_string(), message });
        }
        self.tell(Input::Sampled { instance, run, result });
    }

    fn say(&mut self, message: FromWatch) {
        self.is_linked &= self.link.say(message);
    }

    async fn take(&mut self, order: ToWatch) {
        match order {
            ToWatch::Configured => self.configure().await,
            ToWatch::Watch { facts, mode, age_ms } => self.watch(facts, &mode, age_ms),
            ToWatch::Unwatch { instance, run } => {
                if let Ok(instance) = instance.parse::<InstanceId>() {
                    self.unwatch((instance, RunId(run)));
                }
            }
            ToWatch::Counter { instance, run, value } => {
                if let Ok(instance) = instance.parse() {
                    let (run, source, result) = (RunId(run), CounterSource::Notify, Ok(value));
                    self.tell(Input::Counted { instance, run, source, result });
                }
            }
            ToWatch::Gather { facts, cause, budget_ms } => {
                self.gather(facts, cause, Duration::from_millis(budget_ms));
            }
            ToWatch::CountConnections { facts } => self.count_connections(facts),
        }
    }

    /// Reads the configuration again, off the loop, and tells it of all runs.
    async fn configure(&mut self) {
        let state = self.options.state.clone();
        let read = tokio::task::spawn_blocking(move || super::effective(&state)).await;
        match read {
            Ok(Ok(config)) => self.config = config,
            Ok(Err(error)) => {
                let message = format!("the configuration in force can't be read: {error:#}");
                return self.say(FromWatch::Notice { subject: "duty/watch".into(), message });
            }
            Err(error) => return tracing::error!(%error, "the configuration was not read"),
        }
        let all: Vec<Key> = self.runs.keys().cloned().collect();
        for key in all {
            self.tell_of(&key);
        }
        let config = &self.config;
        let disks: BTreeSet<PathBuf> =
            self.runs.iter().flat_map(|(key, watched)| places_of(config, key, watched)).collect();
        self.places.retain(|path| disks.contains(path));
    }

    fn watch(&mut self, facts: RunFacts, mode: &str, age_ms: u64) {
        let (Ok(instance), Some(mode)) = (facts.instance.parse(), protocol::mode(mode)) else {
            return tracing::error!(instance = %facts.instance, mode, "words of another version");
        };
        let key: Key = (instance, RunId(facts.run));
        let now = sys::clock::now();
        let age = Duration::from_millis(age_ms);
        match self.runs.get_mut(&key) {
            Some(watched) => (watched.facts, watched.mode) = (facts, mode),
            None => {
                let history = History::default();
                let (lines, told) = (BTreeMap::new(), BTreeSet::new());
                let watched = Watched { facts, mode, ready_at: now - age, history, lines, told };
                self.runs.insert(key.clone(), watched);
            }
        }
        self.tell_of(&key);
    }

    /// Tells the watcher and the looker how a run stands now.
    fn tell_of(&mut self, key: &Key) {
        let Some(watched) = self.runs.get_mut(key) else { return };
        let Some((tolerance, depends)) = settings(&self.config, key, watched) else {
            // Gone from the configuration: the root will stop it, and say so.
            return;
        };
        let wants = match watched.mode {
            Mode::Off => Wants::default(),
            Mode::Observe | Mode::Enforce => facts::wants(&tolerance),
        };
        if watched.mode == Mode::Off {
            self.looker.unwatch(key);
        } else {
            self.looker.watch(key.clone(), watched.facts.clone(), wants);
        }
        let paths = log_paths(&tolerance);
        watched.lines.retain(|path, _| paths.contains(path));
        for path in paths {
            let mark = mark_of(&self.options.state, key, &path);
            let begin = || Arc::new(Mutex::new(LineCounter::new(&path, mark)));
            watched.lines.entry(path.clone()).or_insert_with(begin);
        }
        let watch = Watch {
            instance: key.0.clone(),
            run: key.1,
            mode: watched.mode,
            tolerance: Arc::new(tolerance),
            depends: Arc::new(depends),
            age: sys::clock::now().since(watched.ready_at),
        };
        let beginning: Vec<_> = watched.lines.values().cloned().collect();
        for counter in beginning {
            // What is in the file by now was written before.
            tokio::task::spawn_blocking(move || counter.lock().map(|mut it| it.begin()).is_ok());
        }
        self.tell(Input::Watch(watch));
    }

    fn unwatch(&mut self, key: Key) {
        let Some(watched) = self.runs.remove(&key) else { return };
        self.looker.unwatch(&key);
        if !self.runs.keys().any(|other| other.0 == key.0) {
            self.dependencies.remove(&key.0);
        }
        if FORMER_MAX <= self.former.len() {
            self.former.pop_front();
        }
        self.former.push_back((key.clone(), watched.history));
        for counter in watched.lines.into_values() {
            tokio::task::spawn_blocking(move || counter.lock().map(|mut it| it.forget()).is_ok());
        }
        self.tell(Input::Unwatch { instance: key.0, run: key.1 });
    }
}

fn settings(
    config: &config::Config,
    key: &Key,
    watched: &Watched,
) -> Option<(Tolerance, BTreeMap<String, Dependency>)> {
    let spec = config.services.get(&key.0.service)?;
    Some(facts::settings(spec, &key.0, watched.facts.port))
}

/// Paths whose file systems are looked at for a run.
fn places_of(config: &config::Config, key: &Key, watched: &Watched) -> Vec<PathBuf> {
    let Some((tolerance, depends)) = settings(config, key, watched) else { return Vec::new() };
    let disks = tolerance.detectors.values().filter_map(|detector| match &detector.rule {
        supervisor::Rule::Leak { resource: supervisor::LeakResource::Disk(path), .. } => {
            Some(path.clone())
        }
        _ => None,
    });
    let mounts = depends.values().filter_map(|dependency| match &dependency.target {
        DependencyTarget::Mount(path) => Some(path.clone()),
        DependencyTarget::Probe(_) | DependencyTarget::Service(_) => None,
    });
    disks.chain(mounts).collect()
}

/// The access logs that are counted.
fn log_paths(tolerance: &Tolerance) -> BTreeSet<PathBuf> {
    let sources = tolerance.detectors.values().filter_map(|detector| match &detector.rule {
        supervisor::Rule::Requests { source, .. } => Some(source),
        supervisor::Rule::Backlog { progress, .. }
        | supervisor::Rule::Livelock { progress, .. } => match progress {
            supervisor::Progress::Counter(source) => Some(source),
            supervisor::Progress::Kernel => None,
        },
        _ => None,
    });
    let path = |source: &CounterSource| match source {
        CounterSource::AccessLog(path) => Some(path.clone()),
        CounterSource::Notify | CounterSource::HttpJson { .. } => None,
    };
    sources.filter_map(path).collect()
}

/// Where it is marked how far the lines of a file were counted for a run.
fn mark_of(state: &Path, key: &Key, path: &Path) -> PathBuf {
    let hash = fnv(path.as_os_str().as_encoded_bytes());
    counts(state).join(format!("{}.{}.{hash:016x}", key.0, key.1))
}

fn counts(state: &Path) -> PathBuf {
    state.join("counts")
}

/// Removes the marks of runs that are not watched any more: they ended while nobody watched.
fn sweep_marks(directory: &Path, watched: &BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let run = name.rsplit_once('.').map_or("", |(run, _)| run);
        if !watched.contains(run) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Each node draws its own moments, and a new duty the same ones as the one before.
fn seed(node: &str) -> u64 {
    fnv(node.as_bytes())
}

/// FNV-1a.
fn fnv(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

async fn sleep_until(wake: Option<Now>) {
    match wake {
        Some(wake) => tokio::time::sleep(sys::clock::now().until(wake)).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_runs_that_are_over_are_swept_away() {
        let state = tempfile::tempdir().unwrap();
        let mark = |name: &str, run| {
            mark_of(state.path(), &(name.parse().unwrap(), RunId(run)), Path::new("/a/b.log"))
        };
        let all = [mark("web", 7), mark("web:1", 8), mark("web.x", 7)];
        std::fs::create_dir(counts(state.path())).unwrap();
        for path in &all {
            std::fs::write(path, "1 2 3 4").unwrap();
        }
        let watched = BTreeSet::from(["web:1.8".to_owned(), "web.x.7".to_owned()]);
        sweep_marks(&counts(state.path()), &watched);
        assert_eq!(all.map(|path| path.exists()), [false, true, true]);
    }
}

//! A driver for the watcher in simulated time: it answers each question out of a [`World`], after
//! as long as the world says, and keeps what was told.

use base::{Answer, InstanceId, Now, RunId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use supervisor::watch::{
    DependencyState, DiskSample, HostSample, Input, Output, Sample, SocketSample, Verdict,
    VerdictState, Watch, Watcher,
};
use supervisor::{
    CounterSource, Dependency, DependencyTarget, Detector, HealthProbe, LeakResource, Mode,
    Progress, Rule, Tolerance, Trend,
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const MIB: f64 = 1_048_576.0;

/// Where the tests begin: the machine has been up for a day.
pub(crate) const BEGIN: Now = Now::from_millis(86_400_000);

/// How long a look at `/proc` takes in the world.
const LOOK: Duration = Duration::from_millis(1);

/// What is out there. Each method may look at the time, and may count how often it was asked.
pub(crate) trait World {
    fn sample(&mut self, now: Now, instance: &InstanceId) -> Result<Sample, String> {
        let _ = (now, instance);
        Ok(idle())
    }
    fn host(&mut self, now: Now) -> HostSample {
        let _ = now;
        calm_host()
    }
    fn disk(&mut self, now: Now) -> Result<DiskSample, String> {
        let _ = now;
        Ok(DiskSample { used: 0, total: 1 << 40 })
    }
    fn probe(&mut self, now: Now, instance: &InstanceId) -> (Answer, Duration) {
        let _ = (now, instance);
        (Answer::Yes, LOOK)
    }
    fn count(&mut self, now: Now) -> (Result<u64, String>, Duration) {
        let _ = now;
        (Ok(0), LOOK)
    }
    fn depend(&mut self, now: Now, name: &str) -> (Answer, Duration) {
        let _ = (now, name);
        (Answer::Yes, LOOK)
    }
    /// How late everything of ours comes.
    fn late(&mut self, now: Now) -> Duration {
        let _ = now;
        Duration::ZERO
    }
}

/// One that is well.
pub(crate) struct Well;
impl World for Well {}

/// The watcher, its driver, and what was told.
pub(crate) struct Bench<W> {
    pub(crate) watcher: Watcher,
    pub(crate) now: Now,
    pub(crate) world: W,
    /// What was told, with the time.
    pub(crate) told: Vec<(Now, Output)>,
    /// Questions by kind.
    pub(crate) asked: BTreeMap<&'static str, u64>,
    /// Answers under way.
    under_way: BTreeMap<(Now, u64), Input>,
    number: u64,
}

impl<W: World> Bench<W> {
    pub(crate) fn new(world: W) -> Self {
        Self {
            watcher: Watcher::new(7),
            now: BEGIN,
            world,
            told: Vec::new(),
            asked: BTreeMap::new(),
            under_way: BTreeMap::new(),
            number: 0,
        }
    }

    /// Watches run 1 of `web` with these settings.
    pub(crate) fn watching(world: W, tolerance: Tolerance) -> Self {
        let mut it = Self::new(world);
        it.watch("web", 1, tolerance, BTreeMap::new());
        it
    }

    pub(crate) fn watch(
        &mut self,
        name: &str,
        run: u64,
        tolerance: Tolerance,
        depends: BTreeMap<String, Dependency>,
    ) {
        self.handle(Input::Watch(Watch {
            instance: instance(name),
            run: RunId(run),
            mode: tolerance.mode,
            tolerance: Arc::new(tolerance),
            depends: Arc::new(depends),
            age: Duration::ZERO,
        }));
    }

    pub(crate) fn handle(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.watcher.handle(self.now, input, &mut outputs);
        for output in outputs {
            self.carry_out(output);
        }
        if let Some(wake) = self.watcher.next_wake() {
            assert!(self.now < wake, "it wants to be woken in the past");
        }
    }

    fn carry_out(&mut self, output: Output) {
        let now = self.now;
        let (kind, took, answer) = match output {
            Output::Sample { instance, run } => {
                let result = self.world.sample(now, &instance);
                ("sample", LOOK, Input::Sampled { instance, run, result })
            }
            Output::LookAtHost => ("host", LOOK, Input::Host(self.world.host(now))),
            Output::LookAtDisk { instance, run, detector, .. } => {
                let result = self.world.disk(now);
                ("disk", LOOK, Input::Disk { instance, run, detector, result })
            }
            Output::Probe { instance, run, detector, timeout, .. } => {
                let (answer, took) = in_time(self.world.probe(now, &instance), timeout);
                ("probe", took, Input::Probed { instance, run, detector, answer, took })
            }
            Output::Count { instance, run, source, timeout } => {
                let (result, took) = self.world.count(now);
                let took = took.min(timeout);
                ("count", took, Input::Counted { instance, run, source, result })
            }
            Output::AskDependency { instance, dependency, timeout, .. } => {
                let (answer, took) = in_time(self.world.depend(now, &dependency), timeout);
                ("dependency", took, Input::Depended { instance, dependency, answer, took })
            }
            told @ (Output::Verdict { .. } | Output::Pressure(_) | Output::Dependency { .. }) => {
                self.told.push((now, told));
                return;
            }
        };
        *self.asked.entry(kind).or_default() += 1;
        self.number += 1;
        let late = self.world.late(now);
        self.under_way.insert((now + took + late, self.number), answer);
    }

    /// Lets time pass.
    pub(crate) fn after(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let answer = self.under_way.keys().next().map(|(at, _)| *at);
            let late = self.world.late(self.now);
            let wake = self.watcher.next_wake().map(|wake| wake + late);
            let Some(next) = answer.into_iter().chain(wake).min().filter(|next| *next <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            match self.under_way.first_entry() {
                Some(entry) if entry.key().0 <= self.now => {
                    let input = entry.remove();
                    self.handle(input);
                }
                _ => self.handle(Input::Tick),
            }
        }
        self.now = end;
    }

    /// Lets time pass until a detector says this. The time it took; panics after `most`.
    pub(crate) fn until(
        &mut self,
        detector: &str,
        state: VerdictState,
        most: Duration,
    ) -> Duration {
        let begin = self.now;
        while self.now.since(begin) < most {
            if self.verdict(detector).is_some_and(|verdict| verdict.state == state) {
                return self.now.since(begin);
            }
            self.after(Duration::from_millis(50));
        }
        panic!("{detector} is not {state:?} after {most:?}: {:#?}", self.verdict(detector));
    }

    /// What was told last of a detector, of whatever instance.
    pub(crate) fn verdict(&self, detector: &str) -> Option<&Verdict> {
        self.told.iter().rev().find_map(|(_, output)| match output {
            Output::Verdict { verdict, .. } if verdict.detector == detector => Some(verdict),
            _ => None,
        })
    }

    /// What it says now, told or not.
    pub(crate) fn message(&self, detector: &str) -> String {
        let told = self.watcher.snapshot();
        let said = told.into_iter().find_map(|output| match output {
            Output::Verdict { verdict, .. } if verdict.detector == detector => Some(verdict),
            _ => None,
        });
        said.map_or(String::new(), |verdict| verdict.message)
    }

    /// All times at which something was called sick.
    pub(crate) fn sick(&self) -> Vec<(Now, &Verdict)> {
        let told = self.told.iter();
        told.filter_map(|(at, output)| match output {
            Output::Verdict { verdict, .. } if verdict.state == VerdictState::Sick => {
                Some((*at, verdict))
            }
            _ => None,
        })
        .collect()
    }

    /// States of a dependency, in the order in which they were told.
    pub(crate) fn dependency(&self, wanted: &str) -> Vec<DependencyState> {
        let told = self.told.iter();
        told.filter_map(|(_, output)| match output {
            Output::Dependency { name, state, .. } if name == wanted => Some(*state),
            _ => None,
        })
        .collect()
    }

    /// Beginnings and ends of pressure, in the order in which they were told.
    pub(crate) fn pressure(&self) -> Vec<Option<String>> {
        let told = self.told.iter();
        told.filter_map(|(_, output)| match output {
            Output::Pressure(why) => Some(why.clone()),
            _ => None,
        })
        .collect()
    }

    pub(crate) fn asked(&self, kind: &str) -> u64 {
        self.asked.get(kind).copied().unwrap_or(0)
    }
}

/// As a driver answers: nothing within the timeout is a no.
fn in_time((answer, took): (Answer, Duration), timeout: Duration) -> (Answer, Duration) {
    if took <= timeout {
        return (answer, took);
    }
    (Answer::No(format!("no answer within {timeout:?}")), timeout)
}

pub(crate) fn instance(name: &str) -> InstanceId {
    name.parse().unwrap()
}

/// A quiet machine with 16 GiB and two processors.
pub(crate) fn calm_host() -> HostSample {
    HostSample {
        memory_total: 16 << 30,
        memory_available: 12 << 30,
        cores: 2,
        load_percent: 40,
        threads_max: 100_000,
        ..HostSample::default()
    }
}

/// A service that listens and has nothing to do.
pub(crate) fn idle() -> Sample {
    Sample {
        processes: 1,
        threads: 4,
        run_delay: Some(Duration::ZERO),
        sockets: Some(SocketSample {
            queue_limit: 128,
            queue_waiting: Some(Duration::ZERO),
            unanswered: Some(supervisor::watch::Unanswered::default()),
            ..SocketSample::default()
        }),
        ..Sample::default()
    }
}

/// Settings: enforce, each second, these detectors.
pub(crate) fn tolerance<const N: usize>(detectors: [(&str, Rule); N]) -> Tolerance {
    let detector = |rule| Detector { mode: Mode::Enforce, rule };
    Tolerance {
        mode: Mode::Enforce,
        interval: SECOND,
        detectors: detectors.map(|(name, rule)| (name.to_owned(), detector(rule))).into(),
        ..Tolerance::default()
    }
}

pub(crate) fn answer(failures: u32) -> Rule {
    let probe = HealthProbe::Tcp("127.0.0.1:80".to_owned());
    Rule::Answer { probe, interval: SECOND, timeout: SECOND, failures }
}

pub(crate) fn backlog(queue: u32, connections: Option<u32>, seconds: u64) -> Rule {
    let lasting = Duration::from_secs(seconds);
    Rule::Backlog { queue, connections, lasting, progress: Progress::Kernel }
}

pub(crate) fn notify_counter() -> Progress {
    Progress::Counter(CounterSource::Notify)
}

pub(crate) fn leak(resource: LeakResource) -> Rule {
    Rule::Leak { resource, limit: None, share_percent: None, trend: None }
}

pub(crate) trait LeakBut {
    fn limit(self, most: u64) -> Self;
    fn share(self, percent: u32) -> Self;
    fn trend(self, window: Duration, ahead: Duration) -> Self;
}

impl LeakBut for Rule {
    fn limit(mut self, most: u64) -> Self {
        if let Self::Leak { limit, .. } = &mut self {
            *limit = Some(most);
        }
        self
    }
    fn share(mut self, percent: u32) -> Self {
        if let Self::Leak { share_percent, .. } = &mut self {
            *share_percent = Some(percent);
        }
        self
    }
    fn trend(mut self, window: Duration, ahead: Duration) -> Self {
        if let Self::Leak { trend, .. } = &mut self {
            *trend = Some(Trend { window, ahead });
        }
        self
    }
}

pub(crate) fn depends(name: &str, slow: Option<Duration>) -> BTreeMap<String, Dependency> {
    let probe = HealthProbe::Tcp(format!("{name}:5432"));
    let dependency = Dependency { target: DependencyTarget::Probe(probe), slow };
    BTreeMap::from([(name.to_owned(), dependency)])
}

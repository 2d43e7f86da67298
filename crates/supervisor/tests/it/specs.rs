//! Services to test with: small, complete, and changed by one word each.

use base::{Backoff, ByteSize, InstanceId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use supervisor::watch::{Verdict, VerdictState};
use supervisor::{
    CgroupLimits, Dependency, DependencyTarget, Detector, Kind, LeakResource, LogPolicy, Mode,
    Probe, ProcessSpec, Readiness, RestartPolicy, RestartWhen, Rule, ServiceSpec, StopAction,
    StopStep, Successor,
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A simple service: ready once executed, TERM and ten seconds to stop, restarted on failure.
pub(crate) fn service(name: &str) -> ServiceSpec {
    ServiceSpec {
        name: name.parse().unwrap(),
        description: String::new(),
        autostart: true,
        kind: Kind::Simple,
        instances: 1,
        process: process(&format!("/bin/{name}")),
        after: BTreeSet::new(),
        requires: BTreeSet::new(),
        wants: BTreeSet::new(),
        ready: Readiness::Started,
        start_timeout: 60 * SECOND,
        stop: vec![StopStep { action: StopAction::Signal(15), wait: 10 * SECOND }],
        reload: None,
        restart: RestartPolicy {
            when: RestartWhen::OnFailure,
            success_codes: BTreeSet::new(),
            success_signals: BTreeSet::new(),
            backoff: Backoff {
                first: Duration::from_millis(200),
                max: 30 * SECOND,
                jitter_percent: 0,
            },
            healthy_after: 10 * SECOND,
            budget: 5,
            budget_window: 60 * SECOND,
        },
        watchdog: None,
        log: LogPolicy {
            path: None,
            size_max: ByteSize::mib(10),
            age_max: None,
            keep: 5,
            compress: false,
            split_stderr: false,
        },
        tolerance: supervisor::Tolerance::default(),
        depends: BTreeMap::new(),
        listener: None,
        output_events: supervisor::OutputEvents::default(),
    }
}

fn process(program: &str) -> ProcessSpec {
    ProcessSpec {
        argv: vec![program.to_owned()],
        env: BTreeMap::new(),
        env_files: Vec::new(),
        user: None,
        group: None,
        supplementary_groups: None,
        directory: "/".into(),
        umask: 0o022,
        nice: 0,
        io_priority: None,
        oom_score_adjust: 0,
        rlimits: BTreeMap::new(),
        limits: CgroupLimits::default(),
        sockets: Vec::new(),
        port: None,
        no_new_privileges: false,
    }
}

/// One word of change each, so that a test says only what matters to it.
pub(crate) trait But: Sized {
    fn but(self, change: impl FnOnce(&mut ServiceSpec)) -> Self;

    fn requires(self, name: &str) -> Self {
        self.but(|spec| {
            spec.requires.insert(name.parse().unwrap());
        })
    }
    fn wants(self, name: &str) -> Self {
        self.but(|spec| {
            spec.wants.insert(name.parse().unwrap());
        })
    }
    fn after(self, name: &str) -> Self {
        self.but(|spec| {
            spec.after.insert(name.parse().unwrap());
        })
    }
    fn times(self, instances: u16) -> Self {
        self.but(|spec| spec.instances = instances)
    }
    fn not_by_itself(self) -> Self {
        self.but(|spec| spec.autostart = false)
    }
    fn restarts(self, when: RestartWhen) -> Self {
        self.but(|spec| spec.restart.when = when)
    }
    fn oneshot(self) -> Self {
        self.but(|spec| spec.kind = Kind::Oneshot)
    }
    fn forking(self) -> Self {
        self.but(|spec| spec.kind = Kind::Forking { pid_file: None })
    }
    fn says_ready(self) -> Self {
        self.but(|spec| spec.ready = Readiness::Notify)
    }
    fn probed(self) -> Self {
        self.but(|spec| {
            spec.ready = Readiness::Probe {
                probe: Probe::Tcp("127.0.0.1:{port}".into()),
                interval: Duration::from_millis(500),
                timeout: 2 * SECOND,
            };
            spec.process.port = Some(8000);
        })
    }
    fn watchdog(self, period: Duration) -> Self {
        self.but(|spec| spec.watchdog = Some(period))
    }
    /// With the detectors of [`verdict`], and no evidence unless a test asks for it.
    fn tolerates(self, mode: Mode) -> Self {
        self.but(|spec| {
            spec.tolerance.mode = mode;
            spec.tolerance.evidence.budget = Duration::ZERO;
            spec.tolerance.replace.drain = Duration::ZERO;
            let limit = Some(100);
            let resource = LeakResource::Memory;
            let leak = Rule::Leak { resource, limit, share_percent: None, trend: None };
            let age = Rule::Age { every: SECOND * 3600, jitter_percent: 0 };
            let hang = Rule::Deadlock { lasting: SECOND };
            for (name, rule) in [("leak", leak), ("hang", hang), ("age", age)] {
                let detector = Detector { mode: Mode::Enforce, rule };
                spec.tolerance.detectors.insert(name.into(), detector);
            }
        })
    }
    fn beside(self) -> Self {
        self.but(|spec| spec.tolerance.replace.successor = Successor::Beside)
    }
    fn drains(self, settle: u64, drain: u64) -> Self {
        self.but(|spec| {
            spec.tolerance.replace.settle = Duration::from_secs(settle);
            spec.tolerance.replace.drain = Duration::from_secs(drain);
        })
    }
    fn keeps_evidence(self) -> Self {
        self.but(|spec| spec.tolerance.evidence.budget = 3 * SECOND)
    }
    fn depends_on(self, name: &str, target: DependencyTarget) -> Self {
        self.but(|spec| {
            spec.depends.insert(name.into(), Dependency { target, slow: None });
        })
    }
    fn runs(self, program: &str) -> Self {
        self.but(|spec| spec.process.argv = vec![program.to_owned()])
    }
    fn stops_by(self, steps: &[(StopAction, u64)]) -> Self {
        let steps = steps.iter().map(|(action, seconds)| StopStep {
            action: action.clone(),
            wait: Duration::from_secs(*seconds),
        });
        self.but(|spec| spec.stop = steps.collect())
    }
}

impl But for ServiceSpec {
    fn but(mut self, change: impl FnOnce(&mut ServiceSpec)) -> Self {
        change(&mut self);
        self
    }
}

pub(crate) fn command(words: &str) -> StopAction {
    StopAction::Command(words.split(' ').map(str::to_owned).collect())
}

pub(crate) fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

pub(crate) fn config(
    specs: impl IntoIterator<Item = ServiceSpec>,
) -> BTreeMap<base::ServiceName, Arc<ServiceSpec>> {
    specs.into_iter().map(|spec| (spec.name.clone(), Arc::new(spec))).collect()
}

/// What a detector says: `leak` is about memory, `hang` a deadlock, `age` is planned.
pub(crate) fn verdict(detector: &str, state: VerdictState, since: base::Now) -> Verdict {
    let kind = match detector {
        "leak" => "memory",
        "hang" => "deadlock",
        _ => "age",
    };
    Verdict {
        detector: detector.to_owned(),
        kind,
        state,
        message: format!("its {detector} says so"),
        measured: vec![("number", 1.5)],
        since,
        exhausted_in: None,
        planned: detector == "age",
        cannot_run: false,
        relieves: detector == "leak",
        mode: Mode::Enforce,
    }
}

//! What is known of a run: where its processes are, what is wanted of it, what was seen of it.

use super::protocol::{RunFacts, VerdictSaid};
use base::{InstanceId, WallTime};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use supervisor::watch as core;
use supervisor::{
    CounterSource, Dependency, DependencyTarget, Detector, HealthProbe, LeakResource, ProcessSpec,
    Progress, Rule, ServiceSpec, Tolerance,
};
use sys::cgroup::Group;
use sys::sample::{RunSample, Target, Wants};

/// Samples of a run that are kept for its evidence: five minutes of the usual interval. Each takes
/// some 300 bytes.
const SAMPLES_KEPT: usize = 60;

/// How the processes of a run are found.
pub(super) fn target(facts: &RunFacts, wants: Wants) -> Target {
    Target {
        group: Group::of_directories(facts.groups.clone()),
        token: facts.token.clone(),
        known: facts.known.clone(),
        wants,
    }
}

/// What the detectors of a service need to be told.
pub(super) fn wants(tolerance: &Tolerance) -> Wants {
    let mut wants = Wants::default();
    let on = tolerance.detectors.values().filter(|detector| detector.mode != supervisor::Mode::Off);
    for detector in on {
        match &detector.rule {
            Rule::Leak { resource, .. } => match resource {
                LeakResource::Memory => wants.memory = true,
                LeakResource::Swap => wants.swap = true,
                LeakResource::Descriptors => wants.descriptors = true,
                LeakResource::Threads => wants.zombies = true,
                LeakResource::CloseWait => wants.sockets = true,
                LeakResource::Disk(_) => {}
            },
            // Whether work waits, or bytes move, is seen at the sockets.
            Rule::Backlog { .. } | Rule::Deadlock { .. } | Rule::Livelock { .. } => {
                (wants.threads, wants.sockets) = (true, true);
            }
            // A service that starves looks like one that hangs; its threads tell which.
            Rule::Answer { .. } | Rule::Uninterruptible { .. } => wants.threads = true,
            Rule::Age { .. } | Rule::Requests { .. } => {}
        }
        // Whether a moment is quiet is seen at the connections.
        let waits = matches!(&detector.rule, Rule::Leak { trend: Some(_), .. });
        wants.sockets |= waits || detector.rule.is_planned();
    }
    wants
}

/// The sample in the core's words.
pub(super) fn to_core(seen: RunSample) -> core::Sample {
    core::Sample {
        processes: seen.processes,
        zombies: seen.zombies,
        threads: seen.threads,
        cpu: seen.cpu,
        switches: seen.switches,
        run_delay: seen.run_delay,
        memory: seen.memory,
        swap: seen.swap,
        descriptors: seen.descriptors.map(|descriptors| (descriptors.open, descriptors.limit)),
        lock_waits: seen.lock_waits.map(|waits| core::LockWaits {
            looked_at: waits.looked_at,
            on_locks: waits.on_locks,
            running: waits.running,
        }),
        uninterruptible: seen.uninterruptible,
        sockets: seen.sockets.map(|sockets| core::SocketSample {
            queue: sockets.queue,
            queue_limit: sockets.queue_limit,
            established: sockets.established,
            close_wait: sockets.close_wait,
            bytes_acked: sockets.bytes_acked,
            bytes_received: sockets.bytes_received,
            queue_waiting: sockets.queue_waiting,
            unanswered: sockets.unanswered.map(|unanswered| core::Unanswered {
                connections: unanswered.connections,
                longest: unanswered.longest,
            }),
        }),
        memory_limit: seen.memory_limit,
        threads_limit: seen.threads_limit,
        stopped: seen.stopped,
    }
}

/// The machine's sample in the core's words.
pub(super) fn host_to_core(
    seen: &sys::sample::HostSample,
    late: std::time::Duration,
) -> core::HostSample {
    core::HostSample {
        memory_total: seen.memory_total,
        memory_available: seen.memory_available,
        swap_total: seen.swap_total,
        swap_free: seen.swap_free,
        load_percent: seen.load_percent,
        cores: seen.cores,
        threads_max: seen.threads_max,
        pressure: seen.pressure.map(|pressure| core::Pressure {
            cpu_some: pressure.cpu_some,
            memory_some: pressure.memory_some,
            memory_full: pressure.memory_full,
            io_full: pressure.io_full,
        }),
        stolen: seen.stolen,
        late,
    }
}

/// What was seen of a run lately.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct History {
    samples: VecDeque<(WallTime, core::Sample)>,
    /// The last word of each detector.
    pub(super) verdicts: BTreeMap<String, VerdictSaid>,
}

impl History {
    pub(super) fn keep(&mut self, at: WallTime, sample: core::Sample) {
        if SAMPLES_KEPT <= self.samples.len() {
            self.samples.pop_front();
        }
        self.samples.push_back((at, sample));
    }

    /// For people and programs: what is not known is `null`.
    pub(super) fn to_json(&self) -> Value {
        let one = |(at, seen): &(WallTime, core::Sample)| {
            let unanswered = seen.sockets.and_then(|sockets| sockets.unanswered);
            json!({
                "at_us": at.as_micros(),
                "processes": seen.processes,
                "zombies": seen.zombies,
                "threads": seen.threads,
                "cpu_ms": super::protocol::millis(seen.cpu),
                "switches": seen.switches,
                "run_delay_ms": seen.run_delay.map(super::protocol::millis),
                "memory_bytes": seen.memory,
                "memory_limit_bytes": seen.memory_limit,
                "swap_bytes": seen.swap,
                "descriptors": seen.descriptors.map(|(open, _)| open),
                "descriptors_limit": seen.descriptors.map(|(_, limit)| limit),
                "threads_limit": seen.threads_limit,
                "threads_looked_at": seen.lock_waits.map(|waits| waits.looked_at),
                "threads_on_locks": seen.lock_waits.map(|waits| waits.on_locks),
                "threads_running": seen.lock_waits.map(|waits| waits.running),
                "uninterruptible": seen.uninterruptible,
                "accept_queue": seen.sockets.map(|sockets| sockets.queue),
                "accept_queue_limit": seen.sockets.map(|sockets| sockets.queue_limit),
                "established": seen.sockets.map(|sockets| sockets.established),
                "close_wait": seen.sockets.map(|sockets| sockets.close_wait),
                "bytes_acked": seen.sockets.map(|sockets| sockets.bytes_acked),
                "bytes_received": seen.sockets.map(|sockets| sockets.bytes_received),
                "accept_waiting_ms": seen
                    .sockets
                    .and_then(|sockets| sockets.queue_waiting)
                    .map(super::protocol::millis),
                "unanswered": unanswered.map(|unanswered| unanswered.connections),
                "unanswered_ms": unanswered.map(|it| super::protocol::millis(it.longest)),
                "stopped": seen.stopped,
            })
        };
        self.samples.iter().map(one).collect()
    }
}

/// A service's settings for one of its runs: templates are filled in, and what the root knows best
/// (how our own services stand) is left out of the dependencies.
pub(super) fn settings(
    spec: &ServiceSpec,
    instance: &InstanceId,
    port: Option<u16>,
) -> (Tolerance, BTreeMap<String, Dependency>) {
    let port = port.or_else(|| spec.process.port_of(instance));
    let fill = Fill { process: &spec.process, instance, port };
    let mut tolerance = spec.tolerance.clone();
    for detector in tolerance.detectors.values_mut() {
        *detector = fill.detector(detector);
    }
    let asked = spec.depends.iter().filter_map(|(name, dependency)| {
        let target = match &dependency.target {
            DependencyTarget::Service(_) => return None,
            DependencyTarget::Probe(probe) => DependencyTarget::Probe(fill.probe(probe)),
            DependencyTarget::Mount(path) => DependencyTarget::Mount(fill.path(path)),
        };
        Some((name.clone(), Dependency { target, slow: dependency.slow }))
    });
    (tolerance, asked.collect())
}

/// Fills templates in for one run.
struct Fill<'a> {
    process: &'a ProcessSpec,
    instance: &'a InstanceId,
    port: Option<u16>,
}

impl Fill<'_> {
    fn text(&self, text: &str) -> String {
        self.process.render_with(text, self.instance, self.port)
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.text(&path.to_string_lossy()).into()
    }

    fn probe(&self, probe: &HealthProbe) -> HealthProbe {
        match probe {
            HealthProbe::Tcp(address) => HealthProbe::Tcp(self.text(address)),
            HealthProbe::Http { url, status, contains } => HealthProbe::Http {
                url: self.text(url),
                status: *status,
                contains: contains.as_deref().map(|text| self.text(text)),
            },
            HealthProbe::Command(argv) => {
                HealthProbe::Command(argv.iter().map(|word| self.text(word)).collect())
            }
        }
    }

    fn source(&self, source: &CounterSource) -> CounterSource {
        match source {
            CounterSource::Notify => CounterSource::Notify,
            CounterSource::HttpJson { url, field } => {
                CounterSource::HttpJson { url: self.text(url), field: field.clone() }
            }
            CounterSource::AccessLog(path) => CounterSource::AccessLog(self.path(path)),
        }
    }

    fn progress(&self, progress: &Progress) -> Progress {
        match progress {
            Progress::Kernel => Progress::Kernel,
            Progress::Counter(source) => Progress::Counter(self.source(source)),
        }
    }

    fn detector(&self, detector: &Detector) -> Detector {
        let mut rule = detector.rule.clone();
        match &mut rule {
            Rule::Answer { probe, .. } => *probe = self.probe(probe),
            Rule::Backlog { progress, .. } | Rule::Livelock { progress, .. } => {
                *progress = self.progress(progress);
            }
            Rule::Leak { resource: LeakResource::Disk(path), .. } => *path = self.path(path),
            Rule::Requests { source, .. } => *source = self.source(source),
            Rule::Leak { .. }
            | Rule::Deadlock { .. }
            | Rule::Uninterruptible { .. }
            | Rule::Age { .. } => {}
        }
        Detector { mode: detector.mode, rule }
    }
}

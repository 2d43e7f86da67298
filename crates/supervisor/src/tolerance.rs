//! What is tolerated of a service, how its sickness is recognised, and what is done about it.
//!
//! Checked settings, built by `config` like [`crate::ServiceSpec`]. None of them is part of what is
//! executed: a reload that changes them restarts nothing.
//! Source: requirements H1 to H29.

use crate::{Probe, StopAction};
use base::{ByteSize, ServiceName};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// How much is done about what is seen. The smaller of a service's and a detector's mode holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Mode {
    /// Nothing is looked at; it costs nothing (H24).
    #[default]
    Off,
    /// Everything is computed, shown and logged; nothing is touched (H12).
    Observe,
    /// What is sick is replaced.
    Enforce,
}

impl Mode {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

/// Everything about one service's tolerance. The default is [`Mode::Off`] without detectors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tolerance {
    /// The most that is done; a detector may be set lower.
    pub mode: Mode,
    /// Pause between two samples of a run, 1 s to 1 h. Default 5 s.
    pub interval: Duration,
    /// By name.
    pub detectors: BTreeMap<String, Detector>,
    /// How a sick run is replaced.
    pub replace: ReplacePolicy,
    /// Finer actions that are tried before the whole process is replaced, in order (H23).
    pub remedies: Vec<Remedy>,
    /// What is kept for whoever looks for the fault.
    pub evidence: EvidencePolicy,
    /// Keep the sick run, frozen, while its successor serves; `None` = it is stopped (H15).
    pub quarantine: Option<QuarantinePolicy>,
    /// What the health endpoint and the agent answer, where it differs from
    /// [`HealthState::default_answer`] (H13).
    pub answers: BTreeMap<HealthState, HealthAnswer>,
}

impl Tolerance {
    /// Whether more than one run of an instance may ever be alive because of it.
    pub fn is_in_use(&self) -> bool {
        *self != Self::default()
    }
}

impl Tolerance {
    /// The program itself counts something up, and says so by sd_notify(3).
    pub fn is_told_counts(&self) -> bool {
        self.detectors.values().any(|detector| match &detector.rule {
            Rule::Requests { source, .. } => *source == CounterSource::Notify,
            Rule::Backlog { progress, .. } | Rule::Livelock { progress, .. } => {
                *progress == Progress::Counter(CounterSource::Notify)
            }
            Rule::Answer { .. }
            | Rule::Deadlock { .. }
            | Rule::Uninterruptible { .. }
            | Rule::Leak { .. }
            | Rule::Age { .. } => false,
        })
    }
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            mode: Mode::Off,
            interval: Duration::from_secs(5),
            detectors: BTreeMap::new(),
            replace: ReplacePolicy::default(),
            remedies: Vec::new(),
            evidence: EvidencePolicy::default(),
            quarantine: None,
            answers: BTreeMap::new(),
        }
    }
}

/// One thing that is looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detector {
    /// The most that is done about what it sees. Default enforce: the service's own mode holds.
    pub mode: Mode,
    /// What it looks at.
    pub rule: Rule,
}

/// What a detector looks at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rule {
    /// It answers a question. Sick after `failures` bad answers in a row (H17).
    Answer {
        /// What is asked.
        probe: HealthProbe,
        /// Pause between two askings, from 100 ms. Default 2 s.
        interval: Duration,
        /// A longer answer is a bad one. At most `interval` times `failures`. Default 2 s.
        timeout: Duration,
        /// Bad answers in a row until it is sick, 1 to 1,000. Default 3.
        failures: u32,
    },
    /// Work waits and nothing advances (H2): read from the kernel, without the program's help.
    Backlog {
        /// At least this many connections wait to be accepted (default 5) …
        queue: u32,
        /// … or at least this many are established; `None` = only the queue counts.
        connections: Option<u32>,
        /// All of this time, without progress. Default 10 s.
        lasting: Duration,
        /// What counts as progress.
        progress: Progress,
    },
    /// All threads sleep on locks while work waits.
    Deadlock {
        /// All of this time. Default 30 s.
        lasting: Duration,
    },
    /// It burns CPU without progress: at least this much of one core.
    Livelock {
        /// Hundredths of one core, 1 to 100. Default 95.
        core_percent: u32,
        /// All of this time. Default 1 min.
        lasting: Duration,
        /// What counts as progress. CPU time itself does not.
        progress: Progress,
    },
    /// One of its processes is in uninterruptible sleep.
    Uninterruptible {
        /// All of this time. Default 1 min.
        lasting: Duration,
    },
    /// Something grows (H3, H7). At least one of the three is set.
    Leak {
        /// What.
        resource: LeakResource,
        /// Sick at this much: bytes, or a number.
        limit: Option<u64>,
        /// Sick at this share, in hundredths, of what there is: for memory and swap the control
        /// group's limit or the machine's, for descriptors and CLOSE_WAIT `RLIMIT_NOFILE`, for
        /// threads the group's or the machine's limit, for disk the file system.
        share_percent: Option<u32>,
        /// Sick when it will be exhausted soon.
        trend: Option<Trend>,
    },
    /// It has been up for so long (H5).
    Age {
        /// The time, from 1 min. Default 24 h.
        every: Duration,
        /// Each instance draws its own time, at most this share earlier, in hundredths, 0 to 50.
        /// Default 10.
        jitter_percent: u32,
    },
    /// It has served so many requests (H6).
    Requests {
        /// This many; the next one goes to the successor.
        after: u64,
        /// Who counts. Default: the service says it by sd_notify.
        source: CounterSource,
    },
}

impl Rule {
    /// The stable name of the kind: what stands in the configuration.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Answer { probe: HealthProbe::Http { .. }, .. } => "http",
            Self::Answer { probe: HealthProbe::Tcp(_), .. } => "tcp",
            Self::Answer { probe: HealthProbe::Command(_), .. } => "command",
            Self::Backlog { .. } => "backlog",
            Self::Deadlock { .. } => "deadlock",
            Self::Livelock { .. } => "livelock",
            Self::Uninterruptible { .. } => "uninterruptible",
            Self::Leak { resource, .. } => resource.as_str(),
            Self::Age { .. } => "age",
            Self::Requests { .. } => "requests",
        }
    }

    /// It asks for a replacement as part of normal life, not because something is wrong.
    pub const fn is_planned(&self) -> bool {
        matches!(self, Self::Age { .. } | Self::Requests { .. })
    }
}

/// A resource that can leak.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LeakResource {
    /// Memory held by the whole tree: proportional where the kernel tells it cheaply, else resident.
    Memory,
    /// Swapped memory of the whole tree.
    Swap,
    /// Open file descriptors of the process that has most.
    Descriptors,
    /// Threads of the whole tree, and children that it does not collect (zombies).
    Threads,
    /// Sockets whose peer has closed and which the program does not close (TCP CLOSE_WAIT).
    CloseWait,
    /// Bytes used on the file system that holds this path.
    Disk(PathBuf),
}

impl LeakResource {
    /// The stable name of the kind: what stands in the configuration.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Swap => "swap",
            Self::Descriptors => "descriptors",
            Self::Threads => "threads",
            Self::CloseWait => "close_wait",
            Self::Disk(_) => "disk",
        }
    }
}

/// A prediction: growth that goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trend {
    /// The slope is taken over this time; less history says nothing. At least sixteen samples.
    /// Default 30 min.
    pub window: Duration,
    /// Sick when exhaustion (of `limit`, of the share, or of what there is) is nearer than this.
    /// The replacement then waits for a quiet moment, at most half of it. Default 20 min.
    pub ahead: Duration,
}

/// One question to a running service. Templates are allowed in the texts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HealthProbe {
    /// A TCP connection is accepted at `host:port`.
    Tcp(String),
    /// `GET` of an `http://` URL.
    Http {
        /// The URL.
        url: String,
        /// The one right status; `None` = any of 200 to 399. A redirect is an answer, and is not
        /// followed.
        status: Option<u16>,
        /// The body's first 64 KiB must contain this text.
        contains: Option<String>,
    },
    /// A command exits with 0.
    Command(Vec<String>),
}

/// What counts as progress.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// What the kernel sees: CPU time, context switches and bytes acknowledged on its sockets.
    Kernel,
    /// A counter that the program reports.
    Counter(CounterSource),
}

/// Where a number comes from that the program counts up.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CounterSource {
    /// The service says `X_COUNTER=n` by sd_notify(3).
    Notify,
    /// A field of a JSON document: `requests` or `a.b.c`.
    HttpJson {
        /// Where the document is.
        url: String,
        /// The field, with dots between levels.
        field: String,
    },
    /// The number of lines that were written to this file since the run began.
    AccessLog(PathBuf),
}

/// Something that a service depends on (H16, H17, H19). While it is down or slow, the service is
/// marked so, and is not replaced for what is not its own fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dependency {
    /// What.
    pub target: DependencyTarget,
    /// An answer that takes longer counts as slow; `None` = slowness does not matter.
    pub slow: Option<Duration>,
}

impl Dependency {
    /// The service of ours that it is about, if it is.
    pub const fn service(&self) -> Option<&ServiceName> {
        match &self.target {
            DependencyTarget::Service(name) => Some(name),
            DependencyTarget::Probe(_) | DependencyTarget::Mount(_) => None,
        }
    }
}

/// What a service can depend on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DependencyTarget {
    /// Another service of ours.
    Service(ServiceName),
    /// Something that is asked.
    Probe(HealthProbe),
    /// A file system is mounted here, and answers.
    Mount(PathBuf),
}

/// How a sick run is replaced. Every step has a bound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplacePolicy {
    /// Whether the successor runs beside the old one for a while.
    pub successor: Successor,
    /// The time in which every balancer has asked once: at least this long out of rotation before
    /// it is stopped. What is planned waits for it in the other direction too: beside, the old run
    /// has work until its successor has been in rotation this long; after, the next of the group
    /// waits this long (H22). Default 0.
    pub settle: Duration,
    /// At most this long for its connections to end. Default 10 s; 0 = they are not waited for.
    pub drain: Duration,
    /// Questions that a successor must answer with yes, one after the other, before it is admitted.
    pub warm_up: Vec<Probe>,
    /// For all of them together; a successor that is not warm by then is admitted all the same.
    /// Default 30 s.
    pub warm_up_timeout: Duration,
    /// Instances of this service that may be out of rotation for a replacement at one time (H22).
    /// Default 1.
    pub group_max: u16,
}

impl Default for ReplacePolicy {
    fn default() -> Self {
        Self {
            successor: Successor::After,
            settle: Duration::ZERO,
            drain: Duration::from_secs(10),
            warm_up: Vec::new(),
            warm_up_timeout: Duration::from_secs(30),
            group_max: 1,
        }
    }
}

/// When the successor of a sick run is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Successor {
    /// Once nothing of the old one is left.
    After,
    /// Beside it, before it is stopped: both hold the listening socket that holdfast passes, or
    /// the successor has a port of its own (`{port}` then counts on by the number of instances).
    Beside,
}

/// A finer action than replacing the process: recycle a worker, drop a cache (H23).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remedy {
    /// For people.
    pub name: String,
    /// Only for these detectors; empty = for all.
    pub detectors: BTreeSet<String>,
    /// What is done.
    pub action: StopAction,
    /// How long it is given to help. Still sick then: the next remedy, or the replacement.
    /// Default 10 s.
    pub wait: Duration,
}

/// What is kept of a sick run before it is touched (H15).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EvidencePolicy {
    /// All of it must be gathered within this; what is there by then is kept. Zero = nothing is
    /// gathered. Default 3 s.
    pub budget: Duration,
    /// How user-space stacks are taken.
    pub stacks: StackTool,
    /// Keep a core file too. Default no.
    pub core: bool,
    /// Bundles of one service together; the oldest go. Default 64 MiB.
    pub size_max: ByteSize,
    /// Bundles of one service. Default 20.
    pub keep: u32,
}

impl Default for EvidencePolicy {
    fn default() -> Self {
        Self {
            budget: Duration::from_secs(3),
            stacks: StackTool::Auto,
            core: false,
            size_max: ByteSize::mib(64),
            keep: 20,
        }
    }
}

/// What takes the stacks of a sick process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StackTool {
    /// What is installed and fits the program: `py-spy`, `eu-stack`, `gdb`, SIGQUIT for a JVM.
    Auto,
    /// Nothing.
    Off,
    /// This command; `{pid}` stands for the process.
    Command(Vec<String>),
}

/// A sick run is kept for inspection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuarantinePolicy {
    /// For so long, then it is killed. Default 1 h.
    pub keep: Duration,
    /// At most so many of one service at a time; the oldest goes first. Default 1.
    pub max: u16,
}

/// How an instance stands, as it is told to balancers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum HealthState {
    /// Running, and nothing is wrong.
    Up,
    /// Not ready yet.
    Starting,
    /// Out of rotation, on its way to be replaced.
    Draining,
    /// A detector says that it is sick.
    Sick,
    /// What it depends on is down or slow.
    DependencyDown,
    /// Nothing runs, and nothing is to.
    Stopped,
    /// It should run and does not.
    Down,
}

impl HealthState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Up,
        Self::Starting,
        Self::Draining,
        Self::Sick,
        Self::DependencyDown,
        Self::Stopped,
        Self::Down,
    ];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Starting => "starting",
            Self::Draining => "draining",
            Self::Sick => "sick",
            Self::DependencyDown => "dependency_down",
            Self::Stopped => "stopped",
            Self::Down => "down",
        }
    }

    /// What is answered unless the configuration says otherwise.
    pub fn default_answer(self) -> HealthAnswer {
        let (status, agent) = match self {
            // A dependency's fault is not cured by sending the requests elsewhere.
            Self::Up | Self::DependencyDown => (200, "ready up"),
            Self::Draining => (503, "drain"),
            Self::Stopped => (503, "maint"),
            Self::Starting | Self::Sick | Self::Down => (503, "down"),
        };
        HealthAnswer { status, agent: agent.to_owned() }
    }
}

/// What a balancer is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthAnswer {
    /// HTTP status, 200 to 599.
    pub status: u16,
    /// HAProxy agent-check words (HAProxy's configuration manual, `agent-check`): `ready up`,
    /// `50%`, `drain`, `down`. One line.
    pub agent: String,
}

/// The service is a supervisord event listener: its standard input and output carry the
/// event-listener protocol instead of output that is logged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerSpec {
    /// Event names of supervisord (`PROCESS_STATE`, `TICK_60`, …) that it wants.
    pub events: BTreeSet<String>,
    /// Events that wait for it; the oldest are dropped and counted. Default 10.
    pub buffer: u32,
}

//! What is to be seen: the snapshot behind `status`, the console and the metrics.

use serde::{Deserialize, Serialize};

/// Everything the root knows, at one moment.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Snapshot {
    /// The node's name.
    pub node: String,
    /// Holdfast's version.
    pub version: String,
    /// The root process.
    pub pid: u32,
    /// Id of this boot of the machine.
    pub boot_id: String,
    /// When the root started, microseconds since the epoch.
    pub started_us: i64,
    /// When this snapshot was taken, microseconds since the epoch.
    pub taken_us: i64,
    /// State directory.
    pub state_dir: String,
    /// Address of the console (`http://127.0.0.1:7490`), if one is served.
    pub console: Option<String>,
    /// All services, by name.
    pub services: Vec<ServiceView>,
    /// Our own helper processes.
    pub duties: Vec<DutyView>,
    /// Standing notices: what does not work as one would expect, and the remedy.
    pub notices: Vec<Notice>,
    /// Events that could not be written, since the root started.
    pub events_lost: u64,
    /// True while services are being stopped for the end of the daemon.
    pub shutting_down: bool,
}

/// A standing notice.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Notice {
    /// Stable name: `cgroup-unavailable`.
    pub code: String,
    /// What is the case.
    pub message: String,
    /// What can be done.
    pub help: String,
}

/// One service.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// One line for people; may be empty.
    pub description: String,
    /// What it comes after, requires and wants.
    pub after: Vec<String>,
    /// What it requires.
    pub requires: Vec<String>,
    /// What it wants.
    pub wants: Vec<String>,
    /// Its command line.
    pub command: Vec<String>,
    /// It knows how to reload.
    pub can_reload: bool,
    /// Its instances, in order.
    pub instances: Vec<InstanceView>,
}

/// One instance.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InstanceView {
    /// `web`, or `web:1`.
    pub name: String,
    /// `stopped`, `waiting`, `starting`, `running`, `stopping`, `backoff`, `failed`, `finished`.
    pub state: String,
    /// `up`, `down`, `failed`, `finished`.
    pub wish: String,
    /// The main process.
    pub pid: Option<u32>,
    /// The run's number.
    pub run: Option<u64>,
    /// In this state since, microseconds since the epoch.
    pub since_us: i64,
    /// Milliseconds since the present run became ready (or was spawned, while it is starting).
    pub uptime_ms: Option<u64>,
    /// Restarts by policy.
    pub restarts: u64,
    /// What it said of itself (`STATUS=`).
    pub status_text: String,
    /// How the last run ended, in words: `exit code 1`, `signal 9 (KILL)`.
    pub last_exit: Option<String>,
    /// Milliseconds until something happens by itself (next try, next rung, time-out).
    pub next_ms: Option<u64>,
    /// Why it is in this state, nearest cause first.
    pub because: Vec<WhyLink>,
    /// Ports it was given.
    pub port: Option<u16>,
    /// Its control groups, for those who sample it.
    pub cgroup: Option<String>,
    /// Its log file.
    pub log: String,
    /// What detectors and balancers make of it.
    #[serde(default)]
    pub health: HealthView,
    /// All its runs that may be alive, the present one first: a successor beside it, old ones on
    /// their way out, sick ones that are kept.
    #[serde(default)]
    pub runs: Vec<RunView>,
}

/// One run of an instance.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RunView {
    /// The run's number.
    pub run: u64,
    /// Its main process.
    pub pid: Option<u32>,
    /// `present`, `successor`, `leaving`, `quarantined`.
    pub role: String,
    /// The port it was given.
    pub port: Option<u16>,
    /// As [`HealthView::state`].
    pub state: String,
    /// HTTP status that balancers get for it.
    pub status: u16,
    /// Words that HAProxy's agent check gets for it.
    pub agent: String,
}

/// The health of one instance, and what is done about it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HealthView {
    /// `up`, `starting`, `draining`, `sick`, `dependency_down`, `stopped`, `down`.
    pub state: String,
    /// HTTP status that balancers get.
    pub status: u16,
    /// Words that HAProxy's agent check gets.
    pub agent: String,
    /// Effective mode: `off`, `observe`, `enforce`.
    pub mode: String,
    /// Who set it: `configuration`, `environment`, or an operator.
    pub mode_by: String,
    /// Detectors that are configured; none of them looks while the mode is `off`.
    pub detectors: u32,
    /// What each detector says now.
    pub verdicts: Vec<VerdictView>,
    /// What it depends on.
    pub dependencies: Vec<DependencyView>,
    /// It has been replaced for a sickness, or would have been: a workaround is in force (H28).
    pub workaround: Option<WorkaroundView>,
    /// A replacement that is under way.
    pub replacing: Option<ReplacingView>,
    /// Sick runs that are kept for inspection.
    pub quarantined: Vec<QuarantineView>,
    /// Why nothing is done although it is sick: the host starves, a dependency is down, another
    /// instance is being replaced.
    pub suppressed: Option<String>,
}

/// What one detector says.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VerdictView {
    /// Its name in the configuration.
    pub detector: String,
    /// Its kind: `http`, `memory`, `backlog`, ….
    pub kind: String,
    /// Its effective mode.
    pub mode: String,
    /// `well`, `sick`, `cannot_tell`.
    pub state: String,
    /// One sentence with the numbers, the window and the threshold.
    pub message: String,
    /// In this state since, microseconds since the epoch.
    pub since_us: i64,
    /// The numbers by name.
    pub measured: std::collections::BTreeMap<String, f64>,
    /// Predicted time to exhaustion, milliseconds.
    pub exhausted_in_ms: Option<u64>,
}

/// Something that a service depends on.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DependencyView {
    /// Its name in the configuration.
    pub name: String,
    /// `up`, `slow`, `down`, `cannot_tell`.
    pub state: String,
    /// One sentence.
    pub message: String,
}

/// A workaround is in force.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WorkaroundView {
    /// Since the first replacement, microseconds since the epoch.
    pub since_us: i64,
    /// Replacements for a sickness.
    pub saves: u64,
    /// Replacements that would have been made, had the mode been `enforce`.
    pub would_have: u64,
    /// The last of either, microseconds since the epoch.
    pub last_us: i64,
    /// Its cause, one sentence.
    pub last_cause: String,
    /// The evidence bundle of the last one.
    pub evidence: Option<String>,
}

/// A replacement under way.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ReplacingView {
    /// `blame`, `evidence`, `remedy`, `successor`, `warm_up`, `drain`, `stop`.
    pub step: String,
    /// Whether the successor starts beside the old run, which drains and stops then; otherwise the
    /// old run drains and stops first.
    pub beside: bool,
    /// Why, one sentence.
    pub cause: String,
    /// Since, microseconds since the epoch.
    pub since_us: i64,
    /// Milliseconds until the step ends at the latest.
    pub bound_ms: Option<u64>,
}

/// A sick run that is kept.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct QuarantineView {
    /// The run.
    pub run: u64,
    /// Its main process.
    pub pid: Option<u32>,
    /// Killed then, microseconds since the epoch.
    pub until_us: i64,
}

/// One of our own helper processes.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DutyView {
    /// `console`, `logs`.
    pub name: String,
    /// `running`, `starting`, `backoff`.
    pub state: String,
    /// Its process.
    pub pid: Option<u32>,
    /// How often it had to be started again.
    pub restarts: u64,
    /// Why it is not running.
    pub reason: String,
}

/// The causal chain of a subject (G13).
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WhyView {
    /// What was asked about.
    pub subject: String,
    /// Its state.
    pub state: String,
    /// Nearest cause first, root last.
    pub chain: Vec<WhyLink>,
    /// Last lines of output of the root cause, if it ended badly.
    pub last_output: Vec<String>,
    /// What a person could do now.
    pub help: Vec<String>,
}

/// One link of a causal chain.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WhyLink {
    /// The instance (or `holdfast`) that this link is about.
    pub subject: String,
    /// One sentence.
    pub message: String,
}

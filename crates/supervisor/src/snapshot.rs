//! What is to be seen of one instance.

use crate::watch::{DependencyState, Verdict};
use crate::{Exit, HealthState, Mode, Pid, RunRole, Wish};
use base::{InstanceId, RunId};

/// What is to be seen of one instance, and why it is so.
#[derive(Clone, PartialEq, Debug)]
pub struct InstanceSnapshot {
    /// Which instance.
    pub instance: InstanceId,
    /// The state, as a word of the closed list in [`Phase`].
    pub phase: Phase,
    /// What is wanted.
    pub wish: Wish,
    /// The present (or last) run.
    pub run: Option<RunId>,
    /// The main process.
    pub pid: Option<Pid>,
    /// Since when it is in this phase.
    pub since: base::Now,
    /// When the present run was spawned.
    pub spawned: Option<base::Now>,
    /// When it became ready.
    pub ready_since: Option<base::Now>,
    /// Restarts by policy since the daemon knows it.
    pub restarts: u64,
    /// What it said by `STATUS=`.
    pub status_text: String,
    /// How the last run ended.
    pub last_exit: Option<Exit>,
    /// When something will happen by itself: the next try, the next rung, a time-out.
    pub next: Option<base::Now>,
    /// Why it is in this phase, from the nearest cause to the root: one sentence each, with the
    /// service it is about.
    pub because: Vec<(InstanceId, String)>,
    /// How it stands towards balancers.
    pub health: HealthState,
    /// Mode in force, and who set it (`configuration`, or an operator).
    pub mode: (Mode, String),
    /// What its detectors say of the present run.
    pub verdicts: Vec<Verdict>,
    /// How what it depends on stands: name, state, one sentence.
    pub dependencies: Vec<(String, DependencyState, String)>,
    /// A replacement under way.
    pub replacing: Option<ReplacingSnapshot>,
    /// Why nothing is done although it is sick.
    pub suppressed: Option<String>,
    /// All runs that may be alive, the present one first.
    pub runs: Vec<RunSnapshot>,
}

/// One run of an instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunSnapshot {
    /// The run.
    pub run: RunId,
    /// Its main process.
    pub pid: Option<Pid>,
    /// What it is to its instance.
    pub role: RunRole,
    /// Which set of ports it has.
    pub slot: u16,
    /// How it stands towards balancers.
    pub health: HealthState,
}

/// A replacement under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplacingSnapshot {
    /// Why, one sentence.
    pub cause: String,
    /// Whether the successor is to start beside the old run; otherwise after its end.
    pub beside: bool,
    /// `blame`, `evidence`, `remedy`, `successor`, `warm_up`, `drain`, `stop`.
    pub step: &'static str,
    /// Since when it is under way.
    pub since: base::Now,
    /// The step ends by then at the latest, where it has a bound of its own.
    pub until: Option<base::Now>,
}

/// The phases of an instance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Nothing runs, and nothing should.
    Stopped,
    /// Wanted, but something it needs is not there yet.
    Waiting,
    /// Executed, not ready.
    Starting,
    /// Ready.
    Running,
    /// On its way down.
    Stopping,
    /// Ended; the next try comes by itself.
    Backoff,
    /// We gave up; a person must ask.
    Failed,
    /// Ended well, and that is fine.
    Finished,
}

impl Phase {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::Failed => "failed",
            Self::Finished => "finished",
        }
    }
}

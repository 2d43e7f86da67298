//! What the core reports: facts for the journal, with a closed list of names.

use base::{InstanceId, RunId};

/// How much an event matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Normal.
    Info,
    /// Degraded, but handled.
    Warning,
    /// Somebody must act.
    Error,
}

/// A fact for the journal.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// Which instance.
    pub instance: InstanceId,
    /// Which run, if it is about one.
    pub run: Option<RunId>,
    /// What happened: a stable, dotted name from [`EventKind::as_str`].
    pub kind: EventKind,
    /// How much it matters.
    pub severity: Severity,
    /// One human sentence, without a final dot.
    pub message: String,
    /// Details by name, for machines.
    pub data: Vec<(&'static str, Value)>,
}

/// A detail of an event.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "the variants say it")]
pub enum Value {
    Text(String),
    Number(i64),
    Real(f64),
    Flag(bool),
}

/// The closed list of what the core reports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the dotted names say it")]
pub enum EventKind {
    Added,
    Changed,
    Removed,
    Adopted,
    Waiting,
    Starting,
    Forked,
    Ready,
    Reloading,
    StartFailed,
    StartTimeout,
    Exited,
    Leftovers,
    WatchdogTimeout,
    RestartScheduled,
    BudgetSpent,
    Failed,
    Stopping,
    StopEscalated,
    Killing,
    Unkillable,
    Stopped,
    Finished,
    Command,
    Sick,
    Well,
    WouldReplace,
    Suppressed,
    Replacing,
    Evidence,
    Remedy,
    Draining,
    Admitted,
    Replaced,
    ReplacementFailed,
    Quarantined,
    QuarantineEnded,
    ModeChanged,
    DependencyDown,
    DependencyUp,
}

impl EventKind {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "service.added",
            Self::Changed => "service.changed",
            Self::Removed => "service.removed",
            Self::Adopted => "service.adopted",
            Self::Waiting => "service.waiting",
            Self::Starting => "service.starting",
            Self::Forked => "service.forked",
            Self::Ready => "service.ready",
            Self::Reloading => "service.reloading",
            Self::StartFailed => "service.start_failed",
            Self::StartTimeout => "service.start_timeout",
            Self::Exited => "service.exited",
            Self::Leftovers => "service.leftovers",
            Self::WatchdogTimeout => "service.watchdog_timeout",
            Self::RestartScheduled => "service.restart_scheduled",
            Self::BudgetSpent => "service.budget_spent",
            Self::Failed => "service.failed",
            Self::Stopping => "service.stopping",
            Self::StopEscalated => "service.stop_escalated",
            Self::Killing => "service.killing",
            Self::Unkillable => "service.unkillable",
            Self::Stopped => "service.stopped",
            Self::Finished => "service.finished",
            Self::Command => "service.command",
            Self::Sick => "service.sick",
            Self::Well => "service.well",
            Self::WouldReplace => "service.would_replace",
            Self::Suppressed => "service.replacement_suppressed",
            Self::Replacing => "service.replacing",
            Self::Evidence => "service.evidence",
            Self::Remedy => "service.remedy",
            Self::Draining => "service.draining",
            Self::Admitted => "service.admitted",
            Self::Replaced => "service.replaced",
            Self::ReplacementFailed => "service.replacement_failed",
            Self::Quarantined => "service.quarantined",
            Self::QuarantineEnded => "service.quarantine_ended",
            Self::ModeChanged => "service.mode",
            Self::DependencyDown => "service.dependency_down",
            Self::DependencyUp => "service.dependency_up",
        }
    }
}

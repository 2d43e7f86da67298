//! The event record: one fact, as it stands in segment files, in the journal and on the wire.

use serde::{Deserialize, Serialize};

/// How much an event matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Normal.
    Info,
    /// Degraded, but handled.
    Warning,
    /// Somebody must act.
    Error,
}

impl Severity {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One fact. Written by the process that saw it; numbered for the whole node by the journal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EventRecord {
    /// The journal's number, ascending without gaps by order of arrival; 0 before it has one.
    #[serde(default)]
    pub seq: u64,
    /// Which process wrote it: `root`, `console`, `logs`.
    pub source: String,
    /// That process's own number, ascending without gaps within a state directory: `(source,
    /// source_seq)` is an identity, so that reading a segment twice stores a record once.
    pub source_seq: u64,
    /// Wall clock, microseconds since the epoch.
    pub wall_us: i64,
    /// Monotonic clock (`CLOCK_BOOTTIME`), nanoseconds.
    pub mono_ns: u64,
    /// The node's name.
    pub node: String,
    /// What it is about: an instance (`web`, `web:1`), `holdfast`, or `duty/console`.
    pub subject: String,
    /// Stable dotted name: `service.exited`, `daemon.started`, `events.lost`, ….
    pub kind: String,
    /// How much it matters.
    pub severity: Severity,
    /// One human sentence.
    pub message: String,
    /// Details by name.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = Object))]
    pub data: serde_json::Map<String, serde_json::Value>,
}

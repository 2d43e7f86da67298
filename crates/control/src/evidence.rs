//! What is kept of a sick run: the index of an evidence bundle, `index.json` in its directory.

use crate::VerdictView;
use serde::{Deserialize, Serialize};

/// The version of [`EvidenceIndex`]. Fields are only ever added to it.
pub const EVIDENCE_VERSION: u32 = 1;

/// What is in a bundle, why it was gathered, and what is not in it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct EvidenceIndex {
    /// [`EVIDENCE_VERSION`].
    pub version: u32,
    /// UTC time and run: `20261124T102233.123Z-17`.
    pub id: String,
    /// `web:1`.
    pub instance: String,
    /// Of which node.
    pub node: String,
    /// The run's number.
    pub run: u64,
    /// Its main process.
    pub pid: Option<u32>,
    /// Processes that it had.
    pub processes: u32,
    /// Its command line, without secrets.
    pub command: String,
    /// Why it was gathered, one sentence.
    pub cause: String,
    /// When it was begun, microseconds since the epoch.
    pub begun_us: i64,
    /// How long it took.
    pub took_ms: u64,
    /// How long it was allowed to take.
    pub budget_ms: u64,
    /// Everything that was to be gathered is there. If not, `missing` says what is not, and why.
    pub complete: bool,
    /// Milliseconds since the run was started.
    pub uptime_ms: u64,
    /// `off`, `observe`, `enforce`.
    pub mode: String,
    /// What the detectors said of it at that time.
    pub verdicts: Vec<VerdictView>,
    /// How what it depends on stood, by name: a sentence each.
    pub dependencies: std::collections::BTreeMap<String, String>,
    /// Why the machine itself was in need, if it was.
    pub pressure: Option<String>,
    /// What is there.
    pub files: Vec<EvidenceFile>,
    /// What is not there.
    pub missing: Vec<EvidenceMissing>,
}

/// A file of a bundle.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EvidenceFile {
    /// `threads.txt`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// What it tells, one sentence.
    pub about: String,
}

/// Something that should be in a bundle, and is not, or not all of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EvidenceMissing {
    /// The file.
    pub name: String,
    /// Why.
    pub why: String,
    /// What would help the next time; may be empty.
    pub help: String,
}

/// One bundle of a list.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EvidenceEntry {
    /// `web:1`.
    pub instance: String,
    /// Its id, which sorts by time.
    pub id: String,
    /// The run's number.
    pub run: u64,
    /// When it was begun, microseconds since the epoch.
    pub begun_us: i64,
    /// Why it was gathered.
    pub cause: String,
    /// Nothing is missing.
    pub complete: bool,
    /// All its files together.
    pub bytes: u64,
    /// How many there are.
    pub files: u64,
}

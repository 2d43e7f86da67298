//! How letters and what the reporter keeps stand on disk: JSON with a version.
//!
//! Why types of their own: the core's may change with every version, a mail that waits must still
//! be readable by the next one.

use base::WallTime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use supervisor::Severity;
use supervisor::report::{Count, Entry, Kept, Letter, Purpose, Register, Step, Tally, Workaround};

/// Raised when a field changes its meaning.
pub(super) const VERSION: u32 = 1;

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(super) struct StoredLetter {
    purpose: StoredPurpose,
    entries: Vec<StoredEntry>,
    tally: Vec<StoredRow>,
    others: BTreeMap<String, StoredCount>,
    workarounds: Vec<StoredWorkaround>,
    workarounds_others: u64,
    merged: u64,
}

#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
#[serde(rename_all = "snake_case")]
enum StoredPurpose {
    Incident,
    Page,
    Digest,
    Reminder,
}

#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
#[serde(rename_all = "snake_case")]
enum StoredSeverity {
    Info,
    Warning,
    Error,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
struct StoredEntry {
    subject: String,
    urgent: bool,
    headline: StoredStep,
    severity: StoredSeverity,
    events: u64,
    first_us: i64,
    steps: Vec<StoredStep>,
    steps_omitted: u64,
    uptime_ms: Option<u64>,
    evidence: Vec<String>,
    output: Vec<String>,
    follows: Option<String>,
    workaround: Option<StoredWorkaround>,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
struct StoredStep {
    kind: String,
    message: String,
    times: u64,
    first_us: i64,
    last_us: i64,
}

#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
struct StoredCount {
    events: u64,
    first_us: i64,
    last_us: i64,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
struct StoredRow {
    subject: String,
    kind: String,
    #[serde(rename = "count")]
    of: StoredCount,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
struct StoredWorkaround {
    subject: String,
    since_us: i64,
    saves: u64,
    would_have: u64,
    last_us: i64,
    cause: String,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
pub(super) struct StoredKept {
    waiting: StoredLetter,
    window_left_ms: u64,
    page_left_ms: u64,
    reminder_left_ms: u64,
    workarounds: Vec<StoredWorkaround>,
    workarounds_others: u64,
}

impl From<&Kept> for StoredKept {
    fn from(kept: &Kept) -> Self {
        Self {
            waiting: (&kept.waiting).into(),
            window_left_ms: millis(kept.window_left),
            page_left_ms: millis(kept.page_left),
            reminder_left_ms: millis(kept.reminder_left),
            workarounds: kept.register.known.values().map(Into::into).collect(),
            workarounds_others: kept.register.others,
        }
    }
}

impl From<StoredKept> for Kept {
    fn from(stored: StoredKept) -> Self {
        let known = stored.workarounds.into_iter().map(Workaround::from);
        Self {
            waiting: stored.waiting.into(),
            window_left: Duration::from_millis(stored.window_left_ms),
            page_left: Duration::from_millis(stored.page_left_ms),
            reminder_left: Duration::from_millis(stored.reminder_left_ms),
            register: Register {
                known: known.map(|known| (known.subject.clone(), known)).collect(),
                others: stored.workarounds_others,
            },
        }
    }
}

impl From<&Letter> for StoredLetter {
    fn from(letter: &Letter) -> Self {
        let rows = letter.tally.rows.iter();
        let others = letter.tally.others.iter();
        Self {
            purpose: match letter.purpose {
                Purpose::Incident => StoredPurpose::Incident,
                Purpose::Page => StoredPurpose::Page,
                Purpose::Digest => StoredPurpose::Digest,
                Purpose::Reminder => StoredPurpose::Reminder,
            },
            entries: letter.entries.iter().map(Into::into).collect(),
            tally: rows
                .map(|((subject, kind), count)| StoredRow {
                    subject: subject.clone(),
                    kind: kind.clone(),
                    of: (*count).into(),
                })
                .collect(),
            others: others.map(|(kind, count)| (kind.clone(), (*count).into())).collect(),
            workarounds: letter.workarounds.iter().map(Into::into).collect(),
            workarounds_others: letter.workarounds_others,
            merged: letter.merged,
        }
    }
}

impl From<StoredLetter> for Letter {
    fn from(stored: StoredLetter) -> Self {
        let rows = stored.tally.into_iter();
        let others = stored.others.into_iter();
        Self {
            purpose: match stored.purpose {
                StoredPurpose::Incident => Purpose::Incident,
                StoredPurpose::Page => Purpose::Page,
                StoredPurpose::Digest => Purpose::Digest,
                StoredPurpose::Reminder => Purpose::Reminder,
            },
            entries: stored.entries.into_iter().map(Into::into).collect(),
            tally: Tally {
                rows: rows.map(|row| ((row.subject, row.kind), row.of.into())).collect(),
                others: others.map(|(kind, count)| (kind, count.into())).collect(),
            },
            workarounds: stored.workarounds.into_iter().map(Into::into).collect(),
            workarounds_others: stored.workarounds_others,
            merged: stored.merged,
        }
    }
}

impl From<&Entry> for StoredEntry {
    fn from(entry: &Entry) -> Self {
        Self {
            subject: entry.subject.clone(),
            urgent: entry.urgent,
            headline: (&entry.headline).into(),
            severity: match entry.severity {
                Severity::Info => StoredSeverity::Info,
                Severity::Warning => StoredSeverity::Warning,
                Severity::Error => StoredSeverity::Error,
            },
            events: entry.events,
            first_us: entry.first.as_micros(),
            steps: entry.steps.iter().map(Into::into).collect(),
            steps_omitted: entry.steps_omitted,
            uptime_ms: entry.uptime.map(millis),
            evidence: entry.evidence.clone(),
            output: entry.output.clone(),
            follows: entry.follows.clone(),
            workaround: entry.workaround.as_ref().map(Into::into),
        }
    }
}

impl From<StoredEntry> for Entry {
    fn from(stored: StoredEntry) -> Self {
        Self {
            subject: stored.subject,
            urgent: stored.urgent,
            headline: stored.headline.into(),
            severity: match stored.severity {
                StoredSeverity::Info => Severity::Info,
                StoredSeverity::Warning => Severity::Warning,
                StoredSeverity::Error => Severity::Error,
            },
            events: stored.events,
            first: WallTime::from_micros(stored.first_us),
            steps: stored.steps.into_iter().map(Into::into).collect(),
            steps_omitted: stored.steps_omitted,
            uptime: stored.uptime_ms.map(Duration::from_millis),
            evidence: stored.evidence,
            output: stored.output,
            follows: stored.follows,
            workaround: stored.workaround.map(Into::into),
        }
    }
}

impl From<&Step> for StoredStep {
    fn from(step: &Step) -> Self {
        Self {
            kind: step.kind.clone(),
            message: step.message.clone(),
            times: step.times,
            first_us: step.first.as_micros(),
            last_us: step.last.as_micros(),
        }
    }
}

impl From<StoredStep> for Step {
    fn from(stored: StoredStep) -> Self {
        Self {
            kind: stored.kind,
            message: stored.message,
            times: stored.times,
            first: WallTime::from_micros(stored.first_us),
            last: WallTime::from_micros(stored.last_us),
        }
    }
}

impl From<Count> for StoredCount {
    fn from(count: Count) -> Self {
        let (first_us, last_us) = (count.first.as_micros(), count.last.as_micros());
        Self { events: count.events, first_us, last_us }
    }
}

impl From<StoredCount> for Count {
    fn from(stored: StoredCount) -> Self {
        let first = WallTime::from_micros(stored.first_us);
        Self { events: stored.events, first, last: WallTime::from_micros(stored.last_us) }
    }
}

impl From<&Workaround> for StoredWorkaround {
    fn from(known: &Workaround) -> Self {
        Self {
            subject: known.subject.clone(),
            since_us: known.since.as_micros(),
            saves: known.saves,
            would_have: known.would_have,
            last_us: known.last.as_micros(),
            cause: known.cause.clone(),
        }
    }
}

impl From<StoredWorkaround> for Workaround {
    fn from(stored: StoredWorkaround) -> Self {
        Self {
            subject: stored.subject,
            since: WallTime::from_micros(stored.since_us),
            saves: stored.saves,
            would_have: stored.would_have,
            last: WallTime::from_micros(stored.last_us),
            cause: stored.cause,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

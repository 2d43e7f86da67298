//! How the mail queue stands, as the mail duty writes it down for those who look.

use serde::{Deserialize, Serialize};

/// The queue, at one moment. A picture, never an input.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MailView {
    /// When it was taken, microseconds since the epoch.
    pub updated_us: i64,
    /// `host:port` of the mail server.
    pub server: String,
    /// Mails that wait.
    pub waiting: u64,
    /// More than this are merged.
    pub waiting_max: u64,
    /// When the oldest of them was queued.
    pub oldest_us: Option<i64>,
    /// How often in a row the server could not be reached or did not talk to us.
    pub server_failures: u32,
    /// When something is tried next.
    pub next_us: Option<i64>,
    /// What went wrong last, in words.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_us: Option<i64>,
    /// Mails that were delivered since the duty was started.
    pub delivered: u64,
    /// Recipients that were refused for good, since the beginning.
    pub refused: u64,
    /// Mails that were merged into others, since the beginning.
    pub merged: u64,
    /// The mails that wait, oldest first; not all of very many.
    pub mails: Vec<MailTryView>,
}

/// One mail that waits.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MailTryView {
    /// Its number.
    pub number: u64,
    /// Tries that failed for this mail alone.
    pub failures: u32,
    /// When it is tried next; `None` = it is under way.
    pub next_us: Option<i64>,
}

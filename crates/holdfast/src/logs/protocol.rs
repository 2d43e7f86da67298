//! What the root and the logs duty say to each other over their socket pair, and what a new logs
//! duty says to the old one. Framed by `control::encode_frame`.
//!
//! ```text
//! root ── Watch, Unwatch, Drain ─────────────────────► logs duty
//! root ◄─ Ready, Drained, Unwatched, Lost, Failed, Notice ─ logs duty
//! new duty ── YieldRequest ──► old duty ── Yielded, then it exits
//! ```
//! Watching is a state, not an event: `Watch` for what is already watched changes its policy, so
//! that a new root simply says everything again.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// From the root.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum ToLogs {
    /// Keep the output of this instance, by this policy, from now on.
    Watch {
        /// `web`, `web:1`.
        instance: String,
        /// Where and how.
        policy: WatchPolicy,
    },
    /// The instance is gone from the configuration: keep what is in its pipe, then forget it.
    Unwatch {
        /// Which.
        instance: String,
    },
    /// Answer with [`FromLogs::Drained`] once everything that is in the pipe now is in the file.
    Drain {
        /// Which.
        instance: String,
        /// Comes back in the answer.
        token: u64,
    },
}

/// Where and how output is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct WatchPolicy {
    /// The file; `None` = `<state>/logs/<instance>.log`.
    pub(crate) path: Option<PathBuf>,
    /// Rotated before it would become larger, bytes.
    pub(crate) size_max: u64,
    /// Rotated when older, milliseconds; `None` = never by age.
    pub(crate) age_max_ms: Option<u64>,
    /// How many rotated files are kept.
    pub(crate) keep: u32,
    /// Rotated files are gzipped.
    pub(crate) compress: bool,
    /// Standard error has a pipe (`fifo/<instance>.err`) and a file (`….err.log`) of its own.
    pub(crate) split_stderr: bool,
}

/// To the root.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum FromLogs {
    /// We are the one who keeps the logs now.
    Ready,
    /// What was in the pipes at the time of the [`ToLogs::Drain`] is in the files (or was lost and
    /// counted, if they can't be written).
    Drained {
        /// From the question.
        token: u64,
    },
    /// The instance is forgotten; its pipes may be removed.
    Unwatched {
        /// Which.
        instance: String,
    },
    /// Output was lost, and now it can be written again. A line in the log says the same.
    Lost {
        /// Whose.
        instance: String,
        /// How much, exactly.
        bytes: u64,
        /// How many line ends were in it.
        lines: u64,
        /// `disk full`, …
        reason: String,
    },
    /// Something does not work for this instance; its output is still being drained.
    Failed {
        /// Whose.
        instance: String,
        /// Cause and remedy.
        message: String,
    },
    /// Something worth an event that concerns no single instance.
    Notice {
        /// One sentence.
        message: String,
    },
}

/// From a new duty to the old one, over `<run>/logs.sock`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct YieldRequest {
    /// Who asks, for the old one's own log.
    pub(crate) pid: u32,
}

/// The old duty's last words.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Yielded {
    /// Losses that no line in a log tells yet. Nothing else needs to be handed over: output that
    /// was not written yet is still in its pipe, and a file's position is its length.
    pub(crate) untold: Vec<UntoldLoss>,
}

/// A loss that is not over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct UntoldLoss {
    /// Whose.
    pub(crate) instance: String,
    /// Of its standard error's own file.
    pub(crate) stderr: bool,
    /// How much.
    pub(crate) bytes: u64,
    /// How many line ends.
    pub(crate) lines: u64,
    /// Why.
    pub(crate) reason: String,
}

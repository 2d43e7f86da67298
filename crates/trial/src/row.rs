//! What came of one trial.

use std::time::Duration;

/// How much the daemon may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mode {
    /// It looks and says.
    Observe,
    /// It acts.
    Enforce,
}

impl Mode {
    /// Both, in the order of the table.
    pub const ALL: [Self; 2] = [Self::Observe, Self::Enforce];

    /// The word of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

/// What was kept of the sick run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// None is kept in this case.
    NotWanted,
    /// All of it.
    Complete {
        /// Its files.
        files: usize,
    },
    /// This is missing, with the reasons.
    Partial(Vec<String>),
    /// Nothing, and why.
    Lacking(String),
}

/// One line of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The fault's name.
    pub fault: &'static str,
    /// The mode.
    pub mode: Mode,
    /// From the fault to the verdict, as the daemon stamped it.
    pub detected: Option<Duration>,
    /// What was kept.
    pub evidence: Evidence,
    /// Requests that failed because of the fault: begun before anything was done about it.
    pub failed_before: usize,
    /// Requests that failed although something was being done: begun from then on, until the
    /// successor had answered first.
    pub failed_during: usize,
    /// From the fault to the first answer of the successor.
    pub recovered: Option<Duration>,
    /// What the daemon said.
    pub sentence: String,
    /// What the daemon did, in a word: `replaced`, `would have replaced`, ….
    pub outcome: String,
    /// How it differs from what the catalogue expects; empty = not at all.
    pub problems: Vec<String>,
}

impl Row {
    pub(crate) fn new(fault: &'static str, mode: Mode) -> Self {
        Self {
            fault,
            mode,
            detected: None,
            evidence: Evidence::NotWanted,
            failed_before: 0,
            failed_during: 0,
            recovered: None,
            sentence: String::new(),
            outcome: String::new(),
            problems: Vec::new(),
        }
    }

    pub(crate) fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(what());
        }
    }

    /// It went as the catalogue says.
    pub fn is_as_expected(&self) -> bool {
        self.problems.is_empty()
    }
}

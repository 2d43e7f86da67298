//! What became of a thing of supervisord that has no exact counterpart, and what to do about it.

use serde_json::{Value, json};
use std::fmt;
use std::path::PathBuf;

/// Notes that are kept; the rest is counted. Nobody reads more.
pub(crate) const NOTES_MAX: usize = 2_000;

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NoteKind {
    /// It was wrong already, or can't be done: something that worked is not in the result.
    Lost,
    /// It works, but in another way.
    Changed,
    /// Nothing is missed: holdfast needs no such setting.
    Unneeded,
    /// Something worth knowing.
    Hint,
}

impl NoteKind {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Changed => "changed",
            Self::Unneeded => "unneeded",
            Self::Hint => "hint",
        }
    }
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// What became of it.
    pub kind: NoteKind,
    /// Where it stands.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// `[program:web] stdout_events_enabled`, or the section alone.
    pub subject: String,
    /// Why, in half a sentence, without control characters.
    pub why: String,
    /// What to do instead; may be empty.
    pub instead: String,
}

impl Note {
    /// `{"kind", "file", "line", "subject", "why", "instead"}`.
    pub fn to_json(&self) -> Value {
        json!({
            "kind": self.kind.as_str(),
            "file": self.file.to_string_lossy(),
            "line": self.line,
            "subject": self.subject,
            "why": self.why,
            "instead": self.instead,
        })
    }
}

impl fmt::Display for Note {
    /// `file:line: kind: subject: why`, and the remedy on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = crate::diagnostic::printable(&self.file.to_string_lossy());
        let Self { kind, line, subject, why, instead, .. } = self;
        write!(f, "{file}:{line}: {}: {subject}: {why}", kind.as_str())?;
        if instead.is_empty() { Ok(()) } else { write!(f, "\n    = help: {instead}") }
    }
}

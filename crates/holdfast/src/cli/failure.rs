//! How a command ends: the exit codes, and a failure with its cause and its remedy.
//!
//! Source: the list of exit codes in `docs/cli.md`.

use super::output::Closed;
use control::{ErrorCode, Fault};
use serde::Serialize;
use std::fmt::Display;

/// The four ways to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    /// 0: done; yes.
    Done,
    /// 1: no; it failed.
    No,
    /// 2: wrong usage, or a faulty configuration.
    Usage,
    /// 3: cannot tell: the daemon can't be reached, or did not answer.
    CannotTell,
}

impl Code {
    /// The number for the shell.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::CannotTell => 3,
        }
    }
}

/// What went wrong, and what can be done. With `--json` it is printed as it stands here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Failure {
    /// For the shell; not part of the JSON.
    #[serde(skip)]
    pub(crate) code: Code,
    /// For people: the cause. Empty: there is nothing to say (the reader of our output is gone).
    pub(crate) message: String,
    /// For people: the remedy; may be empty.
    pub(crate) help: String,
}

impl Failure {
    /// It failed.
    pub(crate) fn no(message: impl Display) -> Self {
        Self { code: Code::No, message: message.to_string(), help: String::new() }
    }

    /// It was asked wrongly.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { code: Code::Usage, ..Self::no(message) }
    }

    /// There is no answer.
    pub(crate) fn cannot_tell(message: impl Display) -> Self {
        Self { code: Code::CannotTell, ..Self::no(message) }
    }

    /// Adds the remedy.
    pub(crate) fn help(self, help: impl Display) -> Self {
        Self { help: help.to_string(), ..self }
    }
}

impl From<Closed> for Failure {
    /// Whoever read our output has seen enough: nothing failed.
    fn from(_: Closed) -> Self {
        Self { code: Code::Done, ..Self::no("") }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let code = match fault.code {
            ErrorCode::NotFound | ErrorCode::Forbidden | ErrorCode::Conflict => Code::No,
            ErrorCode::Invalid | ErrorCode::Unsupported => Code::Usage,
            ErrorCode::Internal => Code::CannotTell,
        };
        Self { code, message: fault.message, help: fault.help }
    }
}

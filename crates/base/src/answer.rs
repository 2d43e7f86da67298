//! The three answers of a gate or a probe.
//!
//! Why: an unanswered question is not a "no"; treating it as one blamed the wrong subsystem (G3).

/// What a gate or a probe says. `CannotTell` carries the reason, in words a person can act on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The question was answered, and the answer is yes.
    Yes,
    /// The question was answered, and the answer is no; the text says what was seen.
    No(String),
    /// The question could not be put; the text says why not.
    CannotTell(String),
}

impl Answer {
    /// True only for a definite yes.
    pub fn is_yes(&self) -> bool {
        matches!(self, Self::Yes)
    }

    /// The reason for anything but a yes.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Yes => None,
            Self::No(why) | Self::CannotTell(why) => Some(why),
        }
    }
}

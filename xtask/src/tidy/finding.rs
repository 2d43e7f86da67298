//! What a rule found: where, what is wrong, and what would be right.

use std::fmt;
use std::path::{Path, PathBuf};

/// One breach of a rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Finding {
    pub(crate) file: PathBuf,
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) what: String,
    pub(crate) right: String,
}

impl Finding {
    pub(crate) fn new(
        file: &Path,
        line: usize,
        what: impl Into<String>,
        right: impl Into<String>,
    ) -> Finding {
        Finding { file: file.to_path_buf(), line, what: what.into(), right: right.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}; {}", self.file.display(), self.line, self.what, self.right)
    }
}

//! What can go wrong with a record file, and where in it.
//!
//! Why: a caller does different things for a damaged file, a busy one and a full disk, and whoever
//! repairs a file needs the offset and what should have stood there.
//! Invariant: no fault holds record data, which may be secret; offsets are of the data space unless
//! a variant says otherwise.
//! Source: the TDB specification, sections 6.2, 18.3 and 18.4.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A fault, and the file it was met in.
#[derive(Debug)]
pub struct Error {
    path: Option<PathBuf>,
    fault: Fault,
}

impl Error {
    pub(crate) fn new(path: Option<&Path>, fault: Fault) -> Self {
        Self { path: path.map(Path::to_path_buf), fault }
    }

    /// The file, if the database is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What went wrong.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}: {}", path.display(), self.fault),
            None => self.fault.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.fault.source()
    }
}

/// What went wrong, and at which offset.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The operating system refused.
    #[error("failed to {action} at file offset {offset:#x}")]
    Io {
        /// What was tried: `read`, `write`, `grow`.
        action: &'static str,
        /// Where, from the beginning of the file.
        offset: u64,
        /// Why not.
        source: io::Error,
    },
    /// The file is no TDB file at all: too short, or without the words it has to begin with.
    #[error("not a TDB file: expected {expected}")]
    NotTdb {
        /// What a TDB file has there.
        expected: &'static str,
    },
    /// The header asks for what this crate does not know, or does not fit the file.
    #[error("header field {field} at offset {offset} is {found:#x}, expected {expected}")]
    Header {
        /// Its name in the specification.
        field: &'static str,
        /// Where it stands.
        offset: u64,
        /// What would have been right.
        expected: &'static str,
        /// What stands there.
        found: u64,
    },
    /// Something points outside the file.
    #[error("offset {offset:#x} with {length} bytes is outside the file's {size:#x} bytes")]
    OutOfBounds {
        /// Where the access would begin.
        offset: u64,
        /// How long it would be.
        length: u64,
        /// Size of the data space.
        size: u64,
    },
    /// The file contradicts itself.
    #[error("damaged at offset {offset:#x}: {field} is {found:#x}, expected {expected}")]
    Corrupt {
        /// Where.
        offset: u64,
        /// Which field, or which relation.
        field: &'static str,
        /// What would have been right.
        expected: &'static str,
        /// What was found.
        found: u64,
    },
    /// A record or a file would become longer than offsets of 32 bits can address.
    #[error("no room: {wanted} bytes are wanted, and {size} are there; a TDB file ends at 4 GiB")]
    Full {
        /// Size of the data space.
        size: u64,
        /// What would have been needed: the new size of the data space, or of one record.
        wanted: u64,
    },
    /// The key has a value already, and only a new one was to be stored.
    #[error("the key has a value already")]
    Exists,
    /// The key has no value, and only an existing one was to be changed or deleted.
    #[error("the key has no value")]
    NotFound,
    /// Others hold what was waited for.
    #[error("{what} is held by others; gave up after {} ms", waited.as_millis())]
    Busy {
        /// What was waited for.
        what: &'static str,
        /// How long.
        waited: Duration,
    },
    /// The wait was called off by a [`Canceller`](crate::Canceller).
    #[error("the wait for {what} was called off")]
    Cancelled {
        /// What was waited for.
        what: &'static str,
    },
    /// Locks were asked for in an order in which they can't be had.
    #[error("cannot lock {what}")]
    WrongOrder {
        /// What was asked for.
        what: &'static str,
    },
    /// An earlier change of this transaction failed half-way, so none of it can be kept.
    #[error("an earlier change of this transaction failed; nothing of it was written")]
    Spoiled,
    /// The handle may only read.
    #[error("the database was opened to be read only")]
    ReadOnly,
    /// A transaction was interrupted while it was written; somebody who may write has to undo it.
    #[error(
        "an interrupted transaction waits to be undone (recovery area at {offset:#x}); open the file for writing once"
    )]
    RecoveryPending {
        /// Where the recovery area is.
        offset: u64,
    },
}

impl Fault {
    pub(crate) fn corrupt(
        offset: u64,
        field: &'static str,
        expected: &'static str,
        found: impl Into<u64>,
    ) -> Self {
        Self::Corrupt { offset, field, expected, found: found.into() }
    }

    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(self)
    }
}

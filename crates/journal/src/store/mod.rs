//! The journal: all events of a node, numbered, in an SQLite database.
//!
//! Why: "what happened, and why" must survive the processes that saw it, a power cut and a full
//! disk, and be asked by time, subject, kind and severity.
//! Invariants: `seq` ascends without gaps in order of arrival, also over a replaced database where
//! that can be told; a record is stored once however often it is handed in; positions of the
//! segments' reader change in the transaction that stores the records.
//! Source: SQLite, "Write-Ahead Logging", `PRAGMA synchronous`.

mod open;
mod prune;
mod query;

pub use query::{Order, QUERY_LIMIT_MAX, Query};

use crate::Finding;
use crate::segment::{Batch, Position, Positions};
use base::ByteSize;
use control::EventRecord;
use rusqlite::{Connection, ErrorCode, Transaction, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How much history is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Older events go.
    pub age_max: Duration,
    /// The oldest events go when the database is larger.
    pub size_max: ByteSize,
}

/// Why the journal can't do something.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The database was written by a newer version. Nothing was touched.
    #[error(
        "journal {} has format {found}, this version reads up to {known}; start the newer version \
         again, or move the file away", path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The file is a database of some other program. Nothing was touched.
    #[error("{} is a database, but no journal of holdfast; move it away", path.display())]
    NotOurs {
        /// The database.
        path: PathBuf,
    },
    /// No space is left. Nothing was stored; the same call may be made again later.
    #[error("cannot write to journal {}: the disk is full", path.display())]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// The database is damaged: close it and call [`Journal::replace`].
    #[error("journal {} is damaged", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Anything else.
    #[error("cannot {doing} journal {}", path.display())]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A file next to the database could not be handled.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// The database, open. One writer at a time; any number of readers by [`Journal::open_read_only`].
#[derive(Debug)]
pub struct Journal {
    db: Connection,
    path: PathBuf,
    retention: Retention,
}

impl Journal {
    /// Opens or makes the journal. A damaged one is set aside as `<path>.corrupt-<time>` (with its
    /// `-wal` and `-shm`) and a new one begun: then there is a finding. One of a newer version and
    /// one that is not ours are refused.
    pub fn open(path: &Path, retention: &Retention) -> Result<(Self, Vec<Finding>), JournalError> {
        let (db, findings) = open::open(path)?;
        Ok((Self { db, path: path.to_owned(), retention: retention.clone() }, findings))
    }

    /// Sets a journal aside that turned out to be damaged while it was in use, and begins a new one.
    pub fn replace(self, why: &str) -> Result<(Self, Vec<Finding>), JournalError> {
        let Self { db, path, retention } = self;
        drop(db);
        let (db, findings) = open::replace(&path, why)?;
        Ok((Self { db, path, retention }, findings))
    }

    /// Opens an existing journal to read it, also while another process writes it, and also in a
    /// directory where nothing may be written.
    pub fn open_read_only(path: &Path) -> Result<Self, JournalError> {
        let db = open::open_read_only(path)?;
        let retention = Retention { age_max: Duration::MAX, size_max: ByteSize(u64::MAX) };
        Ok(Self { db, path: path.to_owned(), retention })
    }

    /// What is kept from now on (a reload changes it).
    pub fn retain(&mut self, retention: &Retention) {
        self.retention = retention.clone();
    }

    /// Stores records; gives back those that were new, with their `seq`. All or none: after an
    /// error nothing is stored.
    pub fn append(&mut self, records: &[EventRecord]) -> Result<Vec<EventRecord>, JournalError> {
        self.store(records, None)
    }

    /// Stores what a follower found, and its positions, in one transaction: exactly once. Then
    /// call `Follower::advance`.
    pub fn ingest(&mut self, batch: &Batch) -> Result<Vec<EventRecord>, JournalError> {
        self.store(&batch.records, Some(&batch.positions))
    }

    fn store(
        &mut self,
        records: &[EventRecord],
        positions: Option<&Positions>,
    ) -> Result<Vec<EventRecord>, JournalError> {
        let path = self.path.clone();
        let fail = |error| classify(error, "write to", &path);
        let transaction = self.db.transaction().map_err(fail)?;
        let stored = insert(&transaction, records).map_err(fail)?;
        if let Some(positions) = positions {
            store_positions(&transaction, positions).map_err(fail)?;
        }
        transaction.commit().map_err(fail)?;
        Ok(stored)
    }

    /// Up to where the segments are stored: for `Follower::open`.
    pub fn positions(&self) -> Result<Positions, JournalError> {
        let read = || -> rusqlite::Result<Positions> {
            let mut statement = self.db.prepare("SELECT source, segment, offset FROM positions")?;
            let rows = statement.query_map([], |row| {
                let position = Position {
                    segment: row.get::<_, i64>(1)?.cast_unsigned(),
                    offset: row.get::<_, i64>(2)?.cast_unsigned(),
                };
                Ok((row.get(0)?, position))
            })?;
            rows.collect()
        };
        read().map_err(|error| classify(error, "read", &self.path))
    }

    /// The number of the newest event; 0 when there never was one.
    pub fn last_seq(&self) -> Result<u64, JournalError> {
        let last = self.db.query_row("SELECT last_seq FROM numbering", [], |row| row.get(0));
        last.map(i64::cast_unsigned).map_err(|error| classify(error, "read", &self.path))
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn insert(
    transaction: &Transaction<'_>,
    records: &[EventRecord],
) -> rusqlite::Result<Vec<EventRecord>> {
    let before: i64 =
        transaction.query_row("SELECT last_seq FROM numbering", [], |row| row.get(0))?;
    let mut last = before;
    let mut stored = Vec::new();
    let mut statement = transaction.prepare(
        "INSERT OR IGNORE INTO events (seq, source, source_seq, wall_us, mono_ns, node, subject, \
         kind, severity, message, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    for record in records {
        let data = if record.data.is_empty() {
            None
        } else {
            Some(serde_json::to_string(&record.data).map_err(query::unreadable)?)
        };
        let added = statement.execute(params![
            last + 1,
            record.source,
            record.source_seq.cast_signed(),
            record.wall_us,
            record.mono_ns.cast_signed(),
            record.node,
            record.subject,
            record.kind,
            query::severity_to_number(record.severity),
            record.message,
            data,
        ])?;
        if added == 1 {
            last += 1;
            stored.push(EventRecord { seq: last.cast_unsigned(), ..record.clone() });
        }
    }
    if before < last {
        transaction.execute("UPDATE numbering SET last_seq = ?1", params![last])?;
    }
    Ok(stored)
}

fn store_positions(transaction: &Transaction<'_>, positions: &Positions) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare(
        "INSERT INTO positions (source, segment, offset) VALUES (?1, ?2, ?3) \
         ON CONFLICT (source) DO UPDATE SET segment = ?2, offset = ?3",
    )?;
    for (source, position) in positions {
        let (segment, offset) = (position.segment.cast_signed(), position.offset.cast_signed());
        statement.execute(params![source, segment, offset])?;
    }
    Ok(())
}

/// Sorts SQLite's errors into what a caller may do about them.
fn classify(error: rusqlite::Error, doing: &'static str, path: &Path) -> JournalError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => JournalError::Full { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            JournalError::Damaged { path, source: error }
        }
        _ => JournalError::Failed { doing, path, source: error },
    }
}

//! Opens the database: makes it, checks it, sets a damaged one aside.
//!
//! Why: a journal that can't be opened must cost its history, never the service that writes it;
//! and the history is kept aside for whoever wants to dig in it.
//! Invariant: nothing is ever deleted here, only renamed.

use super::{JournalError, classify};
use crate::{Finding, FindingKind};
use rusqlite::{Connection, OpenFlags};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Raised when the tables change; older formats are brought up step by step.
const FORMAT: i64 = 1;

/// `HOLD`: tells our databases from those of other programs.
const APPLICATION_ID: i64 = 0x484F_4C44;

/// A reader waits so long for a writer's lock, and the other way round.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);

/// The write-ahead log is cut back to this after a checkpoint.
const WAL_BYTES_KEPT: i64 = 4 * 1024 * 1024;

/// What is kept in memory of the database by one connection. The kernel has its pages as well.
const CACHE_KIB: i64 = 512;

const SCHEMA: &str = "
CREATE TABLE events (
  seq        INTEGER PRIMARY KEY,
  source     TEXT NOT NULL,
  source_seq INTEGER NOT NULL,
  wall_us    INTEGER NOT NULL,
  mono_ns    INTEGER NOT NULL,
  node       TEXT NOT NULL,
  subject    TEXT NOT NULL,
  kind       TEXT NOT NULL,
  severity   INTEGER NOT NULL,
  message    TEXT NOT NULL,
  data       TEXT
) STRICT;
-- An event's identity. The times belong to it: after a power cut a number that never reached the
-- disk may be given to another event.
CREATE UNIQUE INDEX events_identity ON events (source, source_seq, wall_us, mono_ns);
CREATE INDEX events_subject ON events (subject);
CREATE INDEX events_time ON events (wall_us);
CREATE TABLE positions (
  source  TEXT PRIMARY KEY,
  segment INTEGER NOT NULL,
  offset  INTEGER NOT NULL
) STRICT;
CREATE TABLE numbering (last_seq INTEGER NOT NULL) STRICT;
";

pub(super) fn open(path: &Path) -> Result<(Connection, Vec<Finding>), JournalError> {
    let present = std::fs::metadata(path).map(|m| m.len());
    if matches!(present, Ok(0)) {
        return replace(path, "the file is empty");
    }
    if present.is_err() && sibling(path, "-wal").exists() {
        return replace(path, "the file is missing, but its write-ahead log is there");
    }
    match try_open(path) {
        Ok(db) => Ok((db, Vec::new())),
        Err(JournalError::Damaged { source, .. }) => replace(path, &source.to_string()),
        Err(other) => Err(other),
    }
}

/// Sets the database and its companions aside and makes a new one, whose numbers go on behind those
/// of the old one where that can still be read.
pub(super) fn replace(path: &Path, why: &str) -> Result<(Connection, Vec<Finding>), JournalError> {
    let last_seq = last_seq_of_damaged(path).unwrap_or(0);
    let aside = set_aside(path)?;
    let db = try_open(path)?;
    db.execute("UPDATE numbering SET last_seq = ?1", [last_seq])
        .map_err(|error| classify(error, "begin", path))?;
    let message = format!(
        "journal {} could not be used ({why}): it was set aside as {} and a new one begun; events \
         before now are only in that file",
        path.display(),
        aside.display()
    );
    Ok((db, vec![Finding { kind: FindingKind::JournalReplaced, message, path: aside }]))
}

pub(super) fn open_read_only(path: &Path) -> Result<Connection, JournalError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if let Ok(db) = reader(path, path, flags) {
        return Ok(db);
    }
    // Without a writer and in a directory where we may not write, SQLite can't make the shared
    // index of the write-ahead log. Then nobody else can be writing either.
    let uri = format!("file:{}?immutable=1", escape_uri(path));
    reader(path, Path::new(&uri), flags | OpenFlags::SQLITE_OPEN_URI)
}

/// Opens `name`, which stands for the journal at `path`. Whatever is the first statement is refused
/// where the log's index can't be made, so nothing here may be left out of the attempt.
fn reader(path: &Path, name: &Path, flags: OpenFlags) -> Result<Connection, JournalError> {
    let fail = |error| classify(error, "open", path);
    let db = Connection::open_with_flags(name, flags).map_err(fail)?;
    db.busy_timeout(BUSY_WAIT_MAX).map_err(fail)?;
    db.pragma_update(None, "cache_size", -CACHE_KIB).map_err(fail)?;
    check_format(&db, path)?;
    Ok(db)
}

fn try_open(path: &Path) -> Result<Connection, JournalError> {
    let fail = |error| classify(error, "open", path);
    // Made by us, so that the mode is right from the first byte: SQLite's companions take it over.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| JournalError::Io { doing: "open journal", path: path.into(), source })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(fail)?;
    db.busy_timeout(BUSY_WAIT_MAX).map_err(fail)?;
    let format = check_format(&db, path)?;
    if format == 0 {
        // Must come before the first table, and outside of a transaction.
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(fail)?;
    }
    db.pragma_update(None, "cache_size", -CACHE_KIB).map_err(fail)?;
    db.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
    db.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT).map_err(fail)?;
    if format == 0 {
        create_tables(&mut db).map_err(fail)?;
    }
    let verdict: String =
        db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(fail)?;
    if verdict != "ok" {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        let source = rusqlite::Error::SqliteFailure(code, Some(verdict));
        return Err(JournalError::Damaged { path: path.into(), source });
    }
    Ok(db)
}

fn create_tables(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.execute("INSERT INTO numbering (last_seq) VALUES (0)", [])?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

/// The format of the database: 0 for a new one.
fn check_format(db: &Connection, path: &Path) -> Result<i64, JournalError> {
    let number = |name| -> Result<i64, JournalError> {
        let read = db.pragma_query_value(None, name, |row| row.get(0));
        read.map_err(|error| classify(error, "open", path))
    };
    let (application, format) = (number("application_id")?, number("user_version")?);
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| classify(error, "open", path))?;
    match (application, tables) {
        (APPLICATION_ID, _) if FORMAT < format => {
            Err(JournalError::Newer { path: path.into(), found: format, known: FORMAT })
        }
        (APPLICATION_ID, _) | (0, 0) => Ok(format),
        _ => Err(JournalError::NotOurs { path: path.into() }),
    }
}

fn last_seq_of_damaged(path: &Path) -> Option<i64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).ok()?;
    db.query_row("SELECT last_seq FROM numbering", [], |row| row.get(0)).ok()
}

/// Renames the database and its companions; returns the database's new name.
fn set_aside(path: &Path) -> Result<PathBuf, JournalError> {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let stamp = since_epoch.map_or(0, |d| d.as_millis());
    let aside = sibling(path, &format!(".corrupt-{stamp}"));
    for companion in ["", "-wal", "-shm"] {
        let from = sibling(path, companion);
        let renamed = match std::fs::rename(&from, sibling(&aside, companion)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        renamed.map_err(|source| JournalError::Io { doing: "set aside", path: from, source })?;
    }
    Ok(aside)
}

fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A path inside SQLite's `file:` URI.
fn escape_uri(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

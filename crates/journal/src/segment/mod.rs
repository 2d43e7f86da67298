//! Segment files: `<dir>/<source>-<number>.seg`, each a run of records (`control::encode_record`).
//!
//! Why: one writer per source, append-only, checksummed. Anyone may die at any byte; a reader
//! always knows which records are whole.
//! Invariants: a segment's number is the `source_seq` of its first record, so that numbers ascend
//! and the numbering survives even when nothing inside can be read; only the newest segment of a
//! source is written to; a record lies in one segment.

mod cursor;
mod follower;
mod scan;
mod writer;

pub use cursor::{load_cursor, save_cursor};
pub use follower::{Batch, Follower, Position, Positions};
pub use writer::{Recovery, Writer};

use std::io;
use std::path::{Path, PathBuf};

/// A segment is closed and the next begun at this size: small enough to read at once.
pub const SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Bytes kept per source when nobody reads them: a dead reader must not fill the disk.
pub const SEGMENTS_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Segments kept per source when nobody reads them. Each start of the writer begins one, so that
/// many starts in a row make many small ones.
pub const SEGMENTS_MAX: usize = 1024;

/// Longest source name: it is part of a file name.
const SOURCE_BYTES_MAX: usize = 64;

/// Why a segment can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The source's name can't be part of a file name.
    #[error("`{0}` can't name a source of events: use 1 to 64 letters, digits and `_`")]
    Source(String),
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The event can't be written as a record.
    #[error("cannot encode the event")]
    Record(#[from] control::RecordError),
}

impl SegmentError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

/// One segment file, by its name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Segment {
    source: String,
    number: u64,
    path: PathBuf,
}

fn check_source(source: &str) -> Result<(), SegmentError> {
    let fits = (1..=SOURCE_BYTES_MAX).contains(&source.len());
    if fits && source.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(());
    }
    Err(SegmentError::Source(source.to_owned()))
}

fn segment_path(dir: &Path, source: &str, number: u64) -> PathBuf {
    dir.join(format!("{source}-{number}.seg"))
}

/// All segments in `dir`, by source and number. Other files are none of ours.
fn list(dir: &Path) -> Result<Vec<Segment>, SegmentError> {
    let entries = std::fs::read_dir(dir).map_err(SegmentError::io("list", dir))?;
    let mut segments = Vec::new();
    for entry in entries {
        let path = entry.map_err(SegmentError::io("list", dir))?.path();
        if let Some((source, number)) = parse_name(&path) {
            segments.push(Segment { source, number, path });
        }
    }
    segments.sort();
    Ok(segments)
}

fn parse_name(path: &Path) -> Option<(String, u64)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    let (source, number) = stem.rsplit_once('-')?;
    check_source(source).ok()?;
    Some((source.to_owned(), number.parse().ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use control::{EventRecord, Severity};

    /// An event with this number, different from every other.
    pub(crate) fn event(source_seq: u64) -> EventRecord {
        EventRecord {
            seq: 0,
            source: "root".into(),
            source_seq,
            wall_us: 1_700_000_000_000_000 + source_seq as i64,
            mono_ns: source_seq * 10,
            node: "n1".into(),
            subject: "web".into(),
            kind: "service.exited".into(),
            severity: Severity::Info,
            message: format!("event number {source_seq}"),
            data: serde_json::Map::new(),
        }
    }

    #[test]
    fn names_read_back_and_strangers_are_left_alone() {
        let dir = Path::new("/x");
        let path = segment_path(dir, "root", 17);
        assert_eq!(parse_name(&path), Some(("root".into(), 17)));
        for stranger in ["root-1.seg.bak", "root.seg", "-1.seg", "a b-1.seg", "root-x.seg"] {
            assert_eq!(parse_name(&dir.join(stranger)), None, "{stranger}");
        }
        assert!(check_source("../etc").is_err());
    }
}

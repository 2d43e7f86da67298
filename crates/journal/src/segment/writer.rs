//! Appends records to the newest segment of one source.
//!
//! Invariants: a segment ends with a whole record whenever `append` has returned, also after a
//! full disk; a number is never given to two records.

use super::scan::{Piece, next_piece};
use super::{
    SEGMENT_BYTES_MAX, SEGMENTS_BYTES_MAX, SEGMENTS_MAX, Segment, SegmentError, check_source, list,
    segment_path,
};
use crate::{Finding, FindingKind};
use control::{EventRecord, RECORD_BYTES_MAX, encode_record};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// No record is shorter: header, and the names of the fields. Bounds how many numbers a stretch of
/// damage may have used up.
const RECORD_BYTES_MIN: u64 = 64;

/// What opening found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// The number of the next record.
    pub next_seq: u64,
    /// What was wrong, to be recorded as events.
    pub findings: Vec<Finding>,
}

/// The only writer of one source's segments.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    source: String,
    path: PathBuf,
    file: File,
    /// Bytes of whole records; what the file has beyond them is the rest of a failed write.
    length: u64,
    tail: Tail,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tail {
    Clean,
    /// A failed write could not be undone yet.
    Torn,
}

impl Writer {
    /// Makes the newest segment of `source` in `dir` (made if missing) end with a whole record (an
    /// unfinished one is cut off), and begins the next segment.
    ///
    /// Never goes on in an old segment: after a power cut it may be shorter than what a reader had
    /// already read of it, and what was appended then would stand before the reader's position.
    pub fn open(dir: &Path, source: &str) -> Result<(Self, Recovery), SegmentError> {
        check_source(source)?;
        std::fs::create_dir_all(dir).map_err(SegmentError::io("create", dir))?;
        let newest = list(dir)?.into_iter().rfind(|s| s.source == source);
        let Some(newest) = newest else {
            let writer = Self::create(dir, source, 1)?;
            return Ok((writer, Recovery { next_seq: 1, findings: Vec::new() }));
        };
        let end = examine(&newest)?;
        let next_seq = end.next_seq;
        let writer = match end.state {
            EndState::Empty => Self::reopen(dir, &newest, 0)?,
            EndState::Whole => {
                cut_off(&newest.path, end.whole)?;
                Self::create(dir, source, next_seq)?
            }
            EndState::Junk => Self::create(dir, source, next_seq)?,
        };
        Ok((writer, Recovery { next_seq, findings: end.findings }))
    }

    fn create(dir: &Path, source: &str, number: u64) -> Result<Self, SegmentError> {
        let path = segment_path(dir, source, number);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(SegmentError::io("create", &path))?;
        // Without this a power cut may take the file's name away, with all that was synced in it.
        sync_dir(dir).map_err(SegmentError::io("sync", dir))?;
        let (dir, source) = (dir.to_owned(), source.to_owned());
        Ok(Self { dir, source, path, file, length: 0, tail: Tail::Clean })
    }

    fn reopen(dir: &Path, segment: &Segment, length: u64) -> Result<Self, SegmentError> {
        let path = segment.path.clone();
        let file =
            OpenOptions::new().append(true).open(&path).map_err(SegmentError::io("open", &path))?;
        file.set_len(length).map_err(SegmentError::io("cut off the end of", &path))?;
        let (dir, source) = (dir.to_owned(), segment.source.clone());
        Ok(Self { dir, source, path, file, length, tail: Tail::Clean })
    }

    /// Appends one record. After an error nothing of it is in the file, and the same call may be
    /// made again.
    pub fn append(&mut self, event: &EventRecord) -> Result<(), SegmentError> {
        self.append_encoded(event.source_seq, &encode_record(event)?)
    }

    /// As [`Self::append`], for a record that was encoded before.
    pub(crate) fn append_encoded(
        &mut self,
        number: u64,
        record: &[u8],
    ) -> Result<(), SegmentError> {
        self.undo_torn_tail()?;
        if 0 < self.length && SEGMENT_BYTES_MAX < self.length + record.len() as u64 {
            self.roll(number)?;
        }
        if let Err(source) = self.file.write_all(record) {
            self.tail = Tail::Torn;
            // The write's own error says more than that of the clean-up; a failed clean-up is
            // tried again before the next record.
            let _ = self.undo_torn_tail();
            return Err(SegmentError::io("write to", &self.path)(source));
        }
        self.length += record.len() as u64;
        Ok(())
    }

    fn undo_torn_tail(&mut self) -> Result<(), SegmentError> {
        if self.tail == Tail::Torn {
            let undo = self.file.set_len(self.length);
            undo.map_err(SegmentError::io("cut off the end of", &self.path))?;
            self.tail = Tail::Clean;
        }
        Ok(())
    }

    fn roll(&mut self, number: u64) -> Result<(), SegmentError> {
        self.sync().map_err(SegmentError::io("sync", &self.path))?;
        *self = Self::create(&self.dir, &self.source, number)?;
        self.forget_oldest();
        Ok(())
    }

    /// Keeps the segments that nobody reads within their limit. A reader that comes too late finds
    /// them missing and says so; one that keeps up has read them long ago. A failure is no reason
    /// not to write: the next roll tries again.
    fn forget_oldest(&self) {
        let Ok(mut own) = list(&self.dir) else { return };
        own.retain(|s| s.source == self.source);
        let mut total = 0;
        for (newer, old) in own.iter().rev().enumerate() {
            total += std::fs::metadata(&old.path).map_or(0, |m| m.len());
            if SEGMENTS_BYTES_MAX < total || SEGMENTS_MAX <= newer {
                let _ = std::fs::remove_file(&old.path);
            }
        }
    }

    /// Makes what was appended survive a power cut.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

enum EndState {
    /// There is no whole record in it.
    Empty,
    /// With a whole record, at `whole`, perhaps followed by an unfinished one.
    Whole,
    /// With bytes that are no record.
    Junk,
}

/// How the newest segment ends.
struct End {
    state: EndState,
    whole: u64,
    next_seq: u64,
    findings: Vec<Finding>,
}

fn examine(segment: &Segment) -> Result<End, SegmentError> {
    let bytes = read_segment(&segment.path)?;
    let mut at = 0;
    let mut next_seq = segment.number;
    let mut findings = Vec::new();
    let finding = |kind, message| Finding { kind, message, path: segment.path.clone() };
    let name = segment.path.display();
    loop {
        let rest = &bytes[at..];
        match next_piece(rest) {
            Piece::Record(event, used) => {
                next_seq = event.source_seq.saturating_add(1).max(next_seq);
                at += used;
            }
            // The reader of the segment reports it; here only the end matters.
            Piece::Damage(skipped) => at += skipped,
            Piece::Unfinished => {
                if !rest.is_empty() {
                    let message = format!(
                        "the end of {name} was an unfinished record of {} bytes: cut off",
                        rest.len()
                    );
                    findings.push(finding(FindingKind::SegmentTorn, message));
                }
                let state = if at == 0 { EndState::Empty } else { EndState::Whole };
                return Ok(End { state, whole: at as u64, next_seq, findings });
            }
            Piece::Junk => {
                let lost = rest.len() as u64;
                let message = format!(
                    "the last {lost} bytes of {name} are no records: left as they are, a new \
                     segment is begun"
                );
                findings.push(finding(FindingKind::SegmentDamaged, message));
                // Records that were acknowledged may have stood there: don't reuse their numbers.
                let next_seq = next_seq + lost / RECORD_BYTES_MIN + 1;
                return Ok(End { state: EndState::Junk, whole: at as u64, next_seq, findings });
            }
        }
    }
}

/// All bytes of a segment, at most what the largest one can have.
fn read_segment(path: &Path) -> Result<Vec<u8>, SegmentError> {
    let limit = SEGMENT_BYTES_MAX + 2 * RECORD_BYTES_MAX as u64;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(SegmentError::io("read", path))?;
    Ok(bytes)
}

fn cut_off(path: &Path, length: u64) -> Result<(), SegmentError> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.set_len(length))
        .map_err(SegmentError::io("cut off the end of", path))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

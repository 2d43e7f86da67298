//! Reads the records of all sources in a directory, from stored positions on.
//!
//! Invariants: `poll` changes nothing; only `advance`, after the records are safe elsewhere, moves
//! on. So a failed store costs a second reading, never a record.

use super::scan::{Piece, next_piece};
use super::{Segment, SegmentError, list};
use crate::{Finding, FindingKind};
use control::{EventRecord, RECORD_BYTES_MAX};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Read from a segment at once; always holds a whole record.
const READ_BYTES_MAX: usize = 1024 * 1024;
const _: () = assert!(2 * (RECORD_BYTES_MAX + 8) < READ_BYTES_MAX);

/// Up to where a source was read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Position {
    /// The segment's number.
    pub segment: u64,
    /// Bytes from its beginning.
    pub offset: u64,
}

/// The position of each source.
pub type Positions = BTreeMap<String, Position>;

/// What one look found.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Batch {
    /// Whole records, per source in order.
    pub records: Vec<EventRecord>,
    /// Damage that was skipped between them.
    pub findings: Vec<Finding>,
    /// Where to go on once these are stored: for [`Follower::advance`].
    pub positions: Positions,
}

impl Batch {
    /// True when nothing new was there.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.findings.is_empty()
    }
}

/// A reader of all segments in a directory.
#[derive(Debug)]
pub struct Follower {
    dir: PathBuf,
    positions: Positions,
}

impl Follower {
    /// Begins at `positions` (`Journal::positions`); a source without one from its oldest segment.
    /// The directory is made if it is missing.
    pub fn open(dir: &Path, positions: Positions) -> Result<Self, SegmentError> {
        std::fs::create_dir_all(dir).map_err(SegmentError::io("create", dir))?;
        Ok(Self { dir: dir.to_owned(), positions })
    }

    /// Begins at the newest segment of each source: what stands in older ones is not read. A source
    /// that comes later is read from its beginning.
    pub fn open_at_newest(dir: &Path) -> Result<Self, SegmentError> {
        let follower = Self::open(dir, Positions::new())?;
        let newest = list(dir)?.into_iter().map(|s| {
            let position = Position { segment: s.number, offset: 0 };
            (s.source, position)
        });
        // By source and number in order: the last one of each source stays.
        Ok(Self { positions: newest.collect(), ..follower })
    }

    /// The next whole records, at most `max`. Looking again without [`Self::advance`] gives the
    /// same ones.
    pub fn poll(&self, max: usize) -> Result<Batch, SegmentError> {
        let mut batch = Batch { positions: self.positions.clone(), ..Batch::default() };
        let mut by_source: BTreeMap<String, Vec<Segment>> = BTreeMap::new();
        for segment in list(&self.dir)? {
            by_source.entry(segment.source.clone()).or_default().push(segment);
        }
        for (source, segments) in by_source {
            poll_source(&source, &segments, max, &mut batch)?;
        }
        Ok(batch)
    }

    /// Goes on behind `batch`, which is stored now.
    pub fn advance(&mut self, batch: &Batch) {
        self.positions.clone_from(&batch.positions);
    }

    /// Up to where everything was read and stored.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Deletes segments that are closed and read to their end by us and by the `others`, but for the
    /// newest `keep` of each source (a lost database can be filled again from them). Returns how
    /// many.
    pub fn retire(&mut self, keep: usize, others: &[Positions]) -> Result<usize, SegmentError> {
        let segments = list(&self.dir)?;
        let mut removed = 0;
        for (source, position) in &self.positions {
            // Another reader that does not know this source will begin with its oldest segment.
            let theirs = others.iter().map(|other| other.get(source).map_or(0, |at| at.segment));
            let needed = theirs.min().unwrap_or(u64::MAX).min(position.segment);
            let done: Vec<_> =
                segments.iter().filter(|s| s.source == *source && s.number < needed).collect();
            let excess = done.len().saturating_sub(keep);
            for old in done.into_iter().take(excess) {
                std::fs::remove_file(&old.path).map_err(SegmentError::io("remove", &old.path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Reads one source from its position through all its segments, oldest first.
fn poll_source(
    source: &str,
    segments: &[Segment],
    max: usize,
    batch: &mut Batch,
) -> Result<(), SegmentError> {
    let Some(oldest) = segments.first() else { return Ok(()) };
    let stored = batch.positions.get(source).copied();
    let at = stored.unwrap_or(Position { segment: oldest.number, offset: 0 });
    // Only older ones than ours: the directory was emptied and numbering began anew, so we do too.
    let mut index = segments.iter().position(|s| at.segment <= s.number).unwrap_or(0);
    let mut position = at;
    if segments[index].number != at.segment {
        let path = segments[index].path.clone();
        let message = format!(
            "segment {} of `{source}` is gone before it was read to its end; going on with {}",
            at.segment,
            path.display()
        );
        batch.findings.push(Finding { kind: FindingKind::SegmentMissing, message, path });
        position = Position { segment: segments[index].number, offset: 0 };
    }
    loop {
        let closed = index + 1 < segments.len();
        let done = read_segment(&segments[index], closed, &mut position, max, batch)?;
        batch.positions.insert(source.to_owned(), position);
        if !done || !closed || max <= batch.records.len() {
            return Ok(());
        }
        index += 1;
        position = Position { segment: segments[index].number, offset: 0 };
    }
}

/// Reads on in one segment; true when it was read to its end.
fn read_segment(
    segment: &Segment,
    closed: bool,
    position: &mut Position,
    max: usize,
    batch: &mut Batch,
) -> Result<bool, SegmentError> {
    let file = File::open(&segment.path).map_err(SegmentError::io("open", &segment.path))?;
    loop {
        let bytes =
            read_at(&file, position.offset).map_err(SegmentError::io("read", &segment.path))?;
        let is_all = bytes.len() < READ_BYTES_MAX;
        let begin = position.offset;
        if walk(&bytes, is_all && closed, segment, position, max, batch) {
            return Ok(true);
        }
        let moved = begin < position.offset;
        if max <= batch.records.len() || is_all || !moved {
            return Ok(is_all && bytes.is_empty());
        }
    }
}

/// Takes the pieces of `bytes`, which stand at `position`. `last`: nothing will ever follow them.
/// True when a `last` stretch was taken to its end.
fn walk(
    bytes: &[u8],
    last: bool,
    segment: &Segment,
    position: &mut Position,
    max: usize,
    batch: &mut Batch,
) -> bool {
    let mut at = 0;
    let skip = |at: &mut usize, position: &mut Position, skipped: usize, batch: &mut Batch| {
        batch.findings.push(damage(segment, position.offset, skipped));
        *at += skipped;
        position.offset += skipped as u64;
    };
    while batch.records.len() < max {
        let rest = &bytes[at..];
        match next_piece(rest) {
            Piece::Record(event, used) => {
                batch.records.push(*event);
                at += used;
                position.offset += used as u64;
            }
            Piece::Damage(skipped) => skip(&mut at, position, skipped, batch),
            Piece::Unfinished | Piece::Junk if last => {
                if !rest.is_empty() {
                    skip(&mut at, position, rest.len(), batch);
                }
                return true;
            }
            // Nothing in a full read buffer is a record: there is no point in waiting for more.
            Piece::Unfinished | Piece::Junk if rest.len() == READ_BYTES_MAX => {
                skip(&mut at, position, READ_BYTES_MAX - RECORD_BYTES_MAX - 8, batch);
                return false;
            }
            // The writer is at it, or its next start will decide what this is.
            Piece::Unfinished | Piece::Junk => return false,
        }
    }
    false
}

fn damage(segment: &Segment, offset: u64, skipped: usize) -> Finding {
    let name = segment.path.display();
    let message = format!("{skipped} bytes of {name} at byte {offset} are no records: skipped");
    Finding { kind: FindingKind::SegmentDamaged, message, path: segment.path.clone() }
}

fn read_at(file: &File, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = file.metadata()?.len();
    if offset < length {
        let wanted = (length - offset).min(READ_BYTES_MAX as u64);
        bytes.reserve(wanted as usize);
        OffsetReader { file, offset }.take(wanted).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

struct OffsetReader<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for OffsetReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(into, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

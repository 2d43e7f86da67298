//! Whether a database keeps every rule of its format.
//!
//! Three questions, and none believes what another found: the header is sane; every list ends, and
//! holds only records that belong to it; walking the file from record to record meets exactly the
//! records that are on lists, each sound in itself.
//!
//! Invariants: every byte of the file may be wrong; the work is linear in the size of the file and
//! the sum of all key lengths, which cannot be more; all faults are told, up to a bound.
//! Source: the TDB specification, section 17.1 (and 22.3, whose flaw is not repeated: space that
//! nothing refers to ends where the next record of a list begins, not at the end of the file).

use crate::engine::{Engine, Placed};
use crate::error::Fault;
use crate::header::List;
use crate::marks::Marks;
use crate::record::{RECORD_BYTES, Record, TAILER_BYTES, begins, magic};

/// Faults that are kept of one check; a file with more is not repaired one by one.
pub const FINDINGS_MAX: usize = 100;
/// The least space that nothing refers to: what a record header takes.
const DEAD_SPACE_MIN: u64 = RECORD_BYTES;

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// Records with a value.
    pub live: u64,
    /// Records that were deleted and still stand on their chain.
    pub dead: u64,
    /// Records on the free list.
    pub free: u64,
    /// Space that nothing refers to, as offset and length; no fault, but libtdb's own check fails
    /// once records follow it. A repack removes it.
    pub dead_space: Vec<(u64, u64)>,
    /// What is wrong, at most [`FINDINGS_MAX`].
    pub findings: Vec<Fault>,
    /// Faults beyond that.
    pub findings_dropped: u64,
}

impl Report {
    /// True if nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn note<T>(&mut self, outcome: Result<T, Fault>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(fault) => {
                if self.findings.len() < FINDINGS_MAX {
                    self.findings.push(fault);
                } else {
                    self.findings_dropped += 1;
                }
                None
            }
        }
    }
}

impl Engine {
    /// Checks everything; fails only where the size cannot be looked up.
    pub(crate) fn check(&self) -> Result<Report, Fault> {
        let size = self.space.refresh()?;
        let mut report = Report::default();
        let sane = self.check_header(size);
        let recovery = report.note(sane).flatten();
        if self.shape.fits(size).is_err() {
            // The header's fault says it; there is nothing behind it that could be looked at.
            return Ok(report);
        }
        let mut listed = self.check_lists(size, &mut report);
        Physical { engine: self, size, recovery, report: &mut report }.walk(&mut listed);
        Ok(report)
    }

    /// The recovery area's offset, if there is one.
    fn check_header(&self, size: u64) -> Result<Option<u64>, Fault> {
        self.shape.fits(size)?;
        let header = self.header()?;
        if header.shape() != self.shape {
            let expected = "the number of chains that it was opened with";
            return Err(Fault::corrupt(0, "hash_size", expected, header.hash_size));
        }
        let recovery = u64::from(header.recovery_start);
        if recovery == 0 {
            return Ok(None);
        }
        begins(recovery, self.shape, size)?;
        Ok(Some(recovery))
    }

    /// The records of all lists. A record is on one list, once.
    fn check_lists(&self, size: u64, report: &mut Report) -> Marks {
        let mut listed = Marks::new(size);
        let chains = (0..self.shape.hash_size).map(List::Chain);
        for list in std::iter::once(List::Free).chain(chains) {
            for placed in self.walk(list) {
                let sound = placed.and_then(|placed| self.belongs(placed, list));
                let Some(placed) = report.note(sound) else { break };
                if !listed.insert(placed.offset) {
                    let expected = "a record that is on no list yet";
                    let head = list.head();
                    report.note::<()>(Err(Fault::corrupt(head, "list", expected, placed.offset)));
                    break;
                }
            }
        }
        listed
    }

    fn belongs(&self, placed: Placed, list: List) -> Result<Placed, Fault> {
        let chain = self.shape.chain(placed.record.hash);
        match list {
            List::Chain(own) if own != chain => {
                let expected = "the hash of a key of the chain that it stands on";
                Err(Fault::corrupt(placed.offset, "full_hash", expected, placed.record.hash))
            }
            List::Chain(_) | List::Free => Ok(placed),
        }
    }
}

/// The walk from record to record.
struct Physical<'a> {
    engine: &'a Engine,
    size: u64,
    recovery: Option<u64>,
    report: &'a mut Report,
}

impl Physical<'_> {
    fn walk(mut self, listed: &mut Marks) {
        let mut offset = self.engine.shape.data_start();
        let mut recovery_met = false;
        while offset < self.size {
            recovery_met |= self.recovery == Some(offset);
            let step = self.step(offset, listed);
            let Some(length) = self.report.note(step) else { return };
            offset += length;
        }
        if let Some(recovery) = self.recovery
            && !recovery_met
        {
            let expected = "the beginning of a record";
            self.report.note::<()>(Err(Fault::corrupt(44, "recovery_start", expected, recovery)));
        }
        let mut from = 0;
        while let Some(offset) = listed.first_from(from) {
            let expected = "the beginning of a record, not the middle of one";
            self.report.note::<()>(Err(Fault::corrupt(offset, "next", expected, offset)));
            from = offset + 4;
        }
    }

    /// Checks what begins here; returns its length. Without it nobody knows where to go on.
    fn step(&mut self, offset: u64, listed: &mut Marks) -> Result<u64, Fault> {
        let record = self.engine.header_at(offset)?;
        match record.magic {
            magic::USED | magic::DEAD | magic::FREE => self.record(offset, record, listed),
            magic::IDLE | magic::PAD | magic::RECOVERY if self.recovery == Some(offset) => {
                record.bounded(offset, self.size).map(Record::total)
            }
            magic::IDLE | magic::PAD => self.dead_space(offset, listed),
            found => {
                let expected = "the number of a record";
                Err(Fault::corrupt(offset, "magic", expected, found))
            }
        }
    }

    fn record(&mut self, offset: u64, record: Record, listed: &mut Marks) -> Result<u64, Fault> {
        record.bounded(offset, self.size)?;
        let tailer = offset + record.total() - TAILER_BYTES;
        let found = self.engine.number(tailer)?;
        if u64::from(found) != record.total() {
            let expected = "the length of the record";
            self.report.note::<()>(Err(Fault::corrupt(tailer, "tailer", expected, found)));
        }
        if record.next != 0 {
            let next = begins(record.next.into(), self.engine.shape, self.size);
            self.report.note(next);
        }
        match record.magic {
            magic::FREE => self.report.free += 1,
            magic::DEAD => self.report.dead += 1,
            _ => self.report.live += 1,
        }
        if record.is_chained() {
            let sound = self.chained(offset, record);
            self.report.note(sound);
        }
        if !listed.remove(offset) {
            let expected = "to be on its list, once";
            self.report.note::<()>(Err(Fault::corrupt(offset, "record", expected, record.magic)));
        }
        Ok(record.total())
    }

    fn chained(&self, offset: u64, record: Record) -> Result<(), Fault> {
        let needed = record.payload() + TAILER_BYTES;
        if u64::from(record.rec_len) < needed {
            let expected = "no more than rec_len with its last number";
            return Err(Fault::corrupt(offset, "key_len + data_len", expected, record.payload()));
        }
        let key = self.engine.key(Placed { offset, record })?;
        if self.engine.shape.hash.of(&key) != record.hash {
            let expected = "the hash of its key";
            return Err(Fault::corrupt(offset, "full_hash", expected, record.hash));
        }
        Ok(())
    }

    /// Space that was never made a record, up to the next thing that something refers to.
    fn dead_space(&mut self, offset: u64, listed: &Marks) -> Result<u64, Fault> {
        let recovery = self.recovery.filter(|recovery| offset < *recovery);
        let ends = [Some(self.size), listed.first_from(offset + 1), recovery];
        let end = ends.into_iter().flatten().min().unwrap_or(self.size);
        let length = end.saturating_sub(offset);
        if length < DEAD_SPACE_MIN {
            let expected = "space for at least one header";
            return Err(Fault::corrupt(offset, "dead space", expected, length));
        }
        let start = self.engine.bytes(offset, DEAD_SPACE_MIN as u32)?;
        if let Some(byte) = start.iter().find(|byte| ![0, 0x42].contains(*byte)) {
            return Err(Fault::corrupt(offset, "dead space", "bytes of 0 or 0x42", *byte));
        }
        self.report.dead_space.push((offset, length));
        Ok(length)
    }
}

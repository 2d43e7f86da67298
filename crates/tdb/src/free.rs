//! The free list: what may be used again, how it is given back, and how a place is taken from it.
//!
//! Invariants: whoever calls holds the lock of the free list; a record is merged only with a left
//! neighbour of which header and last number agree; every write leaves lists that can be followed,
//! and no place on two of them: whoever is killed in between leaves a gap that a repack frees.
//! Source: the TDB specification, sections 11.1 to 11.3 and 19. Which record is taken, and from
//! which end of it, is libtdb's way, so that files of both look alike.

use crate::engine::{Engine, Placed};
use crate::error::Fault;
use crate::growth::grown;
use crate::header::List;
use crate::record::{LENGTH_AT, MAGIC_AT, RECORD_BYTES, Record, TAILER_BYTES, begins, magic};
use crate::space::{DATA_BYTES_MAX, Space};

/// A free record that is longer than needed by less than this is taken whole.
const SPLIT_BYTES_MIN: u64 = 36;
/// How much less picky each step along the list makes: the scan ends at a record that is no longer
/// than this factor, compounded, allows.
const PATIENCE: f64 = 1.05;
/// One may find what belongs together, the next nothing but a free record at the end of the file that
/// is not on the list, the next that it is too short, and the last the new space. In a damaged file,
/// what was freed may have become part of a record that no list can hold.
const SCANS_MAX: u32 = 4;

/// What a scan of the free list found.
#[derive(Default)]
struct Scan {
    best: Option<Candidate>,
    /// A merge made a record that would do; a second scan finds it.
    merged_enough: bool,
    /// Where the last record of the list ends that was met.
    end: u64,
}

#[derive(Clone, Copy)]
struct Candidate {
    free: Placed,
    /// Where its offset stands: the head of the list, or the record before it.
    slot: u64,
}

impl Engine {
    /// Gives a record back that is on no list any more. It becomes part of a free record right in
    /// front of it, if there is one.
    pub(crate) fn give_back(&self, offset: u64, record: Record) -> Result<(), Fault> {
        self.write_tailer(offset, record)?;
        if let Some(left) = self.free_left_of(offset)? {
            return self.merge(left.offset, record).map(|_| ());
        }
        let slot = List::Free.head();
        let next = self.number(slot)?;
        self.write_record(offset, Record { next, magic: magic::FREE, ..record })?;
        self.write_number(slot, offset)
    }

    /// Takes a place for this many bytes of key and data, and makes the database longer if there is
    /// none. What is returned is on no list, its header is `used` and its lengths are 0.
    pub(crate) fn take(&self, payload: u64) -> Result<Placed, Fault> {
        let length = place_bytes(payload).ok_or_else(|| self.full(payload))?;
        let mut is_longer = false;
        for _ in 0..SCANS_MAX {
            let scan = self.scan_free(length)?;
            if let Some(best) = scan.best {
                return self.carve(best, length);
            }
            if scan.merged_enough {
                continue;
            }
            let size = self.space.refresh()?;
            if scan.end < size
                && let Some(lost) = self.free_left_of(size)?
            {
                self.list_again(lost)?;
                continue;
            }
            if is_longer {
                break;
            }
            self.expand(u64::from(length) + RECORD_BYTES)?;
            is_longer = true;
        }
        let expected = "a list that has the free record at the end of the file";
        Err(Fault::corrupt(List::Free.head(), "free list", expected, self.space.size()))
    }

    /// Puts a free record on the list that somebody had taken off it, and was killed. At the end of the
    /// file it would swallow all new space, and a file that grows by a part of its size each time has no
    /// room left soon.
    fn list_again(&self, lost: Placed) -> Result<(), Fault> {
        let slot = List::Free.head();
        let next = self.number(slot)?;
        self.write_number(lost.offset, next.into())?;
        self.write_number(slot, lost.offset)
    }

    fn full(&self, wanted: u64) -> Fault {
        Fault::Full { size: self.space.size(), wanted }
    }

    /// Goes through the free list for the record that fits best, mending on the way what lies apart
    /// though it belongs together.
    fn scan_free(&self, length: u32) -> Result<Scan, Fault> {
        let mut scan = Scan::default();
        let mut slot = List::Free.head();
        let mut patience = 1.0_f32;
        let mut steps = 0;
        let limit = self.records_max();
        loop {
            let offset = u64::from(self.number(slot)?);
            if offset == 0 {
                return Ok(scan);
            }
            steps += 1;
            if offset == slot || limit < steps {
                let expected = "an offset that was not met before";
                return Err(Fault::corrupt(slot, "next", expected, offset));
            }
            let free = self.to_be_free_at(offset)?;
            scan.end = scan.end.max(offset + free.record.total());
            if let Some(left) = self.free_left_of(offset)? {
                // Off the list first: who is killed in between leaves a gap, not a place that two
                // would be given.
                self.write_number(slot, u64::from(free.record.next))?;
                let left = self.merge(left.offset, free.record)?;
                if let Some(best) =
                    scan.best.as_mut().filter(|best| best.free.offset == left.offset)
                {
                    best.free = left;
                }
                scan.merged_enough |= length < left.record.rec_len;
                continue;
            }
            scan.offer(Candidate { free, slot }, length);
            slot = offset;
            // Whole numbers of 32 bits become floats of 32 bits here, as in libtdb: which record is
            // taken depends on how they round.
            let enough = length as f32 * patience;
            if scan.best.is_some_and(|best| (best.free.record.rec_len as f32) < enough) {
                return Ok(scan);
            }
            patience = (f64::from(patience) * PATIENCE) as f32;
        }
    }

    /// A record of the free list. One that says `used` was being freed or taken by somebody who
    /// died: it is on this list, so it is free.
    fn to_be_free_at(&self, offset: u64) -> Result<Placed, Fault> {
        let mut record = self.header_at(offset)?;
        if record.magic == magic::USED {
            record.magic = magic::FREE;
            self.write_record(offset, record)?;
        }
        self.free_of(offset, record)
    }

    /// The free record that ends where this one begins.
    fn free_left_of(&self, offset: u64) -> Result<Option<Placed>, Fault> {
        let start = self.shape.data_start();
        let tailer = offset.saturating_sub(TAILER_BYTES);
        if tailer <= start {
            return Ok(None);
        }
        let total = self.number(tailer)?;
        if [0, magic::PAD].contains(&total) {
            return Ok(None);
        }
        let Some(left) = offset.checked_sub(total.into()) else { return Ok(None) };
        if begins(left, self.shape, self.space.size()).is_err() {
            return Ok(None);
        }
        let record = self.header_at(left)?;
        // A number that only looks like a length would make a record of the middle of another.
        let is_it = record.magic == magic::FREE && record.total() == u64::from(total);
        Ok((is_it && !self.is_in_recovery_area(left)?).then_some(Placed { offset: left, record }))
    }

    /// Whether this is a place in the recovery area, where copies of free records may stand.
    fn is_in_recovery_area(&self, offset: u64) -> Result<bool, Fault> {
        let area = self.recovery_start()?;
        if area == 0 || offset < area {
            return Ok(false);
        }
        let record = self.header_at(area)?;
        let is_area = [magic::IDLE, magic::RECOVERY].contains(&record.magic);
        Ok(is_area && offset < area + record.total())
    }

    /// Makes a record part of the free one in front of it.
    fn merge(&self, offset: u64, record: Record) -> Result<Placed, Fault> {
        let left = self.free_at(offset)?.record;
        let length = u64::from(left.rec_len) + record.total();
        let rec_len = u32::try_from(length).map_err(|_| {
            let expected = "a length that fits the file";
            Fault::corrupt(offset, "rec_len", expected, length)
        })?;
        let merged = Record { rec_len, ..left };
        self.write_tailer(offset, merged)?;
        self.write_number(offset + LENGTH_AT, length)?;
        Ok(Placed { offset, record: merged })
    }

    /// Takes the end of a free record, or all of it where the rest would be too short to be of use.
    fn carve(&self, from: Candidate, length: u32) -> Result<Placed, Fault> {
        let Candidate { free: Placed { offset, .. }, slot } = from;
        // What comes after it may have been taken off the list since it was looked at.
        let record = self.free_at(offset)?.record;
        let rest = u64::from(record.rec_len).checked_sub(u64::from(length) + RECORD_BYTES);
        let split =
            rest.filter(|_| u64::from(length) + SPLIT_BYTES_MIN <= u64::from(record.rec_len));
        let Some(rest) = split else {
            let taken = Record { magic: magic::USED, ..record };
            self.write_number(slot, u64::from(record.next))?;
            self.write_number(offset + MAGIC_AT, magic::USED.into())?;
            return Ok(Placed { offset, record: taken });
        };
        let left = Record { rec_len: rest as u32, ..record };
        let place = offset + left.total();
        let taken = Record::fresh(length, magic::USED);
        self.write_record(place, taken)?;
        self.write_tailer(place, taken)?;
        self.write_tailer(offset, left)?;
        self.write_number(offset + LENGTH_AT, rest)?;
        Ok(Placed { offset: place, record: taken })
    }

    /// Makes the database longer by at least this much; what is new becomes a free record, with what
    /// was left over in front of it.
    pub(crate) fn expand(&self, wanted: u64) -> Result<(), Fault> {
        // Another process may have made it longer already, which only it knows.
        let size = self.space.refresh()?;
        let new = grown(size, wanted, self.page).ok_or_else(|| self.full(size + wanted))?;
        let from = self.end_of_use(size)?;
        if let Space::Overlay(overlay) = &self.space {
            overlay.note_old_end(from);
        }
        self.space.grow(new)?;
        self.adopt(from, new)
    }

    /// Makes a free record of a stretch that is nobody's.
    pub(crate) fn adopt(&self, from: u64, to: u64) -> Result<(), Fault> {
        let rec_len = to.saturating_sub(from).saturating_sub(RECORD_BYTES);
        let record = Record::fresh(rec_len.min(DATA_BYTES_MAX) as u32, magic::FREE);
        self.give_back(from, record)
    }

    /// Writes the number at a record's end.
    pub(crate) fn write_tailer(&self, offset: u64, record: Record) -> Result<(), Fault> {
        self.write_number(offset + record.total() - TAILER_BYTES, record.total())
    }
}

impl Scan {
    fn offer(&mut self, candidate: Candidate, length: u32) {
        let fits = length <= candidate.free.record.rec_len;
        let better =
            self.best.is_none_or(|best| candidate.free.record.rec_len < best.free.record.rec_len);
        if fits && better {
            self.best = Some(candidate);
        }
    }
}

/// Length of a new record for so many bytes of key and data: a quarter more, so that a value can grow
/// a little where it is, and the number at its end.
fn place_bytes(payload: u64) -> Option<u32> {
    let length = payload.checked_mul(5)? / 4 + TAILER_BYTES;
    u32::try_from(length.next_multiple_of(4)).ok()
}

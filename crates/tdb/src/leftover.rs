//! Where the file ends, as far as it is used: somebody may have made it longer and been killed before
//! he made anything of the new space.
//!
//! Why it is looked for before the file grows again: what is left so at the end is no fault, but once
//! a record stands behind it, libtdb's own check finds the file damaged for ever. So it becomes part of
//! what is new. To look is cheap where the file ends with a record or with the recovery area, as it
//! does unless somebody was killed; otherwise all records are walked over once.
//!
//! Invariants: nothing is taken for left over that a living one may be at work on. Who looks holds the
//! lock of the free list, so nobody takes or gives places, and a lock of a chain or of everything, so
//! nobody prepares a transaction; all that has been taken has a header, which is not zeros.
//! Source: the TDB specification, sections 12.1, 14.4, 17.1 and 22.3.

use crate::engine::Engine;
use crate::error::Fault;
use crate::record::{LENGTH_AT, RECORD_BYTES, RECORD_BYTES_MIN, Record, TAILER_BYTES, magic};

/// Bytes that are looked through at a time.
const PIECE_BYTES: u64 = 64 * 1024;
/// What bytes are that were never anything: zeros, or what libtdb writes where it can't reserve.
const UNUSED: [u8; 2] = [0, 0x42];

impl Engine {
    /// Where the space begins, at the end of a data space of this size, that is nobody's: the size
    /// itself, or the next offset that a record may have, or what a dead one left in front of it.
    pub(crate) fn end_of_use(&self, size: u64) -> Result<u64, Fault> {
        let end = size.next_multiple_of(4);
        if self.ends_with_a_record(size)? || self.ends_with_the_area(size)? {
            return Ok(end);
        }
        Ok(self.left_over(size)?.unwrap_or(end))
    }

    fn ends_with_a_record(&self, size: u64) -> Result<bool, Fault> {
        if !size.is_multiple_of(4) || size < self.shape.data_start() + RECORD_BYTES_MIN {
            return Ok(false);
        }
        let total = u64::from(self.number(size - TAILER_BYTES)?);
        if total < RECORD_BYTES_MIN || size - self.shape.data_start() < total || total % 4 != 0 {
            return Ok(false);
        }
        let record = self.header_at(size - total)?;
        Ok(is_listed(record) && record.total() == total)
    }

    fn ends_with_the_area(&self, size: u64) -> Result<bool, Fault> {
        let area = self.recovery_start()?;
        if area < self.shape.data_start() || size < area + RECORD_BYTES {
            return Ok(false);
        }
        let record = self.header_at(area)?;
        Ok(record.magic == magic::IDLE && area + record.total() == size)
    }

    /// Walks from record to record. `None`: all of it is used, or nobody can tell.
    fn left_over(&self, size: u64) -> Result<Option<u64>, Fault> {
        let area = self.recovery_start()?;
        let mut offset = self.shape.data_start();
        // Each step is one of at least this many bytes, so this ends.
        while offset + RECORD_BYTES_MIN <= size {
            let record = self.header_at(offset)?;
            if !is_listed(record) && area != offset {
                break;
            }
            if record.bounded(offset, size).is_err() {
                return Ok(None);
            }
            offset += record.total();
        }
        let holds_the_area = offset <= area;
        let is_left = !holds_the_area && offset < size && self.is_nobodys(offset, size)?;
        Ok(is_left.then_some(offset))
    }

    /// Whether all of this is unused, or unused up to a recovery area that reaches to the end, at which
    /// the header of the file does not point yet.
    fn is_nobodys(&self, from: u64, size: u64) -> Result<bool, Fault> {
        let Some(used) = self.first_used(from, size)? else { return Ok(true) };
        // An area's first number is 0, the second its length.
        let Some(area) = (used - used % 4).checked_sub(LENGTH_AT).filter(|area| from <= *area)
        else {
            return Ok(false);
        };
        if size < area + RECORD_BYTES {
            return Ok(false);
        }
        let record = self.header_at(area)?;
        let is_area = [magic::IDLE, magic::RECOVERY].contains(&record.magic);
        Ok(is_area && area + record.total() == size)
    }

    fn first_used(&self, from: u64, size: u64) -> Result<Option<u64>, Fault> {
        let mut offset = from;
        while offset < size {
            let length = (size - offset).min(PIECE_BYTES);
            let bytes = self.bytes(offset, length as u32)?;
            if let Some(place) = bytes.iter().position(|byte| !UNUSED.contains(byte)) {
                return Ok(Some(offset + place as u64));
            }
            offset += length;
        }
        Ok(None)
    }
}

fn is_listed(record: Record) -> bool {
    record.is_chained() || record.magic == magic::FREE
}

#[cfg(test)]
mod tests {
    use crate::{Create, Database, Options, Store, death};
    use std::path::Path;

    fn open(path: &Path) -> Database {
        Options::new().create(Create::Missing).hash_size(3).open(path).unwrap()
    }

    /// Finds no room in what there is.
    fn let_it_grow(path: &Path) {
        let mut database = open(path);
        let large = vec![1; database.stats().unwrap().size as usize];
        database.store(b"large", &large, Store::Replace).unwrap();
    }

    fn assert_sound(path: &Path, what: &str) {
        let report = open(path).check().unwrap();
        assert!(report.is_clean(), "{what}: {:?}", report.findings);
        assert_eq!(report.dead_space, [], "{what}");
    }

    #[test]
    fn what_was_left_at_the_end_becomes_part_of_what_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        for (byte, more) in [(0, 4096), (0x42, 40_960), (0, 28), (0, 4), (0, 3), (0x42, 4095)] {
            let _ = std::fs::remove_file(&path);
            open(&path).store(b"key", b"value", Store::Insert).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.resize(bytes.len() + more, byte);
            std::fs::write(&path, bytes).unwrap();
            let_it_grow(&path);
            assert_sound(&path, &format!("{more} bytes of {byte}"));
            assert_eq!(open(&path).fetch(b"key").unwrap().unwrap(), b"value");
        }
    }

    #[test]
    fn what_is_in_use_is_not_taken_for_left_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        // A recovery area at the end, whose last bytes are zeros, and a value that is nothing else.
        let mut database = open(&path);
        let mut transaction = database.transaction().unwrap();
        transaction.store(b"zeros", &[0; 5000], Store::Insert).unwrap();
        transaction.commit().unwrap();
        let before = database.stats().unwrap();
        drop(database);
        let_it_grow(&path);
        assert_sound(&path, "beside an area");
        let database = open(&path);
        assert_eq!(database.fetch(b"zeros").unwrap().unwrap(), [0; 5000]);
        assert!(before.size < database.stats().unwrap().size);
    }

    /// Also where it died in a transaction, with an area that does not count yet.
    #[test]
    fn wherever_a_writer_dies_the_next_growth_leaves_nothing_dead() {
        let folder = tempfile::tempdir().unwrap();
        let (start, path) = (folder.path().join("start"), folder.path().join("db"));
        open(&start).store(b"key", b"value", Store::Insert).unwrap();
        let mut left_over = 0;
        for writes in 0..40 {
            std::fs::copy(&start, &path).unwrap();
            let mut database = open(&path);
            death::after(Some(writes));
            let outcome = database.transaction().and_then(|mut transaction| {
                transaction.store(b"new", &[3; 3000], Store::Insert)?;
                transaction.commit()
            });
            let died = death::has_come();
            drop(database);
            death::after(None);
            left_over += u32::from(!open(&path).check().unwrap().dead_space.is_empty());
            let_it_grow(&path);
            assert_sound(&path, &format!("dead after {writes} writes"));
            if !died {
                outcome.unwrap();
                assert!(0 < left_over, "no death left anything");
                return;
            }
        }
        panic!("it never came to its end");
    }
}

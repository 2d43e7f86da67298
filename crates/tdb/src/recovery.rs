//! Undoing a transaction whose writer died while it wrote.
//!
//! What a transaction is about to overwrite stands in the recovery area; as long as the area says so,
//! the old bytes count. Whoever gets a lock looks there first.
//!
//! Why the right to open is the only lock that is taken: it is enough, and whoever waited for it while
//! he has the range of all records, or the reverse, would stand in a circle with libtdb, which takes
//! both. It is enough, because
//! - whoever writes a transaction has it for as long as the area counts, and so has everybody who
//!   undoes one: an area that counts, seen by whoever has it, is a dead one's, and changes under
//!   nobody's hands but his;
//! - the dead one had locked all lists and records before the area began to count, so no lock on them
//!   is older than his death, and who gets his first one later finds that the area counts until the
//!   very last write, and gives it back before he believes or changes anything.
//!
//! Invariants: nothing is applied before all of it was found sound; applying it twice, or once more
//! after being killed in the middle, comes to the same; afterwards the file passes libtdb's own check,
//! also where the transaction had made it longer (libtdb leaves the new part as it was cut off, and
//! forgets an area that lies there; here the area stays for the next transaction).
//! Source: the TDB specification, sections 14.4, 14.6, 19 and 22.2.

use crate::engine::Engine;
use crate::error::Fault;
use crate::header::{ByteOrder, List, Shape};
use crate::locks::{Kind, Wait, byte};
use crate::record::{MAGIC_AT, RECORD_BYTES, RECORD_BYTES_MIN, Record, begins, magic};

/// Offset and length in front of each piece of old bytes.
const ENTRY_BYTES: usize = 8;

/// Old bytes, and where they belong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) offset: u64,
    pub(crate) bytes: &'a [u8],
}

/// Reads what stands in a recovery area behind its header: all pieces, or what is wrong with one.
pub(crate) fn pieces(
    blob: &[u8],
    area: u64,
    size: u64,
    order: ByteOrder,
) -> Result<Vec<Piece<'_>>, Fault> {
    let mut pieces = Vec::new();
    let mut rest = blob;
    // The last four bytes repeat the length of the area.
    while ENTRY_BYTES < rest.len() {
        let at = area + RECORD_BYTES + (blob.len() - rest.len()) as u64;
        let wrong = |field, expected, found: u32| Fault::corrupt(at, field, expected, found);
        let Some((offset, after)) = rest.split_first_chunk::<4>() else { break };
        let Some((length, after)) = after.split_first_chunk::<4>() else { break };
        let (offset, length) = (order.number(*offset), order.number(*length));
        let Some((bytes, after)) = after.split_at_checked(length as usize) else {
            return Err(wrong("recovery length", "what is left of the area", length));
        };
        if size < u64::from(offset) + u64::from(length) {
            return Err(wrong("recovery offset", "a place inside the file", offset));
        }
        if (area..area + RECORD_BYTES).contains(&offset.into()) {
            return Err(wrong("recovery offset", "a place outside the area's header", offset));
        }
        pieces.push(Piece { offset: offset.into(), bytes });
        rest = after;
    }
    Ok(pieces)
}

/// What the header of a valid recovery area says.
#[derive(Clone, Copy, Debug)]
struct Area {
    offset: u64,
    record: Record,
}

impl Area {
    /// What lies behind the old end, but for the area itself. Shorter stretches than the shortest
    /// record stay as they are.
    fn strays(self, size: u64) -> impl Iterator<Item = (u64, u64)> {
        let (old, end) = (self.old_size(), self.offset + self.record.total());
        let before = (old, self.offset);
        let behind = (old.max(end), size);
        [before, behind]
            .into_iter()
            .filter(|(from, to)| from + RECORD_BYTES_MIN <= *to && (to - from).is_multiple_of(4))
    }

    /// Size of the data space when the transaction began; whatever lies behind it is the
    /// transaction's.
    fn old_size(self) -> u64 {
        self.record.key_len.into()
    }

    fn sound(self, shape: Shape, size: u64) -> Result<Self, Fault> {
        self.record.bounded(self.offset, size)?;
        if self.record.rec_len < self.record.data_len {
            let expected = "no more than rec_len";
            return Err(Fault::corrupt(self.offset, "data_len", expected, self.record.data_len));
        }
        let old = self.old_size();
        if old < shape.data_start() || size < old || !old.is_multiple_of(4) {
            let expected = "a size that the file had";
            return Err(Fault::corrupt(self.offset, "old size", expected, old));
        }
        Ok(self)
    }
}

impl Engine {
    /// Whether an interrupted transaction waits to be undone.
    pub(crate) fn needs_recovery(&self) -> Result<bool, Fault> {
        let offset = self.recovery_start()?;
        Ok(offset != 0 && self.header_at(offset)?.magic == magic::RECOVERY)
    }

    /// Undoes an interrupted transaction while others have the file open.
    pub(crate) fn lock_and_recover(&self) -> Result<(), Fault> {
        let right = (byte::OPEN, 1);
        let patience = self.locks.patience(Wait::Yes);
        self.locks.take(right, Kind::Exclusive, &patience, "the right to open")?;
        let outcome = self.recover();
        self.locks.give_up(right);
        outcome
    }

    /// Undoes an interrupted transaction, if there is one; whoever calls has the right to open, or all
    /// locks of the transaction itself.
    pub(crate) fn recover(&self) -> Result<(), Fault> {
        let size = self.space.refresh()?;
        let offset = self.recovery_start()?;
        if offset == 0 {
            return Ok(());
        }
        begins(offset, self.shape, size)?;
        let record = self.header_at(offset)?;
        if record.magic != magic::RECOVERY {
            return Ok(());
        }
        let area = Area { offset, record }.sound(self.shape, size)?;
        let blob = self.bytes(offset + RECORD_BYTES, record.data_len)?;
        for piece in pieces(&blob, offset, size, self.shape.order)? {
            self.space.write(piece.offset, piece.bytes)?;
        }
        self.free_strays(&area.strays(size).collect::<Vec<_>>())?;
        self.space.sync()?;
        self.write_number(offset + MAGIC_AT, magic::IDLE.into())?;
        self.space.sync()
    }

    /// Makes free records of what the transaction had added to the file. Where somebody was killed in
    /// the middle of it, the head of the free list tells which of them was the last.
    fn free_strays(&self, strays: &[(u64, u64)]) -> Result<(), Fault> {
        let head = u64::from(self.number(List::Free.head())?);
        let done = strays.iter().position(|(from, _)| *from == head).map_or(0, |last| last + 1);
        strays.iter().skip(done).try_for_each(|(from, to)| self.free_stray(*from, *to))
    }

    fn free_stray(&self, from: u64, to: u64) -> Result<(), Fault> {
        let head = List::Free.head();
        let next = self.number(head)?;
        let record = Record::fresh((to - from - RECORD_BYTES) as u32, magic::FREE);
        self.write_tailer(from, record)?;
        self.write_record(from, Record { next, ..record })?;
        self.write_number(head, from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::range;
    use crate::{Create, Options, Store};
    use proptest::prelude::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::time::Duration;

    fn blob(entries: &[(u32, &[u8])]) -> Vec<u8> {
        let mut blob = Vec::new();
        for (offset, bytes) in entries {
            blob.extend(offset.to_le_bytes());
            blob.extend((bytes.len() as u32).to_le_bytes());
            blob.extend(*bytes);
        }
        blob.extend([0; 4]);
        blob
    }

    #[test]
    fn pieces_are_read_in_their_order() {
        let blob = blob(&[(0, b"head"), (4096, b""), (300, b"tail")]);
        let read = pieces(&blob, 8192, 16384, ByteOrder::Little).unwrap();
        let read: Vec<_> = read.iter().map(|piece| (piece.offset, piece.bytes)).collect();
        assert_eq!(read, [(0, &b"head"[..]), (4096, b""), (300, b"tail")]);
    }

    #[test]
    fn a_piece_that_cannot_be_is_refused_before_any_is_applied() {
        for (offset, length) in [(16380, 8), (8192, 4), (8200, 1), (u32::MAX, 4)] {
            let blob = blob(&[(0, b"good"), (offset, &vec![0; length])]);
            pieces(&blob, 8192, 16384, ByteOrder::Little).unwrap_err();
        }
        let mut longer = blob(&[(0, b"good")]);
        longer[4] = 200;
        pieces(&longer, 8192, 16384, ByteOrder::Little).unwrap_err();
    }

    /// As libtdb's processes that undo a transaction do: they hold all records, and wait for the right to
    /// open. Nobody who has that right waits for them.
    #[test]
    fn who_undoes_a_transaction_waits_for_the_right_to_open_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("db"), folder.path().join("other"));
        let options = Options::new().create(Create::Missing).wait(Duration::ZERO);
        let mut database = options.open(&path).unwrap();
        database.store(b"key", b"value", Store::Insert).unwrap();
        let mut transaction = database.transaction().unwrap();
        transaction.store(b"key", b"other", Store::Replace).unwrap();
        let prepared = transaction.prepare().unwrap();
        let pending = std::fs::read(&path).unwrap();
        prepared.cancel().unwrap();

        let recoverer = File::options().read(true).write(true).create_new(true).open(&other);
        let recoverer = recoverer.unwrap();
        recoverer.write_all_at(&pending, 0).unwrap();
        assert!(range::try_lock(&recoverer, Kind::Exclusive, 168, 0).unwrap());
        let opened = options.open(&other).unwrap();
        range::unlock(&recoverer, 168, 0).unwrap();
        assert_eq!(opened.fetch(b"key").unwrap().unwrap(), b"value");

        recoverer.write_all_at(&pending, 0).unwrap();
        assert!(range::try_lock(&recoverer, Kind::Exclusive, 0, 1).unwrap());
        let error = opened.fetch(b"key").unwrap_err();
        assert!(matches!(error.fault(), Fault::Busy { what: "the right to open", .. }), "{error}");
        assert!(range::probe(&recoverer, Kind::Exclusive, 168, 0).unwrap(), "nothing is kept");
        range::unlock(&recoverer, 0, 1).unwrap();
        assert_eq!(opened.fetch(b"key").unwrap().unwrap(), b"value");
        assert!(opened.check().unwrap().is_clean());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 0_u64..20000) {
            if let Ok(read) = pieces(&bytes, 8192, size, ByteOrder::Big) {
                for piece in read {
                    prop_assert!(piece.offset + piece.bytes.len() as u64 <= size);
                }
            }
        }
    }
}

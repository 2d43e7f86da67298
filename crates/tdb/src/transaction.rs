//! Changing many records at once, all or nothing.
//!
//! Changes gather in memory beside the file; readers go on. To write them, what has to be put back if
//! the writer dies is saved in the recovery area first, and whoever comes later puts it back. What is
//! saved is not only what was there: the file may have become longer, and an old recovery area may be
//! too short. So it also makes free records of the new space and of the old area, and the file passes
//! libtdb's check whoever undoes the transaction.
//!
//! Invariants: at every moment the file is either as before (with unused space at its end at most),
//! or has a recovery area that counts and is complete on disk; both change by one write of four bytes.
//! Nothing that is put back overwrites the area it is read from.
//! Source: the TDB specification, sections 14.1 to 14.5, 22.2 and 22.3.

use crate::engine::{Engine, Placed};
use crate::error::Fault;
use crate::header::{List, at};
use crate::locks::{Kind, Wait, byte};
use crate::overlay::Overlay;
use crate::record::{MAGIC_AT, RECORD_BYTES, RECORD_BYTES_MIN, Record, TAILER_BYTES, magic};
use crate::space::{DATA_BYTES_MAX, Space};

/// Bytes of the recovery area's entry for each piece, in front of the old bytes.
const ENTRY_BYTES: u64 = 8;
/// Bytes that all entries besides the changed blocks take at most: two free records with their last
/// numbers, the head of the free list, the number at the end, and a block that is cut in two.
const EXTRA_BYTES: u64 = 2 * (2 * ENTRY_BYTES + RECORD_BYTES + TAILER_BYTES)
    + (ENTRY_BYTES + TAILER_BYTES)
    + TAILER_BYTES
    + ENTRY_BYTES;

/// How far a transaction has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Changes gather in memory.
    Open,
    /// What has to be put back is saved; the recovery area at this offset counts.
    Prepared { area: u64 },
}

/// Where the recovery area of a transaction is.
#[derive(Clone, Copy, Debug)]
struct Area {
    offset: u64,
    /// Bytes behind its header.
    rec_len: u32,
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    /// The header of the file points at it already.
    Reused,
    /// It is at the end, behind new space; the one there was before becomes free.
    New { replaces: Option<Placed> },
}

impl Area {
    fn end(self) -> u64 {
        self.offset + RECORD_BYTES + u64::from(self.rec_len)
    }
}

impl Engine {
    /// Begins a transaction: from now on all changes go into memory.
    pub(crate) fn begin(&mut self, wait: Wait) -> Result<(), Fault> {
        if !matches!(self.space, Space::File(_)) {
            let what = "a transaction, for a database in memory or within a transaction";
            return Err(Fault::WrongOrder { what });
        }
        self.locks.none_is_held("a transaction while something is locked")?;
        let patience = self.locks.patience(wait);
        let what = "the right to a transaction";
        self.locks.take_in_turn(byte::TRANSACTION, Kind::Exclusive, &patience, what)?;
        // Kept until the end of the transaction, which gives up every lock.
        let locked = self.lock_all(Kind::Shared, wait).map(std::mem::forget);
        let size = locked.and_then(|()| self.space.refresh());
        let Ok(size) = size else {
            self.locks.release_everything();
            return size.map(drop);
        };
        self.locks.count_as_exclusive();
        let over = |file| Overlay::new(file, size, self.page, self.settings.sync);
        self.space = match std::mem::replace(&mut self.space, Space::nothing()) {
            Space::File(file) => Space::Overlay(Box::new(over(file))),
            other => other,
        };
        Ok(())
    }

    /// Ends a transaction: what is only in memory is forgotten, and what was prepared no longer
    /// counts.
    pub(crate) fn end(&mut self, stage: Stage) -> Result<(), Fault> {
        self.lift_overlay();
        let ended = match stage {
            Stage::Open => Ok(()),
            Stage::Prepared { area } => self
                .write_number(area + MAGIC_AT, magic::IDLE.into())
                .and_then(|()| self.sync_if_asked()),
        };
        self.locks.release_everything();
        ended
    }

    /// Ends a transaction that could be prepared or written only in part: what was there is put back.
    pub(crate) fn end_undone(&mut self) -> Result<(), Fault> {
        self.lift_overlay();
        let undone = self.recover();
        self.locks.release_everything();
        undone
    }

    fn lift_overlay(&mut self) {
        self.space = match std::mem::replace(&mut self.space, Space::nothing()) {
            Space::Overlay(overlay) => Space::File(overlay.into_file()),
            other => other,
        };
    }

    fn sync_if_asked(&self) -> Result<(), Fault> {
        if self.settings.sync { self.space.sync() } else { Ok(()) }
    }

    /// True if the transaction has something to write.
    pub(crate) fn is_changed(&self) -> bool {
        matches!(&self.space, Space::Overlay(overlay) if overlay.is_changed())
    }

    /// Saves what has to be put back if the writer dies; afterwards the transaction can only be
    /// written or given up.
    pub(crate) fn prepare(&self) -> Result<Stage, Fault> {
        let Space::Overlay(overlay) = &self.space else { return Ok(Stage::Open) };
        self.locks.upgrade_all(self.shape.hash_size)?;
        let patience = self.locks.patience(Wait::Yes);
        self.locks.take((byte::OPEN, 1), Kind::Exclusive, &patience, "the right to open")?;
        let area = self.recovery_area(overlay)?;
        // A disk that is full is found out here, while nothing has happened yet.
        overlay.file().grow(overlay.size())?;
        let blob = self.blob(overlay, area)?;
        let header = Record {
            next: 0,
            rec_len: area.rec_len,
            key_len: overlay.size() as u32,
            data_len: blob.len() as u32,
            hash: 0,
            magic: magic::IDLE,
        };
        match area.how {
            How::Reused => {
                self.write_area(overlay, area, header, &blob)?;
                let counts = self.shape.order.bytes(magic::RECOVERY);
                overlay.write_through(area.offset + MAGIC_AT, &counts)?;
            }
            How::New { .. } => {
                // Nobody knows of it yet: it begins to count when the header points at it.
                let header = Record { magic: magic::RECOVERY, ..header };
                self.write_area(overlay, area, header, &blob)?;
                let offset = self.shape.order.bytes(area.offset as u32);
                overlay.write_through(at::RECOVERY_START as u64, &offset)?;
            }
        }
        self.sync_if_asked()?;
        Ok(Stage::Prepared { area: area.offset })
    }

    fn write_area(
        &self,
        overlay: &Overlay,
        area: Area,
        header: Record,
        blob: &[u8],
    ) -> Result<(), Fault> {
        let header = header.encode(self.shape.order);
        overlay.write_through(area.offset, &[&header, blob].concat())?;
        self.sync_if_asked()
    }

    /// Writes what was prepared.
    pub(crate) fn write_out(&self) -> Result<(), Fault> {
        let Space::Overlay(overlay) = &self.space else { return Ok(()) };
        overlay.write_out()?;
        overlay.file().touch();
        self.sync_if_asked()
    }

    /// What has to be put back.
    fn blob(&self, overlay: &Overlay, area: Area) -> Result<Vec<u8>, Fault> {
        let order = self.shape.order;
        let mut blob = Vec::new();
        let mut entry = |offset: u64, bytes: &[u8]| {
            blob.extend(order.bytes(offset as u32));
            blob.extend(order.bytes(bytes.len() as u32));
            blob.extend(bytes);
        };
        let blocks = overlay.changed_below_old_size();
        for (offset, length) in blocks.into_iter().flat_map(|block| outside(block, area)) {
            let mut bytes = vec![0; length as usize];
            overlay.file().read(offset, &mut bytes)?;
            // Whoever is killed while putting back has to find the area again.
            patch(&mut bytes, offset, at::RECOVERY_START as u64, order.bytes(area.offset as u32));
            entry(offset, &bytes);
        }
        let head = List::Free.head();
        let mut bytes = [0; 4];
        overlay.file().read(head, &mut bytes)?;
        let mut next = order.number(bytes);
        for (offset, record) in Self::to_be_freed(overlay, area) {
            entry(offset, &Record { next, ..record }.encode(order));
            let tailer = offset + record.total() - TAILER_BYTES;
            entry(tailer, &order.bytes(record.total() as u32));
            next = offset as u32;
        }
        entry(head, &order.bytes(next));
        blob.extend(order.bytes(RECORD_BYTES as u32 + area.rec_len));
        Ok(blob)
    }

    /// What becomes free records if the transaction is undone: the new space in front of the area or
    /// behind the old end, what was left over there, and the area that this one replaces.
    fn to_be_freed(overlay: &Overlay, area: Area) -> Vec<(u64, Record)> {
        let free = |from: u64, to: u64| {
            let fits = from + RECORD_BYTES_MIN <= to;
            fits.then(|| (from, Record::fresh((to - from - RECORD_BYTES) as u32, magic::FREE)))
        };
        let old = overlay.old_end();
        match area.how {
            How::Reused => free(old.max(area.end()), overlay.size()).into_iter().collect(),
            How::New { replaces } => {
                let replaced = replaces
                    .and_then(|placed| free(placed.offset, placed.offset + placed.record.total()));
                free(old, area.offset).into_iter().chain(replaced).collect()
            }
        }
    }

    /// Finds a recovery area, or makes one, which changes what the transaction has to write.
    fn recovery_area(&self, overlay: &Overlay) -> Result<Area, Fault> {
        let needed = || {
            let blocks = overlay.changed_below_old_size();
            blocks.iter().map(|(_, length)| ENTRY_BYTES + length).sum::<u64>() + EXTRA_BYTES
        };
        let existing = self.existing_area(overlay.old_size())?;
        if let Some(Placed { offset, record }) = existing {
            let area = Area { offset, rec_len: record.rec_len, how: How::Reused };
            if needed() <= u64::from(area.rec_len) {
                return Ok(area);
            }
            if area.end() == overlay.size() && area.end() == overlay.old_size() {
                let rec_len = self.area_length(needed(), offset)?;
                let longer = Area { rec_len, ..area };
                self.space.grow(longer.end())?;
                return Ok(longer);
            }
            self.give_back(offset, Record { magic: magic::FREE, ..record })?;
        }
        if overlay.size() == overlay.old_size() {
            // New space lies in front of every new area: see the invariants.
            self.expand(RECORD_BYTES_MIN)?;
        }
        let offset = overlay.size();
        // One more block: the header of the file, where the area will be named.
        let rec_len = self.area_length(needed() + ENTRY_BYTES + self.page, offset)?;
        let area = Area { offset, rec_len, how: How::New { replaces: existing } };
        self.space.grow(area.end())?;
        Ok(area)
    }

    /// Twice of what is needed, up to the end of a page: the next transaction will need about as much.
    fn area_length(&self, needed: u64, offset: u64) -> Result<u32, Fault> {
        let end = (offset + RECORD_BYTES + 2 * needed).next_multiple_of(self.page);
        if DATA_BYTES_MAX < end {
            return Err(Fault::Full { size: self.space.size(), wanted: end });
        }
        Ok((end - offset - RECORD_BYTES) as u32)
    }

    /// The recovery area there is, unless what the header points at is none.
    fn existing_area(&self, old_size: u64) -> Result<Option<Placed>, Fault> {
        let offset = self.recovery_start()?;
        if offset == 0 {
            return Ok(None);
        }
        let record = self.header_at(offset)?;
        let sound = [magic::IDLE, magic::RECOVERY].contains(&record.magic)
            && record.bounded(offset, old_size).is_ok();
        Ok(sound.then_some(Placed { offset, record }))
    }
}

/// The parts of a stretch that lie outside the area.
fn outside((offset, length): (u64, u64), area: Area) -> impl Iterator<Item = (u64, u64)> {
    let end = offset + length;
    let before = (offset, end.min(area.offset));
    let behind = (offset.max(area.end()), end);
    [before, behind].into_iter().filter(|(from, to)| from < to).map(|(from, to)| (from, to - from))
}

/// Overwrites the part of a stretch that four bytes at an offset of the file fall on.
fn patch(stretch: &mut [u8], offset: u64, at: u64, bytes: [u8; 4]) {
    for (place, byte) in (at..).zip(bytes) {
        let index = place.checked_sub(offset).and_then(|index| usize::try_from(index).ok());
        if let Some(to) = index.and_then(|index| stretch.get_mut(index)) {
            *to = byte;
        }
    }
}

//! Changing records: store, append, delete, and what becomes of the places of deleted ones.
//!
//! Invariants: a value that moves takes its new place on the chain before its old one is given up, so
//! that neither a full disk nor a killed process loses it (libtdb deletes first), and by one write, so
//! that nobody finds the old one behind it later; a chain can be
//! followed after every single write; nothing is freed that somebody stands on.
//! Source: the TDB specification, sections 10, 11.4, 13.2 to 13.4, 16 and 22.7.

use crate::engine::{Engine, Found, Met, Placed};
use crate::error::Fault;
use crate::header::{ByteOrder, List, at};
use crate::locks::{Kind, Wait, byte};
use crate::quick::tighter;
use crate::record::{MAGIC_AT, RECORD_BYTES, Record, TAILER_BYTES, magic};
use crate::space::Space;
use crate::value::{Fate, Value};

/// What a store does about a value that is there, or is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Store {
    /// Puts the value, whether there was one or not.
    #[default]
    Replace,
    /// Puts a new one; [`Fault::Exists`] if the key has one.
    Insert,
    /// Changes the one there is; [`Fault::NotFound`] if the key has none.
    Modify,
}

/// Memory that is kept for the next record.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// A record on a chain, and where its offset stands: the head of the chain or the record before it.
#[derive(Clone, Copy)]
struct Linked {
    placed: Placed,
    slot: u64,
}

impl Engine {
    /// Stores a value under the lock of its chain.
    pub(crate) fn store(&self, key: &[u8], data: &[u8], how: Store) -> Result<(), Fault> {
        let hash = self.shape.hash.of(key);
        let chain = List::Chain(self.shape.chain(hash));
        let _locked = self.lock_to_change(chain)?;
        self.store_locked(key, hash, data, how)
    }

    /// Stores the first value of a key in a database in which nothing was deleted. Nobody goes along its
    /// chain for it, so that to store many takes as long as each alone, also if one chain has them all.
    pub(crate) fn store_new(&self, key: &[u8], data: &[u8]) -> Result<(), Fault> {
        let hash = self.shape.hash.of(key);
        let chain = List::Chain(self.shape.chain(hash));
        let _locked = self.lock_to_change(chain)?;
        let _free = self.lock_list(List::Free, Kind::Exclusive)?;
        let place = self.take(key.len() as u64 + data.len() as u64)?;
        self.link(place, key, hash, data)?;
        self.count_change()
    }

    /// Deletes the value of a key.
    pub(crate) fn delete(&self, key: &[u8]) -> Result<(), Fault> {
        let hash = self.shape.hash.of(key);
        let chain = List::Chain(self.shape.chain(hash));
        let _locked = self.lock_to_change(chain)?;
        if self.remove(key, hash)? { Ok(()) } else { Err(Fault::NotFound) }
    }

    /// Deletes the value of a key; false if there is none.
    fn remove(&self, key: &[u8], hash: u32) -> Result<bool, Fault> {
        let survey = self.survey(key, hash)?;
        let Some((old, slot)) = survey.newest else { return Ok(false) };
        // What a killed process left behind the newest value must not come back to life. It goes
        // first, from the back: whoever is killed here leaves the newest.
        survey.others.iter().rev().try_for_each(|placed| self.bury(*placed))?;
        self.bury(old)?;
        self.count_change()?;
        let dead = survey.dead + survey.others.len() as u32 + 1;
        if self.settings.max_dead < dead {
            if dead == 1 && self.nobody_stands_on(old.offset)? {
                // Mostly it is the only one, and it is known where it stands.
                let _free = self.lock_list(List::Free, Kind::Exclusive)?;
                self.write_number(slot, u64::from(old.record.next))?;
                let record = Record { magic: magic::DEAD, ..old.record };
                self.give_back(old.offset, record)?;
            } else {
                self.free_dead(List::Chain(self.shape.chain(hash)), self.settings.max_dead)?;
            }
        }
        Ok(true)
    }

    /// Deletes the records of a chain for which `keep` says no.
    pub(crate) fn retain_chain(
        &self,
        chain: u32,
        met: &mut Met,
        keep: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<u64, Fault> {
        let list = List::Chain(chain);
        let _locked = self.lock_list(list, Kind::Exclusive)?;
        let mut deleted = 0;
        let live = self.live(chain, met)?;
        let (newest, replaced) = self.part(live)?;
        // From the back: a killed process must not leave the older of two values alone.
        for placed in replaced.iter().rev() {
            self.bury(*placed)?;
        }
        for placed in newest {
            if !keep(&self.key(placed)?, &self.data(placed)?) {
                self.bury(placed)?;
                self.count_change()?;
                deleted += 1;
            }
        }
        if 0 < deleted || !replaced.is_empty() {
            self.trim(list, self.settings.max_dead)?;
        }
        Ok(deleted)
    }

    /// Lets a function look at a value and change it, all under one lock and with one search.
    pub(crate) fn update<T>(
        &self,
        key: &[u8],
        buffer: &mut Vec<u8>,
        change: impl FnOnce(&mut Value) -> T,
    ) -> Result<T, Fault> {
        let hash = self.shape.hash.of(key);
        let chain = List::Chain(self.shape.chain(hash));
        let _locked = self.lock_to_change(chain)?;
        let old = self.find_or_count(key, hash)?;
        match old {
            Found::Here(old) => self.data_into(old, buffer)?,
            Found::Nowhere { .. } => buffer.clear(),
        }
        let is_there = matches!(old, Found::Here(_));
        let mut value = Value::new(std::mem::take(buffer), is_there);
        let outcome = change(&mut value);
        let fate;
        (*buffer, fate) = value.end();
        match (fate, old) {
            (Fate::Kept, _) | (Fate::Removed, Found::Nowhere { .. }) => {}
            (Fate::Set, old) => self.put(key, hash, buffer, old)?,
            (Fate::Removed, Found::Here(_)) => self.remove(key, hash).map(drop)?,
        }
        Ok(outcome)
    }

    fn store_locked(&self, key: &[u8], hash: u32, data: &[u8], how: Store) -> Result<(), Fault> {
        let old = self.find_or_count(key, hash)?;
        match (how, old) {
            (Store::Insert, Found::Here(_)) => Err(Fault::Exists),
            (Store::Modify, Found::Nowhere { .. }) => Err(Fault::NotFound),
            (_, old) => self.put(key, hash, data, old),
        }
    }

    /// Puts a value in the place of the old one, if there is one.
    fn put(&self, key: &[u8], hash: u32, data: &[u8], old: Found) -> Result<(), Fault> {
        let payload = key.len() as u64 + data.len() as u64;
        if u64::from(u32::MAX) < payload {
            return Err(Fault::Full { size: self.space.size(), wanted: payload });
        }
        let old = match old {
            Found::Here(old) if self.update_in_place(old, key, data)? => {
                return self.count_change();
            }
            Found::Here(old) => {
                // The chain is gone along several times from here on.
                self.locks.linger_no_more();
                old
            }
            Found::Nowhere { dead } => {
                if dead == 0 || !self.refill_dead(key, hash, data)? {
                    let place = self.place(hash, payload, 0 < dead)?;
                    self.link(place, key, hash, data)?;
                }
                return self.count_change();
            }
        };
        let chain = List::Chain(self.shape.chain(hash));
        if self.gives_up_first() {
            self.bury_others(key, hash, old)?;
            self.bury(old)?;
            self.count_change()?;
            self.trim(chain, self.settings.max_dead)?;
            let place = self.place(hash, payload, true)?;
            self.link(place, key, hash, data)?;
            return self.count_change();
        }
        let place = self.place(hash, payload, true)?;
        self.move_to(place, old, key, hash, data)?;
        self.bury_others(key, hash, place)?;
        self.trim(chain, self.settings.max_dead)?;
        // Twice, since libtdb deletes and stores.
        self.count_change().and_then(|()| self.count_change())
    }

    /// Puts a value into a new place, which takes that of the old one on the chain by one write: at
    /// every moment one of the two is there. Only where somebody stands on the old one it has to stay,
    /// deleted, behind the new one.
    fn move_to(
        &self,
        place: Placed,
        old: Placed,
        key: &[u8],
        hash: u32,
        data: &[u8],
    ) -> Result<(), Fault> {
        if !self.nobody_stands_on(old.offset)? {
            self.link(place, key, hash, data)?;
            return self.bury(old);
        }
        let mut slot = List::Chain(self.shape.chain(hash)).head();
        for placed in self.walk(List::Chain(self.shape.chain(hash))) {
            let placed = placed?;
            if placed.offset == old.offset {
                self.fill(place, placed.record.next, key, hash, data)?;
                self.write_number(slot, place.offset)?;
                self.bury(old)?;
                let _free = self.lock_list(List::Free, Kind::Exclusive)?;
                return self.give_back(old.offset, old.record);
            }
            slot = placed.offset;
        }
        let expected = "the record that was just found";
        Err(Fault::corrupt(slot, "next", expected, old.offset))
    }

    /// Whether the old place of a value that moves is given up before it has a new one, as libtdb
    /// does: this leaves fewer gaps, and where nothing can be interrupted nothing can be lost by it.
    fn gives_up_first(&self) -> bool {
        !matches!(self.space, Space::File(_))
    }

    /// Overwrites a value where it is, if the new one has room there.
    fn update_in_place(&self, old: Placed, key: &[u8], data: &[u8]) -> Result<bool, Fault> {
        let record = old.record;
        let at = old.offset + RECORD_BYTES + u64::from(record.key_len);
        if record.data_len as usize == data.len() && self.space.equals(at, data)? {
            return Ok(true);
        }
        let needed = key.len() as u64 + data.len() as u64 + TAILER_BYTES;
        if u64::from(record.rec_len) < needed {
            return Ok(false);
        }
        if record.data_len as usize == data.len() {
            self.space.write(at, data)?;
            return Ok(true);
        }
        // The lengths and the bytes they speak of go out in one write, as far as that is possible.
        let header = Record { data_len: data.len() as u32, ..record };
        self.write_whole(old.offset, header, key, data)?;
        Ok(true)
    }

    /// Fills a place that is on no list, and puts it at the front of its chain.
    fn link(&self, place: Placed, key: &[u8], hash: u32, data: &[u8]) -> Result<(), Fault> {
        let slot = List::Chain(self.shape.chain(hash)).head();
        self.fill(place, self.number(slot)?, key, hash, data)?;
        self.write_number(slot, place.offset)
    }

    /// Writes a record that is on no list yet.
    fn fill(
        &self,
        place: Placed,
        next: u32,
        key: &[u8],
        hash: u32,
        data: &[u8],
    ) -> Result<(), Fault> {
        let record = Record {
            next,
            rec_len: place.record.rec_len,
            key_len: key.len() as u32,
            data_len: data.len() as u32,
            hash,
            magic: magic::USED,
        };
        self.write_whole(place.offset, record, key, data)
    }

    fn write_whole(&self, at: u64, record: Record, key: &[u8], data: &[u8]) -> Result<(), Fault> {
        let mut whole = self.scratch.take();
        whole.clear();
        whole.extend_from_slice(&record.encode(self.shape.order));
        whole.extend_from_slice(key);
        whole.extend_from_slice(data);
        let written = self.space.write(at, &whole);
        // One long value must not keep its memory for as long as the database is open.
        if whole.capacity() <= SCRATCH_BYTES_MAX {
            self.scratch.replace(whole);
        }
        written
    }

    /// Marks a record as deleted; it stays on its chain.
    fn bury(&self, old: Placed) -> Result<(), Fault> {
        self.write_number(old.offset + MAGIC_AT, magic::DEAD.into())
    }

    /// Deletes what the same key has besides this record: the value that was just replaced, and
    /// those that were replaced by somebody who was killed before he could delete them.
    fn bury_others(&self, key: &[u8], hash: u32, newest: Placed) -> Result<(), Fault> {
        let chain = List::Chain(self.shape.chain(hash));
        let mut others = Vec::new();
        for placed in self.walk(chain) {
            let placed = placed?;
            if placed.offset != newest.offset && self.is_of(placed, key, hash)? {
                others.push(placed);
            }
        }
        // From the back: the first of the chain is the one that counts, until it goes.
        others.into_iter().rev().try_for_each(|placed| self.bury(placed))
    }

    /// Puts a new value into a deleted record of its chain, where that stands: whoever stands on it
    /// goes on to the same record as before, so nobody has to be asked. Only in files, where asking
    /// costs a system call; in memory a place is found as libtdb finds it.
    fn refill_dead(&self, key: &[u8], hash: u32, data: &[u8]) -> Result<bool, Fault> {
        if self.settings.max_dead == 0 || !matches!(self.space, Space::File(_)) {
            return Ok(false);
        }
        let room = key.len() as u64 + data.len() as u64 + TAILER_BYTES;
        let best = self.fitting_dead(hash, room)?;
        let Some(Placed { offset, record }) = best else { return Ok(false) };
        let lengths = (key.len() as u32, data.len() as u32);
        let record = Record { key_len: lengths.0, data_len: lengths.1, hash, ..record };
        self.write_whole(offset, record, key, data)?;
        // Until here it is as good as deleted.
        self.write_number(offset + MAGIC_AT, magic::USED.into())?;
        Ok(true)
    }

    /// The shortest deleted record of a chain that has this room.
    pub(crate) fn fitting_dead(&self, hash: u32, room: u64) -> Result<Option<Placed>, Fault> {
        let mut best = None;
        match self.quick_fitting_dead(hash, room, &mut best) {
            Some(()) => Ok(best),
            None => self.careful_fitting_dead(hash, room),
        }
    }

    pub(crate) fn careful_fitting_dead(
        &self,
        hash: u32,
        room: u64,
    ) -> Result<Option<Placed>, Fault> {
        let mut walk = self.walk(List::Chain(self.shape.chain(hash)));
        walk.try_fold(None, |best, placed| Ok(tighter(best, placed?, room)))
    }

    /// Finds a place for a new record of a chain: that of a deleted record, or one of the free list.
    /// `may_trim`: the chain may have deleted records, which are freed first.
    fn place(&self, hash: u32, payload: u64, may_trim: bool) -> Result<Placed, Fault> {
        let own = List::Chain(self.shape.chain(hash));
        if 0 < self.settings.max_dead {
            for step in 0..self.shape.hash_size {
                let chain = List::Chain(self.shape.chain(hash.wrapping_add(step)));
                if let Some(_chain) = self.try_lock_list(chain, Kind::Exclusive)?
                    && let Some(place) = self.take_dead(chain, payload)?
                {
                    return Ok(place);
                }
                if let Some(_free) = self.try_lock_list(List::Free, Kind::Exclusive)? {
                    if may_trim {
                        self.trim(own, 0)?;
                    }
                    return self.take(payload);
                }
            }
        }
        let _free = self.lock_list(List::Free, Kind::Exclusive)?;
        if may_trim {
            self.trim(own, 0)?;
        }
        self.take(payload)
    }

    /// Takes the deleted record of a chain that fits best, off its chain.
    fn take_dead(&self, chain: List, payload: u64) -> Result<Option<Placed>, Fault> {
        let mut best: Option<Linked> = None;
        let mut slot = chain.head();
        for placed in self.walk(chain) {
            let placed = placed?;
            let length = placed.record.rec_len;
            let fits =
                placed.record.magic == magic::DEAD && payload + TAILER_BYTES <= u64::from(length);
            let better = best.is_none_or(|best| length < best.placed.record.rec_len);
            // libtdb does not ask whether somebody stands on it, and leads that one astray.
            if fits && better && self.nobody_stands_on(placed.offset)? {
                best = Some(Linked { placed, slot });
            }
            slot = placed.offset;
        }
        let Some(Linked { placed, slot }) = best else { return Ok(None) };
        self.write_number(slot, u64::from(placed.record.next))?;
        Ok(Some(placed))
    }

    /// Frees the deleted records of a chain, all but the first few, if it has more than these.
    pub(crate) fn trim(&self, chain: List, keep: u32) -> Result<(), Fault> {
        let mut dead = 0;
        for placed in self.walk(chain) {
            dead += u32::from(placed?.record.magic == magic::DEAD);
        }
        if keep < dead { self.free_dead(chain, keep) } else { Ok(()) }
    }

    /// As [`Engine::trim`], for who knows that it has more.
    fn free_dead(&self, chain: List, keep: u32) -> Result<(), Fault> {
        let mut locked = None;
        let mut dead = 0;
        let mut slot = chain.head();
        // What is freed no longer leads along the chain, so the whole chain is looked at first.
        for placed in self.list(chain)? {
            let is_dead = placed.record.magic == magic::DEAD;
            dead += u32::from(is_dead);
            if !is_dead || dead <= keep {
                slot = placed.offset;
                continue;
            }
            if locked.is_none() {
                locked = Some(self.lock_list(List::Free, Kind::Exclusive)?);
            }
            if !self.nobody_stands_on(placed.offset)? {
                slot = placed.offset;
                continue;
            }
            self.write_number(slot, u64::from(placed.record.next))?;
            self.give_back(placed.offset, placed.record)?;
        }
        Ok(())
    }

    /// Deletes everything. The recovery area stays where it is.
    pub(crate) fn wipe(&self) -> Result<(), Fault> {
        let size = self.space.refresh()?;
        let start = self.shape.data_start();
        let area = match self.recovery_start()? {
            0 => None,
            at => Some((at, at + self.header_at(at)?.bounded(at, size)?.total())),
        };
        let (first, second) = match area {
            Some((from, to)) => ((start, from), Some((to, size))),
            None => ((start, size), None),
        };
        if let Space::Overlay(overlay) = &self.space {
            overlay.note_old_end(self.end_of_use(size)?);
        }
        let heads = vec![0; (start - List::Free.head()) as usize];
        self.space.write(List::Free.head(), &heads)?;
        for (from, to) in std::iter::once(first).chain(second) {
            if from + RECORD_BYTES < to {
                self.adopt(from, to)?;
            }
        }
        self.count_change()
    }

    /// Counts a change, if this database counts them.
    pub(crate) fn count_change(&self) -> Result<(), Fault> {
        if !self.settings.sequence {
            return Ok(());
        }
        let at = at::SEQUENCE as u64;
        if self.shape.order == ByteOrder::NATIVE && self.space.add_one(at) {
            return Ok(());
        }
        // In a transaction nobody else counts, and in memory nobody else is.
        let shared = matches!(self.space, Space::File(_));
        let bytes = (byte::SEQUENCE, 1);
        if shared {
            let patience = self.locks.patience(Wait::Yes);
            self.locks.take(bytes, Kind::Exclusive, &patience, "the number of changes")?;
        }
        let number = self.number(at).map(|number| number.wrapping_add(1));
        let counted = number.and_then(|number| self.write_number(at, number.into()));
        if shared {
            self.locks.give_up(bytes);
        }
        counted
    }
}

//! Locks of lists, given back by as few calls to the kernel as possible, and by cheap ones.
//!
//! Why: to store a new record takes two locks, and each call about them costs more than all the rest.
//! The byte of the free list stands in front of those of the chains, and a range may be given back of
//! which only the ends are held. And the kernel needs memory to give back a part of what may be held
//! through an open file, but none to give back everything.
//! Invariants: the lock of the free list stays only where one change is done under a lock of its own, so
//! that it is not kept for longer than that change; what lies between two locks is never given back
//! where the handle has anything else locked, nor everything.
//! Source: fcntl(2), "Advisory record locking"; the TDB specification, sections 7 and 8.2.

use super::{Kind, Locks, byte, lock_byte};
use crate::engine::Engine;
use crate::error::Fault;
use crate::header::List;

/// All bytes of a file, and those that it does not have yet.
const EVERYTHING: (u64, u64) = (0, 0);

/// What becomes of the lock of the free list when it is given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Lingering {
    /// It is given back at once.
    #[default]
    No,
    /// It stays until the chain that is being changed is given back.
    Allowed,
    /// It has stayed.
    Held,
}

/// Which of the bytes with a meaning of their own are locked, a bit for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Singles(u8);

impl Singles {
    pub(super) fn with(self, bytes: (u64, u64)) -> Self {
        Self(self.0 | bit(bytes))
    }

    pub(super) fn without(self, bytes: (u64, u64)) -> Self {
        Self(self.0 & !bit(bytes))
    }
}

/// The bit of a byte with a meaning of its own; none for ranges of lists.
fn bit((offset, _): (u64, u64)) -> u8 {
    match offset {
        byte::OPEN => 1,
        byte::ACTIVE => 2,
        byte::TRANSACTION => 4,
        byte::SEQUENCE => 8,
        _ => 0,
    }
}

/// The lock of a chain for the time of one change.
#[derive(Debug)]
pub(crate) struct Changing<'a> {
    locks: &'a Locks,
    list: List,
    /// Whether it is this lock that keeps that of the free list.
    keeps: bool,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let lingering = match self.keeps {
            true => self.locks.lingering.take(),
            false => Lingering::No,
        };
        if lingering == Lingering::Held {
            self.locks.release_both(self.list);
        } else {
            self.locks.release_list(self.list);
        }
    }
}

impl Locks {
    /// Whether this list, taken once, is all that this handle has locked, and by a byte of the file.
    fn is_alone(&self, list: List) -> bool {
        let held = self.held.borrow();
        let only = matches!(held[..], [held] if held.offset == lock_byte(list) && held.count == 1);
        only && self.mutexes.is_none()
    }

    /// Gives back a chain, and the free list, which this handle no longer counts.
    fn release_both(&self, chain: List) {
        let (free, byte) = (lock_byte(List::Free), lock_byte(chain));
        if self.is_alone(chain) {
            self.held.borrow_mut().clear();
            self.give_up_lists((free, byte + 1 - free));
        } else {
            self.give_up((free, 1));
            self.release_list(chain);
        }
    }

    /// Gives back lists, which this handle no longer counts.
    pub(super) fn give_up_lists(&self, lists: (u64, u64)) {
        let nothing_else = self.held.borrow().is_empty()
            && self.all.get().is_none()
            && self.singles.get() == Singles::default()
            && self.lingering.get() != Lingering::Held;
        self.give_up(if nothing_else { EVERYTHING } else { lists });
    }

    /// What comes may take long: the lock of the free list is to be given back whenever it can be.
    pub(crate) fn linger_no_more(&self) {
        if self.lingering.take() == Lingering::Held {
            self.give_up((lock_byte(List::Free), 1));
        }
    }

    /// The lock of the free list is wanted again; true if it has stayed.
    pub(super) fn resume(&self, list: List) -> bool {
        let has_stayed = list == List::Free && self.lingering.get() == Lingering::Held;
        if has_stayed {
            self.lingering.set(Lingering::Allowed);
        }
        has_stayed
    }

    /// The lock of a list is no longer wanted; true if it stays for now.
    pub(super) fn linger(&self, list: List) -> bool {
        let stays = list == List::Free && self.lingering.get() == Lingering::Allowed;
        if stays {
            self.lingering.set(Lingering::Held);
        }
        stays
    }
}

impl Engine {
    /// Locks a chain for one change, which is over when the lock goes.
    pub(crate) fn lock_to_change(&self, chain: List) -> Result<Changing<'_>, Fault> {
        std::mem::forget(self.lock_list(chain, Kind::Exclusive)?);
        let locks = &self.locks;
        let keeps = locks.is_alone(chain);
        if keeps {
            locks.lingering.set(Lingering::Allowed);
        }
        Ok(Changing { locks, list: chain, keeps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locks::Wait;
    use crate::os::range;
    use crate::{Create, Database, Options, Store};
    use std::fs::File;

    /// Which of these bytes another opening of the file could lock.
    fn free_bytes(path: &std::path::Path, bytes: std::ops::Range<u64>) -> Vec<u64> {
        let other = File::options().read(true).write(true).open(path).unwrap();
        bytes.filter(|at| range::probe(&other, Kind::Exclusive, *at, 1).unwrap()).collect()
    }

    fn database() -> (tempfile::NamedTempFile, Database) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let options = Options::new().hash_size(7).create(Create::Missing);
        let database = options.open(file.path()).unwrap();
        (file, database)
    }

    #[test]
    fn after_a_change_nothing_is_locked_and_during_one_what_was_touched() {
        let (file, mut database) = database();
        let all = 160..200;
        let chain = lock_byte(List::Chain(2));
        let engine = &database.engine;
        {
            let _chain = engine.lock_to_change(List::Chain(2)).unwrap();
            drop(engine.lock_list(List::Free, Kind::Exclusive).unwrap());
            assert_eq!(engine.locks.lingering.get(), Lingering::Held);
            // It is not taken again, and stays again.
            drop(engine.lock_list(List::Free, Kind::Exclusive).unwrap());
            let free = free_bytes(file.path(), all.clone());
            let expected: Vec<u64> =
                all.clone().filter(|at| ![chain, lock_byte(List::Free)].contains(at)).collect();
            assert_eq!(free, expected);
        }
        assert_eq!(free_bytes(file.path(), all.clone()), all.clone().collect::<Vec<_>>());
        database.store(b"k", b"v", Store::Insert).unwrap();
        database.store(b"k", &[b'w'; 500], Store::Modify).unwrap();
        database.delete(b"k").unwrap();
        assert_eq!(free_bytes(file.path(), all.clone()), all.collect::<Vec<_>>());
        assert_eq!(database.engine.locks.lingering.get(), Lingering::No);
    }

    #[test]
    fn what_else_is_locked_stays_so_when_a_list_is_given_back() {
        let (file, database) = database();
        let (engine, patience) = (&database.engine, database.engine.locks.patience(Wait::No));
        for single in [byte::OPEN, byte::TRANSACTION, byte::SEQUENCE] {
            engine.locks.take((single, 1), Kind::Exclusive, &patience, "it").unwrap();
            drop(engine.lock_to_change(List::Chain(1)).unwrap());
            let chain = engine.lock_to_change(List::Chain(1)).unwrap();
            drop(engine.lock_list(List::Free, Kind::Exclusive).unwrap());
            drop(chain);
            assert!(!free_bytes(file.path(), single..single + 1).contains(&single), "{single}");
            assert_eq!(free_bytes(file.path(), 160..200).len(), 40);
            engine.locks.give_up((single, 1));
        }
        let kept = engine.lock_list(List::Chain(3), Kind::Exclusive).unwrap();
        let chain = engine.lock_to_change(List::Chain(5)).unwrap();
        drop(engine.lock_list(List::Free, Kind::Exclusive).unwrap());
        drop(chain);
        let locked = lock_byte(List::Chain(3));
        assert!(!free_bytes(file.path(), 160..200).contains(&locked));
        assert_eq!(free_bytes(file.path(), 160..200).len(), 39);
        drop(kept);
    }

    #[test]
    fn a_chain_that_the_user_has_locked_keeps_its_lock_and_the_free_list_goes_at_once() {
        let (file, mut database) = database();
        let chain = lock_byte(database.engine.chain_of(b"k"));
        let mut locked = database.lock(b"k").unwrap();
        locked.store(b"k", b"v", Store::Insert).unwrap();
        locked.delete(b"k").unwrap();
        let expected: Vec<u64> = (160..200).filter(|at| *at != chain).collect();
        assert_eq!(free_bytes(file.path(), 160..200), expected);
        drop(locked);
        assert_eq!(free_bytes(file.path(), 160..200).len(), 40);
    }

    #[test]
    fn a_change_that_fails_gives_back_both() {
        let (file, mut database) = database();
        database.store(b"k", b"v", Store::Insert).unwrap();
        // A free list that leads to itself.
        let head = List::Free.head();
        database.engine.write_number(head, head).unwrap();
        let too_long = vec![0; 1000];
        assert!(database.store(b"other", &too_long, Store::Insert).is_err());
        assert_eq!(free_bytes(file.path(), 160..200).len(), 40);
    }
}

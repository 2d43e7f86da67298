//! Who may look at or change which list, now.
//!
//! A list is locked by one byte of the file, a record by the byte at its offset, all lists together
//! by the range behind the header. The numbers are libtdb's, so that its processes and ours keep
//! each other out.
//!
//! Why no lock on a record is ever held here: libtdb's walkers hold one while they wait for the next
//! chain, and two such waits can stand against each other for ever. A walk here copies a chain under
//! its lock instead. The locks of others are respected: a record that somebody stands on is not freed.
//! Invariants: every wait has a deadline; a wait that can be part of a circle gives up what it holds
//! before it tries again; a lock that was obtained is given back when its guard goes; before anything
//! is believed under a first lock, an interrupted transaction is undone.
//! Source: the TDB specification, sections 7 to 9, 14.6, 21 and 22.1.

use crate::engine::Engine;
use crate::error::Fault;
use crate::header::{HEADER_BYTES, List};
use crate::mutexes::Mutexes;
use crate::os::mutex::{self, MutexArea};
use crate::os::range;
pub(crate) use crate::os::range::Kind;
use crate::patience::{Canceller, Patience};
use crate::sign::Sign;
use crate::space::Space;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use together::{Lingering, Singles};
use waiting::{Waits, granted, lock_mutex};

mod together;
mod turn;
mod waiting;

/// Bytes of the file whose locks have a meaning of their own.
pub(crate) mod byte {
    /// Held while a database is opened, and while a transaction is written.
    pub(crate) const OPEN: u64 = 0;
    /// Held, shared, by everybody who has the database open and says so.
    pub(crate) const ACTIVE: u64 = 4;
    /// Held for the length of a transaction.
    pub(crate) const TRANSACTION: u64 = 8;
    /// Held to count a change where that can't be done in one step.
    pub(crate) const SEQUENCE: u64 = 48;
}

/// Where the range of all lists and records begins.
const ALL: u64 = HEADER_BYTES as u64;
/// How long the locks of all chains are kept while a record is waited for: whoever stands on it may
/// wait for one of the chains.
const CIRCLE_WAIT: Duration = Duration::from_millis(20);

/// The locks of one handle.
#[derive(Debug)]
pub(crate) struct Locks {
    /// The open file that holds them; `None` where nobody else can be.
    file: Option<Arc<File>>,
    /// What is locked instead of the bytes of lists, in a file that has mutexes.
    mutexes: Option<RefCell<Mutexes>>,
    /// How long a wait may take.
    pub(crate) limit: Cell<Duration>,
    pub(crate) canceller: Canceller,
    /// Lists that are locked; mostly one or two.
    held: RefCell<Vec<Held>>,
    all: Cell<Option<All>>,
    /// Which bytes with a meaning of their own are locked through this open file.
    singles: Cell<Singles>,
    lingering: Cell<Lingering>,
    sign: Option<Arc<Sign>>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    /// The byte that stands for the list.
    offset: u64,
    kind: Kind,
    count: u32,
}

#[derive(Clone, Copy, Debug)]
struct All {
    kind: Kind,
    count: u32,
}

/// A lock on a list, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    locks: &'a Locks,
    list: List,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.locks.release_list(self.list);
    }
}

/// A lock on all lists, for as long as this lives.
#[derive(Debug)]
pub(crate) struct LockedAll<'a> {
    locks: &'a Locks,
}

impl Drop for LockedAll<'_> {
    fn drop(&mut self) {
        self.locks.release_all();
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        // The sign may keep the file open. What a forgotten guard has locked ends here all the same. Only
        // then: after a fork, the locks of the other process are those of the same open file.
        let is_held = self.all.get().is_some() || !self.held.get_mut().is_empty();
        if self.sign.is_some() && is_held {
            self.give_up((0, byte::ACTIVE));
            self.give_up((byte::ACTIVE + 1, 0));
        }
    }
}

/// Whether a lock waits for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// Up to the limit of the handle.
    Yes,
    /// Not at all.
    No,
}

impl Locks {
    pub(crate) fn new(file: Option<Arc<File>>, limit: Duration) -> Self {
        Self {
            file,
            mutexes: None,
            limit: Cell::new(limit),
            canceller: Canceller::default(),
            held: RefCell::new(Vec::new()),
            all: Cell::new(None),
            singles: Cell::default(),
            lingering: Cell::default(),
            sign: None,
        }
    }

    /// Keeps the sign that the file is in use until the handle is closed.
    pub(crate) fn show(&mut self, sign: Arc<Sign>) {
        self.sign = Some(sign);
    }

    /// Locks the mutexes of this area instead of the bytes of lists.
    pub(crate) fn use_mutexes(&mut self, area: MutexArea) {
        self.mutexes = Some(RefCell::new(Mutexes::new(Arc::new(area))));
    }

    #[cfg(test)]
    pub(crate) fn file(&self) -> Option<Arc<File>> {
        self.file.clone()
    }

    /// True if nothing of this handle needs to be locked.
    pub(crate) fn are_off(&self) -> bool {
        self.file.is_none()
    }

    pub(crate) fn patience(&self, wait: Wait) -> Patience<'_> {
        let limit = if wait == Wait::Yes { self.limit.get() } else { Duration::ZERO };
        Patience::new(limit, &self.canceller)
    }

    /// Takes a lock on bytes, whatever this handle holds of them already.
    pub(crate) fn take(
        &self,
        (offset, length): (u64, u64),
        kind: Kind,
        patience: &Patience<'_>,
        what: &'static str,
    ) -> Result<(), Fault> {
        while !self.try_take((offset, length), kind)? {
            patience.pause(what)?;
        }
        Ok(())
    }

    /// Takes a lock on bytes if nobody holds it.
    pub(crate) fn try_take(&self, bytes: (u64, u64), kind: Kind) -> Result<bool, Fault> {
        let Some(file) = &self.file else { return Ok(true) };
        let taken = range::try_lock(file, kind, bytes.0, bytes.1);
        let is_taken = taken.map_err(|why| failed(bytes.0, why))?;
        if is_taken {
            self.singles.set(self.singles.get().with(bytes));
        }
        Ok(is_taken)
    }

    pub(crate) fn give_up(&self, (offset, length): (u64, u64)) {
        if let Some(file) = &self.file {
            self.singles.set(self.singles.get().without((offset, length)));
            // It can only fail for a file or a range that there is not, and this one was locked.
            let _unlocked = range::unlock(file, offset, length);
        }
    }

    /// Locks a list; true if it is the first list that this handle has locked.
    fn take_list(&self, list: List, kind: Kind, patience: &Patience<'_>) -> Result<bool, Fault> {
        if let Some(all) = self.all.get() {
            return covers(all.kind, kind).map(|()| false);
        }
        if self.are_off() {
            return Ok(false);
        }
        let offset = lock_byte(list);
        let mut held = self.held.borrow_mut();
        let is_first = held.is_empty();
        let place = held.iter().position(|held| held.offset == offset);
        let before = place.and_then(|place| held.get(place).copied());
        let before = before.unwrap_or(Held { offset, kind, count: 0 });
        let is_more = before.count == 0 || (before.kind, kind) == (Kind::Shared, Kind::Exclusive);
        match &self.mutexes {
            // A mutex has one owner, whatever he wants to do.
            Some(mutexes) if before.count == 0 => {
                let mut mutexes = mutexes.borrow_mut();
                // Who has a chain keeps others from having all records, and may have to give way to
                // them at once: he does not stand by for another one. Nor does who only reads: he is
                // let in where those in front are not.
                let queues = is_first && kind == Kind::Exclusive || list == List::Free;
                let mut locked = Ok(mutex::Locked::Busy);
                if !queues || self.may_pass(offset, patience) {
                    locked = lock_mutex(&mut mutexes, list, kind, Waits::No);
                }
                if let Ok(mutex::Locked::Busy) = locked {
                    let mut lock =
                        |waits: Waits<'_, '_>| lock_mutex(&mut mutexes, list, kind, waits);
                    locked = self.wait_for_mutex(offset, patience, queues, &mut lock);
                }
                granted(locked, offset, patience, "a list")?;
            }
            Some(mutexes) if is_more && !mutexes.borrow().may_change() => {
                return Err(patience.over("a list that another reads in a transaction"));
            }
            // Two that both read and both want to change wait for each other, and this one keeps
            // what it has: it does not wait for long.
            None if is_more && 0 < before.count => {
                self.take((offset, 1), kind, &patience.at_most(CIRCLE_WAIT), "a list")?;
            }
            None if is_more && !self.resume(list) => {
                self.take_in_turn(offset, kind, patience, "a list")?;
            }
            Some(_) | None => {}
        }
        let kind = if is_more { kind } else { before.kind };
        let now = Held { offset, kind, count: before.count + 1 };
        match place.and_then(|place| held.get_mut(place)) {
            Some(entry) => *entry = now,
            None => held.push(now),
        }
        Ok(is_first)
    }

    pub(crate) fn release_list(&self, list: List) {
        if self.are_off() || self.all.get().is_some() {
            return;
        }
        let offset = lock_byte(list);
        let mut held = self.held.borrow_mut();
        let Some(place) = held.iter().position(|held| held.offset == offset) else { return };
        let Some(entry) = held.get_mut(place) else { return };
        entry.count -= 1;
        if entry.count == 0 {
            held.swap_remove(place);
            drop(held);
            if !self.linger(list) {
                self.free_list_lock(list, offset);
            }
        }
    }

    fn free_list_lock(&self, list: List, offset: u64) {
        let Some(mutexes) = &self.mutexes else { return self.give_up_lists((offset, 1)) };
        let mut mutexes = mutexes.borrow_mut();
        // It can only fail where the file no longer says that it is ours, and then it is nobody's.
        let _unlocked = match list {
            List::Free => mutexes.free_unlock(),
            List::Chain(chain) => mutexes.chain_unlock(chain),
        };
    }

    /// Locks all lists and records.
    fn take_all(&self, kind: Kind, chains: u32, patience: &Patience<'_>) -> Result<bool, Fault> {
        if let Some(all) = self.all.get() {
            covers(all.kind, kind)?;
            self.all.set(Some(All { count: all.count + 1, ..all }));
            return Ok(false);
        }
        if !self.held.borrow().is_empty() {
            return Err(Fault::WrongOrder { what: "all lists while one is locked" });
        }
        let heads = 4 * u64::from(chains);
        if let Some(mutexes) = &self.mutexes {
            let mut wait = Waits::Yes(patience);
            let rest = |kind| self.try_take((ALL + heads, 0), kind).map_err(io::Error::other);
            let locked = mutexes.borrow_mut().all_lock(kind, &mut wait, rest);
            granted(locked, ALL, patience, "all lists")?;
            self.all.set(Some(All { kind, count: 1 }));
            return Ok(true);
        }
        loop {
            let taken = self.take_gradually((ALL, heads), kind, patience).and_then(|()| {
                let short = patience.at_most(CIRCLE_WAIT);
                self.take((ALL + heads, 0), kind, &short, "a record")
            });
            match taken {
                Ok(()) => break,
                Err(fault) => {
                    self.give_up((ALL, 0));
                    if !matches!(fault, Fault::Busy { .. }) {
                        return Err(fault);
                    }
                    patience.pause("all lists")?;
                }
            }
        }
        self.all.set(Some(All { kind, count: 1 }));
        Ok(true)
    }

    /// Takes a range piece by piece where it can't be had as a whole: a range of which some part is
    /// always held by somebody would never be free.
    fn take_gradually(
        &self,
        (offset, length): (u64, u64),
        kind: Kind,
        patience: &Patience<'_>,
    ) -> Result<(), Fault> {
        if length <= 4 {
            return self.take((offset, length), kind, patience, "a list");
        }
        if self.try_take((offset, length), kind)? {
            return Ok(());
        }
        let half = length / 2;
        self.take_gradually((offset, half), kind, patience)?;
        self.take_gradually((offset + half, length - half), kind, patience)
    }

    pub(crate) fn release_all(&self) {
        let Some(all) = self.all.get() else { return };
        if 1 < all.count {
            self.all.set(Some(All { count: all.count - 1, ..all }));
            return;
        }
        self.all.set(None);
        self.free_all();
    }

    fn free_all(&self) {
        if let Some(mutexes) = &self.mutexes {
            // It can only fail where it is not held.
            let _unlocked = mutexes.borrow_mut().all_unlock(|| Ok(()));
        }
        self.give_up((ALL, 0));
    }

    /// Gives up what a transaction holds, which is everything but the sign that the database is open.
    pub(crate) fn release_everything(&self) {
        if self.all.take().is_some() {
            self.free_all();
        }
        for bytes in [(byte::TRANSACTION, 1), (byte::OPEN, 1)] {
            self.give_up(bytes);
        }
    }

    /// Records the lock on everything as an exclusive one: it has become one, or it is that of a
    /// transaction, which writes beside the file.
    pub(crate) fn count_as_exclusive(&self) {
        if let Some(all) = self.all.get() {
            self.all.set(Some(All { kind: Kind::Exclusive, ..all }));
        }
    }

    /// Fails if this handle holds a list, or all of them.
    pub(crate) fn none_is_held(&self, what: &'static str) -> Result<(), Fault> {
        if self.all.get().is_none() && self.held.borrow().is_empty() {
            return Ok(());
        }
        Err(Fault::WrongOrder { what })
    }

    /// Makes the shared lock on everything an exclusive one.
    pub(crate) fn upgrade_all(&self, chains: u32) -> Result<(), Fault> {
        if self.all.get().is_none() {
            return Err(Fault::WrongOrder { what: "more than nothing" });
        }
        let patience = self.patience(Wait::Yes);
        let what = "all that others read";
        let Some(mutexes) = &self.mutexes else {
            return self.take((ALL, 0), Kind::Exclusive, &patience, what);
        };
        let rest = ALL + 4 * u64::from(chains);
        let rest = |kind| self.try_take((rest, 0), kind).map_err(io::Error::other);
        let locked = mutexes.borrow_mut().all_upgrade(&mut Waits::Yes(&patience), rest);
        granted(locked, ALL, &patience, what)
    }

    /// Whether a record may be taken off its list: nobody walks from it to the next.
    fn nobody_stands_on(&self, offset: u64) -> Result<bool, Fault> {
        match self.all.get() {
            // Nobody can stand anywhere.
            Some(All { kind: Kind::Exclusive, .. }) => return Ok(true),
            Some(All { kind: Kind::Shared, .. }) => return Ok(false),
            None => {}
        }
        let Some(file) = &self.file else { return Ok(true) };
        range::probe(file, Kind::Exclusive, offset, 1).map_err(|why| failed(offset, why))
    }
}

/// The byte that is locked for a list.
fn lock_byte(list: List) -> u64 {
    match list {
        List::Free => ALL - 4,
        List::Chain(chain) => ALL + 4 * u64::from(chain),
    }
}

fn covers(has: Kind, wanted: Kind) -> Result<(), Fault> {
    if (has, wanted) == (Kind::Shared, Kind::Exclusive) {
        return Err(Fault::WrongOrder { what: "a change while all lists are locked for reading" });
    }
    Ok(())
}

fn failed(offset: u64, source: io::Error) -> Fault {
    Fault::Io { action: "lock", offset, source }
}

impl Engine {
    pub(crate) fn lock_list(&self, list: List, kind: Kind) -> Result<Locked<'_>, Fault> {
        self.lock_list_for(list, kind, Wait::Yes)
    }

    /// `None` if somebody else has it.
    pub(crate) fn try_lock_list(
        &self,
        list: List,
        kind: Kind,
    ) -> Result<Option<Locked<'_>>, Fault> {
        match self.lock_list_for(list, kind, Wait::No) {
            Ok(locked) => Ok(Some(locked)),
            Err(Fault::Busy { .. }) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    pub(crate) fn lock_list_for(
        &self,
        list: List,
        kind: Kind,
        wait: Wait,
    ) -> Result<Locked<'_>, Fault> {
        let patience = self.locks.patience(wait);
        if let Space::File(file) = &self.space {
            // A lock lets nothing that comes after it begin before it is taken.
            file.prefetch_list(list.head());
        }
        loop {
            let is_first = self.locks.take_list(list, kind, &patience)?;
            let locked = Locked { locks: &self.locks, list };
            if !is_first || self.locks.are_off() || !self.needs_recovery()? {
                return Ok(locked);
            }
            drop(locked);
            self.lock_and_recover()?;
        }
    }

    pub(crate) fn lock_all(&self, kind: Kind, wait: Wait) -> Result<LockedAll<'_>, Fault> {
        let patience = self.locks.patience(wait);
        loop {
            let is_first = self.locks.take_all(kind, self.shape.hash_size, &patience)?;
            let locked = LockedAll { locks: &self.locks };
            if !is_first || self.locks.are_off() || !self.needs_recovery()? {
                return Ok(locked);
            }
            drop(locked);
            self.lock_and_recover()?;
        }
    }

    pub(crate) fn nobody_stands_on(&self, offset: u64) -> Result<bool, Fault> {
        self.locks.nobody_stands_on(offset)
    }
}

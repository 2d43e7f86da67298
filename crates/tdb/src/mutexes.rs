//! Who waits for whom in a file with mutexes: one chain, the free list, or all records.
//!
//! Whoever wants all records first says so in the file, then passes through the mutex of each chain,
//! so that those who had one are gone; who comes later sees the word and waits on the mutex of all
//! records. Records that others stand on while they traverse are locked by ranges of the file even
//! here, so that part is taken as well, by a function of the caller's.
//!
//! ```text
//! chain:  lock chain ── nobody has all ──────────────────────────► ours
//!              └─ somebody has: unlock chain, lock all, unlock all ─► again
//! all:    lock all, say so, for each chain: lock, unlock ── rest free ─► ours
//!              └─ rest held: say no, unlock all, pause ─────────────────► again
//! more:   rest free, say exclusive, for each chain: lock, unlock ────────► ours alone
//!              └─ rest held, or a chain stays held: say shared, pause ──────► again
//! ```
//!
//! Why the rest is only tried: a traverser of libtdb keeps its record while it waits for the next
//! chain. Whoever waits for that record, having said that all is his, waits for ever. Hence
//! everything is given back, so that the traverser can go on, and tried again.
//! Invariants: what is said in the file is said only while the mutex of all records is held; whoever
//! gets that mutex and still reads that somebody has all records, reads the word of a dead one, and
//! takes it back; every wait ends.
//! Source: the TDB specification, sections 15.4, 15.5 and 22.1.

use crate::os::mutex::{Locked, MutexArea, State, Wait, Which};
use crate::os::range::Kind;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a chain is tried before others were faster too often. Each time, somebody had all
/// records in between.
const ROUNDS_MAX: u32 = 1000;

/// What the mutexes of a file can do.
pub(crate) trait Primitives {
    /// See [`MutexArea::lock`].
    fn lock(&self, which: Which, wait: Wait) -> io::Result<Locked>;
    /// See [`MutexArea::unlock`].
    fn unlock(&self, which: Which) -> io::Result<()>;
    /// See [`MutexArea::state`].
    fn state(&self) -> State;
    /// See [`MutexArea::set_state`].
    fn set_state(&self, state: State);
    /// See [`MutexArea::hash_size`].
    fn hash_size(&self) -> u32;
}

impl Primitives for Arc<MutexArea> {
    fn lock(&self, which: Which, wait: Wait) -> io::Result<Locked> {
        MutexArea::lock(self, which, wait)
    }

    fn unlock(&self, which: Which) -> io::Result<()> {
        MutexArea::unlock(self, which)
    }

    fn state(&self) -> State {
        MutexArea::state(self)
    }

    fn set_state(&self, state: State) {
        MutexArea::set_state(self, state);
    }

    fn hash_size(&self) -> u32 {
        MutexArea::hash_size(self)
    }
}

/// How long somebody waits. A mutex can't be waited for until it is free or somebody says stop, so it
/// is waited for in stretches, between which that is asked.
pub(crate) trait Waiting {
    /// The next stretch, which ends later than now; [`Wait::No`] when the time is over, or the wait
    /// was called off.
    fn stretch(&mut self) -> Wait;
    /// Pauses before the next try, longer each time; `false`, at once, when there is none.
    fn pause(&mut self) -> bool;
}

/// What one handle holds of the mutexes of its file. A mutex belongs to the thread that locked it,
/// so the same thread has to give it back; what is held when this ends is given back.
#[derive(Debug)]
pub(crate) struct Mutexes<P: Primitives = Arc<MutexArea>> {
    area: P,
    /// Mostly one or two.
    chains: Vec<u32>,
    free: bool,
    all: Option<Kind>,
    /// The first of the chains was had while another had all records shared.
    beside_shared: bool,
}

impl<P: Primitives> Mutexes<P> {
    pub(crate) fn new(area: P) -> Self {
        Self { area, chains: Vec::new(), free: false, all: None, beside_shared: false }
    }

    /// Locks a chain. Shared or not, nobody else gets it; but a shared one is granted while another
    /// has all records shared.
    ///
    /// # Errors
    /// If this handle has it already, alone or with all others; or see [`MutexArea::lock`].
    pub(crate) fn chain_lock(
        &mut self,
        kind: Kind,
        chain: u32,
        wait: &mut impl Waiting,
    ) -> io::Result<Locked> {
        let which = Which::Chain(chain);
        if self.all.is_some() || self.chains.contains(&chain) {
            return Err(misused(which, "is held already by this handle"));
        }
        // Who has a chain keeps everybody from having all records, and must not wait for them.
        let is_second = !self.chains.is_empty();
        let mut died = false;
        for _ in 0..ROUNDS_MAX {
            died |= match self.lock(which, wait)? {
                Locked::Busy => return Ok(Locked::Busy),
                Locked::OwnerDied => true,
                Locked::Yes => false,
            };
            let state = self.area.state();
            let admitted = if is_second {
                kind == Kind::Shared || !self.beside_shared
            } else {
                admits(state, kind)
            };
            if admitted {
                self.beside_shared |= !is_second && state == State::Shared;
                self.chains.push(chain);
                return Ok(if died { Locked::OwnerDied } else { Locked::Yes });
            }
            self.area.unlock(which)?;
            // Who has all records waits for the chain that this handle has: that one goes first.
            if is_second || self.lock(Which::AllRecord, wait)? == Locked::Busy {
                return Ok(Locked::Busy);
            }
            died |= self.forget_dead_holder();
            self.area.unlock(Which::AllRecord)?;
        }
        Ok(Locked::Busy)
    }

    /// Gives a chain back.
    pub(crate) fn chain_unlock(&mut self, chain: u32) -> io::Result<()> {
        let which = Which::Chain(chain);
        let Some(place) = self.chains.iter().position(|held| *held == chain) else {
            return Err(misused(which, "is not held by this handle"));
        };
        self.chains.swap_remove(place);
        self.beside_shared &= !self.chains.is_empty();
        self.area.unlock(which)
    }

    /// Whether a chain that is held to be read may be changed as well. Not if it was had while
    /// another had all records shared: that one may be in a transaction, and believes that nothing
    /// changes.
    pub(crate) fn may_change(&self) -> bool {
        !self.beside_shared
    }

    /// Locks the free list. It may be had while another has all records, and asks nobody else.
    pub(crate) fn free_lock(&mut self, wait: &mut impl Waiting) -> io::Result<Locked> {
        if self.free {
            return Err(misused(Which::Free, "is held already by this handle"));
        }
        let locked = self.lock(Which::Free, wait)?;
        self.free = locked != Locked::Busy;
        Ok(locked)
    }

    /// Gives the free list back.
    pub(crate) fn free_unlock(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.free) {
            return Err(misused(Which::Free, "is not held by this handle"));
        }
        self.area.unlock(Which::Free)
    }

    /// Locks all records. `try_rest` tries, once and without waiting, to lock the range of the file
    /// behind the list heads in the same way, and says whether it could. While another has all
    /// records, shared or not, nobody else gets them.
    ///
    /// # Errors
    /// If this handle holds a chain, or all records already; if `try_rest` fails; or see
    /// [`MutexArea::lock`]. Nothing is held then.
    pub(crate) fn all_lock(
        &mut self,
        kind: Kind,
        wait: &mut impl Waiting,
        mut try_rest: impl FnMut(Kind) -> io::Result<bool>,
    ) -> io::Result<Locked> {
        if self.all.is_some() || !self.chains.is_empty() {
            return Err(misused(Which::AllRecord, "or one of a chain is held by this handle"));
        }
        let mut died = false;
        loop {
            died |= match self.lock(Which::AllRecord, wait)? {
                Locked::Busy => return Ok(Locked::Busy),
                Locked::OwnerDied => true,
                Locked::Yes => false,
            };
            died |= self.forget_dead_holder();
            self.area.set_state(said(kind));
            let outcome = self.everybody_out(wait, &mut died).and_then(|out| match out {
                true => try_rest(kind),
                false => Ok(false),
            });
            if let Ok(true) = outcome {
                self.all = Some(kind);
                return Ok(if died { Locked::OwnerDied } else { Locked::Yes });
            }
            self.area.set_state(State::Unlocked);
            self.area.unlock(Which::AllRecord)?;
            outcome?;
            if !wait.pause() {
                return Ok(Locked::Busy);
            }
        }
    }

    /// Makes all records, held shared, exclusive. Not granted means still shared: whoever stands on
    /// a record may himself wait for us, so the caller has to give all of it back.
    ///
    /// # Errors
    /// If this handle does not have all records; or as [`Mutexes::all_lock`].
    pub(crate) fn all_upgrade(
        &mut self,
        wait: &mut impl Waiting,
        mut try_rest: impl FnMut(Kind) -> io::Result<bool>,
    ) -> io::Result<Locked> {
        match self.all {
            Some(Kind::Exclusive) => return Ok(Locked::Yes),
            Some(Kind::Shared) => {}
            None => return Err(misused(Which::AllRecord, "is not held by this handle")),
        }
        let mut died = false;
        loop {
            // The rest first, without a word: then nobody stands on a record. Who did, and met the
            // word, would sleep on the mutex of all records, and nobody could wake him.
            let outcome = try_rest(Kind::Exclusive).and_then(|rest| match rest {
                true => self.say_and_pass(&mut died, &mut try_rest),
                false => Ok(false),
            });
            if outcome? {
                self.all = Some(Kind::Exclusive);
                return Ok(if died { Locked::OwnerDied } else { Locked::Yes });
            }
            if !wait.pause() {
                return Ok(Locked::Busy);
            }
        }
    }

    /// Says that all is exclusive, and passes through every chain, not waiting for long: who has one
    /// may want a record, which the rest of the lock keeps from him. If he stays, all is shared again.
    fn say_and_pass(
        &self,
        died: &mut bool,
        try_rest: &mut impl FnMut(Kind) -> io::Result<bool>,
    ) -> io::Result<bool> {
        self.area.set_state(State::Exclusive);
        let out = self.everybody_out(&mut Short::new(), died);
        if !matches!(out, Ok(true)) {
            self.area.set_state(State::Shared);
            // From exclusive to shared, which nobody can refuse.
            try_rest(Kind::Shared)?;
        }
        out
    }

    /// Gives all records back; `release_rest` unlocks the range that `try_rest` locked.
    pub(crate) fn all_unlock(
        &mut self,
        release_rest: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        if self.all.take().is_none() {
            return Err(misused(Which::AllRecord, "is not held by this handle"));
        }
        self.area.set_state(State::Unlocked);
        let unlocked = self.area.unlock(Which::AllRecord);
        let released = release_rest();
        unlocked.and(released)
    }

    /// Locks a mutex, by one stretch of the wait after the other.
    fn lock(&self, which: Which, waiting: &mut impl Waiting) -> io::Result<Locked> {
        let mut wait = Wait::No;
        loop {
            let locked = self.area.lock(which, wait)?;
            if locked != Locked::Busy {
                return Ok(locked);
            }
            // Asked only now: mostly nobody has it, and to look at the clock costs more than that.
            wait = waiting.stretch();
            if wait == Wait::No {
                return Ok(Locked::Busy);
            }
        }
    }

    /// Passes through every chain, so that those who came before the word was said are gone.
    /// `false`: one of them stayed until the time was over.
    fn everybody_out(&self, wait: &mut impl Waiting, died: &mut bool) -> io::Result<bool> {
        for chain in 0..self.area.hash_size() {
            let which = Which::Chain(chain);
            match self.lock(which, wait)? {
                Locked::Busy => return Ok(false),
                Locked::OwnerDied => *died = true,
                Locked::Yes => {}
            }
            self.area.unlock(which)?;
        }
        Ok(true)
    }

    /// For whoever has the mutex of all records: what is said of others is of a dead one. Tells
    /// whether there was such a word.
    fn forget_dead_holder(&self) -> bool {
        let was_said = self.area.state() != State::Unlocked;
        if was_said {
            self.area.set_state(State::Unlocked);
        }
        was_said
    }
}

impl<P: Primitives> Drop for Mutexes<P> {
    fn drop(&mut self) {
        // What can't be given back is freed by the kernel when the thread ends.
        for chain in std::mem::take(&mut self.chains) {
            let _ = self.area.unlock(Which::Chain(chain));
        }
        if std::mem::take(&mut self.free) {
            let _ = self.area.unlock(Which::Free);
        }
        if self.all.is_some() {
            // The range of the file is given back by who locked it.
            let _ = self.all_unlock(|| Ok(()));
        }
    }
}

/// A wait that somebody else may be waiting for.
struct Short {
    end: Instant,
}

/// Long enough for whoever has a chain and wants nothing else.
const SHORT: Duration = Duration::from_millis(20);

impl Short {
    fn new() -> Self {
        let now = Instant::now();
        Self { end: now.checked_add(SHORT).unwrap_or(now) }
    }
}

impl Waiting for Short {
    fn stretch(&mut self) -> Wait {
        if Instant::now() < self.end { Wait::Until(self.end) } else { Wait::No }
    }

    fn pause(&mut self) -> bool {
        false
    }
}

/// Whether a chain may be had while this is said of all records.
fn admits(state: State, kind: Kind) -> bool {
    match state {
        State::Unlocked => true,
        State::Shared => kind == Kind::Shared,
        State::Exclusive => false,
    }
}

fn said(kind: Kind) -> State {
    match kind {
        Kind::Shared => State::Shared,
        Kind::Exclusive => State::Exclusive,
    }
}

fn misused(which: Which, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{which} {why}"))
}

#[cfg(test)]
mod tests;

//! Who of this process asks the kernel for a lock that somebody has: mostly no more than two.
//!
//! Why: who waits has to ask again and again, since a blocked request could not be given up. If 64
//! threads do so for the same lock, they are woken for nothing most of the time, and together get less
//! done than two. So the others stand by until one in front has it, or has given up. Those who come
//! while the lock is free do not ask whose turn it is: that is what makes a lock fast. But once one in
//! front has asked in vain for some time, they queue behind him. If for longer nobody gets it, more
//! ask: then it is held by somebody outside who takes it again at once, and it is the number of
//! questions that counts.
//! Invariants: only those queue who have nothing of what they wait for: who has a part of it may be the
//! one whom those in front wait for; who only reads does not queue, as he may be let in where who
//! writes is not, nor is he kept back; every wait ends at its own deadline, whoever is in front, and with
//! a last question; the queues themselves are waited for only by who has been in one of them, so that a
//! process that was forked while somebody was at them does without.
//! Source: the TDB specification, section 21.

use super::waiting::{STRETCH, Waits};
use super::{Kind, Locks};
use crate::error::Fault;
use crate::os::mutex;
use crate::patience::{Canceller, Patience};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// The device and number of the file, and the byte.
type Of = (u64, u64, u64);

/// How many in front ask at a time. With one, a few threads that are never out of luck keep the rest
/// waiting: of 64, the one who gets least did 8 % of the average. With two it is 25 %, and all together
/// get 5 % less done; with four 36 % and 16 % less.
const ASKERS: usize = 2;
/// Who is in front lets nobody pass any more when so long nobody who waits has got the lock. It is not
/// shorter so that who has the lock does something with it, and each gets as much.
const PASSED_FOR: Duration = Duration::from_millis(1);
/// After so long without success, twice as many ask.
const DOUBLED_EVERY: Duration = Duration::from_millis(10);
/// How often their number is doubled.
const DOUBLED_MAX: u32 = 10;
/// How often it is tried to come to the queues before it is done without.
const TRIES_MAX: u32 = 100;

/// Who waits for one lock.
#[derive(Debug)]
struct Queue {
    /// In the order in which they came, with a number for each, and by what he is called.
    waiting: VecDeque<(u64, Canceller)>,
    /// How many have come so far.
    come: u64,
    /// When it began, or somebody last got the lock.
    since: Instant,
    /// The one in front lets nobody pass.
    is_strict: bool,
}

impl Queue {
    fn new() -> Self {
        Self { waiting: VecDeque::new(), come: 0, since: Instant::now(), is_strict: false }
    }

    fn askers(&self, now: Instant) -> usize {
        let waited = now.saturating_duration_since(self.since).as_millis();
        let doubled = waited / DOUBLED_EVERY.as_millis();
        ASKERS << u32::try_from(doubled).unwrap_or(DOUBLED_MAX).min(DOUBLED_MAX)
    }
}

/// All queues of this process.
#[derive(Debug)]
struct Queues {
    /// Whose they are: a forked process has the memory of its parent, but not its threads.
    process: u32,
    /// Those that have somebody in them.
    of: BTreeMap<Of, Queue>,
}

static QUEUES: Mutex<Queues> = Mutex::new(Queues { process: 0, of: BTreeMap::new() });

/// In how many of them nobody may pass: mostly nobody does, and then the queues need not be looked at.
static STRICT: AtomicU32 = AtomicU32::new(0);

/// A place in a queue, for as long as this lives.
#[derive(Debug)]
struct Place {
    of: Of,
    number: u64,
    has_the_lock: bool,
    is_strict: bool,
}

impl Place {
    /// `None` where the queues can't be had: another thread may have been at them when this process was
    /// forked, and will never be done.
    fn at_the_end(of: Of, canceller: &Canceller) -> Option<Self> {
        let mut all = (0..TRIES_MAX).find_map(|_| try_queues())?;
        let queue = all.of.entry(of).or_insert_with(Queue::new);
        queue.come += 1;
        let number = queue.come;
        queue.waiting.push_back((number, canceller.clone()));
        Some(Self { of, number, has_the_lock: false, is_strict: false })
    }

    /// Lets nobody pass any more, if it is in front and it is time for that.
    fn be_strict(&mut self, now: Instant) {
        let mut all = queues();
        let Some(queue) = all.of.get_mut(&self.of) else { return };
        let is_first = queue.waiting.front().is_some_and(|(number, _)| *number == self.number);
        if is_first && !self.is_strict && PASSED_FOR <= now.saturating_duration_since(queue.since) {
            self.is_strict = true;
            queue.is_strict = true;
            STRICT.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn may_ask(&self) -> bool {
        let all = queues();
        let Some(queue) = all.of.get(&self.of) else { return true };
        let mut front = queue.waiting.iter().take(queue.askers(Instant::now()));
        front.any(|(number, _)| *number == self.number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = queues();
        let Some(queue) = all.of.get_mut(&self.of) else { return };
        queue.waiting.retain(|(number, _)| *number != self.number);
        if self.has_the_lock {
            queue.since = Instant::now();
        }
        if self.is_strict {
            queue.is_strict = false;
            STRICT.fetch_sub(1, Ordering::Relaxed);
        }
        // He may have been among those in front before, and looks again for nothing.
        let next = queue.waiting.get(ASKERS - 1).map(|(_, canceller)| canceller.clone());
        if queue.waiting.is_empty() {
            all.of.remove(&self.of);
        }
        drop(all);
        if let Some(next) = next {
            next.call();
        }
    }
}

fn queues() -> MutexGuard<'static, Queues> {
    own(QUEUES.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Forgets those who waited in the process that this one was forked from.
fn own(mut all: MutexGuard<'static, Queues>) -> MutexGuard<'static, Queues> {
    let process = std::process::id();
    if all.process != process {
        all.process = process;
        all.of.clear();
        STRICT.store(0, Ordering::Relaxed);
    }
    all
}

fn try_queues() -> Option<MutexGuard<'static, Queues>> {
    match QUEUES.try_lock() {
        Ok(all) => Some(own(all)),
        Err(TryLockError::Poisoned(all)) => Some(own(all.into_inner())),
        Err(TryLockError::WouldBlock) => {
            std::thread::yield_now();
            None
        }
    }
}

impl Locks {
    /// As [`Locks::take`], of a byte of which this handle has nothing; where many threads of this
    /// process wait for the same, the others sleep.
    pub(crate) fn take_in_turn(
        &self,
        byte: u64,
        kind: Kind,
        patience: &Patience<'_>,
        what: &'static str,
    ) -> Result<(), Fault> {
        let passes = kind == Kind::Shared || self.may_pass(byte, patience);
        if passes && self.try_take((byte, 1), kind)? {
            return Ok(());
        }
        let mut place = match (kind, patience.is_over()) {
            (_, true) => return Err(patience.over(what)),
            // All of those may have it at the same time.
            (Kind::Shared, false) => None,
            (Kind::Exclusive, false) => self.queue_up(byte),
        };
        let mut end = stand_by(place.as_ref(), patience, what).err();
        let mine = patience.anew();
        loop {
            if let Some(called_off @ Fault::Cancelled { .. }) = end {
                return Err(called_off);
            }
            if self.try_take((byte, 1), kind)? {
                break;
            }
            // The last question was asked when the time was over.
            if end.is_some() {
                return Err(patience.over(what));
            }
            if let Some(place) = &mut place {
                place.be_strict(Instant::now());
            }
            end = mine.pause(what).err();
        }
        if let Some(place) = &mut place {
            place.has_the_lock = true;
        }
        Ok(())
    }

    /// Waits for a mutex that somebody has, which the byte stands for: no more than two of this process
    /// wait for it in the kernel, so that it goes round among them. Where not all may stand by, as who
    /// has something that others wait for, it is waited for as if nobody else did.
    #[cold]
    pub(super) fn wait_for_mutex(
        &self,
        byte: u64,
        patience: &Patience<'_>,
        may_stand_by: bool,
        lock: &mut dyn FnMut(Waits<'_, '_>) -> io::Result<mutex::Locked>,
    ) -> io::Result<mutex::Locked> {
        if patience.is_over() {
            return Ok(mutex::Locked::Busy);
        }
        if !may_stand_by {
            return lock(Waits::Yes(patience));
        }
        let mut place = self.queue_up(byte);
        let end = stand_by(place.as_ref(), patience, "a list").err();
        if matches!(end, Some(Fault::Cancelled { .. })) {
            return Ok(mutex::Locked::Busy);
        }
        let Some(place) = &mut place else { return lock(Waits::Yes(patience)) };
        let begun = Instant::now();
        let mut locked = mutex::Locked::Busy;
        while locked == mutex::Locked::Busy && !place.is_strict {
            // Longer each time, as all waits: what is held for long is not asked for all the time.
            let stretch = (begun.elapsed() / 8).clamp(PASSED_FOR, STRETCH);
            if patience.next_deadline(stretch).is_none() {
                let is_off = matches!(patience.over("a list"), Fault::Cancelled { .. });
                return if is_off { Ok(mutex::Locked::Busy) } else { lock(Waits::No) };
            }
            locked = lock(Waits::Yes(&patience.at_most(stretch)))?;
            place.be_strict(Instant::now());
        }
        if locked == mutex::Locked::Busy {
            locked = lock(Waits::Yes(patience))?;
        }
        place.has_the_lock = locked != mutex::Locked::Busy;
        Ok(locked)
    }

    /// Whether the lock may be asked for by who does not wait for it: unless somebody does who was
    /// passed for long. Who would not wait at all is nobody's rival.
    #[inline]
    pub(super) fn may_pass(&self, byte: u64, patience: &Patience<'_>) -> bool {
        let strict = STRICT.load(Ordering::Relaxed);
        strict == 0 || patience.never_waits() || self.nobody_minds(byte)
    }

    #[cold]
    fn nobody_minds(&self, byte: u64) -> bool {
        let Some(of) = self.queue_of(byte) else { return true };
        !try_queues().is_some_and(|all| all.of.get(&of).is_some_and(|queue| queue.is_strict))
    }

    /// `None` where nobody can tell which file it is.
    fn queue_up(&self, byte: u64) -> Option<Place> {
        Place::at_the_end(self.queue_of(byte)?, &self.canceller)
    }

    fn queue_of(&self, byte: u64) -> Option<Of> {
        let metadata = self.file.as_ref()?.metadata().ok()?;
        Some((metadata.dev(), metadata.ino(), byte))
    }
}

/// Waits until whoever has this place may ask.
fn stand_by(
    place: Option<&Place>,
    patience: &Patience<'_>,
    what: &'static str,
) -> Result<(), Fault> {
    while place.is_some_and(|place| !place.may_ask()) {
        patience.stand_by(what)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

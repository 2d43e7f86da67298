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
//! one whom those in front wait for; every wait ends at its own deadline, whoever is in front, and with
//! a last question; nobody waits for the queues themselves.
//! Source: the TDB specification, section 21.

use super::waiting::Waits;
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

/// The process, the device and number of the file, and the byte. A forked process has the memory of
/// its parent, but not its threads.
type Of = (u32, u64, u64, u64);

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
    /// When it began, or somebody last got the lock.
    since: Instant,
    /// The one in front lets nobody pass.
    is_strict: bool,
}

impl Queue {
    fn new() -> Self {
        Self { waiting: VecDeque::new(), since: Instant::now(), is_strict: false }
    }

    fn askers(&self, now: Instant) -> usize {
        let waited = now.saturating_duration_since(self.since).as_millis();
        let doubled = waited / DOUBLED_EVERY.as_millis();
        ASKERS << u32::try_from(doubled).unwrap_or(DOUBLED_MAX).min(DOUBLED_MAX)
    }
}

/// All queues of this process that have somebody in them, and how many have come so far.
static QUEUES: Mutex<(BTreeMap<Of, Queue>, u64)> = Mutex::new((BTreeMap::new(), 0));

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
        let (queues, come) = &mut *all;
        *come += 1;
        let queue = queues.entry(of).or_insert_with(Queue::new);
        queue.waiting.push_back((*come, canceller.clone()));
        Some(Self { of, number: *come, has_the_lock: false, is_strict: false })
    }

    /// Lets nobody pass any more, if it is in front and it is time for that.
    fn be_strict(&mut self) {
        let mut all = queues();
        let Some(queue) = all.0.get_mut(&self.of) else { return };
        let is_first = queue.waiting.front().is_some_and(|(number, _)| *number == self.number);
        if is_first && !self.is_strict && PASSED_FOR <= queue.since.elapsed() {
            self.is_strict = true;
            queue.is_strict = true;
            STRICT.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn may_ask(&self) -> bool {
        let all = queues();
        let Some(queue) = all.0.get(&self.of) else { return true };
        let mut front = queue.waiting.iter().take(queue.askers(Instant::now()));
        front.any(|(number, _)| *number == self.number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = queues();
        let Some(queue) = all.0.get_mut(&self.of) else { return };
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
            all.0.remove(&self.of);
        }
        drop(all);
        if let Some(next) = next {
            next.call();
        }
    }
}

fn queues() -> MutexGuard<'static, (BTreeMap<Of, Queue>, u64)> {
    QUEUES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_queues() -> Option<MutexGuard<'static, (BTreeMap<Of, Queue>, u64)>> {
    match QUEUES.try_lock() {
        Ok(all) => Some(all),
        Err(TryLockError::Poisoned(all)) => Some(all.into_inner()),
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
        if self.may_pass(byte, patience) && self.try_take((byte, 1), kind)? {
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
                place.be_strict();
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
        let mut locked = mutex::Locked::Busy;
        while locked == mutex::Locked::Busy && !place.is_strict && !patience.is_over() {
            locked = lock(Waits::Yes(&patience.at_most(PASSED_FOR)))?;
            place.be_strict();
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
        !try_queues().is_some_and(|all| all.0.get(&of).is_some_and(|queue| queue.is_strict))
    }

    /// `None` where nobody can tell which file it is.
    fn queue_up(&self, byte: u64) -> Option<Place> {
        Place::at_the_end(self.queue_of(byte)?, &self.canceller)
    }

    fn queue_of(&self, byte: u64) -> Option<Of> {
        let metadata = self.file.as_ref()?.metadata().ok()?;
        Some((std::process::id(), metadata.dev(), metadata.ino(), byte))
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
mod tests {
    use super::*;
    use crate::locks::Wait;
    use crate::os::testing::wait_for;
    use crate::{Create, Database, Options, Store};
    use std::path::Path;
    use std::time::Duration;

    /// What one test does to the queues is no other's business.
    static ALONE: Mutex<()> = Mutex::new(());

    fn alone() -> MutexGuard<'static, ()> {
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn options() -> Options {
        Options::new().create(Create::Missing).hash_size(1)
    }

    fn waiting(path: &Path) -> usize {
        let ino = std::fs::metadata(path).unwrap().ino();
        queues().0.iter().filter(|(of, _)| of.2 == ino).map(|(_, queue)| queue.waiting.len()).sum()
    }

    /// Somebody who has the only chain, in the same process.
    fn busy(path: &Path) -> Database {
        let database = options().open(path).unwrap();
        std::mem::forget(database.engine.lock_to_change(crate::header::List::Chain(0)).unwrap());
        database
    }

    #[test]
    fn all_get_their_turn_and_no_memory_of_them_is_kept() {
        let _alone = alone();
        all_get_their_turn(&options());
        all_get_their_turn(&options().mutexes());
    }

    fn all_get_their_turn(first: &Options) {
        let folder = tempfile::tempdir().unwrap();
        let path = &folder.path().join("a.tdb");
        drop(first.open(path).unwrap());
        let holder = busy(path);
        std::thread::scope(|scope| {
            for number in 0..20_u8 {
                scope.spawn(move || {
                    let mut database = options().open(path).unwrap();
                    for round in 0..50_u8 {
                        database.append(b"all", &[number, round]).unwrap();
                    }
                });
            }
            wait_for("all wait", || waiting(path) == 20);
            drop(holder);
        });
        assert_eq!((waiting(path), STRICT.load(Ordering::Relaxed)), (0, 0));
        let all = options().open(path).unwrap().fetch(b"all").unwrap().unwrap();
        let of = |number: u8| {
            let own = all.as_chunks::<2>().0.iter().filter(|pair| pair[0] == number);
            own.map(|pair| pair[1]).collect::<Vec<_>>()
        };
        for number in 0..20 {
            assert_eq!(of(number), (0..50).collect::<Vec<_>>(), "thread {number}");
        }
    }

    #[test]
    fn who_gives_up_or_is_called_off_lets_the_next_one_come() {
        let _alone = alone();
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        let holder = busy(path);
        std::thread::scope(|scope| {
            let mut first = options().wait(Duration::from_mins(1)).open(path).unwrap();
            let canceller = first.canceller();
            let first = scope.spawn(move || first.store(b"k", b"1", Store::Replace));
            wait_for("the first waits", || waiting(path) == 1);
            // Whose own time is over does not wait for the one in front of him.
            let mut hurried = options().wait(Duration::from_millis(30)).open(path).unwrap();
            let error = hurried.store(b"k", b"2", Store::Replace).unwrap_err();
            assert!(matches!(error.fault(), Fault::Busy { .. }), "{error}");
            let mut last = options().wait(Duration::from_mins(1)).open(path).unwrap();
            let last = scope.spawn(move || last.store(b"k", b"3", Store::Replace));
            wait_for("the last waits behind the first", || waiting(path) == 2);
            canceller.cancel();
            let error = first.join().unwrap().unwrap_err();
            assert!(matches!(error.fault(), Fault::Cancelled { .. }), "{error}");
            drop(holder);
            last.join().unwrap().unwrap();
        });
        assert_eq!(waiting(path), 0);
        let value = options().open(path).unwrap().fetch(b"k").unwrap();
        assert_eq!(value.as_deref(), Some(b"3".as_slice()));
    }

    #[test]
    fn more_ask_the_longer_nobody_gets_it() {
        let queue = Queue::new();
        let after = |millis| queue.askers(queue.since + Duration::from_millis(millis));
        assert_eq!([0, 9, 10, 25, 50].map(after), [2, 2, 4, 8, 64]);
        assert_eq!(after(100_000_000_000), 2 << DOUBLED_MAX);
    }

    #[test]
    fn who_was_passed_for_long_is_passed_no_more() {
        let _alone = alone();
        let file = tempfile::NamedTempFile::new().unwrap();
        let database = options().open(file.path()).unwrap();
        let locks = &database.engine.locks;
        let (waits, asks) = (locks.patience(Wait::Yes), locks.patience(Wait::No));
        let of = locks.queue_of(168).unwrap();
        let place = || Place::at_the_end(of, &Canceller::default()).unwrap();
        let [mut first, mut second] = [place(), place()];
        first.be_strict();
        assert!(locks.may_pass(168, &waits), "it has just come");
        queues().0.get_mut(&of).unwrap().since -= PASSED_FOR;
        second.be_strict();
        assert!(locks.may_pass(168, &waits), "who is not in front has nothing to say");
        first.be_strict();
        assert!(!locks.may_pass(168, &waits));
        assert!(locks.may_pass(172, &waits) && locks.may_pass(168, &asks));
        first.has_the_lock = true;
        drop(first);
        second.be_strict();
        assert!(locks.may_pass(168, &waits), "its time begins with the success of the one before");
        drop(second);
        assert_eq!((STRICT.load(Ordering::Relaxed), waiting(file.path())), (0, 0));
    }

    #[test]
    fn where_the_queues_cannot_be_had_the_lock_is_asked_for_without() {
        let _alone = alone();
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        let holder = busy(path);
        let mut other = options().wait(Duration::from_millis(30)).open(path).unwrap();
        // As in a process that was forked while another thread had them.
        let all = queues();
        let error = other.store(b"k", b"v", Store::Replace).unwrap_err();
        assert!(matches!(error.fault(), Fault::Busy { .. }), "{error}");
        drop((holder, all));
        other.store(b"k", b"v", Store::Replace).unwrap();
    }

    #[test]
    fn who_is_called_off_in_the_middle_of_the_queue_leaves_it() {
        let _alone = alone();
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        let holder = busy(path);
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..3_usize)
                .map(|number| {
                    let mut database = options().wait(Duration::from_mins(1)).open(path).unwrap();
                    let canceller = database.canceller();
                    let value = number.to_string().into_bytes();
                    let thread = scope.spawn(move || {
                        database.append(b"k", &value).map_err(|why| why.to_string())
                    });
                    wait_for("it waits", || waiting(path) == number + 1);
                    (canceller, thread)
                })
                .collect();
            handles[1].0.cancel();
            wait_for("it has gone", || waiting(path) == 2);
            drop(holder);
            let ended: Vec<_> =
                handles.into_iter().map(|(_, thread)| thread.join().unwrap().is_ok()).collect();
            assert_eq!(ended, [true, false, true]);
        });
    }
}

//! Waiting for what others hold: again and again, with a growing pause, up to a deadline, until
//! somebody calls it off.
//!
//! Why not a system call that blocks: locks of open files have no deadlock detection, and a blocked
//! call cannot be given up. The pause is an eighth of the time already waited, so that waiting costs
//! next to nothing and comes at most an eighth too late. It stays short for some seconds: against one
//! who takes a lock again as soon as he has given it back, as libtdb's processes do that have much to
//! do, only who asks often ever gets it.
//! Invariant: every wait ends.
//! Source: the TDB specification, section 21.

use crate::error::Fault;
use std::cell::OnceCell;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shortest pause; the kernel's timers are no finer.
const PAUSE_MIN: Duration = Duration::from_micros(20);
/// A wait without a limit.
const LIMIT_MAX: Duration = Duration::from_hours(24 * 365);
/// The longest pause of those who have waited for less than [`LONG`]; it costs some thousandths of a
/// processor.
const PAUSE_MAX: Duration = Duration::from_millis(1);
/// The longest pause of all.
const LONG_PAUSE_MAX: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(10);

/// How late it may be noticed that a wait was called off.
const STAND_BY: Duration = Duration::from_millis(20);

/// Calls off what a handle waits for, from another thread. Clones call off the same handle.
#[derive(Clone, Debug, Default)]
pub struct Canceller {
    signal: Arc<Signal>,
}

#[derive(Debug, Default)]
struct Signal {
    off: Mutex<bool>,
    changed: Condvar,
}

impl Canceller {
    /// Lets the wait of the handle fail with [`Fault::Cancelled`], the one that goes on now and every
    /// later one until [`Canceller::reset`].
    pub fn cancel(&self) {
        *self.signal.off.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.signal.changed.notify_all();
    }

    /// Lets the handle wait again.
    pub fn reset(&self) {
        *self.signal.off.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    fn is_off(&self) -> bool {
        *self.signal.off.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; true if it was called off before or meanwhile.
    fn wait(&self, pause: Duration) -> bool {
        let off = self.signal.off.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.signal.changed.wait_timeout_while(off, pause, |off| !*off);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// One wait. It begins when it is known that there is something to wait for: mostly there is not,
/// and a look at the clock costs more than such a lock.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    limit: Duration,
    wait: OnceCell<Begun>,
    canceller: &'a Canceller,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    at: Instant,
    /// `None`: it is enough to have asked once.
    deadline: Option<Instant>,
}

impl<'a> Patience<'a> {
    /// Up to this long, which may be nothing.
    pub(crate) fn new(limit: Duration, canceller: &'a Canceller) -> Self {
        Self { limit, wait: OnceCell::new(), canceller }
    }

    fn begun(&self) -> Begun {
        *self.wait.get_or_init(|| {
            let at = Instant::now();
            // A limit that no clock can hold is longer than anybody waits.
            let end = || at.checked_add(self.limit).or_else(|| at.checked_add(LIMIT_MAX));
            let deadline = (!self.limit.is_zero()).then(end).flatten();
            Begun { at, deadline }
        })
    }

    /// The same wait, but no longer than this from now on.
    pub(crate) fn at_most(&self, limit: Duration) -> Self {
        let now = Instant::now();
        let soon = now.checked_add(limit);
        let whole = self.begun().deadline;
        let deadline = whole.map(|deadline| soon.map_or(deadline, |soon| soon.min(deadline)));
        let wait = OnceCell::from(Begun { at: now, deadline });
        Self { limit, wait, canceller: self.canceller }
    }

    /// Makes a pause before the next attempt.
    ///
    /// # Errors
    /// [`Fault::Busy`] when the time is over, [`Fault::Cancelled`] when it was called off.
    pub(crate) fn pause(&self, what: &'static str) -> Result<(), Fault> {
        let begun = self.begun().at;
        let now = Instant::now();
        let waited = now.saturating_duration_since(begun);
        let Some(left) = self.left(now) else { return Err(Fault::Busy { what, waited }) };
        let longest = if waited < LONG { PAUSE_MAX } else { LONG_PAUSE_MAX };
        let pause = (waited / 8).clamp(PAUSE_MIN, longest).min(left);
        if self.canceller.wait(pause) { Err(Fault::Cancelled { what }) } else { Ok(()) }
    }

    /// True if nothing is left of the time, or there never was any.
    pub(crate) fn is_over(&self) -> bool {
        self.begun();
        self.left(Instant::now()).is_none()
    }

    /// The same wait with the same deadline, whose pauses begin anew.
    pub(crate) fn anew(&self) -> Self {
        let wait = OnceCell::from(Begun { at: Instant::now(), ..self.begun() });
        Self { limit: self.limit, wait, canceller: self.canceller }
    }

    /// Sleeps until somebody wakes this thread, but not so long that nobody could call the wait off.
    ///
    /// # Errors
    /// As [`Patience::pause`].
    pub(crate) fn stand_by(&self, what: &'static str) -> Result<(), Fault> {
        let left = self.left(Instant::now()).filter(|_| !self.canceller.is_off());
        let Some(left) = left else { return Err(self.over(what)) };
        std::thread::park_timeout(left.min(STAND_BY));
        Ok(())
    }

    /// When the next stretch of a wait that nobody can interrupt ends; `None` if there is none.
    pub(crate) fn next_deadline(&self, stretch: Duration) -> Option<Instant> {
        let now = Instant::now();
        let left = self.left(now).filter(|_| !self.canceller.is_off())?;
        now.checked_add(stretch.min(left))
    }

    /// What a wait that came to nothing came to.
    pub(crate) fn over(&self, what: &'static str) -> Fault {
        let Begun { at, deadline } = self.begun();
        if deadline.is_some() && self.canceller.is_off() {
            return Fault::Cancelled { what };
        }
        Fault::Busy { what, waited: Instant::now().saturating_duration_since(at) }
    }

    fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.begun().deadline.map(|deadline| deadline.saturating_duration_since(now));
        left.filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_at_its_deadline_and_says_what_it_waited_for() {
        let canceller = Canceller::default();
        let patience = Patience::new(Duration::from_millis(2), &canceller);
        let end =
            std::iter::repeat_with(|| patience.pause("a lock")).find_map(Result::err).unwrap();
        assert!(matches!(end, Fault::Busy { what: "a lock", .. }), "{end}");
    }

    #[test]
    fn who_asks_only_once_makes_no_pause() {
        let canceller = Canceller::default();
        let patience = Patience::new(Duration::ZERO, &canceller);
        assert!(matches!(patience.pause("a lock"), Err(Fault::Busy { .. })));
    }

    #[test]
    fn another_thread_calls_a_wait_off() {
        let canceller = Canceller::default();
        let other = canceller.clone();
        let (began, begin) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || {
            let patience = Patience::new(Duration::from_mins(10), &other);
            began.send(()).unwrap();
            std::iter::repeat_with(|| patience.pause("a lock")).find_map(Result::err)
        });
        begin.recv().unwrap();
        canceller.cancel();
        assert!(matches!(waiting.join().unwrap(), Some(Fault::Cancelled { .. })));
        canceller.reset();
        assert!(!canceller.wait(Duration::ZERO));
    }
}

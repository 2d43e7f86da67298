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
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The shortest pause; the kernel's timers are no finer.
const PAUSE_MIN: Duration = Duration::from_micros(20);
/// A wait without a limit.
const LIMIT_MAX: Duration = Duration::from_hours(24 * 365);
/// The longest pause of those who have waited for less than [`LONG`].
const PAUSE_MAX: Duration = Duration::from_millis(1);
/// The longest pause of all.
const LONG_PAUSE_MAX: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(10);

/// How long somebody stands by before he looks by himself.
const STAND_BY: Duration = Duration::from_millis(20);

/// Calls off what a handle waits for, from another thread. Clones call off the same handle.
#[derive(Clone, Debug, Default)]
pub struct Canceller {
    signal: Arc<Signal>,
}

#[derive(Debug, Default)]
struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    off: bool,
    /// How often waits were called off: a wait that was is over, also where others may begin again
    /// before its thread has noticed.
    times: u64,
    /// Whoever stands by is to look again.
    called: bool,
}

impl Canceller {
    /// Lets the wait of the handle fail with [`Fault::Cancelled`], the one that goes on now and every
    /// later one until [`Canceller::reset`].
    pub fn cancel(&self) {
        let mut state = self.state();
        state.off = true;
        state.times += 1;
        drop(state);
        self.signal.changed.notify_all();
    }

    /// Lets the handle wait again.
    pub fn reset(&self) {
        self.state().off = false;
    }

    /// Has the one who stands by look again.
    pub(crate) fn call(&self) {
        self.state().called = true;
        self.signal.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.signal.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a wait was called off that began when this had been done so many times.
    fn is_off(&self, times: u64) -> bool {
        self.state().is_off(times)
    }

    /// Waits; true if it was called off before or meanwhile.
    fn wait(&self, pause: Duration, times: u64) -> bool {
        self.wait_while(pause, |state| !state.is_off(times)).is_off(times)
    }

    /// As [`Canceller::wait`], but no longer than until it is called.
    fn stand_by(&self, pause: Duration, times: u64) -> bool {
        let mut state = self.wait_while(pause, |state| !state.called && !state.is_off(times));
        state.called = false;
        state.is_off(times)
    }

    fn wait_while(
        &self,
        pause: Duration,
        mut condition: impl FnMut(&State) -> bool,
    ) -> MutexGuard<'_, State> {
        let changed = &self.signal.changed;
        let waited = changed.wait_timeout_while(self.state(), pause, |state| condition(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl State {
    fn is_off(&self, times: u64) -> bool {
        self.off || self.times != times
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
    /// How often waits of this handle had been called off.
    times: u64,
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
            Begun { at, deadline, times: self.canceller.state().times }
        })
    }

    /// The same wait, but no longer than this from now on.
    pub(crate) fn at_most(&self, limit: Duration) -> Self {
        let now = Instant::now();
        let soon = now.checked_add(limit);
        let whole = self.begun().deadline;
        let deadline = whole.map(|deadline| soon.map_or(deadline, |soon| soon.min(deadline)));
        let wait = OnceCell::from(Begun { at: now, deadline, ..self.begun() });
        Self { limit, wait, canceller: self.canceller }
    }

    /// Makes a pause before the next attempt.
    ///
    /// # Errors
    /// [`Fault::Busy`] when the time is over, [`Fault::Cancelled`] when it was called off.
    pub(crate) fn pause(&self, what: &'static str) -> Result<(), Fault> {
        let Begun { at, times, .. } = self.begun();
        let now = Instant::now();
        let waited = now.saturating_duration_since(at);
        let Some(left) = self.left(now) else { return Err(Fault::Busy { what, waited }) };
        let longest = if waited < LONG { PAUSE_MAX } else { LONG_PAUSE_MAX };
        let pause = (waited / 8).clamp(PAUSE_MIN, longest).min(left);
        if self.canceller.wait(pause, times) { Err(Fault::Cancelled { what }) } else { Ok(()) }
    }

    /// True if it is enough to have asked once.
    pub(crate) fn never_waits(&self) -> bool {
        self.limit.is_zero()
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

    /// Sleeps until the handle is called, or for a moment.
    ///
    /// # Errors
    /// As [`Patience::pause`].
    pub(crate) fn stand_by(&self, what: &'static str) -> Result<(), Fault> {
        let Some(left) = self.left(Instant::now()) else { return Err(self.over(what)) };
        let is_off = self.canceller.stand_by(left.min(STAND_BY), self.begun().times);
        if is_off { Err(Fault::Cancelled { what }) } else { Ok(()) }
    }

    /// When the next stretch of a wait that nobody can interrupt ends; `None` if there is none.
    pub(crate) fn next_deadline(&self, stretch: Duration) -> Option<Instant> {
        let now = Instant::now();
        let left = self.left(now).filter(|_| !self.canceller.is_off(self.begun().times))?;
        now.checked_add(stretch.min(left))
    }

    /// What a wait that came to nothing came to.
    pub(crate) fn over(&self, what: &'static str) -> Fault {
        let Begun { at, deadline, times } = self.begun();
        if deadline.is_some() && self.canceller.is_off(times) {
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
        assert!(!canceller.wait(Duration::ZERO, 1));
    }

    #[test]
    fn a_wait_that_was_called_off_is_over_although_others_may_begin_again() {
        let canceller = Canceller::default();
        let first = Patience::new(Duration::from_mins(10), &canceller);
        assert!(!first.is_over());
        canceller.cancel();
        canceller.reset();
        let (same, later) = (first.anew(), Patience::new(Duration::from_mins(10), &canceller));
        for over in [&first, &same] {
            assert!(matches!(over.pause("a lock"), Err(Fault::Cancelled { .. })));
            assert!(matches!(over.stand_by("a lock"), Err(Fault::Cancelled { .. })));
            assert!(over.next_deadline(Duration::from_secs(1)).is_none());
        }
        assert!(later.pause("a lock").is_ok() && later.stand_by("a lock").is_ok());
    }
}

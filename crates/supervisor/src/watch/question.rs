//! When something is asked, and what happens if the answer never comes.
//!
//! Invariant: a question is outstanding at most once. The driver promises an answer within the
//! timeout; should it break its promise, the question counts as lost after [`GRACE`] more and is
//! put again, so that no lost message ends the watching.

use base::Now;
use std::time::Duration;

/// How much longer than its timeout an answer is waited for: the driver's own way.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// One thing that is asked over and over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Question {
    timeout: Duration,
    state: State,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Waiting { due: Now },
    Asked { at: Now },
}

/// What time has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// Nothing.
    NotYet,
    /// Ask now.
    Ask,
    /// The answer to the last one never came; ask again.
    Lost,
}

impl Question {
    /// First asked at `due`; the answer takes at most `timeout`.
    pub(super) fn new(due: Now, timeout: Duration) -> Self {
        Self { timeout, state: State::Waiting { due } }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Asked if it is due. Says [`Due::Ask`] or [`Due::Lost`] once.
    pub(super) fn turn(&mut self, now: Now) -> Due {
        let (due, lost) = match self.state {
            State::Waiting { due } => (due, Due::Ask),
            State::Asked { at } => (at + self.timeout + GRACE, Due::Lost),
        };
        if now < due {
            return Due::NotYet;
        }
        self.state = State::Asked { at: now };
        lost
    }

    /// The answer is here: when was the question put? Next time it is put at `next`. `None` if
    /// nothing was asked.
    pub(super) fn answered(&mut self, next: impl FnOnce(Now) -> Now) -> Option<Now> {
        let State::Asked { at } = self.state else { return None };
        self.state = State::Waiting { due: next(at) };
        Some(at)
    }

    /// Put not later than at `due`, unless it is under way.
    pub(super) fn hurry(&mut self, due: Now) {
        if let State::Waiting { due: planned } = &mut self.state {
            *planned = due.min(*planned);
        }
    }

    /// Under way since.
    pub(super) fn asked(&self) -> Option<Now> {
        match self.state {
            State::Waiting { .. } => None,
            State::Asked { at } => Some(at),
        }
    }

    /// When it wants its next turn.
    pub(super) fn wake(&self) -> Now {
        match self.state {
            State::Waiting { due } => due,
            State::Asked { at } => at + self.timeout + GRACE,
        }
    }
}

/// The next point after `now` of a grid that all questions of this interval share, so that they
/// are due together and can be answered by one look.
pub(super) fn on_grid(now: Now, interval: Duration) -> Now {
    let step = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
    Now::from_nanos((now.as_nanos() / step).saturating_add(1).saturating_mul(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_outstanding_once_and_put_again_if_the_answer_never_comes() {
        let second = Duration::from_secs(1);
        let at = Now::from_millis;
        let mut it = Question::new(at(1_000), second);
        assert_eq!(it.turn(at(999)), Due::NotYet);
        assert_eq!(it.turn(at(1_000)), Due::Ask);
        it.hurry(at(0));
        assert_eq!(it.turn(at(6_999)), Due::NotYet, "its second and the grace have not passed");
        assert_eq!(it.wake(), at(7_000));
        assert_eq!(it.turn(at(7_000)), Due::Lost);
        assert_eq!(it.answered(|asked| asked + second), Some(at(7_000)));
        assert_eq!(it.answered(|asked| asked + second), None, "an answer that nobody waits for");
        assert_eq!(it.wake(), at(8_000));
        it.hurry(at(7_500));
        assert_eq!(it.wake(), at(7_500));
    }

    #[test]
    fn the_grid_is_shared() {
        let five = Duration::from_secs(5);
        for millis in [5_000, 5_001, 9_999] {
            assert_eq!(on_grid(Now::from_millis(millis), five), Now::from_millis(10_000));
        }
    }
}

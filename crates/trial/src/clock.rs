//! The clock in which the daemon stamps its events.
//!
//! Source: clock_gettime(2); `EventRecord::mono_ns`.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// A moment, as time since the boot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct At(u64);

impl At {
    /// Before everything.
    pub const BOOT: Self = Self(0);

    /// Now.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        Self(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
    }

    /// When an event was seen.
    pub fn of(event: &control::EventRecord) -> Self {
        Self(event.mono_ns)
    }

    /// The time from an earlier moment to this one; zero if it was not earlier.
    pub fn since(self, earlier: At) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for At {
    type Output = At;

    fn add(self, time: Duration) -> At {
        At(self.0.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }
}

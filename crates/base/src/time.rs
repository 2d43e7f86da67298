//! Points in time as values. Cores get them as arguments; only `sys` reads a clock.
//!
//! Invariant: decisions use [`Now`] (monotonic), people see [`WallTime`]; a clock that is set
//! back or forth never changes a decision (P13).

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point of the monotonic clock, in nanoseconds since boot (`CLOCK_BOOTTIME`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Now(u64);

impl Now {
    /// The start of the clock.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds since boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From milliseconds since boot.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How far ahead `later` is; zero if it has passed.
    pub fn until(self, later: Self) -> Duration {
        later.since(self)
    }
}

impl Add<Duration> for Now {
    type Output = Self;
    /// Saturates: a deadline beyond the end of the clock never comes.
    fn add(self, pause: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Now {
    type Output = Self;
    /// Saturates at the start of the clock.
    fn sub(self, pause: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A point of the wall clock, in microseconds since the Unix epoch. For people, never for decisions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WallTime(i64);

impl WallTime {
    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p13_time_arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Now::ZERO - Duration::from_secs(1), Now::ZERO);
        assert_eq!(Now::from_nanos(u64::MAX) + Duration::from_secs(1), Now::from_nanos(u64::MAX));
        assert_eq!(Now::from_millis(5).since(Now::from_millis(9)), Duration::ZERO);
        assert_eq!(Now::from_millis(5).until(Now::from_millis(9)), Duration::from_millis(4));
    }
}

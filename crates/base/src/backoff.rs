//! Exponential back-off with jitter: how long to wait before the next try.

use crate::Rng;
use std::time::Duration;

/// Doubles from `first` to `max`, each pause spread by ± `jitter_percent`, so that many things
/// which failed together do not come back together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// The pause after the first failure.
    pub first: Duration,
    /// No pause is longer than this (before jitter).
    pub max: Duration,
    /// 0 to 100.
    pub jitter_percent: u8,
}

impl Backoff {
    /// The pause before try number `failures` (1 = after the first failure). 0 failures: no pause.
    pub fn pause(&self, failures: u32, rng: &mut Rng) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings.min(31)).unwrap_or(u32::MAX);
        let plain = self.first.saturating_mul(factor).min(self.max);
        let spread = plain / 100 * u32::from(self.jitter_percent.min(100));
        let width = u64::try_from(spread.as_nanos().saturating_mul(2)).unwrap_or(u64::MAX);
        plain.saturating_sub(spread) + Duration::from_nanos(rng.below(width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_stay_within_the_jitter() {
        let second = Duration::from_secs(1);
        let backoff = Backoff { first: second, max: second * 30, jitter_percent: 10 };
        let mut rng = Rng::new(1);
        assert_eq!(backoff.pause(0, &mut rng), Duration::ZERO);
        for (failures, expect) in [(1, 1), (2, 2), (3, 4), (6, 30), (40, 30), (u32::MAX, 30)] {
            let pause = backoff.pause(failures, &mut rng).as_secs_f64();
            let expect = f64::from(expect);
            assert!(0.9 * expect <= pause && pause <= 1.1 * expect, "{failures}: {pause}");
        }
    }

    #[test]
    fn a_zero_back_off_never_waits() {
        let none = Backoff { first: Duration::ZERO, max: Duration::ZERO, jitter_percent: 50 };
        assert_eq!(none.pause(9, &mut Rng::new(1)), Duration::ZERO);
    }
}

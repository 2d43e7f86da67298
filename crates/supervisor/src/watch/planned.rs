//! Replacements that are part of normal life: after some time (H5), after some requests (H6).
//!
//! Invariant: two instances of a service never draw the same moment, unless no jitter is wanted:
//! their shares of the jitter are successive multiples of the golden ratio, which fill an interval
//! evenly, from a point that the seed draws for the service.

use super::finding::Finding;
use super::words::time;
use base::{InstanceId, Now, Rng};
use std::time::Duration;

/// Which part of its jitter an instance takes: 0 to 2⁶⁴ of it.
pub(super) fn jitter_share(seed: u64, instance: &InstanceId) -> u64 {
    // FNV-1a: the same name draws the same point, in whatever order services are watched.
    let of_name =
        instance.service.as_str().bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
    /// 2⁶⁴ divided by the golden ratio.
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    let start = Rng::new(seed ^ of_name).next_u64();
    start.wrapping_add(STEP.wrapping_mul(u64::from(instance.number())))
}

/// It has been up for so long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Age {
    ready: Now,
    allowed: Duration,
    every: Duration,
}

impl Age {
    pub(super) fn new(ready: Now, every: Duration, jitter_percent: u32, share: u64) -> Self {
        let jitter = every.as_nanos() * u128::from(jitter_percent.min(100)) / 100;
        let earlier = (jitter * u128::from(share >> 32)) >> 32;
        let earlier = Duration::from_nanos(u64::try_from(earlier).unwrap_or(u64::MAX));
        Self { ready, allowed: every.saturating_sub(earlier), every }
    }

    pub(super) fn due(&self) -> Now {
        self.ready + self.allowed
    }

    pub(super) fn judge(&self, now: Now) -> Finding {
        let age = now.since(self.ready);
        let message = format!(
            "up for {} of {} (its share of {})",
            time(age),
            time(self.allowed),
            time(self.every)
        );
        let measured = vec![
            ("age_seconds", age.as_secs_f64()),
            ("allowed_seconds", self.allowed.as_secs_f64()),
        ];
        let due = self.due() <= now;
        let finding = if due { Finding::sick(message, now) } else { Finding::well(message) };
        finding.measured(measured)
    }
}

/// It has served so many requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Requests {
    after: u64,
    served: Option<u64>,
    /// An earlier number, for the rate: so old that the rate is a rate and not the last request.
    base: Option<(Now, u64)>,
    per_hour: u64,
}

/// The rate is taken over at least this time.
const RATE_OVER: Duration = Duration::from_secs(5);

impl Requests {
    pub(super) fn new(after: u64) -> Self {
        Self { after, served: None, base: None, per_hour: 0 }
    }

    pub(super) fn counted(&mut self, now: Now, result: Result<u64, &str>) -> Finding {
        let served = match (result, self.served) {
            (Ok(served), _) => served,
            // What was served stays served.
            (Err(_), Some(served)) if self.after <= served => served,
            (Err(why), _) => return Finding::cannot_tell(why),
        };
        self.served = Some(served);
        let (at, number) = *self.base.get_or_insert((now, served));
        let over = now.since(at);
        if RATE_OVER <= over {
            let in_an_hour = u128::from(served.saturating_sub(number)) * 3_600_000;
            self.per_hour = u64::try_from(in_an_hour / over.as_millis()).unwrap_or(u64::MAX);
            self.base = Some((now, served));
        }
        let message = format!("{served} of {} requests served", self.after);
        let measured = vec![("served", served as f64), ("allowed", self.after as f64)];
        let due = self.after <= served;
        let finding = if due { Finding::sick(message, now) } else { Finding::well(message) };
        finding.measured(measured)
    }

    /// How long to wait before it is counted again: half of the time that the rest will take, so
    /// that the number is met closely without asking often.
    pub(super) fn pause(&self) -> Option<Duration> {
        let left = self.after.checked_sub(self.served?).filter(|left| 0 < *left)?;
        let half_in_millis = u128::from(left) * 1_800_000;
        let pause = half_in_millis.checked_div(u128::from(self.per_hour))?;
        Some(Duration::from_millis(u64::try_from(pause).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn h5_no_two_instances_of_a_group_draw_the_same_moment() {
        let instance = |number| InstanceId { service: "web".parse().unwrap(), index: Some(number) };
        let hour = Duration::from_hours(1);
        for seed in 0..100 {
            let due = |number| {
                let share = jitter_share(seed, &instance(number));
                Age::new(Now::ZERO, 10 * hour, 50, share).due()
            };
            let drawn: BTreeSet<Now> = (0..64).map(due).collect();
            assert_eq!(drawn.len(), 64);
            let (first, last) = (*drawn.first().unwrap(), *drawn.last().unwrap());
            assert!(Now::ZERO + 5 * hour <= first && last <= Now::ZERO + 10 * hour);
            let apart = drawn.iter().zip(drawn.iter().skip(1)).map(|(a, b)| b.since(*a)).min();
            assert!(Duration::from_mins(1) <= apart.unwrap(), "{apart:?}");
        }
    }

    #[test]
    fn h5_without_jitter_the_time_is_exact() {
        let it = Age::new(Now::from_millis(5_000), Duration::from_mins(1), 0, u64::MAX);
        assert_eq!(it.due(), Now::from_millis(65_000));
        assert_eq!(it.judge(Now::from_millis(64_999)).state, super::super::VerdictState::Well);
        assert_eq!(it.judge(Now::from_millis(65_000)).state, super::super::VerdictState::Sick);
    }
}

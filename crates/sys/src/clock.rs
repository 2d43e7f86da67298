//! The only place where a clock is read.
//!
//! Why: cores get time as an argument (P13). `CLOCK_BOOTTIME` goes on while the machine is
//! suspended, and is the clock in which /proc states when a process began.
//! Source: clock_gettime(2).

use base::{Now, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// Time since boot, for decisions.
pub fn now() -> Now {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Now::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Time of day, for people.
pub fn wall() -> WallTime {
    let time = clock_gettime(ClockId::Realtime);
    WallTime::from_micros(time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_goes_back_and_is_the_clock_of_proc() {
        let (first, second) = (now(), now());
        assert!(first <= second);
        let own = crate::proc_fs::stat(std::process::id()).unwrap();
        let began_nanos =
            own.start_ticks * 1_000_000_000 / crate::proc_fs::clock_ticks_per_second();
        assert!(began_nanos <= second.as_nanos());
        assert!(0 < wall().as_micros());
    }
}

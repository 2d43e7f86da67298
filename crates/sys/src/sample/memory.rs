//! How much memory a process really has: what is shared is counted once, not once for each.
//!
//! Why not simply ask each time: the kernel walks all page tables of the process for it (about
//! 3 µs for each MiB, measured) and holds up its mappings meanwhile. So the shared part is measured
//! now and then, within a budget, and in between it is taken off the resident size, which is free.
//! A growth shows at once, as what leaks is not shared.
//! Invariant: a process of more than [`RESIDENT_MAX`] is never measured; what was known stays.
//! Source: proc_pid_smaps(5), the kernel's Documentation/filesystems/proc.rst (`smaps_rollup`).

use super::files;
use base::Now;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Larger ones would be held up for a millisecond and more.
const RESIDENT_MAX: u64 = 256 << 20;

/// A measurement that took longer was the last one of this process.
const COST_MAX: Duration = Duration::from_millis(2);

/// The shared part is measured again after this time, or …
const MEASURE_EVERY: Duration = Duration::from_mins(2);

/// … once the resident size differs from the one at the last measurement by one part in …
const CHANGED_BY_ONE_IN: u64 = 4;

/// All measurements together may take one part in so many of the time.
const BUDGET_ONE_IN: u32 = 500;

/// The most that may be spent at once, after a pause.
const BUDGET_MAX: Duration = Duration::from_millis(20);

/// What may still be spent on measuring.
#[derive(Debug)]
pub(super) struct Budget {
    left: Duration,
    refilled: Now,
}

impl Budget {
    pub(super) fn new(now: Now) -> Self {
        Self { left: BUDGET_MAX, refilled: now }
    }

    pub(super) fn refill(&mut self, now: Now) {
        let earned = now.since(self.refilled) / BUDGET_ONE_IN;
        self.left = self.left.saturating_add(earned).min(BUDGET_MAX);
        self.refilled = now;
    }

    fn spend(&mut self, cost: Duration) {
        self.left = self.left.saturating_sub(cost);
    }
}

/// What is known about the shared memory of one process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    /// Bytes by which its resident size exceeded its proportional one.
    shared: u64,
    /// When that was, and what its resident size was.
    measured: Option<(Now, u64)>,
    /// It is too large or too slow, or we may not look.
    given_up: bool,
}

impl Share {
    /// Its memory, by its resident size. `calm`: none of its threads is in uninterruptible sleep,
    /// where it may hold the lock that a measurement needs.
    pub(super) fn memory(
        &mut self,
        resident: u64,
        calm: bool,
        process: BorrowedFd<'_>,
        buffer: &mut [u8],
        budget: &mut Budget,
    ) -> u64 {
        let now = crate::clock::now();
        let may = calm && !self.given_up && resident <= RESIDENT_MAX && !budget.left.is_zero();
        if may && self.is_due(now, resident) {
            self.measure(now, resident, process, buffer);
            let cost = crate::clock::now().since(now);
            budget.spend(cost);
            self.given_up |= COST_MAX < cost;
        }
        resident.saturating_sub(self.shared)
    }

    fn is_due(&self, now: Now, resident: u64) -> bool {
        let Some((at, was)) = self.measured else { return true };
        MEASURE_EVERY <= now.since(at) || was / CHANGED_BY_ONE_IN < resident.abs_diff(was)
    }

    fn measure(&mut self, now: Now, resident: u64, process: BorrowedFd<'_>, buffer: &mut [u8]) {
        self.measured = Some((now, resident));
        let Ok(text) = files::read_below(process, "smaps_rollup", buffer) else {
            self.given_up = true;
            return;
        };
        let kib = |key| files::keyed(text, key).map(|kib| kib.saturating_mul(1024));
        if let (Some(rss), Some(pss)) = (kib("Rss:"), kib("Pss:")) {
            self.shared = rss.saturating_sub(pss);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn h24_measuring_keeps_to_its_budget() {
        let own = files::open_process(std::process::id()).unwrap();
        let (mut buffer, mut share) = ([0; 4096], Share::default());
        let mut budget = Budget::new(crate::clock::now());
        budget.left = Duration::ZERO;
        let resident = 64 << 20;
        let mut ask = |share: &mut Share, budget: &mut Budget, calm| {
            share.memory(resident, calm, own.as_fd(), &mut buffer, budget)
        };
        assert_eq!(ask(&mut share, &mut budget, true), resident);
        assert!(share.measured.is_none());
        budget.left = BUDGET_MAX;
        // Whoever sleeps uninterruptibly may hold what we would wait for.
        assert_eq!(ask(&mut share, &mut budget, false), resident);
        assert!(share.measured.is_none());
        assert!(ask(&mut share, &mut budget, true) < resident);
        let first = share.measured.unwrap();
        ask(&mut share, &mut budget, true);
        assert_eq!(share.measured, Some(first));
        assert!(budget.left < BUDGET_MAX);
    }

    #[test]
    fn a_measurement_is_due_by_time_or_by_change() {
        let at = Now::from_millis(1_000_000);
        let share = Share { shared: 5, measured: Some((at, 1000)), given_up: false };
        assert!(!share.is_due(at + Duration::from_secs(1), 1250));
        assert!(share.is_due(at + Duration::from_secs(1), 1251));
        assert!(share.is_due(at + Duration::from_secs(1), 749));
        assert!(share.is_due(at + MEASURE_EVERY, 1000));
    }
}

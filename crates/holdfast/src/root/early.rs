//! Exits of processes that nobody knows (yet): a process may end before the hand that started it
//! has told its number.
//!
//! Invariant: bounded; what is forgotten is the oldest. Orphans that services leave behind end up
//! here as well, so it is full sooner or later, and the exit that a hand is about to ask for is
//! among the newest.

use std::collections::BTreeMap;
use supervisor::Exit;

/// Exits that are kept.
const EXITS_MAX: usize = 4096;

/// The exits, each with its number in the order of reaping.
#[derive(Default, Debug)]
pub(crate) struct EarlyExits {
    by_pid: BTreeMap<u32, (u64, Exit)>,
}

impl EarlyExits {
    /// Keeps one. An older one of the same pid was another process's.
    pub(crate) fn keep(&mut self, pid: u32, exit: Exit, number: u64) {
        self.by_pid.insert(pid, (number, exit));
        if EXITS_MAX < self.by_pid.len() {
            // Half of them at once, so that this is rare.
            let forgotten = number.saturating_sub(EXITS_MAX as u64 / 2);
            self.by_pid.retain(|_, (number, _)| forgotten < *number);
        }
    }

    /// The exit of a process that was started when `reaped_before` had been reaped.
    pub(crate) fn take(&mut self, pid: u32, reaped_before: u64) -> Option<(u64, Exit)> {
        self.by_pid.remove(&pid).filter(|(number, _)| reaped_before < *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_exits_are_kept_whatever_their_pids() {
        let mut early = EarlyExits::default();
        // Orphans with high pids, for years.
        for number in 1..=100_000 {
            early.keep(1_000_000 + number as u32, Exit::Code(0), number);
            assert!(early.by_pid.len() <= EXITS_MAX);
        }
        early.keep(5, Exit::Code(5), 100_001);
        early.keep(4, Exit::Code(4), 100_002);
        assert_eq!(early.take(5, 100_000), Some((100_001, Exit::Code(5))));
        // Reaped before its launch began: an earlier process with this pid.
        assert_eq!(early.take(4, 100_002), None);
        assert_eq!(early.take(4, 0), None);
    }
}

//! A pause between two looks, where nothing wakes us.

use std::time::{Duration, Instant};

/// Waits this long; a spurious wake-up does not shorten it.
pub(crate) fn pause(most: Duration) {
    let until = Instant::now() + most;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

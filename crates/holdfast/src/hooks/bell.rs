//! Wakes the hooks' threads: something has happened, or it is time to end.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<Rung>,
    heard: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    times: u64,
    stop: bool,
}

impl Bell {
    pub(crate) fn ring(&self) {
        self.lock().times += 1;
        self.heard.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.heard.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().stop
    }

    /// How often it has been rung by now.
    pub(crate) fn times(&self) -> u64 {
        self.lock().times
    }

    /// Waits until it has been rung more than `times` times, or is stopped, at most so long.
    pub(crate) fn wait(&self, times: u64, at_most: Duration) {
        let still = |rung: &mut Rung| rung.times <= times && !rung.stop;
        drop(self.heard.wait_timeout_while(self.lock(), at_most, still));
    }

    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

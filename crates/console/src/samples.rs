//! The last samples of memory and CPU of each instance, for the console's lines and the metrics.
//!
//! Invariants: at most [`SAMPLES_MAX`] samples an instance; instances that are gone are forgotten;
//! the CPU counter of an instance never falls while it is known.

use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Samples kept of one instance: twenty minutes at ten seconds each.
pub(crate) const SAMPLES_MAX: usize = 120;

/// What one instance used, at one moment.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Sample {
    /// When, microseconds since the epoch.
    pub at_us: i64,
    /// Resident memory of all its processes, in bytes. Shared pages count in each.
    pub rss_bytes: u64,
    /// CPU time since the sample before, in hundredths of one core.
    pub cpu_percent: f64,
    /// Its threads.
    pub threads: u32,
    /// Its processes.
    pub processes: u32,
}

/// One instance's samples and its counter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ring {
    pub(crate) samples: VecDeque<Sample>,
    /// CPU time used since the console knows it, in seconds.
    pub(crate) cpu_seconds: f64,
}

impl Ring {
    /// Adds one, and forgets the oldest beyond the limit.
    pub(crate) fn push(&mut self, sample: Sample, cpu_seconds: f64) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        self.cpu_seconds += cpu_seconds;
    }
}

/// All rings. Written by the sampler's thread, read by handlers; the lock is held for copying
/// numbers only.
#[derive(Clone, Debug)]
pub(crate) struct SampleBook {
    rings: Arc<Mutex<BTreeMap<String, Ring>>>,
    rounds: Arc<watch::Sender<u64>>,
}

impl SampleBook {
    pub(crate) fn new() -> Self {
        Self { rings: Arc::default(), rounds: Arc::new(watch::Sender::new(0)) }
    }

    /// For a round of sampling, or a look at many.
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Ring>> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes after each round.
    pub(crate) fn rounds(&self) -> watch::Receiver<u64> {
        self.rounds.subscribe()
    }

    /// Says that a round is done.
    pub(crate) fn round_done(&self) {
        self.rounds.send_modify(|rounds| *rounds = rounds.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_keeps_the_newest_samples_and_all_of_the_cpu_time() {
        let mut ring = Ring::default();
        for at_us in 0..200 {
            let sample = Sample { at_us, rss_bytes: 0, cpu_percent: 0.0, threads: 1, processes: 1 };
            ring.push(sample, 0.5);
        }
        assert_eq!(ring.samples.len(), SAMPLES_MAX);
        assert_eq!(ring.samples.back().map(|sample| sample.at_us), Some(199));
        assert!((ring.cpu_seconds - 100.0).abs() < 1e-9);
    }
}

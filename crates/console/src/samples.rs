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

/// A sample as it is kept: half as large, since a thousand instances have a hundred thousand.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// Tenths of a second since the ring began.
    at: u32,
    rss_kib: u32,
    /// CPU time in hundredths of a percent of one core.
    cpu: u32,
    threads: u16,
    processes: u16,
}

/// One instance's samples and its counter. Numbers beyond what is kept (4 TiB, 65,535 threads, 136
/// years) stay at the largest that is.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    began_us: i64,
    kept: VecDeque<Kept>,
    /// CPU time used since the console knows it, in seconds.
    pub(crate) cpu_seconds: f64,
}

/// Microseconds in the unit of [`Kept::at`].
const TENTH_US: i64 = 100_000;

impl Ring {
    /// An empty one. No sample is older.
    pub(crate) fn new(began_us: i64) -> Self {
        Self { began_us, kept: VecDeque::new(), cpu_seconds: 0.0 }
    }

    /// Adds one, and forgets the oldest beyond the limit.
    pub(crate) fn push(&mut self, sample: Sample, cpu_seconds: f64) {
        if self.kept.len() == SAMPLES_MAX {
            self.kept.pop_front();
        }
        let narrow = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        self.kept.push_back(Kept {
            at: u32::try_from((sample.at_us - self.began_us).max(0) / TENTH_US).unwrap_or(u32::MAX),
            rss_kib: u32::try_from(sample.rss_bytes / 1024).unwrap_or(u32::MAX),
            // A number out of range becomes the nearest one in it.
            cpu: (sample.cpu_percent * 100.0).round() as u32,
            threads: narrow(sample.threads),
            processes: narrow(sample.processes),
        });
        self.cpu_seconds += cpu_seconds;
    }

    /// The samples, oldest first. Their times are true to a tenth of a second.
    pub(crate) fn samples(&self) -> impl DoubleEndedIterator<Item = Sample> {
        self.kept.iter().map(|kept| Sample {
            at_us: self.began_us + i64::from(kept.at) * TENTH_US,
            rss_bytes: u64::from(kept.rss_kib) * 1024,
            cpu_percent: f64::from(kept.cpu) / 100.0,
            threads: u32::from(kept.threads),
            processes: u32::from(kept.processes),
        })
    }

    /// The newest sample.
    pub(crate) fn last(&self) -> Option<Sample> {
        self.samples().next_back()
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
        let began = 1_700_000_000_000_000;
        let mut ring = Ring::new(began);
        for second in 0..200 {
            let sample = Sample {
                at_us: began + second * 1_000_000,
                rss_bytes: 4096 * 77,
                cpu_percent: 12.34,
                threads: 3,
                processes: 2,
            };
            ring.push(sample, 0.5);
        }
        assert_eq!(ring.samples().count(), SAMPLES_MAX);
        let last = Sample {
            at_us: began + 199_000_000,
            rss_bytes: 4096 * 77,
            cpu_percent: 12.34,
            threads: 3,
            processes: 2,
        };
        assert_eq!(ring.last(), Some(last));
        assert!((ring.cpu_seconds - 100.0).abs() < 1e-9);
    }

    #[test]
    fn numbers_out_of_range_stay_at_the_largest() {
        let mut ring = Ring::new(0);
        let most = Sample {
            at_us: i64::MAX,
            rss_bytes: u64::MAX,
            cpu_percent: f64::MAX,
            threads: u32::MAX,
            processes: u32::MAX,
        };
        ring.push(most, 0.0);
        let kept = ring.last().unwrap();
        assert_eq!((kept.threads, kept.processes), (65_535, 65_535));
        assert_eq!(kept.rss_bytes, u64::from(u32::MAX) * 1024);
        assert!(4e7 < kept.cpu_percent);
    }
}

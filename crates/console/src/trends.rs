//! Where the numbers of detectors go: the last half hour of each, for the console's drawings.
//!
//! Why kept here: a page that is opened now must show how a leak has grown so far.
//! Invariants: at most [`POINTS_MAX`] points a detector, [`SPACING_US`] apart at least; of the
//! present run alone; what is gone is forgotten.

use control::{Snapshot, VerdictView};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Half an hour.
const POINTS_MAX: usize = 180;

/// The watcher gives new numbers at most this often.
const SPACING_US: i64 = 10_000_000;

/// Names of the number that a detector is about, as the watcher has them.
const NUMBERS: [&str; 4] = ["used_bytes", "used", "served", "age_seconds"];

/// What was measured of one instance, by detector, oldest first: `[at_us, number]`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, utoipa::ToSchema)]
pub(crate) struct Trends {
    /// Of which run.
    run: Option<u64>,
    /// By detector.
    #[schema(value_type = BTreeMap<String, Vec<Vec<f64>>>)]
    trends: BTreeMap<String, VecDeque<(i64, f64)>>,
}

/// Of all instances. Written once a round of sampling; the lock is held for moving numbers only.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrendBook {
    by_instance: Arc<Mutex<BTreeMap<String, Trends>>>,
}

impl TrendBook {
    /// Takes what the detectors say in this snapshot. True if any of them says anything.
    pub(crate) fn take(&self, snapshot: &Snapshot) -> bool {
        let mut all = self.by_instance.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *all);
        for one in snapshot.services.iter().flat_map(|service| &service.instances) {
            if one.health.verdicts.is_empty() {
                continue;
            }
            let known = before.remove(&one.name).filter(|known| known.run == one.run);
            let mut trends = known.unwrap_or(Trends { run: one.run, trends: BTreeMap::new() });
            for verdict in &one.health.verdicts {
                trends.push(verdict, snapshot.taken_us);
            }
            all.insert(one.name.clone(), trends);
        }
        !all.is_empty()
    }

    /// What is known of an instance.
    pub(crate) fn of(&self, instance: &str) -> Option<Trends> {
        let all = self.by_instance.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(instance).cloned()
    }
}

impl Trends {
    fn push(&mut self, verdict: &VerdictView, at_us: i64) {
        let Some(number) = NUMBERS.iter().find_map(|name| verdict.measured.get(*name)) else {
            return;
        };
        let ring = self.trends.entry(verdict.detector.clone()).or_default();
        if ring.back().is_some_and(|(last, _)| at_us < last.saturating_add(SPACING_US)) {
            return;
        }
        if ring.len() == POINTS_MAX {
            ring.pop_front();
        }
        ring.push_back((at_us, *number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{HealthView, InstanceView, ServiceView};

    fn seen(taken_us: i64, run: u64, detector: &str, number: f64) -> Snapshot {
        let verdict = VerdictView {
            detector: detector.into(),
            measured: [("used".to_owned(), number), ("bound".to_owned(), 100.0)].into(),
            ..VerdictView::default()
        };
        let health = HealthView { verdicts: vec![verdict], ..HealthView::default() };
        let web = InstanceView { name: "web".into(), run: Some(run), health, ..Default::default() };
        let service = ServiceView { instances: vec![web], ..ServiceView::default() };
        Snapshot { taken_us, services: vec![service], ..Snapshot::default() }
    }

    #[test]
    fn h3_the_numbers_of_a_run_are_kept_apart_in_time_and_begin_anew_with_the_next() {
        let book = TrendBook::default();
        for second in 0..4000 {
            book.take(&seen(second * 1_000_000, 1, "threads", second as f64));
        }
        let ring = book.of("web").unwrap().trends.remove("threads").unwrap();
        assert_eq!(ring.len(), POINTS_MAX);
        assert_eq!(ring.back(), Some(&(3_990_000_000, 3990.0)));
        assert_eq!(ring.front(), Some(&(2_200_000_000, 2200.0)));
        book.take(&seen(5_000_000_000, 2, "threads", 5.0));
        let next = book.of("web").unwrap();
        assert_eq!((next.run, next.trends["threads"].len()), (Some(2), 1));
        book.take(&Snapshot::default());
        assert_eq!(book.of("web"), None);
    }
}

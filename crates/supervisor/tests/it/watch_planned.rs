//! Replacements by the clock and by the number of requests.

use crate::watch_bench::{BEGIN, Bench, HOUR, MINUTE, SECOND, Well, World, instance, tolerance};
use base::{InstanceId, Now, RunId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use supervisor::watch::{Input, VerdictState};
use supervisor::{CounterSource, Rule, Tolerance};

fn every(hours: u32, jitter_percent: u32) -> Tolerance {
    tolerance([("age", Rule::Age { every: hours * HOUR, jitter_percent })])
}

#[test]
fn h5_a_run_is_due_at_its_age_exactly_and_nothing_is_asked_for_it() {
    let mut it = Bench::watching(Well, every(12, 0));
    let begin = it.now;
    it.after(13 * HOUR);
    let sick: Vec<_> = it.sick().iter().map(|(at, it)| (at.since(begin), it.planned)).collect();
    assert_eq!(sick, [(12 * HOUR, true)]);
    assert_eq!(it.asked("sample") + it.asked("probe"), 0);
}

#[test]
fn h5_a_run_that_was_taken_over_keeps_its_age() {
    let mut it = Bench::new(Well);
    it.handle(Input::Watch(supervisor::watch::Watch {
        instance: instance("web"),
        run: RunId(3),
        mode: supervisor::Mode::Enforce,
        tolerance: every(12, 0).into(),
        depends: BTreeMap::new().into(),
        age: 11 * HOUR,
    }));
    let took = it.until("age", VerdictState::Sick, 2 * HOUR);
    assert_eq!(took, HOUR);
}

#[test]
fn h5_the_instances_of_a_service_are_never_due_together() {
    let mut it = Bench::new(Well);
    for number in 0..16 {
        it.watch(&format!("web:{number}"), 1, every(10, 20), BTreeMap::new());
    }
    let begin = it.now;
    it.after(10 * HOUR);
    let due: BTreeSet<Now> = it.sick().iter().map(|(at, _)| *at).collect();
    assert_eq!(due.len(), 16, "each at a time of its own");
    assert!(due.iter().all(|at| 8 * HOUR <= at.since(begin)));
    let apart = due.iter().zip(due.iter().skip(1)).map(|(a, b)| b.since(*a)).min().unwrap();
    assert!(2 * MINUTE < apart, "{apart:?}");
}

/// Serves so many requests a second.
struct Serving(u64);

impl World for Serving {
    fn count(&mut self, now: Now) -> (Result<u64, String>, Duration) {
        let served = now.since(BEGIN).as_millis() as u64 * self.0 / 1_000;
        (Ok(served), Duration::from_millis(1))
    }
}

fn requests(after: u64, source: CounterSource) -> Tolerance {
    let mut settings = tolerance([("served", Rule::Requests { after, source })]);
    settings.interval = 10 * SECOND;
    settings
}

#[test]
fn h6_a_service_that_tells_its_number_is_due_at_it_exactly() {
    let mut it = Bench::watching(Well, requests(1_000, CounterSource::Notify));
    let says = |it: &mut Bench<_>, count| {
        let (instance, source) = (instance("web"), CounterSource::Notify);
        it.handle(Input::Counted { instance, run: RunId(1), source, result: Ok(count) });
    };
    for count in 0..1_000 {
        says(&mut it, count);
    }
    assert!(it.sick().is_empty());
    says(&mut it, 1_000);
    let sick = it.sick();
    assert!(sick.len() == 1 && sick[0].1.planned);
    assert_eq!(sick[0].1.message, "1000 of 1000 requests served");
    assert_eq!(it.asked("count"), 0);
}

#[test]
fn h6_a_number_that_is_asked_for_is_met_closely_without_asking_often() {
    for rate in [3_u64, 50, 2_000] {
        let source = CounterSource::AccessLog(PathBuf::from("/var/log/web.log"));
        let mut it = Bench::watching(Serving(rate), requests(100_000, source));
        it.after(Duration::from_millis(100_000_000 / rate).saturating_sub(SECOND));
        assert!(it.sick().is_empty());
        it.after(2 * SECOND);
        let sick = it.sick();
        let served = sick[0].1.measured[0].1;
        assert!(served - 100_000.0 <= (rate as f64 / 5.0).max(1.0), "{rate}: {served}");
        let fair = 100_000 / rate / 10 + 40;
        assert!(it.asked("count") <= fair, "{rate}: asked {} times", it.asked("count"));
    }
}

/// Its number can't be read.
struct Silent;

impl World for Silent {
    fn count(&mut self, _: Now) -> (Result<u64, String>, Duration) {
        (Err("no such field".to_owned()), Duration::from_millis(1))
    }
    fn sample(&mut self, _: Now, _: &InstanceId) -> Result<supervisor::watch::Sample, String> {
        Ok(crate::watch_bench::idle())
    }
}

#[test]
fn h6_a_number_that_can_not_be_read_is_no_number() {
    let source =
        CounterSource::HttpJson { url: "http://[::1]/".to_owned(), field: "requests".to_owned() };
    let mut it = Bench::watching(Silent, requests(10, source));
    it.after(MINUTE);
    let verdict = it.verdict("served").unwrap();
    assert_eq!(verdict.state, VerdictState::CannotTell);
    assert_eq!(verdict.message, "no such field");
}

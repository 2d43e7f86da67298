//! Probes, dependencies, and whom to blame.

use crate::watch_bench::{
    BEGIN, Bench, MINUTE, SECOND, Well, World, answer, backlog, depends, idle, instance, tolerance,
};
use base::{Answer, InstanceId, Now, RunId};
use std::collections::BTreeMap;
use std::time::Duration;
use supervisor::watch::{DependencyState, Input, Output, Sample, VerdictState};

/// What is asked answers by the time since the test began.
#[derive(Default)]
struct Asked {
    probe: Vec<(f64, &'static str)>,
    depend: Vec<(f64, &'static str)>,
}

/// The last entry that has come holds: `ok`, `slow` (3 s), `hangs`, `no`, `?`.
fn answers(script: &[(f64, &'static str)], now: Now) -> (Answer, Duration) {
    let t = now.since(BEGIN).as_secs_f64();
    let now = script.iter().rev().find(|(from, _)| *from <= t).map_or("ok", |(_, word)| word);
    match now {
        "ok" => (Answer::Yes, Duration::from_millis(3)),
        "slow" => (Answer::Yes, 3 * SECOND),
        "hangs" => (Answer::Yes, 600 * SECOND),
        "no" => (Answer::No("connection refused".to_owned()), Duration::from_millis(1)),
        _ => (Answer::CannotTell("no such program".to_owned()), Duration::from_millis(1)),
    }
}

impl World for Asked {
    fn probe(&mut self, now: Now, _: &InstanceId) -> (Answer, Duration) {
        answers(&self.probe, now)
    }
    fn depend(&mut self, now: Now, _: &str) -> (Answer, Duration) {
        answers(&self.depend, now)
    }
}

fn probes(script: &[(f64, &'static str)]) -> Asked {
    Asked { probe: script.to_vec(), depend: Vec::new() }
}

#[test]
fn h17_so_many_bad_answers_in_a_row_are_a_sickness_and_one_good_one_ends_it() {
    let world = probes(&[(10.0, "no"), (11.9, "ok"), (20.0, "no"), (30.0, "ok")]);
    let mut it = Bench::watching(world, tolerance([("ping", answer(3))]));
    it.after(19 * SECOND);
    assert!(it.sick().is_empty(), "two were not enough");
    let took = it.until("ping", VerdictState::Sick, MINUTE);
    assert!((3 * SECOND..=4 * SECOND).contains(&took), "{took:?}");
    assert_eq!(it.message("ping"), "3 bad answers in a row (limit 3): connection refused");
    let took = it.until("ping", VerdictState::Well, MINUTE);
    assert!((7 * SECOND..=8 * SECOND).contains(&took), "{took:?}");
    assert_eq!(it.message("ping"), "answered within 3ms");
}

#[test]
fn h17_an_answer_that_takes_too_long_is_a_bad_one() {
    let mut it = Bench::watching(probes(&[(5.0, "slow")]), tolerance([("ping", answer(2))]));
    it.after(5 * SECOND);
    it.until("ping", VerdictState::Sick, 5 * SECOND);
    assert!(it.message("ping").contains("no answer within 1s"), "{}", it.message("ping"));
}

#[test]
fn a_probe_that_can_not_be_put_is_never_a_sickness() {
    let mut it = Bench::watching(probes(&[(0.0, "?")]), tolerance([("ping", answer(2))]));
    it.after(MINUTE);
    let verdict = it.verdict("ping").unwrap();
    assert_eq!(verdict.state, VerdictState::CannotTell);
    assert_eq!(verdict.message, "no such program");
}

#[test]
fn an_answer_that_never_comes_stops_no_detector() {
    let mut it = Bench::new(Well);
    it.watch(
        "web",
        1,
        tolerance([("ping", answer(1)), ("stuck", backlog(1, None, 5))]),
        BTreeMap::new(),
    );
    // The driver forgets everything that it was asked.
    let mut asked = 0;
    let mut outputs = Vec::new();
    let begin = it.now;
    let mut now = begin;
    while now.since(begin) < 2 * MINUTE {
        now = it.watcher.next_wake().unwrap();
        it.watcher.handle(now, Input::Tick, &mut outputs);
        asked += outputs.iter().filter(|it| matches!(it, Output::Probe { .. })).count();
        let sick = |it: &Output| matches!(it, Output::Verdict { verdict, .. } if verdict.state == VerdictState::Sick);
        assert!(!outputs.iter().any(sick), "{outputs:?}");
        outputs.clear();
    }
    assert!((15..=25).contains(&asked), "every six seconds, not more: {asked}");
}

#[test]
fn late_answers_about_earlier_runs_are_ignored() {
    let mut it = Bench::watching(Well, tolerance([("ping", answer(1))]));
    it.after(5 * SECOND);
    it.handle(Input::Unwatch { instance: instance("web"), run: RunId(1) });
    it.watch("web", 2, tolerance([("ping", answer(1))]), BTreeMap::new());
    it.after(5 * SECOND);
    let told = it.told.len();
    for run in [1, 3] {
        it.handle(Input::Probed {
            instance: instance("web"),
            run: RunId(run),
            detector: "ping".to_owned(),
            answer: Answer::No("too late".to_owned()),
            took: SECOND,
        });
        let result = Ok(Sample { stopped: true, ..idle() });
        it.handle(Input::Sampled { instance: instance("web"), run: RunId(run), result });
    }
    it.after(5 * SECOND);
    assert!(it.sick().is_empty());
    assert_eq!(it.told.len(), told, "{:?}", it.told.last());
}

/// `web` with a probe, which depends on `db`.
fn with_dependency(world: Asked, failures: u32, slow: Option<Duration>) -> Bench<Asked> {
    let mut it = Bench::new(world);
    it.watch("web", 1, tolerance([("ping", answer(failures))]), depends("db", slow));
    it
}

#[test]
fn h16_a_dependency_that_is_down_is_told_before_its_dependant_is_called_sick() {
    // The database dies just after it was asked; the service fails with it at once.
    for failures in 1..4 {
        let world = Asked { probe: vec![(10.2, "no")], depend: vec![(10.2, "no")] };
        let mut it = with_dependency(world, failures, None);
        it.after(MINUTE);
        let place = |wanted: fn(&Output) -> bool| it.told.iter().position(|(_, it)| wanted(it));
        let down =
            place(|it| matches!(it, Output::Dependency { state: DependencyState::Down, .. }));
        let sick = place(
            |it| matches!(it, Output::Verdict { verdict, .. } if verdict.state == VerdictState::Sick),
        );
        assert!(down.is_some() && down < sick, "{failures}: {:#?}", it.told);
    }
}

#[test]
fn h16_a_dependency_that_does_not_answer_is_waited_for_before_anybody_is_blamed() {
    let world = Asked { probe: vec![(10.2, "no")], depend: vec![(10.0, "hangs")] };
    let mut it = with_dependency(world, 1, None);
    it.after(13 * SECOND);
    assert!(it.sick().is_empty());
    assert!(it.message("ping").ends_with("what it depends on is asked first"));
    it.until("ping", VerdictState::Sick, 5 * SECOND);
    assert_eq!(it.dependency("db"), [DependencyState::Up, DependencyState::Down]);
}

#[test]
fn h19_a_slow_outside_server_is_slow_and_not_its_client_sick() {
    // A mail server that takes 45 s. It is known to be slow long before it answers.
    let world = Asked { probe: vec![(10.2, "no")], depend: vec![(10.0, "hangs")] };
    let mut it = with_dependency(world, 3, Some(2 * SECOND));
    it.after(10 * SECOND);
    it.until("ping", VerdictState::Sick, 10 * SECOND);
    assert_eq!(it.dependency("db")[..2], [DependencyState::Up, DependencyState::Slow]);
    let slow = it.told.iter().find_map(|(at, output)| match output {
        Output::Dependency { state: DependencyState::Slow, message, .. } => Some((at, message)),
        _ => None,
    });
    let (at, message) = slow.unwrap();
    assert!(at.since(BEGIN) <= 14 * SECOND, "{:?}", at.since(BEGIN));
    assert_eq!(message, "tcp db:5432 is slow: no answer yet after 2s");
}

#[test]
fn h19_a_dependency_changes_its_state_on_the_second_answer() {
    let depend = vec![(10.5, "no"), (11.2, "ok"), (20.0, "slow"), (40.0, "ok")];
    let mut it = with_dependency(Asked { probe: Vec::new(), depend }, 3, Some(2 * SECOND));
    it.after(19 * SECOND);
    assert_eq!(it.dependency("db"), [DependencyState::Up], "one bad answer is none");
    it.after(20 * SECOND);
    assert_eq!(it.dependency("db"), [DependencyState::Up, DependencyState::Slow]);
    it.after(20 * SECOND);
    let states = [DependencyState::Up, DependencyState::Slow, DependencyState::Up];
    assert_eq!(it.dependency("db"), states);
}

#[test]
fn a_service_whose_dependencies_are_well_is_called_sick_without_delay() {
    let mut it = with_dependency(probes(&[(10.0, "no")]), 2, Some(SECOND));
    it.after(10 * SECOND);
    let took = it.until("ping", VerdictState::Sick, MINUTE);
    assert!(took <= Duration::from_millis(2_050), "{took:?}");
}

/// The services `s0` to `s9` answer, but those below a number do not, from ten seconds on.
struct Many(u16);

impl World for Many {
    fn probe(&mut self, now: Now, instance: &InstanceId) -> (Answer, Duration) {
        let number: u16 = instance.service.as_str()[1..].parse().unwrap();
        let script = if number < self.0 { [(10.0, "no")] } else { [(0.0, "ok")] };
        answers(&script, now)
    }
}

fn ten_services(sick: u16) -> Bench<Many> {
    let mut it = Bench::new(Many(sick));
    for number in 0..10 {
        it.watch(&format!("s{number}"), 1, tolerance([("ping", answer(3))]), BTreeMap::new());
    }
    it.after(10 * SECOND);
    it
}

#[test]
fn when_many_fall_sick_at_once_the_observer_is_suspected_first() {
    let mut it = ten_services(8);
    it.after(20 * SECOND);
    assert!(it.sick().is_empty());
    let pressure = it.pressure();
    assert_eq!(pressure.len(), 1);
    let why = pressure[0].clone().unwrap();
    assert!(why.contains("of 10 services showed signs of a sickness within 3s"), "{why}");
    it.after(20 * SECOND);
    assert_eq!(it.sick().len(), 8, "a doubt ends: what is sick still is believed");
    assert_eq!(it.pressure().last(), Some(&None));
}

#[test]
fn a_few_that_fall_sick_at_once_are_believed() {
    let mut it = ten_services(3);
    it.after(5 * SECOND);
    assert_eq!(it.sick().len(), 3);
    assert_eq!(it.pressure(), []);
}

//! What is done about verdicts, and when nothing is: modes, the host, dependencies, the budget.

use crate::bench::{Bench, deeds};
use crate::specs::{But, SECOND, service};
use supervisor::watch::DependencyState;
use supervisor::{Action, DependencyTarget, Exit, HealthProbe, Mode, Phase};

fn web(mode: Mode) -> supervisor::ServiceSpec {
    service("web").tolerates(mode)
}

fn database() -> DependencyTarget {
    DependencyTarget::Probe(HealthProbe::Tcp("127.0.0.1:5432".into()))
}

#[test]
fn h24_without_tolerance_nothing_is_watched_and_nothing_said_is_heard() {
    let mut it = Bench::of([web(Mode::Off)]);
    assert!(!it.spawned("web", 10).iter().any(|line| line.starts_with("watch")));
    assert_eq!(it.sick("web", "hang"), [""; 0]);
    assert_eq!(it.health("web"), "up");
    assert_eq!(it.seen("web").verdicts, []);
}

#[test]
fn h12_observe_says_what_it_would_have_done_once_and_touches_nothing() {
    let mut it = Bench::of([web(Mode::Observe)]);
    assert_eq!(it.spawned("web", 10).last().unwrap(), "watch web, run 1: observe");
    assert_eq!(
        it.sick("web", "hang"),
        [
            "service.sick: web is sick: its hang says so",
            "service.would_replace: web would have been replaced: its hang says so",
        ]
    );
    assert_eq!(it.sick("web", "hang"), [""; 0]);
    assert_eq!(it.health("web"), "up", "nothing is touched, the rotation neither");
    assert_eq!(it.because("web"), ["web is sick: its hang says so; it is only observed"]);
    assert_eq!(it.well("web", "hang"), ["service.well: web is well again: its hang says so"]);
    assert_eq!(it.after(3_600 * SECOND), [""; 0]);
    assert_eq!((it.phase("web"), it.seen("web").run.unwrap().0), (Phase::Running, 1));
    // A second sickness is news.
    assert_eq!(it.sick("web", "hang").len(), 2);
}

#[test]
fn h12_each_detector_may_be_set_lower_than_its_service() {
    let spec = web(Mode::Enforce).but(|spec| {
        spec.tolerance.detectors.get_mut("hang").unwrap().mode = Mode::Observe;
        spec.tolerance.detectors.get_mut("leak").unwrap().mode = Mode::Off;
    });
    let mut it = Bench::running(spec);
    assert_eq!(it.sick("web", "leak"), [""; 0]);
    assert_eq!(deeds(&it.sick("web", "hang")), [""; 0]);
    assert_eq!(deeds(&it.sick("web", "age")), ["signal 15 to pid 10 of web", "unwatch web, run 1"]);
}

#[test]
fn h1_h10_an_operator_sets_the_mode_while_it_runs_and_nothing_is_restarted_for_it() {
    let mut it = Bench::running(web(Mode::Off));
    assert_eq!(
        it.ask(Action::Mode(Some(Mode::Observe)), "web"),
        [
            "service.mode: the mode of web is observe now, until somebody changes it",
            "watch web, run 1: observe",
        ]
    );
    assert_eq!(it.seen("web").mode, (Mode::Observe, "ada".to_owned()));
    assert_eq!(it.sick("web", "hang").len(), 2);
    assert_eq!(
        it.ask(Action::Mode(Some(Mode::Enforce)), "web"),
        [
            "service.mode: the mode of web is enforce now, until somebody changes it",
            "watch web, run 1: enforce",
            "service.replacing: web is being replaced: its hang says so",
            "service.stopping: web is stopped, to be started again",
            "signal 15 to pid 10 of web",
            "unwatch web, run 1",
        ],
        "what was observed is acted on now"
    );
    it.ends("web", 10, Exit::Signal(15));
    it.spawned("web", 11);
    let lines = it.ask(Action::Mode(None), "web");
    assert_eq!(
        lines,
        ["service.mode: the mode of web is off now, as configured", "unwatch web, run 2"]
    );
    assert_eq!(it.seen("web").mode, (Mode::Off, "configuration".to_owned()));
}

#[test]
fn h1_a_mode_that_was_set_before_this_daemon_began_holds() {
    let mut it = Bench::with([web(Mode::Enforce)]);
    let (instance, by) = (crate::specs::id("web"), "ada".to_owned());
    it.give(supervisor::Input::ModeSet { instance, mode: Mode::Observe, by });
    it.begin();
    assert_eq!(it.spawned("web", 10).last().unwrap(), "watch web, run 1: observe");
}

#[test]
fn h26_nothing_is_replaced_while_the_host_starves_but_what_eats_it() {
    let mut it = Bench::running(web(Mode::Enforce));
    it.pressure(Some("memory is short"));
    assert_eq!(
        it.sick("web", "hang"),
        [
            "service.sick: web is sick: its hang says so",
            "service.replacement_suppressed: web is not replaced: the host starves: memory is \
             short; its hang says so",
        ]
    );
    assert_eq!(it.health("web"), "sick");
    let lines = it.sick("web", "leak");
    assert_eq!(deeds(&lines), [""; 0], "the first sickness is the cause");
    it.well("web", "hang");
    assert_eq!(it.phase("web"), Phase::Stopping, "what eats the memory is stopped");
}

#[test]
fn h26_what_is_still_sick_when_the_host_has_recovered_is_replaced() {
    let mut it = Bench::running(web(Mode::Enforce));
    it.pressure(Some("memory is short"));
    it.sick("web", "hang");
    assert_eq!(deeds(&it.pressure(None)), ["signal 15 to pid 10 of web", "unwatch web, run 1"]);
}

#[test]
fn h16_h19_a_dependant_of_what_is_down_is_marked_and_not_replaced() {
    let spec = web(Mode::Enforce).depends_on("db", database());
    let mut it = Bench::running(spec);
    assert_eq!(
        it.depends("web", "db", DependencyState::Slow),
        ["service.dependency_down: web depends on db, which is slow: so says db"]
    );
    assert_eq!(it.health("web"), "dependency_down");
    let lines = it.sick("web", "hang");
    assert_eq!(
        lines.last().unwrap(),
        "service.replacement_suppressed: web is not replaced: it depends on db, which is slow: so \
         says db; its hang says so"
    );
    assert_eq!(it.after(3_600 * SECOND), [""; 0]);
    // A leak is its own fault, whatever stands behind it.
    it.well("web", "hang");
    assert!(it.sick("web", "leak").contains(&"signal 15 to pid 10 of web".to_owned()));
}

#[test]
fn h16_the_dependencies_have_time_to_be_found_down_before_it_is_blamed() {
    let spec = web(Mode::Enforce).depends_on("db", database());
    let mut it = Bench::running(spec);
    assert_eq!(deeds(&it.sick("web", "hang")), [""; 0]);
    assert_eq!(it.seen("web").replacing.unwrap().step, "blame");
    it.after(2 * SECOND);
    it.depends("web", "db", DependencyState::Down);
    assert_eq!(deeds(&it.after(60 * SECOND)), [""; 0]);
    assert_eq!(it.seen("web").replacing, None);
    assert_eq!(it.phase("web"), Phase::Running);
    // The database is back, and it is sick still: now it has its own time.
    assert_eq!(deeds(&it.depends("web", "db", DependencyState::Up)), [""; 0]);
    assert_eq!(deeds(&it.after(5 * SECOND)), ["signal 15 to pid 10 of web", "unwatch web, run 1"]);
}

#[test]
fn h12_h16_observed_it_would_not_be_replaced_either_while_another_one_is_to_blame() {
    let mut it = Bench::running(web(Mode::Observe).depends_on("db", database()));
    let said = ["service.sick: web is sick: its hang says so"];
    assert_eq!(it.sick("web", "hang"), said, "the database has time to be found down");
    it.after(2 * SECOND);
    it.depends("web", "db", DependencyState::Down);
    assert_eq!(it.after(60 * SECOND), [""; 0]);
    // The database is back, and it is sick still: now it has its own time.
    let lines = it.depends("web", "db", DependencyState::Up);
    assert_eq!(lines, ["service.dependency_up: db, on which web depends, is up"]);
    let would = ["service.would_replace: web would have been replaced: its hang says so"];
    assert_eq!(it.after(5 * SECOND), would);
    assert_eq!(it.after(3_600 * SECOND), [""; 0], "once");
    // A leak is its own fault, and a starving host excuses what it eats, too.
    it.depends("web", "db", DependencyState::Down);
    assert!(it.sick("web", "leak").last().unwrap().contains("would have been replaced"));
    it.well("web", "hang");
    it.depends("web", "db", DependencyState::Up);
    it.pressure(Some("memory is short"));
    assert_eq!(it.sick("web", "hang"), said);
    assert_eq!(it.after(3_600 * SECOND), [""; 0]);
}

#[test]
fn h16_who_is_only_observed_is_to_blame_for_what_depends_on_it() {
    let behind = DependencyTarget::Service("db".parse().unwrap());
    let db = service("db").tolerates(Mode::Observe);
    let mut it = Bench::all_running([db, web(Mode::Enforce).depends_on("db", behind)]);
    let lines = it.sick("db", "hang");
    let told = "service.dependency_down: web depends on db, which is down: db is sick";
    assert!(lines.contains(&told.to_owned()), "{lines:#?}");
    assert_eq!((it.health("db"), it.health("web")), ("up", "dependency_down"));
    assert_eq!(deeds(&it.sick("web", "hang")), [""; 0]);
    let lines = it.well("db", "hang");
    assert!(lines.iter().any(|line| line.starts_with("service.dependency_up")), "{lines:#?}");
}

#[test]
fn h16_of_two_services_that_are_sick_the_one_behind_is_replaced() {
    let behind = DependencyTarget::Service("db".parse().unwrap());
    let db = service("db").tolerates(Mode::Enforce);
    let mut it = Bench::all_running([db, web(Mode::Enforce).depends_on("db", behind)]);
    it.sick("web", "hang");
    let lines = it.sick("db", "hang");
    assert!(lines.contains(&"signal 15 to pid 10 of db".to_owned()), "{lines:#?}");
    assert_eq!(it.health("web"), "dependency_down");
    it.ends("db", 10, Exit::Signal(15));
    it.spawned("db", 12);
    assert_eq!(it.health("db"), "up");
    it.well("web", "hang");
    assert_eq!(deeds(&it.after(3_600 * SECOND)), [""; 0]);
    assert_eq!((it.phase("web"), it.seen("web").run.unwrap().0), (Phase::Running, 2));
}

#[test]
fn h26_when_replacing_does_not_help_it_ends_and_a_person_is_told() {
    let mut it = Bench::running(web(Mode::Enforce).but(|spec| spec.restart.budget = 2));
    for pid in 10..12 {
        it.sick("web", "hang");
        it.ends("web", pid, Exit::Signal(15));
        it.spawned("web", pid + 1);
    }
    let lines = it.sick("web", "hang");
    assert_eq!(
        lines[1],
        "service.budget_spent: web is sick and is not replaced any more, a person must look: 2 \
         restarts within 1m did not help; its hang says so"
    );
    assert_eq!(deeds(&lines), [""; 0], "what still serves a little is not stopped for good");
    assert_eq!((it.health("web"), it.phase("web")), ("sick", Phase::Running));
    assert_eq!(it.after(3_600 * SECOND), [""; 0]);
    // Planned replacements are no sign of failure.
    it.well("web", "hang");
    assert_eq!(deeds(&it.sick("web", "age")), [""; 0], "given up is given up");
    // Whoever looked gives it a new budget.
    it.ask(Action::Reset, "web");
    assert_eq!(it.phase("web"), Phase::Stopping);
}

#[test]
fn h26_planned_replacements_cost_no_budget() {
    let mut it = Bench::running(web(Mode::Enforce).but(|spec| spec.restart.budget = 1));
    for pid in 10..20 {
        it.sick("web", "age");
        it.ends("web", pid, Exit::Signal(15));
        it.spawned("web", pid + 1);
    }
    assert_eq!((it.health("web"), it.seen("web").restarts), ("up", 0));
}

#[test]
fn h26_a_watchdog_that_is_not_fed_is_a_verdict_where_there_is_tolerance() {
    let mut it = Bench::running(web(Mode::Enforce).watchdog(10 * SECOND));
    it.pressure(Some("no CPU time is left"));
    let lines = it.after(10 * SECOND);
    assert_eq!(deeds(&lines), [""; 0], "a starving host makes no service hang");
    assert_eq!(it.health("web"), "sick");
    let fed = it.says("web", supervisor::NotifyMessage::Watchdog);
    assert_eq!(fed, ["service.well: web is well again: it says WATCHDOG=1 again"]);
    it.pressure(None);
    assert!(it.after(10 * SECOND).contains(&"signal 15 to pid 10 of web".to_owned()));
}

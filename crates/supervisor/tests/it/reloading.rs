//! A new configuration touches only what differs (P3).

use crate::bench::{Bench, deeds};
use crate::specs::{But, SECOND, command, service};
use base::Answer;
use supervisor::{Action, Exit, Phase, Readiness, StopAction};

#[test]
fn p3_a_reload_without_differences_does_nothing_at_all() {
    let specs =
        || [service("db").times(3), service("web").requires("db"), service("job").oneshot()];
    let mut it = Bench::of(specs());
    it.spawned("db:0", 10);
    assert_eq!(it.configure(specs()), [""; 0]);
}

#[test]
fn p3_fewer_instances_stop_only_those_that_are_too_many() {
    let web = || service("web").requires("db");
    let mut it = Bench::all_running([service("db").times(3), web()]);
    let lines = it.configure([service("db").times(2), web()]);
    assert_eq!(deeds(&lines), ["signal 15 to pid 12 of db:2"]);
    assert_eq!(it.phase("web"), Phase::Running, "what requires the others is not stopped");
    let lines = it.ends("db:2", 12, Exit::Signal(15));
    assert_eq!(
        deeds(&lines),
        ["look at db:2", "release db:2, run 3", "forget db:2"],
        "and nothing is started in its place"
    );
    assert_eq!(it.core.snapshot().len(), 3);
}

#[test]
fn more_instances_start_only_the_new_ones() {
    let mut it = Bench::all_running([service("db").times(2)]);
    assert_eq!(deeds(&it.configure([service("db").times(3)])), ["spawn db:2 as run 3"]);
}

#[test]
fn p3_the_first_of_many_takes_the_place_of_the_only_one_once_that_is_down() {
    let mut it = Bench::running(service("web"));
    let lines = it.configure([service("web").times(2)]);
    assert_eq!(deeds(&lines), ["signal 15 to pid 10 of web", "spawn web:1 as run 2"]);
    assert_eq!(
        it.because("web:0")[0],
        "web:0 waits: it takes the place of web, which is not down yet"
    );
    let lines = it.ends("web", 10, Exit::Signal(15));
    assert_eq!(
        deeds(&lines),
        ["look at web", "release web, run 1", "forget web", "spawn web:0 as run 3"]
    );
}

#[test]
fn a_new_service_is_started_and_one_that_is_gone_is_stopped_and_forgotten() {
    let mut it = Bench::running(service("old"));
    let lines = it.configure([service("new")]);
    assert_eq!(
        lines,
        [
            "service.added: new is new in the configuration",
            "service.starting: new is started",
            "spawn new as run 2",
            "service.stopping: old is asked to stop",
            "signal 15 to pid 10 of old",
        ]
    );
    assert_eq!(
        it.ends("old", 10, Exit::Signal(15))[3..],
        [
            "service.stopped: old is stopped",
            "service.removed: old is gone from the configuration",
            "forget old"
        ]
    );
}

#[test]
fn what_is_gone_is_stopped_in_its_order() {
    let web = || service("web").requires("db");
    let mut it = Bench::all_running([service("db"), web()]);
    assert_eq!(deeds(&it.configure([])), ["signal 15 to pid 11 of web"]);
    let lines = it.ends("web", 11, Exit::Signal(15));
    assert_eq!(
        deeds(&lines),
        ["look at web", "release web, run 2", "signal 15 to pid 10 of db", "forget web"]
    );
}

#[test]
fn found_by_chance_a_stop_waits_for_what_was_taken_away_in_two_steps_and_then_goes_on() {
    // Two instances of one service that went at different times knew different neighbours.
    let mut it = Bench::all_running([service("db"), service("web").times(3)]);
    it.configure([service("db"), service("web").times(2).after("db")]);
    it.configure([service("db")]);
    it.ask(Action::Stop, "db");
    it.ends("web:0", 11, Exit::Signal(15));
    it.ends("web:1", 12, Exit::Signal(15));
    let lines = it.ends("web:2", 13, Exit::Signal(15));
    assert_eq!(
        deeds(&lines),
        ["look at web:2", "release web:2, run 4", "signal 15 to pid 10 of db", "forget web:2"]
    );
}

#[test]
fn what_comes_back_while_it_is_stopped_is_started_again() {
    let mut it = Bench::running(service("web"));
    it.configure([]);
    it.configure([service("web")]);
    let lines = it.ends("web", 10, Exit::Signal(15));
    assert_eq!(deeds(&lines).last(), Some(&"spawn web as run 2"));
}

#[test]
fn another_program_is_a_restart_down_the_ladder_of_the_old_one() {
    let old = service("web").stops_by(&[(command("/bin/old-stop"), 5)]);
    let new = || service("web").runs("/bin/new").stops_by(&[(StopAction::Signal(1), 9)]);
    let mut it = Bench::running(old);
    assert_eq!(
        it.configure([new()]),
        [
            "service.changed: the configuration of web has changed: it is restarted",
            "service.stopping: web is stopped, to be started again",
            "run `/bin/old-stop` for web, main Some(10), 5s",
        ]
    );
    // Another change on top, of what needs no restart: the old ladder still holds.
    it.configure([new().but(|spec| spec.description = "changed".into())]);
    assert_eq!(it.after_ms(4_999), [""; 0]);
    assert_eq!(deeds(&it.after_ms(1)), ["kill all of web"]);
}

#[test]
fn other_changes_take_effect_without_a_restart() {
    let mut it = Bench::running(service("web"));
    let changed = service("web").stops_by(&[(StopAction::Signal(3), 1)]).but(|spec| {
        spec.log.keep = 9;
    });
    assert_eq!(
        it.configure([changed]),
        ["service.changed: the configuration of web has changed: it goes on", "relog web"]
    );
    assert_eq!(deeds(&it.ask(Action::Stop, "web")), ["signal 3 to pid 10 of web"]);
}

#[test]
fn a_change_of_what_is_down_waits_for_its_next_start() {
    let mut it = Bench::of([service("web").not_by_itself()]);
    assert_eq!(
        it.configure([service("web").not_by_itself().runs("/bin/new")]),
        [
            "service.changed: the configuration of web has changed: it takes effect at its next start"
        ]
    );
}

#[test]
fn how_it_becomes_ready_was_decided_at_its_start() {
    let mut it = Bench::of([service("web").probed()]);
    it.spawned("web", 10);
    it.configure([service("web").probed().but(|spec| spec.ready = Readiness::Notify)]);
    it.probed("web", Answer::No("refused".into()));
    assert_eq!(it.after_ms(500).len(), 1, "it was not told where to say READY=1");
    assert_eq!(it.probed("web", Answer::Yes), ["service.ready: web is ready after 500ms"]);
}

#[test]
fn a_watchdog_that_it_was_never_told_of_does_not_bite_before_its_next_start() {
    let mut it = Bench::running(service("web"));
    it.configure([service("web").watchdog(SECOND)]);
    assert_eq!(it.after(60 * SECOND), [""; 0]);
    it.ask(Action::Restart, "web");
    it.ends("web", 10, Exit::Signal(15));
    it.spawned("web", 11);
    assert_eq!(deeds(&it.after(SECOND)), ["signal 15 to pid 11 of web"]);
}

#[test]
fn a_watchdog_may_be_relaxed_or_taken_away_at_once_but_not_tightened() {
    let mut it = Bench::running(service("web").watchdog(10 * SECOND));
    it.configure([service("web").watchdog(2 * SECOND)]);
    assert_eq!(it.after(9 * SECOND), [""; 0], "it feeds as often as it was told");
    it.configure([service("web").watchdog(60 * SECOND)]);
    assert_eq!(it.after(59 * SECOND), [""; 0]);
    it.configure([service("web")]);
    assert_eq!(it.after(600 * SECOND), [""; 0]);
}

#[test]
fn many_that_have_changed_are_replaced_in_order() {
    let mut it = Bench::all_running([service("db"), service("web").requires("db")]);
    let lines =
        it.configure([service("db").runs("/bin/x"), service("web").requires("db").runs("/bin/y")]);
    assert_eq!(deeds(&lines), ["signal 15 to pid 11 of web"]);
    let lines = it.ends("web", 11, Exit::Signal(15));
    assert_eq!(deeds(&lines), ["look at web", "release web, run 2", "signal 15 to pid 10 of db"]);
}

#[test]
fn what_is_to_be_stopped_is_not_restarted_because_it_changes_meanwhile() {
    let mut it = Bench::all_running([service("db"), service("web").requires("db")]);
    it.ask(Action::Stop, "db");
    assert_eq!(
        it.configure([service("db").runs("/bin/x"), service("web").requires("db")]),
        ["service.changed: the configuration of db has changed: it takes effect at its next start"]
    );
    let lines = it.ends("web", 11, Exit::Signal(15));
    assert_eq!(deeds(&lines), ["look at web", "release web, run 2", "signal 15 to pid 10 of db"]);
    it.ends("db", 10, Exit::Signal(15));
    assert_eq!(it.phase("db"), Phase::Stopped);
}

#[test]
fn what_comes_back_before_its_stop_has_begun_goes_on() {
    let specs = || [service("db"), service("web").after("db")];
    let mut it = Bench::all_running(specs());
    assert_eq!(deeds(&it.configure([])), ["signal 15 to pid 11 of web"]);
    assert_eq!(deeds(&it.configure(specs())), [""; 0]);
    assert_eq!(it.phase("db"), Phase::Running);
    let lines = it.ends("web", 11, Exit::Signal(15));
    assert_eq!(deeds(&lines), ["look at web", "release web, run 2", "spawn web as run 3"]);
}

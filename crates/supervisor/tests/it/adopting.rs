//! A new daemon takes over what an earlier one has left.

use crate::bench::{Bench, deeds};
use crate::specs::{But, SECOND, service};
use supervisor::{Action, Exit, Phase, Wish};

#[test]
fn what_is_alive_goes_on_untouched() {
    let mut it = Bench::with([service("web")]);
    assert_eq!(
        it.adopt("web", Wish::Up, true, Some(10)),
        [
            "attach web, run 90, pid 10",
            "service.adopted: web goes on under a new holdfast (pid 10)"
        ]
    );
    assert_eq!(it.begin(), [""; 0]);
    assert_eq!(it.phase("web"), Phase::Running);
    assert_eq!(deeds(&it.ask(Action::Stop, "web")), ["signal 15 to pid 10 of web"]);
}

#[test]
fn what_was_not_ready_is_judged_anew() {
    let mut it = Bench::with([service("web").probed()]);
    let lines = it.adopt("web", Wish::Up, false, Some(10));
    assert_eq!(
        deeds(&lines),
        ["attach web, run 90, pid 10", "probe web: Tcp(\"127.0.0.1:8000\"), 2s"]
    );
    assert_eq!(it.phase("web"), Phase::Starting);
}

#[test]
fn a_one_shot_at_work_is_not_done_because_the_daemon_changed() {
    let mut it = Bench::with([service("migrate").oneshot(), service("web").requires("migrate")]);
    it.adopt("migrate", Wish::Up, false, Some(10));
    assert_eq!(deeds(&it.begin()), [""; 0]);
    assert_eq!(it.phase("web"), Phase::Waiting);
    let lines = it.ends("migrate", 10, Exit::Code(0));
    assert_eq!(deeds(&lines).last(), Some(&"spawn web as run 1"));
}

#[test]
fn what_has_ended_meanwhile_is_cleaned_up_and_restarted_when_all_is_told() {
    let mut it = Bench::with([service("web")]);
    assert_eq!(it.adopt("web", Wish::Up, true, None), ["look at web"]);
    assert_eq!(deeds(&it.tree("web", &[12])), ["signal 15 to all of web"]);
    assert_eq!(deeds(&it.begin()), [""; 0]);
    assert_eq!(
        it.tree("web", &[]),
        [
            "release web, run 90",
            "service.restart_scheduled: web restarts now (restart 1 of at most 5 within 1m): it \
             ended while no holdfast was there to see",
            "service.starting: web is started",
            "spawn web as run 1",
        ]
    );
}

#[test]
fn what_was_down_failed_or_finished_stays_so() {
    for (wish, phase, why) in [
        (
            Wish::Down,
            Phase::Stopped,
            "web is stopped: it was stopped before holdfast was started again",
        ),
        (Wish::Failed("no disk".into()), Phase::Failed, "web was given up: no disk"),
        (
            Wish::Finished,
            Phase::Finished,
            "web is finished: it had done its work before holdfast was started again",
        ),
    ] {
        let mut it = Bench::with([service("web")]);
        it.adopt("web", wish, false, None);
        it.tree("web", &[]);
        assert_eq!(deeds(&it.begin()), [""; 0]);
        assert_eq!(it.phase("web"), phase);
        assert_eq!(it.because("web"), [why]);
    }
}

#[test]
fn what_was_on_its_way_down_goes_on_going_down() {
    let mut it = Bench::with([service("web")]);
    it.adopt("web", Wish::Down, true, Some(10));
    assert_eq!(deeds(&it.begin()), ["signal 15 to pid 10 of web"]);
    it.ends("web", 10, Exit::Unknown);
    assert_eq!(it.phase("web"), Phase::Stopped);
}

#[test]
fn what_was_started_from_another_configuration_is_restarted() {
    let mut it = Bench::with([service("web")]);
    let lines = it.adopt_as("web", Wish::Up, true, Some(10), true);
    assert_eq!(deeds(&lines), ["attach web, run 90, pid 10", "signal 15 to pid 10 of web"]);
    it.begin();
    assert_eq!(deeds(&it.ends("web", 10, Exit::Unknown)).last(), Some(&"spawn web as run 1"));
    assert_eq!(it.after(SECOND), [""; 0]);
}

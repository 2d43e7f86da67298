//! A new daemon takes over what an earlier one has left.

use crate::bench::{Bench, deeds};
use crate::specs::{But, SECOND, service};
use supervisor::{Action, Exit, NotifyMessage, Phase, RestartWhen, Wish};

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
    assert_eq!(deeds(&lines), ["attach web, run 90, pid 10"]);
    assert_eq!(deeds(&it.begin()), ["signal 15 to pid 10 of web"]);
    assert_eq!(deeds(&it.ends("web", 10, Exit::Unknown)).last(), Some(&"spawn web as run 1"));
    assert_eq!(it.after(SECOND), [""; 0]);
}

#[test]
fn outdated_services_are_replaced_in_order_once_all_that_is_alive_is_known() {
    let mut it = Bench::with([service("app").requires("db"), service("db")]);
    it.adopt_as("db", Wish::Up, true, Some(10), true);
    it.adopt_as("app", Wish::Up, true, Some(11), true);
    assert_eq!(deeds(&it.begin()), ["signal 15 to pid 11 of app"]);
    let lines = it.ends("app", 11, Exit::Unknown);
    assert_eq!(deeds(&lines), ["look at app", "release app, run 91", "signal 15 to pid 10 of db"]);
    let lines = it.ends("db", 10, Exit::Unknown);
    assert_eq!(deeds(&lines), ["look at db", "release db, run 90", "spawn db as run 1"]);
    assert_eq!(deeds(&it.spawned("db", 12)), ["spawn app as run 2"]);
}

#[test]
fn what_was_only_waiting_when_the_daemon_died_has_not_failed() {
    let app = service("app").requires("db").restarts(RestartWhen::Never);
    let mut it = Bench::with([app, service("db")]);
    it.adopt_recorded("app", (Wish::Up, false), None, None, false);
    assert_eq!(it.tree("app", &[]), ["release app, run 90"]);
    it.begin();
    assert_eq!((it.phase("app"), it.seen("app").restarts), (Phase::Waiting, 0));
    assert_eq!(deeds(&it.spawned("db", 10)), ["spawn app as run 2"]);
}

#[test]
fn a_ready_that_only_the_dead_daemon_can_have_heard_costs_the_service_no_restart() {
    let mut it = Bench::with([service("web").says_ready()]);
    it.adopt("web", Wish::Up, false, Some(10));
    it.begin();
    assert_eq!(it.phase("web"), Phase::Starting);
    assert_eq!(
        it.after(61 * SECOND),
        [
            "service.adopted: web counts as ready: it is alive, and what it says once it may have \
             said to the holdfast before this one",
            "service.ready: web is ready after 1m",
        ]
    );
    assert_eq!(it.phase("web"), Phase::Running);
    // Its next run is held to its word.
    it.ends("web", 10, Exit::Unknown);
    it.spawned("web", 11);
    let lines = it.after(61 * SECOND);
    assert_eq!(deeds(&lines), ["signal 15 to pid 11 of web"]);
}

#[test]
fn a_ready_that_comes_after_the_adoption_is_heard() {
    let mut it = Bench::with([service("web").says_ready()]);
    it.adopt("web", Wish::Up, false, Some(10));
    it.begin();
    it.says("web", NotifyMessage::Ready);
    assert_eq!(it.phase("web"), Phase::Running);
}

#[test]
fn d2_a_service_that_was_about_to_fork_when_the_daemon_died_still_may() {
    let mut it = Bench::with([service("web").forking()]);
    it.adopt_recorded("web", (Wish::Up, false), None, Some(10), false);
    it.begin();
    // Nobody's child any more: the code is not known.
    assert_eq!(it.exited("web", 10, Exit::Unknown), ["find main of web"]);
    it.main_found("web", Ok(20));
    assert_eq!((it.phase("web"), it.seen("web").pid.map(|pid| pid.0)), (Phase::Running, Some(20)));
}

#[test]
fn d2_a_service_that_had_forked_already_is_kept_by_the_process_that_is_there() {
    let mut it = Bench::with([service("web").forking()]);
    it.adopt_recorded("web", (Wish::Up, false), None, Some(20), false);
    it.begin();
    it.after(61 * SECOND);
    assert_eq!((it.phase("web"), it.seen("web").pid.map(|pid| pid.0)), (Phase::Running, Some(20)));
    let lines = it.ends("web", 20, Exit::Unknown);
    assert_eq!(deeds(&lines), ["look at web", "release web, run 90", "spawn web as run 1"]);
}

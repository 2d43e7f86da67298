//! From wanted to ready.

use crate::bench::{Bench, deeds, line};
use crate::specs::{But, SECOND, command, id, service};
use base::{Answer, RunId};
use std::time::Duration;
use supervisor::{
    Action, Exit, Input, NotifyMessage, Output, Phase, Pid, Readiness, RestartWhen, StopAction,
};

#[test]
fn nothing_starts_before_it_is_begun() {
    let mut it = Bench::with([service("web")]);
    assert_eq!(it.core.next_wake(), None);
    assert_eq!(it.begin(), ["service.starting: web is started", "spawn web as run 1"]);
}

#[test]
fn what_is_not_started_automatically_waits_to_be_asked() {
    let mut it = Bench::of([service("web").not_by_itself()]);
    assert_eq!(it.phase("web"), Phase::Stopped);
    assert_eq!(it.because("web"), ["web is stopped: it is not started automatically"]);
    assert_eq!(deeds(&it.ask(Action::Start, "web")), ["spawn web as run 1"]);
}

#[test]
fn a_run_is_remembered_before_it_begins_and_again_with_its_process() {
    let mut it = Bench::with([service("web")]);
    let lines = |out: Vec<Output>| out.iter().map(line).collect::<Vec<_>>();
    assert_eq!(
        lines(it.raw(Input::Begin)),
        [
            "remember web: run 1, main None, ready false, Up",
            "service.starting: web is started",
            "spawn web as run 1",
        ]
    );
    let spawned = Input::Spawned { instance: id("web"), run: RunId(1), pid: Pid(10) };
    assert_eq!(
        lines(it.raw(spawned)),
        [
            "remember web: run 1, main Some(10), ready false, Up",
            "remember web: run 1, main Some(10), ready true, Up",
            "service.ready: web is ready after less than 1ms",
        ]
    );
}

#[test]
fn it_is_ready_when_it_says_so_and_not_before() {
    let mut it = Bench::of([service("db").says_ready()]);
    assert_eq!(it.spawned("db", 10), [""; 0]);
    assert_eq!(it.because("db"), ["db is not ready: it has not said READY=1"]);
    it.after_ms(250);
    assert_eq!(it.says("db", NotifyMessage::Ready), ["service.ready: db is ready after 250ms"]);
    assert_eq!(it.says("db", NotifyMessage::Ready), [""; 0], "once is enough");
}

#[test]
fn it_is_ready_after_its_delay() {
    let mut it = Bench::of([service("web").but(|s| s.ready = Readiness::Delay(3 * SECOND))]);
    assert_eq!(it.spawned("web", 10), [""; 0]);
    assert_eq!(it.after_ms(2_999), [""; 0]);
    assert_eq!(it.after_ms(1), ["service.ready: web is ready after 3s"]);
}

#[test]
fn a_probe_is_asked_at_once_and_again_after_each_answer_until_yes() {
    let mut it = Bench::of([service("web").probed()]);
    let probe = ["probe web: Tcp(\"127.0.0.1:8000\"), 2s"];
    assert_eq!(it.spawned("web", 10), probe);
    assert_eq!(it.after(5 * SECOND), [""; 0], "never asked twice at once");
    assert_eq!(it.probed("web", Answer::No("refused".into())), [""; 0]);
    assert_eq!(it.because("web"), ["web is not ready: refused"]);
    assert_eq!(it.after_ms(499), [""; 0]);
    assert_eq!(it.after_ms(1), probe);
    assert_eq!(it.probed("web", Answer::CannotTell("no descriptors".into())), [""; 0]);
    assert_eq!(it.because("web"), ["web is not ready: no descriptors"]);
    assert_eq!(it.after_ms(500), probe);
    assert_eq!(it.probed("web", Answer::Yes), ["service.ready: web is ready after 6s"]);
    assert_eq!(it.after(60 * SECOND), [""; 0], "a service that is ready is not asked any more");
}

#[test]
fn h18_a_start_that_takes_too_long_is_stopped_and_tried_again() {
    let mut it = Bench::of([service("db").says_ready().but(|s| s.start_timeout = 5 * SECOND)]);
    it.spawned("db", 10);
    assert_eq!(
        it.after(5 * SECOND),
        [
            "service.start_timeout: db did not become ready within 5s: it has not said READY=1",
            "service.stopping: db is asked to stop",
            "signal 15 to pid 10 of db",
        ]
    );
    let lines = it.ends("db", 10, Exit::Signal(15));
    assert_eq!(deeds(&lines), ["look at db", "release db, run 1", "spawn db as run 2"]);
    assert!(
        lines.contains(
            &"service.restart_scheduled: db restarts now (restart 1 of at most 5 within 1m): \
              it did not become ready in time: it has not said READY=1"
                .to_owned()
        ),
        "{lines:?}"
    );
}

#[test]
fn a_service_may_ask_for_more_time_to_start() {
    let mut it = Bench::of([service("db").says_ready().but(|s| s.start_timeout = 5 * SECOND)]);
    it.spawned("db", 10);
    it.after(4 * SECOND);
    it.says("db", NotifyMessage::ExtendTimeout(10 * SECOND));
    assert_eq!(it.after_ms(9_999), [""; 0]);
    assert_eq!(it.says("db", NotifyMessage::Ready), ["service.ready: db is ready after 13s"]);
}

#[test]
fn a_one_shot_is_finished_once_it_has_ended_well() {
    let mut it = Bench::of([service("migrate").oneshot()]);
    assert_eq!(it.spawned("migrate", 10), [""; 0]);
    assert_eq!(it.because("migrate"), ["migrate is not ready: it has not done its work yet"]);
    it.after_ms(1_200);
    assert_eq!(
        it.ends("migrate", 10, Exit::Code(0)),
        [
            "service.exited: migrate exited with code 0 after 1s200ms (pid 10)",
            "look at migrate",
            "release migrate, run 1",
            "service.finished: migrate has done its work",
        ]
    );
    assert_eq!(it.phase("migrate"), Phase::Finished);
}

#[test]
fn h26_a_one_shot_that_fails_is_tried_again() {
    let mut it = Bench::of([service("migrate").oneshot()]);
    it.spawned("migrate", 10);
    let lines = it.ends("migrate", 10, Exit::Code(3));
    assert_eq!(deeds(&lines).last(), Some(&"spawn migrate as run 2"));
}

#[test]
fn a_program_that_does_not_exist_is_not_tried_again() {
    let mut it = Bench::of([service("web")]);
    assert_eq!(
        it.spawn_failed("web", "there is no /bin/web", true),
        ["release web, run 1", "service.start_failed: web is given up: there is no /bin/web"]
    );
    assert_eq!(it.phase("web"), Phase::Failed);
    assert_eq!(it.because("web"), ["web was given up: there is no /bin/web"]);
    assert_eq!(it.after(3_600 * SECOND), [""; 0]);
    assert_eq!(deeds(&it.ask(Action::Start, "web")), ["spawn web as run 2"]);
}

#[test]
fn h26_a_lack_of_processes_is_tried_again_later() {
    let mut it = Bench::of([service("web")]);
    let lines = it.spawn_failed("web", "no process can be made now", false);
    assert_eq!(deeds(&lines), ["release web, run 1", "spawn web as run 2"], "the first at once");
    let lines = it.spawn_failed("web", "no process can be made now", false);
    assert_eq!(
        lines,
        [
            "release web, run 2",
            "service.start_failed: web could not be started: no process can be made now",
            "service.restart_scheduled: web restarts in 200ms (restart 2 of at most 5 within 1m): \
             no process can be made now",
        ]
    );
    assert_eq!(deeds(&it.after_ms(200)), ["spawn web as run 3"]);
}

#[test]
fn a_start_that_fails_for_good_is_tried_again_if_its_spec_has_changed_meanwhile() {
    let mut it = Bench::of([service("web").runs("/bin/wbe")]);
    it.configure([service("web")]);
    let lines = it.spawn_failed("web", "there is no /bin/wbe", true);
    assert_eq!(deeds(&lines), ["release web, run 1", "spawn web as run 2"]);
}

#[test]
fn b2_a_late_answer_about_an_earlier_life_changes_nothing() {
    let mut it = Bench::running(service("web"));
    let old = it.run("web");
    it.ends("web", 10, Exit::Code(1));
    it.spawned("web", 11);
    let instance = || id("web");
    let (pid, exit) = (Pid(11), Exit::Code(1));
    let message = NotifyMessage::WatchdogTrigger;
    for late in [
        Input::Spawned { instance: instance(), run: old, pid },
        Input::Exited { instance: instance(), run: old, pid, exit },
        Input::Tree { instance: instance(), run: old, alive: vec![pid], unkillable: vec![] },
        Input::Notify { instance: instance(), run: old, message },
        Input::Probed { instance: instance(), run: old, answer: Answer::Yes },
        Input::CommandEnded { instance: instance(), run: old, result: Err("late".into()) },
        Input::MainFound { instance: instance(), run: old, main: Ok(Pid(12)) },
    ] {
        assert_eq!(it.raw(late), []);
    }
    assert_eq!(it.seen("web").pid, Some(Pid(11)));
}

#[test]
fn a_restart_asked_for_while_it_is_executed_happens_even_if_a_start_follows() {
    let mut it = Bench::of([service("web")]);
    assert_eq!(deeds(&it.ask(Action::Restart, "web")), [""; 0], "nothing to stop yet");
    assert_eq!(deeds(&it.ask(Action::Start, "web")), [""; 0]);
    assert_eq!(deeds(&it.spawned("web", 10)), ["signal 15 to pid 10 of web"]);
    assert_eq!(deeds(&it.ends("web", 10, Exit::Signal(15))).last(), Some(&"spawn web as run 2"));
    it.spawned("web", 11);
    let lines = it.ends("web", 11, Exit::Code(1));
    assert!(lines.iter().any(|line| line.starts_with("service.restart_scheduled")), "{lines:?}");
}

#[test]
fn a_change_of_mind_while_it_is_executed_costs_nothing() {
    let mut it = Bench::of([service("web")]);
    it.ask(Action::Stop, "web");
    it.ask(Action::Start, "web");
    assert_eq!(it.spawned("web", 10), ["service.ready: web is ready after less than 1ms"]);
    let lines = it.ends("web", 10, Exit::Code(1));
    assert_eq!(it.seen("web").restarts, 1, "its own end counts: {lines:?}");
}

#[test]
fn a_stop_asked_for_while_it_is_executed_waits_for_its_process() {
    let mut it = Bench::of([service("web").restarts(RestartWhen::Always)]);
    assert_eq!(deeds(&it.ask(Action::Stop, "web")), [""; 0]);
    assert_eq!(deeds(&it.spawned("web", 10)), ["signal 15 to pid 10 of web"]);
    let lines = it.ends("web", 10, Exit::Signal(15));
    assert_eq!(deeds(&lines), ["look at web", "release web, run 1"]);
    assert_eq!(it.phase("web"), Phase::Stopped);
}

#[test]
fn templates_are_filled_in_for_each_instance() {
    let spec = service("web").probed().times(2);
    let spec = spec.stops_by(&[(command("/bin/bye {name} {index} {port}"), 5)]);
    let mut it = Bench::of([spec.but(|s| s.reload = Some(StopAction::Signal(1)))]);
    assert_eq!(it.spawned("web:1", 11), ["probe web:1: Tcp(\"127.0.0.1:8001\"), 2s"]);
    let lines = it.ask(Action::Stop, "web:1");
    assert_eq!(deeds(&lines), ["run `/bin/bye web 1 8001` for web:1, main Some(11), 5s"]);
    let pause = Duration::from_secs(5);
    assert_eq!(deeds(&it.after(pause)), ["kill all of web:1"]);
}

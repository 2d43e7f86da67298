//! The stop ladder, and what does not want to go (H18).

use crate::bench::{Bench, deeds};
use crate::specs::{But, SECOND, command, service};
use supervisor::{Action, Exit, NotifyMessage, Phase, StopAction};

#[test]
fn h18_each_rung_is_tried_and_then_everything_is_killed() {
    let steps = [(command("/bin/bye"), 3), (StopAction::Signal(15), 5), (StopAction::Signal(2), 1)];
    let mut it = Bench::running(service("web").stops_by(&steps));
    assert_eq!(
        it.ask(Action::Stop, "web"),
        ["service.stopping: web is asked to stop", "run `/bin/bye` for web, main Some(10), 3s",]
    );
    assert_eq!(it.because("web")[0], "web was asked to stop, step 1 of 3: it was stopped by ada");
    assert_eq!(
        it.after(3 * SECOND),
        ["signal 15 to pid 10 of web", "service.stop_escalated: web has not stopped: next is TERM",]
    );
    assert_eq!(
        it.after(5 * SECOND),
        ["signal 2 to pid 10 of web", "service.stop_escalated: web has not stopped: next is INT",]
    );
    assert_eq!(
        it.after(SECOND),
        [
            "service.killing: web has not stopped when asked: everything of it is killed",
            "kill all of web",
        ]
    );
    assert_eq!(it.tree("web", &[]), [""; 0], "its end was not told yet");
    assert_eq!(
        it.exited("web", 10, Exit::Signal(9)),
        [
            "service.exited: web was killed by signal 9 (KILL) after 9s (pid 10)",
            "release web, run 1",
            "service.stopped: web is stopped",
        ]
    );
    assert_eq!(it.core.next_wake(), None);
}

#[test]
fn h18_a_stop_command_that_fails_takes_the_next_rung_at_once() {
    let steps = [(command("/bin/bye"), 30), (StopAction::Signal(15), 5)];
    let mut it = Bench::running(service("web").stops_by(&steps));
    it.ask(Action::Stop, "web");
    assert_eq!(
        it.command_ended("web", Err("`/bin/bye` exited with code 1")),
        [
            "service.stop_escalated: a command of web failed: `/bin/bye` exited with code 1",
            "signal 15 to pid 10 of web",
            "service.stop_escalated: web has not stopped: next is TERM",
        ]
    );
}

#[test]
fn h18_a_stop_command_that_takes_too_long_does_not_cost_the_next_rung_its_time() {
    let steps = [(command("/bin/bye"), 3), (StopAction::Signal(15), 5)];
    let mut it = Bench::running(service("web").stops_by(&steps));
    it.ask(Action::Stop, "web");
    assert_eq!(deeds(&it.after(3 * SECOND)), ["signal 15 to pid 10 of web"]);
    assert_eq!(deeds(&it.command_ended("web", Err("took too long and was killed"))), [""; 0]);
    assert_eq!(it.after_ms(4_999), [""; 0], "TERM has its five seconds");
    assert_eq!(deeds(&it.after_ms(1)), ["kill all of web"]);
}

#[test]
fn a_reload_command_that_fails_late_says_nothing_about_the_stop() {
    let steps = [(command("/bin/bye"), 3), (StopAction::Signal(15), 5)];
    let reload = |spec: &mut supervisor::ServiceSpec| spec.reload = Some(command("/bin/hup"));
    let mut it = Bench::running(service("web").stops_by(&steps).but(reload));
    it.ask(Action::Reload, "web");
    it.ask(Action::Stop, "web");
    assert_eq!(deeds(&it.command_ended("web", Err("no"))), [""; 0], "that was the reload");
    assert_eq!(deeds(&it.command_ended("web", Err("no"))), ["signal 15 to pid 10 of web"]);
}

#[test]
fn a_stop_command_that_succeeds_is_given_its_time() {
    let steps = [(command("/bin/bye"), 3), (StopAction::Signal(15), 5)];
    let mut it = Bench::running(service("web").stops_by(&steps));
    it.ask(Action::Stop, "web");
    assert_eq!(it.command_ended("web", Ok(())), [""; 0]);
    assert_eq!(it.after_ms(2_999), [""; 0]);
    assert_eq!(deeds(&it.after_ms(1)), ["signal 15 to pid 10 of web"]);
}

#[test]
fn a_service_may_ask_for_more_time_to_stop() {
    let mut it = Bench::running(service("db"));
    it.ask(Action::Stop, "db");
    it.after(9 * SECOND);
    it.says("db", NotifyMessage::ExtendTimeout(20 * SECOND));
    assert_eq!(it.after_ms(19_999), [""; 0]);
    assert_eq!(deeds(&it.after_ms(1)), ["kill all of db"]);
}

#[test]
fn h18_without_rungs_it_is_killed_at_once() {
    let mut it = Bench::running(service("web").stops_by(&[]));
    assert_eq!(deeds(&it.ask(Action::Stop, "web")), ["kill all of web"]);
}

#[test]
fn h18_what_survives_sigkill_is_killed_again_ever_more_rarely_and_reported_once() {
    let mut it = Bench::running(service("web").stops_by(&[]));
    it.ask(Action::Stop, "web");
    it.exited("web", 10, Exit::Signal(9));
    let mut pauses = Vec::new();
    let mut said = Vec::new();
    for _ in 0..16 {
        said.extend(it.tree_stuck("web", 11, "nfs_wait"));
        let asked = it.now;
        let wake = it.core.next_wake().unwrap();
        let pause = wake.since(asked);
        assert_eq!(it.after(pause), ["kill all of web"]);
        pauses.push(pause.as_millis());
    }
    assert_eq!(
        pauses,
        [
            100, 200, 400, 800, 1000, 1000, 1000, 1000, 1000, 1000, 2000, 4000, 8000, 10000, 10000,
            10000
        ]
    );
    assert_eq!(
        said,
        ["service.unkillable: web cannot be killed, tried for 5s: pid 11 is in uninterruptible \
             sleep in nfs_wait: it waits for a device or a file server; it is tried again, and \
             not started before"]
    );
    assert_eq!(it.phase("web"), Phase::Stopping);
    assert_eq!(
        it.because("web"),
        ["web is not gone: pid 11 is in uninterruptible sleep in nfs_wait: it waits for a \
             device or a file server"],
        "the reason stays, however often it is looked at"
    );
    assert_eq!(
        it.tree("web", &[]),
        ["release web, run 1", "service.stopped: web is stopped"],
        "once it can be killed, it is gone"
    );
}

#[test]
fn repeated_stops_do_nothing_new() {
    let mut it = Bench::running(service("web"));
    it.ask(Action::Stop, "web");
    assert_eq!(it.ask(Action::Stop, "web"), [""; 0]);
    it.after(SECOND);
    assert_eq!(it.ask(Action::Stop, "web"), [""; 0]);
    assert_eq!(deeds(&it.after(9 * SECOND)), ["kill all of web"], "the ladder was not begun anew");
    it.tree("web", &[]);
    it.exited("web", 10, Exit::Signal(9));
    assert_eq!(it.ask(Action::Stop, "web"), [""; 0]);
}

#[test]
fn a_start_during_the_stop_comes_after_it() {
    let mut it = Bench::running(service("web"));
    it.ask(Action::Stop, "web");
    assert_eq!(deeds(&it.ask(Action::Start, "web")), [""; 0]);
    let lines = it.ends("web", 10, Exit::Signal(15));
    assert_eq!(deeds(&lines), ["look at web", "release web, run 1", "spawn web as run 2"]);
    assert_eq!(it.seen("web").restarts, 0, "what was asked for is no restart by policy");
}

#[test]
fn a_stop_during_the_pause_before_a_restart_is_done_at_once() {
    let mut it = Bench::running(service("web"));
    it.ends("web", 10, Exit::Code(1));
    it.spawned("web", 11);
    it.ends("web", 11, Exit::Code(1));
    assert_eq!(it.phase("web"), Phase::Backoff);
    assert_eq!(
        it.ask(Action::Stop, "web"),
        ["service.stopped: web is stopped: it was stopped by ada"]
    );
    assert_eq!(it.core.next_wake(), None);
}

#[test]
fn h18_a_stop_ends_however_often_the_service_asks_for_more_time() {
    let mut it = Bench::running(service("web"));
    it.ask(Action::Stop, "web");
    let mut lines = Vec::new();
    for _ in 0..4 {
        it.says("web", NotifyMessage::ExtendTimeout(3600 * SECOND));
        lines.extend(it.after(1000 * SECOND));
    }
    assert_eq!(deeds(&lines).first(), Some(&"kill all of web"));
}

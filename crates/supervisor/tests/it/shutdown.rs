//! The end of the daemon.

use crate::bench::{Bench, deeds, line};
use crate::specs::{But, SECOND, service};
use supervisor::{Action, Exit, Input, RestartWhen, ShutdownMode};

#[test]
fn services_are_stopped_in_reverse_order_and_the_end_is_told_once() {
    let always = |name: &str| service(name).restarts(RestartWhen::Always);
    let mut it = Bench::all_running([always("db"), always("web").after("db"), always("x")]);
    assert_eq!(
        deeds(&it.shutdown(ShutdownMode::StopServices)),
        ["signal 15 to pid 11 of web", "signal 15 to pid 12 of x"],
        "what does not depend on each other goes at the same time"
    );
    assert_eq!(deeds(&it.shutdown(ShutdownMode::StopServices)), [""; 0]);
    let lines = it.ends("web", 11, Exit::Signal(15));
    assert_eq!(deeds(&lines).last(), Some(&"signal 15 to pid 10 of db"));
    it.ends("x", 12, Exit::Signal(15));
    let lines = it.ends("db", 10, Exit::Signal(15));
    assert_eq!(
        deeds(&lines),
        [
            "look at db",
            "release db, run 1",
            "forget db",
            "forget web",
            "forget x",
            "shutdown complete",
        ]
    );
    assert_eq!(it.after(3_600 * SECOND), [""; 0]);
}

#[test]
fn nothing_starts_any_more() {
    let mut it = Bench::all_running([service("db"), service("web").after("db")]);
    it.shutdown(ShutdownMode::StopServices);
    assert_eq!(it.ask(Action::Start, "web"), [""; 0]);
    assert_eq!(it.ask(Action::Restart, "db"), [""; 0], "it does not go before its turn");
    let changed = [service("db").runs("/bin/new"), service("web").after("db"), service("new")];
    assert_eq!(deeds(&it.configure(changed)), [""; 0]);
    let lines = it.ends("web", 11, Exit::Signal(15));
    assert_eq!(deeds(&lines).last(), Some(&"signal 15 to pid 10 of db"));
}

#[test]
fn what_fails_during_the_shutdown_is_stopped_and_no_restart_is_announced() {
    let mut it = Bench::all_running([service("db"), service("web").after("db")]);
    it.shutdown(ShutdownMode::StopServices);
    assert_eq!(
        it.ends("db", 10, Exit::Code(1))[2..],
        ["release db, run 1", "service.stopped: db is stopped"]
    );
}

#[test]
fn where_nothing_runs_the_end_comes_at_once() {
    let mut it = Bench::of([service("web").not_by_itself()]);
    assert_eq!(it.shutdown(ShutdownMode::StopServices), ["forget web", "shutdown complete"]);
}

#[test]
fn services_that_are_kept_are_remembered_and_left_alone() {
    let mut it = Bench::all_running([service("db"), service("web")]);
    let out = it.raw(Input::Shutdown(ShutdownMode::KeepServices));
    assert_eq!(
        out.iter().map(line).collect::<Vec<_>>(),
        [
            "remember db: run 1, main Some(10), ready true, Up",
            "remember web: run 2, main Some(11), ready true, Up",
            "shutdown complete",
        ]
    );
}

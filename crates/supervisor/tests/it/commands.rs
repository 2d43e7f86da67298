//! What an operator asks for.

use crate::bench::{Bench, deeds};
use crate::specs::{But, command, id, service};
use supervisor::{Action, Exit, Input, Phase, RestartWhen, StopAction};

#[test]
fn a_restart_is_a_stop_and_a_start_and_leaves_dependants_alone() {
    let mut it = Bench::all_running([service("db"), service("web").requires("db")]);
    assert_eq!(
        it.ask(Action::Restart, "db"),
        ["service.stopping: db is stopped, to be started again", "signal 15 to pid 10 of db"]
    );
    assert_eq!(it.ask(Action::Restart, "db"), [""; 0], "it is on its way already");
    let lines = it.ends("db", 10, Exit::Signal(15));
    assert_eq!(deeds(&lines), ["look at db", "release db, run 1", "spawn db as run 3"]);
    assert_eq!(it.phase("web"), Phase::Running);
    assert_eq!(it.seen("db").restarts, 0);
}

#[test]
fn a_repeated_start_changes_nothing() {
    let mut it = Bench::running(service("web"));
    assert_eq!(it.ask(Action::Start, "web"), [""; 0]);
    assert_eq!(it.phase("web"), Phase::Running);
}

#[test]
fn a_start_during_the_end_of_a_failed_life_starts_it_whatever_its_policy_says() {
    let mut it = Bench::running(service("web").restarts(RestartWhen::Never));
    it.exited("web", 10, Exit::Code(1));
    it.ask(Action::Start, "web");
    assert_eq!(deeds(&it.tree("web", &[])), ["release web, run 1", "spawn web as run 2"]);
}

#[test]
fn reload_does_what_the_spec_says_or_says_why_not() {
    let hup = service("web").but(|spec| spec.reload = Some(StopAction::Signal(1)));
    let mut it = Bench::running(hup);
    assert_eq!(
        it.ask(Action::Reload, "web"),
        [
            "signal 1 to pid 10 of web",
            "service.reloading: web is asked to read its configuration again",
        ]
    );
    let by_command = service("web").but(|spec| spec.reload = Some(command("/bin/hup {name}")));
    let mut it = Bench::running(by_command);
    assert_eq!(
        deeds(&it.ask(Action::Reload, "web")),
        ["run `/bin/hup web` for web, main Some(10), 60s"]
    );
    assert_eq!(
        it.command_ended("web", Err("it exited with code 1")),
        ["service.command: a command of web failed: it exited with code 1"]
    );
    assert_eq!(
        Bench::running(service("web")).ask(Action::Reload, "web"),
        ["service.command: web cannot be asked to reload: its configuration does not say how; \
             a restart does it"]
    );
    assert_eq!(
        Bench::of([service("web").not_by_itself()]).ask(Action::Reload, "web"),
        ["service.command: web cannot be asked to reload: it does not run"]
    );
}

#[test]
fn a_signal_goes_to_the_main_process() {
    let mut it = Bench::running(service("web"));
    assert_eq!(it.ask(Action::Signal(10), "web"), ["signal 10 to pid 10 of web"]);
}

#[test]
fn who_does_not_exist_is_not_asked() {
    let mut it = Bench::running(service("web"));
    let (targets, by) = (vec![id("wbe"), id("web:3")], "ada".to_owned());
    assert_eq!(it.give(Input::Command { targets, action: Action::Stop, by }), [""; 0]);
}

#[test]
fn many_are_restarted_in_order_down_and_up() {
    let mut it = Bench::all_running([service("db"), service("web").requires("db")]);
    let targets = vec![id("db"), id("web")];
    let by = "ada".to_owned();
    let lines = it.give(Input::Command { targets, action: Action::Restart, by });
    assert_eq!(deeds(&lines), ["signal 15 to pid 11 of web"]);
    assert_eq!(it.because("db")[0], "db is to be stopped once those that depend on it are down");
    let lines = it.ends("web", 11, Exit::Signal(15));
    assert_eq!(deeds(&lines), ["look at web", "release web, run 2", "signal 15 to pid 10 of db"]);
    let lines = it.ends("db", 10, Exit::Signal(15));
    assert_eq!(deeds(&lines), ["look at db", "release db, run 1", "spawn db as run 3"]);
    assert_eq!(deeds(&it.spawned("db", 12)), ["spawn web as run 4"]);
}

#[test]
fn a_signal_that_cannot_be_sent_is_not_swallowed() {
    let mut it = Bench::of([service("web").forking()]);
    it.spawned("web", 10);
    let why = "service.command: web cannot be sent a signal: its main process is not known";
    assert_eq!(it.ask(Action::Signal(1), "web"), [why]);
    it.ask(Action::Stop, "web");
    it.exited("web", 10, Exit::Signal(15));
    it.tree("web", &[]);
    let why = "service.command: web cannot be sent a signal: it does not run";
    assert_eq!(it.ask(Action::Signal(1), "web"), [why]);
}

//! Who waits for whom, up and down (G13).

use crate::bench::{Bench, deeds};
use crate::specs::{But, SECOND, service};
use supervisor::{Action, Exit, NotifyMessage, Phase, RestartWhen, Wish};

#[test]
fn g13_what_is_required_is_started_first_and_the_chain_says_who_waits_for_whom() {
    let web = service("web").requires("app");
    let app = service("app").requires("db");
    let mut it = Bench::with([service("db").says_ready(), app, web]);
    assert_eq!(deeds(&it.begin()), ["spawn db as run 1"]);
    it.spawned("db", 10);
    assert_eq!(
        it.because("web"),
        [
            "web waits: it requires app, and app is waiting",
            "app waits: it requires db, and db is starting",
            "db is not ready: it has not said READY=1",
        ]
    );
    assert_eq!(deeds(&it.says("db", NotifyMessage::Ready)), ["spawn app as run 2"]);
    assert_eq!(deeds(&it.spawned("app", 11)), ["spawn web as run 3"]);
}

#[test]
fn all_instances_of_what_is_required_must_be_ready() {
    let mut it = Bench::of([service("db").times(2), service("web").requires("db")]);
    assert_eq!(deeds(&it.spawned("db:1", 11)), [""; 0]);
    assert_eq!(deeds(&it.spawned("db:0", 10)), ["spawn web as run 3"]);
}

#[test]
fn what_is_wanted_is_pulled_up_and_waited_for_but_its_failure_stops_nobody() {
    let cache = service("cache").not_by_itself();
    let mut it = Bench::with([cache, service("web").wants("cache")]);
    assert_eq!(deeds(&it.begin()), ["spawn cache as run 1"]);
    let lines = it.spawn_failed("cache", "there is no /bin/cache", true);
    assert_eq!(deeds(&lines), ["release cache, run 1", "spawn web as run 2"]);
}

#[test]
fn what_is_required_by_something_that_starts_automatically_is_started_too() {
    let db = service("db").not_by_itself();
    let disk = service("disk").not_by_itself();
    let mut it = Bench::with([disk, db.requires("disk"), service("web").requires("db")]);
    assert_eq!(deeds(&it.begin()), ["spawn disk as run 1"]);
    assert_eq!(deeds(&it.spawned("disk", 10)), ["spawn db as run 2"]);
    it.spawned("db", 11);
    it.spawned("web", 12);
    it.ask(Action::Stop, "disk");
    for (name, pid) in [("web", 12), ("db", 11), ("disk", 10)] {
        it.ends(name, pid, Exit::Signal(15));
    }
    let specs = || {
        let web = service("web").wants("disk").requires("db").runs("/bin/new");
        [service("disk").not_by_itself(), service("db").not_by_itself().requires("disk"), web]
    };
    assert_eq!(deeds(&it.configure(specs())), [""; 0], "what somebody has stopped stays stopped");
    assert_eq!(it.phase("disk"), Phase::Stopped);
}

#[test]
fn what_is_wanted_but_can_never_come_is_not_waited_for() {
    let cache = service("cache").requires("disk");
    let mut it = Bench::of([service("disk"), cache, service("web").wants("cache").after("cache")]);
    assert_eq!(it.phase("web"), Phase::Waiting);
    let lines = it.spawn_failed("disk", "there is no /bin/disk", true);
    assert_eq!(deeds(&lines), ["release disk, run 1", "spawn web as run 2"]);
    assert_eq!(
        it.because("cache"),
        [
            "cache waits: it requires disk, and disk is failed",
            "disk was given up: there is no /bin/disk",
        ]
    );
    let lines = it.ask(Action::Start, "disk");
    assert_eq!(deeds(&lines), ["spawn disk as run 3"]);
    assert_eq!(deeds(&it.spawned("disk", 10)), ["spawn cache as run 4"], "it comes when it can");
}

#[test]
fn after_orders_only_what_is_wanted_anyway() {
    let mut it = Bench::with([service("db").not_by_itself(), service("web").after("db")]);
    assert_eq!(deeds(&it.begin()), ["spawn web as run 1"]);
    let mut it = Bench::with([service("db"), service("web").after("db")]);
    assert_eq!(deeds(&it.begin()), ["spawn db as run 1"]);
    assert_eq!(deeds(&it.spawned("db", 10)), ["spawn web as run 2"]);
}

#[test]
fn a_one_shot_that_has_done_its_work_counts_as_ready() {
    let mut it = Bench::of([service("migrate").oneshot(), service("web").requires("migrate")]);
    it.spawned("migrate", 10);
    assert_eq!(it.phase("web"), Phase::Waiting);
    assert_eq!(deeds(&it.ends("migrate", 10, Exit::Code(0))).last(), Some(&"spawn web as run 2"));
}

#[test]
fn a_stop_stops_those_that_require_it_first() {
    let web = service("web").requires("app");
    let mut it = Bench::all_running([service("db"), service("app").requires("db"), web]);
    assert_eq!(deeds(&it.ask(Action::Stop, "db")), ["signal 15 to pid 12 of web"]);
    assert_eq!(
        it.because("db"),
        [
            "db is to be stopped once those that depend on it are down: it was stopped by ada",
            "app depends on it and is not down yet",
            "app is to be stopped once those that depend on it are down: it requires db, which \
             was stopped",
            "web depends on it and is not down yet",
            "web was asked to stop, step 1 of 1: it requires app, which was stopped",
        ]
    );
    let lines = it.ends("web", 12, Exit::Signal(15));
    assert_eq!(deeds(&lines), ["look at web", "release web, run 3", "signal 15 to pid 11 of app"]);
    let lines = it.ends("app", 11, Exit::Signal(15));
    assert_eq!(deeds(&lines).last(), Some(&"signal 15 to pid 10 of db"));
    assert_eq!(it.because("web"), ["web is stopped: it requires app, which was stopped"]);
}

#[test]
fn a_stop_does_not_touch_those_that_only_want_it() {
    let mut it = Bench::all_running([service("db"), service("web").wants("db")]);
    assert_eq!(deeds(&it.ask(Action::Stop, "db")), ["signal 15 to pid 10 of db"]);
    assert_eq!(it.phase("web"), Phase::Running);
}

#[test]
fn a_crash_of_what_is_required_stops_nobody() {
    let mut it = Bench::all_running([service("db"), service("web").requires("db")]);
    let lines = it.ends("db", 10, Exit::Signal(11));
    assert_eq!(deeds(&lines), ["look at db", "release db, run 1", "spawn db as run 3"]);
    assert_eq!(it.phase("web"), Phase::Running);
}

#[test]
fn who_crashes_while_its_requirement_is_away_waits_for_it() {
    let mut it = Bench::all_running([
        service("db").says_ready().but(|s| s.ready = supervisor::Readiness::Started),
        service("web").requires("db"),
    ]);
    it.exited("db", 10, Exit::Code(1));
    let lines = it.ends("web", 11, Exit::Code(1));
    assert!(
        lines
            .contains(&"service.waiting: web waits: it requires db, and db is stopping".to_owned()),
        "{lines:?}"
    );
    it.tree("db", &[]);
    assert_eq!(deeds(&it.spawned("db", 12)), ["spawn web as run 4"]);
}

#[test]
fn a_chain_of_ten_thousand_is_stopped_without_a_deep_stack() {
    let name = |n: u32| format!("s{n:05}");
    let mut it = Bench::all_running((0..10_000_u32).map(|n| match n.checked_sub(1) {
        None => service(&name(n)),
        Some(before) => service(&name(n)).requires(&name(before)),
    }));
    let lines = it.ask(Action::Stop, &name(0));
    assert_eq!(deeds(&lines), ["signal 15 to pid 10009 of s09999"]);
    assert_eq!(it.because(&name(0)).len(), 32, "the chain that is shown is bounded");
}

#[test]
fn as_long_as_one_instance_is_wanted_those_that_require_the_service_run() {
    let mut it = Bench::all_running([service("db").times(2), service("web").requires("db")]);
    let lines = it.ask(Action::Stop, "db:0");
    assert_eq!(deeds(&lines), ["signal 15 to pid 10 of db:0"]);
    let lines = it.ask(Action::Stop, "db:1");
    assert_eq!(deeds(&lines), ["signal 15 to pid 12 of web"], "the last one takes them along");
}

#[test]
fn what_reads_its_configuration_again_is_not_ready_for_others_meanwhile() {
    let mut it = Bench::all_running([service("db"), service("web").requires("db")]);
    it.says("db", NotifyMessage::Reloading);
    let lines = it.ends("web", 11, Exit::Code(1));
    assert_eq!(deeds(&lines), ["look at web", "release web, run 2"]);
    assert_eq!(
        it.because("web")[0],
        "web waits: it requires db, and db reads its configuration again"
    );
    assert_eq!(deeds(&it.says("db", NotifyMessage::Ready)), ["spawn web as run 3"]);
}

#[test]
fn a_reload_that_is_never_said_to_be_over_holds_nobody_up_for_ever() {
    let mut it = Bench::all_running([service("db"), service("web").requires("db")]);
    it.says("db", NotifyMessage::Reloading);
    it.ends("web", 11, Exit::Code(1));
    assert_eq!(deeds(&it.after(59 * SECOND)), [""; 0]);
    assert_eq!(deeds(&it.after(SECOND)), ["spawn web as run 3"]);
    assert_eq!(it.core.next_wake(), None);
}

#[test]
fn those_that_wait_are_not_told_of_each_step_of_what_they_wait_for() {
    let mut it = Bench::of([service("db").says_ready(), service("web").requires("db")]);
    it.spawned("db", 10);
    let lines = it.ends("db", 10, Exit::Code(1));
    assert!(!lines.iter().any(|line| line.starts_with("service.waiting")), "{lines:?}");
    assert_eq!(it.because("web")[0], "web waits: it requires db, and db is starting");
}

#[test]
fn who_is_started_again_before_the_turn_of_his_stop_has_come_goes_on() {
    let never = service("web").but(|spec| spec.restart.when = RestartWhen::Never);
    let mut it = Bench::all_running([never, service("app").after("web")]);
    it.ask(Action::Stop, "app");
    it.ask(Action::Restart, "web");
    it.ask(Action::Stop, "web");
    it.ask(Action::Start, "web");
    assert_eq!(deeds(&it.ends("app", 11, Exit::Signal(15))), ["look at app", "release app, run 2"]);
    assert_eq!((it.phase("web"), it.seen("web").wish), (Phase::Running, Wish::Up));
    // A restart that was asked for stays one.
    it.ask(Action::Restart, "web");
    it.ask(Action::Start, "web");
    assert_eq!(deeds(&it.ends("web", 10, Exit::Signal(15))).last(), Some(&"spawn web as run 3"));
}

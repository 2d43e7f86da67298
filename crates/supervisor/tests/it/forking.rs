//! Services that go to the background (D2), and services that leave something there.

use crate::bench::{Bench, deeds};
use crate::specs::{But, SECOND, service};
use supervisor::{Action, Exit, NotifyMessage, Phase, Pid};

#[test]
fn d2_double_fork_is_supervised_by_its_real_process() {
    let mut it = Bench::of([service("db").forking()]);
    assert_eq!(it.spawned("db", 10), [""; 0]);
    assert_eq!(it.because("db"), ["db is not ready: its first process has not exited yet"]);
    assert_eq!(it.exited("db", 10, Exit::Code(0)), ["find main of db"]);
    assert_eq!(it.main_found("db", Err("its pid file is not there")), [""; 0]);
    assert_eq!(it.because("db"), ["db is not ready: its pid file is not there"]);
    assert_eq!(it.after_ms(49), [""; 0]);
    assert_eq!(it.after_ms(1), ["find main of db"]);
    assert_eq!(
        it.main_found("db", Ok(12)),
        [
            "service.forked: db has forked, its main process is 12",
            "service.ready: db is ready after 50ms",
        ]
    );
    assert_eq!(it.seen("db").pid, Some(Pid(12)));
    assert_eq!(it.exited("db", 99, Exit::Code(1)), [""; 0], "a process that is not the main one");
    let lines = it.ends("db", 12, Exit::Unknown);
    assert_eq!(deeds(&lines), ["look at db", "release db, run 1", "spawn db as run 2"]);
    assert_eq!(it.seen("db").restarts, 1, "an end that nobody saw is a failure");
}

#[test]
fn d2_a_first_process_that_fails_is_a_failed_start() {
    let mut it = Bench::of([service("db").forking()]);
    it.spawned("db", 10);
    let lines = it.ends("db", 10, Exit::Code(2));
    assert_eq!(lines[0], "service.exited: db exited with code 2 after less than 1ms (pid 10)");
    assert_eq!(deeds(&lines), ["look at db", "release db, run 1", "spawn db as run 2"]);
}

#[test]
fn d2_a_main_process_that_is_never_found_is_a_start_that_took_too_long() {
    let mut it = Bench::of([service("db").forking().but(|s| s.start_timeout = SECOND)]);
    it.spawned("db", 10);
    it.exited("db", 10, Exit::Code(0));
    for _ in 0..19 {
        it.main_found("db", Err("nobody is there"));
        assert_eq!(it.after_ms(50), ["find main of db"]);
    }
    it.main_found("db", Err("nobody is there"));
    assert_eq!(
        it.after_ms(50),
        [
            "service.start_timeout: db did not become ready within 1s: nobody is there",
            "service.stopping: db is asked to stop",
            "signal 15 to all of db",
        ]
    );
    let lines = it.tree("db", &[]);
    assert_eq!(deeds(&lines), ["release db, run 1", "spawn db as run 2"]);
}

#[test]
fn d2_a_stop_before_the_fork_asks_everything_and_looks_until_it_is_gone() {
    let mut it = Bench::of([service("db").forking()]);
    it.spawned("db", 10);
    assert_eq!(deeds(&it.ask(Action::Stop, "db")), ["signal 15 to all of db"]);
    assert_eq!(it.tree("db", &[10, 12]), [""; 0]);
    assert_eq!(it.after_ms(50), ["look at db"]);
    assert_eq!(it.after_ms(500), [""; 0], "one look at a time");
    assert_eq!(it.tree("db", &[10]), [""; 0]);
    assert_eq!(it.after_ms(50), ["look at db"]);
    assert_eq!(it.tree("db", &[]), [""; 0], "the end of its first process was not told yet");
    let lines = it.exited("db", 10, Exit::Signal(15));
    assert_eq!(lines, ["release db, run 1", "service.stopped: db is stopped"]);
}

#[test]
fn d2_ready_said_before_the_fork_is_remembered() {
    let mut it = Bench::of([service("db").forking().says_ready()]);
    it.spawned("db", 10);
    assert_eq!(it.says("db", NotifyMessage::Ready), [""; 0]);
    it.exited("db", 10, Exit::Code(0));
    assert_eq!(
        it.main_found("db", Ok(12)),
        [
            "service.forked: db has forked, its main process is 12",
            "service.ready: db is ready after less than 1ms",
        ]
    );
}

#[test]
fn d2_a_service_may_name_its_main_process_itself() {
    let mut it = Bench::of([service("db").forking()]);
    it.spawned("db", 10);
    let lines = it.says("db", NotifyMessage::MainPid(Pid(14)));
    assert_eq!(lines, ["service.ready: db is ready after less than 1ms"]);
    assert_eq!(it.exited("db", 10, Exit::Code(0)), [""; 0], "no longer of interest");
    assert_eq!(deeds(&it.ask(Action::Stop, "db")), ["signal 15 to pid 14 of db"]);
}

#[test]
fn d2_what_is_left_behind_is_stopped_before_the_next_run() {
    let mut it = Bench::running(service("web"));
    it.exited("web", 10, Exit::Code(0));
    assert_eq!(
        it.tree("web", &[11, 12]),
        [
            "service.leftovers: web has left processes behind (pid 11, 12): they are stopped; if \
             it is meant to go to the background, declare kind = \"forking\"",
            "signal 15 to all of web",
        ]
    );
    assert_eq!(it.because("web"), ["web is not gone: pid 11, 12 still alive"]);
    // Looks come ever more rarely, and after two seconds patience ends.
    let mut looks = 0;
    let lines = loop {
        assert_eq!(it.tree("web", &[12]), [""; 0]);
        let pause = it.core.next_wake().unwrap().since(it.now);
        let lines = it.after(pause);
        if deeds(&lines) != ["look at web"] {
            break lines;
        }
        looks += 1;
        assert!(looks <= 40, "patience has an end");
    };
    assert!(15 <= looks, "{looks}");
    assert_eq!(
        lines,
        ["service.killing: web: what it has left behind is killed", "kill all of web"]
    );
    let lines = it.tree("web", &[]);
    assert_eq!(lines[..2], ["release web, run 1", "service.finished: web has done its work"]);
}

#[test]
fn d2_a_service_that_ran_for_long_is_not_told_to_declare_itself_forking() {
    let mut it = Bench::running(service("web"));
    it.after(60 * SECOND);
    it.exited("web", 10, Exit::Code(0));
    assert_eq!(
        it.tree("web", &[11])[0],
        "service.leftovers: web has left processes behind (pid 11): they are stopped"
    );
}

#[test]
fn d2_never_two_alive_a_crash_with_leftovers_is_restarted_only_when_they_are_gone() {
    let mut it = Bench::running(service("web"));
    it.exited("web", 10, Exit::Signal(11));
    assert_eq!(deeds(&it.tree("web", &[11])), ["signal 15 to all of web"]);
    assert_eq!(it.phase("web"), Phase::Stopping);
    assert_eq!(deeds(&it.ask(Action::Start, "web")), [""; 0]);
    assert_eq!(deeds(&it.tree("web", &[])), ["release web, run 1", "spawn web as run 2"]);
}

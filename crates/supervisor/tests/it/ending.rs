//! After the end: restart, give up, be done (H26).

use crate::bench::{Bench, deeds};
use crate::specs::{But, SECOND, service};
use std::time::Duration;
use supervisor::{Action, Exit, Phase, RestartWhen, Wish};

#[test]
fn h26_the_first_restart_comes_at_once_in_the_same_breath() {
    let mut it = Bench::running(service("web"));
    it.after_ms(3_200);
    assert_eq!(
        it.exited("web", 10, Exit::Code(1)),
        ["service.exited: web exited with code 1 after 3s200ms (pid 10)", "look at web"]
    );
    assert_eq!(
        it.tree("web", &[]),
        [
            "release web, run 1",
            "service.restart_scheduled: web restarts now (restart 1 of at most 5 within 1m): it \
             exited with code 1 after 3s200ms",
            "service.starting: web is started",
            "spawn web as run 2",
        ]
    );
}

#[test]
fn who_is_never_given_up_has_no_number_of_restarts_to_come() {
    let mut it = Bench::running(service("web").but(|spec| spec.restart.budget = u32::MAX));
    let lines = it.ends("web", 10, Exit::Code(1));
    let said = "service.restart_scheduled: web restarts now (restart 1 within 1m): it exited";
    assert!(lines.iter().any(|line| line.starts_with(said)), "{lines:#?}");
}

#[test]
fn h26_the_pauses_double_and_then_the_budget_is_spent() {
    let mut it = Bench::running(service("web"));
    let mut pauses = Vec::new();
    for pid in 10.. {
        it.ends("web", pid, Exit::Code(1));
        match it.phase("web") {
            Phase::Backoff => {
                let pause = it.core.next_wake().unwrap().since(it.now);
                pauses.push(pause.as_millis());
                assert_eq!(deeds(&it.after(pause)).len(), 1);
            }
            Phase::Starting => pauses.push(0),
            _ => break,
        }
        it.spawned("web", pid + 1);
    }
    assert_eq!(pauses, [0, 200, 400, 800, 1600]);
    let reason =
        "5 restarts within 1m did not help; last, it exited with code 1 after less than 1ms";
    assert_eq!(it.seen("web").wish, Wish::Failed(reason.into()));
    assert_eq!(it.because("web"), [format!("web was given up: {reason}")]);
    assert_eq!(it.after(30 * 86_400 * SECOND), [""; 0], "nothing restarts until somebody asks");
}

#[test]
fn h26_a_service_that_hangs_in_every_start_is_given_up_however_long_a_start_may_take() {
    let mut it = Bench::of([service("db").says_ready().but(|s| s.start_timeout = 3600 * SECOND)]);
    let mut starts = 0;
    for pid in 10..30 {
        it.after(it.core.next_wake().map_or(SECOND, |at| at.since(it.now)));
        if it.phase("db") == Phase::Failed {
            break;
        }
        it.spawned("db", pid);
        starts += 1;
        it.after(3600 * SECOND);
        it.ends("db", pid, Exit::Signal(15));
    }
    assert_eq!((starts, it.phase("db")), (6, Phase::Failed), "the first, and five more");
}

#[test]
fn h26_time_in_which_it_was_ready_is_counted() {
    let mut it = Bench::running(service("web"));
    for pid in 10..30 {
        it.after(61 * SECOND);
        it.ends("web", pid, Exit::Code(1));
        it.spawned("web", pid + 1);
    }
    assert_eq!((it.phase("web"), it.seen("web").restarts), (Phase::Running, 20));
}

fn failed() -> Bench {
    let mut it = Bench::running(service("web").but(|spec| spec.restart.budget = 0));
    let lines = it.ends("web", 10, Exit::Code(1));
    assert_eq!(
        lines[3],
        "service.budget_spent: web is given up: 0 restarts within 1m did not help; last, it \
         exited with code 1 after less than 1ms"
    );
    assert_eq!(it.phase("web"), Phase::Failed);
    it
}

#[test]
fn h26_start_and_restart_bring_back_what_was_given_up_and_reset_only_forgets() {
    for action in [Action::Start, Action::Restart] {
        assert_eq!(deeds(&failed().ask(action, "web")), ["spawn web as run 2"]);
    }
    let mut it = failed();
    assert_eq!(it.ask(Action::Reset, "web"), [""; 0]);
    assert_eq!(it.phase("web"), Phase::Stopped);
}

#[test]
fn h26_a_start_gives_a_new_budget_even_while_the_last_run_is_cleaned_up() {
    let mut it = Bench::running(service("web").but(|spec| spec.restart.budget = 1));
    it.ends("web", 10, Exit::Code(1));
    it.spawned("web", 11);
    it.exited("web", 11, Exit::Code(1));
    it.ask(Action::Start, "web");
    assert_eq!(deeds(&it.tree("web", &[])), ["release web, run 2", "spawn web as run 3"]);
    it.spawned("web", 12);
    it.ends("web", 12, Exit::Code(1));
    assert_eq!(it.phase("web"), Phase::Starting, "the one restart that it may have");
}

#[test]
fn h26_a_service_that_was_healthy_begins_a_new_row() {
    let mut it = Bench::running(service("web"));
    it.ends("web", 10, Exit::Code(1));
    it.spawned("web", 11);
    it.after(10 * SECOND);
    it.ends("web", 11, Exit::Code(1));
    assert_eq!(it.phase("web"), Phase::Starting, "at once again");
}

#[test]
fn h26_getting_rid_of_leftovers_is_no_time_of_health() {
    let spec = service("web").but(|spec| spec.restart.healthy_after = SECOND);
    let mut it = Bench::running(spec);
    it.ends("web", 10, Exit::Code(1));
    it.spawned("web", 11);
    it.exited("web", 11, Exit::Code(1));
    it.tree("web", &[12]);
    it.after(Duration::from_millis(1_900));
    it.tree("web", &[]);
    assert_eq!(it.phase("web"), Phase::Backoff, "it was alive for no time at all");
}

#[test]
fn how_it_ends_and_what_its_policy_says_decide_what_comes() {
    use RestartWhen::{Always, Never, OnFailure};
    let (good, bad, killed) = (Exit::Code(0), Exit::Code(7), Exit::Signal(11));
    for (when, exit, phase) in [
        (Always, good, Phase::Starting),
        (Always, bad, Phase::Starting),
        (OnFailure, good, Phase::Finished),
        (OnFailure, bad, Phase::Starting),
        (OnFailure, killed, Phase::Starting),
        (OnFailure, Exit::Unknown, Phase::Starting),
        (OnFailure, Exit::Code(42), Phase::Finished),
        (OnFailure, Exit::Signal(10), Phase::Finished),
        (Never, good, Phase::Finished),
        (Never, bad, Phase::Failed),
        (Never, Exit::Code(42), Phase::Finished),
        (Never, killed, Phase::Failed),
    ] {
        let spec = service("web").restarts(when).but(|spec| {
            spec.restart.success_codes.insert(42);
            spec.restart.success_signals.insert(10);
        });
        let mut it = Bench::running(spec);
        it.ends("web", 10, exit);
        assert_eq!(it.phase("web"), phase, "{when:?} {exit:?}");
    }
}

#[test]
fn a_one_shot_that_always_restarts_is_still_done_when_it_has_ended_well() {
    let mut it = Bench::of([service("job").oneshot().restarts(RestartWhen::Always)]);
    it.spawned("job", 10);
    it.ends("job", 10, Exit::Code(0));
    assert_eq!(it.phase("job"), Phase::Finished);
    assert_eq!(deeds(&it.ask(Action::Start, "job")), ["spawn job as run 2"], "once more");
}

#[test]
fn the_end_of_what_ran_well_is_no_failed_start() {
    let mut it = Bench::running(service("web").restarts(RestartWhen::Never));
    it.exited("web", 10, Exit::Code(3));
    let last = it.tree("web", &[]);
    let why = "web is given up: it exited with code 3 after less than 1ms, and restart = \"never\"";
    assert_eq!(last.last(), Some(&format!("service.failed: {why}")));
}

#[test]
fn h26_the_work_of_a_one_shot_is_time_like_any_other() {
    let shot = service("job").oneshot().but(|spec| spec.start_timeout = 86_400 * SECOND);
    let mut it = Bench::of([shot]);
    for pid in 10..30 {
        it.spawned("job", pid);
        it.after(3_000 * SECOND);
        it.ends("job", pid, Exit::Code(1));
        it.after(it.core.next_wake().map_or(SECOND, |at| at.since(it.now)));
    }
    assert_eq!(it.seen("job").restarts, 20, "one that fails after its work is not given up");
}

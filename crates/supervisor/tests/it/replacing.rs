//! The replacement of a run, step by step: evidence, remedies, the successor, draining, quarantine.

use crate::bench::{Bench, deeds};
use crate::specs::{But, SECOND, command, id, service, verdict};
use base::{Answer, RunId};
use std::collections::BTreeSet;
use std::time::Duration;
use supervisor::watch::{Verdict, VerdictState};
use supervisor::{
    Action, Exit, Input, Mode, NotifyMessage, Phase, Probe, QuarantinePolicy, Remedy, RestartWhen,
    RunRole, ServiceSpec, ShutdownMode, Wish,
};

const FIRST: RunId = RunId(1);
const SECOND_RUN: RunId = RunId(2);

fn web() -> ServiceSpec {
    service("web").tolerates(Mode::Enforce)
}

fn kept(spec: ServiceSpec, seconds: u64, max: u16) -> ServiceSpec {
    let keep = Duration::from_secs(seconds);
    spec.but(|spec| spec.tolerance.quarantine = Some(QuarantinePolicy { keep, max }))
}

#[test]
fn h15_h18_without_overlap_evidence_drain_stop_and_start_follow_each_other() {
    let mut it = Bench::running(web().keeps_evidence().drains(1, 5));
    assert_eq!(
        it.sick("web", "leak"),
        [
            "service.sick: web is sick: its leak says so",
            "service.replacing: web is being replaced: its leak says so",
            "gather evidence of web, run 1, 3s",
        ]
    );
    assert_eq!(it.health("web"), "draining", "out of rotation before anything else is done");
    assert_eq!(
        it.gathered("web", FIRST, "web-1"),
        [
            "service.evidence: evidence of web is kept: holdfast evidence show web-1",
            "service.draining: web is out of rotation, its connections have 5s to end",
            "count connections of web, run 1",
        ]
    );
    assert_eq!(it.open("web", FIRST, 2), [""; 0]);
    assert_eq!(it.after_ms(200), ["count connections of web, run 1"]);
    assert_eq!(it.open("web", FIRST, 0), [""; 0], "balancers have not seen it yet");
    assert_eq!(
        it.after_ms(800),
        [
            "service.stopping: web is stopped, to be started again",
            "signal 15 to pid 10 of web",
            "unwatch web, run 1",
        ]
    );
    let lines = it.ends("web", 10, Exit::Signal(15));
    assert_eq!(deeds(&lines).last(), Some(&"spawn web as run 2"));
    assert_eq!(it.seen("web").replacing.unwrap().step, "successor");
    assert_eq!(
        it.spawned("web", 11),
        [
            "service.ready: web is ready after less than 1ms",
            "service.replaced: web was replaced within 1s, it had been up for less than 1ms: its \
             leak says so",
            "watch web, run 2: enforce",
        ]
    );
    assert_eq!((it.health("web"), it.seen("web").replacing), ("up", None));
    assert_eq!(it.seen("web").restarts, 1);
}

#[test]
fn h15_evidence_that_does_not_come_is_not_waited_for() {
    let mut it = Bench::running(web().keeps_evidence());
    it.sick("web", "hang");
    let lines = it.after(4 * SECOND);
    assert_eq!(
        lines[0],
        "service.evidence: no evidence of web is kept: it was not gathered in time"
    );
    assert_eq!(deeds(&lines).last(), Some(&"unwatch web, run 1"));
    assert_eq!(it.phase("web"), Phase::Stopping);
    assert_eq!(it.gathered("web", FIRST, "late"), [""; 0]);
}

#[test]
fn h15_a_start_that_hangs_leaves_evidence_too() {
    let spec = web().keeps_evidence().says_ready().but(|spec| spec.start_timeout = SECOND);
    let mut it = Bench::of([spec]);
    it.spawned("web", 10);
    assert_eq!(it.after(SECOND), ["gather evidence of web, run 1, 3s"]);
    let lines = it.gathered("web", FIRST, "web-1");
    assert_eq!(
        lines[1],
        "service.start_timeout: web did not become ready within 1s: it has not said READY=1"
    );
    assert_eq!(deeds(&lines), ["signal 15 to pid 10 of web"]);
    it.ends("web", 10, Exit::Signal(15));
    it.spawned("web", 11);
    assert_eq!(deeds(&it.after(SECOND)), ["gather evidence of web, run 2, 3s"]);
    // It is ready after all while the evidence is gathered: it stays.
    it.says("web", NotifyMessage::Ready);
    assert_eq!(it.phase("web"), Phase::Running);
    it.gathered("web", SECOND_RUN, "web-2");
    assert_eq!(it.phase("web"), Phase::Running);
}

#[test]
fn h22_beside_the_successor_is_warm_before_the_old_one_leaves() {
    let spec = web().beside().drains(0, 5).but(|spec| {
        spec.process.port = Some(8000);
        let url = "http://127.0.0.1:{port}/warm".to_owned();
        spec.tolerance.replace.warm_up = vec![Probe::Http { url, status: None }];
    });
    let mut it = Bench::of([spec]);
    it.spawned("web", 10);
    assert_eq!(it.health("web"), "starting", "ready, and not warm");
    it.probed("web", Answer::Yes);
    assert_eq!(it.health("web"), "up");
    let lines = it.sick("web", "age");
    assert_eq!(deeds(&lines), ["spawn web as run 2"]);
    assert_eq!(it.health("web"), "up", "what is planned serves until its successor does");
    let step = |it: &Bench| it.seen("web").replacing.map(|it| (it.beside, it.step));
    assert_eq!(step(&it), Some((true, "successor")));
    let lines = it.spawned("web", 11);
    assert_eq!(
        deeds(&lines),
        ["probe web: Http { url: \"http://127.0.0.1:8001/warm\", status: None }, 10s",],
        "the successor has a port of its own"
    );
    assert_eq!(it.seen("web").run, Some(FIRST));
    assert_eq!(step(&it), Some((true, "warm_up")));
    let lines = it.probed("web", Answer::Yes);
    assert_eq!(
        lines,
        [
            "service.admitted: web is in rotation after less than 1ms",
            "service.replaced: web was replaced within less than 1ms, it had been up for less \
             than 1ms: its age says so",
            "service.draining: web is out of rotation, its connections have 5s to end",
            "count connections of web, run 1",
            "unwatch web, run 1",
            "watch web, run 2: enforce",
        ]
    );
    let seen = it.seen("web");
    assert_eq!((seen.run, seen.health.as_str()), (Some(SECOND_RUN), "up"));
    let roles: Vec<_> =
        seen.runs.iter().map(|run| (run.role, run.slot, run.health.as_str())).collect();
    assert_eq!(roles, [(RunRole::Present, 1, "up"), (RunRole::Leaving, 0, "draining")]);
    assert_eq!(deeds(&it.open("web", FIRST, 0)), ["signal 15 to pid 10 of web"]);
    let lines = it.run_ends("web", FIRST, 10);
    assert_eq!(lines.last().unwrap(), "service.stopped: the old run of web is gone");
    assert_eq!(it.phase("web"), Phase::Running);
    // The next one has the first port again.
    assert_eq!(deeds(&it.sick("web", "age")), ["spawn web as run 3"]);
    let lines = it.spawned("web", 12);
    assert!(lines.iter().any(|line| line.contains("127.0.0.1:8000/warm")), "{lines:#?}");
}

#[test]
fn h22_a_successor_that_is_not_warm_in_time_is_admitted_and_it_is_said() {
    let spec = web().but(|spec| {
        spec.tolerance.replace.warm_up = vec![Probe::File("/warm".into())];
        spec.tolerance.replace.warm_up_timeout = 3 * SECOND;
    });
    let mut it = Bench::of([spec]);
    it.spawned("web", 10);
    it.probed("web", Answer::No("no such file".into()));
    let lines = it.after_ms(200);
    assert_eq!(deeds(&lines), ["probe web: File(\"/warm\"), 3s"], "asked again");
    assert_eq!(
        it.after(3 * SECOND),
        ["service.admitted: web is in rotation after 3s: it is not warm yet, and its time for \
             that is over",]
    );
    assert_eq!(it.health("web"), "up");
}

#[test]
fn h18_a_successor_that_fails_leaves_a_well_one_alone_and_is_tried_later() {
    let mut it = Bench::running(web().beside());
    it.sick("web", "age");
    let lines = it.spawn_failed("web", "no such file", true);
    assert_eq!(
        lines,
        [
            "release web, run 2",
            "service.replacement_failed: the successor of web did not come up, the old one goes \
             on: no such file",
            "service.replacement_suppressed: web is not replaced: the last replacement failed; it \
             is tried again later; its age says so",
        ]
    );
    assert_eq!((it.health("web"), it.phase("web")), ("up", Phase::Running));
    assert_eq!(it.after(59 * SECOND), [""; 0]);
    assert_eq!(deeds(&it.after(SECOND)), ["spawn web as run 3"]);
}

#[test]
fn h18_a_successor_of_a_sick_one_that_fails_is_not_waited_for() {
    let mut it = Bench::running(web().beside());
    it.sick("web", "hang");
    it.spawned("web", 11);
    // Ready at once, so it takes over; the next one dies before it does.
    it.run_ends("web", FIRST, 10);
    it.after(SECOND);
    let lines = it.sick("web", "hang");
    assert_eq!(deeds(&lines), ["spawn web as run 3"]);
    let lines = it.spawn_failed("web", "no memory", false);
    assert_eq!(
        deeds(&lines),
        ["release web, run 3", "signal 15 to pid 11 of web", "unwatch web, run 2"]
    );
}

#[test]
fn h18_a_run_that_cannot_run_is_killed_at_once() {
    let mut it = Bench::running(web());
    let stopped = Verdict { cannot_run: true, ..verdict("hang", VerdictState::Sick, it.now) };
    let lines = it.detects("web", stopped);
    assert_eq!(deeds(&lines), ["kill all of web", "unwatch web, run 1"], "no signal would help");
    let lines = it.ends("web", 10, Exit::Signal(9));
    assert_eq!(deeds(&lines).last(), Some(&"spawn web as run 2"));
}

#[test]
fn h21_connections_that_do_not_end_have_a_deadline_and_hopeless_ones_none() {
    let mut it = Bench::running(web().drains(0, 5));
    it.sick("web", "leak");
    let run = FIRST;
    it.give(Input::Connections { instance: id("web"), run, open: None });
    assert_eq!(deeds(&it.after_ms(4_999)), [""; 0], "what can't be counted is waited for");
    assert_eq!(deeds(&it.after_ms(1)), ["signal 15 to pid 10 of web", "unwatch web, run 1"]);
    it.ends("web", 10, Exit::Signal(15));
    it.spawned("web", 11);
    assert_eq!(
        deeds(&it.sick("web", "hang")),
        ["signal 15 to pid 11 of web", "unwatch web, run 2"],
        "what hangs ends no connection"
    );
}

#[test]
fn h23_finer_actions_come_first_and_may_be_enough() {
    let spec = web().but(|spec| {
        let remedy = |name: &str, words: &str, detectors: &[&str]| Remedy {
            name: name.into(),
            detectors: detectors.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(),
            action: command(words),
            wait: 10 * SECOND,
        };
        spec.tolerance.remedies = vec![
            remedy("drop caches", "drop caches", &["leak"]),
            remedy("recycle a worker", "recycle it", &[]),
        ];
    });
    let mut it = Bench::running(spec);
    let lines = it.sick("web", "hang");
    assert_eq!(
        lines[2..],
        [
            "service.remedy: web: `recycle a worker` is tried before it is replaced",
            "run `recycle it` for web, main Some(10), 10s",
        ]
    );
    assert_eq!(it.health("web"), "sick");
    assert_eq!(
        it.well("web", "hang"),
        [
            "service.well: web is well again: its hang says so",
            "service.remedy: web is well again after `recycle a worker`",
        ]
    );
    assert_eq!((it.health("web"), it.seen("web").restarts), ("up", 0));
    let lines = it.sick("web", "leak");
    assert!(lines.contains(&"run `drop caches` for web, main Some(10), 10s".to_owned()));
    let lines = it.after(10 * SECOND);
    assert_eq!(deeds(&lines), ["run `recycle it` for web, main Some(10), 10s"]);
    assert_eq!(
        deeds(&it.after(10 * SECOND)),
        ["signal 15 to pid 10 of web", "unwatch web, run 1"],
        "nothing finer is left"
    );
}

#[test]
fn h15_a_sick_run_is_kept_frozen_while_its_successor_serves() {
    let mut it = Bench::running(kept(web().beside(), 60, 1));
    it.sick("web", "hang");
    let lines = it.spawned("web", 11);
    assert_eq!(
        deeds(&lines),
        ["freeze web, run 1", "unwatch web, run 1", "watch web, run 2: enforce"]
    );
    assert!(
        lines.contains(
            &"service.quarantined: the sick run of web is kept for inspection, frozen, for 1m"
                .to_owned()
        )
    );
    it.give(Input::Frozen { instance: id("web"), run: FIRST, result: Ok(()) });
    assert_eq!(it.after(59 * SECOND), [""; 0]);
    assert_eq!(deeds(&it.after(SECOND)), ["kill all of web"]);
    it.run_ends("web", FIRST, 10);
    assert_eq!(it.seen("web").runs.len(), 1);
}

#[test]
fn h15_no_more_are_kept_than_there_may_be_and_what_cannot_be_frozen_is_not() {
    let mut it = Bench::running(kept(web(), 3_600, 1));
    assert_eq!(
        deeds(&it.sick("web", "hang")),
        ["freeze web, run 1", "unwatch web, run 1", "spawn web as run 2"],
        "the socket is passed on: nothing has to end first"
    );
    it.spawned("web", 11);
    assert_eq!(
        deeds(&it.sick("web", "hang")),
        ["freeze web, run 2", "kill all of web", "unwatch web, run 2", "spawn web as run 3"],
        "the eldest goes"
    );
    it.run_ends("web", FIRST, 10);
    it.spawned("web", 12);
    let result = Err("no freezer".to_owned());
    let lines = it.give(Input::Frozen { instance: id("web"), run: SECOND_RUN, result });
    assert_eq!(deeds(&lines), ["kill all of web"]);
    // Stopped means that nothing is left, kept or not.
    it.run_ends("web", SECOND_RUN, 11);
    it.sick("web", "hang");
    it.spawned("web", 13);
    let lines = it.ask(Action::Stop, "web");
    assert!(lines.contains(&"kill all of web".to_owned()), "{lines:#?}");
    it.ends("web", 13, Exit::Signal(15));
    assert_eq!(it.phase("web"), Phase::Stopped);
    assert_eq!(it.seen("web").runs.len(), 1, "the frozen one is on its way");
    it.run_ends("web", RunId(3), 12);
    assert_eq!(it.seen("web").runs, []);
}

#[test]
fn h5_h22_never_two_of_a_group_are_out_at_once() {
    let mut it = Bench::all_running([web().times(3)]);
    for name in ["web:0", "web:1", "web:2"] {
        it.sick(name, "age");
    }
    let out = |it: &Bench| {
        let names = ["web:0", "web:1", "web:2"];
        names.into_iter().filter(|name| it.health(name) != "up").collect::<Vec<_>>()
    };
    for (name, pid) in [("web:0", 10), ("web:1", 11), ("web:2", 12)] {
        assert_eq!(out(&it), [name]);
        it.ends(name, pid, Exit::Signal(15));
        assert_eq!(out(&it), [name], "until it serves again");
        it.spawned(name, pid + 10);
    }
    assert_eq!(out(&it), [""; 0]);
}

#[test]
fn h22_what_is_planned_waits_for_a_member_that_is_missing_and_sickness_does_not() {
    let mut it = Bench::all_running([web().times(2)]);
    it.exited("web:1", 11, Exit::Code(1));
    assert_eq!(
        it.sick("web:0", "age"),
        [
            "service.sick: web:0 is due for replacement: its age says so",
            "service.replacement_suppressed: web:0 is not replaced: web:1 is out of rotation, and \
             comes first; its age says so",
        ]
    );
    assert!(it.sick("web:0", "hang").contains(&"signal 15 to pid 10 of web:0".to_owned()));
}

#[test]
fn h22_beside_the_old_one_has_work_until_balancers_have_seen_its_successor() {
    let mut it = Bench::running(web().beside().drains(1, 5));
    it.ask(Action::Replace, "web");
    let lines = it.spawned("web", 11);
    assert_eq!(deeds(&lines), ["unwatch web, run 1", "watch web, run 2: enforce"]);
    let told = |it: &Bench| {
        let seen = it.seen("web");
        seen.runs.iter().map(|run| (run.role, run.health.as_str())).collect::<Vec<_>>()
    };
    assert_eq!(told(&it), [(RunRole::Present, "up"), (RunRole::Leaving, "up")]);
    assert_eq!(it.after_ms(999), [""; 0]);
    assert_eq!(
        it.after_ms(1),
        [
            "service.draining: web is out of rotation, its connections have 5s to end",
            "count connections of web, run 1",
        ]
    );
    assert_eq!(told(&it), [(RunRole::Present, "up"), (RunRole::Leaving, "draining")]);
    assert_eq!(it.open("web", FIRST, 0), [""; 0], "balancers have not seen that it is out");
    assert_eq!(deeds(&it.after(SECOND)), ["signal 15 to pid 10 of web"]);
}

#[test]
fn h22_after_the_next_of_a_group_waits_until_balancers_know_the_one_before() {
    let mut it = Bench::all_running([web().times(2).drains(3, 3)]);
    it.after(10 * SECOND);
    it.ask(Action::Replace, "web:0");
    it.ask(Action::Replace, "web:1");
    it.after(3 * SECOND);
    it.ends("web:0", 10, Exit::Signal(15));
    let lines = it.spawned("web:0", 20);
    assert!(!lines.iter().any(|line| line.contains("web:1")), "{lines:#?}");
    let lines = it.after(3 * SECOND);
    assert_eq!(lines[0], "service.replacing: web:1 is being replaced: ada asked for it");
    // Who is sick serves nobody: it need not wait.
    let mut it = Bench::all_running([web().times(2).drains(3, 3)]);
    let lines = it.sick("web:0", "hang");
    assert!(lines.iter().any(|line| line.contains("web:0 is being replaced")), "{lines:#?}");
}

#[test]
fn h20_an_operator_replaces_without_a_gap() {
    let mut it = Bench::running(web().beside().but(|spec| spec.tolerance.mode = Mode::Off));
    assert_eq!(
        it.ask(Action::Replace, "web"),
        [
            "service.replacing: web is being replaced: ada asked for it",
            "service.starting: a successor of web is started beside it",
            "spawn web as run 2",
        ]
    );
    it.spawned("web", 11);
    assert_eq!(it.seen("web").run, Some(SECOND_RUN));
    it.run_ends("web", FIRST, 10);
    it.ask(Action::Stop, "web");
    it.ends("web", 11, Exit::Signal(15));
    assert_eq!(
        it.ask(Action::Replace, "web"),
        ["service.command: web cannot be replaced: it does not run; a start does it"]
    );
}

#[test]
fn a_stop_in_the_middle_of_a_replacement_stops_them_all() {
    let mut it = Bench::running(web().beside().says_ready().but(|spec| {
        spec.ready = supervisor::Readiness::Started;
    }));
    it.sick("web", "age");
    let lines = it.ask(Action::Stop, "web");
    assert!(lines.contains(&"signal 15 to pid 10 of web".to_owned()), "{lines:#?}");
    // The successor is executed meanwhile, and goes at once.
    let lines = it.spawned("web", 11);
    assert_eq!(deeds(&lines), ["signal 15 to pid 11 of web"]);
    it.run_ends("web", SECOND_RUN, 11);
    it.run_ends("web", FIRST, 10);
    assert_eq!((it.phase("web"), it.seen("web").runs.len()), (Phase::Stopped, 0));
    assert_eq!(it.after(3_600 * SECOND), [""; 0]);
}

#[test]
fn a_run_that_dies_while_its_successor_starts_is_succeeded_at_once() {
    let mut it = Bench::running(web().beside());
    it.sick("web", "age");
    it.run_ends("web", FIRST, 10);
    let seen = it.seen("web");
    assert_eq!((seen.run, seen.runs.len()), (Some(SECOND_RUN), 1));
    it.spawned("web", 11);
    assert_eq!((it.health("web"), it.phase("web")), ("up", Phase::Running));
}

#[test]
fn the_end_of_the_daemon_leaves_no_run_of_any_role() {
    let mut it = Bench::running(kept(web().beside(), 3_600, 2));
    it.sick("web", "hang");
    it.spawned("web", 11);
    let lines = it.shutdown(ShutdownMode::StopServices);
    assert!(lines.contains(&"kill all of web".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"signal 15 to pid 11 of web".to_owned()), "{lines:#?}");
    it.run_ends("web", SECOND_RUN, 11);
    let lines = it.run_ends("web", FIRST, 10);
    assert_eq!(lines.last().unwrap(), "shutdown complete");
}

#[test]
fn what_waits_for_its_turn_while_a_corpse_is_kept_can_be_stopped() {
    let behind = service("db");
    let mut it = Bench::all_running([behind, kept(web().requires("db"), 3_600, 1)]);
    it.exited("db", 10, Exit::Code(1));
    it.sick("web", "hang");
    assert_eq!(it.phase("web"), Phase::Waiting, "its successor waits for the database");
    it.ask(Action::Stop, "web");
    it.run_ends("web", SECOND_RUN, 11);
    assert_eq!((it.phase("web"), it.seen("web").runs.len()), (Phase::Stopped, 0));
}

#[test]
fn h18_a_successor_that_is_called_off_while_it_is_executed_waits_for_nobody() {
    let mut it = Bench::all_running([web().beside(), service("app").after("web")]);
    it.sick("web", "age");
    it.shutdown(ShutdownMode::StopServices);
    let why = "app depends on it and is not down yet";
    assert!(it.because("web").contains(&why.to_owned()), "{:#?}", it.because("web"));
    assert_eq!(deeds(&it.spawned("web", 20)), ["signal 15 to pid 20 of web"]);
    // The present one ends before its turn has come.
    it.run_ends("web", FIRST, 10);
    it.run_ends("web", RunId(3), 20);
    let lines = it.ends("app", 11, Exit::Signal(15));
    assert_eq!(lines.last().unwrap(), "shutdown complete");
}

#[test]
fn h18_a_corpse_is_not_forgotten_where_the_present_run_ends_before_its_turn() {
    let corpse_kept = kept(web().beside(), 3_600, 1);
    let mut it = Bench::all_running([corpse_kept, service("app").after("web")]);
    it.sick("web", "hang");
    it.spawned("web", 20);
    it.shutdown(ShutdownMode::StopServices);
    it.run_ends("web", RunId(3), 20);
    let lines = it.ends("app", 11, Exit::Signal(15));
    assert!(lines.contains(&"kill all of web".to_owned()), "{lines:#?}");
    assert_eq!(it.run_ends("web", FIRST, 10).last().unwrap(), "shutdown complete");
}

#[test]
fn h18_a_corpse_goes_at_the_end_also_where_the_present_run_was_to_be_started_anew() {
    for dies_first in [false, true] {
        let corpse_kept = kept(web().beside(), 86_400, 1);
        let mut it = Bench::all_running([corpse_kept, service("app").after("web")]);
        it.sick("web", "hang");
        it.spawned("web", 20);
        it.ask(Action::Stop, "app");
        it.ask(Action::Restart, "web");
        it.shutdown(ShutdownMode::StopServices);
        let mut lines = Vec::new();
        if dies_first {
            it.run_ends("web", RunId(3), 20);
        }
        lines.extend(it.ends("app", 11, Exit::Signal(15)));
        if !dies_first {
            assert!(lines.contains(&"signal 15 to pid 20 of web".to_owned()), "{lines:#?}");
            it.run_ends("web", RunId(3), 20);
        }
        assert!(lines.contains(&"kill all of web".to_owned()), "{lines:#?}");
        assert_eq!(it.run_ends("web", FIRST, 10).last().unwrap(), "shutdown complete");
    }
}

#[test]
fn h18_a_start_that_fails_while_a_restart_waits_stops_nothing_that_is_wanted() {
    for (app_is_first, when) in [
        (false, RestartWhen::OnFailure),
        (true, RestartWhen::OnFailure),
        (false, RestartWhen::Never),
        (true, RestartWhen::Never),
    ] {
        let mut web = kept(web().beside().says_ready(), 86_400, 1);
        (web.start_timeout, web.restart.when) = (5 * SECOND, when);
        let mut it = Bench::of([web, service("app").after("web")]);
        it.spawned("web", 10);
        it.says("web", NotifyMessage::Ready);
        it.spawned("app", 11);
        it.sick("web", "hang");
        it.spawned("web", 20);
        it.says("web", NotifyMessage::Ready);
        it.give(Input::Frozen { instance: id("web"), run: FIRST, result: Ok(()) });
        it.ask(Action::Restart, "web");
        it.run_ends("web", RunId(3), 20);
        it.spawned("web", 21);
        it.ask(Action::Stop, "app");
        it.ask(Action::Restart, "web");
        // It hangs in its start, while it waits to be started anew.
        let mut lines = it.after(5 * SECOND);
        assert!(lines.contains(&"signal 15 to pid 21 of web".to_owned()), "{lines:#?}");
        if app_is_first {
            lines.extend(it.ends("app", 11, Exit::Signal(15)));
        }
        lines.extend(it.ends("web", 21, Exit::Signal(15)));
        assert_eq!(it.seen("web").wish, Wish::Up);
        assert!(lines.iter().any(|line| line.starts_with("spawn web")), "{lines:#?}");
        if !app_is_first {
            lines.extend(it.ends("app", 11, Exit::Signal(15)));
        }
        let corpse_goes = "kill all of web".to_owned();
        assert!(!lines.contains(&corpse_goes), "the corpse is kept: {lines:#?}");
    }
}

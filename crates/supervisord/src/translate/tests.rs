//! Our events in supervisord's words, life by life.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn record(kind: &str, severity: Severity, data: serde_json::Value) -> EventRecord {
    EventRecord {
        seq: 0,
        source: "root".into(),
        source_seq: 1,
        wall_us: 0,
        mono_ns: 0,
        node: "n".into(),
        subject: "web".into(),
        kind: kind.into(),
        severity,
        message: String::new(),
        data: data.as_object().cloned().unwrap_or_default(),
    }
}

/// Tells a line of our events; returns supervisord's, one line each.
fn tell(translator: &mut Translator, records: &[EventRecord]) -> Vec<String> {
    let payloads = records.iter().flat_map(|record| translator.translate(record));
    let line = |payload: Payload| {
        let text = payload.text();
        let rest = text.strip_prefix("processname:web groupname:web ").unwrap_or(&text).to_owned();
        let name = payload.name().as_str();
        format!("{} {rest}", name.strip_prefix("PROCESS_STATE_").unwrap_or(name))
    };
    payloads.map(line).collect()
}

fn info(kind: &str, data: serde_json::Value) -> EventRecord {
    record(kind, Severity::Info, data)
}

fn bad(kind: &str, data: serde_json::Value) -> EventRecord {
    record(kind, Severity::Warning, data)
}

fn started(run: u64, pid: u32) -> Vec<EventRecord> {
    vec![
        info("service.starting", json!({"run": run})),
        info("service.ready", json!({"run": run, "pid": pid, "took_ms": 3})),
    ]
}

#[test]
fn a_life_with_a_crash_and_a_stop() {
    let mut records = started(1, 10);
    records.push(bad("service.exited", json!({"run": 1, "pid": 10, "asked": false})));
    records.push(bad("service.restart_scheduled", json!({"restarts": 1, "delay_ms": 0})));
    records.extend(started(2, 11));
    records.push(info("service.stopping", json!({"run": 2})));
    records.push(info("service.exited", json!({"run": 2, "pid": 11, "asked": true})));
    records.push(info("service.stopped", json!({})));
    let expect = [
        "STARTING from_state:STOPPED tries:0",
        "RUNNING from_state:STARTING pid:10",
        "EXITED from_state:RUNNING expected:0 pid:10",
        "STARTING from_state:EXITED tries:0",
        "RUNNING from_state:STARTING pid:11",
        "STOPPING from_state:RUNNING pid:11",
        "STOPPED from_state:STOPPING pid:11",
    ];
    assert_eq!(tell(&mut Translator::default(), &records), expect);
}

#[test]
fn an_end_that_nobody_saw_is_told_and_the_next_run_is_no_successor_beside_it() {
    let mut records = started(1, 10);
    records.push(bad("service.restart_scheduled", json!({"restarts": 1, "delay_ms": 0})));
    records.extend(started(2, 11));
    records.push(bad("service.exited", json!({"run": 2, "pid": 11, "asked": false})));
    let expect = [
        "STARTING from_state:STOPPED tries:0",
        "RUNNING from_state:STARTING pid:10",
        "EXITED from_state:RUNNING expected:0 pid:10",
        "STARTING from_state:EXITED tries:0",
        "RUNNING from_state:STARTING pid:11",
        "EXITED from_state:RUNNING expected:0 pid:11",
    ];
    assert_eq!(tell(&mut Translator::default(), &records), expect);
    // Who has only begun to read then knows as much, but for the pid.
    let told = tell(&mut Translator::default(), &records[2..]);
    assert_eq!(told[0], "EXITED from_state:RUNNING expected:0 pid:0");
    assert_eq!(told[1..], expect[3..]);
}

#[test]
fn starts_that_fail_are_counted_and_given_up() {
    let mut records = Vec::new();
    for run in 1..3 {
        records.push(info("service.starting", json!({"run": run})));
        records.push(bad("service.exited", json!({"run": run, "pid": 7, "asked": false})));
        records.push(bad("service.restart_scheduled", json!({"restarts": run})));
    }
    records.push(info("service.starting", json!({"run": 3})));
    records.push(bad("service.exited", json!({"run": 3, "pid": 7, "asked": false})));
    records.push(record("service.budget_spent", Severity::Error, json!({})));
    let expect = [
        "STARTING from_state:STOPPED tries:0",
        "BACKOFF from_state:STARTING tries:1",
        "STARTING from_state:BACKOFF tries:1",
        "BACKOFF from_state:STARTING tries:2",
        "STARTING from_state:BACKOFF tries:2",
        "BACKOFF from_state:STARTING tries:3",
        "FATAL from_state:BACKOFF",
    ];
    assert_eq!(tell(&mut Translator::default(), &records), expect);
}

#[test]
fn a_program_that_is_not_there_is_fatal() {
    let records = [
        info("service.starting", json!({"run": 1})),
        record("service.start_failed", Severity::Error, json!({})),
    ];
    let expect = [
        "STARTING from_state:STOPPED tries:0",
        "BACKOFF from_state:STARTING tries:1",
        "FATAL from_state:BACKOFF",
    ];
    assert_eq!(tell(&mut Translator::default(), &records), expect);
}

#[test]
fn a_one_shot_runs_and_exits() {
    let records = [
        info("service.starting", json!({"run": 1})),
        info("service.exited", json!({"run": 1, "pid": 5, "asked": false})),
        info("service.finished", json!({})),
    ];
    let expect = [
        "STARTING from_state:STOPPED tries:0",
        "RUNNING from_state:STARTING pid:5",
        "EXITED from_state:RUNNING expected:1 pid:5",
    ];
    assert_eq!(tell(&mut Translator::default(), &records), expect);
}

#[test]
fn a_restart_is_a_stop_and_a_start() {
    let mut translator = Translator::default();
    tell(&mut translator, &started(1, 10));
    let mut records = vec![
        info("service.stopping", json!({"run": 1})),
        info("service.exited", json!({"run": 1, "pid": 10, "asked": true})),
    ];
    records.extend(started(2, 11));
    let expect = [
        "STOPPING from_state:RUNNING pid:10",
        "STOPPED from_state:STOPPING pid:10",
        "STARTING from_state:STOPPED tries:0",
        "RUNNING from_state:STARTING pid:11",
    ];
    assert_eq!(tell(&mut translator, &records), expect);
}

#[test]
fn a_successor_beside_the_old_one_is_told_as_a_restart() {
    let mut translator = Translator::default();
    tell(&mut translator, &started(1, 10));
    assert_eq!(tell(&mut translator, &started(2, 11)), [""; 0], "the old one serves");
    let records = [
        info("service.replaced", json!({"run": 2})),
        info("service.stopping", json!({"run": 1})),
        info("service.exited", json!({"run": 1, "pid": 10, "asked": true})),
    ];
    let expect = [
        "STOPPING from_state:RUNNING pid:10",
        "STOPPED from_state:STOPPING pid:10",
        "STARTING from_state:STOPPED tries:0",
        "RUNNING from_state:STARTING pid:11",
    ];
    assert_eq!(tell(&mut translator, &records), expect);
    let crash = [bad("service.exited", json!({"run": 2, "pid": 11, "asked": false}))];
    assert_eq!(tell(&mut translator, &crash), ["EXITED from_state:RUNNING expected:0 pid:11"]);
}

#[test]
fn a_successor_that_fails_is_not_told_of_and_one_that_is_left_alone_is() {
    let mut translator = Translator::default();
    tell(&mut translator, &started(1, 10));
    let fails = [
        info("service.starting", json!({"run": 2})),
        bad("service.exited", json!({"run": 2, "pid": 11, "asked": false})),
        bad("service.replacement_failed", json!({"planned": true})),
    ];
    assert_eq!(tell(&mut translator, &fails), [""; 0]);
    let mut records = started(3, 12);
    records.push(bad("service.exited", json!({"run": 1, "pid": 10, "asked": false})));
    let expect = [
        "EXITED from_state:RUNNING expected:0 pid:10",
        "STARTING from_state:EXITED tries:0",
        "RUNNING from_state:STARTING pid:12",
    ];
    assert_eq!(tell(&mut translator, &records), expect);
}

#[test]
fn a_start_that_takes_too_long_is_stopped() {
    let records = [
        info("service.starting", json!({"run": 1})),
        bad("service.start_timeout", json!({"run": 1})),
        info("service.stopping", json!({"run": 1})),
        info("service.exited", json!({"run": 1, "pid": 9, "asked": true})),
        bad("service.restart_scheduled", json!({})),
        info("service.starting", json!({"run": 2})),
    ];
    let expect = [
        "STARTING from_state:STOPPED tries:0",
        "STOPPING from_state:STARTING pid:0",
        "STOPPED from_state:STOPPING pid:9",
        "STARTING from_state:STOPPED tries:0",
    ];
    assert_eq!(tell(&mut Translator::default(), &records), expect);
}

#[test]
fn what_is_there_already_is_not_told_again() {
    let mut translator = Translator::default();
    let view = InstanceView {
        name: "web".into(),
        state: "running".into(),
        pid: Some(4),
        run: Some(3),
        ..InstanceView::default()
    };
    translator.begin([view].iter());
    let records = [
        info("service.adopted", json!({"run": 3, "pid": 4})),
        info("service.ready", json!({"run": 3})),
        bad("service.exited", json!({"run": 3, "pid": 4, "asked": false})),
    ];
    let expect = ["EXITED from_state:RUNNING expected:0 pid:4"];
    assert_eq!(tell(&mut translator, &records), expect);
}

#[test]
fn groups_and_the_daemon_itself() {
    let subject = |subject: &str, kind: &str| EventRecord {
        subject: subject.into(),
        ..info(kind, json!({"type": "a", "data": "b"}))
    };
    let records = [
        subject("holdfast", "daemon.started"),
        subject("worker:0", "service.added"),
        subject("worker:1", "service.added"),
        subject("web", "service.removed"),
        subject("holdfast", REMOTE_KIND),
        subject("holdfast", "daemon.reloaded"),
        subject("duty/console", "service.starting"),
        subject("holdfast", "daemon.stopping"),
    ];
    let expect = [
        "SUPERVISOR_STATE_CHANGE_RUNNING ",
        "PROCESS_GROUP_ADDED groupname:worker",
        "PROCESS_GROUP_REMOVED groupname:web",
        "REMOTE_COMMUNICATION type:a\nb",
        "SUPERVISOR_STATE_CHANGE_STOPPING ",
    ];
    assert_eq!(tell(&mut Translator::default(), &records), expect);
}

fn may_follow(from: ProcessState, to: ProcessState) -> bool {
    use ProcessState as S;
    match to {
        S::Starting => matches!(from, S::Stopped | S::Backoff | S::Exited | S::Fatal),
        S::Running | S::Backoff => from == S::Starting,
        S::Stopping => matches!(from, S::Starting | S::Running | S::Backoff),
        S::Stopped => from == S::Stopping,
        S::Exited => from == S::Running,
        S::Fatal => from == S::Backoff,
        S::Unknown => false,
    }
}

proptest! {
    /// Whatever we record, a listener never sees what supervisord's diagram does not have.
    #[test]
    fn every_change_is_one_of_the_diagram(
        events in prop::collection::vec((0..15_usize, 1..4_u64, any::<bool>(), 0..3_usize), 0..60)
    ) {
        const KINDS: [&str; 15] = [
            "starting", "ready", "stopping", "exited", "stopped", "finished", "restart_scheduled",
            "failed", "start_failed", "budget_spent", "adopted", "waiting",
            "admitted", "replaced", "replacement_failed",
        ];
        let severities = [Severity::Info, Severity::Warning, Severity::Error];
        let mut translator = Translator::default();
        for (kind, run, asked, severity) in events {
            let data = json!({"run": run, "pid": 100 + run, "asked": asked});
            let record = record(&format!("service.{}", KINDS[kind]), severities[severity], data);
            let payloads = translator.translate(&record);
            prop_assert!(payloads.len() <= 4);
            for payload in payloads {
                let Payload::State { from, to, .. } = payload else { panic!("{payload:?}") };
                prop_assert!(may_follow(from, to.state()), "{from:?} {to:?} by {record:?}");
            }
        }
    }
}

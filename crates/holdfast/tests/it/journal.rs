//! The journal through the real console: nothing that was acknowledged is lost, doubled or
//! disordered by a sudden death.

use crate::support::{Daemon, kill, wait_for};
use control::{EventRecord, ServiceAction};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

const TWO: &str = "[service.web]\ncommand = [\"sleep\", \"1000\"]\n\
    [service.other]\ncommand = [\"sleep\", \"1000\"]\nautostart = false\n";

fn console_pid(daemon: &Daemon) -> u32 {
    wait_for("the console runs", || {
        let duties = daemon.snapshot().duties;
        let console = duties.iter().find(|duty| duty.name == "console");
        let running = console.filter(|duty| duty.state == "running").and_then(|duty| duty.pid);
        running.ok_or_else(|| format!("{duties:?}"))
    })
}

fn commands(events: &[EventRecord]) -> Vec<&EventRecord> {
    events.iter().filter(|event| event.kind == "service.command").collect()
}

/// Numbers ascend by one, and no event is there twice.
fn check_numbers(events: &[EventRecord]) {
    for (one, next) in events.iter().zip(events.iter().skip(1)) {
        assert_eq!(one.seq + 1, next.seq, "{one:?}\n{next:?}");
    }
    let identities: BTreeSet<_> =
        events.iter().map(|event| (event.source.clone(), event.source_seq)).collect();
    assert_eq!(identities.len(), events.len(), "{events:#?}");
}

#[test]
fn events_are_found_by_subject_and_by_time() {
    let daemon = Daemon::start(TWO);
    daemon.wait_event("web", "service.ready");
    daemon.wait_event("holdfast", "daemon.started");
    let about_web = daemon.try_events(&["--subject", "web"]).unwrap();
    assert!(about_web.iter().all(|event| event.subject == "web"), "{about_web:#?}");
    assert!(about_web.iter().any(|event| event.kind == "service.ready"));
    let recent = daemon.try_events(&["--since", "1h"]).unwrap();
    assert!(about_web.len() < recent.len());
    check_numbers(&recent);
    let newest = recent.last().unwrap().wall_us;
    let later = jiff::Timestamp::from_microsecond(newest + 3_600_000_000).unwrap().to_string();
    assert_eq!(daemon.try_events(&["--since", &later]).unwrap(), []);
    let bad = daemon.try_events(&["--severity", "error"]).unwrap();
    assert!(bad.iter().all(|event| event.severity == control::Severity::Error), "{bad:?}");
    // For people: the sentence, not the record.
    let text = daemon.cli(&["events", "--subject", "web"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("web is ready") && !text.contains("source_seq"), "{text}");
}

#[test]
fn what_was_acknowledged_survives_kill_9_of_root_and_console() {
    let mut daemon = Daemon::start(TWO);
    daemon.wait_state("web", "running");
    let mut acknowledged = 0;
    for round in 0..6 {
        for _ in 0..5 {
            daemon.act(ServiceAction::Reset, "other");
            acknowledged += 1;
        }
        // The console dies at any moment of its work, the root right after its answer.
        if round % 3 != 1 {
            kill(console_pid(&daemon), "KILL");
            daemon.act(ServiceAction::Reset, "other");
            acknowledged += 1;
        }
        if round % 3 != 0 {
            daemon.kill_root();
            daemon.run();
        }
    }
    let events = wait_for("all that was acknowledged is in the journal", || {
        let events = daemon.try_events(&[])?;
        let found = commands(&events).len();
        if found == acknowledged { Ok(events) } else { Err(format!("{found} of {acknowledged}")) }
    });
    check_numbers(&events);
    assert_eq!(daemon.snapshot().events_lost, 0);
    // Nothing comes later, either: a new beginning does not read anything twice.
    daemon.kill_root();
    daemon.run();
    let started = || {
        let events = daemon.try_events(&[])?;
        let starts = events.iter().filter(|event| event.kind == "daemon.started").count();
        if starts == 6 { Ok(events) } else { Err(format!("{starts} starts")) }
    };
    let events = wait_for("the last start is in the journal", started);
    assert_eq!(commands(&events).len(), acknowledged);
    check_numbers(&events);
}

#[test]
fn a_corrupt_journal_is_set_aside_and_said() {
    let mut daemon = Daemon::start(TWO);
    daemon.wait_event("web", "service.ready");
    daemon.stop();
    let path = daemon.path("state/journal.sqlite");
    for side in ["-wal", "-shm"] {
        let _ = fs::remove_file(daemon.path(&format!("state/journal.sqlite{side}")));
    }
    let size = fs::metadata(&path).unwrap().len() as usize;
    fs::write(&path, "no database at all. ".repeat(size / 20 + 1)).unwrap();
    daemon.run();
    let said = daemon.wait_event("duty/console", "journal.replaced");
    assert_eq!(said.severity, control::Severity::Error);
    assert!(said.message.contains("journal.sqlite.corrupt-"), "{}", said.message);
    let names = fs::read_dir(daemon.path("state")).unwrap().flatten();
    let names: Vec<_> = names.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|name| name.starts_with("journal.sqlite.corrupt-")), "{names:?}");
    // The new one works.
    daemon.act(ServiceAction::Reset, "other");
    daemon.wait_event("other", "service.command");
    check_numbers(&daemon.try_events(&[]).unwrap());
}

#[test]
fn following_shows_what_happens_next() {
    let daemon = Daemon::start(TWO);
    daemon.wait_event("web", "service.ready");
    let mut follower = daemon
        .command(&["events", "--follow", "--json", "--subject", "other"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(follower.stdout.take().unwrap());
    // Whatever was before the stream began is told as well: no command can be missed.
    daemon.act(ServiceAction::Reset, "other");
    let (tell, heard) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let _ = tell.send(serde_json::from_str::<EventRecord>(&line).unwrap());
        }
    });
    let hear = || loop {
        let event = heard.recv_timeout(crate::support::DEADLINE).unwrap();
        assert_eq!(event.subject, "other");
        if event.kind == "service.command" {
            return event;
        }
    };
    let first = hear();
    daemon.act(ServiceAction::Reset, "web");
    daemon.act(ServiceAction::Reset, "other");
    let second = hear();
    assert!(first.seq < second.seq, "{first:?} {second:?}");
    follower.kill().unwrap();
    follower.wait().unwrap();
    reader.join().unwrap();
}

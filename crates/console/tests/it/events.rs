//! Events: from the segment files into the journal, and out to those who ask or listen.

use crate::house::{House, Sent, closed, open_in};
use config::ApiSettings;
use control::{Request, Severity};

/// Waits until the journal has numbered `count` events, by listening, not by asking again.
fn stored(house: &House, count: u64) {
    let mut stream = house.stream("/api/v1/events/stream?after=0", &[]);
    while stream.next().expect("the stream has ended").id != count.to_string() {}
}

fn sequence(house: &House, query: &str) -> Vec<u64> {
    let answer = house.get(&format!("/api/v1/events{query}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    let events = answer.json()["events"].as_array().unwrap().clone();
    events.iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

#[test]
fn events_are_numbered_and_asked_for_by_every_filter() {
    let house = closed();
    house.root.event("web", "service.ready", Severity::Info);
    house.root.event("db:0", "service.exited", Severity::Warning);
    house.root.event("db:1", "service.budget_spent", Severity::Error);
    house.root.event("holdfast", "daemon.reloaded", Severity::Info);
    stored(&house, 4);
    for (query, expect) in [
        ("", vec![1, 2, 3, 4]),
        ("?order=desc&limit=2", vec![4, 3]),
        ("?after=2", vec![3, 4]),
        ("?subject=db", vec![2, 3]),
        ("?subject=db:1", vec![3]),
        ("?kind=service.", vec![1, 2, 3]),
        ("?severity=warning", vec![2, 3]),
        ("?since=1h", vec![1, 2, 3, 4]),
        ("?until=1h", vec![]),
        ("?since=2001-01-01T00:00:00Z&severity=error", vec![3]),
    ] {
        assert_eq!(sequence(&house, query), expect, "{query}");
    }
}

#[test]
fn an_event_that_was_written_before_us_is_found_without_a_nudge() {
    let house = closed();
    house.root.event("web", "service.ready", Severity::Info);
    stored(&house, 1);
    house.root.write("web", "service.exited", Severity::Warning);
    let house = open_in(house.close(), ApiSettings::default(), None);
    stored(&house, 2);
    // Stored once, though the segment was read by two consoles.
    assert_eq!(sequence(&house, ""), vec![1, 2]);
}

#[test]
fn a_nudge_that_comes_before_the_record_is_not_forgotten() {
    let house = closed();
    let mut live = house.stream("/api/v1/events/stream", &[]);
    let event = house.root.write("web", "service.ready", Severity::Info);
    house.root.push(event.clone());
    let first = live.next().unwrap();
    // The next one is announced before it is written.
    let mut early = event;
    early.source_seq += 1;
    house.root.push(early);
    house.root.write("web", "service.exited", Severity::Warning);
    let second = live.next().unwrap();
    assert_eq!((first.id.as_str(), second.id.as_str()), ("1", "2"));
}

#[test]
fn a_stream_resumes_behind_the_last_number_and_goes_over_to_live_without_a_gap() {
    let house = closed();
    for _ in 0..1200 {
        house.root.event("web", "service.ready", Severity::Info);
    }
    stored(&house, 1200);
    let mut stream = house.stream("/api/v1/events/stream", &["Last-Event-ID: 100"]);
    for _ in 0..50 {
        house.root.event("db:0", "service.exited", Severity::Warning);
    }
    for expect in 101..=1250_u64 {
        let sent = stream.next().unwrap();
        assert_eq!(sent.id, expect.to_string());
        assert_eq!(sent.json()["seq"], expect);
    }
}

#[test]
fn a_stream_gives_only_what_was_asked_for() {
    let house = closed();
    let mut stream = house.stream("/api/v1/events/stream?subject=db&severity=warning", &[]);
    house.root.event("web", "service.exited", Severity::Warning);
    house.root.event("db:0", "service.ready", Severity::Info);
    house.root.event("database", "service.exited", Severity::Error);
    house.root.event("db:0", "service.exited", Severity::Warning);
    house.root.event("db", "service.exited", Severity::Error);
    let ids: Vec<String> = (0..2).map(|_| stream.next().unwrap().id).collect();
    assert_eq!(ids, ["4", "5"]);
}

#[test]
fn b17_a_client_that_is_too_slow_is_told_how_many_it_missed() {
    let house = closed();
    let mut slow = house.stream("/api/v1/events/stream", &[]);
    // It does not read: its socket and then the live queue fill up.
    let count = 12_000;
    for _ in 0..count {
        let event = house.root.write("web", "service.ready", Severity::Info);
        if event.source_seq.is_multiple_of(500) {
            house.root.push(event);
        }
    }
    house.root.event("web", "service.ready", Severity::Info);
    stored(&house, count + 1);
    let (mut got, mut missed, mut last) = (0, 0, 0);
    while last < count + 1 {
        let Sent { name, id, data } = slow.next().unwrap();
        if name == "lagged" {
            let told: serde_json::Value = serde_json::from_str(&data).unwrap();
            assert_eq!(told["last_seq"].as_u64(), Some(last));
            missed += told["missed"].as_u64().unwrap();
        } else {
            got += 1;
            last = id.parse().unwrap();
        }
    }
    assert!(0 < missed, "it was not slow enough to prove anything");
    assert_eq!(got + missed, count + 1, "in = given + missed");
    let metrics = house.get("/metrics").body;
    let name = "holdfast_queue_dropped_total{queue=\"live_events\"} ";
    let counted = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    // The client that waited for the end may have missed some, too.
    assert!(missed <= counted.parse().unwrap(), "{counted}");
}

#[test]
fn a_number_from_a_journal_that_is_gone_is_answered_with_a_reset() {
    let house = closed();
    let mut stream = house.stream("/api/v1/events/stream", &["Last-Event-ID: 4711"]);
    assert_eq!(stream.next().unwrap().name, "reset");
    house.root.event("web", "service.ready", Severity::Info);
    assert_eq!(stream.next().unwrap().id, "1");
}

#[test]
fn a_corrupt_journal_is_set_aside_said_loudly_and_filled_again() {
    let house = closed();
    for _ in 0..3 {
        house.root.event("web", "service.ready", Severity::Info);
    }
    stored(&house, 3);
    let dir = house.close();
    for file in ["journal.sqlite-wal", "journal.sqlite-shm"] {
        let _ = std::fs::remove_file(dir.path().join(file));
    }
    std::fs::write(dir.path().join("journal.sqlite"), [0x5A; 8192]).unwrap();
    let house = open_in(dir, ApiSettings::default(), None);
    let recorded = house.root.seen.wait_for(
        |request| matches!(request, Request::Record { event } if event.kind == "journal.replaced"),
    );
    let Request::Record { event } = recorded else { unreachable!() };
    assert_eq!(event.severity, Severity::Error);
    house.root.event("web", "service.exited", Severity::Info);
    let mut stream = house.stream("/api/v1/events/stream?after=0", &[]);
    while stream.next().unwrap().json()["kind"] != "service.exited" {}
}

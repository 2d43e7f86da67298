//! `kill -9` at any moment: what was acknowledged is there, once, in order.

use crate::support::{event, events, keep_all, start_again, wait_until};
use journal::segment::{Follower, Position, Positions, Writer};
use journal::{Journal, Query, Recorder};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::Duration;

const WRITE_TO: &str = "HOLDFAST_TEST_WRITE_TO";
const STORE_TO: &str = "HOLDFAST_TEST_STORE_TO";

/// Not a test of its own: records events and says up to which they are written, until killed.
#[test]
fn recording_process() {
    let Some(dir) = std::env::var_os(WRITE_TO) else { return };
    let recorder = Recorder::start(Path::new(&dir), "n1", "root").unwrap();
    let mut out = std::io::stdout();
    loop {
        let last = (0..50).fold(0, |_, n| recorder.record(event(n)));
        assert!(recorder.wait_written(last, Duration::from_secs(30)));
        writeln!(out, "\nwritten {last}").unwrap();
    }
}

/// Reads what the process has acknowledged, kills it, and returns the last acknowledged number.
fn kill_after(lines: usize, test: &str, variable: &str, dir: &Path) -> u64 {
    let mut child = start_again(test, variable, dir);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut last = 0;
    let mut seen = 0;
    let mut line = String::new();
    while seen < lines {
        line.clear();
        assert!(0 < output.read_line(&mut line).unwrap(), "the process ended by itself");
        if let Some(number) = line.trim().strip_prefix("written ") {
            last = number.parse().unwrap();
            seen += 1;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    last
}

#[test]
fn what_a_recorder_acknowledged_survives_its_sudden_death() {
    let dir = tempfile::tempdir().unwrap();
    let segments = dir.path().join("events");
    let mut acknowledged = 0;
    for round in 0..12 {
        acknowledged = kill_after(3 + round, "crash::recording_process", WRITE_TO, &segments);
    }
    let follower = Follower::open(&segments, [].into()).unwrap();
    let batch = follower.poll(usize::MAX).unwrap();
    let numbers: Vec<u64> = batch.records.iter().map(|r| r.source_seq).collect();
    let expect: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expect, "no gap, no double");
    assert!(acknowledged <= numbers.len() as u64);
    assert!(batch.findings.iter().all(|f| f.message.contains("no records")), "{batch:?}");
}

/// Not a test of its own: moves events from segments into the journal, until killed.
#[test]
fn storing_process() {
    let Some(dir) = std::env::var_os(STORE_TO) else { return };
    let dir = Path::new(&dir);
    let (mut journal, findings) = Journal::open(&dir.join("journal.sqlite"), &keep_all()).unwrap();
    assert_eq!(findings, []);
    let mut follower = Follower::open(&dir.join("events"), journal.positions().unwrap()).unwrap();
    let mut out = std::io::stdout();
    loop {
        let batch = follower.poll(7).unwrap();
        if let Some(last) = journal.ingest(&batch).unwrap().last() {
            writeln!(out, "\nwritten {}", last.seq).unwrap();
        }
        follower.advance(&batch);
        if batch.is_empty() {
            writeln!(out, "\nwritten {}", journal.last_seq().unwrap()).unwrap();
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

#[test]
fn what_the_journal_acknowledged_survives_and_nothing_is_stored_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = Writer::open(&dir.path().join("events"), "root").unwrap();
    for event in events(1..=600) {
        writer.append(&event).unwrap();
    }
    let mut last = 0;
    for round in 0..10 {
        let now = kill_after(2 + round, "crash::storing_process", STORE_TO, dir.path());
        assert!(last <= now);
        last = now;
    }
    kill_after(200, "crash::storing_process", STORE_TO, dir.path());
    let (journal, findings) =
        Journal::open(&dir.path().join("journal.sqlite"), &keep_all()).unwrap();
    assert_eq!(findings, []);
    let all = journal.query(&Query::default()).unwrap();
    let numbers: Vec<(u64, u64)> = all.iter().map(|r| (r.seq, r.source_seq)).collect();
    assert_eq!(numbers, (1..=600).map(|n| (n, n)).collect::<Vec<_>>());
}

#[test]
fn a_record_torn_at_any_byte_is_cut_off_and_its_number_used_again() {
    let whole = control::encode_record(&event(3)).unwrap();
    for cut in 0..=whole.len() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, _) = Writer::open(dir.path(), "root").unwrap();
        writer.append(&event(1)).unwrap();
        writer.append(&event(2)).unwrap();
        drop(writer);
        let path = dir.path().join("root-1.seg");
        let mut file = std::fs::File::options().append(true).open(&path).unwrap();
        file.write_all(&whole[..cut]).unwrap();
        let follower = Follower::open(dir.path(), [].into()).unwrap();
        let complete = cut == whole.len();
        assert_eq!(follower.poll(9).unwrap().records.len(), 2 + usize::from(complete));

        let (mut writer, recovery) = Writer::open(dir.path(), "root").unwrap();
        assert_eq!(recovery.next_seq, if complete { 4 } else { 3 }, "cut at {cut}");
        assert_eq!(recovery.findings.len(), usize::from(0 < cut && !complete));
        writer.append(&event(recovery.next_seq)).unwrap();
        let batch = follower.poll(9).unwrap();
        assert_eq!(batch.records, events(1..=recovery.next_seq), "cut at {cut}");
        assert_eq!(batch.findings, []);
    }
}

#[test]
fn segments_roll_are_followed_from_stored_positions_and_retire() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = Writer::open(dir.path(), "root").unwrap();
    let mut follower = Follower::open(dir.path(), [].into()).unwrap();
    let mut long = event(0);
    long.message = "x".repeat(100_000);
    let mut read = Vec::new();
    for number in 1..=200 {
        long.source_seq = number;
        writer.append(&long).unwrap();
        if number % 30 == 0 {
            // As after a restart of the reader.
            follower = Follower::open(dir.path(), follower.positions().clone()).unwrap();
            let batch = follower.poll(25).unwrap();
            read.extend(batch.records.iter().map(|r| r.source_seq));
            follower.advance(&batch);
        }
    }
    loop {
        let batch = follower.poll(25).unwrap();
        if batch.is_empty() && batch.positions == *follower.positions() {
            break;
        }
        read.extend(batch.records.iter().map(|r| r.source_seq));
        follower.advance(&batch);
    }
    assert_eq!(read, (1..=200).collect::<Vec<_>>());
    let count = || std::fs::read_dir(dir.path()).unwrap().count();
    let before = count();
    assert!(4 <= before, "{before} segments");
    // Somebody else has read none of them, then all.
    assert_eq!(follower.retire(1, &[Positions::new()]).unwrap(), 0);
    let other = follower.positions().clone();
    assert_eq!(follower.retire(1, &[other]).unwrap(), before - 2);
    assert_eq!(count(), 2);
    drop(writer);
    let (_, recovery) = Writer::open(dir.path(), "root").unwrap();
    assert_eq!(recovery.next_seq, 201);
}

#[test]
fn segments_that_are_gone_are_missed_aloud_and_new_numbering_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let far = Position { segment: 500, offset: 10 };
    let (mut writer, _) = Writer::open(dir.path(), "root").unwrap();
    writer.append(&event(1)).unwrap();
    let follower = Follower::open(dir.path(), [("root".to_owned(), far)].into()).unwrap();
    let batch = follower.poll(9).unwrap();
    assert_eq!(batch.records, events([1]));
    assert_eq!(batch.findings.len(), 1);
    assert_eq!(batch.findings[0].event_kind(), "segment.missing");
}

#[test]
fn a_recorder_calls_back_numbers_and_stops_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(dir.path(), "n1", "root").unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    recorder.on_written(Box::new(move |number| tell.send(number).unwrap()));
    assert_eq!((recorder.record(event(99)), recorder.record(event(99))), (1, 2));
    assert!(recorder.wait_written(2, Duration::from_secs(30)));
    let mut last = 0;
    wait_until("it calls back", || {
        last = told.try_recv().unwrap_or(last);
        last == 2
    });
    let mut huge = event(0);
    huge.data.insert("core".into(), "x".repeat(1_000_000).into());
    recorder.record(huge);
    assert_eq!((recorder.stop(), last), (Ok(()), 2));
    let follower = Follower::open(dir.path(), [].into()).unwrap();
    let records = follower.poll(9).unwrap().records;
    assert_eq!(records.iter().map(|r| r.source_seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(records[2].data["details"], "left out: too long");
}

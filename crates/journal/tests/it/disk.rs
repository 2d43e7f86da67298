//! A disk without space: nobody waits, nothing is half written, every loss is told.

use crate::support::{event, events, in_mount_namespace, keep_all, mount_tmpfs, wait_until};
use journal::segment::{Follower, SegmentError, Writer};
use journal::{BACKLOG_EVENTS_MAX, Journal, JournalError, Query, Recorder};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Takes all space there is; gives it back when removed.
fn fill(path: &Path) {
    let mut ballast = File::create(path).unwrap();
    while ballast.write_all(&[0; 4096]).is_ok() {}
    while ballast.write_all(&[0]).is_ok() {}
}

#[test]
fn a_segment_stays_whole_on_a_full_disk_and_goes_on_afterwards() {
    if !in_mount_namespace("disk::a_segment_stays_whole_on_a_full_disk_and_goes_on_afterwards") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let _mounted = mount_tmpfs(dir.path(), "256k");
    let events_dir = dir.path().join("events");
    let (mut writer, _) = Writer::open(&events_dir, "root").unwrap();
    writer.append(&event(1)).unwrap();
    let ballast = dir.path().join("ballast");
    fill(&ballast);
    let mut next = 2;
    let failed = loop {
        match writer.append(&event(next)) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, SegmentError::Io { doing: "write to", .. }), "{failed:?}");
    let follower = Follower::open(&events_dir, [].into()).unwrap();
    assert_eq!(follower.poll(9_999).unwrap().records, events(1..next));
    std::fs::remove_file(&ballast).unwrap();
    writer.append(&event(next)).unwrap();
    let batch = follower.poll(9_999).unwrap();
    assert_eq!((batch.records, batch.findings), (events(1..=next), Vec::new()));
}

#[test]
fn a_recorder_drops_the_oldest_on_a_full_disk_and_tells_it_when_space_is_back() {
    if !in_mount_namespace(
        "disk::a_recorder_drops_the_oldest_on_a_full_disk_and_tells_it_when_space_is_back",
    ) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let _mounted = mount_tmpfs(dir.path(), "24m");
    let recorder = Recorder::start(&dir.path().join("events"), "n1", "root").unwrap();
    let first = recorder.record(event(0));
    assert!(recorder.wait_written(first, Duration::from_secs(30)));
    let ballast = dir.path().join("ballast");
    fill(&ballast);
    let wanted = 3 * BACKLOG_EVENTS_MAX as u64;
    let last = (0..wanted).fold(0, |_, _| recorder.record(event(0)));
    wait_until("events are lost", || 0 < recorder.lost());
    std::fs::remove_file(&ballast).unwrap();
    assert!(recorder.wait_written(last, Duration::from_mins(1)));
    let lost = recorder.lost();
    assert_eq!(recorder.stop(), Ok(()));

    let mut follower = Follower::open(&dir.path().join("events"), [].into()).unwrap();
    let (mut kept, mut told) = (0, 0);
    let mut before = 0;
    loop {
        let batch = follower.poll(10_000).unwrap();
        if batch.records.is_empty() {
            break;
        }
        for record in &batch.records {
            assert!(before < record.source_seq, "numbers ascend");
            before = record.source_seq;
            if record.kind == "events.lost" {
                told += record.data["count"].as_u64().unwrap();
                assert!(record.message.contains("No space left"), "{}", record.message);
            } else {
                kept += 1;
            }
        }
        follower.advance(&batch);
    }
    assert_eq!((told, kept + lost), (lost, wanted + 1), "recorded = kept + lost, and all is told");
}

#[test]
fn the_journal_refuses_on_a_full_disk_and_takes_the_same_again() {
    if !in_mount_namespace("disk::the_journal_refuses_on_a_full_disk_and_takes_the_same_again") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let _mounted = mount_tmpfs(dir.path(), "1m");
    let path = dir.path().join("journal.sqlite");
    let (mut journal, _) = Journal::open(&path, &keep_all()).unwrap();
    journal.append(&events(1..=10)).unwrap();
    let ballast = dir.path().join("ballast");
    fill(&ballast);
    let mut next = 11;
    let failed = loop {
        match journal.append(&events(next..next + 100)) {
            Ok(_) => next += 100,
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, JournalError::Full { .. }), "{failed:?}");
    assert_eq!(journal.query(&Query::default()).unwrap().len() as u64, next - 1);
    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(journal.append(&events(next..next + 100)).unwrap().len(), 100);
    assert_eq!(journal.last_seq().unwrap(), next + 99);
    drop(journal);
    let (_, findings) = Journal::open(&path, &keep_all()).unwrap();
    assert_eq!(findings, []);
}

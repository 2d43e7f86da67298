//! Damaged files: set aside or skipped, never silent, never fatal.

use crate::support::{event, events, keep_all};
use journal::segment::{Follower, Writer};
use journal::{Journal, JournalError, Query};
use std::os::unix::fs::FileExt;
use std::path::Path;

fn filled(path: &Path) {
    let (mut journal, findings) = Journal::open(path, &keep_all()).unwrap();
    assert_eq!(findings, []);
    journal.append(&events(1..=500)).unwrap();
}

/// Damages a filled journal, opens it, and expects a new one with the old one set aside.
fn check_set_aside(damage: impl Fn(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.sqlite");
    filled(&path);
    damage(&path);
    let (mut journal, findings) = Journal::open(&path, &keep_all()).unwrap();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].event_kind(), "journal.replaced");
    assert!(findings[0].path.exists(), "{:?}", findings[0]);
    let stored = journal.append(&events([1])).unwrap();
    assert_eq!(stored.len(), 1, "the new one works");
    assert_eq!(journal.query(&Query::default()).unwrap(), stored);
}

#[test]
fn a_zeroed_header_a_cut_file_an_empty_one_and_flipped_pages_are_set_aside() {
    check_set_aside(|path| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(&[0; 4096], 0).unwrap();
    });
    check_set_aside(|path| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_len(5_000).unwrap();
    });
    check_set_aside(|path| std::fs::write(path, "").unwrap());
    check_set_aside(|path| std::fs::write(path, "hello, I am no database at all").unwrap());
    check_set_aside(|path| {
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len();
        for page in (1..length / 4096).step_by(2) {
            file.write_all_at(&[0xA5; 200], page * 4096).unwrap();
        }
    });
}

#[test]
fn numbers_go_on_behind_those_of_a_journal_that_was_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.sqlite");
    filled(&path);
    let (journal, _) = Journal::open(&path, &keep_all()).unwrap();
    let (mut journal, findings) = journal.replace("a test says so").unwrap();
    assert!(findings[0].message.contains("a test says so"));
    assert_eq!(journal.append(&events([1])).unwrap()[0].seq, 501);
}

#[test]
fn newer_and_foreign_databases_are_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let newer = dir.path().join("newer.sqlite");
    filled(&newer);
    let db = rusqlite::Connection::open(&newer).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let refused = Journal::open(&newer, &keep_all());
    assert!(matches!(refused, Err(JournalError::Newer { found: 99, .. })), "{refused:?}");
    let refused = Journal::open_read_only(&newer);
    assert!(matches!(refused, Err(JournalError::Newer { .. })), "{refused:?}");

    let foreign = dir.path().join("foreign.sqlite");
    let db = rusqlite::Connection::open(&foreign).unwrap();
    db.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
    drop(db);
    let refused = Journal::open(&foreign, &keep_all());
    assert!(matches!(refused, Err(JournalError::NotOurs { .. })), "{refused:?}");
}

#[test]
fn damage_in_a_segment_costs_only_the_records_it_hit() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = Writer::open(dir.path(), "root").unwrap();
    for event in events(1..=9) {
        writer.append(&event).unwrap();
    }
    let path = dir.path().join("root-1.seg");
    let length = std::fs::metadata(&path).unwrap().len();
    let record = length / 9;
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"####", 4 * record + 20).unwrap();
    let follower = Follower::open(dir.path(), [].into()).unwrap();
    let batch = follower.poll(100).unwrap();
    assert_eq!(batch.records, [events(1..=4), events(6..=9)].concat());
    assert_eq!(batch.findings.len(), 1);
    assert_eq!(batch.findings[0].event_kind(), "segment.damaged");

    // At the end: left as it is, and no number is given twice.
    file.write_all_at(&[0xFF; 40], length - 40).unwrap();
    let (mut writer, recovery) = Writer::open(dir.path(), "root").unwrap();
    assert!(9 < recovery.next_seq, "{recovery:?}");
    assert_eq!(recovery.findings.len(), 1);
    writer.append(&event(recovery.next_seq)).unwrap();
    let batch = follower.poll(100).unwrap();
    assert_eq!(batch.records.last(), Some(&event(recovery.next_seq)));
    assert_eq!(batch.findings.len(), 2);
}

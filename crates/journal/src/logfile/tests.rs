//! Tails and followers over rotated, compressed, gappy and unfinished files.

use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn append(path: &Path, text: &str) {
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

fn compress(path: &Path, text: &str) {
    let mut encoder = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap();
}

/// As the logs duty does it.
fn rotate(log: &Path) {
    for number in (1..20).rev() {
        let _ = std::fs::rename(rotated_path(log, number), rotated_path(log, number + 1));
    }
    std::fs::rename(log, rotated_path(log, 1)).unwrap();
    write(log, "");
}

#[test]
fn the_last_lines_are_found_over_rotated_and_compressed_files() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("web.log");
    assert_eq!(tail(&log, 5).unwrap(), Vec::<String>::new());
    compress(&compressed_path(&log, 3), "1\n2\n");
    // Number 2 is missing: somebody died between two renames.
    write(&rotated_path(&log, 1), "3\n4\n");
    write(&log, "5\n6\nunfinished");
    let all = ["1", "2", "3", "4", "5", "6", "unfinished"];
    for lines in 0..=7 {
        assert_eq!(tail(&log, lines).unwrap(), &all[7 - lines..], "{lines} lines");
    }
    assert_eq!(tail(&log, usize::MAX).unwrap(), all);
}

#[test]
fn a_tail_reads_backwards_over_many_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("web.log");
    let text: Vec<String> = (0..50_000).map(|n| format!("line {n}\n")).collect();
    write(&log, &text.concat());
    let expect: Vec<String> = (40_000..50_000).map(|n| format!("line {n}")).collect();
    assert_eq!(tail(&log, 100_000).unwrap(), expect, "at most {TAIL_LINES_MAX} lines");
    assert_eq!(tail(&log, 1).unwrap(), ["line 49999"]);
}

#[test]
fn bytes_that_are_no_text_and_lines_without_end_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("web.log");
    std::fs::write(&log, vec![0xFF; 3 * LINE_BYTES_MAX]).unwrap();
    let lines = tail(&log, 10).unwrap();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|l| l.chars().count() == LINE_BYTES_MAX));
    std::fs::write(compressed_path(&log, 1), b"this is no gzip").unwrap();
    assert!(tail(&log, 100).is_ok());
}

#[test]
fn following_sees_each_line_once_over_rotations() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("web.log");
    let mut follow = follow(&log).unwrap();
    assert!(follow.poll(10).unwrap().is_empty());
    append(&log, "a\nb");
    assert_eq!(follow.poll(10).unwrap(), ["a"]);
    append(&log, "c\n");
    rotate(&log);
    append(&log, "d\n");
    rotate(&log);
    append(&log, "e\n");
    assert_eq!(follow.poll(1).unwrap(), ["bc"]);
    assert_eq!(follow.poll(10).unwrap(), ["d", "e"]);
    write(&log, "");
    assert!(follow.poll(10).unwrap().is_empty());
    append(&log, "f\n");
    assert_eq!(follow.poll(10).unwrap(), ["f"]);
}

#[test]
fn a_tail_and_what_follows_it_meet_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("web.log");
    write(&rotated_path(&log, 1), "0\n1\n");
    write(&log, "2\n3\nhalf");
    let (before, mut follow) = tail_and_follow(&log, 3).unwrap();
    assert_eq!(before, ["1", "2", "3"]);
    append(&log, " and half\n");
    assert_eq!(follow.poll(10).unwrap(), ["half and half"]);
}

#[test]
fn following_by_bytes_waits_for_no_line_end_and_loses_none_over_rotations() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("web.log");
    write(&log, "before");
    let (mut late, mut early) = (follow(&log).unwrap(), follow_from_start(&log));
    assert_eq!(late.poll_bytes(10).unwrap(), b"");
    assert_eq!(early.poll_bytes(3).unwrap(), b"bef");
    append(&log, "a\nb");
    assert_eq!(late.poll_bytes(10).unwrap(), b"a\nb");
    rotate(&log);
    append(&log, "c");
    rotate(&log);
    append(&log, "de");
    assert_eq!(late.poll_bytes(1).unwrap(), b"c");
    assert_eq!(late.poll_bytes(10).unwrap(), b"de");
    append(&log, "fgh");
    assert_eq!(late.behind().unwrap(), 3);
    assert_eq!(early.poll_bytes(100).unwrap(), b"orea\nbcdefgh");
    assert_eq!(early.behind().unwrap(), 0);
}

//! No byte of a file is believed: whatever stands there, every question ends, with an answer or a
//! fault.

use super::fuzz::read;
use super::golden_folder;
use proptest::prelude::*;
use std::io::Write;
use std::ops::ControlFlow;
use tdb::{ByteOrder, Database, Fault, HEADER_BYTES, HashKind, Header, Options};

/// The byte of each place, inverted, and with its lowest bit changed.
#[test]
fn flipping_any_byte_of_a_golden_file_never_panics_and_never_hangs() {
    let Some(folder) = golden_folder() else { return };
    for name in ["plain", "dead", "deleted", "bigendian-jenkins", "mutex", "jenkins-seqnum"] {
        let bytes = std::fs::read(folder.join(format!("{name}.tdb"))).unwrap();
        for at in 0..bytes.len() {
            for flip in [0xFF, 0x01] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                read(&damaged);
            }
        }
    }
}

/// A change of what holds the file together does not go unnoticed: every byte of every header of a
/// record and of every tailer matters to the check.
#[test]
fn a_check_notices_a_change_in_any_number_that_holds_the_file_together() {
    let Some(folder) = golden_folder() else { return };
    let bytes = std::fs::read(folder.join("plain.tdb")).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 168 + 4 * 8;
    while at < bytes.len() {
        let length = 24 + number(at + 4);
        // Only next, rec_len and the number that says so mean something in a free record; and how
        // much of a live record is data is what its writer says it is.
        let is_free = number(at + 20) == 0xD9FE_E666;
        let fields = if is_free { vec![0, 4, 20] } else { vec![0, 4, 8, 16, 20] };
        for field in fields.into_iter().chain([length - 4]) {
            for byte in at + field..at + field + 4 {
                let mut damaged = bytes.clone();
                damaged[byte] ^= 0x10;
                let report = Database::from_bytes(damaged).unwrap().check().unwrap();
                assert!(
                    !report.is_clean(),
                    "byte {byte:#x}, field {field} of the record at {at:#x}"
                );
            }
        }
        at += length;
    }
}

/// A file with one chain, whose head and the head of the free list are these, and what lies behind.
fn file(free: u32, chain: u32, numbers: &[u32]) -> Vec<u8> {
    let header = Header::new(1, HashKind::Default, ByteOrder::Little).unwrap();
    let mut bytes = header.encode().to_vec();
    let all = [free, chain].into_iter().chain(numbers.iter().copied());
    bytes.extend(all.flat_map(u32::to_le_bytes));
    bytes
}

const START: u32 = HEADER_BYTES as u32 + 8;
/// The hash of the key that has no bytes.
const EMPTY_HASH: u32 = 12_345;

/// Each record claims all that lies behind it as its data: together the square of the file.
#[test]
fn records_that_lie_over_each_other_are_not_copied_one_by_one() {
    let (count, step) = (2_000, 28);
    let end = START + count * step;
    let record = |index: u32| {
        let at = START + index * step;
        let next = if index + 1 < count { at + step } else { 0 };
        let rest = end - at - 24;
        [next, rest, 0, rest, 0, 0x2601_1999, 0]
    };
    let numbers: Vec<u32> = (0..count).flat_map(record).collect();
    let bytes = file(0, START, &numbers);
    let mut handed_on = 0;
    let visited = Database::from_bytes(bytes.clone()).unwrap().traverse(|_, data| {
        handed_on += data.len();
        ControlFlow::Continue(())
    });
    assert!(matches!(visited.unwrap_err().fault(), Fault::Corrupt { field: "chains", .. }));
    assert_eq!(handed_on, 0);
    read(&bytes);
    let mut scratch = tempfile::NamedTempFile::new().unwrap();
    scratch.write_all(&bytes).unwrap();
    let mut database = Options::new().unsynced().open(scratch.path()).unwrap();
    let retained = database.retain(|_, _| true);
    assert!(matches!(retained.unwrap_err().fault(), Fault::Corrupt { field: "chains", .. }));
}

/// One chain has all records; whoever went along it for each would be at it for minutes.
#[test]
fn a_file_whose_records_are_all_on_one_chain_is_repacked() {
    let count = 100_000;
    let record = |index: u32| {
        let next = if index + 1 < count { START + 32 * (index + 1) } else { 0 };
        [next, 8, 4, 0, 0, 0x2601_1999, index, 32]
    };
    let numbers: Vec<u32> = (0..count).flat_map(record).collect();
    let mut scratch = tempfile::NamedTempFile::new().unwrap();
    scratch.write_all(&file(0, START, &numbers)).unwrap();
    let mut database = Options::new().unsynced().open(scratch.path()).unwrap();
    database.repack().unwrap();
    let report = database.check().unwrap();
    assert!(report.is_clean() && report.live == u64::from(count), "{:?}", report.findings);
    let mut first = Vec::new();
    let first_only = |key: &[u8], _: &[u8]| {
        first = key.to_vec();
        ControlFlow::Break(())
    };
    database.traverse(first_only).unwrap();
    assert_eq!(first, 0_u32.to_le_bytes(), "the order on the chain is kept");
}

/// So it is left by a writer that was killed just after it had taken the record off the list.
#[test]
fn a_free_record_at_the_end_that_is_on_no_list_swallows_no_new_space() {
    let free = [0, 4, 0, 0, 0, 0xD9FE_E666, 28];
    let mut scratch = tempfile::NamedTempFile::new().unwrap();
    scratch.write_all(&file(0, 0, &[[0; 7], free].concat())).unwrap();
    let mut database = Options::new().unsynced().open(scratch.path()).unwrap();
    database.store(b"key", b"value", tdb::Store::Replace).unwrap();
    assert!(scratch.as_file().metadata().unwrap().len() < 1 << 14);
    let report = database.check().unwrap();
    assert!(report.is_clean() && report.live == 1 && report.free == 1, "{report:?}");
}

/// What stands in the recovery area is what was in the file once: also free records, of which one may
/// end where the area does.
#[test]
fn what_is_freed_behind_the_recovery_area_does_not_become_part_of_what_stands_in_it() {
    let area = [0, 4 + 28, 0, 0, 0, 0, 7].into_iter().chain([0, 4, 0, 0, 0, 0xD9FE_E666, 28]);
    let live = [0, 4, 0, 0, EMPTY_HASH, 0x2601_1999, 28];
    let mut bytes = file(0, START + 56, &area.chain(live).collect::<Vec<u32>>());
    bytes[44..48].copy_from_slice(&START.to_le_bytes());
    let mut database = Database::from_bytes(bytes).unwrap();
    for expected in [1, 0] {
        let report = database.check().unwrap();
        assert!(report.is_clean() && report.live == expected, "{report:?}");
        let deleted = database.delete(b"");
        assert_eq!(deleted.is_ok(), expected == 1, "{deleted:?}");
    }
}

/// Numbers that are likely to be believed: offsets, lengths, and what marks a record.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        (0_u32..300).prop_map(|at| 4 * at),
        Just(0x2601_1999),
        Just(0xD9FE_E666),
        Just(0xFEE1_DEAD),
        Just(0xF53B_C0E7),
        Just(0),
        Just(u32::MAX),
        any::<u32>(),
    ]
}

proptest! {
    #[test]
    fn garbage_behind_a_sound_header_is_asked_everything(
        hash_size in 1_u32..40,
        recovery in prop_oneof![Just(0_u32), (0_u32..300).prop_map(|at| 4 * at), any::<u32>()],
        numbers in proptest::collection::vec(number(), 40..300),
    ) {
        let mut bytes = b"TDB file\n".to_vec();
        bytes.resize(168, 0);
        bytes[32..36].copy_from_slice(&0x2601_196D_u32.to_le_bytes());
        bytes[36..40].copy_from_slice(&hash_size.to_le_bytes());
        bytes[44..48].copy_from_slice(&recovery.to_le_bytes());
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        read(&bytes);
    }

    #[test]
    fn bytes_of_any_kind_are_asked_everything(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        read(&bytes);
        let mut begun = b"TDB file\n\0".to_vec();
        begun.extend(bytes);
        read(&begun);
    }
}

//! Mappings: what stands in the file, what does not, and what others do to it.

use super::*;
use crate::os::testing::{Peer, has_python};
use proptest::prelude::*;
use std::os::unix::fs::FileExt;

fn file_of(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn counting(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

#[test]
fn a_map_reads_what_the_file_holds_and_writes_into_it() {
    let bytes = counting(10_000);
    let file = file_of(&bytes);
    let map = Map::new(&file, 4096, 5000).unwrap();
    assert_eq!(map.len(), 5000);
    let mut piece = [0; 100];
    assert!(map.read(4900, &mut piece));
    assert_eq!(piece, bytes[8996..9096]);
    assert!(map.write(7, b"written"));
    let mut found = [0; 7];
    file.read_exact_at(&mut found, 4096 + 7).unwrap();
    assert_eq!(&found, b"written");
    file.write_all_at(b"from outside", 4096 + 20).unwrap();
    assert_eq!(map.equals(20, b"from outside"), Some(true));
}

#[test]
fn what_is_compared_and_copied_is_what_stands_there() {
    let bytes = counting(2000);
    let map = Map::new(&file_of(&bytes), 0, 2000).unwrap();
    // Whole words and others, at multiples of 4 and elsewhere, within a piece and beyond.
    for (offset, length) in [(0, 16), (8, 15), (3, 16), (4, 256), (4, 260), (1, 700), (1980, 20)] {
        let mut piece = bytes[offset..offset + length].to_vec();
        let at = offset as u64;
        assert_eq!(map.bytes(at, length).unwrap(), piece);
        assert_eq!(map.equals(at, &piece), Some(true), "{offset} {length}");
        for place in [0, length / 2, length - 1] {
            piece[place] ^= 0x80;
            assert_eq!(map.equals(at, &piece), Some(false), "{offset} {length} {place}");
            piece[place] ^= 0x80;
        }
    }
    let words = |offset| map.load_words::<2>(offset);
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(words(8), Some([word(8), word(12)]));
    assert_eq!((words(9), words(1996), words(u64::MAX - 3)), (None, None, None));
    assert_eq!((map.bytes(1990, 11), map.bytes(u64::MAX, 2)), (None, None));
}

#[test]
fn nothing_beyond_the_map_is_touched() {
    let file = file_of(&counting(8192));
    let map = Map::new(&file, 0, 5000).unwrap();
    let mut two = [7; 2];
    for offset in [4999, 5000, 5001, 8191, 1 << 40, u64::MAX - 1, u64::MAX] {
        assert!(!map.read(offset, &mut two) && two == [7; 2], "{offset}");
        assert!(!map.write(offset, &two), "{offset}");
        assert_eq!(map.equals(offset, &two), None, "{offset}");
        assert_eq!(map.load_u32(offset), None, "{offset}");
        assert_eq!(map.add_u32(offset), None, "{offset}");
    }
    assert!(map.read(5000, &mut []) && map.write(5000, &[]));
    assert_eq!(map.equals(5000, &[]), Some(true));
    assert!(!map.read(5001, &mut []));
    let mut whole = vec![0; 8192];
    file.read_exact_at(&mut whole, 0).unwrap();
    assert_eq!(whole, counting(8192));
}

#[test]
fn what_cannot_be_mapped_is_said() {
    let file = file_of(&counting(6000));
    let words = |base, len| Map::new(&file, base, len).map(drop).unwrap_err().to_string();
    assert!(words(0, 0).contains("nothing to map"));
    assert!(words(100, 10).contains("0x64, inside a page"));
    assert!(words(0, 6001).contains("the file has 0x1770 bytes, 0x1771 from 0x0 on"));
    assert!(words(4096, 1905).contains("were wanted"));
    assert!(words(4096, u64::MAX).contains("can't map"));
    assert!(words(1 << 63, i64::MAX.unsigned_abs()).contains("were wanted"));
    assert!(words(0, i64::MAX.unsigned_abs()).contains("were wanted"));
}

#[test]
fn a_file_that_is_only_read_is_not_mapped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    std::fs::write(&path, counting(5000)).unwrap();
    assert!(Map::new(&File::open(&path).unwrap(), 0, 5000).is_err());
}

#[test]
fn a_file_that_grew_is_mapped_anew_and_one_that_did_not_is_left() {
    let file = file_of(&counting(4096));
    let mut map = Map::new(&file, 0, 4096).unwrap();
    assert!(map.write(4090, b"before"));
    assert!(map.remap(&file, 4097).is_err());
    assert_eq!(map.len(), 4096);
    // A mapping that has a neighbour has to move.
    let neighbours: Vec<Map> = (0..8).map(|_| Map::new(&file, 0, 4096).unwrap()).collect();
    file.set_len(40 << 20).unwrap();
    map.remap(&file, 40 << 20).unwrap();
    assert_eq!(map.len(), 40 << 20);
    assert!(map.write((40 << 20) - 3, b"end"));
    assert_eq!(map.equals(4090, b"before"), Some(true));
    assert!(neighbours.iter().all(|map| map.equals(4090, b"before") == Some(true)));
    map.remap(&file, 4096).unwrap();
    assert_eq!(map.equals((40 << 20) - 3, b"end"), None);
    let mut found = [0; 3];
    file.read_exact_at(&mut found, (40 << 20) - 3).unwrap();
    assert_eq!(&found, b"end");
}

#[test]
fn no_addition_is_lost_among_threads_and_mappings() {
    let file = file_of(&u32::MAX.to_ne_bytes().repeat(4));
    let each = 20_000;
    let maps: Vec<Map> = (0..2).map(|_| Map::new(&file, 0, 16).unwrap()).collect();
    std::thread::scope(|scope| {
        for map in maps.iter().cycle().take(4) {
            scope.spawn(move || {
                for _ in 0..each {
                    map.add_u32(8).unwrap();
                }
            });
        }
    });
    // It wraps, and its neighbours stay.
    assert_eq!(maps[0].load_u32(8), Some(4 * each - 1));
    assert_eq!(maps[0].add_u32(8), Some(4 * each - 1));
    assert_eq!((maps[0].load_u32(4), maps[0].load_u32(12)), (Some(u32::MAX), Some(u32::MAX)));
    assert_eq!((maps[0].load_u32(6), maps[0].add_u32(9)), (None, None), "not aligned");
}

#[test]
fn each_byte_that_is_read_beside_a_writer_is_one_that_was_written() {
    let file = file_of(&[0; 8192]);
    let (one, two) = (Map::new(&file, 0, 8192).unwrap(), &file);
    let two = Map::new(two, 0, 8192).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..2000_u32 {
                assert!(one.write(1, &[if round.is_multiple_of(2) { 0xAA } else { 0x55 }; 8000]));
            }
        });
        let mut seen = vec![0; 8000];
        while !writer.is_finished() {
            for map in [&one, &two] {
                assert!(map.read(1, &mut seen));
                assert!(seen.iter().all(|byte| [0, 0xAA, 0x55].contains(byte)));
                let _ = map.equals(1, &seen).unwrap();
            }
        }
    });
    assert_eq!(two.equals(1, &[0x55; 8000]), Some(true));
}

/// What another process maps is the same memory.
const MAPPER: &str = r"
import mmap, sys
file = open(sys.argv[1], 'r+b')
memory = mmap.mmap(file.fileno(), 4096)
for line in sys.stdin:
    word, offset = line.split()
    if word == 'add':
        offset = int(offset)
        number = int.from_bytes(memory[offset:offset + 4], sys.byteorder) + 1
        memory[offset:offset + 4] = number.to_bytes(4, sys.byteorder)
    print(int.from_bytes(memory[8:12], sys.byteorder))
";

#[test]
fn another_process_sees_what_is_written_and_is_seen() {
    if !has_python() {
        return;
    }
    let path = tempfile::NamedTempFile::new().unwrap();
    path.as_file().set_len(4096).unwrap();
    let map = Map::new(path.as_file(), 0, 4096).unwrap();
    let mut peer = Peer::start(MAPPER, &[path.path()]);
    assert!(map.write(8, &41_u32.to_ne_bytes()));
    peer.ask("add 8");
    assert_eq!(map.load_u32(8), Some(42));
    assert_eq!(map.add_u32(8), Some(42));
    assert_eq!(peer.ask("show 8"), "43");
}

proptest! {
    #[test]
    fn any_piece_comes_back_as_it_was_written(
        offset in 0_u64..9000,
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        flip in any::<prop::sample::Index>(),
    ) {
        let file = file_of(&counting(8192));
        let map = Map::new(&file, 0, 8000).unwrap();
        let inside = offset + bytes.len() as u64 <= 8000;
        prop_assert_eq!(map.write(offset, &bytes), inside);
        let mut expected = counting(8192);
        if inside {
            expected[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
        }
        let mut found = vec![0; 8192];
        file.read_exact_at(&mut found, 0).unwrap();
        prop_assert!(found == expected);
        prop_assert_eq!(map.equals(offset, &bytes), inside.then_some(true));
        let mut other = bytes.clone();
        if let Some(byte) = (!other.is_empty()).then(|| flip.index(other.len())) {
            other[byte] ^= 1;
            prop_assert_eq!(map.equals(offset, &other), inside.then_some(false));
        }
    }
}

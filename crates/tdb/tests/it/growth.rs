//! A file that was made longer by somebody who was killed before he used what was new: whoever makes it
//! longer again leaves nothing in it that libtdb's check refuses.
//!
//! Source: the TDB specification, sections 17.1 and 22.3.

use crate::peer::{Libtdb, Open, flag};
use std::path::Path;
use tdb::{Create, Options, Store};

/// Longer by so many bytes of this kind, as by a process that died.
fn lengthen(path: &Path, byte: u8, more: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes.resize(bytes.len() + more, byte);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn libtdb_finds_a_file_sound_that_grew_behind_what_was_left_at_its_end() {
    for (mutexes, in_transaction) in [(false, false), (false, true), (true, false), (true, true)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tdb");
        let options = Options::new().create(Create::Missing).hash_size(5).unsynced();
        let options = if mutexes { options.mutexes() } else { options };
        for (byte, more) in [(0, 4096), (0, 28), (0x42, 8192), (0, 3)] {
            let _ = std::fs::remove_file(&path);
            options.open(&path).unwrap().store(b"key", b"value", Store::Insert).unwrap();
            lengthen(&path, byte, more);
            let mut ours = options.open(&path).unwrap();
            let large = vec![1; 60_000];
            if in_transaction {
                let mut transaction = ours.transaction().unwrap();
                transaction.store(b"large", &large, Store::Insert).unwrap();
                transaction.commit().unwrap();
            } else {
                ours.store(b"large", &large, Store::Insert).unwrap();
            }
            drop(ours);
            let flags = flag::NO_SYNC | if mutexes { flag::MUTEXES } else { 0 };
            let how = Open { hash_size: 0, flags, read_only: false };
            let Some(mut theirs) = Libtdb::open(&path, how) else { return };
            assert!(
                theirs.is_sound(),
                "{more} bytes of {byte}, in a transaction: {in_transaction}"
            );
            assert_eq!(theirs.get(b"large").unwrap().unwrap(), large);
            assert_eq!(theirs.get(b"key").unwrap().unwrap(), b"value");
        }
    }
}

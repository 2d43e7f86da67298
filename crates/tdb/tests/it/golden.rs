//! Files that libtdb wrote read as libtdb reads them, and damaged ones are found out.
//!
//! Source: the README beside the golden files, which says what each holds and how libtdb takes it.

use super::golden_folder;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use tdb::{Database, Fault, HashKind};

fn dump(database: &Database) -> String {
    let mut text = String::new();
    database
        .traverse(|key, data| {
            text.push_str(&tdb::dump::record(key, data));
            ControlFlow::Continue(())
        })
        .unwrap();
    text
}

fn open(folder: &Path, name: &str) -> Database {
    Database::open_read_only(folder.join(format!("{name}.tdb"))).unwrap()
}

fn fault(folder: &Path, name: &str) -> Fault {
    let path = folder.join(format!("{name}.tdb"));
    let by_bytes = Database::from_bytes(std::fs::read(&path).unwrap()).unwrap_err();
    let by_file = Database::open_read_only(&path).unwrap_err();
    assert_eq!(by_file.fault().to_string(), by_bytes.fault().to_string(), "{name}");
    assert!(by_file.to_string().contains(name), "the file is named: {by_file}");
    let Err(error) = Database::open_read_only(&path) else { unreachable!() };
    match error.fault() {
        Fault::Header { field, offset, expected, found } => {
            Fault::Header { field, offset: *offset, expected, found: *found }
        }
        Fault::OutOfBounds { offset, length, size } => {
            Fault::OutOfBounds { offset: *offset, length: *length, size: *size }
        }
        Fault::NotTdb { expected } => Fault::NotTdb { expected },
        Fault::RecoveryPending { offset } => Fault::RecoveryPending { offset: *offset },
        other => panic!("{name}: {other}"),
    }
}

/// Every file with a dump: the same records in the same order, and nothing to complain of.
#[test]
fn sound_files_dump_as_tdbdump_does_and_are_sound() {
    let Some(folder) = golden_folder() else { return };
    let names = [
        ("empty-h7", 0),
        ("empty-jenkins-h131", 0),
        ("plain", 17),
        ("jenkins-seqnum", 16),
        ("bigendian", 17),
        ("bigendian-jenkins", 17),
        ("mutex", 17),
        ("nomagichash", 17),
        ("deleted", 11),
        ("dead", 7),
        ("before-transaction", 25),
        ("recovery-idle", 17),
    ];
    for (name, records) in names {
        let database = open(&folder, name);
        let expected = std::fs::read_to_string(folder.join(format!("{name}.dump"))).unwrap();
        assert_eq!(dump(&database), expected, "{name}");
        let report = database.check().unwrap();
        assert!(report.is_clean(), "{name}: {:?}", report.findings);
        assert_eq!(report.live, records, "{name}");
        assert_eq!(report.dead_space, [], "{name}");
        // Of a sound file everything is saved, and nothing twice.
        let rescued = database.rescue().unwrap();
        assert_eq!((rescued.records.len() as u64, rescued.skipped), (records, 0), "{name}");
    }
}

#[test]
fn every_record_of_a_sound_file_is_found_by_its_key() {
    let Some(folder) = golden_folder() else { return };
    for name in ["plain", "bigendian", "bigendian-jenkins", "mutex", "dead", "before-transaction"] {
        let database = open(&folder, name);
        let mut all = BTreeMap::new();
        let visited = database.traverse(|key, data| {
            all.insert(key.to_vec(), data.to_vec());
            ControlFlow::Continue(())
        });
        assert_eq!(visited.unwrap(), all.len() as u64);
        for (key, data) in &all {
            assert_eq!(database.fetch(key).unwrap().as_ref(), Some(data), "{name}: {key:?}");
            assert_eq!(database.fetch_with(key, <[u8]>::len).unwrap(), Some(data.len()));
        }
        assert!(database.exists(b"alpha").unwrap(), "{name}");
        assert!(!database.exists(b"alph").unwrap(), "{name}");
        assert_eq!(database.fetch(b"zzz-missing").unwrap(), None, "{name}");
    }
    // What was deleted and still stands on its chain has no value.
    assert_eq!(open(&folder, "dead").fetch(b"key04").unwrap(), None);
    let plain = open(&folder, "plain");
    assert_eq!(plain.fetch(b"").unwrap(), Some(b"empty key".to_vec()));
    assert_eq!(plain.fetch(b"novalue").unwrap(), Some(Vec::new()));
}

#[test]
fn a_traverse_ends_when_it_is_told() {
    let Some(folder) = golden_folder() else { return };
    let mut seen = 0;
    let visited = open(&folder, "plain").traverse(|_, _| {
        seen += 1;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((visited.unwrap(), seen), (3, 3));
}

#[test]
fn what_the_header_says_is_what_the_file_was_made_with() {
    let Some(folder) = golden_folder() else { return };
    let of = |name: &str| open(&folder, name).header().unwrap();
    assert_eq!((of("empty-h7").hash_size, of("empty-h7").hash), (7, HashKind::Default));
    assert_eq!(of("empty-jenkins-h131").hash_size, 131);
    assert_eq!(of("empty-jenkins-h131").hash, HashKind::Jenkins);
    assert_eq!(of("jenkins-seqnum").sequence, 21);
    assert_eq!(of("mutex").mutex_size, 4096);
    assert_eq!(of("bigendian").order, tdb::ByteOrder::Big);
    assert_eq!(of("nomagichash").hash, HashKind::Default);
}

#[test]
fn the_parts_of_a_file_add_up_to_its_size() {
    let Some(folder) = golden_folder() else { return };
    let stats = open(&folder, "dead").stats().unwrap();
    assert_eq!((stats.keys.count, stats.chains.count), (7, 2));
    assert!(3 <= stats.dead.count, "{stats:?}");
    assert_eq!((stats.size, stats.dead_space, stats.recovery), (8192, 0, 0));
    let deleted = open(&folder, "deleted").stats().unwrap();
    assert_eq!(deleted.free.count, 6);
    let sizes = [124, 100, 72, 60, 32, 6056_u64];
    assert_eq!(deleted.free.sum, sizes.iter().sum::<u64>() + 6 * 24);
    assert_eq!((deleted.free.min, deleted.free.max), (32 + 24, 6056 + 24));
    assert_eq!(open(&folder, "before-transaction").stats().unwrap().recovery, 20480);
    assert_eq!(open(&folder, "dead-space").stats().unwrap().dead_space, 8192);
    assert_eq!(open(&folder, "empty-h7").stats().unwrap().keys.mean(), 0);
}

#[test]
fn space_that_nothing_refers_to_is_told_and_no_fault() {
    let Some(folder) = golden_folder() else { return };
    let report = open(&folder, "dead-space").check().unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.dead_space, [(28672, 8192)]);
}

/// Which faults a check tells of each damaged file, by the field that is named first, and how many
/// records can be read in spite of it (`None`: reading a chain fails) or saved.
#[test]
fn damaged_files_are_found_out_and_what_can_be_saved_is_saved() {
    let Some(folder) = golden_folder() else { return };
    let files: [(&str, &str, Option<u64>, usize); 13] = [
        ("corrupt-chain-loop", "list", None, 17),
        ("corrupt-chain-selfloop", "next", None, 17),
        ("corrupt-next-oob", "outside", None, 16),
        ("corrupt-head-oob", "outside", None, 17),
        ("corrupt-badmagic", "magic", None, 16),
        ("corrupt-keylen", "key_len + data_len", None, 16),
        ("corrupt-reclen", "tailer", Some(17), 17),
        ("corrupt-tailer", "tailer", Some(17), 17),
        ("corrupt-hash", "full_hash", Some(17), 16),
        ("corrupt-freelist-loop", "next", Some(17), 17),
        ("corrupt-freelist-badmagic", "magic", Some(17), 17),
        ("corrupt-truncated", "outside", None, 0),
        ("orphan-record", "record", Some(16), 17),
    ];
    for (name, words, records, saved) in files {
        let database = open(&folder, name);
        let report = database.check().unwrap();
        let told: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        assert!(told.first().is_some_and(|first| first.contains(words)), "{name}: {told:#?}");
        let visited = database.traverse(|_, _| ControlFlow::Continue(())).ok();
        assert_eq!(visited, records, "{name}");
        let rescued = database.rescue().unwrap();
        assert_eq!(rescued.records.len(), saved, "{name}");
        let path = folder.join(format!("{name}.rescue.dump"));
        if let Ok(expected) = std::fs::read_to_string(path) {
            let records = rescued.records.iter();
            let text: String = records.map(|(key, data)| tdb::dump::record(key, data)).collect();
            assert_eq!(text, expected, "{name}");
        }
        assert_eq!(database.fetch(b"zzz-absent").ok().flatten(), None, "{name}");
    }
}

#[test]
fn files_that_cannot_be_opened_say_which_field_is_wrong() {
    let Some(folder) = golden_folder() else { return };
    let fields = [
        ("corrupt-version", "version"),
        ("corrupt-rwlocks", "rwlocks"),
        ("corrupt-hashsize-zero", "hash_size"),
        ("corrupt-hashsize-huge", "hash_size"),
        ("corrupt-hashsize-toolarge", "hash_size"),
        ("corrupt-magichash", "magic1_hash"),
        ("corrupt-feature", "feature_flags"),
    ];
    for (name, expected) in fields {
        let found = fault(&folder, name);
        assert!(matches!(found, Fault::Header { field, .. } if field == expected), "{found}");
    }
    assert!(matches!(fault(&folder, "corrupt-short-header"), Fault::NotTdb { .. }));
    let beyond = fault(&folder, "corrupt-recovery-oob");
    assert!(matches!(beyond, Fault::OutOfBounds { offset: 0x7FFF_FFF0, .. }), "{beyond}");
    for name in ["recovery-prepared", "recovery-partial", "recovery-grown-partial"] {
        assert!(matches!(fault(&folder, name), Fault::RecoveryPending { offset: 8192 }), "{name}");
    }
}

#[test]
fn a_file_that_is_not_there_is_said_with_its_name() {
    let error = Database::open_read_only("/nonexistent/a.tdb").unwrap_err();
    assert!(error.to_string().contains("/nonexistent/a.tdb"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

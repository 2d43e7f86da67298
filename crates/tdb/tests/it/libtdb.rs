//! What libtdb writes is read as it was meant, and the peer of the tests is one that can be trusted:
//! it locks, waits, dies and finds faults.

use crate::peer::{Hammer, Hammered, Libtdb, Open, code, faults, flag, is_whole, sealed};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::Path;
use tdb::{Database, Fault, Pair};

/// What this crate reads.
fn read(path: &Path) -> Vec<Pair> {
    let database = Database::open_read_only(path).unwrap();
    assert!(database.check().unwrap().is_clean());
    let mut records = Vec::new();
    let visit = |key: &[u8], value: &[u8]| {
        records.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    database.traverse(visit).unwrap();
    records
}

fn how(hash_size: u32, flags: u32) -> Open {
    Open { hash_size, flags, read_only: false }
}

#[test]
fn what_libtdb_stores_is_read_in_every_kind_of_file() {
    let kinds = [
        0,
        flag::INCOMPATIBLE_HASH | flag::SEQUENCE,
        flag::CONVERT,
        flag::CONVERT | flag::INCOMPATIBLE_HASH | flag::NO_MAP,
        flag::VOLATILE | flag::NO_SYNC,
        flag::MUTEXES | flag::CLEAR_IF_FIRST | flag::SEQUENCE,
        flag::NO_LOCK,
    ];
    let folder = tempfile::tempdir().unwrap();
    for (index, flags) in kinds.into_iter().enumerate() {
        let path = folder.path().join(format!("{index}.tdb"));
        let Some(mut peer) = Libtdb::open(&path, how(5, flags)) else { return };
        peer.set_max_dead(2);
        for number in 0..40 {
            let key = format!("key{number}");
            peer.store("replace", key.as_bytes(), &vec![number; 10 * usize::from(number)]).unwrap();
        }
        peer.store("insert", b"", b"the empty key").unwrap();
        peer.store("modify", b"key3", b"another").unwrap();
        peer.append(b"key4", b"and more").unwrap();
        peer.append(b"new", b"by appending").unwrap();
        for number in 10..20 {
            peer.at("delete", format!("key{number}").as_bytes()).unwrap();
        }
        let records = read(&path);
        assert_eq!(records.len(), 32, "flags {flags}");
        assert_eq!(records, peer.dump().unwrap(), "flags {flags}");
        let database = Database::open_read_only(&path).unwrap();
        for (key, value) in &records {
            assert_eq!(database.fetch(key).unwrap().as_ref(), Some(value));
            assert_eq!(peer.get(key).unwrap().as_ref(), Some(value));
        }
        assert_eq!(peer.get(b"key10").unwrap(), None);
        assert!(peer.is_sound());
        let header = database.header().unwrap();
        assert_eq!(header.mutex_size != 0, flags & flag::MUTEXES != 0);
        assert_eq!(peer.word("sequence").unwrap(), header.sequence, "flags {flags}");
        let size = std::fs::metadata(&path).unwrap().len() - u64::from(header.mutex_size);
        assert_eq!(peer.word("size").unwrap(), size);
        assert!(0 < peer.word("free_list_size").unwrap().as_i64().unwrap());

        peer.word("wipe").unwrap();
        assert_eq!(read(&path), []);
        peer.word("close").unwrap();
    }
}

#[test]
fn what_libtdb_does_not_do_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tdb");
    let Some(mut peer) = Libtdb::start() else { return };
    let nowhere = peer.try_open(&folder.path().join("no/a.tdb"), how(0, 0)).unwrap_err();
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
    peer.try_open(&path, how(0, 0)).unwrap();
    peer.store("insert", b"key", b"value").unwrap();
    let exists = peer.store("insert", b"key", b"other").unwrap_err();
    assert_eq!((exists.code, &*exists.text), (code::EXISTS, "Record exists"));
    let absent = peer.store("modify", b"absent", b"").unwrap_err();
    assert_eq!(absent.code, code::NO_EXIST);
    assert_eq!(peer.at("delete", b"absent").unwrap_err().code, code::NO_EXIST);
    assert_eq!(peer.get(b"absent").unwrap(), None);
    // Read only: nothing is stored, all is read.
    let reader = Open { hash_size: 0, flags: 0, read_only: true };
    let mut other = Libtdb::open(&path, reader).unwrap();
    assert!(other.store("replace", b"key", b"other").is_err());
    assert_eq!(other.dump().unwrap(), [(b"key".to_vec(), b"value".to_vec())]);
    // A file that is not sound is found out.
    peer.word("close").unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let record = bytes.windows(8).position(|bytes| bytes == b"keyvalue").unwrap();
    bytes[record] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    peer.try_open(&path, how(0, 0)).unwrap();
    assert!(!peer.is_sound());
}

#[test]
fn two_of_them_keep_each_other_out_and_wait() {
    let folder = tempfile::tempdir().unwrap();
    for flags in [0, flag::MUTEXES | flag::CLEAR_IF_FIRST] {
        let path = folder.path().join(format!("{flags}.tdb"));
        let Some(mut one) = Libtdb::open(&path, how(7, flags)) else { return };
        let mut two = Libtdb::open(&path, how(7, flags)).unwrap();
        one.word("lock_all").unwrap();
        assert_eq!(two.word("try_lock_all").unwrap_err().code, code::LOCK);
        assert_eq!(two.at("try_chain_lock", b"key").unwrap_err().code, code::LOCK);
        two.say(&json!({"do": "chain_lock", "key": "6b6579"}));
        two.wait_until_blocked();
        one.word("unlock_all").unwrap();
        two.hear().unwrap();
        assert_eq!(one.at("try_chain_lock", b"key").unwrap_err().code, code::LOCK);
        // A dead one holds nothing.
        two.kill();
        one.at("chain_lock", b"key").unwrap();
        one.at("chain_unlock", b"key").unwrap();
        one.word("lock_all_shared").unwrap();
        one.word("unlock_all_shared").unwrap();
    }
}

#[test]
fn one_that_stands_on_a_record_walks_through_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tdb");
    let Some(mut peer) = Libtdb::open(&path, how(3, 0)) else { return };
    for key in [b"a", b"b", b"c"] {
        peer.store("replace", key, b"value").unwrap();
    }
    let mut seen = 0;
    let mut word = "first_key";
    while peer.word(word).unwrap() == true {
        seen += 1;
        word = "next_key";
    }
    assert_eq!(seen, 3);
}

#[test]
fn a_transaction_that_was_killed_waits_to_be_undone_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tdb");
    let Some(mut peer) = Libtdb::open(&path, how(7, 0)) else { return };
    peer.store("replace", b"key", b"before").unwrap();
    for (end, value) in [("transaction_cancel", "before"), ("transaction_commit", "after")] {
        peer.word("transaction_start").unwrap();
        peer.store("replace", b"key", b"after").unwrap();
        peer.word(end).unwrap();
        assert_eq!(read(&path), [(b"key".to_vec(), value.as_bytes().to_vec())], "{end}");
    }
    peer.word("transaction_start").unwrap();
    peer.store("replace", b"key", b"lost").unwrap();
    peer.word("transaction_prepare").unwrap();
    peer.kill();
    let error = Database::open_read_only(&path).unwrap_err();
    assert!(matches!(error.fault(), Fault::RecoveryPending { .. }), "{error}");
    let mut next = Libtdb::open(&path, how(7, 0)).unwrap();
    assert_eq!(read(&path), [(b"key".to_vec(), b"after".to_vec())]);
    next.word("repack").unwrap();
    assert!(next.is_sound());
}

#[test]
fn many_of_them_on_one_file_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mutexes = flag::MUTEXES | flag::CLEAR_IF_FIRST;
    for (flags, transactions) in [(0, 0.0), (flag::NO_SYNC, 0.1), (mutexes | flag::NO_SYNC, 0.02)] {
        let path = folder.path().join(format!("{flags}.tdb"));
        let Some(first) = Libtdb::open(&path, how(3, flags)) else { return };
        let others = (0..2).map(|_| Libtdb::open(&path, how(3, flags)).unwrap());
        let mut peers: Vec<Libtdb> = std::iter::once(first).chain(others).collect();
        for (seed, peer) in (0..).zip(&mut peers) {
            let name = format!("peer{seed}");
            peer.begin(Hammer { name: &name, seed, operations: 1500, keys: 4, transactions });
        }
        let all: Vec<Hammered> = peers.iter_mut().map(Libtdb::finish).collect();
        assert!(all.iter().all(|one| !one.counted.is_empty() && !one.lines.is_empty()));
        assert_eq!(faults(&read(&path), &all), [""; 0], "flags {flags}");
        assert!(peers[0].is_sound(), "flags {flags}");
    }
}

#[test]
fn what_was_lost_torn_or_done_twice_is_found() {
    let record = |key: &str, value: &[u8]| (key.as_bytes().to_vec(), value.to_vec());
    let done = |name: &str, count: u64| Hammered {
        counted: [("count-0".to_owned(), count)].into(),
        lines: [("lines-0".to_owned(), vec![format!("{name} 1"), format!("{name} 2")])].into(),
        torn: 0,
    };
    let all = [done("a", 3), done("b", 4)];
    let sound = |lines: &[u8], count: &[u8], any: &[u8]| {
        let records = [record("lines-0", lines), record("count-0", count), record("any-1", any)];
        faults(&records, &all)
    };
    let lines = b"a 1\nb 1\nb 2\na 2\n";
    let any = sealed(b"payload");
    assert_eq!(any, b"422c6a15payload", "as the script has it");
    assert!(is_whole(&any) && is_whole(&sealed(b"")) && !is_whole(b"") && !is_whole(b"422c6a1"));
    assert_eq!(sound(lines, b"7", &any), [""; 0]);
    assert_eq!(sound(lines, b"6", &any).len(), 1);
    assert_eq!(sound(lines, b"7", b"422c6a15payloaD").len(), 1);
    for wrong in ["a 1\nb 1\nb 2\n", "a 1\nb 1\nb 2\na 2\na 2\n", "a 1\nb 1\nb 2\na 2\nc 1\n"] {
        assert_eq!(sound(wrong.as_bytes(), b"7", &any).len(), 1, "{wrong:?}");
    }
    assert_eq!(faults(&[], &all).len(), 5);
    assert_eq!(faults(&[], &[Hammered { torn: 2, ..Hammered::default() }]).len(), 1);
}

//! Where two processes of libtdb would wait for each other for ever, or take each other's locks away,
//! one of ours and one of theirs do not.
//!
//! Source: the TDB specification, section 22.

use crate::peer::{Libtdb, Open, flag};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;
use tdb::{Create, Database, Fault, Header, Options, Store};

const RECORDS: u32 = 40;

fn make(path: &Path, mutexes: bool) -> Database {
    let options = Options::new().create(Create::New).hash_size(5).unsynced();
    let options = if mutexes { options.mutexes() } else { options };
    let mut database = options.open(path).unwrap();
    for number in 0..RECORDS {
        database.store(&number.to_le_bytes(), b"value", Store::Insert).unwrap();
    }
    database
}

fn peer(path: &Path, mutexes: bool) -> Option<Libtdb> {
    let flags = flag::NO_SYNC | if mutexes { flag::MUTEXES } else { 0 };
    Libtdb::open(path, Open { hash_size: 0, flags, read_only: false })
}

/// Section 22.1: a walker of libtdb stands on a record, for which whoever locks everything waits, and
/// waits itself for the next chain, which is locked.
fn walker_beside(mutexes: bool, take: fn(&mut Database)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tdb");
    let mut ours = make(&path, mutexes);
    let Some(mut walker) = peer(&path, mutexes) else { return };
    walker.word("first_key").unwrap();
    ours.set_wait(Duration::from_millis(50));
    let busy = ours.lock_all().map(drop).unwrap_err();
    assert!(matches!(busy.fault(), Fault::Busy { .. }), "somebody stands on a record: {busy}");
    let taking = std::thread::spawn(move || {
        ours.set_wait(Duration::from_mins(1));
        take(&mut ours);
        ours
    });
    let mut walked = 1;
    while walker.word("next_key").unwrap() == true {
        walked += 1;
    }
    assert_eq!(walked, RECORDS, "the walk is not cut short");
    let ours = taking.join().unwrap();
    assert!(ours.check().unwrap().is_clean());
}

#[test]
fn everything_is_locked_beside_a_walker() {
    walker_beside(false, |ours| drop(ours.lock_all().unwrap()));
}

#[test]
fn everything_is_locked_beside_a_walker_with_mutexes() {
    walker_beside(true, |ours| drop(ours.lock_all().unwrap()));
}

fn change_in_a_transaction(ours: &mut Database) {
    let mut transaction = ours.transaction().unwrap();
    transaction.store(b"new", b"value", Store::Insert).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn a_transaction_is_committed_beside_a_walker() {
    walker_beside(false, change_in_a_transaction);
}

#[test]
fn a_transaction_is_committed_beside_a_walker_with_mutexes() {
    walker_beside(true, change_in_a_transaction);
}

/// Section 22.4: libtdb makes all mutexes anew when it sees no sign that the file is in use.
#[test]
fn mutexes_that_are_held_are_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tdb");
    let mut ours = make(&path, true);
    let locked = ours.lock(b"key").unwrap();
    let Some(mut other) = peer(&path, true) else { return };
    other.at("try_chain_lock", b"key").unwrap_err();
    drop(locked);
    other.at("try_chain_lock", b"key").unwrap();
}

/// Section 22.11: a file that libtdb was asked to empty if it is the first is emptied under the feet
/// of those who were not asked to.
#[test]
fn a_file_that_is_in_use_is_not_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tdb");
    let ours = make(&path, false);
    let how = Open { hash_size: 0, flags: flag::CLEAR_IF_FIRST, read_only: false };
    let Some(mut other) = Libtdb::open(&path, how) else { return };
    assert_eq!(other.dump().unwrap().len(), RECORDS as usize);
    drop((ours, other));
    let mut first = Libtdb::open(&path, how).unwrap();
    assert_eq!(first.dump().unwrap(), []);
}

/// Locks of open files have no deadlock detection; a deadline ends what nobody else does.
#[test]
fn two_that_wait_for_each_other_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tdb");
    let mut one = make(&path, false);
    let mut other = Options::new().wait(Duration::from_millis(50)).open(&path).unwrap();
    one.set_wait(Duration::from_millis(50));
    let mut first = one.lock_shared(b"key").unwrap();
    let mut second = other.lock_shared(b"key").unwrap();
    for change in [&mut first, &mut second] {
        let error = change.store(b"key", b"value", Store::Replace).unwrap_err();
        assert!(matches!(error.fault(), Fault::Busy { .. }), "{error}");
    }
    drop(second);
    first.store(b"key", b"value", Store::Replace).unwrap();
}

/// A record on which a walker of libtdb stands is not freed under it, nor given to somebody else.
#[test]
fn a_walker_is_not_led_astray_by_deletions() {
    for (mutexes, max_dead) in [(false, 0), (false, 3), (true, 3)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tdb");
        let mut ours = make(&path, mutexes);
        ours.set_max_dead(max_dead);
        let Some(mut walker) = peer(&path, mutexes) else { return };
        walker.word("first_key").unwrap();
        // All go, the one it stands on as well, and their places are wanted at once.
        assert_eq!(ours.retain(|_, _| false).unwrap(), u64::from(RECORDS));
        for number in 1000..1000 + RECORDS {
            ours.store(&number.to_le_bytes(), b"other", Store::Insert).unwrap();
        }
        while walker.word("next_key").unwrap() == true {}
        assert!(ours.check().unwrap().is_clean());
        assert!(walker.is_sound());
    }
}

/// Each side is kept out by the other, whatever it locks.
#[test]
fn locks_of_either_side_keep_the_other_out() {
    for mutexes in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tdb");
        let mut ours = make(&path, mutexes);
        let Some(mut theirs) = peer(&path, mutexes) else { return };

        let locked = ours.lock(b"key").unwrap();
        theirs.at("try_chain_lock", b"key").unwrap_err();
        theirs.word("try_lock_all").unwrap_err();
        drop(locked);
        theirs.at("chain_lock", b"key").unwrap();
        assert!(ours.try_lock(b"key").unwrap().is_none());
        assert!(ours.try_lock_all().unwrap().is_none());
        theirs.at("chain_unlock", b"key").unwrap();

        let all = ours.lock_all().unwrap();
        theirs.at("try_chain_lock", b"other").unwrap_err();
        theirs.word("try_lock_all").unwrap_err();
        drop(all);
        theirs.word("lock_all").unwrap();
        assert!(ours.try_lock(b"other").unwrap().is_none());
        assert!(ours.try_transaction().unwrap().is_none());
        theirs.word("unlock_all").unwrap();

        let transaction = ours.transaction().unwrap();
        theirs.word("try_lock_all").unwrap_err();
        transaction.cancel().unwrap();
        theirs.word("transaction_start").unwrap();
        theirs.store("replace", b"key", b"theirs").unwrap();
        assert!(ours.try_transaction().unwrap().is_none());
        theirs.word("transaction_commit").unwrap();
        assert_eq!(ours.fetch(b"key").unwrap().unwrap(), b"theirs");
    }
}

/// Readers of libtdb go on beside a shared lock on everything, and are kept out when it becomes more.
#[test]
fn a_shared_lock_on_everything_becomes_an_exclusive_one() {
    for mutexes in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tdb");
        let mut ours = make(&path, mutexes);
        let Some(mut theirs) = peer(&path, mutexes) else { return };
        let mut all = ours.lock_all_shared().unwrap();
        let error = all.store(b"key", b"value", Store::Insert).unwrap_err();
        assert!(matches!(error.fault(), Fault::WrongOrder { .. }), "{error}");
        assert_eq!(theirs.get(b"key").unwrap(), None);
        theirs.at("try_chain_lock", b"key").unwrap_err();
        all.upgrade().unwrap();
        all.store(b"key", b"value", Store::Insert).unwrap();
        drop(all);
        assert_eq!(theirs.get(b"key").unwrap().unwrap(), b"value");

        // Somebody stands on a record, and the lock stays what it was.
        theirs.word("first_key").unwrap();
        ours.set_wait(Duration::from_millis(50));
        let Ok(mut all) = ours.lock_all_shared() else { unreachable!() };
        let error = all.upgrade().unwrap_err();
        assert!(matches!(error.fault(), Fault::Busy { .. }), "{error}");
        assert_eq!(all.fetch(b"key").unwrap().unwrap(), b"value");
        while theirs.word("next_key").unwrap() == true {}
        all.upgrade().unwrap();
    }
}

/// What a process of libtdb prepared before it was killed is undone by the next of ours, and the
/// reverse.
#[test]
fn each_side_undoes_what_the_other_was_killed_in() {
    for mutexes in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tdb");
        let ours = make(&path, mutexes);
        let Some(mut theirs) = peer(&path, mutexes) else { return };
        theirs.word("transaction_start").unwrap();
        theirs.store("replace", b"new", &[b'n'; 5000]).unwrap();
        theirs.word("transaction_prepare").unwrap();
        theirs.kill();
        assert_eq!(ours.fetch(b"new").unwrap(), None);
        let report = ours.check().unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
        assert_eq!(report.live, u64::from(RECORDS));
        assert_eq!(report.dead_space, []);

        let before = ours.check().unwrap().live;
        drop(ours);
        for (size, known) in [(20, true), (5000, true), (100_000, true), (5000, false)] {
            let pending = pending(&path, size);
            let left = folder.path().join(format!("{size}-{known}.tdb"));
            let mut theirs = Libtdb::start().unwrap();
            let flags = if mutexes { flag::MUTEXES } else { 0 };
            let how = Open { hash_size: 0, flags, read_only: false };
            if known {
                // It has the file open already when the writer dies.
                std::fs::copy(&path, &left).unwrap();
                theirs.try_open(&left, how).unwrap();
                overwrite(&left, &pending);
            } else {
                std::fs::write(&left, &pending).unwrap();
                theirs.try_open(&left, how).unwrap();
            }
            assert_eq!(theirs.get(b"new").unwrap(), None);
            assert_eq!(theirs.dump().unwrap().len() as u64, before);
            assert!(theirs.is_sound(), "{size} {known} {mutexes}");
            theirs.store("replace", b"new", &vec![b'n'; 200_000]).unwrap();
            assert!(theirs.is_sound(), "{size} {known} {mutexes}");
            drop(theirs);
            let report = Options::new().open(&left).unwrap().check().unwrap();
            assert!(report.is_clean(), "{:?}", report.findings);
            assert_eq!((report.live, report.dead_space), (before + 1, vec![]));
        }
    }
}

/// The file as one of ours leaves it who is killed when his transaction is prepared; of its mutexes the
/// kernel would say so, and here nobody has them. The file itself stays as it is, but for its length.
fn pending(path: &Path, size: usize) -> Vec<u8> {
    let mut ours = Options::new().unsynced().open(path).unwrap();
    let at_rest = std::fs::read(path).unwrap();
    let mutexes = ..Header::parse(at_rest.first_chunk().unwrap()).unwrap().mutex_size as usize;
    let mut transaction = ours.transaction().unwrap();
    transaction.store(b"new", &vec![b'n'; size], Store::Insert).unwrap();
    let prepared = transaction.prepare().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    bytes[mutexes].copy_from_slice(&at_rest[mutexes]);
    prepared.cancel().unwrap();
    bytes
}

/// Writes into a file that others have open, without making it shorter.
fn overwrite(path: &Path, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

/// Those who undo a transaction and those who open the file at that moment wait for the same locks,
/// and come to an end.
#[test]
fn some_open_a_file_while_others_undo_what_was_left_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tdb");
    let ours = make(&path, false);
    drop(ours);
    let pending = pending(&path, 5000);
    let options = Options::new().wait(Duration::from_mins(1));
    let mut known = [options.open(&path).unwrap(), options.open(&path).unwrap()];
    let Some(first) = peer(&path, false) else { return };
    let mut theirs = [first, peer(&path, false).unwrap()];
    let get = serde_json::json!({"do": "get", "key": "6e6577"});
    for round in 0..60 {
        overwrite(&path, &pending);
        for one in &mut theirs {
            one.say(&get);
        }
        std::thread::scope(|scope| {
            for one in &mut known {
                scope.spawn(move || assert_eq!(one.fetch(b"new").unwrap(), None));
            }
            for _ in 0..2 {
                scope.spawn(|| drop(options.open(&path).unwrap()));
            }
        });
        for one in &mut theirs {
            assert_eq!(one.hear().unwrap(), serde_json::Value::Null, "round {round}");
        }
        let report = known[0].check().unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
        assert_eq!(report.live, u64::from(RECORDS));
    }
}

//! Files with mutexes: made, shared by threads, and left by dead ones.

use super::golden_folder;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use tdb::{Create, Database, Fault, Options, Store};

fn new(path: &Path) -> Database {
    Options::new().create(Create::New).mutexes().hash_size(7).open(path).unwrap()
}

fn open(path: &Path) -> Database {
    Options::new().wait(Duration::ZERO).open(path).unwrap()
}

#[test]
fn a_file_of_libtdb_with_mutexes_is_read_and_written() {
    let Some(golden) = golden_folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    std::fs::copy(golden.join("mutex.tdb"), &path).unwrap();
    let mut database = open(&path);
    assert_eq!(database.fetch(b"alpha").unwrap().unwrap(), b"one");
    database.store(b"alpha", b"two", Store::Modify).unwrap();
    let mut transaction = database.transaction().unwrap();
    transaction.delete(b"beta").unwrap();
    transaction.commit().unwrap();
    let report = Database::open_read_only(&path).unwrap().check().unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.live, 16);
}

#[test]
fn a_new_file_has_the_header_that_libtdb_gives_one() {
    let Some(golden) = golden_folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    drop(new(&path));
    let (ours, theirs) =
        (std::fs::read(&path).unwrap(), std::fs::read(golden.join("mutex.tdb")).unwrap());
    assert_eq!(ours.len(), 4096 + 200);
    assert_eq!(ours[..168], theirs[..168]);
    assert_eq!(ours[4096..4096 + 168], theirs[4096..4096 + 168]);
}

#[test]
fn threads_keep_each_other_out_by_mutexes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut one = new(&path);
    let (locked, wait_for_lock) = mpsc::channel();
    let (go_on, wait_to_go_on) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let mut guard = one.lock(b"key").unwrap();
        guard.store(b"key", b"value", Store::Insert).unwrap();
        locked.send(()).unwrap();
        wait_to_go_on.recv().unwrap();
        drop(guard);
        let all = one.lock_all().unwrap();
        locked.send(()).unwrap();
        wait_to_go_on.recv().unwrap();
        drop(all);
    });
    wait_for_lock.recv().unwrap();
    let mut other = open(&path);
    assert!(matches!(other.fetch(b"key").unwrap_err().fault(), Fault::Busy { .. }));
    assert!(other.try_lock_all().unwrap().is_none());
    go_on.send(()).unwrap();
    wait_for_lock.recv().unwrap();
    assert!(matches!(other.fetch(b"else").unwrap_err().fault(), Fault::Busy { .. }));
    assert!(other.try_transaction().unwrap().is_none());
    go_on.send(()).unwrap();
    thread.join().unwrap();
    assert_eq!(other.fetch(b"key").unwrap().unwrap(), b"value");
    other.wipe().unwrap();
}

/// The kernel says so of each mutex that a thread held when it ended.
#[test]
fn what_a_dead_thread_had_locked_is_had_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    drop(new(&path));
    // Somebody else has it open all the time, or the next would make all mutexes anew.
    let mut other = open(&path);
    let its_path = path.clone();
    let thread = std::thread::spawn(move || {
        let mut database = open(&its_path);
        std::mem::forget(database.lock(b"key").unwrap());
        std::mem::forget(database);
    });
    thread.join().unwrap();
    other.store(b"key", b"value", Store::Replace).unwrap();
    other.lock_all_shared().map(drop).unwrap();
}

#[test]
fn a_file_that_was_left_half_made_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    drop(new(&path));
    let whole = std::fs::read(&path).unwrap();
    for length in [168, 4096, 4096 + 100] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = Options::new().open(&path).unwrap_err();
        assert!(matches!(error.fault(), Fault::NotTdb { .. }), "{error}");
        let mut again = Options::new().create(Create::Missing).mutexes().open(&path).unwrap();
        again.store(b"key", b"value", Store::Insert).unwrap();
        assert!(again.check().unwrap().is_clean());
    }
}

#[test]
fn mutexes_of_another_size_are_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    drop(new(&path));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[64..68].copy_from_slice(&8192_u32.to_le_bytes());
    bytes.resize(20_000, 0);
    std::fs::write(&path, &bytes).unwrap();
    let error = Options::new().open(&path).unwrap_err();
    assert!(matches!(error.fault(), Fault::Header { field: "mutex_size", .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

/// Another has all records shared, for a transaction, and believes that nothing changes.
#[test]
fn what_is_read_beside_a_transaction_is_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut one = new(&path);
    one.store(b"key", b"value", Store::Insert).unwrap();
    let (begun, wait_for_begin) = mpsc::channel();
    let (go_on, wait_to_go_on) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let mut transaction = one.transaction().unwrap();
        transaction.store(b"key", b"later", Store::Modify).unwrap();
        begun.send(()).unwrap();
        wait_to_go_on.recv().unwrap();
        transaction.commit().unwrap();
    });
    wait_for_begin.recv().unwrap();
    let mut other = open(&path);
    let mut shared = other.lock_shared(b"key").unwrap();
    assert_eq!(shared.fetch(b"key").unwrap().unwrap(), b"value");
    for key in [&b"key"[..], b"1", b"2", b"3", b"4"] {
        let error = shared.store(key, b"lost", Store::Replace).unwrap_err();
        assert!(matches!(error.fault(), Fault::Busy { .. }), "{error}");
    }
    drop(shared);
    go_on.send(()).unwrap();
    thread.join().unwrap();
    assert_eq!(other.fetch(b"key").unwrap().unwrap(), b"later");
    // With nobody beside it, what is read can be changed.
    let mut shared = other.lock_shared(b"key").unwrap();
    shared.store(b"key", b"latest", Store::Replace).unwrap();
    shared.store(b"1", b"other", Store::Replace).unwrap();
}

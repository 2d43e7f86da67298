//! What is written can be read back, by whatever way it was written, and every file passes its check.

use super::golden_folder;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;
use tdb::{ByteOrder, Create, Database, Error, Fault, HashKind, Options, Store};

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

fn records(database: &Database) -> Records {
    let mut records = BTreeMap::new();
    database
        .traverse(|key, data| {
            assert_eq!(records.insert(key.to_vec(), data.to_vec()), None, "a key is met once");
            ControlFlow::Continue(())
        })
        .unwrap();
    records
}

fn assert_sound(database: &Database) {
    let report = database.check().unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}

fn new(path: &Path) -> Options {
    assert!(!path.exists());
    Options::new().create(Create::New).hash_size(5).unsynced()
}

#[derive(Clone, Debug)]
enum Op {
    Store(u8, usize, u8),
    Insert(u8, usize),
    Modify(u8, usize),
    Append(u8, usize),
    Delete(u8),
    Retain(u8),
    Wipe,
    Repack,
    Reopen,
    Commit(Vec<Op>),
    Cancel(Vec<Op>),
}

fn simple() -> impl Strategy<Value = Op> {
    let key = 0..12_u8;
    let length = prop_oneof![8 => 0..60_usize, 2 => 60..2000_usize, 1 => 2000..60_000_usize];
    prop_oneof![
        8 => (key.clone(), length.clone(), any::<u8>()).prop_map(|(k, n, b)| Op::Store(k, n, b)),
        2 => (key.clone(), length.clone()).prop_map(|(k, n)| Op::Insert(k, n)),
        2 => (key.clone(), length.clone()).prop_map(|(k, n)| Op::Modify(k, n)),
        3 => (key.clone(), 0..300_usize).prop_map(|(k, n)| Op::Append(k, n)),
        5 => key.clone().prop_map(Op::Delete),
        1 => key.prop_map(Op::Retain),
        1 => Just(Op::Wipe),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let some = || proptest::collection::vec(simple(), 0..12);
    prop_oneof![
        20 => simple(),
        2 => some().prop_map(Op::Commit),
        1 => some().prop_map(Op::Cancel),
        1 => Just(Op::Repack),
        1 => Just(Op::Reopen),
    ]
}

/// Whether the model and the database agree on what a change came to.
fn agree(outcome: Result<(), Error>, expected: bool) {
    match outcome {
        Ok(()) => assert!(expected, "the model refuses"),
        Err(error) => {
            assert!(matches!(error.fault(), Fault::Exists | Fault::NotFound), "{error}");
            assert!(!expected, "the model allows");
        }
    }
}

fn apply(database: &mut Database, model: &mut Records, op: &Op) {
    let name = |key: u8| vec![key; usize::from(key)];
    match op {
        Op::Store(key, length, byte) => {
            let data = vec![*byte; *length];
            database.store(&name(*key), &data, Store::Replace).unwrap();
            model.insert(name(*key), data);
        }
        Op::Insert(key, length) => {
            let expected = !model.contains_key(&name(*key));
            agree(database.store(&name(*key), &vec![1; *length], Store::Insert), expected);
            model.entry(name(*key)).or_insert_with(|| vec![1; *length]);
        }
        Op::Modify(key, length) => {
            let expected = model.contains_key(&name(*key));
            agree(database.store(&name(*key), &vec![2; *length], Store::Modify), expected);
            model.entry(name(*key)).and_modify(|data| *data = vec![2; *length]);
        }
        Op::Append(key, length) => {
            database.append(&name(*key), &vec![3; *length]).unwrap();
            model.entry(name(*key)).or_default().extend(vec![3; *length]);
        }
        Op::Delete(key) => {
            let expected = model.remove(&name(*key)).is_some();
            agree(database.delete(&name(*key)), expected);
        }
        Op::Retain(above) => {
            let before = model.len();
            model.retain(|key, _| key.len() < usize::from(*above));
            let deleted = database.retain(|key, _| key.len() < usize::from(*above)).unwrap();
            assert_eq!(deleted, (before - model.len()) as u64);
        }
        Op::Wipe => {
            database.wipe().unwrap();
            model.clear();
        }
        Op::Repack | Op::Reopen | Op::Commit(_) | Op::Cancel(_) => unreachable!("files only"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn files_hold_what_a_model_holds(
        ops in proptest::collection::vec(any_op(), 1..60),
        max_dead in 0..4_u32,
        jenkins: bool,
        big: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let hash = if jenkins { HashKind::Jenkins } else { HashKind::Default };
        let order = if big { ByteOrder::Big } else { ByteOrder::Little };
        let mut database = new(&path).hash(hash).order(order).open(&path).unwrap();
        database.set_max_dead(max_dead);
        let mut model = Records::new();
        for op in &ops {
            match op {
                Op::Repack => database.repack().unwrap(),
                Op::Reopen => {
                    drop(database);
                    database = Options::new().unsynced().open(&path).unwrap();
                    database.set_max_dead(max_dead);
                }
                Op::Commit(inner) => {
                    let mut transaction = database.transaction().unwrap();
                    for op in inner {
apply(&mut transaction, &mut model, op);
}
                    assert_eq!(records(&transaction), model);
                    transaction.commit().unwrap();
                }
                Op::Cancel(inner) => {
                    let mut other = model.clone();
                    let mut transaction = database.transaction().unwrap();
                    for op in inner {
apply(&mut transaction, &mut other, op);
}
                    transaction.cancel().unwrap();
                }
                simple => apply(&mut database, &mut model, simple),
            }
            assert_sound(&database);
            prop_assert_eq!(&records(&database), &model);
        }
    }

    #[test]
    fn memory_holds_what_a_model_holds(
        ops in proptest::collection::vec(simple(), 1..80),
        max_dead in 0..4_u32,
    ) {
        let mut database = Database::in_memory(3, HashKind::Jenkins).unwrap();
        database.set_max_dead(max_dead);
        let mut model = Records::new();
        for op in &ops {
            apply(&mut database, &mut model, op);
            assert_sound(&database);
            prop_assert_eq!(&records(&database), &model);
        }
    }
}

/// A transaction that libtdb was killed in is undone, and the file passes its check afterwards, also
/// where libtdb's own undoing leaves one that does not.
#[test]
fn interrupted_transactions_of_libtdb_are_undone() {
    let Some(golden) = golden_folder() else { return };
    let folder = tempfile::tempdir().unwrap();
    let expected = Database::open_read_only(golden.join("before-transaction.tdb")).unwrap();
    let names = ["recovery-prepared", "recovery-partial", "recovery-grown-partial"];
    for name in names {
        let path = folder.path().join(name);
        std::fs::copy(golden.join(format!("{name}.tdb")), &path).unwrap();
        let database = Options::new().open(&path).unwrap();
        assert_sound(&database);
        let dump = golden.join(format!("{name}.recovered.dump"));
        let Ok(dump) = std::fs::read_to_string(dump) else {
            assert_eq!(records(&database), records(&expected), "{name}");
            continue;
        };
        let mut text = String::new();
        database
            .traverse(|key, data| {
                text.push_str(&tdb::dump::record(key, data));
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(text, dump, "{name}");
        assert_eq!(database.check().unwrap().dead_space, [], "{name}");
    }
}

#[test]
fn handles_keep_each_other_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut one = new(&path).open(&path).unwrap();
    let mut other = Options::new().wait(Duration::ZERO).open(&path).unwrap();
    one.store(b"key", b"value", Store::Insert).unwrap();

    let mut locked = one.lock(b"key").unwrap();
    locked.store(b"key", b"changed", Store::Modify).unwrap();
    assert!(matches!(other.fetch(b"key").unwrap_err().fault(), Fault::Busy { .. }));
    assert!(other.try_lock(b"key").unwrap().is_none());
    assert!(other.try_lock_all().unwrap().is_none());
    drop(locked);
    assert_eq!(other.fetch(b"key").unwrap().unwrap(), b"changed");

    let shared = one.lock_shared(b"key").unwrap();
    assert!(other.exists(b"key").unwrap());
    assert!(matches!(other.delete(b"key").unwrap_err().fault(), Fault::Busy { .. }));
    drop(shared);

    let all = one.lock_all().unwrap();
    assert!(matches!(other.fetch(b"none").unwrap_err().fault(), Fault::Busy { .. }));
    assert_eq!(all.fetch(b"key").unwrap().unwrap(), b"changed");
    drop(all);

    let mut transaction = one.transaction().unwrap();
    transaction.store(b"key", b"later", Store::Modify).unwrap();
    assert_eq!(other.fetch(b"key").unwrap().unwrap(), b"changed", "readers go on");
    assert!(other.try_transaction().unwrap().is_none());
    assert!(matches!(other.append(b"key", b"?").unwrap_err().fault(), Fault::Busy { .. }));
    let prepared = transaction.prepare().unwrap();
    assert!(matches!(other.fetch(b"key").unwrap_err().fault(), Fault::Busy { .. }));
    prepared.commit().unwrap();
    assert_eq!(other.fetch(b"key").unwrap().unwrap(), b"later");
    other.delete(b"key").unwrap();
    assert_eq!(one.fetch(b"key").unwrap(), None);
}

#[test]
fn a_prepared_transaction_can_still_be_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut database = new(&path).open(&path).unwrap();
    database.store(b"key", b"value", Store::Insert).unwrap();
    let mut transaction = database.transaction().unwrap();
    transaction.store(b"key", &vec![1; 100_000], Store::Modify).unwrap();
    transaction.prepare().unwrap().cancel().unwrap();
    assert_sound(&database);
    assert_eq!(database.fetch(b"key").unwrap().unwrap(), b"value");
    assert_eq!(database.check().unwrap().dead_space, []);
}

#[test]
fn a_wait_is_called_off_from_another_thread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut one = new(&path).open(&path).unwrap();
    let mut other = Options::new().wait(Duration::from_mins(10)).open(&path).unwrap();
    let locked = one.lock(b"key").unwrap();
    let canceller = other.canceller();
    let waiting = std::thread::spawn(move || other.lock(b"key").map(drop));
    canceller.cancel();
    let error = waiting.join().unwrap().unwrap_err();
    assert!(matches!(error.fault(), Fault::Cancelled { .. }), "{error}");
    drop(locked);
}

#[test]
fn a_nested_transaction_is_refused_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut database = new(&path).open(&path).unwrap();
    let mut transaction = database.transaction().unwrap();
    transaction.store(b"key", b"value", Store::Insert).unwrap();
    let error = transaction.transaction().unwrap_err();
    assert!(matches!(error.fault(), Fault::WrongOrder { .. }), "{error}");
    transaction.commit().unwrap();
    assert!(database.exists(b"key").unwrap());
}

#[test]
fn changes_are_counted_where_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut database = new(&path).count_changes().open(&path).unwrap();
    database.store(b"key", b"value", Store::Insert).unwrap();
    database.store(b"key", b"value", Store::Replace).unwrap();
    database.delete(b"key").unwrap();
    assert_eq!(database.header().unwrap().sequence, 3);
    let mut transaction = database.transaction().unwrap();
    transaction.store(b"key", b"value", Store::Insert).unwrap();
    transaction.commit().unwrap();
    assert_eq!(database.header().unwrap().sequence, 4);
    let mut other = Options::new().open(&path).unwrap();
    other.delete(b"key").unwrap();
    assert_eq!(database.header().unwrap().sequence, 4);
}

#[test]
fn files_that_are_something_else_are_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter");
    std::fs::write(&path, "Dear Sir").unwrap();
    let error = Options::new().create(Create::Missing).open(&path).unwrap_err();
    assert!(matches!(error.fault(), Fault::NotTdb { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"Dear Sir");
    let error = Options::new().create(Create::New).open(&path).unwrap_err();
    assert!(matches!(error.fault(), Fault::Io { .. }), "{error}");
}

#[test]
fn the_first_to_open_finds_it_empty_and_the_second_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let options = Options::new().create(Create::Missing).clear_if_first(true);
    let mut one = options.open(&path).unwrap();
    one.store(b"key", b"value", Store::Insert).unwrap();
    assert!(options.open(&path).unwrap().exists(b"key").unwrap());
    drop(one);
    assert!(!options.open(&path).unwrap().exists(b"key").unwrap());
}

#[test]
fn a_handle_that_may_only_read_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    new(&path).open(&path).unwrap().store(b"key", b"value", Store::Insert).unwrap();
    let mut reader = Database::open_read_only(&path).unwrap();
    let error = reader.store(b"key", b"other", Store::Replace).unwrap_err();
    assert!(matches!(error.fault(), Fault::ReadOnly), "{error}");
    assert!(matches!(reader.transaction().unwrap_err().fault(), Fault::ReadOnly));
    assert_eq!(reader.fetch(b"key").unwrap().unwrap(), b"value");
}

#[test]
fn a_transaction_is_not_begun_while_something_is_locked() {
    for mutexes in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let options = if mutexes { new(&path).mutexes() } else { new(&path) };
        let mut database = options.open(&path).unwrap();
        let mut other = Options::new().wait(Duration::ZERO).open(&path).unwrap();
        let mut all = database.lock_all().unwrap();
        let error = all.transaction().unwrap_err();
        assert!(matches!(error.fault(), Fault::WrongOrder { .. }), "{error}");
        // The lock is still there, and is all there is.
        if !mutexes {
            // A mutex is refused to the thread that has it.
            assert!(other.try_lock(b"key").unwrap().is_none());
        }
        all.upgrade().unwrap();
        drop(all);
        let mut chain = database.lock(b"key").unwrap();
        let error = chain.transaction().unwrap_err();
        assert!(matches!(error.fault(), Fault::WrongOrder { .. }), "{error}");
        drop(chain);
        other.transaction().unwrap().commit().unwrap();
    }
}

#[test]
fn a_value_is_changed_by_one_call() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut database = new(&path).count_changes().open(&path).unwrap();
    let raise = |database: &mut Database| {
        let raised = database.update(b"count", |value| {
            let before = value.get().map_or(0, <[u8]>::len);
            value.edit().push(b'x');
            before + 1
        });
        raised.unwrap()
    };
    assert_eq!((1..=500).map(|_| raise(&mut database)).last(), Some(500));
    assert_eq!(database.fetch(b"count").unwrap().unwrap(), vec![b'x'; 500]);
    let before = database.header().unwrap().sequence;
    assert_eq!(database.update(b"count", |value| value.get().map(<[u8]>::len)).unwrap(), Some(500));
    database.update(b"none", tdb::Value::remove).unwrap();
    assert_eq!(database.header().unwrap().sequence, before, "nothing was changed");
    database.update(b"count", |value| value.set(b"few")).unwrap();
    assert_eq!(database.fetch_with(b"count", <[u8]>::len).unwrap(), Some(3));
    database.update(b"count", tdb::Value::remove).unwrap();
    assert!(!database.exists(b"count").unwrap());
    assert_sound(&database);
}

#[test]
fn a_wait_without_a_limit_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut one = new(&path).open(&path).unwrap();
    let mut other = Options::new().wait(Duration::MAX).open(&path).unwrap();
    let locked = one.lock(b"key").unwrap();
    let waiting = std::thread::spawn(move || other.store(b"key", b"value", Store::Insert));
    drop(locked);
    waiting.join().unwrap().unwrap();
}

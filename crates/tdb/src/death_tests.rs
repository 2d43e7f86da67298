//! A writer that dies at any of its writes leaves a file that is as before or as it was to become, and
//! that passes its check.

use crate::header::List;
use crate::locks::Kind;
use crate::record::magic;
use crate::{Create, Database, Error, Fault, Options, Store, death};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

fn records(database: &Database) -> Records {
    let mut records = BTreeMap::new();
    database
        .traverse(|key, data| {
            let twice = records.insert(key.to_vec(), data.to_vec());
            assert_eq!(twice, None, "a key is met once");
            ControlFlow::Continue(())
        })
        .unwrap();
    records
}

fn open(path: &Path) -> Database {
    Options::new().hash_size(3).create(Create::Missing).open(path).unwrap()
}

fn key(number: u32) -> Vec<u8> {
    format!("key{number:02}").into_bytes()
}

/// A change of a database, and what it begins with.
struct Case {
    name: &'static str,
    before: fn(&mut Database) -> Result<(), Error>,
    change: fn(&mut Database) -> Result<(), Error>,
}

fn fill(database: &mut Database, keys: u32, bytes: usize) -> Result<(), Error> {
    (0..keys).try_for_each(|number| database.store(&key(number), &vec![7; bytes], Store::Replace))
}

/// Makes the file longer, as somebody does who dies before he makes anything of it.
fn leave_over(database: &Database) -> Result<(), Error> {
    let space = &database.engine.space;
    database.tell(space.grow(space.size() + 3 * 4096))
}

/// Replaces, deletes and adds, as a whole.
fn mixed(database: &mut Database, keys: u32, bytes: usize) -> Result<(), Error> {
    let mut transaction = database.transaction()?;
    transaction.store(&key(0), &vec![9; bytes], Store::Modify)?;
    transaction.delete(&key(1))?;
    for number in 50..50 + keys {
        transaction.store(&key(number), &vec![8; bytes], Store::Insert)?;
    }
    transaction.commit()
}

const CASES: [Case; 8] = [
    Case {
        name: "the first area, without growth",
        before: |database| fill(database, 10, 20),
        change: |database| mixed(database, 3, 20),
    },
    Case {
        name: "the first area, with growth",
        before: |database| fill(database, 10, 20),
        change: |database| mixed(database, 9, 9000),
    },
    Case {
        name: "growth behind what another left at the end",
        before: |database| fill(database, 10, 20).and_then(|()| leave_over(database)),
        change: |database| mixed(database, 9, 9000),
    },
    Case {
        name: "a repack of what ends with what another left",
        before: |database| fill(database, 40, 300).and_then(|()| leave_over(database)),
        change: |database| {
            let mut transaction = database.transaction()?;
            transaction.wipe()?;
            (0..39)
                .try_for_each(|number| transaction.store(&key(number), &[7; 300], Store::Insert))?;
            transaction.commit()
        },
    },
    Case {
        name: "an area is used again",
        before: |database| fill(database, 10, 20).and_then(|()| mixed(database, 3, 20)),
        change: |database| {
            let mut transaction = database.transaction()?;
            transaction.store(&key(3), b"other", Store::Replace)?;
            transaction.delete(&key(4))?;
            transaction.commit()
        },
    },
    Case {
        name: "an area at the end that is too short",
        before: |database| {
            fill(database, 10, 20)?;
            mixed(database, 3, 20)
        },
        change: |database| {
            let mut transaction = database.transaction()?;
            transaction.retain(|_, _| false)?;
            for number in 60..90 {
                transaction.store(&key(number), &[6; 900], Store::Insert)?;
            }
            transaction.commit()
        },
    },
    Case {
        name: "an area that is too short and not at the end",
        before: |database| {
            fill(database, 10, 20)?;
            mixed(database, 3, 20)?;
            (20..40).try_for_each(|number| database.store(&key(number), &[5; 3000], Store::Insert))
        },
        change: |database| {
            let mut transaction = database.transaction()?;
            transaction.retain(|key, _| key.ends_with(b"1"))?;
            transaction.commit()
        },
    },
    Case {
        name: "everything is wiped",
        before: |database| {
            fill(database, 40, 100)?;
            mixed(database, 3, 20)?;
            fill(database, 60, 1000)
        },
        change: |database| {
            let mut transaction = database.transaction()?;
            transaction.wipe()?;
            transaction.store(b"alone", b"here", Store::Insert)?;
            transaction.commit()
        },
    },
];

/// Runs the change and lets it die after so many writes; true if it came to its end.
fn die_after(writes: u32, path: &Path, change: fn(&mut Database) -> Result<(), Error>) -> bool {
    let mut database = open(path);
    death::after(Some(writes));
    let outcome = change(&mut database);
    let died = death::has_come();
    assert!(died || outcome.is_ok(), "{outcome:?}");
    drop(database);
    death::after(None);
    !died
}

fn state(path: &Path) -> Records {
    let database = open(path);
    let report = database.check().unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    // Unused space is no fault for libtdb's check, unless a record stands behind it.
    let size = database.engine.space.size();
    let is_last = |&(offset, length): &(u64, u64)| offset + length == size;
    assert!(report.dead_space.iter().all(is_last), "{:x?} of {size:#x}", report.dead_space);
    records(&database)
}

fn run(case: &Case, afterwards: impl Fn(&Path, u32)) {
    let folder = tempfile::tempdir().unwrap();
    let (start, path): (PathBuf, PathBuf) = (folder.path().join("start"), folder.path().join("db"));
    (case.before)(&mut open(&start)).unwrap();
    let before = state(&start);
    std::fs::copy(&start, &path).unwrap();
    (case.change)(&mut open(&path)).unwrap();
    let after = state(&path);
    assert_ne!(before, after, "{}", case.name);
    let mut ends = (0, 0);
    for writes in 0..400 {
        std::fs::copy(&start, &path).unwrap();
        let finished = die_after(writes, &path, case.change);
        afterwards(&path, writes);
        let found = state(&path);
        if found == before {
            ends.0 += 1;
        } else {
            assert_eq!(found, after, "{} dies after {writes} writes", case.name);
            ends.1 += 1;
        }
        // What is left can be worked with, and stays sound.
        let mut database = open(&path);
        fill(&mut database, 30, 400).unwrap();
        let mut transaction = database.transaction().unwrap();
        fill(&mut transaction, 60, 700).unwrap();
        transaction.commit().unwrap();
        drop(database);
        state(&path);
        if finished {
            assert!(0 < ends.0 && 0 < ends.1, "{}: {ends:?}", case.name);
            return;
        }
    }
    panic!("{} never came to its end", case.name);
}

#[test]
fn a_transaction_whose_writer_dies_is_as_if_it_had_never_begun() {
    for case in &CASES {
        run(case, |_, _| {});
    }
}

/// Whoever undoes it can die as well.
#[test]
fn a_writer_that_dies_while_it_undoes_a_transaction_leaves_it_to_the_next() {
    for case in &CASES {
        run(case, |path, writes| {
            for again in 0..20 {
                if writes % 3 != 0 {
                    return;
                }
                death::after(Some(again));
                let opened = Options::new().open(path);
                let died = death::has_come();
                death::after(None);
                if let Err(error) = &opened {
                    assert!(died, "{error}");
                    assert!(matches!(error.fault(), Fault::Io { .. }), "{error}");
                }
            }
        });
    }
}

/// libtdb deletes the old value first, and has none left when the new one finds no room.
#[test]
fn a_value_that_finds_no_room_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut database = open(&path);
    fill(&mut database, 10, 20).unwrap();
    let before = records(&database);
    death::fill_disk(true);
    let large = vec![1; 100_000];
    let refused = [
        database.store(&key(1), &large, Store::Replace),
        database.append(&key(2), &large),
        database.transaction().and_then(|mut transaction| {
            transaction.store(&key(3), b"small", Store::Modify)?;
            transaction.store(&key(4), &large, Store::Modify)?;
            transaction.commit()
        }),
    ];
    death::fill_disk(false);
    for outcome in refused {
        let error = outcome.unwrap_err();
        assert!(matches!(error.fault(), Fault::Io { action: "grow", .. }), "{error}");
    }
    assert_eq!(records(&database), before);
    assert_eq!(state(&path), before);
    database.store(&key(1), &large, Store::Replace).unwrap();
}

/// A value that moves takes the place of the old one by one write: whoever comes after a killed one,
/// libtdb as well, finds one value of the key and can delete it.
#[test]
fn a_value_that_moves_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let (start, path) = (folder.path().join("start"), folder.path().join("db"));
    fill(&mut open(&start), 9, 20).unwrap();
    let before = state(&start);
    let mut after = before.clone();
    after.insert(key(1), vec![1; 500]);
    for writes in 0..20 {
        std::fs::copy(&start, &path).unwrap();
        die_after(writes, &path, |database| database.store(&key(1), &[1; 500], Store::Replace));
        let database = open(&path);
        let found = records(&database);
        assert!(found == before || found == after, "after {writes} writes");
        let mut seen = 0;
        for chain in 0..3 {
            for placed in database.engine.walk(List::Chain(chain)) {
                let placed = placed.unwrap();
                let is_used = placed.record.magic == magic::USED;
                seen += u32::from(is_used && database.engine.key(placed).unwrap() == key(1));
            }
        }
        assert_eq!(seen, 1, "after {writes} writes");
    }
}

/// Where somebody stands on the old value it has to stay on its chain, and whoever is killed then
/// leaves both; the older one is seen by nobody of ours, and does not come back when the newer goes.
#[test]
fn a_value_that_was_replaced_is_not_seen_again() {
    let folder = tempfile::tempdir().unwrap();
    let (start, path) = (folder.path().join("start"), folder.path().join("db"));
    fill(&mut open(&start), 9, 20).unwrap();
    let before = state(&start);
    let mut after = before.clone();
    after.insert(key(1), vec![1; 500]);
    let mut left_both = 0;
    for writes in 0..20 {
        std::fs::copy(&start, &path).unwrap();
        let walker = open(&path);
        let hash = walker.engine.shape.hash.of(&key(1));
        let stood_on = walker.engine.find(&key(1), hash).unwrap().unwrap().offset;
        assert!(walker.engine.locks.try_take((stood_on, 1), Kind::Shared).unwrap());
        die_after(writes, &path, |database| database.store(&key(1), &[1; 500], Store::Replace));
        drop(walker);
        let found = records(&open(&path));
        assert!(found == before || found == after, "after {writes} writes");
        left_both += u32::from(open(&path).stats().unwrap().keys.count == 10);
        let mut database = open(&path);
        database.retain(|key, _| !key.ends_with(b"8")).unwrap();
        database.delete(&key(1)).unwrap();
        assert!(!database.exists(&key(1)).unwrap());
        assert_eq!(database.stats().unwrap().keys.count, 7);
    }
    assert!(0 < left_both, "no death left both");
}

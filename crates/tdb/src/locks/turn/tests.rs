//! Queues: who comes when, who passes whom, who gives up.

use super::*;
use crate::locks::Wait;
use crate::os::testing::wait_for;
use crate::{Create, Database, Options, Store};
use std::path::Path;
use std::time::Duration;

/// What one test does to the queues is no other's business.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn options() -> Options {
    Options::new().create(Create::Missing).hash_size(1)
}

fn ino(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

fn waiting(path: &Path) -> usize {
    let ino = ino(path);
    queues().of.iter().filter(|(of, _)| of.1 == ino).map(|(_, queue)| queue.waiting.len()).sum()
}

/// Somebody who has the only chain, in the same process.
fn busy(path: &Path) -> Database {
    let database = options().open(path).unwrap();
    std::mem::forget(database.engine.lock_to_change(crate::header::List::Chain(0)).unwrap());
    database
}

#[test]
fn all_get_their_turn_and_no_memory_of_them_is_kept() {
    let _alone = alone();
    all_get_their_turn(&options());
    all_get_their_turn(&options().mutexes());
}

fn all_get_their_turn(first: &Options) {
    let folder = tempfile::tempdir().unwrap();
    let path = &folder.path().join("a.tdb");
    drop(first.open(path).unwrap());
    let holder = busy(path);
    std::thread::scope(|scope| {
        for number in 0..20_u8 {
            scope.spawn(move || {
                let mut database = options().open(path).unwrap();
                for round in 0..50_u8 {
                    database.append(b"all", &[number, round]).unwrap();
                }
            });
        }
        wait_for("all wait", || waiting(path) == 20);
        drop(holder);
    });
    assert_eq!(waiting(path), 0);
    let all = options().open(path).unwrap().fetch(b"all").unwrap().unwrap();
    let of = |number: u8| {
        let own = all.as_chunks::<2>().0.iter().filter(|pair| pair[0] == number);
        own.map(|pair| pair[1]).collect::<Vec<_>>()
    };
    for number in 0..20 {
        assert_eq!(of(number), (0..50).collect::<Vec<_>>(), "thread {number}");
    }
}

#[test]
fn who_gives_up_or_is_called_off_lets_the_next_one_come() {
    let _alone = alone();
    who_gives_up_or_is(&options());
    who_gives_up_or_is(&options().mutexes());
}

fn who_gives_up_or_is(first: &Options) {
    let folder = tempfile::tempdir().unwrap();
    let path = &folder.path().join("a.tdb");
    drop(first.open(path).unwrap());
    let holder = busy(path);
    std::thread::scope(|scope| {
        let mut first = options().wait(Duration::from_mins(1)).open(path).unwrap();
        let canceller = first.canceller();
        let first = scope.spawn(move || first.store(b"k", b"1", Store::Replace));
        wait_for("the first waits", || waiting(path) == 1);
        // Whose own time is over does not wait for the one in front of him.
        let mut hurried = options().wait(Duration::from_millis(30)).open(path).unwrap();
        let hurried = scope.spawn(move || hurried.store(b"k", b"2", Store::Replace));
        let error = hurried.join().unwrap().unwrap_err();
        assert!(matches!(error.fault(), Fault::Busy { .. }), "{error}");
        let mut last = options().wait(Duration::from_mins(1)).open(path).unwrap();
        let last = scope.spawn(move || last.store(b"k", b"3", Store::Replace));
        wait_for("the last waits behind the first", || waiting(path) == 2);
        canceller.cancel();
        let error = first.join().unwrap().unwrap_err();
        assert!(matches!(error.fault(), Fault::Cancelled { .. }), "{error}");
        drop(holder);
        last.join().unwrap().unwrap();
    });
    assert_eq!(waiting(path), 0);
    let value = options().open(path).unwrap().fetch(b"k").unwrap();
    assert_eq!(value.as_deref(), Some(b"3".as_slice()));
}

#[test]
fn more_ask_the_longer_nobody_gets_it() {
    let queue = Queue::new();
    let after = |millis| queue.askers(queue.since + Duration::from_millis(millis));
    assert_eq!([0, 9, 10, 25, 50].map(after), [2, 2, 4, 8, 64]);
    assert_eq!(after(100_000_000_000), 2 << DOUBLED_MAX);
}

#[test]
fn who_was_passed_for_long_is_passed_no_more() {
    let _alone = alone();
    let file = tempfile::NamedTempFile::new().unwrap();
    let database = options().open(file.path()).unwrap();
    let locks = &database.engine.locks;
    let (waits, asks) = (locks.patience(Wait::Yes), locks.patience(Wait::No));
    let of = locks.queue_of(168).unwrap();
    let place = || Place::at_the_end(of, &Canceller::default()).unwrap();
    let [mut first, mut second] = [place(), place()];
    let since = || queues().of[&of].since;
    let is_strict = || queues().of[&of].is_strict;
    first.be_strict(since() + PASSED_FOR / 2);
    assert!(!is_strict(), "it has just come");
    second.be_strict(since() + PASSED_FOR);
    assert!(!is_strict(), "who is not in front has nothing to say");
    first.be_strict(since() + PASSED_FOR);
    assert!(is_strict() && !locks.may_pass(168, &waits));
    assert!(locks.may_pass(172, &waits) && locks.may_pass(168, &asks));
    let begun = since();
    first.has_the_lock = true;
    drop(first);
    assert!(begun < since() && !is_strict(), "the time of the next begins with its success");
    assert!(locks.may_pass(168, &waits));
    drop(second);
    assert_eq!(waiting(file.path()), 0);
}

#[test]
fn who_reads_does_not_wait_for_those_who_may_not_write() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = &folder.path().join("a.tdb");
    let mut all = options().mutexes().open(path).unwrap();
    all.store(b"k", b"v", Store::Insert).unwrap();
    std::thread::scope(|scope| {
        let transaction = all.transaction().unwrap();
        for _ in 0..3 {
            let mut writer = options().open(path).unwrap();
            scope.spawn(move || writer.store(b"k", b"w", Store::Replace).unwrap());
        }
        let of = || queues().of.iter().find(|(of, _)| of.1 == ino(path)).map(|(of, _)| *of);
        wait_for("three wait, and let nobody pass", || {
            of().is_some_and(|of| {
                let all = queues();
                let queue = all.of.get(&of);
                queue.is_some_and(|queue| queue.waiting.len() == 3 && queue.is_strict)
            })
        });
        let reader = options().open(path).unwrap();
        for _ in 0..200 {
            assert!(reader.exists(b"k").unwrap());
        }
        assert_eq!(of().map(|of| queues().of[&of].come), Some(3), "it never stood by");
        drop(transaction);
    });
    assert_eq!(waiting(path), 0);
}

#[test]
fn where_the_queues_cannot_be_had_the_lock_is_asked_for_without() {
    let _alone = alone();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path();
    let holder = busy(path);
    let mut other = options().wait(Duration::from_millis(30)).open(path).unwrap();
    // As in a process that was forked while another thread had them.
    let all = queues();
    let error = other.store(b"k", b"v", Store::Replace).unwrap_err();
    assert!(matches!(error.fault(), Fault::Busy { .. }), "{error}");
    drop((holder, all));
    other.store(b"k", b"v", Store::Replace).unwrap();
}

#[test]
fn who_is_called_off_in_the_middle_of_the_queue_leaves_it() {
    let _alone = alone();
    who_is_called_off(&options());
    who_is_called_off(&options().mutexes());
}

fn who_is_called_off(first: &Options) {
    let folder = tempfile::tempdir().unwrap();
    let path = &folder.path().join("a.tdb");
    drop(first.open(path).unwrap());
    let holder = busy(path);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..3_usize)
            .map(|number| {
                let mut database = options().wait(Duration::from_mins(1)).open(path).unwrap();
                let canceller = database.canceller();
                let value = number.to_string().into_bytes();
                let thread = scope
                    .spawn(move || database.append(b"k", &value).map_err(|why| why.to_string()));
                wait_for("it waits", || waiting(path) == number + 1);
                (canceller, thread)
            })
            .collect();
        handles[1].0.cancel();
        wait_for("it has gone", || waiting(path) == 2);
        drop(holder);
        let ended: Vec<_> =
            handles.into_iter().map(|(_, thread)| thread.join().unwrap().is_ok()).collect();
        assert_eq!(ended, [true, false, true]);
    });
}

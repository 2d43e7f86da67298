//! Several of our threads and several processes of libtdb work on one file at once; in the end, what
//! each of them did is there, nothing else is, and both sides find the file sound.
//!
//! How long it takes together is told by `HOLDFAST_HAMMER_SECONDS`; a minute unless it says otherwise.

use crate::dice::Dice;
use crate::peer::{Hammer, Hammered, Libtdb, Open, faults, flag, is_whole, sealed};
use std::path::Path;
use std::time::{Duration, Instant};
use tdb::{Create, Database, Error, Fault, HashKind, Options, Store};

/// Keys of each kind; few, so that all meet on them.
const KEYS: u32 = 4;
/// Operations of one round; a round is checked as a whole.
const ROUND: u32 = 1500;
/// The test is one of so many that share the time.
const TESTS: u32 = 5;

/// One way to share a file.
#[derive(Clone, Copy)]
struct Way {
    mutexes: bool,
    volatile: bool,
    mapped: bool,
    /// Transactions of a thousand steps.
    transactions: u32,
}

/// One of our workers.
struct Worker {
    name: String,
    dice: Dice,
    lines: u32,
    transactions: u32,
}

impl Worker {
    fn work(&mut self, database: &mut Database) -> Hammered {
        let mut done = Hammered::default();
        for _ in 0..ROUND {
            if self.dice.below(1000) < self.transactions {
                self.transact(database, &mut done);
            } else {
                self.step(database, &mut done);
            }
        }
        done
    }

    fn transact(&mut self, database: &mut Database, done: &mut Hammered) {
        let mut inside = Hammered::default();
        let mut transaction = database.transaction().unwrap();
        for _ in 0..=self.dice.below(8) {
            self.step(&mut transaction, &mut inside);
        }
        done.torn += inside.torn;
        match self.dice.below(4) {
            0 => return transaction.cancel().unwrap(),
            1 => transaction.prepare().unwrap().commit().unwrap(),
            _ => transaction.commit().unwrap(),
        }
        for (key, number) in inside.counted {
            *done.counted.entry(key).or_default() += number;
        }
        for (key, lines) in inside.lines {
            done.lines.entry(key).or_default().extend(lines);
        }
    }

    fn step(&mut self, database: &mut Database, done: &mut Hammered) {
        let number = self.dice.below(KEYS);
        let any = format!("any-{number}");
        match self.dice.below(100) {
            0..25 => {
                let key = format!("count-{number}");
                raise(database, key.as_bytes());
                *done.counted.entry(key).or_default() += 1;
            }
            25..45 => {
                self.lines += 1;
                let (key, line) =
                    (format!("lines-{number}"), format!("{} {}", self.name, self.lines));
                database.append(key.as_bytes(), format!("{line}\n").as_bytes()).unwrap();
                done.lines.entry(key).or_default().push(line);
            }
            45..75 => {
                let length = [0, 1, 20, 100, 700, 3000][self.dice.below(6) as usize];
                let payload: Vec<u8> = (0..length).map(|_| self.dice.below(256) as u8).collect();
                database.store(any.as_bytes(), &sealed(&payload), Store::Replace).unwrap();
            }
            75..85 => absent_or(database.delete(any.as_bytes())),
            _ => {
                let value = database.fetch(any.as_bytes()).unwrap();
                done.torn += u64::from(value.is_some_and(|value| !is_whole(&value)));
            }
        }
    }
}

/// Reads a number, and writes the next, under the lock of its chain.
fn raise(database: &mut Database, key: &[u8]) {
    let mut locked = database.lock(key).unwrap();
    let value = locked.fetch(key).unwrap();
    let number = value.map_or(0, |value| String::from_utf8(value).unwrap().parse::<u64>().unwrap());
    locked.store(key, (number + 1).to_string().as_bytes(), Store::Replace).unwrap();
}

fn absent_or(outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        assert!(matches!(error.fault(), Fault::NotFound), "{error}");
    }
}

/// Time for one of the tests.
fn share() -> Duration {
    let seconds = std::env::var("HOLDFAST_HAMMER_SECONDS").ok();
    let seconds = seconds.map_or(60, |text| text.parse::<u32>().unwrap());
    Duration::from_secs(seconds.into()) / TESTS
}

fn hammer(way: Way) {
    let until = Instant::now() + share();
    let mut rounds = 0;
    while rounds == 0 || Instant::now() < until {
        if round(way, rounds).is_none() {
            return;
        }
        rounds += 1;
    }
}

/// `None` where there is no libtdb.
fn round(way: Way, number: u64) -> Option<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tdb");
    let hash_size = 1 + number as u32 % 3;
    let mut options = Options::new().unsynced().count_changes();
    if way.volatile {
        options = options.volatile();
    }
    if !way.mapped {
        options = options.unmapped();
    }
    let first = options.clone().create(Create::New).hash_size(hash_size).hash(HashKind::Jenkins);
    // Somebody has it open all the time: the first to open it makes all mutexes anew.
    let first = if way.mutexes { first.mutexes() } else { first };
    let watcher = first.open(&path).unwrap();
    let mut flags = flag::NO_SYNC | flag::SEQUENCE;
    if way.volatile {
        flags |= flag::VOLATILE;
    }
    if way.mutexes {
        flags |= flag::MUTEXES;
    }
    let how = Open { hash_size, flags, read_only: false };
    let mut peers = Vec::new();
    for index in 0..2 {
        let name = format!("theirs{index}");
        let mut peer = Libtdb::open(&path, how)?;
        peer.begin(Hammer {
            name: &name,
            seed: number * 10 + index,
            operations: ROUND,
            keys: KEYS,
            transactions: f64::from(way.transactions) / 1000.0,
        });
        peers.push(peer);
    }
    let mut all = our_part(way, &path, &options, number);
    all.extend(peers.iter_mut().map(Libtdb::finish));
    let records = peers[0].dump().unwrap();
    let found = faults(&records, &all);
    assert!(found.is_empty(), "round {number}: {found:#?}");
    assert!(peers[0].is_sound(), "round {number}: libtdb finds it damaged");
    let report = watcher.check().unwrap();
    assert!(report.is_clean(), "round {number}: {:?}", report.findings);
    Some(())
}

fn our_part(way: Way, path: &Path, options: &Options, round: u64) -> Vec<Hammered> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|index| {
                let options = options.clone();
                scope.spawn(move || {
                    let mut worker = Worker {
                        name: format!("ours{index}"),
                        dice: Dice::new(round * 100 + index),
                        lines: 0,
                        transactions: way.transactions,
                    };
                    worker.work(&mut options.open(path).unwrap())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

const PLAIN: Way = Way { mutexes: false, volatile: false, mapped: true, transactions: 0 };

#[test]
fn single_changes() {
    hammer(PLAIN);
}

#[test]
fn single_changes_with_records_that_are_used_again() {
    hammer(Way { volatile: true, ..PLAIN });
}

#[test]
fn single_changes_by_system_calls() {
    hammer(Way { mapped: false, volatile: true, ..PLAIN });
}

#[test]
fn transactions_among_single_changes() {
    hammer(Way { transactions: 50, ..PLAIN });
}

#[test]
fn changes_under_mutexes() {
    hammer(Way { mutexes: true, volatile: true, transactions: 20, ..PLAIN });
}

/// Each side adds to one number as fast as it can, without a lock in common.
#[test]
fn no_change_is_left_uncounted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tdb");
    let mut ours = Options::new().create(Create::New).count_changes().open(&path).unwrap();
    let how = Open { hash_size: 0, flags: flag::SEQUENCE, read_only: false };
    let Some(mut peer) = Libtdb::open(&path, how) else { return };
    peer.store("replace", b"theirs", b"value").unwrap();
    ours.store(b"ours", b"value", Store::Replace).unwrap();
    let before = ours.header().unwrap().sequence;
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let counted = std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let store = || ours.store(b"ours", b"value", Store::Replace).unwrap();
            let until_ended =
                std::iter::repeat_with(store).take_while(|()| ended.try_recv().is_err());
            until_ended.count() as u32 + 1
        });
        for _ in 0..10_000 {
            peer.store("replace", b"theirs", b"value").unwrap();
        }
        end.send(()).unwrap();
        thread.join().unwrap()
    });
    let after = Database::open_read_only(&path).unwrap().header().unwrap().sequence;
    assert_eq!(after - before, counted + 10_000);
}

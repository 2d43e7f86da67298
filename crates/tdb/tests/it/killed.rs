//! Processes that are killed at any moment lose nothing that was done, and bring back nothing that was
//! deleted; where they used transactions, the file passes the checks of both sides.
//!
//! A worker is this test program once more, told by a variable of its environment what to do. Each
//! says what it has done, so that the one who kills it knows what has to be there.

use crate::dice::Dice;
use crate::peer::{Hammer, Libtdb, Open, flag};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use tdb::{Create, Database, Fault, Options, Store};

/// Says to a worker what it is: way, name and file, with spaces between.
const ORDER: &str = "HOLDFAST_TDB_WORKER";
const PATIENCE: Duration = Duration::from_mins(1);
/// Records that a transaction of a worker changes together.
const TOGETHER: u32 = 5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Each step is a transaction.
    Transactions,
    /// Each step is a change of one record, which moves or goes every time.
    Single,
}

/// What a worker has after its step of this number; `None`: the record was deleted.
fn value(way: Way, step: u64) -> Option<Vec<u8>> {
    let length = [8, 300, 40, 2000, 90][(step % 5) as usize];
    let text = format!("{step:08}");
    let whole = text.into_bytes().into_iter().cycle().take(length).collect();
    (way == Way::Transactions || step % 4 != 3).then_some(whole)
}

fn key(name: &str, number: u32) -> Vec<u8> {
    format!("{name}-{number}").into_bytes()
}

fn take_step(database: &mut Database, way: Way, name: &str, step: u64) {
    let value = value(way, step);
    match (way, value) {
        (Way::Transactions, Some(value)) => {
            let mut transaction = database.transaction().unwrap();
            for number in 0..TOGETHER {
                transaction.store(&key(name, number), &value, Store::Replace).unwrap();
            }
            transaction.commit().unwrap();
        }
        (_, Some(value)) => database.store(&key(name, 0), &value, Store::Replace).unwrap(),
        // It is not there if the one before was killed after it had deleted it.
        (_, None) => match database.delete(&key(name, 0)) {
            Ok(()) => {}
            Err(error) => assert!(matches!(error.fault(), Fault::NotFound), "{error}"),
        },
    }
}

/// Not a test by itself: works for [`Worker`] until it is killed.
#[test]
fn worker() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let [way, name, from, path] = order.splitn(4, ' ').collect::<Vec<_>>().try_into().unwrap();
    let way = if way == "single" { Way::Single } else { Way::Transactions };
    let mut database = Options::new().unsynced().count_changes().open(path).unwrap();
    let mut out = std::io::stdout().lock();
    for step in from.parse::<u64>().unwrap().. {
        take_step(&mut database, way, name, step);
        if writeln!(out, "done {step}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// A worker in a process of its own; killed with its handle.
struct Worker {
    way: Way,
    name: String,
    path: PathBuf,
    child: Child,
    steps: Receiver<u64>,
    /// The last step that is known to be done.
    done: u64,
}

impl Worker {
    fn new(way: Way, name: &str, path: &Path, done: u64) -> Self {
        let word = if way == Way::Single { "single" } else { "transactions" };
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["killed::worker", "--exact", "--nocapture"]).stdout(Stdio::piped());
        command.env(ORDER, format!("{word} {name} {} {}", done + 1, path.display()));
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, steps) = sync_channel(1 << 16);
        // It ends with the child, whose output ends then.
        std::thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            let numbers = lines.filter_map(|line| line.strip_prefix("done ")?.parse().ok());
            for number in numbers {
                if sender.send(number).is_err() {
                    break;
                }
            }
        });
        let (name, path) = (name.to_owned(), path.to_path_buf());
        Self { way, name, path, child, steps, done }
    }

    fn wait_for(&mut self, more: u32) {
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..more {
            let left = deadline.saturating_duration_since(Instant::now());
            self.done = self.steps.recv_timeout(left).unwrap();
        }
    }

    /// Kills it, and hears what it had said before.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        loop {
            match self.steps.recv_timeout(PATIENCE) {
                Ok(step) => self.done = step,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the output of {} has no end", self.name),
            }
        }
    }

    /// The step whose outcome the database holds: the last that was told, or the one after it.
    fn found(&self, database: &Database) -> u64 {
        let count = if self.way == Way::Single { 1 } else { TOGETHER };
        let found: Vec<_> =
            (0..count).map(|number| database.fetch(&key(&self.name, number)).unwrap()).collect();
        let is = |step: &u64| found.iter().all(|found| *found == value(self.way, *step));
        let told = (self.done, self.name.as_str());
        [self.done, self.done + 1].into_iter().find(is).unwrap_or_else(|| {
            let begins = |value: &Vec<u8>| String::from_utf8_lossy(&value[..8]).into_owned();
            let found: Vec<_> = found.iter().map(|value| value.as_ref().map(begins)).collect();
            panic!("after {told:?} there is {found:?}")
        })
    }

    fn next(self, database: &Database) -> Self {
        let done = self.found(database);
        let (way, name, path) = (self.way, self.name.clone(), self.path.clone());
        Self::new(way, &name, &path, done)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn kill_many(way: Way, mutexes: bool, kills: u32) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tdb");
    let options = Options::new().unsynced().count_changes().hash_size(3);
    let first = options.clone().create(Create::New);
    let first = if mutexes { first.mutexes() } else { first };
    // Open all the time: the first to open it would make all mutexes anew.
    let mut database = first.open(&path).unwrap();
    let mut dice = Dice::new(kills.into());
    let names = ["one", "two"];
    for name in names {
        take_step(&mut database, way, name, 0);
    }
    let mut workers: Vec<_> =
        names.iter().map(|name| Some(Worker::new(way, name, &path, 0))).collect();
    let flags = flag::NO_SYNC | flag::SEQUENCE | if mutexes { flag::MUTEXES } else { 0 };
    let how = Open { hash_size: 0, flags, read_only: false };
    let mut peer = Libtdb::open(&path, how);
    for index in 0..kills {
        // libtdb dies as well, in the middle of a transaction mostly.
        if way == Way::Transactions && index % 3 == 0 && peer.is_some() {
            if let Some(old) = peer.replace(Libtdb::open(&path, how).unwrap()) {
                old.kill();
            }
            let order = Hammer {
                name: "theirs",
                seed: index.into(),
                operations: 1_000_000,
                keys: 3,
                transactions: 1.0,
            };
            peer.as_mut().unwrap().begin(order);
        }
        let slot = &mut workers[dice.below(2) as usize];
        let mut worker = slot.take().unwrap();
        worker.wait_for(1 + dice.below(30));
        // Somewhere in the next steps, which nobody can see from here.
        (0..dice.below(20_000)).for_each(|_| std::hint::spin_loop());
        worker.kill();
        *slot = Some(worker.next(&database));
    }
    if let Some(peer) = peer {
        peer.kill();
    }
    for worker in workers.into_iter().flatten() {
        let mut worker = worker;
        worker.kill();
        worker.found(&database);
    }
    if way == Way::Single {
        // What was between two lists when its user was killed is free again afterwards.
        database.repack().unwrap();
    }
    let report = database.check().unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    if let Some(mut peer) = Libtdb::open(&path, how) {
        assert!(peer.is_sound(), "libtdb finds it damaged");
    }
}

#[test]
fn transactions_of_killed_processes_are_whole_or_not_there() {
    kill_many(Way::Transactions, false, 60);
}

#[test]
fn transactions_of_killed_processes_are_whole_or_not_there_under_mutexes() {
    kill_many(Way::Transactions, true, 60);
}

#[test]
fn single_changes_of_killed_processes_lose_no_record_and_bring_none_back() {
    kill_many(Way::Single, false, 60);
}

#[test]
fn single_changes_of_killed_processes_lose_no_record_under_mutexes() {
    kill_many(Way::Single, true, 60);
}

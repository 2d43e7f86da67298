//! A file that is opened and changed. Whatever it is, nothing panics and every change ends; and one
//! that passed its check does so afterwards too, and holds what a map would hold after the same.
//!
//! Why what is to be done stands at the end of the bytes: a TDB file is then an input as it is, and
//! what the fuzzer changes in the file leaves the changes as they were.
//!
//! ```text
//! the file | changes, 3 bytes each: what, key, size | how it is opened | number of changes
//! ```

use super::read::ask;
use super::scratch::Scratch;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;
use tdb::{Create, Database, Error, Fault, Header, Options, Store, Transaction};

const CHANGES_MAX: usize = 24;
/// Keys of the file that are changed, besides those that it need not have.
const KEYS_MAX: usize = 16;
/// What of a file is on disk before other parts of it are: a sector.
const PART_BYTES: usize = 512;
/// Where the mutexes of a file begin that has some.
const MUTEXES_AT: usize = 168;

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Copy)]
struct Change {
    what: u8,
    key: u8,
    size: u8,
}

impl Change {
    fn data(self) -> Vec<u8> {
        let size = usize::from(self.size);
        vec![self.key; if size < 200 { size } else { (size - 199) * 37 }]
    }
}

/// How the file is opened: one bit each.
mod how {
    pub(super) const UNLOCKED: u8 = 1;
    pub(super) const UNMAPPED: u8 = 2;
    pub(super) const VOLATILE: u8 = 4;
    pub(super) const COUNTED: u8 = 8;
    /// Somebody has it open, and its mutexes are what the bytes say.
    pub(super) const SHARED: u8 = 16;
    /// A file that is made has mutexes.
    pub(super) const MUTEXES: u8 = 32;
}

type Set = fn(Options) -> Options;

fn options(how: u8) -> Options {
    let mut options = Options::new().create(Create::Missing).hash_size(3).unsynced();
    options = options.wait(Duration::ZERO);
    let bits: [(u8, Set); 5] = [
        (how::UNLOCKED, Options::unlocked),
        (how::UNMAPPED, Options::unmapped),
        (how::VOLATILE, Options::volatile),
        (how::COUNTED, Options::count_changes),
        (how::MUTEXES, Options::mutexes),
    ];
    for (_, set) in bits.iter().filter(|(bit, _)| how & bit != 0) {
        options = set(options);
    }
    options
}

pub(crate) fn write(input: &[u8]) {
    let Some((&count, rest)) = input.split_last() else { return };
    let Some((&how, rest)) = rest.split_last() else { return };
    let count = (usize::from(count) % (CHANGES_MAX + 1)).min(rest.len() / 3);
    let (bytes, changes) = rest.split_at(rest.len() - 3 * count);
    let changes = changes
        .chunks_exact(3)
        .map(|bytes| Change { what: bytes[0], key: bytes[1], size: bytes[2] })
        .collect();
    let file = Scratch::new(bytes);
    let options = options(how);
    let other = (how & how::SHARED != 0).then(|| options.open(file.path()));
    let damaged = other.as_ref().is_some_and(|other| spoil_mutexes(other, &file, bytes));
    if let Ok(database) = options.open(file.path()) {
        let is_sound = !damaged && is_sound(&database);
        let model = is_sound.then(|| records(&database));
        let keys = some_keys(&database);
        Trial { file, options, model, keys, changes, at: 0 }.run(database);
    }
    drop(other);
}

/// Whoever has a file open first makes its mutexes anew; this undoes that.
fn spoil_mutexes(other: &Result<Database, Error>, file: &Scratch, bytes: &[u8]) -> bool {
    let Ok(header) = other.as_ref().map_err(drop).and_then(|it| it.header().map_err(drop)) else {
        return true;
    };
    let area = bytes.get(MUTEXES_AT..header.mutex_size as usize);
    if let Some(area) = area {
        file.put(MUTEXES_AT as u64, area);
    }
    area.is_some()
}

/// Nothing is wrong, nor would libtdb's own check say so.
fn is_sound(database: &Database) -> bool {
    database.check().is_ok_and(|report| report.is_clean() && report.dead_space.is_empty())
}

/// The newest value of each key.
fn records(database: &Database) -> Records {
    let mut records = Records::new();
    database
        .traverse(|key, data| {
            records.entry(key.to_vec()).or_insert_with(|| data.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    records
}

fn some_keys(database: &Database) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = (0..KEYS_MAX as u8).map(|key| vec![key; key.into()]).collect();
    // A chain that is damaged ends it; what came before it will do.
    let _visited = database.traverse(|key, _| {
        keys.push(key.to_vec());
        if keys.len() < 2 * KEYS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    keys
}

struct Trial {
    file: Scratch,
    options: Options,
    /// `None`: the file is damaged, and nobody knows what a change comes to.
    model: Option<Records>,
    keys: Vec<Vec<u8>>,
    changes: Vec<Change>,
    at: usize,
}

/// How a transaction ended.
enum End {
    Ended,
    /// The writer died when these were the bytes of the file.
    Torn(Vec<u8>),
}

impl Trial {
    fn run(mut self, mut database: Database) {
        while let Some(change) = self.next() {
            match change.what % 16 {
                9 => {
                    let repacked = database.repack();
                    self.agree(repacked, |_| true);
                }
                10 | 11 => match self.transaction(&mut database) {
                    End::Ended => {}
                    End::Torn(bytes) => {
                        drop(database);
                        self.file = Scratch::new(&bytes);
                        let Some(again) = self.reopen() else { return };
                        database = again;
                    }
                },
                12 => {
                    drop(database);
                    let Some(again) = self.reopen() else { return };
                    database = again;
                }
                13 => {
                    if let Ok(mut all) = database.lock_all() {
                        self.next_single(&mut all);
                    }
                }
                14 => {
                    let key = self.key(change);
                    if let Ok(mut locked) = database.lock(&key) {
                        locked.store(&key, &change.data(), Store::Replace).unwrap_or_else(|why| {
                            assert!(self.model.is_none(), "{why}");
                        });
                        self.expect(|model| model.insert(key, change.data()));
                    }
                }
                _ => self.single(&mut database, change),
            }
            self.file.size();
        }
        self.verdict(&database);
    }

    fn next(&mut self) -> Option<Change> {
        let change = self.changes.get(self.at).copied();
        self.at += 1;
        change
    }

    fn key(&self, change: Change) -> Vec<u8> {
        self.keys[usize::from(change.key) % self.keys.len()].clone()
    }

    fn reopen(&self) -> Option<Database> {
        let opened = self.options.open(self.file.path());
        assert!(self.model.is_none() || opened.is_ok(), "{}", opened.unwrap_err());
        opened.ok()
    }

    fn next_single(&mut self, database: &mut Database) {
        if let Some(change) = self.next() {
            self.single(database, change);
        }
    }

    fn single(&mut self, database: &mut Database, change: Change) {
        let (key, data) = (self.key(change), change.data());
        match change.what % 16 {
            0..=2 => {
                let done = database.store(&key, &data, Store::Replace);
                self.agree(done, |model| {
                    model.insert(key, data);
                    true
                });
            }
            3 => {
                let done = database.store(&key, &data, Store::Insert);
                self.agree(done, |model| {
                    let is_new = !model.contains_key(&key);
                    model.entry(key).or_insert(data);
                    is_new
                });
            }
            4 => {
                let done = database.store(&key, &data, Store::Modify);
                self.agree(done, |model| model.get_mut(&key).map(|old| *old = data).is_some());
            }
            5 => {
                let done = database.append(&key, &data);
                self.agree(done, |model| {
                    model.entry(key).or_default().extend(data);
                    true
                });
            }
            6 | 7 => {
                let done = database.delete(&key);
                self.agree(done, |model| model.remove(&key).is_some());
            }
            8 => {
                let odd = usize::from(change.size % 2);
                let done = database.retain(|key, _| key.len() % 2 == odd);
                self.agree(done.map(drop), |model| {
                    model.retain(|key, _| key.len() % 2 == odd);
                    true
                });
            }
            _ => {
                let done = database.wipe();
                self.agree(done, |model| {
                    model.clear();
                    true
                });
            }
        }
    }

    /// A transaction with the next few changes, and one of the ways to end it.
    fn transaction(&mut self, database: &mut Database) -> End {
        let before = self.model.clone();
        let Ok(mut transaction) = database.transaction() else {
            assert!(self.model.is_none());
            return End::Ended;
        };
        let ending = loop {
            let Some(change) = self.next() else { break Change { what: 15, key: 0, size: 0 } };
            if 9 <= change.what % 16 {
                break change;
            }
            self.single(&mut transaction, change);
        };
        match ending.what % 4 {
            0 => self.end(transaction.commit()),
            1 => {
                self.model = before;
                self.end(transaction.cancel())
            }
            2 => self.end_prepared(transaction),
            _ => self.tear(transaction, before, u16::from_le_bytes([ending.key, ending.size])),
        }
    }

    fn end_prepared(&mut self, transaction: Transaction<'_>) -> End {
        let ended = transaction.prepare().and_then(|prepared| {
            // Others see nothing of it.
            let _others = Database::open_read_only(self.file.path());
            prepared.commit()
        });
        self.end(ended)
    }

    /// The writer dies after it has written `which` of its changes, or before it wrote any.
    fn tear(&mut self, transaction: Transaction<'_>, before: Option<Records>, which: u16) -> End {
        let prepared = transaction.prepare();
        self.model = before;
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(why) => return self.end(Err(why)),
        };
        let mut bytes = self.file.bytes();
        self.end(if which == 0 { prepared.cancel() } else { prepared.commit() });
        if which != 0 && self.model.is_some() {
            write_some(&mut bytes, &self.file.bytes(), which);
        }
        End::Torn(bytes)
    }

    fn end(&self, outcome: Result<(), Error>) -> End {
        if let Err(why) = outcome {
            assert!(self.model.is_none(), "{why}");
        }
        End::Ended
    }

    fn expect<T>(&mut self, change: impl FnOnce(&mut Records) -> T) {
        self.model.as_mut().map(change);
    }

    /// Changes the model too, which tells whether there was something to change.
    fn agree(&mut self, outcome: Result<(), Error>, change: impl FnOnce(&mut Records) -> bool) {
        let Some(model) = &mut self.model else { return };
        let expected = change(model);
        match outcome {
            Ok(()) => assert!(expected, "the model refuses"),
            Err(error) => {
                assert!(matches!(error.fault(), Fault::Exists | Fault::NotFound), "{error}");
                assert!(!expected, "the model allows");
            }
        }
    }

    fn verdict(&self, database: &Database) {
        let Some(model) = &self.model else { return ask_here(database) };
        let report = database.check().unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
        assert_eq!(records(database), *model);
        let other = Database::open_read_only(self.file.path()).unwrap();
        ask(&other);
        for (key, value) in model {
            assert_eq!(other.fetch(key).unwrap().as_ref(), Some(value));
        }
    }
}

/// Brings some parts of a file from before a commit to what they are afterwards, but for the recovery
/// area, which ceases to count last of all.
fn write_some(before: &mut [u8], after: &[u8], which: u16) {
    // Where the data begins, the first header says alone.
    let base = Header::parse(before.first_chunk().unwrap()).unwrap().mutex_size as usize;
    let header = Header::parse(before[base..].first_chunk().unwrap()).unwrap();
    let area = base + header.recovery_start as usize;
    let length = before[area + 4..].first_chunk().map(|bytes| header.order.number(*bytes));
    let end = area + length.unwrap() as usize;
    for (index, (to, from)) in before.iter_mut().zip(after).enumerate() {
        let is_written = which & 1 << (index / PART_BYTES % 16) != 0;
        if is_written && !(area..end).contains(&index) {
            *to = *from;
        }
    }
}

/// Asks what is open, and what another one sees.
fn ask_here(database: &Database) {
    let _report = database.check();
    let _stats = database.stats();
    let _rescued = database.rescue();
    if let Ok(bytes) = database.to_bytes()
        && let Ok(copy) = Database::from_bytes(bytes)
    {
        ask(&copy);
    }
}

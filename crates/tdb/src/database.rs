//! A database as those see it who read it.
//!
//! A handle that may only read takes no locks, as in libtdb, so that a dump never stops the writers.
//! What it reads may therefore change under it; a fault that a second look does not find was such a
//! moment. A handle that may write locks what it reads.
//! Invariant: nothing here changes a byte of the file, but for undoing an interrupted transaction.
//! Source: the TDB specification, sections 6.1, 6.2 and 13.1.

use crate::check::Report;
use crate::engine::{Engine, Met};
use crate::error::{Error, Fault};
use crate::hash::HashKind;
use crate::header::{Header, List};
use crate::locks::{Kind, Wait};
use crate::open;
use crate::rescue::Rescued;
use crate::stats::Stats;
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// How often something unsound is read again before it is believed to be unsound: a writer that was
/// in the middle of a change has long finished by then.
const READ_AGAIN_MAX: u32 = 3;

/// Memory that is kept for the next value.
const BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// An open database: a file, or memory. One thread uses it at a time; who wants more opens more, and
/// their locks keep them apart.
#[derive(Debug)]
pub struct Database {
    pub(crate) engine: Engine,
    path: Option<PathBuf>,
    pub(crate) read_only: bool,
    /// What the last value was read into.
    pub(crate) buffer: RefCell<Vec<u8>>,
    /// A change of the transaction that goes on failed half-way.
    pub(crate) spoiled: bool,
}

impl Database {
    pub(crate) fn new(engine: Engine, path: Option<&Path>) -> Self {
        let path = path.map(Path::to_path_buf);
        Self { engine, path, read_only: false, buffer: RefCell::default(), spoiled: false }
    }

    /// Opens a file for reading, without locks.
    ///
    /// # Errors
    /// If it can't be read, is no TDB file of a kind that this crate knows, or holds an interrupted
    /// transaction ([`Fault::RecoveryPending`]), which only somebody who may write can undo.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let engine = open::read_only(path).map_err(|fault| Error::new(Some(path), fault))?;
        Ok(Self { read_only: true, ..Self::new(engine, Some(path)) })
    }

    /// A database in memory, from the bytes of a file.
    ///
    /// # Errors
    /// As [`Database::open_read_only`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        let engine = open::from_bytes(&bytes).map_err(|fault| Error::new(None, fault))?;
        Ok(Self::new(engine, None))
    }

    /// An empty database in memory with this many chains, at least one.
    ///
    /// # Errors
    /// If there is no memory for the heads of so many chains.
    pub fn in_memory(hash_size: u32, hash: HashKind) -> Result<Self, Error> {
        let engine = open::in_memory(hash_size, hash).map_err(|fault| Error::new(None, fault))?;
        Ok(Self::new(engine, None))
    }

    /// The bytes of the database, as they would stand in a file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let _all = self.tell(self.engine.lock_all(Kind::Shared, Wait::Yes))?;
        let size = self.tell(self.engine.space.refresh())?;
        self.tell(self.engine.bytes(0, u32::try_from(size).unwrap_or(u32::MAX)))
    }

    /// What the header says now.
    pub fn header(&self) -> Result<Header, Error> {
        self.tell(self.engine.header())
    }

    /// The value of a key, if it has one.
    pub fn fetch(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.again(|engine| engine.fetch(key))
    }

    /// Lets a function look at the value of a key, without memory of its own for it: the bytes are
    /// those of the database at one moment, in memory that every call uses again. (A view of the
    /// file itself would change while it is looked at.)
    pub fn fetch_with<T>(
        &self,
        key: &[u8],
        look: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, Error> {
        // Taken, not borrowed: the function may fetch something itself.
        let mut buffer = self.buffer.take();
        let found = self.again(|engine| engine.fetch_into(key, &mut buffer));
        let looked = found.map(|found| found.then(|| look(&buffer)));
        self.keep_buffer(buffer);
        looked
    }

    /// Keeps memory for the next value, unless it is a lot.
    pub(crate) fn keep_buffer(&self, buffer: Vec<u8>) {
        if buffer.capacity() <= BUFFER_BYTES_MAX {
            self.buffer.replace(buffer);
        }
    }

    /// True if the key has a value.
    pub fn exists(&self, key: &[u8]) -> Result<bool, Error> {
        self.again(|engine| engine.exists(key))
    }

    /// Hands on every record, chain by chain and in each from its newest on; returns how many.
    ///
    /// # Errors
    /// A chain that is damaged hands on none of its records, and ends it; [`Database::rescue`] finds
    /// what it held.
    pub fn traverse(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<u64, Error> {
        let (mut visited, mut met) = (0, Met::default());
        for chain in 0..self.engine.shape.hash_size {
            let records;
            (records, met) = self.again(|engine| engine.chain(chain, met))?;
            for (key, data) in records {
                visited += 1;
                if visit(&key, &data).is_break() {
                    return Ok(visited);
                }
            }
        }
        Ok(visited)
    }

    /// Checks every rule of the format; what is wrong stands in the report.
    ///
    /// # Errors
    /// Only if the file can't be read at all.
    pub fn check(&self) -> Result<Report, Error> {
        let _all = self.tell(self.engine.lock_all(Kind::Shared, Wait::Yes))?;
        let mut report = self.tell(self.engine.check())?;
        for _ in 0..READ_AGAIN_MAX {
            if report.is_clean() {
                break;
            }
            report = self.tell(self.engine.check())?;
        }
        Ok(report)
    }

    /// Saves what can be saved of a damaged database.
    ///
    /// # Errors
    /// Only if the file can't be read at all.
    pub fn rescue(&self) -> Result<Rescued, Error> {
        let _all = self.tell(self.engine.lock_all(Kind::Shared, Wait::Yes))?;
        self.tell(self.engine.rescue())
    }

    /// What the database consists of.
    pub fn stats(&self) -> Result<Stats, Error> {
        let _all = self.tell(self.engine.lock_all(Kind::Shared, Wait::Yes))?;
        self.again(Engine::stats)
    }

    fn again<T>(&self, mut read: impl FnMut(&Engine) -> Result<T, Fault>) -> Result<T, Error> {
        let mut outcome = read(&self.engine);
        for _ in 0..READ_AGAIN_MAX {
            if !matches!(outcome, Err(Fault::Corrupt { .. } | Fault::OutOfBounds { .. })) {
                break;
            }
            outcome = read(&self.engine);
        }
        self.tell(outcome)
    }

    pub(crate) fn tell<T>(&self, outcome: Result<T, Fault>) -> Result<T, Error> {
        outcome.map_err(|fault| Error::new(self.path.as_deref(), fault))
    }
}

impl Engine {
    fn fetch(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let hash = self.shape.hash.of(key);
        let _locked = self.lock_list(List::Chain(self.shape.chain(hash)), Kind::Shared)?;
        self.find(key, hash)?.map(|at| self.data(at)).transpose()
    }

    /// As [`Engine::fetch`], into memory that was used before; false if there is no value.
    fn fetch_into(&self, key: &[u8], into: &mut Vec<u8>) -> Result<bool, Fault> {
        let hash = self.shape.hash.of(key);
        let chain = List::Chain(self.shape.chain(hash));
        let _locked = self.lock_list(chain, Kind::Shared)?;
        let Some(placed) = self.find(key, hash)? else { return Ok(false) };
        self.data_into(placed, into)?;
        Ok(true)
    }

    fn exists(&self, key: &[u8]) -> Result<bool, Fault> {
        let hash = self.shape.hash.of(key);
        let _locked = self.lock_list(List::Chain(self.shape.chain(hash)), Kind::Shared)?;
        Ok(self.find(key, hash)?.is_some())
    }

    /// Key and data of the live records of a chain, and what was met up to it.
    fn chain(&self, chain: u32, mut met: Met) -> Result<(Vec<Pair>, Met), Fault> {
        let _locked = self.lock_list(List::Chain(chain), Kind::Shared)?;
        let live = self.live(chain, &mut met)?;
        let (newest, _replaced) = self.part(live)?;
        let read = |placed| Ok((self.key(placed)?, self.data(placed)?));
        let records: Result<_, Fault> = newest.into_iter().map(read).collect();
        Ok((records?, met))
    }
}

//! A database as its users see it.
//!
//! Why no locks: a handle that may only read takes none in libtdb either, so that a dump never stops
//! the writers. What it reads may therefore change under it; a fault that a second look does not
//! find was such a moment.
//! Invariant: nothing here changes a byte of the file.
//! Source: the TDB specification, sections 6.1, 6.2 and 13.1.

use crate::check::Report;
use crate::engine::Engine;
use crate::error::{Error, Fault};
use crate::header::{HEADER_BYTES, Header, List};
use crate::record::magic;
use crate::rescue::Rescued;
use crate::space::{FileSpace, Space};
use crate::stats::Stats;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// How often something unsound is read again before it is believed to be unsound: a writer that was
/// in the middle of a change has long finished by then.
const READ_AGAIN_MAX: u32 = 3;

/// An open database that is only read.
#[derive(Debug)]
pub struct Database {
    engine: Engine,
    path: Option<PathBuf>,
}

impl Database {
    /// Opens a file for reading, without locks.
    ///
    /// # Errors
    /// If it can't be read, is no TDB file of a kind that this crate knows, or holds an interrupted
    /// transaction ([`Fault::RecoveryPending`]), which only somebody who may write can undo.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let engine = open(path).map_err(|fault| Error::new(Some(path), fault))?;
        Ok(Self { engine, path: Some(path.to_path_buf()) })
    }

    /// A database in memory, from the bytes of a file.
    ///
    /// # Errors
    /// As [`Database::open_read_only`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        let engine = from_bytes(bytes).map_err(|fault| Error::new(None, fault))?;
        Ok(Self { engine, path: None })
    }

    /// What the header says now.
    pub fn header(&self) -> Result<Header, Error> {
        self.tell(self.engine.header())
    }

    /// The value of a key, if it has one.
    pub fn fetch(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.fetch_with(key, <[u8]>::to_vec)
    }

    /// Looks at the value of a key where it is, without keeping a copy of it.
    pub fn fetch_with<T>(
        &self,
        key: &[u8],
        look: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, Error> {
        let value = self.again(|engine| engine.find(key)?.map(|at| engine.data(at)).transpose());
        Ok(value?.map(|value| look(&value)))
    }

    /// True if the key has a value.
    pub fn exists(&self, key: &[u8]) -> Result<bool, Error> {
        self.again(|engine| engine.find(key)).map(|found| found.is_some())
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
        let (mut visited, mut met) = (0, 0);
        for chain in 0..self.engine.shape.hash_size {
            let records = self.again(|engine| engine.chain(chain, &mut met))?;
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
        self.tell(self.engine.rescue())
    }

    /// What the database consists of.
    pub fn stats(&self) -> Result<Stats, Error> {
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

    fn tell<T>(&self, outcome: Result<T, Fault>) -> Result<T, Error> {
        outcome.map_err(|fault| Error::new(self.path.as_deref(), fault))
    }
}

impl Engine {
    /// Key and data of the live records of a chain; `met` counts the records of all chains.
    fn chain(&self, chain: u32, met: &mut u64) -> Result<Vec<Pair>, Fault> {
        let all = self.list(List::Chain(chain))?;
        *met += all.len() as u64;
        self.plausible(*met, chain)?;
        let live = all.into_iter().filter(|placed| placed.record.magic == magic::USED);
        live.map(|placed| Ok((self.key(placed)?, self.data(placed)?))).collect()
    }
}

fn open(path: &Path) -> Result<Engine, Fault> {
    let file = File::open(path).map_err(|source| Fault::Io {
        action: "open the file to read",
        offset: 0,
        source,
    })?;
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact_at(&mut bytes, 0).map_err(short_or_unreadable)?;
    let header = Header::parse(&bytes)?;
    // A file that is shorter than its mutexes has no data at all, which the engine finds out.
    let space = Space::File(FileSpace::new(file, header.mutex_size.into())?);
    begin(space, header)
}

fn from_bytes(bytes: Vec<u8>) -> Result<Engine, Fault> {
    let first = bytes.first_chunk().ok_or(Fault::NotTdb { expected: AT_LEAST })?;
    let header = Header::parse(first)?;
    let data = bytes.get(header.mutex_size as usize..).unwrap_or_default().to_vec();
    begin(Space::Memory(data), header)
}

const AT_LEAST: &str = "at least the 168 bytes of a header";

fn short_or_unreadable(source: io::Error) -> Fault {
    if source.kind() == io::ErrorKind::UnexpectedEof {
        return Fault::NotTdb { expected: AT_LEAST };
    }
    Fault::Io { action: "read", offset: 0, source }
}

fn begin(space: Space, header: Header) -> Result<Engine, Fault> {
    let engine = Engine::new(space, header.shape())?;
    engine.no_recovery_pending()?;
    Ok(engine)
}

//! Opening and creating databases.
//!
//! Whoever opens a file locks its first byte for the moment, so that only one at a time creates,
//! empties or mends it, and shows by a shared lock on byte 4 that it is in use.
//!
//! Why that sign is always shown, and kept: libtdb shows it only where it was asked to empty files
//! that nobody uses, and so empties them under the feet of all others, and initialises mutexes that
//! are held. Who shows it is safe from both.
//! Invariants: a file that is no TDB file is never overwritten, but for an empty one; what an
//! interrupted transaction left is undone before anything is read.
//! Source: the TDB specification, sections 6.1 to 6.3, 22.4, 22.9 and 22.11.

use crate::database::Database;
use crate::engine::{Engine, Settings};
use crate::error::{Error, Fault};
use crate::file::FileSpace;
use crate::hash::HashKind;
use crate::header::{ByteOrder, HEADER_BYTES, Header, at};
use crate::locks::{Kind, Locks, Wait, byte};
use crate::os::mutex::{MutexArea, area_bytes};
use crate::os::page::page_size;
use crate::space::Space;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Chains of a new file, unless asked otherwise; libtdb's number.
const HASH_SIZE: u32 = 131;
/// Deleted records that stay on each chain of a database that changes all the time.
const MAX_DEAD_VOLATILE: u32 = 5;
/// How long a lock is waited for, unless asked otherwise.
const WAIT: Duration = Duration::from_mins(1);

/// What is done about a file that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Create {
    /// It is an error.
    #[default]
    Never,
    /// It is made.
    Missing,
    /// It is made, and it is an error if it was there.
    New,
}

/// How a database is opened for reading and writing.
///
/// ```no_run
/// let mut database = tdb::Options::new().create(tdb::Create::Missing).open("state.tdb")?;
/// database.store(b"leader", b"node 3", tdb::Store::Replace)?;
/// # Ok::<(), tdb::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    create: Create,
    hash_size: u32,
    hash: HashKind,
    order: ByteOrder,
    mode: u32,
    clear_if_first: bool,
    mutexes: bool,
    locking: bool,
    mapped: bool,
    wait: Duration,
    settings: Settings,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// An existing file, locked against others, kept safe from power loss in transactions.
    pub fn new() -> Self {
        Self {
            create: Create::Never,
            hash_size: HASH_SIZE,
            hash: HashKind::Default,
            order: ByteOrder::NATIVE,
            mode: 0o600,
            clear_if_first: false,
            mutexes: false,
            locking: true,
            mapped: true,
            wait: WAIT,
            settings: Settings { max_dead: 0, sequence: false, sync: true },
        }
    }

    /// What to do about a file that is not there; an empty file counts as not there.
    pub fn create(mut self, create: Create) -> Self {
        self.create = create;
        self
    }

    /// Chains of a file that is made: about as many as there will be records.
    pub fn hash_size(mut self, chains: u32) -> Self {
        self.hash_size = chains;
        self
    }

    /// Hash function of a file that is made.
    pub fn hash(mut self, hash: HashKind) -> Self {
        self.hash = hash;
        self
    }

    /// Byte order of a file that is made; this machine's unless said otherwise.
    pub fn order(mut self, order: ByteOrder) -> Self {
        self.order = order;
        self
    }

    /// Permission bits of a file that is made; 0600 unless said otherwise.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Empties the file if nobody has it open: what it holds is worth nothing without the processes
    /// that wrote it. libtdb's `CLEAR_IF_FIRST`.
    pub fn clear_if_first(mut self, clear: bool) -> Self {
        self.clear_if_first = clear;
        self
    }

    /// Gives a file that is made mutexes to lock instead of its bytes, and with them the jenkins hash,
    /// as libtdb does. Files that have mutexes are opened as such without being asked; they can only
    /// be shared by processes with the same C library and the same size of pages.
    pub fn mutexes(mut self) -> Self {
        self.mutexes = true;
        self.hash = HashKind::Jenkins;
        self
    }

    /// Takes no locks at all: for somebody who knows that nobody else has the file open.
    pub fn unlocked(mut self) -> Self {
        self.locking = false;
        self
    }

    /// Reads and writes by system calls instead of a mapping: slower, but nobody who truncates the
    /// file, against the rules, can kill this process by it.
    pub fn unmapped(mut self) -> Self {
        self.mapped = false;
        self
    }

    /// How long a lock is waited for before [`Fault::Busy`]; a minute unless said otherwise.
    pub fn wait(mut self, limit: Duration) -> Self {
        self.wait = limit;
        self
    }

    /// Does not wait for the disk: transactions are then safe from killed processes, but not from
    /// power loss.
    pub fn unsynced(mut self) -> Self {
        self.settings.sync = false;
        self
    }

    /// Counts every change in [`Header::sequence`].
    pub fn count_changes(mut self) -> Self {
        self.settings.sequence = true;
        self
    }

    /// Keeps a few deleted records on each chain, to be used again without a look at the free list:
    /// for databases that change all the time. libtdb's `VOLATILE`.
    pub fn volatile(mut self) -> Self {
        self.settings.max_dead = MAX_DEAD_VOLATILE;
        self
    }

    /// Opens the file.
    ///
    /// # Errors
    /// If it can't be opened, is no TDB file that this crate knows, or somebody keeps it locked for
    /// longer than [`Options::wait`] says.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Database, Error> {
        let path = path.as_ref();
        let engine = self.engine(path).map_err(|fault| Error::new(Some(path), fault))?;
        Ok(Database::new(engine, Some(path)))
    }

    fn engine(&self, path: &Path) -> Result<Engine, Fault> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(self.mode);
        match self.create {
            Create::Never => &mut options,
            Create::Missing => options.create(true),
            Create::New => options.create_new(true),
        };
        let file = options.open(path).map_err(|why| failed("open the file to write", why))?;
        let file = Arc::new(file);
        let mut locks = Locks::new(self.locking.then(|| Arc::clone(&file)), self.wait);
        let right = (byte::OPEN, 1);
        locks.take(right, Kind::Exclusive, &locks.patience(Wait::Yes), "the right to open")?;
        // Whatever fails from here on closes the file, and its locks with it.
        let header = self.first_look(&file, &mut locks)?;
        let base = header.mutex_size.into();
        let file = match self.mapped {
            true => FileSpace::mapped(file, base)?,
            false => FileSpace::new(file, base)?,
        };
        let engine = Engine::new(Space::File(file), header.shape(), self.settings, locks)?;
        engine.recover()?;
        engine.locks.give_up(right);
        Ok(engine)
    }

    /// Creates, empties, or just reads the header; shows that the file is in use.
    fn first_look(&self, file: &File, locks: &mut Locks) -> Result<Header, Fault> {
        let in_use = (byte::ACTIVE, 1);
        if self.clear_if_first && locks.try_take(in_use, Kind::Exclusive)? {
            let all = (HEADER_BYTES as u64, 0);
            locks.take(all, Kind::Exclusive, &locks.patience(Wait::Yes), "the whole database")?;
            self.make(file)?;
            locks.give_up(all);
        } else if is_unmade(file)? {
            if self.create == Create::Never {
                return Err(Fault::NotTdb { expected: AT_LEAST });
            }
            self.make(file)?;
        }
        let header = read_header(file)?;
        if header.mutex_size != 0 && self.locking {
            let area = mutex_area(file, &header)?;
            // Nobody else has the file open, so what is locked was locked by dead ones.
            if locks.try_take(in_use, Kind::Exclusive)? {
                area.initialise().map_err(|why| failed("initialise the mutexes", why))?;
            }
            locks.use_mutexes(area);
        }
        let what = "the sign that the file is in use";
        locks.take(in_use, Kind::Shared, &locks.patience(Wait::Yes), what)?;
        Ok(header)
    }

    /// Makes an empty database of the file.
    fn make(&self, file: &File) -> Result<(), Fault> {
        let mut header = Header::new(self.hash_size, self.hash, self.order)?;
        if self.mutexes {
            header.mutex_size = mutex_bytes(self.hash_size)?;
        }
        let base = u64::from(header.mutex_size);
        let mut bytes = header.encode().to_vec();
        bytes.resize(header.shape().data_start() as usize, 0);
        file.set_len(0).map_err(|why| failed("empty", why))?;
        if self.mutexes {
            // First of all: by it, whoever comes after a killed one sees what this was to become.
            file.write_all_at(&header.encode(), 0).map_err(|why| failed("create", why))?;
            let area = file.set_len(base).and_then(|()| MutexArea::map(file, self.hash_size));
            let made = area.and_then(|area| area.initialise());
            made.map_err(|why| failed("make the mutexes of", why))?;
        }
        file.write_all_at(&bytes, base).map_err(|why| failed("create", why))
    }
}

/// Whether the file is empty, or was left before its mutexes and heads were made.
fn is_unmade(file: &File) -> Result<bool, Fault> {
    let length = length(file)?;
    if length < HEADER_BYTES as u64 {
        return Ok(length == 0);
    }
    // What is no header at all is told by whoever reads it next.
    let header = read_header(file).ok().filter(|header| header.mutex_size != 0);
    let whole = header.map(|header| u64::from(header.mutex_size) + header.shape().data_start());
    Ok(whole.is_some_and(|whole| length < whole))
}

/// The mutexes of a file that has some, if they are those of this machine.
fn mutex_area(file: &File, header: &Header) -> Result<MutexArea, Fault> {
    let expected = mutex_bytes(header.hash_size)?;
    if header.mutex_size != expected {
        return Err(Fault::Header {
            field: "mutex_size",
            offset: at::MUTEX_SIZE as u64,
            expected: "what the mutexes of this machine and C library take",
            found: header.mutex_size.into(),
        });
    }
    MutexArea::map(file, header.hash_size).map_err(|why| failed("map the mutexes of", why))
}

fn mutex_bytes(hash_size: u32) -> Result<u32, Fault> {
    let wanted = area_bytes(hash_size, page_size());
    u32::try_from(wanted).map_err(|_| Fault::Full { size: 0, wanted })
}

fn read_header(file: &File) -> Result<Header, Fault> {
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact_at(&mut bytes, 0).map_err(short_or_unreadable)?;
    Header::parse(&bytes)
}

fn failed(action: &'static str, source: io::Error) -> Fault {
    Fault::Io { action, offset: 0, source }
}

fn length(file: &File) -> Result<u64, Fault> {
    let metadata = file.metadata().map_err(|why| failed("look up the size", why))?;
    Ok(metadata.len())
}

/// Opens a file to be read only, without locks.
pub(crate) fn read_only(path: &Path) -> Result<Engine, Fault> {
    let file = File::open(path).map_err(|why| failed("open the file to read", why))?;
    let header = read_header(&file)?;
    // A file that is shorter than its mutexes has no data at all, which the engine finds out.
    let space = Space::File(FileSpace::new(Arc::new(file), header.mutex_size.into())?);
    without_locks(space, header)
}

/// A database in memory, from the bytes of a file.
pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Engine, Fault> {
    let first = bytes.first_chunk().ok_or(Fault::NotTdb { expected: AT_LEAST })?;
    let header = Header::parse(first)?;
    let data = bytes.get(header.mutex_size as usize..).unwrap_or_default().to_vec();
    without_locks(Space::Memory(data.into()), header)
}

/// A database in memory.
pub(crate) fn in_memory(hash_size: u32, hash: HashKind) -> Result<Engine, Fault> {
    let header = Header::new(hash_size, hash, ByteOrder::NATIVE)?;
    without_locks(Space::new_memory(&header)?, header)
}

const AT_LEAST: &str = "at least the 168 bytes of a header";

fn short_or_unreadable(source: io::Error) -> Fault {
    if source.kind() == io::ErrorKind::UnexpectedEof {
        return Fault::NotTdb { expected: AT_LEAST };
    }
    failed("read", source)
}

fn without_locks(space: Space, header: Header) -> Result<Engine, Fault> {
    let locks = Locks::new(None, WAIT);
    let engine = Engine::new(space, header.shape(), Settings::default(), locks)?;
    engine.no_recovery_pending()?;
    Ok(engine)
}

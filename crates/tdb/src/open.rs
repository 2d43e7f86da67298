//! Opening and creating databases.
//!
//! Whoever opens a file locks its first byte for the moment, so that only one at a time creates,
//! empties or mends it, and shows by a shared lock on byte 4 that it is in use.
//!
//! Why that sign is always shown, and kept: libtdb shows it only where it was asked to empty files
//! that nobody uses, and so empties them under the feet of all others, and initialises mutexes that
//! are held. Who shows it is safe from both.
//! Invariants: a file that is no TDB file is never overwritten, but for an empty one, nor is one that
//! holds a record, unless that was asked for; mutexes are made anew only by somebody who is known to be
//! alone; nobody who keeps others from opening waits long for anything else; what an interrupted transaction left is undone before anything is read.
//! Source: the TDB specification, sections 6.1 to 6.3, 22.4, 22.9 and 22.11.

use crate::database::Database;
use crate::engine::{Engine, Settings};
use crate::error::{Error, Fault};
use crate::file::{FileSpace, reserve};
use crate::hash::HashKind;
use crate::header::{ByteOrder, HEADER_BYTES, Header, WORDS, at};
use crate::locks::{Kind, Locks, Wait, byte};
use crate::os::lease;
use crate::os::mutex::{MutexArea, area_bytes};
use crate::os::page::page_size;
use crate::sign::{IN_USE, Sign};
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

/// What is locked while a database is opened.
const RIGHT_TO_OPEN: (u64, u64) = (byte::OPEN, 1);
/// All lists and records.
const ALL: (u64, u64) = (HEADER_BYTES as u64, 0);
/// How long everything is waited for while others are kept from opening: whoever has it may wait for
/// just that.
const CIRCLE_WAIT: Duration = Duration::from_millis(20);
/// Bytes that are looked through at a time.
const PIECE_BYTES: u64 = 64 * 1024;

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
        // Whatever fails from here on closes the file, and its locks with it.
        let header = self.first_look(&file, &locks)?;
        if header.mutex_size != 0 && self.locking {
            let area = mutex_area(&file, &header)?;
            // What is locked was locked by dead ones, whom the kernel has told of nobody if the machine
            // was started anew since. Where nobody knows whether others have the file open, the mutexes
            // stay as they are: those of libtdb that do show it only if they were the first.
            if locks.try_take(IN_USE, Kind::Exclusive)? && lease::is_alone(&file) {
                area.initialise().map_err(|why| failed("initialise the mutexes", why))?;
            }
            locks.use_mutexes(area);
        }
        if self.locking {
            locks.show(Sign::show(&file, &locks)?);
        }
        let base = header.mutex_size.into();
        let file = match self.mapped {
            true => FileSpace::mapped(file, base)?,
            false => FileSpace::new(file, base)?,
        };
        let engine = Engine::new(Space::File(file), header.shape(), self.settings, locks)?;
        engine.recover()?;
        engine.locks.give_up(RIGHT_TO_OPEN);
        Ok(engine)
    }

    /// Takes the right to open, creates or empties the file, or just reads its header.
    fn first_look(&self, file: &File, locks: &Locks) -> Result<Header, Fault> {
        let patience = locks.patience(Wait::Yes);
        let what = "the whole database";
        loop {
            locks.take(RIGHT_TO_OPEN, Kind::Exclusive, &patience, "the right to open")?;
            if !self.clear_if_first || !locks.try_take(IN_USE, Kind::Exclusive)? {
                break;
            }
            if length(file)? != 0 {
                begins_as_one(file)?;
            }
            // Somebody of libtdb who shows no sign may hold it, and wait for the right to open: what is
            // held is given up again before he is waited for any longer.
            match locks.take(ALL, Kind::Exclusive, &patience.at_most(CIRCLE_WAIT), what) {
                Ok(()) => {
                    self.make(file)?;
                    locks.give_up(ALL);
                    return read_header(file);
                }
                Err(Fault::Busy { .. }) => {}
                Err(fault) => return Err(fault),
            }
            locks.give_up(IN_USE);
            locks.give_up(RIGHT_TO_OPEN);
            patience.pause(what)?;
        }
        if is_unmade(file)? && (length(file)? == 0 || locks.try_take(IN_USE, Kind::Exclusive)?) {
            if self.create == Create::Never {
                return Err(Fault::NotTdb { expected: AT_LEAST });
            }
            self.make(file)?;
        }
        read_header(file)
    }

    /// Makes an empty database of the file. The header comes first, by one write: whoever finds a file
    /// with nothing but a header, and shorter than that says, makes it again.
    fn make(&self, file: &File) -> Result<(), Fault> {
        let mut header = Header::new(self.hash_size, self.hash, self.order)?;
        if self.mutexes {
            header.mutex_size = mutex_bytes(self.hash_size)?;
        }
        file.set_len(0).map_err(|why| failed("empty", why))?;
        let made = fill(file, &header);
        if made.is_err() {
            // So that a full disk is not kept full; if it can't be, it is found to be unmade.
            let _emptied = file.set_len(0);
        }
        made
    }
}

/// Fills an empty file. Everything is reserved before it is written through a mapping, and the file has
/// its whole length only when all of it is there.
fn fill(file: &File, header: &Header) -> Result<(), Fault> {
    let (bytes, base) = (header.encode(), u64::from(header.mutex_size));
    let behind = HEADER_BYTES as u64;
    let create = |why| failed("create", why);
    file.write_all_at(&bytes, 0).map_err(create)?;
    if base != 0 {
        reserve(file, behind, base - behind).map_err(create)?;
        let made = MutexArea::map(file, header.hash_size).and_then(|area| area.initialise());
        made.map_err(|why| failed("make the mutexes of", why))?;
        file.write_all_at(&bytes, base).map_err(create)?;
    }
    reserve(file, base + behind, header.shape().data_start() - behind).map_err(create)
}

/// Whether the file is empty, or was left before all of it was made. Then there is nothing in it that
/// could be lost, whatever the header says: no record, which is never all zeros.
fn is_unmade(file: &File) -> Result<bool, Fault> {
    let length = length(file)?;
    if length < HEADER_BYTES as u64 {
        return Ok(length == 0);
    }
    // What is no header at all is told by whoever reads it next.
    let Ok(header) = read_header(file) else { return Ok(false) };
    let base = u64::from(header.mutex_size);
    if base != 0 && mutex_bytes(header.hash_size).ok() != Some(header.mutex_size) {
        return Ok(false);
    }
    if base + header.shape().data_start() <= length {
        return Ok(false);
    }
    if base == 0 {
        return are_zeros(file, HEADER_BYTES as u64, length);
    }
    // The header stands once more behind the mutexes, or part of it.
    let bytes = header.encode();
    let mut found = vec![0; length.saturating_sub(base).min(HEADER_BYTES as u64) as usize];
    file.read_exact_at(&mut found, base).map_err(short_or_unreadable)?;
    let is_new = bytes.starts_with(&found) || found.iter().all(|byte| *byte == 0);
    Ok(is_new && are_zeros(file, base + HEADER_BYTES as u64, length)?)
}

fn are_zeros(file: &File, from: u64, to: u64) -> Result<bool, Fault> {
    let mut offset = from;
    while offset < to {
        let mut piece = vec![0; (to - offset).min(PIECE_BYTES) as usize];
        file.read_exact_at(&mut piece, offset).map_err(short_or_unreadable)?;
        if piece.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += piece.len() as u64;
    }
    Ok(true)
}

/// Fails for what was never a TDB file, or has lost its beginning.
fn begins_as_one(file: &File) -> Result<(), Fault> {
    let mut bytes = [0; WORDS.len()];
    file.read_exact_at(&mut bytes, 0).map_err(short_or_unreadable)?;
    if bytes == *WORDS {
        Ok(())
    } else {
        Err(Fault::NotTdb { expected: "the words `TDB file` at the beginning" })
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::range;
    use crate::os::testing::wait_for;

    /// As a process of libtdb does that shows no sign: it has everything, and waits for the right to
    /// open, which whoever wants to empty the file has.
    #[test]
    fn who_empties_a_file_does_not_wait_for_somebody_who_waits_for_him() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        drop(Options::new().create(Create::Missing).open(&path).unwrap());
        let committer = File::options().read(true).write(true).open(&path).unwrap();
        assert!(range::try_lock(&committer, Kind::Exclusive, ALL.0, ALL.1).unwrap());
        let options = Options::new().clear_if_first(true).wait(Duration::from_mins(10));
        let opener = std::thread::spawn(move || options.open(&path).map(drop));
        let byte = |question: fn(&File, Kind, u64, u64) -> io::Result<bool>| {
            question(&committer, Kind::Exclusive, byte::OPEN, 1).unwrap()
        };
        wait_for("the one who opens", || !byte(range::probe));
        wait_for("the right to open", || byte(range::try_lock));
        assert!(!opener.is_finished());
        range::unlock(&committer, 0, 0).unwrap();
        opener.join().unwrap().unwrap();
    }
}

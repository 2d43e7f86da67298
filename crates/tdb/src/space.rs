//! The bytes of a database: a file, or memory.
//!
//! Why positioned reads instead of a mapping: a file that somebody truncates kills every process
//! that looks at the lost pages, and memory that other processes write to must not be a slice. What
//! a system call costs is known; a daemon that dies of `SIGBUS` is not what this crate is for.
//! Invariants: offsets are of the data space (in front of it lies the mutex area of some files); no
//! access reaches beyond the size, and where one would, the size is looked up again first, because
//! other processes make files longer without telling.
//! Source: the TDB specification, sections 1 and 12.2.

#[cfg(test)]
use crate::death;
use crate::error::Fault;
use crate::header::Header;
use crate::overlay::Overlay;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Offsets are 32 bits wide, so no more than this can be used.
pub(crate) const DATA_BYTES_MAX: u64 = u32::MAX as u64;

/// Bytes that are addressed by offset.
#[derive(Debug)]
pub(crate) enum Space {
    File(FileSpace),
    Memory(RefCell<Vec<u8>>),
    /// A file during a transaction.
    Overlay(Box<Overlay>),
}

impl Space {
    /// A space without bytes.
    pub(crate) fn nothing() -> Self {
        Self::Memory(RefCell::new(Vec::new()))
    }

    /// The memory of an empty database.
    pub(crate) fn new_memory(header: &Header) -> Result<Self, Fault> {
        let space = Self::nothing();
        space.grow(header.shape().data_start())?;
        space.write(0, &header.encode())?;
        Ok(space)
    }

    /// Size of the data space, as it was last seen.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::File(file) => file.size.get(),
            Self::Memory(bytes) => bytes.borrow().len() as u64,
            Self::Overlay(overlay) => overlay.size(),
        }
    }

    /// Looks the size up again.
    pub(crate) fn refresh(&self) -> Result<u64, Fault> {
        match self {
            Self::File(file) => file.refresh(),
            Self::Memory(_) | Self::Overlay(_) => Ok(self.size()),
        }
    }

    /// Fails unless these bytes are there; other processes may have made the file longer.
    pub(crate) fn within(&self, offset: u64, length: u64) -> Result<(), Fault> {
        let end = offset.saturating_add(length);
        if end <= self.size() {
            return Ok(());
        }
        let size = self.refresh()?;
        if end <= size { Ok(()) } else { Err(Fault::OutOfBounds { offset, length, size }) }
    }

    /// Fills `into` with what stands at `offset`.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Fault> {
        let length = into.len() as u64;
        self.within(offset, length)?;
        match self {
            Self::File(file) => file.read(offset, into),
            Self::Overlay(overlay) => overlay.read(offset, into),
            Self::Memory(bytes) => match piece(&mut bytes.borrow_mut(), offset, into.len()) {
                Some(from) => {
                    into.copy_from_slice(from);
                    Ok(())
                }
                None => Err(Fault::OutOfBounds { offset, length, size: self.size() }),
            },
        }
    }

    /// Puts `from` at `offset`; never makes the space longer.
    pub(crate) fn write(&self, offset: u64, from: &[u8]) -> Result<(), Fault> {
        let length = from.len() as u64;
        self.within(offset, length)?;
        match self {
            Self::File(file) => file.write(offset, from),
            Self::Overlay(overlay) => overlay.write(offset, from),
            Self::Memory(bytes) => match piece(&mut bytes.borrow_mut(), offset, from.len()) {
                Some(into) => {
                    into.copy_from_slice(from);
                    Ok(())
                }
                None => Err(Fault::OutOfBounds { offset, length, size: self.size() }),
            },
        }
    }

    /// Waits until everything that was written is on disk.
    pub(crate) fn sync(&self) -> Result<(), Fault> {
        match self {
            Self::File(file) => file.sync(),
            Self::Overlay(overlay) => overlay.file().sync(),
            Self::Memory(_) => Ok(()),
        }
    }

    /// Makes the space longer, to this size; what is new reads as zeros. A space is never made
    /// shorter: others may be reading it.
    ///
    /// # Errors
    /// [`Fault::Full`] beyond what an offset can address; whatever the file system says. Then the
    /// size is what it was.
    pub(crate) fn grow(&self, size: u64) -> Result<(), Fault> {
        if DATA_BYTES_MAX < size {
            return Err(Fault::Full { size: self.size(), wanted: size });
        }
        match self {
            Self::File(file) => file.grow(size),
            Self::Overlay(overlay) => overlay.grow(size),
            Self::Memory(bytes) => {
                let mut bytes = bytes.borrow_mut();
                let more = (size as usize).saturating_sub(bytes.len());
                let failed = |_| Fault::Io {
                    action: "reserve memory",
                    offset: size,
                    source: io::ErrorKind::OutOfMemory.into(),
                };
                bytes.try_reserve(more).map_err(failed)?;
                let longer = bytes.len() + more;
                bytes.resize(longer, 0);
                Ok(())
            }
        }
    }
}

fn piece(bytes: &mut [u8], offset: u64, length: usize) -> Option<&mut [u8]> {
    bytes.get_mut(usize::try_from(offset).ok()?..)?.get_mut(..length)
}

/// A file, behind its mutex area if it has one.
#[derive(Debug)]
pub(crate) struct FileSpace {
    file: Arc<File>,
    /// File offset of the data space.
    base: u64,
    size: Cell<u64>,
}

impl FileSpace {
    pub(crate) fn new(file: Arc<File>, base: u64) -> Result<Self, Fault> {
        let space = Self { file, base, size: Cell::new(0) };
        space.refresh()?;
        Ok(space)
    }

    fn refresh(&self) -> Result<u64, Fault> {
        let metadata = self.file.metadata().map_err(|why| self.io("look up the size", 0, why))?;
        let size = metadata.len().saturating_sub(self.base).min(DATA_BYTES_MAX);
        self.size.set(size);
        Ok(size)
    }

    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Fault> {
        self.file.read_exact_at(into, self.base + offset).map_err(|why| {
            // The file became shorter between the look at its size and the reading.
            if why.kind() == io::ErrorKind::UnexpectedEof {
                let size = self.refresh().unwrap_or(0);
                return Fault::OutOfBounds { offset, length: into.len() as u64, size };
            }
            self.io("read", offset, why)
        })
    }

    pub(crate) fn write(&self, offset: u64, from: &[u8]) -> Result<(), Fault> {
        #[cfg(test)]
        let from = death::before_write(from);
        let written = self.file.write_all_at(from, self.base + offset);
        #[cfg(test)]
        let written = written.and_then(|()| death::now());
        written.map_err(|why| self.io("write", offset, why))
    }

    /// Reserves the space on disk, so that no later write to it can fail for want of space.
    pub(crate) fn grow(&self, size: u64) -> Result<(), Fault> {
        #[cfg(test)]
        death::now().map_err(|why| self.io("grow", size, why))?;
        let from = self.refresh()?;
        let more = size.saturating_sub(from);
        if more == 0 {
            return Ok(());
        }
        let reserved = rustix::fs::fallocate(
            &*self.file,
            rustix::fs::FallocateFlags::empty(),
            self.base + from,
            more,
        );
        let grown = match reserved {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.fill(from, more),
            outcome => outcome.map_err(io::Error::from),
        };
        if let Err(why) = grown {
            // What was reserved of it is given back; nobody refers to it yet.
            let undone = self.file.set_len(self.base + from);
            self.refresh()?;
            return Err(self.io("grow", from, undone.err().unwrap_or(why)));
        }
        self.refresh().map(|_| ())
    }

    pub(crate) fn sync(&self) -> Result<(), Fault> {
        self.file.sync_data().map_err(|why| self.io("sync", 0, why))
    }

    /// For file systems that cannot reserve: only what was written is really there.
    fn fill(&self, from: u64, more: u64) -> io::Result<()> {
        let zeros = vec![0; FILL_BYTES.min(more) as usize];
        let mut done = 0;
        while done < more {
            let length = (more - done).min(zeros.len() as u64) as usize;
            let piece = zeros.get(..length).unwrap_or_default();
            self.file.write_all_at(piece, self.base + from + done)?;
            done += length as u64;
        }
        Ok(())
    }

    fn io(&self, action: &'static str, offset: u64, source: io::Error) -> Fault {
        Fault::Io { action, offset: self.base + offset, source }
    }
}

/// Zeros that are written at a time.
const FILL_BYTES: u64 = 64 * 1024;

//! The bytes of a database: a file, or memory.
//!
//! Why positioned reads instead of a mapping: a file that somebody truncates kills every process
//! that looks at the lost pages, and memory that other processes write to must not be a slice. What
//! a system call costs is known; a daemon that dies of `SIGBUS` is not what this crate is for.
//! Invariants: offsets are of the data space (in front of it lies the mutex area of some files); no
//! access reaches beyond the size, and where one would, the size is looked up again first, because
//! other processes make files longer without telling.
//! Source: the TDB specification, sections 1 and 12.2.

use crate::error::Fault;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Offsets are 32 bits wide, so no more than this can be used.
const DATA_BYTES_MAX: u64 = u32::MAX as u64;

/// Bytes that are addressed by offset.
#[derive(Debug)]
pub(crate) enum Space {
    File(FileSpace),
    Memory(Vec<u8>),
}

impl Space {
    /// Size of the data space, as it was last seen.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::File(file) => file.size.load(Ordering::Relaxed),
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Looks the size up again.
    pub(crate) fn refresh(&self) -> Result<u64, Fault> {
        match self {
            Self::File(file) => file.refresh(),
            Self::Memory(_) => Ok(self.size()),
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
            Self::Memory(bytes) => {
                let from = usize::try_from(offset).ok().and_then(|start| bytes.get(start..));
                match from.and_then(|rest| rest.get(..into.len())) {
                    Some(from) => into.copy_from_slice(from),
                    None => return Err(Fault::OutOfBounds { offset, length, size: self.size() }),
                }
                Ok(())
            }
        }
    }
}

/// A file, behind its mutex area if it has one.
#[derive(Debug)]
pub(crate) struct FileSpace {
    file: File,
    /// File offset of the data space.
    base: u64,
    size: AtomicU64,
}

impl FileSpace {
    pub(crate) fn new(file: File, base: u64) -> Result<Self, Fault> {
        let space = Self { file, base, size: AtomicU64::new(0) };
        space.refresh()?;
        Ok(space)
    }

    fn refresh(&self) -> Result<u64, Fault> {
        let metadata = self.file.metadata().map_err(|why| self.io("look up the size", 0, why))?;
        let size = metadata.len().saturating_sub(self.base).min(DATA_BYTES_MAX);
        self.size.store(size, Ordering::Relaxed);
        Ok(size)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Fault> {
        self.file.read_exact_at(into, self.base + offset).map_err(|why| {
            // The file became shorter between the look at its size and the reading.
            if why.kind() == io::ErrorKind::UnexpectedEof {
                let size = self.refresh().unwrap_or(0);
                return Fault::OutOfBounds { offset, length: into.len() as u64, size };
            }
            self.io("read", offset, why)
        })
    }

    fn io(&self, action: &'static str, offset: u64, source: io::Error) -> Fault {
        Fault::Io { action, offset: self.base + offset, source }
    }
}

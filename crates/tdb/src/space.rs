//! The bytes of a database: a file, or memory.
//!
//! Invariants: offsets are of the data space (in front of it lies the mutex area of some files); no
//! access reaches beyond the size, and where one would, the size is looked up again first, because
//! other processes make files longer without telling.
//! Source: the TDB specification, sections 1 and 12.2.

use crate::error::Fault;
use crate::file::FileSpace;
use crate::header::{ByteOrder, Header};
use crate::overlay::Overlay;
use std::cell::RefCell;
use std::io;

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
    #[inline]
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::File(file) => file.size(),
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
    #[inline]
    pub(crate) fn within(&self, offset: u64, length: u64) -> Result<(), Fault> {
        let end = offset.saturating_add(length);
        if end <= self.size() { Ok(()) } else { self.within_what_is_new(offset, length, end) }
    }

    #[cold]
    fn within_what_is_new(&self, offset: u64, length: u64, end: u64) -> Result<(), Fault> {
        let size = self.refresh()?;
        if end <= size { Ok(()) } else { Err(Fault::OutOfBounds { offset, length, size }) }
    }

    /// Numbers that stand beside each other.
    #[inline]
    pub(crate) fn words<const N: usize>(
        &self,
        offset: u64,
        order: ByteOrder,
    ) -> Result<[u32; N], Fault> {
        // What is mapped is there.
        if let Self::File(file) = self
            && let Some(words) = file.words(offset)
        {
            return Ok(words.map(|word| order.number(word.to_ne_bytes())));
        }
        self.words_elsewhere(offset, order)
    }

    fn words_elsewhere<const N: usize>(
        &self,
        offset: u64,
        order: ByteOrder,
    ) -> Result<[u32; N], Fault> {
        self.within(offset, 4 * N as u64)?;
        let mut bytes = [[0; 4]; N];
        self.read(offset, bytes.as_flattened_mut())?;
        Ok(bytes.map(|word| order.number(word)))
    }

    /// What stands at `offset`, as a copy.
    pub(crate) fn bytes(&self, offset: u64, length: u32) -> Result<Vec<u8>, Fault> {
        // Before memory is reserved for it: a length of a damaged file may be anything.
        self.within(offset, length.into())?;
        if let Self::File(file) = self
            && let Some(bytes) = file.bytes(offset, length as usize)
        {
            return Ok(bytes);
        }
        let mut bytes = vec![0; length as usize];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
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
    #[inline]
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

    /// Whether these bytes stand at `offset`.
    pub(crate) fn equals(&self, offset: u64, bytes: &[u8]) -> Result<bool, Fault> {
        let length = bytes.len() as u64;
        self.within(offset, length)?;
        if let Self::File(file) = self
            && let Some(equal) = file.equals(offset, bytes)
        {
            return Ok(equal);
        }
        let mut found = vec![0; bytes.len()];
        self.read(offset, &mut found)?;
        Ok(found == bytes)
    }

    /// Adds 1 to a number of this machine's byte order in one step, where that is possible: others
    /// may do so at the same time, and nobody's addition is lost.
    pub(crate) fn add_one(&self, offset: u64) -> bool {
        match self {
            Self::File(file) => file.add_one(offset),
            Self::Memory(_) | Self::Overlay(_) => false,
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

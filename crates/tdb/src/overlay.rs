//! The bytes of a database as a transaction sees them: the file, with what was changed laid over it.
//!
//! Invariants: the file is not touched before [`Overlay::write_out`], but for what is written through
//! on purpose; what lies behind the file's end reads as zeros until it is written.
//! Source: the TDB specification, section 14.2.

use crate::error::Fault;
use crate::file::FileSpace;
use crate::space::DATA_BYTES_MAX;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// A file, and the blocks of it that were changed.
#[derive(Debug)]
pub(crate) struct Overlay {
    file: FileSpace,
    /// Size of the file when the transaction began.
    old_size: u64,
    /// Where its use ended then; `None` as long as nobody had to know.
    old_end: Cell<Option<u64>>,
    size: Cell<u64>,
    /// What is written is waited for until it is on disk.
    is_synced: bool,
    /// Bytes of a block; never 0.
    block: u64,
    /// By number; each as long as a block, also the last one.
    blocks: RefCell<BTreeMap<u64, Box<[u8]>>>,
}

/// A stretch of bytes within one block.
#[derive(Clone, Copy)]
struct Part {
    number: u64,
    /// Where in the block.
    at: usize,
    length: usize,
}

impl Overlay {
    pub(crate) fn new(file: FileSpace, size: u64, block: u64, is_synced: bool) -> Self {
        let blocks = RefCell::new(BTreeMap::new());
        let (old_end, block) = (Cell::new(None), block.max(1));
        Self { file, old_size: size, old_end, size: Cell::new(size), is_synced, block, blocks }
    }

    pub(crate) fn file(&self) -> &FileSpace {
        &self.file
    }

    pub(crate) fn into_file(self) -> FileSpace {
        self.file
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.get()
    }

    pub(crate) fn old_size(&self) -> u64 {
        self.old_size
    }

    /// Where new space begins, if the file becomes longer: at its old end, or in front of what
    /// somebody left there.
    pub(crate) fn old_end(&self) -> u64 {
        self.old_end.get().unwrap_or(self.old_size)
    }

    /// Notes where the use of the old file ends. Only the first time: once the transaction has made
    /// something of what is behind it, nobody can tell any more.
    pub(crate) fn note_old_end(&self, end: u64) {
        self.old_end.set(self.old_end.get().or(Some(end)));
    }

    pub(crate) fn is_changed(&self) -> bool {
        !self.blocks.borrow().is_empty()
    }

    /// Makes what the transaction sees longer; the file stays as it is.
    pub(crate) fn grow(&self, size: u64) -> Result<(), Fault> {
        if DATA_BYTES_MAX < size {
            return Err(Fault::Full { size: self.size(), wanted: size });
        }
        self.size.set(size.max(self.size()));
        Ok(())
    }

    /// The blocks that a stretch of bytes lies in.
    fn parts(&self, offset: u64, length: usize) -> impl Iterator<Item = Part> + use<> {
        let (block, end) = (self.block, offset + length as u64);
        let mut from = offset;
        std::iter::from_fn(move || {
            let number = from.checked_div(block).filter(|_| from < end)?;
            let until = end.min((number + 1) * block);
            let part = Part {
                number,
                at: (from - number * block) as usize,
                length: (until - from) as usize,
            };
            from = until;
            Some(part)
        })
    }

    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Fault> {
        let blocks = self.blocks.borrow();
        let mut rest = into;
        for part in self.parts(offset, rest.len()) {
            let Some((piece, after)) = rest.split_at_mut_checked(part.length) else { break };
            match blocks.get(&part.number).and_then(|block| block.get(part.at..)) {
                Some(from) => piece.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
                None => self.read_old(part.number * self.block + part.at as u64, piece)?,
            }
            rest = after;
        }
        Ok(())
    }

    /// Reads what the file has there; behind its old end that is nothing.
    fn read_old(&self, offset: u64, into: &mut [u8]) -> Result<(), Fault> {
        let there = self.old_size.saturating_sub(offset).min(into.len() as u64) as usize;
        let Some((old, new)) = into.split_at_mut_checked(there) else { return Ok(()) };
        new.fill(0);
        if old.is_empty() { Ok(()) } else { self.file.read(offset, old) }
    }

    pub(crate) fn write(&self, offset: u64, from: &[u8]) -> Result<(), Fault> {
        let mut rest = from;
        for part in self.parts(offset, from.len()) {
            let Some((piece, after)) = rest.split_at_checked(part.length) else { break };
            self.touch(part.number)?;
            self.patch(part, piece);
            rest = after;
        }
        Ok(())
    }

    /// Takes a copy of a block, if there is none yet.
    fn touch(&self, number: u64) -> Result<(), Fault> {
        if self.blocks.borrow().contains_key(&number) {
            return Ok(());
        }
        let mut bytes = vec![0; self.block as usize].into_boxed_slice();
        self.read_old(number * self.block, &mut bytes)?;
        self.blocks.borrow_mut().insert(number, bytes);
        Ok(())
    }

    /// Changes a block of which there is a copy.
    fn patch(&self, part: Part, piece: &[u8]) {
        let mut blocks = self.blocks.borrow_mut();
        let into = blocks.get_mut(&part.number).and_then(|block| block.get_mut(part.at..));
        into.into_iter().flatten().zip(piece).for_each(|(to, from)| *to = *from);
    }

    /// Writes to the file now, and into what is laid over it.
    pub(crate) fn write_through(&self, offset: u64, from: &[u8]) -> Result<(), Fault> {
        self.put(offset, from)?;
        let mut rest = from;
        for part in self.parts(offset, from.len()) {
            let Some((piece, after)) = rest.split_at_checked(part.length) else { break };
            self.patch(part, piece);
            rest = after;
        }
        Ok(())
    }

    /// Offset and length of what was changed of the old file.
    pub(crate) fn changed_below_old_size(&self) -> Vec<(u64, u64)> {
        let starts: Vec<u64> = self.blocks.borrow().keys().map(|key| key * self.block).collect();
        let below = starts.into_iter().filter(|start| *start < self.old_size);
        below.map(|start| (start, self.block.min(self.old_size - start))).collect()
    }

    /// Writes to the file.
    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        match self.is_synced {
            true => self.file.write_by_call(offset, bytes),
            false => self.file.write(offset, bytes),
        }
    }

    /// Writes everything to the file, which must be long enough.
    pub(crate) fn write_out(&self) -> Result<(), Fault> {
        for (number, bytes) in &*self.blocks.borrow() {
            let start = number * self.block;
            let length = self.size().saturating_sub(start).min(self.block) as usize;
            self.put(start, bytes.get(..length).unwrap_or_default())?;
        }
        Ok(())
    }
}

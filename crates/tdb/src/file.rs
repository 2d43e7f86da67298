//! The bytes of a file: mapped where it is written, read by system calls where it is only read.
//!
//! Why two ways: memory is far faster than a system call for each number, but a process that looks at
//! a mapped page which the file has lost dies of `SIGBUS`. Whoever writes shows that the file is in use,
//! and libtdb truncates no file that is. Whoever only reads shows nothing, and asks the kernel.
//! Invariants: the mapping is as long as the size that is believed; no reference to mapped bytes is
//! ever handed out, since other processes write to them.
//! Source: the TDB specification, sections 12.1, 12.2, 16 and 22.11.

#[cfg(test)]
use crate::death;
use crate::error::Fault;
use crate::os::map::{LINE_BYTES, Map};
use crate::space::DATA_BYTES_MAX;
use rustix::io::Errno;
use std::cell::{Cell, Ref, RefCell};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Zeros that are written at a time.
const FILL_BYTES: u64 = 64 * 1024;
/// How often a reservation may be interrupted by a signal before it is done by writing, which goes on
/// where it was interrupted.
const RESERVE_TRIES_MAX: u32 = 100;

/// A file, behind its mutex area if it has one.
#[derive(Debug)]
pub(crate) struct FileSpace {
    file: Arc<File>,
    /// File offset of the data space.
    base: u64,
    size: Cell<u64>,
    /// `None` where the file is only read, or was not to be mapped.
    map: RefCell<Option<Map>>,
}

impl FileSpace {
    /// A file that system calls read.
    pub(crate) fn new(file: Arc<File>, base: u64) -> Result<Self, Fault> {
        let space = Self { file, base, size: Cell::new(0), map: RefCell::new(None) };
        space.refresh()?;
        Ok(space)
    }

    /// A file that is mapped to be read and written.
    pub(crate) fn mapped(file: Arc<File>, base: u64) -> Result<Self, Fault> {
        let space = Self::new(file, base)?;
        // Where the kernel can't map it, it is used without, as by libtdb.
        let size = space.size.get();
        if let Ok(map) = Map::new(&space.file, base, size) {
            space.map.replace(Some(map));
        }
        Ok(space)
    }

    /// Size of the data space, as it was last seen.
    #[inline]
    pub(crate) fn size(&self) -> u64 {
        self.size.get()
    }

    /// Looks the size up again.
    pub(crate) fn refresh(&self) -> Result<u64, Fault> {
        let metadata = self.file.metadata().map_err(|why| self.io("look up the size", 0, why))?;
        let size = metadata.len().saturating_sub(self.base).min(DATA_BYTES_MAX);
        if size != self.size.replace(size) {
            let mut map = self.map.borrow_mut();
            if map.as_mut().is_some_and(|map| map.remap(&self.file, size).is_err()) {
                // It goes without; a mapping that is too short would hide what is there.
                *map = None;
            }
        }
        Ok(size)
    }

    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Fault> {
        if self.map.borrow().as_ref().is_some_and(|map| map.read(offset, into)) {
            return Ok(());
        }
        self.file.read_exact_at(into, self.base + offset).map_err(|why| {
            // The file became shorter between the look at its size and the reading.
            if why.kind() == io::ErrorKind::UnexpectedEof {
                let size = self.refresh().unwrap_or(0);
                return Fault::OutOfBounds { offset, length: into.len() as u64, size };
            }
            self.io("read", offset, why)
        })
    }

    /// Numbers that stand beside each other, in this machine's byte order; `None` if only reading
    /// them can tell.
    #[inline]
    pub(crate) fn words<const N: usize>(&self, offset: u64) -> Option<[u32; N]> {
        self.map.borrow().as_ref()?.load_words(offset)
    }

    /// Has the first record of a list brought near, of which the head is here: only a hint, so it does
    /// not matter what stands there.
    #[inline]
    pub(crate) fn prefetch_list(&self, head: u64) {
        if let Some(map) = self.map.borrow().as_ref()
            && let Some([first]) = map.load_words(head)
        {
            map.prefetch(first.into());
            map.prefetch(u64::from(first) + LINE_BYTES);
        }
    }

    /// The mapping, if there is one. Who keeps it must not look the size up meanwhile.
    #[inline]
    pub(crate) fn mapping(&self) -> Ref<'_, Option<Map>> {
        self.map.borrow()
    }

    /// What stands at `offset`, as a copy; `None` if only reading can tell.
    pub(crate) fn bytes(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        self.map.borrow().as_ref()?.bytes(offset, length)
    }

    pub(crate) fn write(&self, offset: u64, from: &[u8]) -> Result<(), Fault> {
        self.write_by(offset, from, true)
    }

    /// As [`FileSpace::write`], by a system call also where the file is mapped. For what is waited for
    /// until it is on disk: after that wait the first touch of each mapped page costs more than the call.
    pub(crate) fn write_by_call(&self, offset: u64, from: &[u8]) -> Result<(), Fault> {
        self.write_by(offset, from, false)
    }

    fn write_by(&self, offset: u64, from: &[u8], may_map: bool) -> Result<(), Fault> {
        #[cfg(test)]
        let from = death::before_write(from);
        let mapped =
            may_map && self.map.borrow().as_ref().is_some_and(|map| map.write(offset, from));
        let written = match mapped {
            true => Ok(()),
            false => self.file.write_all_at(from, self.base + offset),
        };
        #[cfg(test)]
        let written = written.and_then(|()| death::now());
        written.map_err(|why| self.io("write", offset, why))
    }

    /// Whether these bytes stand at `offset`; `None` if only reading them can tell.
    pub(crate) fn equals(&self, offset: u64, bytes: &[u8]) -> Option<bool> {
        self.map.borrow().as_ref()?.equals(offset, bytes)
    }

    /// Adds 1 to a number in one step; false if that can't be done.
    pub(crate) fn add_one(&self, offset: u64) -> bool {
        self.map.borrow().as_ref().is_some_and(|map| map.add_u32(offset).is_some())
    }

    /// Reserves the space on disk, so that no later write to it can fail for want of space.
    pub(crate) fn grow(&self, size: u64) -> Result<(), Fault> {
        #[cfg(test)]
        death::now()
            .and_then(|()| death::of_the_disk())
            .map_err(|why| self.io("grow", size, why))?;
        let from = self.refresh()?;
        let more = size.saturating_sub(from);
        if more == 0 {
            return Ok(());
        }
        if let Err(why) = reserve(&self.file, self.base + from, more) {
            // What was reserved of it is given back; nobody refers to it yet.
            let undone = self.file.set_len(self.base + from);
            self.refresh()?;
            return Err(self.io("grow", from, undone.err().unwrap_or(why)));
        }
        self.refresh().map(|_| ())
    }

    /// Waits until everything is on disk, also what was written through the mapping.
    pub(crate) fn sync(&self) -> Result<(), Fault> {
        self.file.sync_data().map_err(|why| self.io("sync", 0, why))
    }

    /// Says that the file was changed now: what is written through a mapping says so late, and
    /// `tdbbackup` passes over a file that is older than its copy.
    pub(crate) fn touch(&self) {
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
        // Whoever may write but does not own the file may do this too; if not, no data is at stake.
        let _told = rustix::fs::futimens(&*self.file, &times);
    }

    fn io(&self, action: &'static str, offset: u64, source: io::Error) -> Fault {
        Fault::Io { action, offset: self.base + offset, source }
    }
}

/// Makes a file longer by this much, from its end on, of which all is really there and reads as zeros.
/// Whoever then writes through a mapping can't be met by a full disk, which would be his end.
///
/// # Errors
/// If the disk is full, or the file may not become that long. Part of it may have been reserved.
pub(crate) fn reserve(file: &File, from: u64, more: u64) -> io::Result<()> {
    if more == 0 {
        return Ok(());
    }
    for _ in 0..RESERVE_TRIES_MAX {
        match allocate(file, from, more) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(why @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => return Err(why.into()),
            Err(_) => break,
        }
    }
    fill(file, from, more)
}

fn allocate(file: &File, from: u64, more: u64) -> Result<(), Errno> {
    #[cfg(test)]
    death::of_reserving()?;
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), from, more)
}

/// For file systems that can't reserve: only what was written is really there.
fn fill(file: &File, from: u64, more: u64) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES.min(more) as usize];
    let mut done = 0;
    while done < more {
        let length = (more - done).min(zeros.len() as u64) as usize;
        let piece = zeros.get(..length).unwrap_or_default();
        file.write_all_at(piece, from + done)?;
        done += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    /// A page of other bytes, made longer by four while the kernel answers so.
    fn grow(answers: &[Errno]) -> (Result<(), ErrorKind>, Vec<u8>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [7; 4096]).unwrap();
        let space = FileSpace::mapped(Arc::new(file.reopen().unwrap()), 0).unwrap();
        death::refuse_to_reserve(answers);
        let grown = space.grow(5 * 4096);
        death::refuse_to_reserve(&[]);
        let kind = |fault| match fault {
            Fault::Io { action: "grow", source, .. } => source.kind(),
            other => panic!("{other}"),
        };
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!(space.size(), bytes.len() as u64);
        (grown.map_err(kind), bytes)
    }

    #[test]
    fn who_is_interrupted_while_he_reserves_tries_again() {
        let (grown, bytes) = grow(&[Errno::INTR; 3]);
        grown.unwrap();
        assert_eq!(bytes, [vec![7; 4096], vec![0; 4 * 4096]].concat());
        grow(&vec![Errno::INTR; 10_000]).0.unwrap();
    }

    #[test]
    fn where_nothing_can_be_reserved_zeros_are_written() {
        for errno in [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::IO] {
            let (grown, bytes) = grow(&[errno]);
            grown.unwrap();
            assert_eq!(bytes, [vec![7; 4096], vec![0; 4 * 4096]].concat(), "{errno}");
        }
    }

    #[test]
    fn a_disk_that_is_full_leaves_the_file_as_it_was() {
        let refusals = [
            (Errno::NOSPC, ErrorKind::StorageFull),
            (Errno::DQUOT, ErrorKind::QuotaExceeded),
            (Errno::FBIG, ErrorKind::FileTooLarge),
        ];
        for (errno, kind) in refusals {
            let (grown, bytes) = grow(&[errno]);
            assert_eq!((grown, bytes), (Err(kind), vec![7; 4096]));
        }
    }
}

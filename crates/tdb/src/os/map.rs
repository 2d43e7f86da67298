//! A part of a file as memory that all processes share which map it.
//!
//! Why: one access costs nanoseconds where a system call costs a tenth of a microsecond and more,
//! and the sequence number can only be counted by an atomic addition that libtdb's own respects.
//! Invariants: no access beyond the mapping; no reference to its bytes ever exists, they are copied
//! (why this way: [`super::copy`]) or accessed by atomic operations.
//!
//! **`SIGBUS`.** A page of the mapping that the file no longer has, because somebody truncated it,
//! can't be read: the kernel ends the process with this signal. The same happens on the first write
//! into a hole of the file when the disk is full. Neither can be caught in a sound way, so it must
//! not happen: the user of a map has to hold a lock that keeps those out who truncate (in TDB files
//! the byte that a first opener has to get), has to grow files by allocating, and has to make a new
//! map when the size of the file has changed. The size is looked up when a map is made, and one that
//! reaches beyond it is refused.
//! Source: mmap(2), mremap(2); the TDB specification, sections 12.2 and 16.

use super::copy::copy;
use super::page::page_size;
use rustix::mm::{MapFlags, MremapFlags, ProtFlags};
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// How much is compared at once.
const PIECE_BYTES: usize = 256;

/// Bytes that processors fetch at once.
pub(crate) const LINE_BYTES: u64 = 64;
/// A header has as many numbers; more are copied faster by memcpy.
const STORED_WORDS_MAX: usize = 6;

/// A shared mapping of a part of a file.
#[derive(Debug)]
pub(crate) struct Map {
    start: NonNull<c_void>,
    /// Not 0, and no more than a pointer may be moved by.
    len: usize,
    /// Where in the file it begins.
    base: u64,
}

// SAFETY: a mapping belongs to the process, not to a thread. Of its methods, those that do not need
// the map for themselves alone access it only by atomic operations, or as `copy` does.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `len` bytes of a file from `base` on.
    ///
    /// # Errors
    /// If `base` is not at the beginning of a page, if there is nothing to map, if the file is
    /// shorter than that or not open for writing, or if the kernel refuses.
    pub(crate) fn new(file: &File, base: u64, len: u64) -> io::Result<Self> {
        if !base.is_multiple_of(page_size()) {
            return Err(invalid(format!("a mapping can't begin at {base:#x}, inside a page")));
        }
        let len = mappable(file, base, len)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: at an address of the kernel's choice, hence in nobody's way.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, file, base)?
        };
        // SAFETY: the kernel places nothing at address 0 but what was asked to be just there.
        let start = unsafe { NonNull::new_unchecked(start) };
        Ok(Self { start, len, base })
    }

    /// Maps more of the same file, or less, after its size has changed. The mapping may move.
    ///
    /// # Errors
    /// As [`Map::new`]; the mapping is then as it was.
    pub(crate) fn remap(&mut self, file: &File, len: u64) -> io::Result<()> {
        let len = mappable(file, self.base, len)?;
        let (start, old) = (self.start.as_ptr(), self.len);
        // SAFETY: our own mapping with its whole length; nothing refers to its bytes, and nobody
        // else has an address of it, as we have it for us alone.
        let start = unsafe { rustix::mm::mremap(start, old, len, MremapFlags::MAYMOVE)? };
        // SAFETY: the kernel places nothing at address 0 but what was asked to be just there.
        self.start = unsafe { NonNull::new_unchecked(start) };
        self.len = len;
        Ok(())
    }

    /// Bytes that are mapped.
    pub(crate) fn len(&self) -> u64 {
        self.len as u64
    }

    /// Fills `into` with what stands at `offset`; `false` if that is not all inside.
    #[must_use]
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        let Some(from) = self.place(offset, into.len()) else { return false };
        // SAFETY: the place is mapped for that many bytes, and `into` is a borrow of our own
        // memory, which is no part of any mapping's.
        unsafe { copy(into.as_mut_ptr(), from, into.len()) };
        true
    }

    /// Writes at `offset`; `false` if that is not all inside. A few numbers are written each as a whole,
    /// and nothing that was written before them can be seen after them.
    #[must_use]
    #[inline]
    pub(crate) fn write(&self, offset: u64, from: &[u8]) -> bool {
        let Some(to) = self.place(offset, from.len()) else { return false };
        if let (Some(to), (words, [])) = (aligned(to, offset), from.as_chunks())
            && words.len() <= STORED_WORDS_MAX
        {
            for (at, word) in words.iter().enumerate() {
                // SAFETY: mapped for writing that many numbers, and aligned; see `load`.
                let place = unsafe { AtomicU32::from_ptr(to.add(at)) };
                place.store(u32::from_ne_bytes(*word), Ordering::Release);
            }
            return true;
        }
        // SAFETY: the place is mapped for writing that many bytes, and `from` is a borrow of our
        // own memory, which is no part of any mapping's.
        unsafe { copy(to, from.as_ptr(), from.len()) };
        true
    }

    /// What stands at `offset`, as a copy; `None` if that is not all inside.
    pub(crate) fn bytes(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let from = self.place(offset, length)?;
        let mut bytes = Vec::with_capacity(length);
        // SAFETY: the place is mapped for that many bytes, the vector has room for them and is no
        // part of any mapping, and has all of them when it is told its length.
        unsafe {
            copy(bytes.as_mut_ptr(), from, length);
            bytes.set_len(length);
        }
        Some(bytes)
    }

    /// Whether these bytes stand at `offset`; `None` if that is not all inside.
    pub(crate) fn equals(&self, offset: u64, bytes: &[u8]) -> Option<bool> {
        let place = self.place(offset, bytes.len())?;
        if let (Some(place), (words, [])) = (aligned(place, offset), bytes.as_chunks())
            && bytes.len() <= PIECE_BYTES
        {
            // SAFETY: mapped for that many bytes, and aligned.
            return Some(unsafe { are(place, words) });
        }
        let mut piece = [0; PIECE_BYTES];
        let mut at = offset;
        for expected in bytes.chunks(PIECE_BYTES) {
            let found = piece.get_mut(..expected.len())?;
            if !self.read(at, found) {
                return None;
            }
            if found != expected {
                return Some(false);
            }
            at += expected.len() as u64;
        }
        Some(true)
    }

    /// Lets the processor fetch what stands at `offset`, if that is inside, while something else is done.
    #[inline]
    pub(crate) fn prefetch(&self, offset: u64) {
        let Some(place) = self.place(offset, 1) else { return };
        #[cfg(target_arch = "x86_64")]
        // SAFETY: every processor of this kind has the instruction, which reads nothing into the program
        // and fails for no address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(place.cast());
        }
        // Without one, it is fetched when it is read.
        #[cfg(not(target_arch = "x86_64"))]
        let _ = place;
    }

    /// The number at `offset`, in this machine's byte order, read as a whole; `None` if it is not
    /// inside, or does not stand at a multiple of 4.
    pub(crate) fn load_u32(&self, offset: u64) -> Option<u32> {
        self.load_words(offset).map(|[number]| number)
    }

    /// As [`Map::load_u32`], several numbers beside each other; each is read as a whole, one after
    /// the other.
    #[inline]
    pub(crate) fn load_words<const N: usize>(&self, offset: u64) -> Option<[u32; N]> {
        let first = aligned(self.place(offset, 4 * N)?, offset)?;
        let mut words = [0; N];
        for (at, word) in words.iter_mut().enumerate() {
            // SAFETY: mapped for as many numbers, and aligned.
            *word = unsafe { load(first.add(at)) };
        }
        fence(Ordering::Acquire);
        Some(words)
    }

    /// Adds 1 to the number at `offset`, in this machine's byte order, and gives what stood there
    /// before; nobody's addition is lost. `None` as with [`Map::load_u32`].
    pub(crate) fn add_u32(&self, offset: u64) -> Option<u32> {
        let place = aligned(self.place(offset, 4)?, offset)?;
        // SAFETY: as above, and writable.
        Some(unsafe { AtomicU32::from_ptr(place) }.fetch_add(1, Ordering::SeqCst))
    }

    /// Where `length` bytes at `offset` are, if they are all inside.
    #[inline]
    pub(super) fn place(&self, offset: u64, length: usize) -> Option<*mut u8> {
        let end = offset.checked_add(length as u64)?;
        if self.len() < end {
            return None;
        }
        let offset = usize::try_from(offset).ok()?;
        // SAFETY: no further than the end of the mapping, whose length a pointer may be moved by.
        Some(unsafe { self.start.as_ptr().cast::<u8>().add(offset) })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: our own mapping with its whole length; its addresses end with us. It fails only
        // for what is no mapping.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.len) };
    }
}

/// The length as a mapping can have it, if the file is that long.
fn mappable(file: &File, base: u64, len: u64) -> io::Result<usize> {
    if len == 0 {
        return Err(invalid("nothing to map".to_owned()));
    }
    let length = isize::try_from(len).map_err(|_| invalid(format!("can't map {len:#x} bytes")))?;
    let size = file.metadata()?.len();
    if base.checked_add(len).is_none_or(|end| size < end) {
        let words = format!("the file has {size:#x} bytes, {len:#x} from {base:#x} on were wanted");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, words));
    }
    Ok(length.unsigned_abs())
}

/// Whether these words stand there.
///
/// # Safety
/// The place is mapped for all of them, and aligned.
unsafe fn are(place: *mut u32, words: &[[u8; 4]]) -> bool {
    let same = words.iter().enumerate().all(|(at, word)| {
        // SAFETY: as this function asks for.
        unsafe { load(place.add(at)) == u32::from_ne_bytes(*word) }
    });
    fence(Ordering::Acquire);
    same
}

/// Reads a number as a whole.
///
/// # Safety
/// It is mapped, and aligned.
#[inline]
unsafe fn load(place: *mut u32) -> u32 {
    // SAFETY: mapped and aligned; within our process, nobody accesses shared memory in any other
    // way than this, or from outside of what Rust sees. A relaxed load does not write, so the page
    // need not be writable.
    unsafe { AtomicU32::from_ptr(place) }.load(Ordering::Relaxed)
}

#[inline]
fn aligned(place: *mut u8, offset: u64) -> Option<*mut u32> {
    // A mapping begins at a page, so the offset alone decides.
    offset.is_multiple_of(4).then_some(place.cast())
}

fn invalid(words: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, words)
}

#[cfg(test)]
mod tests;

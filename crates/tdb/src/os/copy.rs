//! Copying from and to memory that other processes change meanwhile.
//!
//! Why not `ptr::copy_nonoverlapping`: for the compiler that is a plain access, about which it may
//! assume that nobody else writes there. It may then look at the shared bytes a second time instead
//! of at the copy, after the copy was found sound; and two of our own threads that do this to the
//! same bytes are a data race, which Rust gives no meaning at all. Volatile accesses of bytes, or
//! relaxed atomic ones, say the right thing, but no compiler joins them: they copy at an eighth of
//! the speed of memory.
//! So the C library's memcpy is called through a pointer that is loaded by a volatile access. The
//! compiler can't know which function that is, hence not look into it: to Rust it is foreign code
//! that does what relaxed atomic accesses of bytes would do, and what it has filled is ours alone.
//! What memcpy does is decided by addresses and lengths, never by the bytes it copies, so bytes that
//! change under it can't lead it astray. (That is not true of memcmp: some of them read a differing
//! place twice. Hence nothing is compared in shared memory; see [`super::map::Map::equals`].)
//! Invariants: each byte that arrives stood there at some moment of the call; bytes beside each
//! other may be of different moments. Who needs more holds a lock that the writers respect.
//! Source: Rust reference, "Behavior considered undefined"; std::ptr, "read_volatile".

use libc::{c_void, size_t};

type Copy = unsafe extern "C" fn(*mut c_void, *const c_void, size_t) -> *mut c_void;

static COPY: Copy = libc::memcpy;

/// Copies `length` bytes.
///
/// # Safety
/// `from` can be read and `to` be written for `length` bytes, and they do not overlap. Of the two,
/// the one that is not shared belongs to the caller alone.
pub(super) unsafe fn copy(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: a static of this very type.
    let copy = unsafe { std::ptr::read_volatile(&raw const COPY) };
    // SAFETY: it is memcpy, and the caller promises what that asks for.
    unsafe { copy(to.cast(), from.cast(), length) };
}

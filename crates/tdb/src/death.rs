//! Lets the process die, as far as files are concerned: after so many writes of this thread, nothing of
//! what it does reaches a file any more.
//!
//! Why: a process that is killed at a random time is killed between the same few writes again and
//! again; here every one of them has its turn.

use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::io;

thread_local! {
    /// Writes that still arrive; the one after them arrives up to its middle.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    /// Whether files of this thread can't become longer.
    static FULL: Cell<bool> = const { Cell::new(false) };
    /// What the kernel answers to the next wishes for space on disk, the last first.
    static ANSWERS: RefCell<Vec<Errno>> = const { RefCell::new(Vec::new()) };
}

/// Lets the next reservations of this thread fail in this way, one each.
pub(crate) fn refuse_to_reserve(answers: &[Errno]) {
    ANSWERS.with_borrow_mut(|all| *all = answers.to_vec());
}

pub(crate) fn of_reserving() -> Result<(), Errno> {
    ANSWERS.with_borrow_mut(Vec::pop).map_or(Ok(()), Err)
}

/// Lets the disk be full, for files of this thread.
pub(crate) fn fill_disk(full: bool) {
    FULL.set(full);
}

pub(crate) fn of_the_disk() -> io::Result<()> {
    if FULL.get() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// Sets when it happens; `None` = not at all.
pub(crate) fn after(writes: Option<u32>) {
    LEFT.set(writes);
}

/// Whether it has happened.
pub(crate) fn has_come() -> bool {
    LEFT.get() == Some(0)
}

/// What of a write arrives.
pub(crate) fn before_write(from: &[u8]) -> &[u8] {
    let Some(left) = LEFT.get() else { return from };
    LEFT.set(Some(left.saturating_sub(1)));
    // The kernel does not divide a write of a few bytes.
    match left {
        0 => &[],
        1 if 8 < from.len() => from.get(..from.len() / 2).unwrap_or_default(),
        _ => from,
    }
}

pub(crate) fn now() -> io::Result<()> {
    if has_come() { Err(io::Error::other("dead")) } else { Ok(()) }
}

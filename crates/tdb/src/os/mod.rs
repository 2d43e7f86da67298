//! What the C library and the kernel offer and Rust has no safe words for: locks on ranges of an
//! open file, memory shared with other processes, and mutexes that lie in a file.
//!
//! Why: libtdb's processes meet each other through exactly these three, so whoever shares a file
//! with them needs them too. They are kept in small files with safe faces, so that everything else
//! of this crate is safe code.
//! Invariants: the only `unsafe` code of the crate; no reference is ever made to bytes that other
//! processes change, but to atomic numbers; nothing here waits for a lock without a deadline.
//! Source: fcntl(2), mmap(2), pthread_mutex_lock(3p); the TDB specification, sections 7, 12.2, 15
//! and 21.

#![expect(
    unsafe_code,
    reason = "fcntl(2) with locks of open files, mmap(2) and process-shared mutexes have no safe \
              interface; each block says why it is sound"
)]

pub(crate) mod lease;
pub(crate) mod map;
pub(crate) mod mutex;
pub(crate) mod page;
pub(crate) mod range;

mod copy;

#[cfg(test)]
pub(crate) mod testing;

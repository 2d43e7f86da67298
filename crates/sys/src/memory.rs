//! What the allocator of the C library keeps for itself.
//!
//! Why: a daemon reads its configuration once and then sits still for months. By default the
//! allocator gives each thread an area of its own, and keeps what was freed at the start; both are
//! memory that nobody uses.
//! Source: mallopt(3), malloc_trim(3). Other C libraries have neither; there nothing is done.

/// Requests of this size and above are mapped by themselves, and given back as soon as they are
/// freed. The C library would raise this limit to the largest request that it has seen freed.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES: i32 = 256 * 1024;

/// Free memory at the end of the heap is given back beyond this much.
#[cfg(target_env = "gnu")]
const TRIM_BYTES: i32 = 256 * 1024;

/// One area for all threads, and no hoard. To be called before threads are started. Our threads
/// wait for the world, not for each other's allocations.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: these set numbers within the allocator; nothing of ours is touched.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_BYTES);
    }
}

/// Gives back what is free, also from the middle of the heap. Takes about a millisecond for ten
/// MiB, during which other threads can't allocate.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator gives whole free pages back to the kernel; what is in use stays.
    unsafe {
        libc::malloc_trim(0);
    }
}

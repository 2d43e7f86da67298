//! The size of a page of memory.
//!
//! Source: sysconf(3).

/// What a machine has that does not say; the smallest size there is.
const PAGE_BYTES_DEFAULT: u64 = 4096;

/// Bytes of a page. Files grow, and mutex areas end, by whole pages of this size.
pub(crate) fn page_size() -> u64 {
    // SAFETY: asks for a number by a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).ok().filter(|size| size.is_power_of_two()).unwrap_or(PAGE_BYTES_DEFAULT)
}

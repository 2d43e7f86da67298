//! Locks on ranges of a file that belong to the open file, not to the process.
//!
//! Why not the classic ones that libtdb takes: those belong to the process, so two threads never
//! keep each other out, and closing any descriptor of the file drops all of them. Both kinds respect
//! each other, also within one process. Two handles keep each other out only if each opened the
//! file for itself: copies of a descriptor share their locks.
//! Invariants: nothing here waits. A blocked request could not be given up, and the kernel finds no
//! deadlock in which a lock of this kind takes part; whoever waits tries again, up to a deadline.
//! Source: fcntl(2), "Open file description locks"; the TDB specification, sections 7 and 21.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Who else may have a lock at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Others that are content with the same.
    Shared,
    /// Nobody. The file must be open for writing.
    Exclusive,
}

impl Kind {
    fn number(self) -> i32 {
        match self {
            Self::Shared => libc::F_RDLCK,
            Self::Exclusive => libc::F_WRLCK,
        }
    }
}

/// Takes the lock if nobody holds what stands against it; `false`: somebody does. A length of 0 goes
/// to the end of the file and beyond. What this open file holds of the range already changes its
/// kind.
pub(crate) fn try_lock(file: &File, kind: Kind, offset: u64, length: u64) -> io::Result<bool> {
    match request(file, libc::F_OFD_SETLK, kind.number(), offset, length) {
        Ok(_) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => Ok(false),
            Some(libc::EBADF) => Err(not_open_for(kind)),
            _ => Err(error),
        },
    }
}

/// Gives the range back, whatever of it is held.
pub(crate) fn unlock(file: &File, offset: u64, length: u64) -> io::Result<()> {
    request(file, libc::F_OFD_SETLK, libc::F_UNLCK, offset, length).map(drop)
}

/// Whether [`try_lock`] would be granted now; takes nothing.
pub(crate) fn probe(file: &File, kind: Kind, offset: u64, length: u64) -> io::Result<bool> {
    let found = request(file, libc::F_OFD_GETLK, kind.number(), offset, length)?;
    Ok(i32::from(found.l_type) == libc::F_UNLCK)
}

fn request(
    file: &File,
    command: libc::c_int,
    kind: i32,
    offset: u64,
    length: u64,
) -> io::Result<libc::flock> {
    let mut range = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: libc::off_t::try_from(offset).map_err(|_| too_far(offset))?,
        l_len: libc::off_t::try_from(length).map_err(|_| too_far(length))?,
        // Whoever names a process is refused.
        l_pid: 0,
    };
    loop {
        // SAFETY: the descriptor is open as long as `file` is borrowed; these commands take a
        // pointer to a `struct flock`, read it, and write into it alone.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut range) } != -1 {
            return Ok(range);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn too_far(number: u64) -> io::Error {
    let words = format!("{number:#x} is beyond what a file lock can reach");
    io::Error::new(io::ErrorKind::InvalidInput, words)
}

fn not_open_for(kind: Kind) -> io::Error {
    let words = match kind {
        Kind::Shared => "a shared lock needs a file that is open for reading",
        Kind::Exclusive => "an exclusive lock needs a file that is open for writing",
    };
    io::Error::new(io::ErrorKind::PermissionDenied, words)
}

#[cfg(test)]
mod tests;

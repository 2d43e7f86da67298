//! Whether anybody else has a file open.
//!
//! Why a lease: it is the only thing about which the kernel knows this of all processes, also of those
//! that hold no lock. It is asked for and given back at once.
//! Invariants: somebody who opens the file in between waits until it is given back, and no signal that
//! the kernel sends because of him ends this process: it is one that nobody hears by default.
//! Source: fcntl(2), "Leases".

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// The kernel's own choice would end a process that does not expect it.
const SIGNAL: libc::c_int = libc::SIGURG;
/// `F_SETSIG`, which the C library's declarations in Rust leave out.
const SET_SIGNAL: libc::c_int = 10;

/// True if nobody has the file open but through this descriptor: neither another process nor another
/// handle of this one. False as well where the kernel does not tell: on file systems without leases,
/// and about files of others.
pub(crate) fn is_alone(file: &File) -> bool {
    let alone =
        ask(file, SET_SIGNAL, SIGNAL).is_ok() && ask(file, libc::F_SETLEASE, libc::F_WRLCK).is_ok();
    // It can only fail where there is none.
    let _given_back = ask(file, libc::F_SETLEASE, libc::F_UNLCK);
    alone
}

fn ask(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is borrowed; these commands take a number.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_file_open_besides_is_noticed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let own = file.as_file();
        assert!(is_alone(own) && is_alone(own));
        let other = file.reopen().unwrap();
        assert!(!is_alone(own) && !is_alone(&other));
        drop(other);
        assert!(is_alone(own));
        let reader = File::open(file.path()).unwrap();
        assert!(!is_alone(own));
        drop(reader);
        // Whoever opens it now is not kept waiting.
        file.reopen().unwrap();
    }
}

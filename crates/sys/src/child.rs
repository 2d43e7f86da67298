//! Reaping: how processes that are ours have ended.
//!
//! Why: holdfast is a child subreaper (D2), so whatever a service forks off and abandons becomes
//! our child, and only we can take its exit status.
//! Source: waitid(2), prctl(2) `PR_SET_CHILD_SUBREAPER`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Processes reaped by one call, so that a storm of deaths can't hold the loop for ever. The caller
/// that gets this many calls again.
pub const REAP_MAX: usize = 4096;

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// The kernel does not say.
    Unknown,
}

impl Exit {
    /// From the status word of wait(2).
    pub fn from_wait_status(status: i32) -> Self {
        if libc::WIFEXITED(status) {
            Self::Code(libc::WEXITSTATUS(status))
        } else if libc::WIFSIGNALED(status) {
            Self::Signal(libc::WTERMSIG(status))
        } else {
            Self::Unknown
        }
    }
}

/// All children that have ended since the last call, at most [`REAP_MAX`]. Never waits.
pub fn reap_all() -> Vec<(u32, Exit)> {
    let mut reaped = Vec::new();
    while reaped.len() < REAP_MAX {
        match wait_for(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG) {
            Ok(Some(one)) => reaped.push(one),
            Ok(None) | Err(_) => break,
        }
    }
    reaped
}

/// How the child behind a pidfd has ended; `None` while it lives. Takes its exit status, once.
pub fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<Exit>> {
    let id = pidfd.as_raw_fd().unsigned_abs();
    let ended = wait_for(libc::P_PIDFD, id, libc::WEXITED | libc::WNOHANG)?;
    Ok(ended.map(|(_, exit)| exit))
}

/// Makes orphaned descendants our children instead of those of process 1.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: this prctl takes a plain number and touches no memory.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One waitid(2), repeated while a signal handler interrupts it. `None`: nobody has ended yet.
pub(crate) fn wait_for(
    kind: libc::idtype_t,
    id: libc::id_t,
    options: i32,
) -> io::Result<Option<(u32, Exit)>> {
    loop {
        // SAFETY: siginfo_t is plain data, for which all zeroes is a valid value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes only within `info`, which lives through the call.
        let result = unsafe { libc::waitid(kind, id, &raw mut info, options) };
        if result == 0 {
            // SAFETY: a successful waitid fills in the fields of a child's end, or leaves zeroes.
            let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
            let exit = match info.si_code {
                libc::CLD_EXITED => Exit::Code(status),
                libc::CLD_KILLED | libc::CLD_DUMPED => Exit::Signal(status),
                _ => Exit::Unknown,
            };
            return Ok(u32::try_from(pid).ok().filter(|pid| *pid != 0).map(|pid| (pid, exit)));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_status_words_are_read_as_wait_2_defines_them() {
        assert_eq!(Exit::from_wait_status(0x0300), Exit::Code(3));
        assert_eq!(Exit::from_wait_status(9), Exit::Signal(9));
        assert_eq!(Exit::from_wait_status(0x8B), Exit::Signal(11));
        assert_eq!(Exit::from_wait_status(0x137f), Exit::Unknown);
    }
}

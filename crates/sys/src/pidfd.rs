//! Pidfds: a hold on one process that can't slip to another one with the same pid.
//!
//! Why: a pid alone is no identity; signals through a pidfd never hit a stranger.
//! Source: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2); `PIDFD_GET_INFO` in
//! include/uapi/linux/pidfd.h (Linux 6.13; exit information since 6.15).

use crate::child::Exit;
use crate::proc_fs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The first form of the kernel's `struct pidfd_info`; later ones only append to it.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    credentials: [u32; 8],
    exit_code: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// Ask for, and answer with, the exit status.
const INFO_EXIT: u64 = 1 << 3;

/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::Ioctl = (3 << 30) | (64 << 16) | (0xFF << 8) | 0x0B;

/// A hold on the process that has this pid now.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Sends a signal. A process that is gone already is no error.
pub fn send_signal(fd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo asks for the default one; nothing else is a pointer.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if sent == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

/// How a process ended that need not be our child. `None`: it lives.
///
/// A kernel before 6.15 gives [`Exit::Unknown`] once somebody else has reaped it.
pub fn exit_of(fd: BorrowedFd<'_>) -> Option<Exit> {
    let info = info(fd);
    if let Some(info) = &info
        && info.mask & INFO_EXIT != 0
    {
        return Some(Exit::from_wait_status(info.exit_code));
    }
    if !has_ended(fd) {
        return None;
    }
    // Ended, and its parent has not reaped it yet: its last status still stands in /proc.
    let zombie = pid_of(fd).and_then(proc_fs::exit_status_of_zombie);
    match (zombie, self::info(fd)) {
        (Some(status), _) => Some(Exit::from_wait_status(status)),
        // It was reaped between the two questions.
        (None, Some(info)) if info.mask & INFO_EXIT != 0 => {
            Some(Exit::from_wait_status(info.exit_code))
        }
        (None, _) => Some(Exit::Unknown),
    }
}

/// A copy of a descriptor of that process. Needs the right to trace it.
pub fn take_fd(fd: BorrowedFd<'_>, target_fd: i32) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_getfd(fd.as_fd(), target_fd, PidfdGetfdFlags::empty())?)
}

/// True once the process has ended, reaped or not.
pub fn has_ended(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&at_once)), Ok(1..))
}

fn info(fd: BorrowedFd<'_>) -> Option<PidfdInfo> {
    let mut info = PidfdInfo { mask: INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the request's size field and `info` agree (asserted above), so the kernel writes
    // within it; an older kernel answers ENOTTY or EINVAL and writes nothing.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (result == 0).then_some(info)
}

/// The pid, as the kernel shows it of an open pidfd; `None` once it is reaped.
fn pid_of(fd: BorrowedFd<'_>) -> Option<u32> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

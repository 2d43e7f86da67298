//! The socket by which services say that they are ready: datagrams with the sender's pid, which the
//! kernel vouches for.
//!
//! Invariant: descriptors that a sender attaches are closed at once (the descriptor store is not
//! offered), so no service can use up ours.
//! Source: sd_notify(3), unix(7) `SCM_CREDENTIALS`, cmsg(3).

use rustix::fs::{FileType, Mode};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with, sockopt,
};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Longest message that is read; what is beyond it is cut off.
pub const NOTIFY_BYTES_MAX: usize = 4096;

/// Room for the sender's credentials and for as many descriptors as one message can carry
/// (`SCM_MAX_FD`, 253), so that all of them are received, and closed.
const CONTROL_BYTES: usize = 2048;

/// Makes the socket: mode 0600, for `owner` (uid and gid) if given; a file of an earlier run is
/// replaced. Never blocks when it is read.
pub fn notify_socket(path: &Path, owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    let name = SocketAddrUnix::new(path).map_err(|_| {
        let why = format!("the path {} has more than 107 bytes", path.display());
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })?;
    match rustix::fs::lstat(path) {
        Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Socket => {
            rustix::fs::unlink(path)?;
        }
        Ok(_) => {
            let why = format!("{} is there and is no socket; remove it", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        Err(_) => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::fchmod(&fd, mode)?;
    sockopt::set_socket_passcred(&fd, true)?;
    bind(&fd, &name)?;
    rustix::fs::chmod(path, mode)?;
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    }
    Ok(fd)
}

/// One message and the pid of its sender (0 if it is in a namespace that we can't see). `None`:
/// nothing is there now.
pub fn receive_notify(fd: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, u32)>> {
    let mut text = vec![0_u8; NOTIFY_BYTES_MAX];
    // Eight-byte numbers, because control messages must be aligned to those.
    let mut control = [0_u64; CONTROL_BYTES / 8];
    let mut piece = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
    // SAFETY: msghdr is plain data, for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    let length = loop {
        // SAFETY: all that `message` points to lives through the call and has the stated sizes.
        let length = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) };
        if let Ok(length) = usize::try_from(length) {
            break length;
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => return Ok(None),
            _ => return Err(error),
        }
    };
    let sender = take_control(&message);
    text.truncate(length);
    Ok(Some((text, sender)))
}

/// The sender's pid. Descriptors are closed on the way.
fn take_control(message: &libc::msghdr) -> u32 {
    let mut sender = 0;
    // SAFETY: the kernel has filled `message` in; these macros stay within its control buffer.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: a header that the macros give lies within the buffer, and is aligned like it.
        let (level, kind, length) =
            unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len) };
        // SAFETY: as above.
        let data = unsafe { libc::CMSG_DATA(header) };
        // SAFETY: computes a number only.
        let overhead = unsafe { libc::CMSG_LEN(0) } as usize;
        let bytes = length.saturating_sub(overhead);
        if level == libc::SOL_SOCKET && kind == libc::SCM_CREDENTIALS {
            if size_of::<libc::ucred>() <= bytes {
                // SAFETY: the message has room for the structure, which is plain data.
                let found = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                sender = u32::try_from(found.pid).unwrap_or(0);
            }
        } else if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            close_all(data, bytes / size_of::<RawFd>());
        }
        // SAFETY: as for the first one.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    sender
}

fn close_all(data: *const u8, count: usize) {
    for number in 0..count {
        let mut bytes = [0; size_of::<RawFd>()];
        let from = data.wrapping_add(number * bytes.len());
        // SAFETY: the caller has counted how many descriptors lie there.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
        // SAFETY: the kernel made this descriptor for us, and nobody else knows of it.
        drop(unsafe { OwnedFd::from_raw_fd(RawFd::from_ne_bytes(bytes)) });
    }
}

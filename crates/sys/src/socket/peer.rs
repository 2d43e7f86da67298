//! Who is at the other end of a unix socket: the kernel's word, taken when they connected.
//!
//! Source: unix(7) `SO_PEERCRED`, socket(7) `SO_PEERGROUPS` (Linux 4.13).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Groups that are asked for at first; most people have fewer.
const GROUPS_EXPECTED: usize = 64;

/// The kernel's own bound (`NGROUPS_MAX`).
const GROUPS_MAX: usize = 65_536;

/// The other end of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process; `None` if it is in a namespace that we can't see.
    pub pid: Option<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Asks the kernel. Fails for anything but a connected unix socket.
pub fn unix_peer(fd: BorrowedFd<'_>) -> io::Result<Peer> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    // SAFETY: `found` and `length` live through the call, and `length` is the size of `found`.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // A socket that is not connected, or no unix socket at all, has nobody at its other end.
    if found.uid == u32::MAX {
        return Err(io::Error::from(io::ErrorKind::NotConnected));
    }
    let pid = u32::try_from(found.pid).ok().filter(|pid| *pid != 0);
    Ok(Peer { uid: found.uid, gid: found.gid, pid, groups: peer_groups(fd)? })
}

fn peer_groups(fd: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; GROUPS_EXPECTED];
    loop {
        let bytes = groups.len() * size_of::<u32>();
        let mut length = libc::socklen_t::try_from(bytes).unwrap_or(0);
        // SAFETY: `groups` has room for `length` bytes, and both live through the call.
        let result = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = usize::try_from(length).unwrap_or(0) / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // The kernel says how much room it wants.
        let grows = groups.len() < count && count <= GROUPS_MAX;
        if error.raw_os_error() != Some(libc::ERANGE) || !grows {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

//! Opening a listening socket, with errors that name who is in the way.
//!
//! Invariant: the file of a unix socket is removed only if nobody answers there, and never if it is
//! anything but a socket.

use super::{Address, holder};
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    getsockname, listen as rustix_listen, socket_with, sockopt,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error("{address} is already in use by {} (stop it, or choose another address)", holder_text(holder.as_ref()))]
    InUse {
        /// The address.
        address: String,
        /// Pid and command, if they can be found out.
        holder: Option<(u32, String)>,
    },
    /// The address belongs to no interface.
    #[error(
        "cannot listen on {0}: no interface of this machine has this address (see `ip address`)"
    )]
    NotLocal(String),
    /// Not permitted.
    #[error(
        "cannot listen on {address}: not permitted ({})", if *low_port {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE"
        } else {
            "check the permissions of the directory"
        }
    )]
    Denied {
        /// The address.
        address: String,
        /// It is a port that needs a privilege.
        low_port: bool,
    },
    /// The directory of a unix socket is not there.
    #[error("cannot listen on {}: its directory does not exist (create it)", .0.display())]
    NoDirectory(PathBuf),
    /// The path of a unix socket does not fit into an address.
    #[error("cannot listen on {}: the path has more than 107 bytes (choose a shorter one)", .0.display())]
    TooLong(PathBuf),
    /// A file that is no socket is in the way.
    #[error("cannot listen on {}: a file that is no socket is there (remove it)", .0.display())]
    NotASocket(PathBuf),
    /// Anything else.
    #[error("cannot listen on {address}")]
    Io {
        /// The address.
        address: String,
        /// Why not.
        source: io::Error,
    },
}

fn holder_text(holder: Option<&(u32, String)>) -> String {
    match holder {
        Some((pid, command)) => format!("{command} (pid {pid})"),
        None => "another process that can't be seen (look as root with `ss -lntup`)".to_owned(),
    }
}

/// Opens, binds and listens. The socket blocks, as services that get one passed expect it.
pub fn listen(address: &Address, backlog: u32) -> Result<OwnedFd, ListenError> {
    match address {
        Address::Tcp(at) => open_inet(address, *at, SocketType::STREAM, Some(backlog)),
        Address::Udp(at) => open_inet(address, *at, SocketType::DGRAM, None),
        Address::Unix { path, mode } => open_unix(address, path, *mode, backlog),
    }
}

/// True if this is a listening socket at that address (a port of 0 stands for any).
pub fn is_bound_to(fd: BorrowedFd<'_>, address: &Address) -> bool {
    let Ok(found) = getsockname(fd) else { return false };
    let kind = sockopt::socket_type(fd).ok();
    let listens = sockopt::socket_acceptconn(fd).unwrap_or(false);
    match address {
        Address::Tcp(at) => kind == Some(SocketType::STREAM) && listens && is_at(found, *at),
        Address::Udp(at) => kind == Some(SocketType::DGRAM) && is_at(found, *at),
        Address::Unix { path, .. } => {
            let found = SocketAddrUnix::try_from(found).ok();
            let found = found.as_ref().and_then(|found| found.path_bytes());
            let wanted = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
            listens && found == Some(wanted)
        }
    }
}

fn is_at(found: SocketAddrAny, wanted: SocketAddr) -> bool {
    let Ok(found) = SocketAddr::try_from(found) else { return false };
    found.ip() == wanted.ip() && (wanted.port() == 0 || found.port() == wanted.port())
}

fn open_inet(
    address: &Address,
    at: SocketAddr,
    kind: SocketType,
    backlog: Option<u32>,
) -> Result<OwnedFd, ListenError> {
    let failed = |errno: Errno| explain(address, errno);
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket_with(family, kind, SocketFlags::CLOEXEC, None).map_err(failed)?;
    // Only for streams: with datagrams it would let two sockets share one port.
    if let Some(backlog) = backlog {
        sockopt::set_socket_reuseaddr(&fd, true).map_err(failed)?;
        bind(&fd, &at).map_err(failed)?;
        rustix_listen(&fd, backlog_of(backlog)).map_err(failed)?;
    } else {
        bind(&fd, &at).map_err(failed)?;
    }
    Ok(fd)
}

fn open_unix(
    address: &Address,
    path: &Path,
    mode: u32,
    backlog: u32,
) -> Result<OwnedFd, ListenError> {
    let failed = |errno: Errno| explain(address, errno);
    let name = SocketAddrUnix::new(path).map_err(|_| ListenError::TooLong(path.to_owned()))?;
    clear_stale(address, path, &name)?;
    let flags = SocketFlags::CLOEXEC;
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
    // The file is born with no more rights than these; the mask may take some away, so they are
    // set once more.
    let mode = Mode::from_raw_mode(mode & 0o7777);
    rustix::fs::fchmod(&fd, mode).map_err(failed)?;
    bind(&fd, &name).map_err(failed)?;
    rustix::fs::chmod(path, mode).map_err(failed)?;
    rustix_listen(&fd, backlog_of(backlog)).map_err(failed)?;
    Ok(fd)
}

/// Removes the socket file of a process that is gone.
fn clear_stale(address: &Address, path: &Path, name: &SocketAddrUnix) -> Result<(), ListenError> {
    match rustix::fs::lstat(path) {
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(explain(address, error)),
        Ok(found) if FileType::from_raw_mode(found.st_mode) != FileType::Socket => {
            return Err(ListenError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match answers(name) {
        Ok(false) => rustix::fs::unlink(path).map_err(|error| explain(address, error)),
        // Also a listener that is not of our kind, or whose queue is full, is alive.
        Ok(true) => Err(explain(address, Errno::ADDRINUSE)),
        Err(error) => Err(explain(address, error)),
    }
}

fn answers(name: &SocketAddrUnix) -> Result<bool, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&probe, name) {
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE | Errno::INPROGRESS) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn backlog_of(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX).max(1)
}

fn explain(address: &Address, errno: Errno) -> ListenError {
    let shown = address.to_string();
    match (errno, address) {
        (Errno::ADDRINUSE, _) => ListenError::InUse { address: shown, holder: holder(address) },
        (Errno::ADDRNOTAVAIL, _) => ListenError::NotLocal(shown),
        (Errno::ACCESS | Errno::PERM, Address::Tcp(at) | Address::Udp(at)) => {
            ListenError::Denied { address: shown, low_port: at.port() < 1024 }
        }
        (Errno::ACCESS | Errno::PERM, Address::Unix { .. }) => {
            ListenError::Denied { address: shown, low_port: false }
        }
        (Errno::NOENT | Errno::NOTDIR, Address::Unix { path, .. }) => {
            ListenError::NoDirectory(path.parent().unwrap_or(path).to_owned())
        }
        _ => ListenError::Io { address: shown, source: errno.into() },
    }
}

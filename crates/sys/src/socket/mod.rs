//! Sockets: listening ones that are passed to services, the ones that services notify us by, and
//! who is at the other end.
//!
//! Source: unix(7), ip(7), sock_diag(7), sd_listen_fds(3).

mod diag;
mod dump;
mod holder;
mod listen;
mod notify;
mod peer;

pub use diag::tcp_peer_uid;
pub(crate) use dump::{CLOSE_WAIT, Counters, Diagnostics, ESTABLISHED, LISTENING};
pub use dump::{SocketState, TcpSocket, Traffic, UnixSocket};
pub use holder::{holder, stranger};
pub use listen::{ListenError, is_bound_to, listen};
pub use notify::{NOTIFY_BYTES_MAX, notify_socket, receive_notify};
pub use peer::{Peer, unix_peer};

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Where a socket listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// UDP.
    Udp(SocketAddr),
    /// A stream socket in the file system.
    Unix {
        /// Its path, at most 107 bytes.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(at) => write!(f, "{at}"),
            Self::Udp(at) => write!(f, "udp {at}"),
            Self::Unix { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// Two connected stream sockets, for two processes of ours (P6).
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

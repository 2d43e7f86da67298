//! All sockets of a kind, with their queues and counters, asked of the kernel in one go.
//!
//! Why: how many connections wait for a program, and whether their bytes move, is known to the
//! kernel without any help of the program (H2, H4). One dump answers for all services at once.
//! Only sockets of our own network namespace are seen.
//! Invariant: nothing that the kernel (or whoever sent a message in its place) says is indexed
//! without a check; a dump ends after [`SOCKETS_MAX`] sockets or [`ANSWER_WITHIN`].
//! Source: sock_diag(7), netlink(7); include/uapi/linux/{netlink,inet_diag,unix_diag,tcp}.h.

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
    sockopt,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Bytes of `struct inet_diag_msg`.
const INET_BYTES: usize = 72;
/// Bytes of `struct unix_diag_msg`.
const UNIX_BYTES: usize = 16;
/// Attribute with `struct tcp_info`, and where in it stand `tcpi_last_data_sent`,
/// `tcpi_last_data_recv`, `tcpi_bytes_acked` and `tcpi_bytes_received`.
const INET_DIAG_INFO: u16 = 2;
const LAST_SENT_AT: usize = 44;
const LAST_RECEIVED_AT: usize = 52;
const BYTES_ACKED_AT: usize = 120;
const BYTES_RECEIVED_AT: usize = 128;
/// Attributes of a Unix socket: its name, and `struct unix_diag_rqlen`.
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_RQLEN: u16 = 4;
/// Ask for both.
const UDIAG_SHOW: u32 = 0x01 | 0x10;

/// The kernel fills at most 32 KiB of a dump at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// Sockets looked at in one dump: half a second of work. A machine with more gets "cannot tell".
const SOCKETS_MAX: usize = 500_000;

/// The kernel answers within each call; this only bounds a bug.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// States of TCP (include/net/tcp_states.h), which Unix sockets share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketState {
    /// Both ends talk.
    Established,
    /// The peer has closed, and we have not.
    CloseWait,
    /// It accepts connections.
    Listening,
    /// Any other one, by the kernel's number.
    Other(u8),
}

impl SocketState {
    const fn from_wire(raw: u8) -> Self {
        match raw {
            1 => Self::Established,
            8 => Self::CloseWait,
            10 => Self::Listening,
            other => Self::Other(other),
        }
    }

    /// As ss(8) writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Established => "ESTAB",
            Self::CloseWait => "CLOSE-WAIT",
            Self::Listening => "LISTEN",
            Self::Other(2) => "SYN-SENT",
            Self::Other(3) => "SYN-RECV",
            Self::Other(4) => "FIN-WAIT-1",
            Self::Other(5) => "FIN-WAIT-2",
            Self::Other(6) => "TIME-WAIT",
            Self::Other(7) => "UNCONN",
            Self::Other(9) => "LAST-ACK",
            Self::Other(11) => "CLOSING",
            Self::Other(_) => "?",
        }
    }
}

/// The bit of a state in a question.
pub(crate) const ESTABLISHED: u32 = 1 << 1;
/// As above.
pub(crate) const CLOSE_WAIT: u32 = 1 << 8;
/// As above.
pub(crate) const LISTENING: u32 = 1 << 10;

/// A TCP (or UDP) socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcpSocket {
    /// What it does.
    pub state: SocketState,
    /// Its inode number; 0 for a connection that no program has accepted yet, or has closed.
    pub inode: u32,
    /// Our end.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// Listening: connections that wait to be accepted. Else: bytes that wait to be read.
    pub receive_queue: u32,
    /// Listening: the most that may wait. Else: bytes that the peer has not acknowledged.
    pub send_queue: u32,
    /// What has passed over it, where that was asked for.
    pub traffic: Option<Traffic>,
}

/// What has passed over a TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Bytes that the peer has acknowledged.
    pub bytes_acked: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Since our end last sent something, or else since the connection was made.
    pub last_sent: Duration,
    /// Since something was last received, or else since the connection was made.
    pub last_received: Duration,
}

/// A Unix socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnixSocket<'a> {
    /// What it does.
    pub state: SocketState,
    /// Its inode number. Connections that no program has accepted yet are not told of.
    pub inode: u32,
    /// Its path, or a name that begins with a zero byte. Accepted connections have their
    /// listener's.
    pub name: &'a [u8],
    /// Listening: connections that wait to be accepted. Else: bytes that wait to be read.
    pub receive_queue: u32,
    /// Listening: the most that may wait. Else: bytes that were not read by the peer.
    pub send_queue: u32,
}

/// Whether the byte counters of connections are wanted, for which the kernel locks each of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Counters {
    Wanted,
    NotWanted,
}

/// The way to the kernel's socket diagnostics. Kept open between dumps.
#[derive(Debug)]
pub(crate) struct Diagnostics {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Diagnostics {
    pub(crate) fn open() -> io::Result<Self> {
        let protocol = Some(netlink::SOCK_DIAG);
        let flags = SocketFlags::CLOEXEC;
        let fd = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(ANSWER_WITHIN))?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Every TCP socket of both families that is in one of these states.
    pub(crate) fn tcp(
        &mut self,
        states: u32,
        counters: Counters,
        mut each: impl FnMut(TcpSocket),
    ) -> io::Result<()> {
        self.inet(libc::IPPROTO_TCP, states, counters, &mut each)
    }

    /// Every UDP socket of both families. Its queues are in bytes.
    pub(crate) fn udp(&mut self, mut each: impl FnMut(TcpSocket)) -> io::Result<()> {
        self.inet(libc::IPPROTO_UDP, u32::MAX, Counters::NotWanted, &mut each)
    }

    fn inet(
        &mut self,
        protocol: i32,
        states: u32,
        counters: Counters,
        each: &mut impl FnMut(TcpSocket),
    ) -> io::Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let request = inet_request(family, protocol, states, counters);
            self.dump(&request, |body| {
                if let Some(socket) = tcp_socket(body) {
                    each(socket);
                }
            })?;
        }
        Ok(())
    }

    /// Every Unix stream or packet socket that is in one of these states.
    pub(crate) fn unix(
        &mut self,
        states: u32,
        mut each: impl FnMut(UnixSocket<'_>),
    ) -> io::Result<()> {
        let request = unix_request(states);
        self.dump(&request, |body| {
            if let Some(socket) = unix_socket(body) {
                each(socket);
            }
        })
    }

    fn dump(&mut self, request: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = message(request, self.sequence);
        send(&self.fd, &message, SendFlags::empty())?;
        let mut left = SOCKETS_MAX;
        loop {
            let (length, _) = recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::empty())?;
            let answer = self.buffer.get(..length).unwrap_or(&[]);
            if read_answer(answer, self.sequence, &mut left, &mut each)? == More::No {
                return Ok(());
            }
        }
    }
}

/// Whether more of an answer is to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum More {
    Yes,
    No,
}

/// Reads the messages of one datagram. Those that answer an earlier question, which was given up,
/// are skipped.
fn read_answer(
    mut answer: &[u8],
    sequence: u32,
    left: &mut usize,
    each: &mut impl FnMut(&[u8]),
) -> io::Result<More> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "an answer that can't be read");
    while !answer.is_empty() {
        let length = u32_at(answer, 0).ok_or_else(invalid)? as usize;
        let message = answer.get(..length).filter(|_| HEADER_BYTES <= length);
        let message = message.ok_or_else(invalid)?;
        answer = answer.get(aligned(length)..).unwrap_or(&[]);
        if u32_at(message, 8) != Some(sequence) {
            continue;
        }
        let body = message.get(HEADER_BYTES..).unwrap_or(&[]);
        match u16_at(message, 4) {
            Some(NLMSG_DONE) => return Ok(More::No),
            Some(NLMSG_ERROR) => {
                let errno = u32_at(body, 0).ok_or_else(invalid)?.cast_signed();
                return Err(errno.checked_neg().map_or_else(invalid, io::Error::from_raw_os_error));
            }
            Some(SOCK_DIAG_BY_FAMILY) => {
                *left = left.checked_sub(1).ok_or_else(|| {
                    let why = format!("there are more than {SOCKETS_MAX} sockets");
                    io::Error::new(io::ErrorKind::OutOfMemory, why)
                })?;
                each(body);
            }
            _ => {}
        }
    }
    Ok(More::Yes)
}

fn message(request: &[u8], sequence: u32) -> Vec<u8> {
    let total = HEADER_BYTES + request.len();
    let mut bytes = Vec::with_capacity(total);
    bytes.extend(u32::try_from(total).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]); // the kernel
    bytes.extend(request);
    bytes
}

/// `struct inet_diag_req_v2`.
fn inet_request(family: i32, protocol: i32, states: u32, counters: Counters) -> Vec<u8> {
    let extensions = match counters {
        Counters::Wanted => 1 << (INET_DIAG_INFO - 1),
        Counters::NotWanted => 0,
    };
    let mut bytes =
        vec![u8::try_from(family).unwrap_or(0), u8::try_from(protocol).unwrap_or(0), extensions, 0];
    bytes.extend(states.to_ne_bytes());
    bytes.extend([0; 48]); // any addresses, any interface
    bytes
}

/// `struct unix_diag_req`.
fn unix_request(states: u32) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(libc::AF_UNIX).unwrap_or(0), 0, 0, 0];
    bytes.extend(states.to_ne_bytes());
    bytes.extend([0; 4]); // any inode
    bytes.extend(UDIAG_SHOW.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes
}

fn tcp_socket(body: &[u8]) -> Option<TcpSocket> {
    let family = i32::from(*body.first()?);
    let address = |port_at: usize, ip_at: usize| {
        let port = body.get(port_at..port_at + 2)?;
        let port = u16::from_be_bytes(port.try_into().ok()?);
        let ip: [u8; 16] = body.get(ip_at..ip_at + 16)?.try_into().ok()?;
        let ip = if family == libc::AF_INET {
            IpAddr::V4(Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]))
        } else {
            IpAddr::V6(Ipv6Addr::from(ip))
        };
        Some(SocketAddr::new(ip, port))
    };
    let info = attribute(body.get(INET_BYTES..)?, INET_DIAG_INFO);
    let since = |info, at| Some(Duration::from_millis(u64::from(u32_at(info, at)?)));
    let traffic = info.and_then(|info| {
        Some(Traffic {
            bytes_acked: u64_at(info, BYTES_ACKED_AT)?,
            bytes_received: u64_at(info, BYTES_RECEIVED_AT)?,
            last_sent: since(info, LAST_SENT_AT)?,
            last_received: since(info, LAST_RECEIVED_AT)?,
        })
    });
    Some(TcpSocket {
        state: SocketState::from_wire(*body.get(1)?),
        inode: u32_at(body, 68)?,
        local: address(4, 8)?,
        peer: address(6, 24)?,
        receive_queue: u32_at(body, 56)?,
        send_queue: u32_at(body, 60)?,
        traffic,
    })
}

fn unix_socket(body: &[u8]) -> Option<UnixSocket<'_>> {
    let attributes = body.get(UNIX_BYTES..)?;
    let name = attribute(attributes, UNIX_DIAG_NAME).unwrap_or(&[]);
    let queues = attribute(attributes, UNIX_DIAG_RQLEN);
    let queue = |at| queues.and_then(|queues| u32_at(queues, at)).unwrap_or(0);
    Some(UnixSocket {
        state: SocketState::from_wire(*body.get(2)?),
        inode: u32_at(body, 4)?,
        // A name in the file system may come with the zero byte that ends it.
        name: if name.first() == Some(&0) { name } else { name.split(|b| *b == 0).next()? },
        receive_queue: queue(0),
        send_queue: queue(4),
    })
}

/// The value of the first attribute (`struct nlattr`) of a kind.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        if length < 4 {
            return None;
        }
        if u16_at(attributes, 2)? == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(aligned(length)..)?;
    }
}

const fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt;

    fn inode(fd: &impl std::os::fd::AsRawFd) -> u32 {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        u32::try_from(std::fs::metadata(path).unwrap().ino()).unwrap()
    }

    #[test]
    fn a_listener_and_both_ends_of_its_connections_are_seen_with_their_queues() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let at = listener.local_addr().unwrap();
            let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(at).unwrap()).collect();
            let mut found = Vec::new();
            let states = LISTENING | ESTABLISHED | CLOSE_WAIT;
            let mut diagnostics = Diagnostics::open().unwrap();
            let collect = |socket: TcpSocket| found.push(socket);
            diagnostics.tcp(states, Counters::Wanted, collect).unwrap();
            let seen = found.iter().find(|s| s.inode == inode(&listener)).unwrap();
            assert_eq!((seen.state, seen.local), (SocketState::Listening, at));
            assert_eq!(seen.receive_queue, 3);
            assert!(3 < seen.send_queue);
            let client = found.iter().find(|s| s.inode == inode(&clients[0])).unwrap();
            assert_eq!((client.state, client.peer), (SocketState::Established, at));
            assert!(client.traffic.is_some());
            // The other ends wait to be accepted: they belong to no program yet.
            let waiting = found.iter().filter(|s| s.local == at && s.inode == 0).count();
            assert_eq!(waiting, 3);
        }
    }

    #[test]
    fn a_unix_listener_is_seen_with_its_queue_and_its_name() {
        use std::os::unix::net::{UnixListener, UnixStream};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let mut found = Vec::new();
        let mut diagnostics = Diagnostics::open().unwrap();
        let collect = |socket: UnixSocket<'_>| {
            found.push((socket.inode, socket.state, socket.name.to_vec(), socket.receive_queue));
        };
        diagnostics.unix(LISTENING | ESTABLISHED, collect).unwrap();
        let name = path.as_os_str().as_encoded_bytes().to_vec();
        assert!(found.contains(&(inode(&listener), SocketState::Listening, name.clone(), 1)));
        // What waits to be accepted is not told of; accepted, it has its listener's name.
        assert_eq!(found.iter().filter(|socket| socket.2 == name).count(), 1);
        let accepted = listener.accept().unwrap().0;
        found.clear();
        let collect = |socket: UnixSocket<'_>| {
            found.push((socket.inode, socket.state, socket.name.to_vec(), socket.receive_queue));
        };
        diagnostics.unix(LISTENING | ESTABLISHED, collect).unwrap();
        assert!(found.contains(&(inode(&accepted), SocketState::Established, name, 0)));
        drop(client);
    }

    #[test]
    fn an_answer_to_another_question_is_not_taken_for_ours() {
        let mut answer = message(&[0; 80], 7);
        let mut seen = 0;
        let mut left = 1;
        assert_eq!(read_answer(&answer, 8, &mut left, &mut |_| seen += 1).unwrap(), More::Yes);
        assert_eq!(read_answer(&answer, 7, &mut left, &mut |_| seen += 1).unwrap(), More::Yes);
        assert!(read_answer(&answer, 7, &mut left, &mut |_| seen += 1).is_err());
        answer[4] = NLMSG_DONE.to_ne_bytes()[0];
        assert_eq!(read_answer(&answer, 7, &mut left, &mut |_| seen += 1).unwrap(), More::No);
        assert_eq!(seen, 1);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_a_panic(answer: Vec<u8>, good_length: bool) {
            let mut answer = answer;
            if good_length && 4 <= answer.len() {
                let length = u32::try_from(answer.len()).unwrap();
                answer[..4].copy_from_slice(&length.to_ne_bytes());
            }
            let _ = read_answer(&answer, 0, &mut 100, &mut |body| {
                let _ = (tcp_socket(body), unix_socket(body));
            });
            let _ = (tcp_socket(&answer), unix_socket(&answer));
        }
    }
}

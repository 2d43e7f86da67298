//! The user behind a TCP connection from this same machine.
//!
//! Why: a browser on loopback has no other identity; the kernel knows whose socket the client's end
//! is. One exact question, no table scan.
//! Source: sock_diag(7); include/uapi/linux/{netlink,inet_diag}.h.

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;

/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Bytes of `struct inet_diag_req_v2`.
const REQUEST_BYTES: usize = 56;
/// Where `idiag_uid` stands in `struct inet_diag_msg`.
const UID_OFFSET: usize = 64;
/// Bytes of `struct inet_diag_msg`.
const ANSWER_BYTES: usize = 72;

/// The kernel answers within the call; this only bounds a bug.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The user who owns the *client's* end of a connection between two sockets of this machine.
/// `local` is our end, `peer` the client's. `None`: there is no such socket here.
pub fn tcp_peer_uid(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
    let protocol = Some(netlink::SOCK_DIAG);
    let flags = SocketFlags::CLOEXEC;
    let fd = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
    rustix::net::sockopt::set_socket_timeout(
        &fd,
        rustix::net::sockopt::Timeout::Recv,
        Some(ANSWER_WITHIN),
    )?;
    // Seen from the client, its own end is the source.
    let Some(request) = encode(peer, local) else { return Ok(None) };
    send(&fd, &request, SendFlags::empty())?;
    let mut answer = [0_u8; 1024];
    let (length, _) = recv(&fd, &mut answer[..], RecvFlags::empty())?;
    decode(answer.get(..length).unwrap_or(&[]))
}

fn encode(source: SocketAddr, destination: SocketAddr) -> Option<Vec<u8>> {
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let family = match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => libc::AF_INET,
        (IpAddr::V6(_), IpAddr::V6(_)) => libc::AF_INET6,
        // No connection has ends of two families.
        _ => return None,
    };
    let total = u32::try_from(HEADER_BYTES + REQUEST_BYTES).ok()?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + REQUEST_BYTES);
    bytes.extend(total.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]); // sequence and port: we ask once
    bytes.push(u8::try_from(family).ok()?);
    bytes.push(u8::try_from(libc::IPPROTO_TCP).ok()?);
    bytes.extend([0; 2]); // no extensions
    bytes.extend(u32::MAX.to_ne_bytes()); // in whatever state
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(destination.port().to_be_bytes());
    bytes.extend(wide(from));
    bytes.extend(wide(to));
    bytes.extend([0; 4]); // any interface
    bytes.extend([0xFF; 8]); // INET_DIAG_NOCOOKIE
    Some(bytes)
}

/// An address in the sixteen bytes that both families share.
fn wide(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
    }
}

fn decode(answer: &[u8]) -> io::Result<Option<u32>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let number = |at: usize| {
        let bytes = answer.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let kind = number(4).ok_or_else(invalid)?.to_ne_bytes();
    let kind = u16::from_ne_bytes([kind[0], kind[1]]);
    if kind == NLMSG_ERROR {
        let errno = number(HEADER_BYTES).ok_or_else(invalid)?.cast_signed();
        return match errno.checked_neg() {
            Some(libc::ENOENT) => Ok(None),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(invalid()),
        };
    }
    if kind != SOCK_DIAG_BY_FAMILY || answer.len() < HEADER_BYTES + ANSWER_BYTES {
        return Err(invalid());
    }
    Ok(number(HEADER_BYTES + UID_OFFSET))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_question_has_the_layout_of_the_kernel() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let bytes = encode(at("127.0.0.1:258"), at("[::ffff:127.0.0.1]:80")).unwrap();
        assert_eq!(bytes.len(), HEADER_BYTES + REQUEST_BYTES);
        assert_eq!(bytes[24..28], [1, 2, 0, 80]);
        assert_eq!(encode(at("127.0.0.1:1"), at("[::1]:2")), None);
    }

    #[test]
    fn both_ends_of_a_loopback_connection_have_an_owner_and_others_have_none() {
        let own = crate::users::effective_uid();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let local = listener.local_addr().unwrap();
            let client = TcpStream::connect(local).unwrap();
            let peer = client.local_addr().unwrap();
            assert_eq!(tcp_peer_uid(local, peer).unwrap(), Some(own));
            let nobody = SocketAddr::new(peer.ip(), 1);
            assert_eq!(tcp_peer_uid(local, nobody).unwrap(), None);
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_a_panic(answer: Vec<u8>) {
            let _ = decode(&answer);
        }
    }
}

//! Who is at the other end of a connection, and what they may.
//!
//! Why as the console: the same person may do the same by every face. supervisord's own way, a name
//! and a password by HTTP, is understood besides.
//! Invariants: a password is compared by its hash, in constant time, and never logged; a wrong one is
//! refused even where its bearer needed none.
//! Source: unix(7), `SO_PEERCRED`; RFC 7617.

use super::house::House;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::{ApiSettings, SupervisordSettings};
use console::{SystemNames, role_of_anybody, role_of_peer};
use control::{Caller, Role};
use ring::digest::{SHA256, digest};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use sys::socket::Peer;

/// A user database that takes longer than this can't be waited for.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(3);

/// A longer header holds no name and password of ours.
const CREDENTIALS_BYTES_MAX: usize = 4 * 1024;

/// What a request's `Authorization` header makes of a visitor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Login {
    /// None was given, or none is configured.
    Absent,
    /// The right one.
    Right(Caller),
    /// A wrong one.
    Wrong,
}

/// Somebody on the Unix socket.
pub(crate) async fn on_unix(house: &House, stream: &impl AsFd) -> Caller {
    match sys::socket::unix_peer(stream.as_fd()) {
        Ok(peer) => look_up(house, move || peer).await,
        Err(error) => nobody(&house.api, &format!("the kernel does not say who asks: {error}")),
    }
}

/// Somebody on the TCP listener: where a login is configured, nobody before that; else whoever
/// opened the connection, if that was on this machine.
pub(crate) async fn on_tcp(house: &House, local: SocketAddr, remote: SocketAddr) -> Caller {
    if house.face.login.is_some() {
        return Caller { name: format!("unknown ({remote})"), role: Role::None };
    }
    if !remote.ip().to_canonical().is_loopback() {
        return nobody(&house.api, "the connection comes from another machine");
    }
    match sys::socket::tcp_peer_uid(local, remote) {
        Ok(Some(uid)) => look_up(house, move || peer_of_uid(uid)).await,
        Ok(None) | Err(_) => {
            nobody(&house.api, "the kernel does not say who opened the connection")
        }
    }
}

/// Reads an `Authorization` header.
pub(crate) fn login(face: &SupervisordSettings, header: Option<&[u8]>) -> Login {
    let (Some((user, hash)), Some(header)) = (&face.login, header) else { return Login::Absent };
    if CREDENTIALS_BYTES_MAX < header.len() {
        return Login::Wrong;
    }
    let text = std::str::from_utf8(header).ok();
    let encoded = text
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
    let decoded = encoded.and_then(|(_, encoded)| STANDARD.decode(encoded.trim()).ok());
    let Some(decoded) = decoded else { return Login::Wrong };
    // Without a colon all of it is the name.
    let colon = decoded.iter().position(|byte| *byte == b':').unwrap_or(decoded.len());
    let (name, password) = (&decoded[..colon], decoded.get(colon + 1..).unwrap_or_default());
    // Both are compared in any case, and as hashes, so that the time tells nothing.
    let same_name = same(digest(&SHA256, name).as_ref(), digest(&SHA256, user.as_bytes()).as_ref());
    let same_password = same(digest(&SHA256, password).as_ref(), hash);
    if same_name & same_password {
        let name = format!("login {user}");
        return Login::Right(Caller { name, role: Role::Act });
    }
    Login::Wrong
}

fn same(left: &[u8], right: &[u8]) -> bool {
    // `black_box` keeps the compiler from leaving the loop at the first difference.
    let difference = left.iter().zip(right).fold(0_u8, |all, (a, b)| all | (a ^ b));
    left.len() == right.len() && std::hint::black_box(difference) == 0
}

fn peer_of_uid(uid: u32) -> Peer {
    match sys::users::account(&uid.to_string()) {
        Ok(account) => {
            Peer { uid, gid: account.gid, pid: None, groups: sys::users::groups_of(&account) }
        }
        // A user without an account: the overflow group is nobody's.
        Err(_) => Peer { uid, gid: u32::MAX, pid: None, groups: Vec::new() },
    }
}

async fn look_up(house: &House, peer: impl FnOnce() -> Peer + Send + 'static) -> Caller {
    let api = Arc::clone(&house.api);
    let lookup = move || {
        let peer = peer();
        let role = role_of_peer(&api, &peer, sys::users::effective_uid(), &SystemNames);
        let name = sys::users::name_of_uid(peer.uid).map_or(String::new(), |n| format!(" ({n})"));
        Caller { name: format!("uid {}{name}", peer.uid), role }
    };
    // The user database may be on the network: never on the event loop.
    let found = tokio::time::timeout(LOOKUP_DEADLINE, tokio::task::spawn_blocking(lookup)).await;
    match found {
        Ok(Ok(caller)) => caller,
        _ => nobody(&house.api, "the user database does not answer"),
    }
}

fn nobody(api: &ApiSettings, why: &str) -> Caller {
    Caller { name: format!("unknown ({why})"), role: role_of_anybody(api) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face() -> SupervisordSettings {
        let hash = digest(&SHA256, b"p:w").as_ref().try_into().unwrap();
        SupervisordSettings {
            unix: None,
            tcp: None,
            login: Some(("alice".into(), hash)),
            identifier: "x".into(),
        }
    }

    fn of(text: &str) -> Login {
        let header = format!("Basic {}", STANDARD.encode(text));
        login(&face(), Some(header.as_bytes()))
    }

    #[test]
    fn a_login_is_right_or_wrong() {
        let Login::Right(caller) = of("alice:p:w") else { panic!("{:?}", of("alice:p:w")) };
        assert_eq!((caller.name.as_str(), caller.role), ("login alice", Role::Act));
        for wrong in ["alice:pw", "alice:", "alice", "", "bob:p:w", "Alice:p:w", ":p:w"] {
            assert_eq!(of(wrong), Login::Wrong, "{wrong}");
        }
        for header in ["", "Basic", "Basic *", "Bearer x", "basic"] {
            assert_eq!(login(&face(), Some(header.as_bytes())), Login::Wrong, "{header}");
        }
        assert_eq!(login(&face(), Some(&[b'x'; 5000])), Login::Wrong);
        assert_eq!(login(&face(), Some(&[0xff, 0xfe])), Login::Wrong);
    }

    #[test]
    fn where_none_is_configured_none_counts() {
        assert_eq!(login(&face(), None), Login::Absent);
        let open = SupervisordSettings { login: None, ..face() };
        assert_eq!(login(&open, Some(b"Basic eDp5")), Login::Absent);
    }
}

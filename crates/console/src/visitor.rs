//! Who is at the other end of a connection, found out once when it is accepted; and whose token a
//! request carries.
//!
//! Why: the kernel knows who opened a local connection, so that nobody on this machine needs a
//! password, and no page of a browser can pretend to be somebody else.
//! Invariants: a token is compared by its hash in constant time and is never logged; a wrong token
//! is refused even where its bearer needed none.

use crate::access::{SystemNames, role_of_anybody, role_of_peer};
use config::{ApiSettings, Token};
use control::{Caller, Role};
use ring::digest::{SHA256, digest};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use sys::socket::Peer;

/// A user database that takes longer than this can't be waited for: the visitor counts as unknown.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(3);

/// Longer tokens are nobody's, and are not hashed.
const TOKEN_BYTES_MAX: usize = 1024;

/// Which door a connection came in by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    /// The API's Unix socket.
    Unix,
    /// The web console's TCP listener.
    Web {
        /// Where it listens.
        local: SocketAddr,
    },
    /// The remote API's TCP listener: tokens only.
    Remote,
    /// The listener for balancers: no questions asked, nothing but health told.
    Health,
}

impl Door {
    /// For metrics and logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Web { .. } => "web",
            Self::Remote => "remote",
            Self::Health => "health",
        }
    }
}

/// One connection: its door, who opened it, and why he may not do more.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    pub(crate) door: Door,
    pub(crate) caller: Caller,
    /// What would let him do more; for the page that refuses him.
    pub(crate) help: Arc<str>,
}

/// Somebody on the API's Unix socket.
pub(crate) async fn on_unix(settings: &Arc<ApiSettings>, stream: &impl AsFd) -> Visitor {
    let door = Door::Unix;
    match sys::socket::unix_peer(stream.as_fd()) {
        Ok(peer) => known(door, settings, Known::Peer(peer)).await,
        Err(error) => {
            unknown(door, settings, &format!("the kernel does not say who asks: {error}"))
        }
    }
}

/// Somebody on the web console's listener: `local` is our end of the connection.
pub(crate) async fn on_web(
    settings: &Arc<ApiSettings>,
    listening: SocketAddr,
    local: SocketAddr,
    remote: SocketAddr,
) -> Visitor {
    let door = Door::Web { local: listening };
    if !remote.ip().to_canonical().is_loopback() {
        return unknown(door, settings, "the connection comes from another machine");
    }
    match sys::socket::tcp_peer_uid(local, remote) {
        Ok(Some(uid)) => known(door, settings, Known::Uid(uid)).await,
        Ok(None) => unknown(door, settings, "the kernel does not say who opened the connection"),
        Err(error) => unknown(
            door,
            settings,
            &format!("the kernel does not say who opened the connection: {error}"),
        ),
    }
}

/// Somebody on the remote API's listener: nobody until he shows a token.
pub(crate) fn on_remote() -> Visitor {
    Visitor {
        door: Door::Remote,
        caller: Caller { name: "unknown".to_owned(), role: Role::None },
        help: "send the header `Authorization: Bearer TOKEN`; `[[api.token]]` lists who has one"
            .into(),
    }
}

/// Somebody on the listener for balancers.
pub(crate) fn on_health() -> Visitor {
    let caller = Caller { name: "balancer".to_owned(), role: Role::None };
    Visitor { door: Door::Health, caller, help: "".into() }
}

/// Whose token this is.
pub(crate) fn bearer(tokens: &[Token], text: &str) -> Option<Caller> {
    if TOKEN_BYTES_MAX < text.len() {
        return None;
    }
    let hash = digest(&SHA256, text.as_bytes());
    // Every token is compared, so that the time taken does not tell which one was near.
    let mut found = None;
    for token in tokens {
        if same(hash.as_ref(), &token.sha256) {
            found = Some(token);
        }
    }
    found.map(|token| Caller {
        name: format!("token {}", token.name),
        role: if token.may_act { Role::Act } else { Role::Read },
    })
}

fn same(left: &[u8], right: &[u8]) -> bool {
    // `black_box` keeps the compiler from leaving the loop at the first difference.
    let difference = left.iter().zip(right).fold(0_u8, |all, (a, b)| all | (a ^ b));
    left.len() == right.len() && std::hint::black_box(difference) == 0
}

/// What the kernel says of a local visitor.
enum Known {
    /// All of it, groups too.
    Peer(Peer),
    /// The user alone (TCP).
    Uid(u32),
}

impl Known {
    /// With the groups; for a user alone those of the group database. May block.
    fn with_groups(self) -> Peer {
        let uid = match self {
            Self::Peer(peer) => return peer,
            Self::Uid(uid) => uid,
        };
        match sys::users::account(&uid.to_string()) {
            Ok(account) => {
                Peer { uid, gid: account.gid, pid: None, groups: sys::users::groups_of(&account) }
            }
            // A user without an account: the overflow group is nobody's.
            Err(_) => Peer { uid, gid: u32::MAX, pid: None, groups: Vec::new() },
        }
    }
}

async fn known(door: Door, settings: &Arc<ApiSettings>, visitor: Known) -> Visitor {
    let lookup = {
        let settings = Arc::clone(settings);
        move || {
            let peer = visitor.with_groups();
            let uid = peer.uid;
            let role = role_of_peer(&settings, &peer, sys::users::effective_uid(), &SystemNames);
            let name = sys::users::name_of_uid(uid)
                .map_or_else(|| format!("uid {uid}"), |name| format!("uid {uid} ({name})"));
            Caller { name, role }
        }
    };
    // The user database may be on the network: never on the event loop.
    let looked_up =
        tokio::time::timeout(LOOKUP_DEADLINE, tokio::task::spawn_blocking(lookup)).await;
    match looked_up {
        Ok(Ok(caller)) => Visitor { door, help: help_for(&caller.name), caller },
        _ => unknown(door, settings, "the user database does not answer"),
    }
}

fn unknown(door: Door, settings: &ApiSettings, why: &str) -> Visitor {
    let role = role_of_anybody(settings);
    Visitor {
        door,
        caller: Caller { name: format!("unknown ({why})"), role },
        help: format!(
            "{why}; add `everyone` to `viewers` in the section `[api]`, or send a bearer token"
        )
        .into(),
    }
}

fn help_for(name: &str) -> Arc<str> {
    format!(
        "you are {name}; an operator can add `user:NAME` or `group:NAME` to `viewers` or \
         `operators` in the section `[api]` of the configuration"
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash_alone() {
        let hash = digest(&SHA256, b"secret");
        let token = Token {
            name: "deploy".into(),
            sha256: hash.as_ref().try_into().unwrap(),
            may_act: true,
        };
        let caller = bearer(std::slice::from_ref(&token), "secret").unwrap();
        assert_eq!((caller.name.as_str(), caller.role), ("token deploy", Role::Act));
        for wrong in ["", "secre", "secret ", "Secret"] {
            assert!(bearer(std::slice::from_ref(&token), wrong).is_none(), "{wrong}");
        }
        assert!(bearer(&[token], &"x".repeat(2000)).is_none());
    }
}

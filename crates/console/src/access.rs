//! Decides what a local user may: nothing, look, or look and act.
//!
//! Why: the control socket, the API socket and the web console must give the same answer about the
//! same person, so there is one function for all three.
//! Invariants: root and holdfast's own user always may act; a name that can't be resolved grants
//! nothing; an operator is never less than a viewer.
//! Source: unix(7), `SO_PEERCRED` and `SO_PEERGROUPS`.

use config::{ApiSettings, Principal};
use control::Role;
use sys::socket::Peer;

/// Turns the names of a configuration into numbers. Given as an argument, because the user database
/// may be slow (LDAP) and because tests have none.
pub trait Names {
    /// The number of a user given by name or number.
    fn user(&self, name: &str) -> Option<u32>;
    /// The number of a group given by name or number.
    fn group(&self, name: &str) -> Option<u32>;
}

/// The machine's user database. May block.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNames;

impl Names for SystemNames {
    fn user(&self, name: &str) -> Option<u32> {
        name.parse().ok().or_else(|| sys::users::account(name).ok().map(|account| account.uid))
    }

    fn group(&self, name: &str) -> Option<u32> {
        name.parse().ok().or_else(|| sys::users::group_id(name).ok())
    }
}

/// What this peer may. `own_uid` is the user that holdfast runs as.
pub fn role_of_peer(settings: &ApiSettings, peer: &Peer, own_uid: u32, names: &dyn Names) -> Role {
    let belongs = |principal: &Principal| match principal {
        Principal::Everyone => true,
        Principal::User(name) => names.user(name) == Some(peer.uid),
        Principal::Group(name) => {
            names.group(name).is_some_and(|group| group == peer.gid || peer.groups.contains(&group))
        }
    };
    if peer.uid == 0 || peer.uid == own_uid || settings.operators.iter().any(belongs) {
        return Role::Act;
    }
    if settings.viewers.iter().any(belongs) { Role::Read } else { Role::None }
}

/// What somebody may of whom nothing is known: at most look. `everyone` means the users of this
/// machine, and nobody knows whether he is one.
pub fn role_of_anybody(settings: &ApiSettings) -> Role {
    let mut named = settings.operators.iter().chain(&settings.viewers);
    if named.any(|principal| *principal == Principal::Everyone) { Role::Read } else { Role::None }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Book;

    impl Names for Book {
        fn user(&self, name: &str) -> Option<u32> {
            name.parse().ok().or_else(|| (name == "alice").then_some(1000))
        }

        fn group(&self, name: &str) -> Option<u32> {
            name.parse().ok().or_else(|| (name == "ops").then_some(50))
        }
    }

    fn check(settings: &ApiSettings, uid: u32, groups: &[u32], expect: Role) {
        let peer = Peer { uid, gid: uid, pid: None, groups: groups.to_vec() };
        assert_eq!(role_of_peer(settings, &peer, 900, &Book), expect, "uid {uid} {groups:?}");
    }

    #[test]
    fn root_and_our_own_user_act_and_strangers_see_nothing() {
        let nobody_named = ApiSettings::default();
        check(&nobody_named, 0, &[], Role::Act);
        check(&nobody_named, 900, &[], Role::Act);
        check(&nobody_named, 1000, &[50], Role::None);
    }

    #[test]
    fn operators_and_viewers_are_found_by_user_and_by_any_of_their_groups() {
        let settings = ApiSettings {
            operators: vec![Principal::User("alice".into()), Principal::Group("ops".into())],
            viewers: vec![Principal::User("1001".into()), Principal::Group("ops".into())],
            ..ApiSettings::default()
        };
        check(&settings, 1000, &[], Role::Act);
        check(&settings, 2000, &[7, 50], Role::Act);
        check(&settings, 50, &[], Role::Act);
        check(&settings, 1001, &[], Role::Read);
        check(&settings, 1002, &[51], Role::None);
    }

    #[test]
    fn a_name_that_nobody_has_grants_nothing() {
        let settings = ApiSettings {
            operators: vec![Principal::User("ghost".into()), Principal::Group("ghosts".into())],
            ..ApiSettings::default()
        };
        check(&settings, 1000, &[50], Role::None);
    }

    #[test]
    fn everyone_is_everyone_also_when_nothing_is_known_of_him() {
        let everyone = vec![Principal::Everyone];
        let open = ApiSettings { viewers: everyone, ..ApiSettings::default() };
        check(&open, 4711, &[], Role::Read);
        assert_eq!(role_of_anybody(&open), Role::Read);
        assert_eq!(role_of_anybody(&ApiSettings::default()), Role::None);
        let operators = vec![Principal::Everyone];
        let wide = ApiSettings { operators, ..ApiSettings::default() };
        check(&wide, 4711, &[], Role::Act);
        assert_eq!(role_of_anybody(&wide), Role::Read, "who is unknown never acts");
    }
}

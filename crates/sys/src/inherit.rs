//! Descriptors that were left open for us by the program that executed us.
//!
//! Source: our own protocol, a variable with `name=fd,name=fd`; a descriptor is taken only if it is
//! open, and is closed on exec from then on.

use std::collections::BTreeMap;
use std::os::fd::{FromRawFd, OwnedFd};

/// At most this many are taken: more is no list of ours.
const INHERITED_MAX: usize = 4096;

/// Takes the descriptors that `variable` names. To be called once for each variable, before
/// anything else opens or closes descriptors: the variable is a promise about their numbers.
pub fn inherited_fds(variable: &str) -> BTreeMap<String, OwnedFd> {
    let Ok(text) = std::env::var(variable) else { return BTreeMap::new() };
    let mut taken = BTreeMap::new();
    let mut numbers = std::collections::BTreeSet::new();
    for pair in text.split(',').take(INHERITED_MAX) {
        let Some((name, number)) = pair.rsplit_once('=') else { continue };
        let Ok(number) = number.parse::<i32>() else { continue };
        // 0 to 2 are the standard streams and belong to everybody; a number is taken once.
        if number < 3 || !numbers.insert(number) {
            continue;
        }
        // SAFETY: F_SETFD takes plain numbers; on a number that is not open it fails with EBADF.
        let open = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == 0;
        if open {
            // SAFETY: the number is open, was promised to us by the variable, and is taken once.
            taken.insert(name.to_owned(), unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    taken
}

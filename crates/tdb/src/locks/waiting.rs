//! How mutexes are waited for: as long as ranges of bytes are, and called off as they are.
//! Source: the TDB specification, sections 15.4 and 15.6.

use super::failed;
use crate::error::Fault;
use crate::header::List;
use crate::mutexes::{Mutexes, Waiting};
use crate::os::mutex;
use crate::os::range::Kind;
use crate::patience::Patience;
use std::io;
use std::time::Duration;

/// Lets a wait for a mutex go on in stretches, so that it can be called off between them.
#[derive(Clone, Copy)]
pub(super) enum Waits<'a, 'b> {
    Yes(&'a Patience<'b>),
    /// It is only asked whether it is free.
    No,
}

impl Waiting for Waits<'_, '_> {
    fn stretch(&mut self) -> mutex::Wait {
        let deadline = match self {
            Self::Yes(patience) => patience.next_deadline(STRETCH),
            Self::No => None,
        };
        deadline.map_or(mutex::Wait::No, mutex::Wait::Until)
    }

    fn pause(&mut self) -> bool {
        matches!(self, Self::Yes(patience) if patience.pause("a mutex").is_ok())
    }
}

/// How long a mutex is waited for before it is asked whether the wait was called off.
pub(super) const STRETCH: Duration = Duration::from_millis(20);

pub(super) fn granted(
    locked: io::Result<mutex::Locked>,
    offset: u64,
    patience: &Patience<'_>,
    what: &'static str,
) -> Result<(), Fault> {
    match locked.map_err(|why| failed(offset, why))? {
        // What the dead one had begun is found out as it is without mutexes: by what is read.
        mutex::Locked::Yes | mutex::Locked::OwnerDied => Ok(()),
        mutex::Locked::Busy => Err(patience.over(what)),
    }
}

/// Locks the mutex of a list, which this handle does not have.
#[inline]
pub(super) fn lock_mutex(
    mutexes: &mut Mutexes,
    list: List,
    kind: Kind,
    mut waits: Waits<'_, '_>,
) -> io::Result<mutex::Locked> {
    match list {
        List::Free => mutexes.free_lock(&mut waits),
        List::Chain(chain) => mutexes.chain_lock(kind, chain, &mut waits),
    }
}

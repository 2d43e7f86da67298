//! How mutexes are waited for: as long as ranges of bytes are, and called off as they are.
//! Source: the TDB specification, sections 15.4 and 15.6.

use super::failed;
use crate::error::Fault;
use crate::mutexes::Waiting;
use crate::os::mutex;
use crate::patience::Patience;
use std::io;
use std::time::Duration;

/// Lets a wait for a mutex go on in stretches, so that it can be called off between them.
pub(super) struct Waits<'a, 'b> {
    pub(super) patience: &'a Patience<'b>,
}

impl Waiting for Waits<'_, '_> {
    fn stretch(&mut self) -> mutex::Wait {
        self.patience.next_deadline(STRETCH).map_or(mutex::Wait::No, mutex::Wait::Until)
    }

    fn pause(&mut self) -> bool {
        self.patience.pause("a mutex").is_ok()
    }
}

/// How long a mutex is waited for before it is asked whether the wait was called off.
const STRETCH: Duration = Duration::from_millis(20);

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

//! How many descriptors may be kept open between two looks, over all runs.
//!
//! Why a bound: what is kept saves most of the work of a look, but the process needs descriptors
//! for other things, too, and a machine may allow it only a thousand. Whoever finds no room opens
//! its files at each look, which costs a little more and tells the same.
//! Invariant: what was reserved comes back when the [`Reserved`] is dropped.

use rustix::process::{Resource, getrlimit};
use std::cell::Cell;
use std::rc::Rc;

/// Never more than this: each costs up to a page of the kernel's memory.
const KEPT_MAX: u64 = 32_768;

/// Room for descriptors.
#[derive(Clone, Debug)]
pub(super) struct Room(Rc<Cell<usize>>);

/// Room that is taken.
#[derive(Debug)]
pub(super) struct Reserved {
    room: Room,
    number: usize,
}

impl Room {
    /// Half of what this process may have.
    pub(super) fn of_this_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::of(usize::try_from((limit / 2).min(KEPT_MAX)).unwrap_or(0))
    }

    pub(super) fn of(number: usize) -> Self {
        Self(Rc::new(Cell::new(number)))
    }

    /// Room for so many descriptors, if there is any left.
    pub(super) fn reserve(&self, number: usize) -> Option<Reserved> {
        self.0.set(self.0.get().checked_sub(number)?);
        Some(Reserved { room: self.clone(), number })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let left = &self.room.0;
        left.set(left.get() + self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h24_no_more_descriptors_are_kept_than_there_is_room_for() {
        let room = Room::of(5);
        let first = room.reserve(3).unwrap();
        assert!(room.reserve(3).is_none());
        let second = room.reserve(2).unwrap();
        assert!(room.reserve(1).is_none());
        drop(first);
        assert!(room.reserve(3).is_some(), "and given back at once");
        drop(second);
        assert!(room.reserve(5).is_some());
    }
}

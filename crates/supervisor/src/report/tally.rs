//! Counts of events by subject and kind: nothing that is told of is uncounted.
//!
//! Invariant: bounded; what has no row of its own is counted by its kind, and what has no kind of
//! its own there is counted as `other`.

use base::WallTime;
use std::collections::{BTreeMap, BTreeSet};

/// Rows of subject and kind: a longer table is read by nobody.
const ROWS_MAX: usize = 500;

/// Kinds among the rest: more than there are.
const KINDS_MAX: usize = 64;

/// The kind of what has no other place.
const OTHER: &str = "other";

/// How often, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Count {
    /// How many.
    pub events: u64,
    /// The first of them.
    pub first: WallTime,
    /// The last of them.
    pub last: WallTime,
}

impl Count {
    fn one(wall: WallTime) -> Self {
        Self { events: 1, first: wall, last: wall }
    }

    fn add(&mut self, other: Self) {
        self.events = self.events.saturating_add(other.events);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// See the module's head.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// By subject and kind.
    pub rows: BTreeMap<(String, String), Count>,
    /// Of the subjects without rows, by kind.
    pub others: BTreeMap<String, Count>,
}

impl Tally {
    /// Counts one event.
    pub fn count(&mut self, subject: &str, kind: &str, wall: WallTime) {
        self.add((subject.to_owned(), kind.to_owned()), Count::one(wall));
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: Self) {
        for (key, count) in other.rows {
            self.add(key, count);
        }
        for (kind, count) in other.others {
            self.add_other(kind, count);
        }
    }

    /// Takes out the rows of these subjects.
    pub fn take(&mut self, subjects: &BTreeSet<String>) -> Self {
        let (taken, left) = std::mem::take(&mut self.rows)
            .into_iter()
            .partition(|((subject, _), _)| subjects.contains(subject));
        self.rows = left;
        Self { rows: taken, others: BTreeMap::new() }
    }

    /// All of it: how many, the first and the last; `None` = nothing was counted.
    pub fn total(&self) -> Option<Count> {
        self.rows.values().chain(self.others.values()).copied().reduce(|mut sum, count| {
            sum.add(count);
            sum
        })
    }

    /// How many events were counted.
    pub fn events(&self) -> u64 {
        self.total().map_or(0, |total| total.events)
    }

    fn add(&mut self, key: (String, String), count: Count) {
        if let Some(row) = self.rows.get_mut(&key) {
            row.add(count);
        } else if self.rows.len() < ROWS_MAX {
            self.rows.insert(key, count);
        } else {
            self.add_other(key.1, count);
        }
    }

    fn add_other(&mut self, kind: String, count: Count) {
        let known = self.others.contains_key(&kind) || self.others.len() + 1 < KINDS_MAX;
        let kind = if known { kind } else { OTHER.to_owned() };
        self.others.entry(kind).and_modify(|sum| sum.add(count)).or_insert(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_however_much_there_is() {
        let mut tally = Tally::default();
        for n in 0..5_000_i64 {
            let wall = WallTime::from_micros(n);
            tally.count(&format!("s{n}"), &format!("kind.{}", n % 100), wall);
        }
        assert_eq!((tally.rows.len(), tally.others.len()), (ROWS_MAX, KINDS_MAX));
        let all = Count {
            events: 5_000,
            first: WallTime::from_micros(0),
            last: WallTime::from_micros(4_999),
        };
        assert_eq!(tally.total(), Some(all));
        let twice = {
            let mut twice = tally.clone();
            twice.merge(tally.clone());
            twice
        };
        assert_eq!((twice.events(), twice.rows.len()), (10_000, ROWS_MAX));
        let few = tally.take(&BTreeSet::from(["s7".to_owned()]));
        assert_eq!((few.events(), tally.events()), (1, 4_999));
    }
}

//! One of its threads is in uninterruptible sleep, and stays there.
//!
//! Why the place counts too: a thread that writes much is found in this state by many looks in a
//! row, each time for another reason. One that hangs is found at the same place of the kernel.
//! Invariant: at most [`FOLLOWED_MAX`] threads are followed; more add nothing to the verdict.
//! Source: proc(5), state `D`; requirement H18.

use super::finding::{Finding, Lasting, Look};
use super::words::count;
use base::Now;
use std::collections::BTreeMap;
use std::time::Duration;

/// Threads that are followed at a time.
const FOLLOWED_MAX: usize = 64;

/// The detector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Uninterruptible {
    lasting: Lasting,
    /// By process or thread: the place, and since when it is seen there by each look.
    followed: BTreeMap<u32, (String, Now)>,
}

impl Uninterruptible {
    pub(super) fn new(lasting: Duration) -> Self {
        Self { lasting: Lasting::new(lasting), followed: BTreeMap::new() }
    }

    pub(super) fn sampled(&mut self, look: &Look<'_>) -> Finding {
        let longest_before = self.followed.values().map(|(_, since)| *since).min();
        let mut followed = BTreeMap::new();
        for (id, place) in look.sample.uninterruptible.iter().take(FOLLOWED_MAX) {
            let since = match self.followed.get(id) {
                Some((before, since)) if before == place && look.before.is_some() => *since,
                _ => look.now,
            };
            followed.insert(*id, (place.clone(), since));
        }
        self.followed = followed;
        let number = look.sample.uninterruptible.len();
        let longest = self.followed.iter().min_by_key(|(_, (_, since))| *since);
        let Some((id, (place, since))) = longest else {
            self.lasting.ends();
            return Finding::well("no thread is in uninterruptible sleep");
        };
        if look.before.is_some() && longest_before.is_some_and(|before| before < *since) {
            // The one that had hung has woken up.
            self.lasting.ends();
        }
        let held = self.lasting.goes_on(look, *since);
        let place = if place.is_empty() { String::new() } else { format!(" in {place}") };
        let message = format!(
            "{} in uninterruptible sleep, {id}{place} {}",
            count(number as u64, "thread"),
            held.sentence(),
        );
        let longest = held.so_far.as_secs_f64();
        let measured = vec![("threads", number as f64), ("longest_seconds", longest)];
        Finding { cannot_run: held.is_sick(), ..held.finding(message).measured(measured) }
    }
}

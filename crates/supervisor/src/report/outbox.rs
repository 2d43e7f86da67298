//! Decides which mail is delivered next, when one is tried again, and which are merged.
//!
//! ```text
//! queued ─► deliver ─► done · some recipients later (back-off of this mail) · server (back-off of all)
//! ```
//! Invariants: one delivery at a time; a mail leaves only as delivered, refused or merged; it is
//! tried for ever, and never more often than the back-off allows.
//! Source: RFC 5321, sections 4.5.4.1 (retry) and 4.2.5 (who answers for a mail).

use base::{Backoff, Now, Rng};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Pauses between two tries: soon at first, then four times an hour, for ever.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(5), max: Duration::from_mins(15), jitter_percent: 10 };

/// Everything that can happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OutboxInput {
    /// A mail is in the durable queue: a new one, or one that was there at the start.
    Queued {
        /// Its number; ascends.
        number: u64,
        /// It does not wait for those before it.
        urgent: bool,
        /// Who has not got it yet.
        to: BTreeSet<String>,
    },
    /// Answer to [`OutboxOutput::Deliver`].
    Attempted {
        /// Which.
        number: u64,
        /// What came of it.
        attempt: Attempt,
    },
    /// Answer to [`OutboxOutput::Merge`]: one mail is in the place of these now.
    Merged {
        /// Which are gone.
        gone: Vec<u64>,
        /// The number of the one that tells all of them.
        number: u64,
        /// Whether that is urgent.
        urgent: bool,
        /// Who has not got it yet.
        to: BTreeSet<String>,
    },
    /// Merging has failed; it is asked for again when there is one mail more.
    NotMerged,
    /// Time has passed.
    Tick,
}

/// What came of a delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// The server has answered for every recipient; these are to be tried later.
    Answered {
        /// Recipients that it does not take now.
        later: BTreeSet<String>,
    },
    /// The server can't be reached, or does not talk to us: no other mail would fare better.
    NoServer,
}

/// Everything it can ask for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OutboxOutput {
    /// Deliver this one. Answer: `Attempted`.
    Deliver {
        /// Which.
        number: u64,
        /// Who has not got it yet.
        to: BTreeSet<String>,
    },
    /// Make one mail of these, which are not under way. Answer: `Merged` or `NotMerged`.
    Merge {
        /// Which, oldest first.
        numbers: Vec<u64>,
    },
}

/// A mail that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// Which.
    pub number: u64,
    /// Tries that failed, of this mail alone.
    pub failures: u32,
    /// It is under way.
    pub under_way: bool,
    /// It is not tried before.
    pub next: Now,
}

#[derive(Clone, Debug)]
struct Item {
    urgent: bool,
    to: BTreeSet<String>,
    failures: u32,
    next: Now,
}

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Outbox {
    items: BTreeMap<u64, Item>,
    /// More than this are merged.
    queue_max: usize,
    under_way: Option<u64>,
    merging: bool,
    server_failures: u32,
    server_next: Now,
    tried: Option<Now>,
    rng: Rng,
}

impl Outbox {
    /// Empty. `seed` spreads the tries of many machines.
    pub fn new(queue_max: usize, seed: u64) -> Self {
        Self {
            items: BTreeMap::new(),
            queue_max: queue_max.max(1),
            under_way: None,
            merging: false,
            server_failures: 0,
            server_next: Now::ZERO,
            tried: None,
            rng: Rng::new(seed),
        }
    }

    /// Takes one input; what is to be done is added to `out`.
    pub fn handle(&mut self, now: Now, input: OutboxInput, out: &mut Vec<OutboxOutput>) {
        match input {
            OutboxInput::Queued { number, urgent, to } => {
                self.queued(now, number, urgent, to);
                self.merge(out);
            }
            OutboxInput::Attempted { number, attempt } => self.attempted(now, number, attempt),
            OutboxInput::Merged { gone, number, urgent, to } => {
                self.merging = false;
                self.items.retain(|item, _| !gone.contains(item));
                self.queued(now, number, urgent, to);
            }
            OutboxInput::NotMerged => self.merging = false,
            OutboxInput::Tick => {}
        }
        self.deliver(now, out);
        assert!(self.under_way.is_none_or(|number| self.items.contains_key(&number)));
    }

    /// When it wants to be called again.
    pub fn next_wake(&self) -> Option<Now> {
        if self.under_way.is_some() || self.merging {
            return None;
        }
        let next = self.items.values().map(|item| item.next).min()?;
        Some(next.max(self.server_next))
    }

    /// What waits, by number.
    pub fn waiting(&self) -> Vec<Waiting> {
        let waiting = self.items.iter().map(|(number, item)| Waiting {
            number: *number,
            failures: item.failures,
            under_way: self.under_way == Some(*number),
            next: item.next.max(self.server_next),
        });
        waiting.collect()
    }

    /// How often in a row the server could not be reached.
    pub fn server_failures(&self) -> u32 {
        self.server_failures
    }

    fn queued(&mut self, now: Now, number: u64, urgent: bool, to: BTreeSet<String>) {
        if to.is_empty() {
            return;
        }
        self.items.insert(number, Item { urgent, to, failures: 0, next: now });
        if urgent && now < self.server_next {
            // Somebody is called: the server is tried at once, but not as often as pages come.
            let soon = self.tried.map_or(now, |tried| tried + BACKOFF.first);
            self.server_next = self.server_next.min(soon.max(now));
        }
    }

    fn attempted(&mut self, now: Now, number: u64, attempt: Attempt) {
        if self.under_way != Some(number) {
            return;
        }
        self.under_way = None;
        self.tried = Some(now);
        match attempt {
            Attempt::NoServer => {
                self.server_failures = self.server_failures.saturating_add(1);
                self.server_next = now + BACKOFF.pause(self.server_failures, &mut self.rng);
            }
            Attempt::Answered { later } => {
                self.server_failures = 0;
                self.server_next = now;
                let Some(item) = self.items.get_mut(&number) else { return };
                item.to.retain(|recipient| later.contains(recipient));
                item.failures = item.failures.saturating_add(1);
                item.next = now + BACKOFF.pause(item.failures, &mut self.rng);
                if item.to.is_empty() {
                    self.items.remove(&number);
                }
            }
        }
    }

    fn deliver(&mut self, now: Now, out: &mut Vec<OutboxOutput>) {
        if self.under_way.is_some() || self.merging || now < self.server_next {
            return;
        }
        let due = self.items.iter().filter(|(_, item)| item.next <= now);
        let next = due.min_by_key(|(number, item)| (!item.urgent, **number));
        if let Some((number, item)) = next {
            self.under_way = Some(*number);
            out.push(OutboxOutput::Deliver { number: *number, to: item.to.clone() });
        }
    }

    /// With too many of them, the older half of those that the same people wait for becomes one.
    fn merge(&mut self, out: &mut Vec<OutboxOutput>) {
        if self.merging || self.items.len() <= self.queue_max {
            return;
        }
        let idle = || self.items.iter().filter(|(number, _)| self.under_way != Some(**number));
        let mut groups: BTreeMap<&BTreeSet<String>, Vec<u64>> = BTreeMap::new();
        for (number, item) in idle() {
            groups.entry(&item.to).or_default().push(*number);
        }
        let Some(mut numbers) = groups.into_values().max_by_key(Vec::len) else { return };
        if numbers.len() < 2 {
            // Everybody waits for something else: then they all get it all.
            numbers = idle().map(|(number, _)| *number).collect();
        }
        numbers.truncate((numbers.len() / 2).max(2));
        if numbers.len() < 2 {
            return;
        }
        self.merging = true;
        out.push(OutboxOutput::Merge { numbers });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        outbox: Outbox,
        now: Now,
        out: Vec<OutboxOutput>,
    }

    fn to(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    impl World {
        fn new(queue_max: usize) -> Self {
            let outbox = Outbox::new(queue_max, 1);
            Self { outbox, now: Now::from_millis(1_000_000), out: Vec::new() }
        }

        fn input(&mut self, input: OutboxInput) -> Vec<OutboxOutput> {
            self.outbox.handle(self.now, input, &mut self.out);
            std::mem::take(&mut self.out)
        }

        fn queue(&mut self, number: u64, urgent: bool) -> Vec<OutboxOutput> {
            self.input(OutboxInput::Queued { number, urgent, to: to(&["a", "b"]) })
        }

        fn answer(&mut self, number: u64, later: &[&str]) -> Vec<OutboxOutput> {
            let attempt = Attempt::Answered { later: to(later) };
            self.input(OutboxInput::Attempted { number, attempt })
        }

        fn no_server(&mut self, number: u64) -> Vec<OutboxOutput> {
            self.input(OutboxInput::Attempted { number, attempt: Attempt::NoServer })
        }

        /// Goes on to when it wants to be called, and calls it.
        fn wake(&mut self) -> (Duration, Vec<OutboxOutput>) {
            let wake = self.outbox.next_wake().unwrap();
            let waited = self.now.until(wake);
            self.now = self.now.max(wake);
            (waited, self.input(OutboxInput::Tick))
        }
    }

    fn deliver(number: u64) -> Vec<OutboxOutput> {
        deliver_to(number, &["a", "b"])
    }

    fn deliver_to(number: u64, names: &[&str]) -> Vec<OutboxOutput> {
        vec![OutboxOutput::Deliver { number, to: to(names) }]
    }

    #[test]
    fn one_at_a_time_pages_first_then_the_oldest() {
        let mut world = World::new(100);
        assert_eq!(world.queue(1, false), deliver(1));
        assert_eq!(world.queue(2, false), []);
        assert_eq!(world.queue(3, true), []);
        assert_eq!(world.answer(1, &[]), deliver(3));
        assert_eq!(world.answer(3, &[]), deliver(2));
        assert_eq!(world.answer(2, &[]), []);
        assert_eq!(world.outbox.next_wake(), None);
    }

    #[test]
    fn h9_a_server_that_is_away_delays_and_loses_nothing() {
        let mut world = World::new(100);
        world.queue(1, false);
        world.queue(2, false);
        let mut pauses = Vec::new();
        assert_eq!(world.no_server(1), []);
        for _ in 0..200 {
            let (pause, out) = world.wake();
            assert_eq!(out, deliver(1));
            pauses.push(pause);
            world.no_server(1);
        }
        assert!(pauses[0] < Duration::from_secs(6), "{:?}", pauses[0]);
        let longest = pauses.iter().max().unwrap();
        assert!(*longest <= Duration::from_mins(17), "{longest:?}");
        assert_eq!(world.wake().1, deliver(1));
        assert_eq!(world.answer(1, &[]), deliver(2), "it is back: no pause for the others");
    }

    #[test]
    fn a_page_tries_the_server_again_but_not_without_an_end() {
        let mut world = World::new(100);
        world.queue(1, false);
        for _ in 0..50 {
            world.no_server(1);
            world.wake();
        }
        world.no_server(1);
        assert!(Duration::from_mins(10) < world.now.until(world.outbox.next_wake().unwrap()));
        assert_eq!(world.queue(2, true), []);
        let (pause, out) = world.wake();
        assert_eq!((pause, out), (BACKOFF.first, deliver(2)));
        world.no_server(2);
        assert_eq!(world.queue(3, true), []);
        assert_eq!(world.wake().0, BACKOFF.first);
    }

    #[test]
    fn a_recipient_that_has_to_wait_holds_up_nobody_else() {
        let mut world = World::new(100);
        world.queue(1, false);
        world.queue(2, false);
        assert_eq!(world.answer(1, &["b"]), deliver(2));
        assert_eq!(world.answer(2, &[]), []);
        let (pause, out) = world.wake();
        assert!(Duration::from_secs(4) < pause);
        assert_eq!(out, deliver_to(1, &["b"]));
        assert_eq!(world.answer(1, &[]), []);
        assert_eq!(world.outbox.waiting(), []);
    }

    #[test]
    fn too_many_become_one_and_what_is_under_way_is_left_alone() {
        let mut world = World::new(10);
        for number in 1..=10 {
            world.queue(number, false);
        }
        let numbers: Vec<u64> = (2..=6).collect();
        assert_eq!(world.queue(11, false), [OutboxOutput::Merge { numbers: numbers.clone() }]);
        assert_eq!(world.no_server(1), [], "nothing is delivered while they are merged");
        let merged =
            OutboxInput::Merged { gone: numbers, number: 12, urgent: false, to: to(&["a", "b"]) };
        assert_eq!(world.input(merged), []);
        let left: Vec<_> = world.outbox.waiting().iter().map(|w| w.number).collect();
        assert_eq!(left, [1, 7, 8, 9, 10, 11, 12]);
        assert_eq!(world.wake().1, deliver(1));
    }

    #[test]
    fn merging_is_possible_whoever_waits_for_what() {
        let mut world = World::new(2);
        let queued =
            |number, name: &str| OutboxInput::Queued { number, urgent: false, to: to(&[name]) };
        world.input(queued(1, "a"));
        world.input(queued(2, "b"));
        let out = world.input(queued(3, "c"));
        assert_eq!(out, [OutboxOutput::Merge { numbers: vec![2, 3] }]);
        world.input(OutboxInput::NotMerged);
        assert_eq!(world.outbox.waiting().len(), 3);
    }

    #[test]
    fn a_late_answer_changes_nothing() {
        let mut world = World::new(10);
        world.queue(1, false);
        assert_eq!(world.answer(7, &[]), []);
        assert_eq!(world.outbox.waiting().len(), 1);
    }
}

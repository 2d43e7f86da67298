//! What is told together: one mail, before anybody has made a text of it.
//!
//! Invariants: every event that it tells is in its tally; entries are the details of some of them,
//! and are bounded.

use super::fact::service_of;
use super::role::Role;
use super::{Entry, Fact, Relations, Tally, Workaround};
use std::collections::BTreeSet;

/// Subjects that are told in detail.
const ENTRIES_MAX: usize = 40;

/// Why a letter is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Something has happened.
    Incident,
    /// Somebody must act.
    Page,
    /// What was collected after another letter.
    Digest,
    /// Workarounds are in force.
    Reminder,
}

/// See the module's head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// Why.
    pub purpose: Purpose,
    /// Subjects in detail, the root causes and those that need somebody first.
    pub entries: Vec<Entry>,
    /// Everything, counted.
    pub tally: Tally,
    /// Of a reminder: the workarounds in force.
    pub workarounds: Vec<Workaround>,
    /// Replacements of further subjects that are not among the workarounds.
    pub workarounds_others: u64,
    /// Letters that were merged into this one because they could not be delivered.
    pub merged: u64,
}

impl Letter {
    /// Nothing yet.
    pub fn empty(purpose: Purpose) -> Self {
        Self {
            purpose,
            entries: Vec::new(),
            tally: Tally::default(),
            workarounds: Vec::new(),
            workarounds_others: 0,
            merged: 0,
        }
    }

    /// A person must act.
    pub fn is_urgent(&self) -> bool {
        self.purpose == Purpose::Page || self.entries.iter().any(|entry| entry.urgent)
    }

    /// True if there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.tally.events() == 0 && self.workarounds.is_empty() && self.workarounds_others == 0
    }

    /// One more event that is told. `before`: what was remembered of its subject.
    pub(super) fn report(&mut self, fact: &Fact, role: Role, before: impl FnOnce() -> Vec<Fact>) {
        self.tally.count(&fact.subject, &fact.kind, fact.wall);
        if let Some(entry) = self.entry(&fact.subject) {
            return entry.report(fact, role);
        }
        if self.make_room(role == Role::Page) {
            self.entries.push(Entry::new(fact, role, before().into_iter()));
        }
    }

    /// One more step of a story that this letter tells; false if it does not.
    pub(super) fn tell(&mut self, fact: &Fact) -> bool {
        let entry = self.entry(&fact.subject);
        let told = entry.is_some();
        if let Some(entry) = entry {
            entry.tell(fact);
        }
        told
    }

    /// Takes out what is about the subjects that need somebody, and about all that these depend on
    /// or that depends on them.
    pub(super) fn take_urgent(&mut self, relations: &Relations) -> Self {
        if self.entries.len() == ENTRIES_MAX && self.entries.iter().all(|entry| entry.urgent) {
            // There may be more of them than have an entry.
            return std::mem::replace(self, Self::empty(Purpose::Incident));
        }
        let urgent = self.entries.iter().filter(|entry| entry.urgent);
        let urgent: Vec<String> = urgent.map(|entry| entry.subject.clone()).collect();
        let related = |subject: &str| {
            urgent.iter().any(|one| {
                let (one, other) = (service_of(one), service_of(subject));
                one == other || relations.depends(one, other) || relations.depends(other, one)
            })
        };
        let (taken, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|entry| related(&entry.subject));
        self.entries = left;
        let subjects: BTreeSet<String> = taken.iter().map(|entry| entry.subject.clone()).collect();
        let tally = self.tally.take(&subjects);
        Self { entries: taken, tally, ..Self::empty(Purpose::Page) }
    }

    /// Says of each subject which other one it follows, and brings those that matter most to the
    /// front.
    pub(super) fn arrange(&mut self, relations: &Relations) {
        let known: Vec<_> =
            self.entries.iter().map(|entry| (entry.subject.clone(), entry.first)).collect();
        for entry in &mut self.entries {
            let own = service_of(&entry.subject);
            let mut causes = known.iter().filter(|(subject, first)| {
                let other = service_of(subject);
                other != own && *first <= entry.first && relations.depends(own, other)
            });
            // The root: one that depends on none of the others.
            let root = causes.clone().find(|(subject, _)| {
                let depends = |(other, _): &(String, _)| {
                    relations.depends(service_of(subject), service_of(other))
                };
                !causes.clone().any(depends)
            });
            entry.follows = root.or_else(|| causes.next()).map(|(subject, _)| subject.clone());
        }
        self.entries.sort_by_key(|entry| (!entry.urgent, entry.follows.is_some(), entry.first));
    }

    /// Makes one letter of two; `later` comes after this one.
    pub fn merge(&mut self, later: Self) {
        let urgent = self.purpose == Purpose::Page || later.purpose == Purpose::Page;
        self.purpose = if urgent { Purpose::Page } else { Purpose::Digest };
        self.merged += later.merged + 1;
        self.tally.merge(later.tally);
        for entry in later.entries {
            if let Some(known) = self.entry(&entry.subject) {
                known.merge(entry);
            } else if self.make_room(entry.urgent) {
                self.entries.push(entry);
            }
        }
        // A later reminder tells all that an earlier one told.
        if !later.workarounds.is_empty() || 0 < later.workarounds_others {
            self.workarounds = later.workarounds;
            self.workarounds_others = later.workarounds_others;
        }
    }

    fn entry(&mut self, subject: &str) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.subject == subject)
    }

    /// True if one more entry fits; for one that needs somebody another one gives way.
    fn make_room(&mut self, urgent: bool) -> bool {
        if self.entries.len() < ENTRIES_MAX {
            return true;
        }
        let least = self.entries.iter().rposition(|entry| !entry.urgent);
        if let Some(least) = least.filter(|_| urgent) {
            self.entries.remove(least);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::fact::tests::fact;
    use super::*;

    fn relations(pairs: &[(&str, &str)]) -> Relations {
        pairs.iter().map(|(service, on)| ((*service).to_owned(), (*on).to_owned())).collect()
    }

    fn report(letter: &mut Letter, subject: &str, role: Role, second: i64) {
        letter.report(&fact(subject, "service.x", second), role, Vec::new);
    }

    #[test]
    fn h16_the_root_cause_comes_first_and_its_victims_say_so() {
        let relations = relations(&[("web", "app"), ("app", "store")]);
        let mut letter = Letter::empty(Purpose::Incident);
        for (subject, second) in [("store", 0), ("other", 1), ("web:1", 2), ("app", 3)] {
            report(&mut letter, subject, Role::Report, second);
        }
        letter.arrange(&relations);
        let told = letter.entries.iter().map(|e| (e.subject.as_str(), e.follows.as_deref()));
        let told: Vec<_> = told.collect();
        let expect =
            [("store", None), ("other", None), ("web:1", Some("store")), ("app", Some("store"))];
        assert_eq!(told, expect);
    }

    #[test]
    fn what_failed_before_its_dependency_does_not_follow_from_it() {
        let mut letter = Letter::empty(Purpose::Incident);
        report(&mut letter, "web", Role::Report, 0);
        report(&mut letter, "store", Role::Report, 30);
        letter.arrange(&relations(&[("web", "store")]));
        assert!(letter.entries.iter().all(|entry| entry.follows.is_none()));
    }

    #[test]
    fn a_page_takes_its_relatives_and_leaves_the_others() {
        let mut letter = Letter::empty(Purpose::Digest);
        report(&mut letter, "web", Role::Report, 0);
        report(&mut letter, "other", Role::Report, 0);
        report(&mut letter, "store", Role::Page, 1);
        let page = letter.take_urgent(&relations(&[("web", "store")]));
        let told: Vec<_> = page.entries.iter().map(|e| e.subject.as_str()).collect();
        assert_eq!((told, page.tally.events()), (vec!["web", "store"], 2));
        assert!(page.is_urgent());
        assert_eq!((letter.entries.len(), letter.tally.events()), (1, 1));
    }

    #[test]
    fn merging_counts_everything_and_stays_bounded() {
        let mut all = Letter::empty(Purpose::Incident);
        report(&mut all, "s0", Role::Report, 0);
        for number in 1..=1_000 {
            let mut next = Letter::empty(Purpose::Incident);
            report(&mut next, &format!("s{number}"), Role::Report, number);
            all.merge(next);
        }
        let mut page = Letter::empty(Purpose::Page);
        report(&mut page, "last", Role::Page, 2_000);
        all.merge(page);
        assert_eq!((all.tally.events(), all.merged, all.purpose), (1_002, 1_001, Purpose::Page));
        assert_eq!(all.entries.len(), ENTRIES_MAX);
        assert!(all.entries.iter().any(|entry| entry.subject == "last"), "a page has its place");
    }
}

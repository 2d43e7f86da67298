//! The workarounds in force: which services are kept alive by replacing them, since when, and how
//! often that has helped (H28). So that what was meant for a night does not silently stay for years.

use super::Fact;
use base::WallTime;
use std::collections::BTreeMap;

/// Subjects with a workaround; more are counted together.
const WORKAROUNDS_MAX: usize = 500;

/// A service that is kept alive by being replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workaround {
    /// Which instance.
    pub subject: String,
    /// Since the first replacement for a sickness.
    pub since: WallTime,
    /// Replacements for a sickness.
    pub saves: u64,
    /// Replacements that would have been made, had the mode been `enforce`.
    pub would_have: u64,
    /// The last of either.
    pub last: WallTime,
    /// Its cause, one sentence.
    pub cause: String,
}

/// All of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Register {
    /// By subject.
    pub known: BTreeMap<String, Workaround>,
    /// Replacements of subjects that did not fit.
    pub others: u64,
}

impl Register {
    /// Learns from one event.
    pub(super) fn note(&mut self, fact: &Fact) {
        match fact.kind.as_str() {
            "service.replaced" if !fact.planned => self.count(fact, 1, 0),
            "service.remedy" if fact.helped => self.count(fact, 1, 0),
            "service.would_replace" if !fact.planned => self.count(fact, 0, 1),
            "service.removed" | "service.workaround_ended" => {
                self.known.remove(&fact.subject);
            }
            _ => {}
        }
    }

    /// What is really in force, by who keeps the book of it.
    pub(super) fn correct(&mut self, in_force: Vec<Workaround>) {
        self.others = 0;
        self.known.clear();
        for known in in_force {
            if self.known.len() < WORKAROUNDS_MAX {
                self.known.insert(known.subject.clone(), known);
            } else {
                self.others = self.others.saturating_add(known.saves + known.would_have);
            }
        }
    }

    /// True if there is nothing to remind anybody of.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.others == 0
    }

    fn count(&mut self, fact: &Fact, saves: u64, would_have: u64) {
        if !self.known.contains_key(&fact.subject) && WORKAROUNDS_MAX <= self.known.len() {
            self.others += saves + would_have;
            return;
        }
        let known = self.known.entry(fact.subject.clone()).or_insert_with(|| Workaround {
            subject: fact.subject.clone(),
            since: fact.wall,
            saves: 0,
            would_have: 0,
            last: fact.wall,
            cause: String::new(),
        });
        known.saves += saves;
        known.would_have += would_have;
        known.last = fact.wall;
        known.cause.clone_from(fact.cause.as_ref().unwrap_or(&fact.message));
    }
}

#[cfg(test)]
mod tests {
    use super::super::fact::tests::fact;
    use super::*;

    #[test]
    fn h28_saves_are_counted_until_somebody_ends_the_workaround() {
        let mut register = Register::default();
        for second in 0..14 {
            register.note(&fact("web", "service.replaced", second));
            let planned = Fact { planned: true, ..fact("old", "service.replaced", second) };
            register.note(&planned);
        }
        register.note(&fact("web", "service.would_replace", 20));
        let known = &register.known["web"];
        assert_eq!((known.saves, known.would_have, register.known.len()), (14, 1, 1));
        assert_eq!((known.since, known.last), (fact("", "", 0).wall, fact("", "", 20).wall));
        let remedy = |helped| Fact { helped, ..fact("web", "service.remedy", 21) };
        register.note(&remedy(false));
        register.note(&remedy(true));
        assert_eq!(register.known["web"].saves, 15);
        register.note(&fact("web", "service.workaround_ended", 22));
        assert!(register.is_empty());
    }

    #[test]
    fn more_than_can_be_named_are_counted() {
        let mut register = Register::default();
        for number in 0..WORKAROUNDS_MAX + 7 {
            register.note(&fact(&format!("s{number}"), "service.replaced", 0));
        }
        assert_eq!((register.known.len(), register.others), (WORKAROUNDS_MAX, 7));
        let in_force: Vec<_> = register.known.values().take(3).cloned().collect();
        register.correct(in_force);
        assert_eq!((register.known.len(), register.others), (3, 0));
    }
}

//! What one letter tells of one subject: what happened, the steps before and after, the evidence.
//!
//! Invariant: bounded; a sentence that only differs in its numbers is one step with a count, and a
//! step that is left out is counted.

use super::Workaround;
use super::fact::{Fact, clean_output, shape};
use super::role::Role;
use crate::Severity;
use base::WallTime;
use std::time::Duration;

/// Steps of one subject. The first ones tell the cause, the last ones what was done: what is left
/// out is from the middle.
const STEPS_MAX: usize = 12;

/// Evidence bundles that are named.
const EVIDENCE_MAX: usize = 5;

/// One subject.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// An instance, `holdfast`, or `duty/NAME`.
    pub subject: String,
    /// A person must act.
    pub urgent: bool,
    /// What is told first: the gravest event, and of those the latest.
    pub headline: Step,
    /// How much the headline matters.
    pub severity: Severity,
    /// Events that are told by this entry; those that are only part of the story do not count.
    pub events: u64,
    /// When the first of them happened.
    pub first: WallTime,
    /// In the order in which they happened.
    pub steps: Vec<Step>,
    /// Steps that did not fit.
    pub steps_omitted: u64,
    /// How long the run had been up that ended last.
    pub uptime: Option<Duration>,
    /// Evidence bundles, the newest last.
    pub evidence: Vec<String>,
    /// The last lines that it wrote.
    pub output: Vec<String>,
    /// It depends on this other subject of the letter, which had its trouble first.
    pub follows: Option<String>,
    /// A workaround is in force for it.
    pub workaround: Option<Workaround>,
}

/// One sentence, and how often it was true.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The event's dotted name.
    pub kind: String,
    /// The sentence, with the latest numbers.
    pub message: String,
    /// How often.
    pub times: u64,
    /// When it happened first.
    pub first: WallTime,
    /// When it happened last.
    pub last: WallTime,
}

impl Step {
    fn of(fact: &Fact) -> Self {
        Self {
            kind: fact.kind.clone(),
            message: fact.message.clone(),
            times: 1,
            first: fact.wall,
            last: fact.wall,
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind && shape(&self.message) == shape(&other.message)
    }
}

impl Entry {
    /// Of the first event that is told of a subject. What was remembered of it before comes first.
    pub(super) fn new(fact: &Fact, role: Role, before: impl Iterator<Item = Fact>) -> Self {
        let mut entry = Self {
            subject: fact.subject.clone(),
            urgent: false,
            headline: Step::of(fact),
            severity: fact.severity,
            events: 0,
            first: fact.wall,
            steps: Vec::new(),
            steps_omitted: 0,
            uptime: None,
            evidence: Vec::new(),
            output: Vec::new(),
            follows: None,
            workaround: None,
        };
        for fact in before {
            entry.tell(&fact);
        }
        entry.report(fact, role);
        entry
    }

    /// One more event that is told.
    pub(super) fn report(&mut self, fact: &Fact, role: Role) {
        let page = role == Role::Page;
        if (self.urgent, self.severity) <= (page, fact.severity) {
            self.headline = Step::of(fact);
            self.severity = fact.severity;
        }
        self.urgent |= page;
        self.events += 1;
        self.tell(fact);
    }

    /// One more step of its story.
    pub(super) fn tell(&mut self, fact: &Fact) {
        self.uptime = fact.uptime.or(self.uptime);
        if let Some(bundle) = &fact.evidence {
            self.add_evidence(bundle.clone());
        }
        if !fact.output.is_empty() {
            self.output.clone_from(&fact.output);
        }
        self.add(Step::of(fact));
    }

    /// Quotes what it wrote last, unless an event has told that already. Of many lines the last ones.
    pub fn quote(&mut self, lines: &[String]) {
        if self.output.is_empty() {
            self.output = clean_output(lines);
        }
    }

    /// Takes over all of another entry about the same subject, which comes after this one.
    pub(super) fn merge(&mut self, later: Self) {
        if (self.urgent, self.severity) <= (later.urgent, later.severity) {
            self.headline = later.headline;
            self.severity = later.severity;
        }
        self.urgent |= later.urgent;
        self.events += later.events;
        self.first = self.first.min(later.first);
        self.steps_omitted += later.steps_omitted;
        self.uptime = later.uptime.or(self.uptime);
        for bundle in later.evidence {
            self.add_evidence(bundle);
        }
        if !later.output.is_empty() {
            self.output = later.output;
        }
        for step in later.steps {
            self.add(step);
        }
        self.workaround = later.workaround.or(self.workaround.take());
    }

    fn add_evidence(&mut self, bundle: String) {
        if self.evidence.contains(&bundle) {
            return;
        }
        self.evidence.push(bundle);
        if EVIDENCE_MAX < self.evidence.len() {
            self.evidence.remove(0);
        }
    }

    /// What happened again moves to where it happened last, so that the order stays one in time.
    fn add(&mut self, mut step: Step) {
        if let Some(at) = self.steps.iter().position(|known| known.is_like(&step)) {
            let known = self.steps.remove(at);
            step.times += known.times;
            step.first = step.first.min(known.first);
        }
        self.steps.push(step);
        if STEPS_MAX < self.steps.len() {
            self.steps_omitted += self.steps.remove(STEPS_MAX / 2).times;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fact::tests::fact;
    use super::*;

    fn exited(second: i64) -> Fact {
        let message = format!("web exited with code 3 after {second} s (pid {})", 100 + second);
        Fact { message, ..fact("web", "service.exited", second) }
    }

    #[test]
    fn the_same_again_is_one_step_with_a_count() {
        let restart = fact("web", "service.restart_scheduled", 0);
        let mut entry = Entry::new(&restart, Role::Report, [exited(0)].into_iter());
        for second in 1..1_000 {
            entry.tell(&exited(second));
            entry.report(&fact("web", "service.restart_scheduled", second), Role::Report);
        }
        assert_eq!(entry.events, 1_000);
        let told: Vec<_> = entry.steps.iter().map(|s| (s.kind.as_str(), s.times)).collect();
        assert_eq!(told, [("service.exited", 1_000), ("service.restart_scheduled", 1_000)]);
        assert_eq!(entry.steps[0].message, "web exited with code 3 after 999 s (pid 1099)");
        assert_eq!(entry.steps[0].first, exited(0).wall);
    }

    #[test]
    fn the_gravest_is_told_first_and_a_page_before_all() {
        let mut entry =
            Entry::new(&fact("web", "service.watchdog_timeout", 0), Role::Report, [].into_iter());
        entry.report(&fact("web", "service.budget_spent", 1), Role::Page);
        let error = Fact { severity: Severity::Error, ..fact("web", "service.x", 2) };
        entry.report(&error, Role::Report);
        assert_eq!(entry.headline.kind, "service.budget_spent");
        assert!(entry.urgent);
    }

    #[test]
    fn a_long_story_keeps_its_beginning_and_its_end() {
        let mut entry = Entry::new(&fact("web", "service.a", 0), Role::Report, [].into_iter());
        for number in 0..100_u32 {
            let name = char::from(b'a' + (number % 26) as u8);
            let message = format!("{name}{name} {}", "x".repeat(number as usize / 26 + 1));
            entry.tell(&Fact { message, ..fact("web", "service.b", number.into()) });
        }
        assert_eq!(entry.steps.len(), STEPS_MAX);
        let told: u64 = entry.steps.iter().map(|step| step.times).sum();
        assert_eq!(told + entry.steps_omitted, 101);
        assert_eq!(entry.steps[0].kind, "service.a");
        assert!(entry.steps[STEPS_MAX - 1].message.starts_with("vv"));
        for bundle in 0..20 {
            let evidence = Some(format!("web-{bundle}"));
            entry.tell(&Fact { evidence, ..fact("web", "service.evidence", 0) });
        }
        assert_eq!(entry.evidence.len(), EVIDENCE_MAX);
        assert_eq!(entry.evidence.last().map(String::as_str), Some("web-19"));
    }
}

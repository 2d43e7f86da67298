//! Decides which events are told, when, and what is told together.
//!
//! ```text
//! first event ──1 s──► letter ──digest window──► one digest, and so on
//! page        ──1 s──► letter, whatever the window; the next page 10 s later at the earliest
//! ```
//! Why the second: what follows from a cause happens within it, and so is told in the same letter.
//! Invariant: what was told once is not told again; everything that waits is in [`Kept`].

use super::fact::Fact;
use super::role::{Role, role};
use super::{Letter, Purpose, Register, Workaround};
use crate::Severity;
use base::Now;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How long a letter waits for what follows from its cause.
const GATHER: Duration = Duration::from_secs(1);

/// Pause between two pages: when everything fails, one after the other, these are few letters.
const PAGE_PAUSE: Duration = Duration::from_secs(10);

/// Pause between two reminders of the workarounds in force.
const REMINDER: Duration = Duration::from_hours(24);

/// Events that may become part of a story.
const RECENT_MAX: usize = 512;

/// What happened longer ago is not part of a story.
const RECENT_AGE_MAX: Duration = Duration::from_mins(2);

/// What is configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Everything at least this severe is told, besides restarts.
    pub severity: Severity,
    /// What happens within this time after a letter is told in one digest.
    pub digest: Duration,
}

/// Which service depends on which others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Relations(BTreeMap<String, BTreeSet<String>>);

impl Relations {
    /// True if `service` depends on `other`, be it through others. Never on itself.
    pub(super) fn depends(&self, service: &str, other: &str) -> bool {
        let mut seen = BTreeSet::from([service]);
        let mut open = vec![service];
        while let Some(next) = open.pop() {
            for on in self.0.get(next).into_iter().flatten() {
                if on == other && other != service {
                    return true;
                }
                if seen.insert(on) {
                    open.push(on);
                }
            }
        }
        false
    }
}

impl FromIterator<(String, String)> for Relations {
    /// Of pairs: a service, and one that it depends on.
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        let mut relations = Self::default();
        for (service, on) in pairs {
            relations.0.entry(service).or_default().insert(on);
        }
        relations
    }
}

/// Everything that can happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReportInput {
    /// An event.
    Fact(Box<Fact>),
    /// The workarounds that are really in force, by who keeps the book of them.
    InForce(Vec<Workaround>),
    /// Time has passed.
    Tick,
}

/// What has to survive the process: the driver writes it together with how far events were read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Told in the next letter; empty = nothing waits.
    pub waiting: Letter,
    /// How long the digest window still lasts.
    pub window_left: Duration,
    /// How long until the next page may go.
    pub page_left: Duration,
    /// How long until the next reminder.
    pub reminder_left: Duration,
    /// The workarounds in force.
    pub register: Register,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            waiting: Letter::empty(Purpose::Incident),
            window_left: Duration::ZERO,
            page_left: Duration::ZERO,
            reminder_left: REMINDER,
            register: Register::default(),
        }
    }
}

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Reporter {
    policy: Policy,
    relations: Relations,
    waiting: Letter,
    /// Since when something waits that is not urgent, or that is.
    since: Option<Now>,
    urgent_since: Option<Now>,
    window_until: Now,
    page_after: Now,
    remind_at: Now,
    register: Register,
    recent: VecDeque<(Now, Fact)>,
}

impl Reporter {
    /// Goes on with what was kept.
    pub fn new(now: Now, policy: Policy, relations: Relations, kept: Kept) -> Self {
        let waits = !kept.waiting.is_empty();
        Self {
            policy,
            relations,
            since: waits.then_some(now),
            urgent_since: (waits && kept.waiting.is_urgent()).then_some(now),
            waiting: kept.waiting,
            // A window that was configured longer does not hold any more.
            window_until: now + kept.window_left.min(policy.digest),
            page_after: now + kept.page_left.min(PAGE_PAUSE),
            remind_at: now + kept.reminder_left.min(REMINDER),
            register: kept.register,
            recent: VecDeque::new(),
        }
    }

    /// Takes one input; what is to be sent now is added to `out`.
    pub fn handle(&mut self, now: Now, input: ReportInput, out: &mut Vec<Letter>) {
        match input {
            ReportInput::Fact(fact) => self.fact(now, fact.tidy()),
            ReportInput::InForce(known) => self.register.correct(known),
            ReportInput::Tick => {}
        }
        self.send_page(now, out);
        self.send_waiting(now, out);
        self.remind(now, out);
        assert!(self.since.is_some() != self.waiting.is_empty(), "what waits has a time");
    }

    /// When it wants to be called again.
    pub fn next_wake(&self) -> Option<Now> {
        let reminder = (!self.register.is_empty()).then_some(self.remind_at);
        [self.page_due(), self.waiting_due(), reminder].into_iter().flatten().min()
    }

    /// The next [`Self::handle`] writes a reminder: whoever knows what is really in force says it
    /// first.
    pub fn reminds(&self, now: Now) -> bool {
        !self.register.is_empty() && self.remind_at <= now
    }

    /// What has to survive.
    pub fn kept(&self, now: Now) -> Kept {
        Kept {
            waiting: self.waiting.clone(),
            window_left: now.until(self.window_until),
            page_left: now.until(self.page_after),
            reminder_left: now.until(self.remind_at),
            register: self.register.clone(),
        }
    }

    fn fact(&mut self, now: Now, fact: Fact) {
        if self.register.is_empty() {
            // The first reminder comes a day after the first replacement.
            self.remind_at = now + REMINDER;
        }
        self.register.note(&fact);
        match role(&fact, self.policy.severity) {
            Role::Nothing => {}
            Role::Story => {
                if !self.waiting.tell(&fact) {
                    self.remember(now, fact);
                }
            }
            role @ (Role::Report | Role::Page) => {
                let recent = &mut self.recent;
                self.waiting.report(&fact, role, || recall(recent, now, &fact.subject));
                self.since.get_or_insert(now);
                if role == Role::Page {
                    self.urgent_since.get_or_insert(now);
                }
            }
        }
    }

    fn remember(&mut self, now: Now, fact: Fact) {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((now, fact));
    }

    fn page_due(&self) -> Option<Now> {
        self.urgent_since.map(|since| (since + GATHER).max(self.page_after))
    }

    fn waiting_due(&self) -> Option<Now> {
        self.since.map(|since| (since + GATHER).max(self.window_until))
    }

    fn send_page(&mut self, now: Now, out: &mut Vec<Letter>) {
        if self.page_due().is_none_or(|due| now < due) {
            return;
        }
        let page = match now < self.window_until {
            true => self.waiting.take_urgent(&self.relations),
            false => std::mem::replace(&mut self.waiting, Letter::empty(Purpose::Incident)),
        };
        self.urgent_since = None;
        if self.waiting.is_empty() {
            self.since = None;
        }
        self.send(now, Letter { purpose: Purpose::Page, ..page }, out);
    }

    fn send_waiting(&mut self, now: Now, out: &mut Vec<Letter>) {
        let Some(since) =
            self.since.filter(|since| (*since + GATHER).max(self.window_until) <= now)
        else {
            return;
        };
        let letter = std::mem::replace(&mut self.waiting, Letter::empty(Purpose::Incident));
        let held = since + GATHER < self.window_until;
        let purpose = match (self.urgent_since.take(), held) {
            (Some(_), _) => Purpose::Page,
            (None, true) => Purpose::Digest,
            (None, false) => Purpose::Incident,
        };
        self.since = None;
        self.send(now, Letter { purpose, ..letter }, out);
    }

    fn send(&mut self, now: Now, mut letter: Letter, out: &mut Vec<Letter>) {
        self.window_until = now + self.policy.digest;
        if letter.purpose == Purpose::Page {
            self.page_after = now + PAGE_PAUSE;
        }
        for entry in &mut letter.entries {
            entry.workaround = self.register.known.get(&entry.subject).cloned();
        }
        letter.arrange(&self.relations);
        out.push(letter);
    }

    fn remind(&mut self, now: Now, out: &mut Vec<Letter>) {
        if !self.reminds(now) {
            return;
        }
        self.remind_at = now + REMINDER;
        out.push(Letter {
            workarounds: self.register.known.values().cloned().collect(),
            workarounds_others: self.register.others,
            ..Letter::empty(Purpose::Reminder)
        });
    }
}

/// Takes what is remembered of a subject, and forgets what is too old.
fn recall(recent: &mut VecDeque<(Now, Fact)>, now: Now, subject: &str) -> Vec<Fact> {
    recent.retain(|(at, _)| now.since(*at) <= RECENT_AGE_MAX);
    let (own, others) =
        std::mem::take(recent).into_iter().partition::<Vec<_>, _>(|(_, f)| f.subject == subject);
    *recent = others.into();
    own.into_iter().map(|(_, fact)| fact).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fact::tests::fact;
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    struct World {
        reporter: Reporter,
        now: Now,
        letters: Vec<(Now, Letter)>,
    }

    impl World {
        fn new(relations: &[(&str, &str)]) -> Self {
            let pairs = relations.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            Self::with(pairs.collect(), Kept::default())
        }

        fn with(relations: Relations, kept: Kept) -> Self {
            let policy = Policy { severity: Severity::Error, digest: MINUTE };
            let now = Now::from_millis(5_000_000);
            let reporter = Reporter::new(now, policy, relations, kept);
            Self { reporter, now, letters: Vec::new() }
        }

        fn input(&mut self, input: ReportInput) {
            let mut out = Vec::new();
            self.reporter.handle(self.now, input, &mut out);
            self.letters.extend(out.into_iter().map(|letter| (self.now, letter)));
        }

        fn happens(&mut self, subject: &str, kind: &str) {
            self.fact(fact(subject, kind, 0));
        }

        fn fact(&mut self, fact: Fact) {
            self.input(ReportInput::Fact(Box::new(fact)));
        }

        /// Lets time pass, calling as often as it asks for.
        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            while let Some(wake) = self.reporter.next_wake().filter(|wake| *wake <= end) {
                assert!(self.now <= wake || wake <= self.now, "a wake has passed");
                self.now = self.now.max(wake);
                let before = self.letters.len();
                self.input(ReportInput::Tick);
                assert!(before < self.letters.len(), "called for nothing");
            }
            self.now = end;
        }

        /// Takes the letters that were sent: why, how much they tell, and of whom in detail.
        fn sent(&mut self) -> Vec<(Purpose, u64, Vec<String>)> {
            std::mem::take(&mut self.letters)
                .into_iter()
                .map(|(_, letter)| {
                    let subjects = letter.entries.iter().map(|e| e.subject.clone()).collect();
                    (letter.purpose, letter.tally.events(), subjects)
                })
                .collect()
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn h9_a_restart_is_told_at_once_with_its_story() {
        let mut world = World::new(&[]);
        let uptime = Some(Duration::from_secs(7));
        world.fact(Fact { uptime, ..fact("web", "service.exited", 0) });
        assert_eq!(world.reporter.next_wake(), None, "not told by itself");
        world.happens("web", "service.restart_scheduled");
        world.happens("web", "service.ready");
        world.pass(GATHER);
        let (_, letter) = &world.letters[0];
        let steps: Vec<_> = letter.entries[0].steps.iter().map(|s| s.kind.as_str()).collect();
        assert_eq!(steps, ["service.exited", "service.restart_scheduled", "service.ready"]);
        assert_eq!((letter.entries[0].uptime, letter.purpose), (uptime, Purpose::Incident));
        assert_eq!(letter.tally.events(), 1);
    }

    #[test]
    fn h9_ten_thousand_events_in_a_second_are_two_letters_and_all_are_counted() {
        let mut world = World::new(&[]);
        for number in 0..10_000 {
            world.happens(&format!("web:{}", number % 700), "service.restart_scheduled");
            world.pass(Duration::from_micros(150));
        }
        world.pass(10 * MINUTE);
        let sent = world.sent();
        assert_eq!(sent.len(), 2);
        assert_eq!((sent[0].0, sent[1].0), (Purpose::Incident, Purpose::Digest));
        assert_eq!(sent[0].1 + sent[1].1, 10_000);
        assert!(world.reporter.next_wake().is_none(), "nothing waits");
    }

    #[test]
    fn what_happens_within_the_window_is_one_digest_and_then_one_more() {
        let mut world = World::new(&[]);
        world.happens("web", "service.restart_scheduled");
        world.pass(GATHER);
        assert_eq!(world.sent().len(), 1);
        for _ in 0..30 {
            world.happens("web", "service.restart_scheduled");
            world.pass(Duration::from_secs(3));
        }
        let sent = world.sent();
        assert_eq!(sent, [(Purpose::Digest, 20, names(&["web"]))]);
        world.pass(10 * MINUTE);
        assert_eq!(world.sent(), [(Purpose::Digest, 10, names(&["web"]))]);
        world.happens("web", "service.restart_scheduled");
        world.pass(GATHER);
        assert_eq!(world.sent(), [(Purpose::Incident, 1, names(&["web"]))]);
    }

    #[test]
    fn h26_a_page_does_not_wait_for_the_window_and_leaves_the_rest_to_it() {
        let mut world = World::new(&[("app", "store")]);
        world.happens("web", "service.restart_scheduled");
        world.pass(GATHER);
        world.happens("web", "service.restart_scheduled");
        world.happens("store", "service.budget_spent");
        world.happens("app", "service.dependency_down");
        world.pass(GATHER);
        let sent = world.sent();
        assert_eq!(sent[1..], [(Purpose::Page, 2, names(&["store", "app"]))]);
        world.pass(10 * MINUTE);
        assert_eq!(world.sent(), [(Purpose::Digest, 1, names(&["web"]))]);
    }

    #[test]
    fn h26_a_storm_of_pages_is_few_pages_and_nothing_is_lost() {
        let mut world = World::new(&[]);
        for number in 0..600 {
            world.happens(&format!("s{number}"), "service.failed");
            world.pass(Duration::from_millis(100));
        }
        world.pass(10 * MINUTE);
        let sent = world.sent();
        assert!((6..=9).contains(&sent.len()), "{} letters in a minute", sent.len());
        assert!(sent.iter().all(|(purpose, ..)| *purpose == Purpose::Page), "{sent:?}");
        assert_eq!(sent.iter().map(|(_, events, _)| events).sum::<u64>(), 600);
    }

    #[test]
    fn h28_workarounds_are_reminded_of_once_a_day_until_they_end() {
        let mut world = World::new(&[]);
        world.pass(100 * REMINDER);
        world.happens("web", "service.replaced");
        world.pass(Duration::from_hours(23));
        world.happens("web", "service.replaced");
        assert_eq!(world.sent().len(), 1);
        world.pass(3 * REMINDER);
        let reminders = std::mem::take(&mut world.letters);
        let reminders: Vec<_> =
            reminders.iter().filter(|(_, letter)| letter.purpose == Purpose::Reminder).collect();
        assert_eq!(reminders.len(), 3);
        assert_eq!(reminders[0].1.workarounds[0].saves, 2);
        world.happens("web", "service.workaround_ended");
        world.pass(3 * REMINDER);
        assert_eq!(world.sent(), []);
        assert_eq!(world.reporter.next_wake(), None);
    }

    #[test]
    fn what_waits_survives_and_the_window_goes_on() {
        let mut world = World::new(&[]);
        world.happens("web", "service.restart_scheduled");
        world.pass(GATHER);
        world.happens("web", "service.replaced");
        world.pass(Duration::from_secs(20));
        let kept = world.reporter.kept(world.now);
        let mut world = World::with(Relations::default(), kept.clone());
        assert_eq!(world.reporter.kept(world.now), kept);
        world.happens("web", "service.restart_scheduled");
        world.pass(Duration::from_secs(39));
        assert_eq!(world.sent(), []);
        world.pass(Duration::from_secs(2));
        assert_eq!(world.sent(), [(Purpose::Digest, 2, names(&["web"]))]);
        assert!(!world.reporter.kept(world.now).register.is_empty());
    }

    #[test]
    fn relations_go_through_others_and_never_in_circles() {
        let pairs = [("a", "b"), ("b", "c"), ("c", "a")];
        let relations: Relations =
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert!(relations.depends("a", "c") && relations.depends("c", "b"));
        assert!(!relations.depends("a", "a") && !relations.depends("a", "x"));
    }
}

//! How the things stand that an instance depends on (H16, H17, H19).
//!
//! While one is down or slow, its dependants are not to blame. So the question must be answered
//! *before* a dependant is called sick: as soon as there are signs of a sickness, all are asked
//! again, and [`Dependencies::answered_since`] says when the answers are in.
//! Invariants: another state is believed on the second answer in a row, or on the first one while
//! the dependant shows signs of a sickness, for two witnesses are enough; an answer that takes
//! longer than `slow` is known to be slow before it comes.

use super::question::{Due, GRACE, Question};
use super::words::{probe, time};
use super::{DependencyState, Output};
use crate::{Dependency, DependencyTarget};
use base::{Answer, InstanceId, Now};
use std::collections::BTreeMap;
use std::time::Duration;

/// An answer of a dependency is waited for so long, or twice as long as it takes to be slow.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Answers in a row until another state is believed.
const ANSWERS: u32 = 2;

/// A state that is not believed yet is asked about again after this pause.
const AGAIN: Duration = Duration::from_secs(1);

/// What one instance depends on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Dependencies {
    by_name: BTreeMap<String, One>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct One {
    dependency: Dependency,
    interval: Duration,
    question: Question,
    /// When the last question was put that has been answered.
    answered: Option<Now>,
    state: DependencyState,
    message: String,
    /// When the question was put that was noticed to be slow before its answer came.
    noticed: Option<Now>,
    /// Another state that was seen, and how often in a row.
    other: Option<(DependencyState, u32)>,
    told: Option<DependencyState>,
}

impl Dependencies {
    /// From now on these; those that did not change go on where they were.
    pub(super) fn set(
        &mut self,
        now: Now,
        wanted: &BTreeMap<String, Dependency>,
        interval: Duration,
    ) {
        self.by_name.retain(|name, one| wanted.get(name) == Some(&one.dependency));
        for (name, dependency) in wanted {
            let one = self.by_name.entry(name.clone()).or_insert_with(|| One::new(now, dependency));
            one.interval = interval;
        }
    }

    /// Its dependants show signs of a sickness since then: ask all that were not asked since.
    pub(super) fn hurry(&mut self, now: Now, signs: Now) {
        for one in self.by_name.values_mut() {
            if one.answered.is_none_or(|asked| asked < signs) {
                one.question.hurry(now);
            }
        }
    }

    /// All were asked after `signs`, and have answered, or are known to be slow. Whoever does not
    /// answer in time is not waited for longer.
    pub(super) fn answered_since(&self, now: Now, signs: Now) -> bool {
        self.by_name.values().all(|one| {
            one.answered.is_some_and(|asked| signs <= asked)
                || matches!(one.state, DependencyState::Slow | DependencyState::Down)
                || signs + 2 * (one.question.timeout() + GRACE) <= now
        })
    }

    /// One of them is down or slow.
    pub(super) fn to_blame(&self) -> bool {
        let bad = |one: &One| matches!(one.state, DependencyState::Down | DependencyState::Slow);
        self.by_name.values().any(bad)
    }

    /// An answer has come. Ignored if nobody had asked.
    pub(super) fn answered(&mut self, now: Now, name: &str, seen: Seen) {
        let Some(one) = self.by_name.get_mut(name) else { return };
        let interval = one.interval;
        let Some(asked) = one.question.answered(|asked| (asked + interval).max(now)) else {
            return;
        };
        one.answered = Some(asked);
        let (state, message) = one.meaning(seen.answer, seen.took);
        one.sees(now, state, message, seen.counts);
    }

    /// Asks what is due, and notices what takes too long.
    pub(super) fn turn(
        &mut self,
        now: Now,
        instance: &InstanceId,
        counts: Counts,
        outputs: &mut Vec<Output>,
    ) {
        for (name, one) in &mut self.by_name {
            if one.slow_at().is_some_and(|slow_at| slow_at <= now) {
                let slow = one.dependency.slow.unwrap_or_default();
                let message = format!("no answer yet after {}", time(slow));
                one.noticed = one.question.asked();
                one.sees(now, DependencyState::Slow, message, counts);
            }
            match one.question.turn(now) {
                Due::NotYet => continue,
                Due::Ask => {}
                Due::Lost => {
                    let message = "nobody answered whether it is there".to_owned();
                    one.sees(now, DependencyState::CannotTell, message, counts);
                }
            }
            outputs.push(Output::AskDependency {
                instance: instance.clone(),
                dependency: name.clone(),
                target: one.dependency.target.clone(),
                timeout: one.question.timeout(),
            });
        }
    }

    /// What is news.
    pub(super) fn tell(&mut self, instance: &InstanceId, outputs: &mut Vec<Output>) {
        for (name, one) in &mut self.by_name {
            if one.answered.is_none() && one.state == DependencyState::CannotTell {
                continue;
            }
            if one.told.replace(one.state) != Some(one.state) {
                outputs.push(one.output(instance, name));
            }
        }
    }

    /// How all of them stand.
    pub(super) fn snapshot(&self, instance: &InstanceId) -> impl Iterator<Item = Output> {
        self.by_name.iter().map(|(name, one)| one.output(instance, name))
    }

    pub(super) fn wake(&self) -> Option<Now> {
        let wake =
            |one: &One| one.slow_at().unwrap_or(Now::from_nanos(u64::MAX)).min(one.question.wake());
        self.by_name.values().map(wake).min()
    }
}

/// An answer, and how much it counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) answer: Answer,
    pub(super) took: Duration,
    pub(super) counts: Counts,
}

/// How much one answer counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Counts {
    /// A change is believed on the second one.
    Once,
    /// There is another witness: a change is believed at once.
    Witnessed,
    /// The machine starves: bad answers are not believed.
    ForNothing,
}

impl One {
    fn new(now: Now, dependency: &Dependency) -> Self {
        let timeout = dependency.slow.map_or(TIMEOUT, |slow| TIMEOUT.max(2 * slow));
        Self {
            dependency: dependency.clone(),
            interval: Duration::ZERO,
            question: Question::new(now, timeout),
            answered: None,
            state: DependencyState::CannotTell,
            message: "not asked yet".to_owned(),
            noticed: None,
            other: None,
            told: None,
        }
    }

    fn meaning(&self, answer: Answer, took: Duration) -> (DependencyState, String) {
        match (answer, self.dependency.slow) {
            (Answer::Yes, Some(slow)) if slow < took => {
                let message = format!("answered after {}, limit {}", time(took), time(slow));
                (DependencyState::Slow, message)
            }
            (Answer::Yes, _) => (DependencyState::Up, format!("answered within {}", time(took))),
            (Answer::No(why), _) => (DependencyState::Down, why),
            (Answer::CannotTell(why), _) => (DependencyState::CannotTell, why),
        }
    }

    fn sees(&mut self, now: Now, state: DependencyState, message: String, counts: Counts) {
        if state == self.state {
            self.message = message;
            self.other = None;
            return;
        }
        let good = state == DependencyState::Up;
        let times = match (self.other, counts) {
            (_, Counts::ForNothing) if !good => return,
            (Some((other, times)), _) if other == state => times + 1,
            _ => 1,
        };
        let first = self.state == DependencyState::CannotTell;
        if first || counts == Counts::Witnessed || ANSWERS <= times {
            self.state = state;
            self.message = message;
            self.other = None;
        } else {
            self.other = Some((state, times));
            self.question.hurry(now + AGAIN);
        }
    }

    /// When the question that is under way has taken too long to be anything but slow.
    fn slow_at(&self) -> Option<Now> {
        let slow = self.dependency.slow?;
        let asked = self.question.asked()?;
        let down = self.state == DependencyState::Down;
        (!down && self.noticed != Some(asked)).then(|| asked + slow)
    }

    fn output(&self, instance: &InstanceId, name: &str) -> Output {
        let what = match &self.dependency.target {
            DependencyTarget::Service(service) => format!("service {service}"),
            DependencyTarget::Probe(asked) => probe(asked),
            DependencyTarget::Mount(path) => format!("mount {}", path.display()),
        };
        let is = match self.state {
            DependencyState::Up => "is up",
            DependencyState::Slow => "is slow",
            DependencyState::Down => "is down",
            DependencyState::CannotTell => "can't be asked",
        };
        Output::Dependency {
            instance: instance.clone(),
            name: name.to_owned(),
            state: self.state,
            message: format!("{what} {is}: {}", self.message),
        }
    }
}

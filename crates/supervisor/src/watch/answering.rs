//! It answers when it is asked (H17): sick after so many bad answers in a row.
//!
//! A bad answer may be the fault of the machine or of whoever asked. So nothing is decided before
//! a look at the run itself that is younger than the first bad answer: if it (or the machine)
//! starves, more bad answers are asked for, or none are enough; if it is stopped by a signal, the
//! next bad answer is enough, because it can't do better.
//! Invariants: one good answer ends it; an answer that could not be had counts for neither side.

use super::finding::{Finding, Patience};
use super::words::{count, time};
use base::{Answer, Now};
use std::time::Duration;

/// The detector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answering {
    failures: u32,
    timeout: Duration,
    /// Bad answers in a row.
    bad: u32,
    /// When the first of them came.
    bad_since: Option<Now>,
    /// What the last of them said.
    why: String,
    /// Answers in a row that could not be had, and why.
    blind: Option<(u32, String)>,
    /// How long the last one took; `None` before the first one.
    took: Option<Duration>,
    sick: bool,
}

/// What is known of the run besides its answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Witness {
    /// When it was looked at last.
    pub(super) seen: Option<Now>,
    /// All of it is stopped by a signal.
    pub(super) stopped: bool,
    /// No thread of it can run.
    pub(super) cannot_run: bool,
    pub(super) patience: Patience,
}

impl Answering {
    pub(super) fn new(failures: u32, timeout: Duration) -> Self {
        Self {
            failures: failures.max(1),
            timeout,
            bad: 0,
            bad_since: None,
            why: String::new(),
            blind: None,
            took: None,
            sick: false,
        }
    }

    /// Takes an answer. [`Self::judge`] says what it means.
    pub(super) fn answered(&mut self, now: Now, answer: Answer, took: Duration) {
        self.took = Some(took);
        let answer = match answer {
            Answer::Yes if self.timeout < took => {
                Answer::No(format!("it answered only after {}", time(took)))
            }
            other => other,
        };
        match answer {
            Answer::Yes => {
                *self = Self { took: Some(took), ..Self::new(self.failures, self.timeout) };
            }
            Answer::No(why) => {
                self.bad = self.bad.saturating_add(1);
                self.bad_since.get_or_insert(now);
                self.why = why;
                self.blind = None;
            }
            Answer::CannotTell(why) => {
                let before = self.blind.as_ref().map_or(0, |(number, _)| *number);
                self.blind = Some((before.saturating_add(1), why));
            }
        }
    }

    /// It gave a bad answer, and nobody has looked at it since.
    pub(super) fn wants_witness(&self, seen: Option<Now>) -> bool {
        self.bad_since.is_some_and(|since| seen.is_none_or(|seen| seen < since))
    }

    /// `None` before the first answer.
    pub(super) fn judge(&mut self, witness: Witness) -> Option<Finding> {
        let took = self.took?;
        if witness.patience == Patience::Endless && !self.sick {
            // Whatever it said proves nothing; a new row begins afterwards.
            self.bad = 0;
            self.bad_since = None;
        }
        let measured =
            vec![("took_ms", took.as_secs_f64() * 1_000.0), ("bad_answers", f64::from(self.bad))];
        Some(self.finding(took, witness).measured(measured))
    }

    fn finding(&mut self, took: Duration, witness: Witness) -> Finding {
        let Some(since) = self.bad_since else {
            return match &self.blind {
                Some((times, why)) if self.failures <= *times => Finding::cannot_tell(why.clone()),
                _ if witness.patience == Patience::Endless => {
                    Finding::well("its answers do not count while the machine starves")
                }
                _ => Finding::well(format!("answered within {}", time(took))),
            };
        };
        let seen_since = witness.seen.is_some_and(|seen| since <= seen);
        let wanted = if witness.stopped && seen_since {
            Some(1)
        } else {
            witness.patience.times(self.failures)
        };
        let enough = wanted.is_some_and(|wanted| wanted <= self.bad);
        self.sick |= enough && seen_since;
        let wanted = wanted.unwrap_or(self.failures).max(self.failures);
        let stopped = if witness.stopped { "it is stopped by a signal; " } else { "" };
        let message = format!(
            "{stopped}{} in a row (limit {wanted}): {}",
            count(u64::from(self.bad), "bad answer"),
            self.why
        );
        if self.sick {
            let finding = Finding::sick(message, since);
            Finding { cannot_run: witness.cannot_run, ..finding }
        } else {
            Finding::well(message).signs(Some(since))
        }
    }
}

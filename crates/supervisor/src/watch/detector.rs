//! One detector of one run: what it found, what is published of it, and when that is news.
//!
//! Between finding and publishing stands the question of blame: a run is called sick only when the
//! things that it depends on have been asked since the first sign, and the observer itself is not
//! in doubt. Until then the verdict stays as it was, and says what it waits for.
//! Invariant: told are changes of state or mode at once, and of numbers at most once in
//! [`NEWS_PAUSE`].

use super::answering::{Answering, Witness};
use super::backlog::Backlog;
use super::deadlock::Deadlock;
use super::finding::{Finding, Look};
use super::leak::Leak;
use super::livelock::Livelock;
use super::planned::{Age, Requests};
use super::question::Question;
use super::standstill::Counted;
use super::uninterruptible::Uninterruptible;
use super::{Verdict, VerdictState};
use crate::{CounterSource, Detector, LeakResource, Mode, Progress, Rule};
use base::{Answer, Now};
use std::time::Duration;

/// Numbers that changed are told at most once in this time.
const NEWS_PAUSE: Duration = Duration::from_secs(10);

/// Numbers that differ by less than this share are no news …
const NEWS_SHARE: f64 = 0.2;

/// … and small ones count as this: 3 or 5 descriptors, 1 or 4 ms are the same.
const NEWS_LEAST: f64 = 25.0;

/// A closer look comes after a quarter of the time that the evidence must last, but not sooner
/// than this.
const CLOSER_MIN: Duration = Duration::from_millis(250);

/// The second look at a limit that is exceeded comes this soon.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// A file system is looked at within this time, or it hangs.
const DISK_TIMEOUT: Duration = Duration::from_secs(5);

/// One detector at work.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Watched {
    pub(super) settings: Detector,
    pub(super) sense: Sense,
    /// What it asks by itself: a probe, or the look at a disk.
    pub(super) question: Option<Question>,
    /// `None` before anything was seen.
    finding: Option<Finding>,
    verdict: Verdict,
    told: Option<Told>,
}

/// What it looks with.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Sense {
    Answering(Answering),
    Backlog(Backlog),
    Deadlock(Deadlock),
    Livelock(Livelock),
    Uninterruptible(Uninterruptible),
    Leak(Box<Leak>),
    Age(Age),
    Requests(Requests),
}

/// What was told last.
#[derive(Clone, PartialEq, Debug)]
struct Told {
    at: Now,
    verdict: Verdict,
}

/// Why a sickness is not published yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hold {
    /// It is published.
    No,
    /// What it depends on has not answered yet.
    Dependencies,
    /// The observer is in doubt.
    Doubt,
}

/// What a new detector must know of its run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Birth {
    pub(super) now: Now,
    pub(super) ready: Now,
    pub(super) interval: Duration,
    /// See [`super::planned::jitter_share`].
    pub(super) jitter: u64,
    /// When it asks first, out of 2⁶⁴ of its interval.
    pub(super) phase: u64,
}

impl Watched {
    pub(super) fn new(name: &str, settings: &Detector, birth: Birth) -> Self {
        let verdict = Verdict {
            detector: name.to_owned(),
            kind: settings.rule.kind(),
            state: VerdictState::Well,
            message: "not looked at yet".to_owned(),
            measured: Vec::new(),
            since: birth.now,
            exhausted_in: None,
            planned: settings.rule.is_planned(),
            cannot_run: false,
            relieves: false,
            mode: settings.mode,
        };
        let (sense, question) = (sense(&settings.rule, birth), question(&settings.rule, birth));
        Self { settings: settings.clone(), sense, question, finding: None, verdict, told: None }
    }

    /// It looks at samples of the run, or needs them to judge an answer.
    pub(super) fn wants_samples(&self) -> bool {
        match self.sense {
            Sense::Age(_) | Sense::Requests(_) => false,
            Sense::Leak(_) => {
                !matches!(self.settings.rule, Rule::Leak { resource: LeakResource::Disk(_), .. })
            }
            _ => true,
        }
    }

    pub(super) fn has_trend(&self) -> bool {
        matches!(&self.sense, Sense::Leak(leak) if leak.has_trend())
    }

    /// The counter that it looks at.
    pub(super) fn counter(&self) -> Option<&CounterSource> {
        match &self.settings.rule {
            Rule::Backlog { progress: Progress::Counter(source), .. }
            | Rule::Livelock { progress: Progress::Counter(source), .. }
            | Rule::Requests { source, .. } => Some(source),
            _ => None,
        }
    }

    /// How soon its counter is wanted again.
    pub(super) fn counter_pause(&self) -> Option<Duration> {
        match &self.sense {
            Sense::Requests(requests) => requests.pause(),
            _ => None,
        }
    }

    /// A look at the run.
    pub(super) fn sampled(&mut self, look: &Look<'_>, counted: Counted, quiet: bool) {
        let finding = match &mut self.sense {
            Sense::Backlog(backlog) => backlog.sampled(look, counted),
            Sense::Deadlock(deadlock) => deadlock.sampled(look),
            Sense::Livelock(livelock) => livelock.sampled(look, counted),
            Sense::Uninterruptible(uninterruptible) => uninterruptible.sampled(look),
            Sense::Leak(leak) if self.question.is_none() => match leak.sampled(look, quiet) {
                Some(finding) => finding,
                None => return,
            },
            Sense::Leak(_) | Sense::Answering(_) | Sense::Age(_) | Sense::Requests(_) => return,
        };
        self.finding = Some(finding);
    }

    /// The run could not be looked at. What was sick stays so.
    pub(super) fn not_sampled(&mut self, why: &str) {
        let looks = self.wants_samples() && !matches!(self.sense, Sense::Answering(_));
        if looks && self.state() != Some(VerdictState::Sick) {
            self.finding = Some(Finding::cannot_tell(why));
            if let Sense::Leak(leak) = &mut self.sense {
                leak.unseen();
            }
        }
    }

    /// Judges answers, and the time, by what is known of the run.
    pub(super) fn judge(&mut self, now: Now, witness: Witness) {
        let finding = match &mut self.sense {
            Sense::Answering(answering) => {
                let Some(finding) = answering.judge(witness) else { return };
                finding
            }
            Sense::Age(age) => age.judge(now),
            _ => return,
        };
        self.finding = Some(finding);
    }

    pub(super) fn found(&mut self, finding: Finding) {
        self.finding = Some(finding);
    }

    /// Its question was never answered.
    pub(super) fn lost(&mut self, now: Now) {
        let why = "nobody answered for it";
        match &mut self.sense {
            Sense::Answering(answering) => {
                let took = self.question.as_ref().map_or(Duration::ZERO, Question::timeout);
                answering.answered(now, Answer::CannotTell(why.to_owned()), took);
            }
            Sense::Leak(leak) => {
                let finding = leak.disk(now, Err(why.to_owned()), false);
                self.finding = Some(finding);
            }
            _ => {}
        }
    }

    fn state(&self) -> Option<VerdictState> {
        self.finding.as_ref().map(|finding| finding.state)
    }

    /// There is something to tell.
    pub(super) fn has_found(&self) -> bool {
        self.finding.is_some()
    }

    /// Signs of a sickness, certain or not.
    pub(super) fn signs(&self) -> Option<Now> {
        self.finding.as_ref().and_then(|finding| finding.signs).filter(|_| !self.verdict.planned)
    }

    /// It would be called sick, if nothing spoke against it.
    pub(super) fn is_suspect(&self) -> bool {
        self.state() == Some(VerdictState::Sick) && self.verdict.state != VerdictState::Sick
    }

    /// Its sickness proves itself: planned, or a number that nobody else can be blamed for.
    pub(super) fn stands_alone(&self) -> bool {
        self.verdict.planned || self.finding.as_ref().is_some_and(|finding| finding.relieves)
    }

    /// How soon the run should be looked at again.
    pub(super) fn closer(&self) -> Option<Duration> {
        let signs = self.signs().is_some() && self.state() != Some(VerdictState::Sick);
        let pause = match &self.settings.rule {
            Rule::Backlog { lasting, .. }
            | Rule::Deadlock { lasting }
            | Rule::Livelock { lasting, .. }
            | Rule::Uninterruptible { lasting } => CLOSER_MIN.max(*lasting / 4),
            Rule::Leak { .. } => SECOND_LOOK,
            Rule::Answer { .. } | Rule::Age { .. } | Rule::Requests { .. } => return None,
        };
        signs.then_some(pause)
    }

    /// Makes the verdict out of the finding. `Some` if it is news.
    pub(super) fn publish(&mut self, now: Now, mode: Mode, hold: Hold) -> Option<&Verdict> {
        let held = self.is_suspect() && hold != Hold::No;
        let (finding, verdict) = (self.finding.as_ref()?, &mut self.verdict);
        let state = if held { verdict.state } else { finding.state };
        if state != verdict.state {
            verdict.state = state;
            verdict.since = now;
        }
        let waits = match hold {
            Hold::Dependencies if held => "; what it depends on is asked first",
            Hold::Doubt if held => "; many fell sick at once, which is doubted first",
            Hold::No | Hold::Dependencies | Hold::Doubt => "",
        };
        verdict.message.clone_from(&finding.message);
        verdict.message.push_str(waits);
        verdict.measured.clone_from(&finding.measured);
        verdict.exhausted_in = finding.exhausted_in;
        verdict.cannot_run = finding.cannot_run;
        verdict.relieves = finding.relieves;
        verdict.mode = mode.min(self.settings.mode);
        if self.told.as_ref().is_some_and(|told| !is_news(now, told, verdict)) {
            return None;
        }
        self.told = Some(Told { at: now, verdict: verdict.clone() });
        Some(verdict)
    }

    pub(super) fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    pub(super) fn wake(&self) -> Option<Now> {
        let due = match &self.sense {
            Sense::Age(age) if self.state() != Some(VerdictState::Sick) => Some(age.due()),
            _ => None,
        };
        self.question.as_ref().map(Question::wake).into_iter().chain(due).min()
    }
}

fn sense(rule: &Rule, birth: Birth) -> Sense {
    match rule {
        Rule::Answer { timeout, failures, .. } => {
            Sense::Answering(Answering::new(*failures, *timeout))
        }
        Rule::Backlog { queue, connections, lasting, progress } => {
            Sense::Backlog(Backlog::new(*queue, *connections, *lasting, progress.clone()))
        }
        Rule::Deadlock { lasting } => Sense::Deadlock(Deadlock::new(*lasting)),
        Rule::Livelock { core_percent, lasting, progress } => {
            Sense::Livelock(Livelock::new(*core_percent, *lasting, progress.clone()))
        }
        Rule::Uninterruptible { lasting } => Sense::Uninterruptible(Uninterruptible::new(*lasting)),
        Rule::Leak { resource, limit, share_percent, trend } => Sense::Leak(Box::new(Leak::new(
            resource.clone(),
            *limit,
            *share_percent,
            *trend,
            birth.interval,
        ))),
        Rule::Age { every, jitter_percent } => {
            Sense::Age(Age::new(birth.ready, *every, *jitter_percent, birth.jitter))
        }
        Rule::Requests { after, .. } => Sense::Requests(Requests::new(*after)),
    }
}

fn question(rule: &Rule, birth: Birth) -> Option<Question> {
    match rule {
        Rule::Answer { interval, timeout, .. } => {
            // All services of a machine that boots must not be asked at the same moment.
            let wait = (interval.as_nanos() * u128::from(birth.phase >> 32)) >> 32;
            let wait = Duration::from_nanos(u64::try_from(wait).unwrap_or(0));
            Some(Question::new(birth.now + wait, *timeout))
        }
        Rule::Leak { resource: LeakResource::Disk(_), .. } => {
            Some(Question::new(birth.now, DISK_TIMEOUT))
        }
        _ => None,
    }
}

fn is_news(now: Now, told: &Told, verdict: &Verdict) -> bool {
    let before = &told.verdict;
    if before.state != verdict.state
        || before.mode != verdict.mode
        || before.cannot_run != verdict.cannot_run
    {
        return true;
    }
    if now < told.at + NEWS_PAUSE {
        return false;
    }
    let left = |verdict: &Verdict| verdict.exhausted_in.map(|left| left.as_secs_f64());
    let differs = |before: f64, after: f64| {
        NEWS_SHARE * before.abs().max(after.abs()).max(NEWS_LEAST) < (before - after).abs()
    };
    match (left(before), left(verdict)) {
        (None, None) => {}
        (Some(before), Some(after)) if !differs(before, after) => {}
        _ => return true,
    }
    let names = |verdict: &Verdict| verdict.measured.len();
    names(before) != names(verdict)
        || before
            .measured
            .iter()
            .zip(&verdict.measured)
            .any(|((name, before), (other, after))| name != other || differs(*before, *after))
}

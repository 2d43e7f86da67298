//! One run that is watched: when it is looked at, and what its detectors get to see.
//!
//! Invariants: nothing is asked of a run whose mode is off, and it has no detectors then; samples
//! are taken only if a detector wants them; all detectors that use a counter share one question.

use super::answering::Witness;
use super::deadlock::all_on_locks;
use super::detector::{Birth, Hold, Sense, Watched};
use super::finding::{Look, Patience};
use super::planned::jitter_share;
use super::question::{Due, Question, on_grid};
use super::quiet::Quiet;
use super::standstill::Counted;
use super::{DiskSample, HostSample, Output, Sample, Watch};
use crate::{CounterSource, HealthProbe, LeakResource, Mode, Rule, Tolerance};
use base::{Answer, InstanceId, Now, Rng, RunId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A sample is taken within this time.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A counter answers within this time.
const COUNT_TIMEOUT: Duration = Duration::from_secs(5);

/// A counter is not asked more often than this.
const COUNT_PAUSE_MIN: Duration = Duration::from_millis(100);

/// After so many intervals without a sample, the one before says nothing about this one.
const GAP_INTERVALS: u32 = 3;

/// A run that was ready to run for this share of the time and got no processor, in hundredths, is
/// short of it, if that was so many times longer than it ran.
const SHORT: (f64, f64) = (25.0, 3.0);

/// With these numbers, it starves.
const STARVES: (f64, f64) = (50.0, 9.0);

/// What a run must know of the world.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) host: Option<&'a HostSample>,
    pub(super) patience: Patience,
    pub(super) seed: u64,
    pub(super) rng: &'a mut Rng,
}

/// One run.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Run {
    id: RunId,
    ready: Now,
    mode: Mode,
    tolerance: Arc<Tolerance>,
    sampling: Option<Question>,
    last: Option<(Now, Sample)>,
    own: Patience,
    quiet: Quiet,
    counters: BTreeMap<CounterSource, Counter>,
    pub(super) detectors: BTreeMap<String, Watched>,
}

/// A number that the program counts up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Counter {
    /// `None` if the service tells it by itself.
    question: Option<Question>,
    value: Option<u64>,
}

impl Run {
    pub(super) fn new(watch: &Watch, context: &mut Context<'_>) -> Self {
        let mut run = Self {
            id: watch.run,
            ready: context.now - watch.age,
            mode: Mode::Off,
            tolerance: Arc::default(),
            sampling: None,
            last: None,
            own: Patience::Normal,
            quiet: Quiet::default(),
            counters: BTreeMap::new(),
            detectors: BTreeMap::new(),
        };
        run.configure(&watch.instance, watch.mode, Arc::clone(&watch.tolerance), context);
        run
    }

    /// From now on these settings. Detectors whose rule did not change go on where they were.
    pub(super) fn configure(
        &mut self,
        instance: &InstanceId,
        mode: Mode,
        tolerance: Arc<Tolerance>,
        context: &mut Context<'_>,
    ) {
        let same_pace = self.tolerance.interval == tolerance.interval;
        let mut old = std::mem::take(&mut self.detectors);
        self.mode = mode;
        self.tolerance = tolerance;
        let tolerance = Arc::clone(&self.tolerance);
        let wanted = tolerance.detectors.iter().filter(|(_, it)| Mode::Off < mode.min(it.mode));
        for (name, settings) in wanted {
            let before =
                old.remove(name).filter(|it| same_pace && it.settings.rule == settings.rule);
            let mut detector = before.unwrap_or_else(|| {
                let jitter = jitter_share(context.seed, instance);
                let (ready, interval) = (self.ready, tolerance.interval);
                let phase = context.rng.next_u64();
                Watched::new(
                    name,
                    settings,
                    Birth { now: context.now, ready, interval, jitter, phase },
                )
            });
            detector.settings = settings.clone();
            self.detectors.insert(name.clone(), detector);
        }
        self.plan_questions(context.now);
    }

    pub(super) fn set_mode(
        &mut self,
        instance: &InstanceId,
        mode: Mode,
        context: &mut Context<'_>,
    ) {
        let tolerance = Arc::clone(&self.tolerance);
        self.configure(instance, mode, tolerance, context);
    }

    /// Asks for what the detectors want, and for nothing else.
    fn plan_questions(&mut self, now: Now) {
        if self.detectors.values().any(Watched::wants_samples) {
            self.sampling.get_or_insert_with(|| Question::new(now, SAMPLE_TIMEOUT));
        } else {
            self.sampling = None;
            self.last = None;
        }
        let sources: Vec<_> =
            self.detectors.values().filter_map(Watched::counter).cloned().collect();
        self.counters.retain(|source, _| sources.contains(source));
        for source in sources {
            let asked = source != CounterSource::Notify;
            let question = asked.then(|| Question::new(now, COUNT_TIMEOUT));
            self.counters.entry(source).or_insert(Counter { question, value: None });
        }
    }

    /// Pause between two samples; `None` = none are taken.
    pub(super) fn pace(&self) -> Option<Duration> {
        self.sampling.as_ref().map(|_| self.tolerance.interval)
    }

    pub(super) fn is_off(&self) -> bool {
        self.detectors.is_empty()
    }

    pub(super) fn sampled(&mut self, result: Result<Sample, String>, context: &Context<'_>) {
        let Context { now, host, .. } = *context;
        let interval = self.tolerance.interval;
        let Some(sampling) = &mut self.sampling else { return };
        if sampling.answered(|asked| on_grid(asked.max(now), interval)).is_none() {
            return;
        }
        let sample = match result {
            Ok(sample) => sample,
            Err(why) => {
                self.detectors.values_mut().for_each(|detector| detector.not_sampled(&why));
                return;
            }
        };
        let longest = interval * GAP_INTERVALS + SAMPLE_TIMEOUT;
        let before = self.last.take().map(|(at, sample)| (now.since(at), sample));
        let before = before.filter(|(gap, _)| *gap <= longest && !gap.is_zero());
        self.own = before.as_ref().map_or(Patience::Normal, |before| own_patience(before, &sample));
        let patience = self.own.max(context.patience);
        let before = before.as_ref().map(|(gap, sample)| (*gap, sample));
        let look = Look { now, sample: &sample, before, host, patience };
        if self.detectors.values().any(Watched::has_trend) {
            self.quiet.sampled(&look);
        }
        let quiet = self.quiet.is_now();
        for detector in self.detectors.values_mut() {
            let counter = detector.counter().and_then(|source| self.counters.get(source));
            let counted = counter.and_then(|counter| counter.value);
            let counted = counted.map_or(Counted::Unknown, Counted::At);
            detector.sampled(&look, counted, quiet);
        }
        self.last = Some((now, sample));
        self.look_closer(now);
    }

    /// Signs of a sickness are looked at more often.
    fn look_closer(&mut self, now: Now) {
        let Some(pause) = self.detectors.values().filter_map(Watched::closer).min() else { return };
        let questions = self.counters.values_mut().filter_map(|counter| counter.question.as_mut());
        for question in questions.chain(self.sampling.as_mut()) {
            question.hurry(now + pause);
        }
    }

    pub(super) fn probed(&mut self, name: &str, answer: Answer, took: Duration, now: Now) {
        let Some(detector) = self.detectors.get_mut(name) else { return };
        let Rule::Answer { interval, .. } = detector.settings.rule else { return };
        let Some(question) = &mut detector.question else { return };
        if question.answered(|asked| (asked + interval).max(now)).is_none() {
            return;
        }
        if let Sense::Answering(answering) = &mut detector.sense {
            answering.answered(now, answer, took);
            let seen = self.last.as_ref().map(|(at, _)| *at);
            if let (true, Some(sampling)) = (answering.wants_witness(seen), &mut self.sampling) {
                sampling.hurry(now);
            }
        }
    }

    pub(super) fn disk(&mut self, name: &str, result: Result<DiskSample, String>, now: Now) {
        let interval = self.tolerance.interval;
        let Some(detector) = self.detectors.get_mut(name) else { return };
        let Some(question) = &mut detector.question else { return };
        let Sense::Leak(leak) = &mut detector.sense else { return };
        if question.answered(|asked| on_grid(asked.max(now), interval)).is_none() {
            return;
        }
        let finding = leak.disk(now, result, self.quiet.is_now());
        detector.found(finding);
        if let (Some(pause), Some(question)) = (detector.closer(), &mut detector.question) {
            question.hurry(now + pause);
        }
    }

    pub(super) fn counted(
        &mut self,
        source: &CounterSource,
        result: Result<u64, String>,
        now: Now,
    ) {
        let interval = self.tolerance.interval;
        let Some(counter) = self.counters.get_mut(source) else { return };
        let mut detectors = self.detectors.values_mut().filter(|it| it.counter() == Some(source));
        let mut pause = interval;
        if let Some(question) = &mut counter.question {
            if question.asked().is_none() {
                return;
            }
            counter.value = result.as_ref().ok().copied();
        } else if let Ok(value) = result {
            counter.value = Some(value);
        }
        for detector in &mut detectors {
            if let Sense::Requests(requests) = &mut detector.sense {
                let finding =
                    requests.counted(now, result.as_ref().copied().map_err(String::as_str));
                detector.found(finding);
            }
            pause = detector.counter_pause().unwrap_or(pause).min(pause);
        }
        if let Some(question) = &mut counter.question {
            question.answered(|asked| (asked + pause.max(COUNT_PAUSE_MIN)).max(now));
        }
    }

    /// Judges what time alone changes, or what another input has explained.
    pub(super) fn judge(&mut self, now: Now, patience: Patience) {
        let sample = self.last.as_ref().map(|(_, sample)| sample);
        let asleep = sample.and_then(|it| it.lock_waits).is_some_and(all_on_locks);
        let stopped = sample.is_some_and(|sample| sample.stopped);
        let witness = Witness {
            seen: self.last.as_ref().map(|(at, _)| *at),
            stopped,
            cannot_run: stopped || asleep,
            patience: self.own.max(patience),
        };
        self.detectors.values_mut().for_each(|detector| detector.judge(now, witness));
    }

    /// Asks what is due.
    pub(super) fn turn(&mut self, now: Now, instance: &InstanceId, outputs: &mut Vec<Output>) {
        let (instance, run) = (|| instance.clone(), self.id);
        if self.sampling.as_mut().is_some_and(|sampling| sampling.turn(now) != Due::NotYet) {
            outputs.push(Output::Sample { instance: instance(), run });
        }
        for (source, counter) in &mut self.counters {
            let Some(question) = &mut counter.question else { continue };
            let due = question.turn(now);
            if due == Due::Lost {
                counter.value = None;
            }
            if due != Due::NotYet {
                let (source, timeout) = (source.clone(), question.timeout());
                outputs.push(Output::Count { instance: instance(), run, source, timeout });
            }
        }
        for (name, watched) in &mut self.detectors {
            let Some(question) = &mut watched.question else { continue };
            let due = question.turn(now);
            let timeout = question.timeout();
            if due == Due::Lost {
                watched.lost(now);
            }
            if due == Due::NotYet {
                continue;
            }
            let detector = name.clone();
            match asks(&watched.settings.rule) {
                Some(Asks::Probe(probe)) => {
                    let (instance, probe) = (instance(), probe.clone());
                    outputs.push(Output::Probe { instance, run, detector, probe, timeout });
                }
                Some(Asks::Disk(path)) => {
                    let (instance, path) = (instance(), path.to_owned());
                    outputs.push(Output::LookAtDisk { instance, run, detector, path });
                }
                None => {}
            }
        }
    }

    /// Tells what is news.
    pub(super) fn publish(
        &mut self,
        now: Now,
        instance: &InstanceId,
        hold: impl Fn(&Watched) -> Hold,
        outputs: &mut Vec<Output>,
    ) {
        for detector in self.detectors.values_mut().filter(|detector| detector.has_found()) {
            let hold = hold(detector);
            if let Some(verdict) = detector.publish(now, self.mode, hold) {
                let (instance, verdict) = (instance.clone(), verdict.clone());
                outputs.push(Output::Verdict { instance, run: self.id, verdict });
            }
        }
    }

    /// The first signs of a sickness.
    pub(super) fn signs(&self) -> Option<Now> {
        self.detectors.values().filter_map(Watched::signs).min()
    }

    /// All verdicts as they stand.
    pub(super) fn snapshot(&self, instance: &InstanceId) -> impl Iterator<Item = Output> {
        let found = self.detectors.values().filter(|detector| detector.has_found());
        found.map(|detector| {
            let (instance, verdict) = (instance.clone(), detector.verdict().clone());
            Output::Verdict { instance, run: self.id, verdict }
        })
    }

    pub(super) fn wake(&self) -> Option<Now> {
        let counters = self.counters.values().filter_map(|counter| counter.question.as_ref());
        let questions = counters.chain(&self.sampling).map(Question::wake);
        questions.chain(self.detectors.values().filter_map(Watched::wake)).min()
    }
}

/// What a detector asks by itself.
enum Asks<'a> {
    Probe(&'a HealthProbe),
    Disk(&'a std::path::Path),
}

fn asks(rule: &Rule) -> Option<Asks<'_>> {
    match rule {
        Rule::Answer { probe, .. } => Some(Asks::Probe(probe)),
        Rule::Leak { resource: LeakResource::Disk(path), .. } => Some(Asks::Disk(path)),
        Rule::Backlog { .. }
        | Rule::Deadlock { .. }
        | Rule::Livelock { .. }
        | Rule::Uninterruptible { .. }
        | Rule::Leak { .. }
        | Rule::Age { .. }
        | Rule::Requests { .. } => None,
    }
}

/// A run that waits for a processor most of the time is not slow by its own fault.
fn own_patience((gap, before): &(Duration, Sample), sample: &Sample) -> Patience {
    let (Some(was), Some(is)) = (before.run_delay, sample.run_delay) else {
        return Patience::Normal;
    };
    let delayed = is.saturating_sub(was).as_secs_f64();
    let used = sample.cpu.saturating_sub(before.cpu).as_secs_f64();
    let percent = 100.0 * delayed / gap.as_secs_f64();
    let is_beyond = |(least, times): (f64, f64)| least <= percent && times * used <= delayed;
    match () {
        () if is_beyond(STARVES) => Patience::Endless,
        () if is_beyond(SHORT) => Patience::Long,
        () => Patience::Normal,
    }
}

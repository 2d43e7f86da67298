//! The replacement of a run that is sick, or whose time has come. Every step has a bound, and every
//! step is an event.
//!
//! ```text
//! blame ─► evidence ─► remedies ─► successor beside it ─► warm-up ─► swap; the old one drains, then stops
//!  │         │            │    └─► drain ─► stop ─► start ─► warm-up
//!  │         │            └ well again: over
//!  └ a dependency's fault: over
//! ```
//! Invariants: nothing is stopped before its evidence is gathered or its time for it is over; a run
//! that is not planned to go leaves the rotation before anything else happens to it; the budget of
//! restarts is charged when something is stopped, not before.

use crate::hindrance::Hindrance;
use crate::instance::{At, Drain, End, Evidence, Stage};
use crate::machine::{Supervisor, millis};
use crate::watch::{Verdict, VerdictState};
use crate::{EventKind, Mode, Output, Severity, StopAction, Value, Wish};
use base::{InstanceId, Now, RunId};
use std::time::Duration;

/// The driver answers within the budget of the evidence; so much later it is no longer waited for.
const EVIDENCE_MARGIN: Duration = Duration::from_secs(1);

/// A replacement under way.
#[derive(Clone, Debug)]
pub(crate) struct Replacement {
    /// The run that goes.
    pub(crate) run: RunId,
    pub(crate) cause: Cause,
    pub(crate) since: Now,
    pub(crate) step: Step,
    /// Remedies that were tried.
    pub(crate) remedies: usize,
    /// How long the run that goes had been ready.
    pub(crate) uptime: Duration,
    pub(crate) evidence: Option<String>,
}

/// Why a run is replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cause {
    pub(crate) detector: String,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) planned: bool,
    /// Nothing of it is scheduled: to ask it for anything is pointless.
    pub(crate) cannot_run: bool,
    /// Its end gives the machine back what the machine may lack.
    pub(crate) relieves: bool,
}

impl Cause {
    pub(crate) fn of(verdict: &Verdict) -> Self {
        Self {
            detector: verdict.detector.clone(),
            kind: verdict.kind,
            message: verdict.message.clone(),
            planned: verdict.planned,
            cannot_run: verdict.cannot_run,
            relieves: verdict.relieves,
        }
    }

    pub(crate) fn asked(by: &str) -> Self {
        Self {
            detector: ASKED.to_owned(),
            kind: ASKED,
            message: format!("{by} asked for it"),
            planned: true,
            cannot_run: false,
            relieves: false,
        }
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.kind == ASKED
    }

    /// It holds too much of something itself: nobody else can be to blame.
    pub(crate) fn is_own_leak(&self) -> bool {
        ["memory", "swap", "descriptors", "threads", "close_wait", "disk"].contains(&self.kind)
    }

    /// Its connections will not end by themselves.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.cannot_run || ["backlog", "deadlock", "livelock"].contains(&self.kind)
    }
}

const ASKED: &str = "operator";

/// Where a replacement is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// What it depends on is given time to be found down.
    Blame(Now),
    /// Evidence is gathered, until then at the latest.
    Evidence(Now),
    /// A remedy is given time to help.
    Remedy(Now),
    /// The successor starts beside it, or warms up.
    Successor(RunId),
    /// Out of rotation, its connections end.
    Drain(Drain),
    /// It is stopped; its successor comes then.
    Stop,
}

impl Step {
    pub(crate) fn due(&self) -> Option<Now> {
        match self {
            Self::Blame(until) | Self::Evidence(until) | Self::Remedy(until) => Some(*until),
            Self::Drain(drain) => Some(drain.due()),
            // Bounded by the deadlines of the runs themselves.
            Self::Successor(_) | Self::Stop => None,
        }
    }

    pub(crate) fn until(&self) -> Option<Now> {
        match self {
            Self::Drain(drain) => Some(drain.until),
            other => other.due(),
        }
    }

    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Blame(_) => "blame",
            Self::Evidence(_) => "evidence",
            Self::Remedy(_) => "remedy",
            Self::Successor(_) => "successor",
            Self::Drain(_) => "drain",
            Self::Stop => "stop",
        }
    }
}

impl Replacement {
    /// Balancers are to send nothing more to it.
    pub(crate) fn is_out_of_rotation(&self) -> bool {
        match self.step {
            Step::Blame(_) | Step::Remedy(_) => false,
            Step::Evidence(_) | Step::Successor(_) => !self.cause.planned,
            Step::Drain(_) | Step::Stop => true,
        }
    }
}

impl Supervisor {
    /// An operator asks for a replacement without a failed request.
    pub(crate) fn asked_to_replace(&mut self, id: &InstanceId, by: &str, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let runs = instance.run.as_ref().is_some_and(|run| matches!(run.stage, Stage::Running));
        if runs {
            instance.care.asked = Some(by.to_owned());
            return;
        }
        let text = format!("{id} cannot be replaced: it does not run; a start does it");
        self.event(id, EventKind::Command, Severity::Warning, text, Vec::new(), out);
    }

    pub(crate) fn begin_replacement(
        &mut self,
        now: Now,
        id: &InstanceId,
        cause: Cause,
        out: &mut Vec<Output>,
    ) {
        if !self.budget_left(now, id, &cause, out) {
            return;
        }
        let Some(instance) = self.instances.get(id) else { return };
        let Some(run) = &instance.run else { return };
        let (number, ready) = (run.id, run.ready_since.unwrap_or(run.spawned));
        let blame = !cause.planned && !cause.is_own_leak();
        let blame = if blame { self.blame_time(instance) } else { Duration::ZERO };
        let replacement = Replacement {
            run: number,
            since: now,
            step: Step::Blame(now + blame),
            remedies: 0,
            uptime: now.since(ready),
            evidence: None,
            cause,
        };
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.care.suppressed = None;
        instance.care.asked = None;
        instance.care.replacement = Some(replacement);
        if blame.is_zero() {
            self.blamed(now, id, out);
        }
    }

    /// Time has passed for a replacement.
    pub(crate) fn care_due(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.care.would.values_mut().for_each(|would| would.tick(now));
        let over = matches!(
            instance.care.suppressed,
            Some(Hindrance::Later(at) | Hindrance::Settling(_, at)) if at <= now
        );
        if over {
            instance.care.suppressed = None;
        }
        let Some(replacement) = &mut instance.care.replacement else { return };
        if replacement.step.due().is_none_or(|due| now < due) {
            return;
        }
        match &mut replacement.step {
            Step::Blame(_) => self.blamed(now, id, out),
            Step::Evidence(_) => {
                let at = At { id: id.clone(), run: replacement.run };
                let why = "it was not gathered in time".to_owned();
                self.gathered(now, &at, Err(why), out);
            }
            Step::Remedy(_) => self.next_remedy(now, id, out),
            Step::Drain(drain) => {
                if drain.is_over(now) {
                    self.stop_present(now, id, out);
                } else {
                    drain.again = None;
                    let run = replacement.run;
                    out.push(Output::CountConnections { instance: id.clone(), run });
                }
            }
            Step::Successor(_) | Step::Stop => {}
        }
    }

    /// Something has changed while a replacement is under way.
    pub(crate) fn continue_replacement(&mut self, _: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get(id) else { return };
        let Some(replacement) = &instance.care.replacement else { return };
        let wanted = instance.wish == Wish::Up && !instance.removed && self.shutdown.is_none();
        let present = instance.is_present(replacement.run);
        let asked_otherwise = present && instance.stop_waits;
        let gone = !present && !matches!(replacement.step, Step::Stop);
        let off = !replacement.cause.planned && instance.mode() != Mode::Enforce;
        let reversible = !matches!(replacement.step, Step::Stop);
        if !wanted || asked_otherwise || gone || (off && reversible) {
            return self.cancel_replacement(id, out);
        }
        let verdict = instance.care.verdicts.get(&replacement.cause.detector);
        let well = verdict.is_none_or(|verdict| verdict.state != VerdictState::Sick);
        if well && matches!(replacement.step, Step::Blame(_) | Step::Remedy(_)) {
            self.cured(id, out);
        }
    }

    fn cured(&mut self, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(replacement) = instance.care.replacement.take() else { return };
        let tried = replacement.remedies.checked_sub(1);
        let remedy = tried.and_then(|number| instance.spec.tolerance.remedies.get(number));
        let Some(remedy) = remedy else { return };
        let message = format!("{id} is well again after `{}`", remedy.name);
        let data = vec![
            ("remedy", Value::Text(remedy.name.clone())),
            ("detector", Value::Text(replacement.cause.detector)),
            ("helped", Value::Flag(true)),
        ];
        self.event(id, EventKind::Remedy, Severity::Warning, message, data, out);
    }

    fn cancel_replacement(&mut self, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(replacement) = instance.care.replacement.take() else { return };
        if let Step::Successor(run) = replacement.step
            && !instance.is_present(run)
            && let Some(successor) = instance.run_at_mut(run)
        {
            let at = At { id: id.clone(), run };
            let since = successor.spawned;
            self.enter_stop(since, &at, End::Stop, out);
        }
        self.concern_group(id);
    }

    /// The dependencies had their time: it is its own fault.
    fn blamed(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get(id) else { return };
        let Some(replacement) = &instance.care.replacement else { return };
        let (cause, run, uptime) = (replacement.cause.clone(), replacement.run, replacement.uptime);
        if self.hindrance(now, instance, &cause).is_some() {
            // Looked at anew, which says why not.
            if let Some(instance) = self.instances.get_mut(id) {
                instance.care.replacement = None;
            }
            self.concerned.insert(id.clone());
            return;
        }
        let policy = &instance.spec.tolerance.evidence;
        let severity = if cause.planned { Severity::Info } else { Severity::Warning };
        let message = format!("{id} is being replaced: {}", cause.message);
        let data = vec![
            ("detector", Value::Text(cause.detector.clone())),
            ("kind", Value::Text(cause.kind.to_owned())),
            ("planned", Value::Flag(cause.planned)),
            millis("uptime_ms", uptime),
        ];
        let budget = policy.budget;
        let at = At { id: id.clone(), run };
        self.event_of(&at, EventKind::Replacing, severity, message, data, out);
        if cause.planned || budget.is_zero() {
            return self.next_remedy(now, id, out);
        }
        let until = now + budget + EVIDENCE_MARGIN;
        self.step_to(id, Step::Evidence(until));
        if let Some(run) = self.run_mut(&at) {
            run.evidence = Evidence::Asked(until);
        }
        let instance = id.clone();
        out.push(Output::Gather { instance, run, cause: cause.message, budget });
    }

    /// Evidence of a start that hangs is gathered before it is stopped; true while it is.
    pub(crate) fn evidence_first(
        &mut self,
        now: Now,
        at: &At,
        cause: &str,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(instance) = self.instances.get_mut(&at.id) else { return false };
        let budget = instance.spec.tolerance.evidence.budget;
        let wanted = instance.mode() == Mode::Enforce && !budget.is_zero();
        let Some(run) = instance.run_at_mut(at.run) else { return false };
        match run.evidence {
            Evidence::NotAsked if wanted => {}
            Evidence::Asked(until) => return now < until,
            Evidence::NotAsked | Evidence::Done(_) => return false,
        }
        let until = now + budget + EVIDENCE_MARGIN;
        run.evidence = Evidence::Asked(until);
        if let Stage::Starting { deadline, .. } = &mut run.stage {
            *deadline = until;
        }
        let (instance, run) = (at.id.clone(), at.run);
        out.push(Output::Gather { instance, run, cause: cause.to_owned(), budget });
        true
    }

    /// Evidence is there, or will not be.
    pub(crate) fn gathered(
        &mut self,
        now: Now,
        at: &At,
        result: Result<String, String>,
        out: &mut Vec<Output>,
    ) {
        let Some(run) = self.run_mut(at) else { return };
        if !matches!(run.evidence, Evidence::Asked(_)) {
            return;
        }
        run.evidence = Evidence::Done(result.clone());
        let starting = matches!(run.stage, Stage::Starting { .. });
        let id = &at.id;
        let (severity, message, data) = match &result {
            Ok(name) => {
                let message = format!("evidence of {id} is kept: holdfast evidence show {name}");
                (Severity::Info, message, vec![("evidence", Value::Text(name.clone()))])
            }
            Err(why) => {
                (Severity::Warning, format!("no evidence of {id} is kept: {why}"), Vec::new())
            }
        };
        self.event_of(at, EventKind::Evidence, severity, message, data, out);
        if starting {
            return self.start_timeout(now, at, out);
        }
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(replacement) = &mut instance.care.replacement else { return };
        if replacement.run == at.run && matches!(replacement.step, Step::Evidence(_)) {
            replacement.evidence = result.ok();
            self.next_remedy(now, id, out);
        }
    }

    /// The next finer action, or the replacement itself (H23).
    fn next_remedy(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(replacement) = &mut instance.care.replacement else { return };
        let detector = replacement.cause.detector.clone();
        let skip = replacement.cause.planned || replacement.cause.cannot_run;
        let remedies = instance.spec.tolerance.remedies.iter().enumerate();
        let next = remedies.skip(replacement.remedies).find(|(_, remedy)| {
            remedy.detectors.is_empty() || remedy.detectors.contains(&detector)
        });
        let Some((number, remedy)) = next.filter(|_| !skip).map(|(n, it)| (n, it.clone())) else {
            return self.take_over(now, id, out);
        };
        let at = At { id: id.clone(), run: replacement.run };
        replacement.remedies = number + 1;
        replacement.step = Step::Remedy(now + remedy.wait);
        let message = format!("{id}: `{}` is tried before it is replaced", remedy.name);
        let data = vec![("remedy", Value::Text(remedy.name)), ("detector", Value::Text(detector))];
        self.event_of(&at, EventKind::Remedy, Severity::Warning, message, data, out);
        let Some(run) = self.run_mut(&at) else { return };
        let (main, slot, spec) = (run.main, run.slot, std::sync::Arc::clone(&run.spec));
        let (instance, run_id) = (at.id.clone(), at.run);
        match (&remedy.action, main) {
            (StopAction::Signal(signal), Some(pid)) => {
                let signal = *signal;
                out.push(Output::Signal { instance, run: run_id, pid, signal });
            }
            (StopAction::Signal(_), None) => {}
            (StopAction::Command(argv), _) => {
                run.stale_commands = run.stale_commands.saturating_add(1);
                let argv = argv.iter().map(|text| spec.render_at(text, id, slot)).collect();
                let timeout = remedy.wait;
                out.push(Output::RunCommand { instance, run: run_id, argv, timeout, main });
            }
        }
    }
}

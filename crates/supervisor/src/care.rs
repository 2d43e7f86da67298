//! What is known of an instance's health, and whether something is done about it.
//!
//! Verdicts, dependencies and the host's pressure are states, not events: whenever one of them
//! changes, [`Supervisor::consider_health`] looks at all of them and decides anew. How a
//! replacement then goes is decided in `replace`.
//!
//! Invariants: with [`Mode::Off`] nothing is kept and nothing is watched (H24); with
//! [`Mode::Observe`] no output but an event follows from a verdict (H12); nothing is replaced while
//! the host starves, while what it depends on is down, or once the restart budget is spent (H16,
//! H19, H26).

use crate::hindrance::Hindrance;
use crate::instance::{At, Instance, Role, Stage};
use crate::machine::Supervisor;
use crate::observe::Would;
use crate::replace::{Cause, Replacement};
use crate::watch::{DependencyState, Verdict, VerdictState};
use crate::{DependencyTarget, EventKind, HealthState, Mode, Output, Severity, Value, Wish};
use base::{InstanceId, Now, RunId, format_duration};
use std::collections::BTreeMap;

/// The name under which a watchdog that was not fed counts as a detector.
pub(crate) const WATCHDOG: &str = "watchdog";

/// What is known of one instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Care {
    /// The ports of the present run, or of the next one.
    pub(crate) slot: u16,
    /// An operator's mode, and who has set it.
    pub(crate) mode: Option<(Mode, String)>,
    /// What is watched now, and how far its verdicts go.
    pub(crate) watched: Option<(RunId, Mode)>,
    /// Of the present run, by detector.
    pub(crate) verdicts: BTreeMap<String, Verdict>,
    pub(crate) dependencies: BTreeMap<String, (DependencyState, String)>,
    /// Somebody asked for a replacement that waits for its turn.
    pub(crate) asked: Option<String>,
    pub(crate) replacement: Option<Replacement>,
    pub(crate) suppressed: Option<Hindrance>,
    /// Of detectors that are only observed and say that it is sick: what would be done.
    pub(crate) would: BTreeMap<String, Would>,
    /// Replacing did not help: nothing is done any more until somebody asks.
    pub(crate) given_up: Option<String>,
    /// A replacement failed: the next one not before then.
    pub(crate) not_before: Option<Now>,
    /// Of the run that ended last.
    pub(crate) last_evidence: Option<String>,
    /// As those that depend on it were told: its health, and whether it is sick in any mode.
    pub(crate) told: Option<(HealthState, bool)>,
}

impl Care {
    pub(crate) fn run_ended(&mut self, slot: u16, evidence: Option<String>) {
        self.slot = slot;
        self.last_evidence = evidence;
        self.forget_verdicts();
    }

    pub(crate) fn forget_verdicts(&mut self) {
        self.verdicts.clear();
        self.would.clear();
        self.suppressed = None;
    }

    /// When something is to be done although nothing happens.
    pub(crate) fn due(&self) -> Option<Now> {
        let would = self.would.values().filter_map(|would| match would {
            Would::Waits(until) => Some(*until),
            Would::Due | Would::Held | Would::Said => None,
        });
        let step = self.replacement.as_ref().and_then(|replacement| replacement.step.due());
        let later = match self.suppressed {
            Some(Hindrance::Later(at) | Hindrance::Settling(_, at)) => Some(at),
            _ => None,
        };
        step.into_iter().chain(later).chain(would).min()
    }
}

impl Instance {
    /// The most that is done about what detectors see.
    pub(crate) fn mode(&self) -> Mode {
        self.care.mode.as_ref().map_or(self.spec.tolerance.mode, |(mode, _)| *mode)
    }

    /// The same for one detector.
    pub(crate) fn mode_of(&self, detector: &str) -> Mode {
        let own = self.spec.tolerance.detectors.get(detector);
        let own = own.map_or(Mode::Enforce, |detector| detector.mode);
        self.mode().min(own)
    }

    /// What a verdict of the present run asks for: the worst one, with its mode.
    fn worst(&self) -> Option<(&Verdict, Mode)> {
        let sick = self.care.verdicts.values().filter(|it| it.state == VerdictState::Sick);
        let sick = sick.map(|verdict| (verdict, self.mode_of(&verdict.detector)));
        let acting = sick.filter(|(_, mode)| *mode == Mode::Enforce);
        acting.min_by_key(|(verdict, _)| (verdict.planned, verdict.since))
    }

    /// A detector that may act says that the present run is sick.
    pub(crate) fn is_sick(&self) -> bool {
        self.worst().is_some_and(|(verdict, _)| !verdict.planned)
    }

    /// A detector says so, whether it may act or not.
    pub(crate) fn seems_sick(&self) -> bool {
        let sick = |it: &Verdict| it.state == VerdictState::Sick && !it.planned;
        self.care.verdicts.values().any(sick)
    }

    /// How one run stands towards balancers.
    pub(crate) fn health_of(&self, run: RunId) -> HealthState {
        let Some(known) = self.run_at(run) else { return self.health_of_none() };
        if !self.is_present(run) {
            return match (&known.role, &known.stage) {
                (Role::Present | Role::Successor, _) => HealthState::Starting,
                (Role::Leaving(drain), Stage::Running) if drain.shared.is_some() => HealthState::Up,
                (Role::Leaving(_) | Role::Quarantined { .. }, _) => HealthState::Draining,
            };
        }
        match known.stage {
            Stage::Spawning | Stage::Starting { .. } => HealthState::Starting,
            Stage::Stopping { .. } | Stage::Cleaning(_) => HealthState::Draining,
            Stage::Running if self.is_out_of_rotation() => HealthState::Draining,
            Stage::Running if self.dependency_trouble().is_some() => HealthState::DependencyDown,
            Stage::Running if self.is_sick() => HealthState::Sick,
            Stage::Running if known.warm_up.is_some() => HealthState::Starting,
            Stage::Running => HealthState::Up,
        }
    }

    fn health_of_none(&self) -> HealthState {
        match self.wish {
            Wish::Down | Wish::Finished => HealthState::Stopped,
            Wish::Up | Wish::Failed(_) => HealthState::Down,
        }
    }

    /// How the instance stands towards balancers.
    pub(crate) fn health(&self) -> HealthState {
        match &self.run {
            Some(run) => self.health_of(run.id),
            None => self.health_of_none(),
        }
    }

    /// A replacement has taken it out of rotation.
    pub(crate) fn is_out_of_rotation(&self) -> bool {
        let replacement = self.care.replacement.as_ref();
        replacement.is_some_and(Replacement::is_out_of_rotation)
    }

    /// What it depends on and is down or slow.
    pub(crate) fn dependency_trouble(&self) -> Option<String> {
        let named = self.care.dependencies.iter();
        let mut bad = named.filter(|(_, (state, _))| {
            matches!(state, DependencyState::Down | DependencyState::Slow)
        });
        bad.next().map(|(name, (state, why))| {
            format!("it depends on {name}, which is {}: {why}", state.as_str())
        })
    }
}

impl Supervisor {
    /// A detector has said something.
    pub(crate) fn verdict(&mut self, _: Now, at: &At, verdict: Verdict, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(&at.id) else { return };
        let mode = instance.mode_of(&verdict.detector);
        if !instance.is_present(at.run) || mode == Mode::Off {
            return;
        }
        let before = instance.care.verdicts.insert(verdict.detector.clone(), verdict.clone());
        let before = before.map_or(VerdictState::Well, |before| before.state);
        let id = &at.id;
        let data = || {
            let mut data = vec![
                ("detector", Value::Text(verdict.detector.clone())),
                ("kind", Value::Text(verdict.kind.to_owned())),
                ("mode", Value::Text(mode.as_str().to_owned())),
            ];
            data.extend(verdict.measured.iter().map(|(name, value)| (*name, Value::Real(*value))));
            data
        };
        match (before, verdict.state) {
            (VerdictState::Well | VerdictState::CannotTell, VerdictState::Sick) => {
                let is = if verdict.planned { "is due for replacement" } else { "is sick" };
                let message = format!("{id} {is}: {}", verdict.message);
                let severity = if verdict.planned { Severity::Info } else { Severity::Warning };
                self.event_of(at, EventKind::Sick, severity, message, data(), out);
            }
            (VerdictState::Sick, VerdictState::Well) => {
                instance.care.would.remove(&verdict.detector);
                let message = format!("{id} is well again: {}", verdict.message);
                self.event_of(at, EventKind::Well, Severity::Info, message, data(), out);
            }
            (
                VerdictState::Well | VerdictState::CannotTell,
                VerdictState::Well | VerdictState::CannotTell,
            )
            | (VerdictState::Sick, VerdictState::Sick | VerdictState::CannotTell) => {}
        }
    }

    /// A watchdog was not fed. With tolerance this is a verdict like any other; true if it is.
    pub(crate) fn watchdog_verdict(
        &mut self,
        now: Now,
        at: &At,
        words: &str,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(instance) = self.instances.get_mut(&at.id) else { return false };
        if instance.mode() == Mode::Off || !instance.is_present(at.run) {
            return false;
        }
        if let Some(run) = instance.run_at_mut(at.run) {
            run.watchdog_due = None;
        }
        let message = words.to_owned();
        self.verdict(now, at, watchdog(VerdictState::Sick, now, message), out);
        true
    }

    /// It was fed again.
    pub(crate) fn watchdog_fed(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let known = self.instances.get(&at.id).and_then(|it| it.care.verdicts.get(WATCHDOG));
        if known.is_some_and(|known| known.state == VerdictState::Sick) {
            let message = "it says WATCHDOG=1 again".to_owned();
            self.verdict(now, at, watchdog(VerdictState::Well, now, message), out);
        }
    }

    /// Whether the host starves, and why.
    pub(crate) fn host_pressure(&mut self, reason: Option<String>) {
        if self.pressure.is_some() != reason.is_some() {
            self.concerned.extend(self.instances.keys().cloned());
        }
        self.pressure = reason;
    }

    /// Somebody sets how much is done.
    pub(crate) fn set_mode(
        &mut self,
        id: &InstanceId,
        mode: Option<Mode>,
        by: &str,
        out: &mut Vec<Output>,
    ) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.care.mode = mode.map(|mode| (mode, by.to_owned()));
        instance.care.given_up = None;
        if instance.mode() == Mode::Off {
            instance.care.forget_verdicts();
        }
        let now = instance.mode();
        let source = if mode.is_some() { "until somebody changes it" } else { "as configured" };
        let message = format!("the mode of {id} is {} now, {source}", now.as_str());
        let data = vec![("mode", Value::Text(now.as_str().to_owned()))];
        self.event(id, EventKind::ModeChanged, Severity::Info, message, data, out);
    }

    /// What an operator had set before this daemon began.
    pub(crate) fn mode_was_set(&mut self, id: &InstanceId, mode: Mode, by: String) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.care.mode = Some((mode, by));
            self.concerned.insert(id.clone());
        }
    }

    /// Looks at everything that is known of an instance's health, and decides what follows.
    pub(crate) fn consider_health(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        self.health_changed(id, out);
        self.sync_watch(id, out);
        self.say_would(now, id, out);
        self.decide_replacement(now, id, out);
        self.health_changed(id, out);
        self.sync_watch(id, out);
    }

    fn decide_replacement(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get(id) else { return };
        if instance.care.replacement.is_some() {
            return self.continue_replacement(now, id, out);
        }
        let Some(cause) = self.wanted_replacement(instance) else {
            if let Some(instance) = self.instances.get_mut(id) {
                instance.care.suppressed = None;
            }
            return;
        };
        match self.hindrance(now, instance, &cause) {
            None => self.begin_replacement(now, id, cause, out),
            Some(hindrance) => self.hinder(id, &cause, hindrance, out),
        }
    }

    /// Why the present run should be replaced, if it should and can be.
    fn wanted_replacement(&self, instance: &Instance) -> Option<Cause> {
        let run = instance.run.as_ref()?;
        let steady = matches!(run.stage, Stage::Running) && run.end.is_none();
        let wanted = instance.wish == Wish::Up && !instance.stop_waits && !instance.removed;
        if !steady || !wanted || self.shutdown.is_some() || !self.begun {
            return None;
        }
        if let Some(by) = &instance.care.asked {
            return Some(Cause::asked(by));
        }
        instance.worst().map(|(verdict, _)| Cause::of(verdict))
    }

    /// The budget of restarts is spent: nothing more is done until somebody asks (H26).
    pub(crate) fn budget_left(
        &mut self,
        now: Now,
        id: &InstanceId,
        cause: &Cause,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(instance) = self.instances.get_mut(id) else { return false };
        let policy = &instance.spec.restart;
        while instance.recent.front().is_some_and(|at| policy.budget_window <= now.since(*at)) {
            instance.recent.pop_front();
        }
        if cause.planned || instance.recent.len() < policy.budget as usize {
            return true;
        }
        let (number, window) = (instance.recent.len(), format_duration(policy.budget_window));
        let why = format!("{number} restarts within {window} did not help");
        instance.care.given_up = Some(why.clone());
        instance.care.suppressed = Some(Hindrance::GivenUp(why.clone()));
        let message = format!(
            "{id} is sick and is not replaced any more, a person must look: {why}; {}",
            cause.message
        );
        let data = vec![("detector", Value::Text(cause.detector.clone()))];
        self.event(id, EventKind::BudgetSpent, Severity::Error, message, data, out);
        false
    }

    /// Has the present run watched as far as its mode asks for.
    fn sync_watch(&mut self, id: &InstanceId, out: &mut Vec<Output>) {
        let ending = self.shutdown.is_some() || !self.begun;
        let Some(instance) = self.instances.get_mut(id) else { return };
        let mode = instance.mode();
        let run = instance.run.as_ref();
        let run = run.filter(|run| matches!(run.stage, Stage::Running) && run.end.is_none());
        let wanted = run.filter(|_| !ending && Mode::Off < mode).map(|run| (run.id, mode));
        if wanted == instance.care.watched {
            return;
        }
        let before = std::mem::replace(&mut instance.care.watched, wanted);
        if wanted.map(|(run, _)| run) != before.map(|(run, _)| run) {
            // What nobody asks for any more would stay as it was last heard.
            instance.care.dependencies.clear();
        }
        let depends = instance.spec.depends.clone();
        let instance = id.clone();
        if let Some((run, _)) = before.filter(|(old, _)| wanted.is_none_or(|(new, _)| new != *old))
        {
            out.push(Output::Unwatch { instance: instance.clone(), run });
        }
        let Some((run, mode)) = wanted else { return };
        out.push(Output::Watch { instance, run, mode });
        for (name, dependency) in depends {
            if let DependencyTarget::Service(service) = dependency.target {
                let (state, message) = self.standing_of(&service);
                self.depends(id, name, state, message, out);
            }
        }
    }

    /// Tells those that depend on a service when its health has changed.
    fn health_changed(&mut self, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let now = (instance.health(), instance.seems_sick());
        if instance.care.told.replace(now) != Some(now) && self.depended.contains(&id.service) {
            self.tell_dependants(&id.service, out);
        }
    }
}

fn watchdog(state: VerdictState, now: Now, message: String) -> Verdict {
    Verdict {
        detector: WATCHDOG.to_owned(),
        kind: WATCHDOG,
        state,
        message,
        measured: Vec::new(),
        since: now,
        exhausted_in: None,
        planned: false,
        cannot_run: false,
        relieves: false,
        mode: Mode::Enforce,
    }
}

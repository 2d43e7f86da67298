//! Into rotation and out of it: warm-up, draining, and what becomes of runs that are not the present
//! one.

use crate::instance::{At, Drain, End, Instance, Role, Stage, WarmUp};
use crate::machine::{Supervisor, millis};
use crate::replace::Step;
use crate::start::{render_probe, short};
use crate::{EventKind, Output, RunRole, Severity, Successor, Value, Wish};
use base::{Answer, InstanceId, Now};
use std::sync::Arc;
use std::time::Duration;

/// Pause between two counts of the connections that are to end.
const COUNT_PAUSE: Duration = Duration::from_millis(200);

/// Pause before a warm-up question that was not answered with yes is put again.
const WARM_UP_PAUSE: Duration = Duration::from_millis(200);

/// One warm-up question takes at most this long.
const WARM_UP_QUESTION: Duration = Duration::from_secs(10);

impl Drain {
    /// Nothing more is waited for.
    pub(crate) fn is_over(&self, now: Now) -> bool {
        self.until <= now || (self.empty && self.settled <= now)
    }

    fn counted(&mut self, now: Now, open: Option<u32>) {
        self.empty = open == Some(0);
        // What can't be counted is waited for to the end.
        self.again = open.filter(|open| 0 < *open).map(|_| now + COUNT_PAUSE);
    }
}

impl Instance {
    /// The ports that a second run of it would have; `None`: somebody has them.
    pub(crate) fn other_slot(&self) -> Option<u16> {
        let present = self.run.as_ref().map_or(self.care.slot, |run| run.slot);
        if self.spec.process.port.is_none()
            || self.spec.tolerance.replace.successor == Successor::After
        {
            return Some(0);
        }
        let other = 1 - present.min(1);
        self.others.iter().all(|run| run.slot != other).then_some(other)
    }
}

impl Supervisor {
    /// It is ready: is it warm, too?
    pub(crate) fn begin_warm_up(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let Some(run) = self.run_mut(at) else { return };
        let policy = &run.spec.tolerance.replace;
        if policy.warm_up.is_empty() {
            return self.admit(now, at, None, out);
        }
        let until = now + policy.warm_up_timeout;
        run.warm_up = Some(WarmUp { number: 0, until, again: None });
        self.ask_warm_up(now, at, out);
    }

    fn ask_warm_up(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let Some(run) = self.run_mut(at) else { return };
        let (spec, slot) = (Arc::clone(&run.spec), run.slot);
        let Some(warm_up) = &mut run.warm_up else { return };
        let Some(probe) = spec.tolerance.replace.warm_up.get(warm_up.number) else {
            // A reload has taken the question away.
            return self.admit(now, at, None, out);
        };
        warm_up.again = None;
        let probe = render_probe(&spec, probe, &at.id, slot);
        let timeout = WARM_UP_QUESTION.min(spec.tolerance.replace.warm_up_timeout);
        let (instance, run) = (at.id.clone(), at.run);
        out.push(Output::Probe { instance, run, probe, timeout });
    }

    pub(crate) fn warm_up_answered(
        &mut self,
        now: Now,
        at: &At,
        answer: &Answer,
        out: &mut Vec<Output>,
    ) {
        let Some(run) = self.run_mut(at) else { return };
        let questions = run.spec.tolerance.replace.warm_up.len();
        let Some(warm_up) = &mut run.warm_up else { return };
        if !answer.is_yes() {
            warm_up.again = Some(now + WARM_UP_PAUSE);
            return;
        }
        warm_up.number += 1;
        if warm_up.number < questions {
            return self.ask_warm_up(now, at, out);
        }
        self.admit(now, at, None, out);
    }

    /// A warm-up question is due, or its time is over.
    pub(crate) fn admit_due(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let Some(warm_up) = self.run_at(at).and_then(|run| run.warm_up) else { return };
        if warm_up.until <= now {
            let why = "it is not warm yet, and its time for that is over";
            self.admit(now, at, Some(why), out);
        } else if warm_up.again.is_some_and(|again| again <= now) {
            self.ask_warm_up(now, at, out);
        }
    }

    /// Into rotation.
    fn admit(&mut self, now: Now, at: &At, but: Option<&str>, out: &mut Vec<Output>) {
        let Some(run) = self.run_mut(at) else { return };
        let warmed = run.warm_up.take().is_some();
        run.admitted = Some(now);
        let (role, took) = (run.role.told(), now.since(run.spawned));
        if warmed {
            let colon = if but.is_some() { ": " } else { "" };
            let (id, why) = (&at.id, but.unwrap_or_default());
            let message = format!("{id} is in rotation after {}{colon}{why}", short(took));
            let severity = if but.is_some() { Severity::Warning } else { Severity::Info };
            let data = vec![millis("took_ms", took)];
            self.event_of(at, EventKind::Admitted, severity, message, data, out);
        }
        match role {
            RunRole::Successor => self.swap(now, at, out),
            RunRole::Present => self.finish_replacement(now, at, out),
            RunRole::Leaving | RunRole::Quarantined { .. } => {}
        }
    }

    /// The run that came after the one that was replaced serves.
    fn finish_replacement(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(&at.id) else { return };
        let done = instance.care.replacement.take_if(|replacement| {
            replacement.run != at.run && matches!(replacement.step, Step::Stop)
        });
        if let Some(replacement) = done {
            self.replaced(now, at, &replacement, out);
        }
    }

    pub(crate) fn connections(
        &mut self,
        now: Now,
        at: &At,
        open: Option<u32>,
        out: &mut Vec<Output>,
    ) {
        let Some(instance) = self.instances.get_mut(&at.id) else { return };
        if let Some(replacement) = &mut instance.care.replacement
            && replacement.run == at.run
            && let Step::Drain(drain) = &mut replacement.step
        {
            drain.counted(now, open);
            return self.care_due(now, &at.id, out);
        }
        let Some(run) = instance.run_at_mut(at.run) else { return };
        if let (Role::Leaving(drain), Stage::Running) = (&mut run.role, &run.stage) {
            drain.counted(now, open);
            self.drain_due(now, at, out);
        }
    }

    /// An old run that is out of rotation: are its connections over, or its time?
    pub(crate) fn drain_due(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let Some(run) = self.run_mut(at) else { return };
        let (Role::Leaving(drain), Stage::Running) = (&mut run.role, &run.stage) else { return };
        if let Some(shared) = drain.shared {
            if shared <= now {
                drain.shared = None;
                let drain = *drain;
                self.announce(&at.id.service);
                self.leave_rotation(now, at, drain, out);
            }
            return;
        }
        if drain.is_over(now) {
            if run.cannot_run {
                run.end = Some(End::Stop);
                run.down_since = Some(now);
                return self.kill(now, at, out);
            }
            return self.enter_stop(now, at, End::Stop, out);
        }
        if drain.again.is_some_and(|again| again <= now) {
            drain.again = None;
            let (instance, run) = (at.id.clone(), at.run);
            out.push(Output::CountConnections { instance, run });
        }
    }

    /// A sick run is frozen and kept; what was kept too long or is too much goes (H15).
    pub(crate) fn quarantine(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(&at.id) else { return };
        let Some(policy) = instance.spec.tolerance.quarantine else { return };
        let Some(run) = instance.run_at_mut(at.run) else { return };
        run.role = Role::Quarantined { until: now + policy.keep };
        run.watchdog_due = None;
        let kept = instance.others.iter().filter(|run| {
            matches!(run.role, Role::Quarantined { .. }) && matches!(run.stage, Stage::Running)
        });
        let kept: Vec<At> = kept.map(|run| At { id: at.id.clone(), run: run.id }).collect();
        let too_many = kept.len().saturating_sub(usize::from(policy.max.max(1)));
        self.persist_at(at, out);
        let (instance, run) = (at.id.clone(), at.run);
        out.push(Output::Freeze { instance, run });
        let message = format!(
            "the sick run of {} is kept for inspection, frozen, for {}",
            at.id,
            short(policy.keep)
        );
        let data = vec![("run", Value::Number(i64::try_from(at.run.0).unwrap_or(i64::MAX)))];
        self.event_of(at, EventKind::Quarantined, Severity::Warning, message, data, out);
        for old in kept.iter().take(too_many) {
            self.end_quarantine(now, old, out);
        }
    }

    pub(crate) fn frozen(
        &mut self,
        now: Now,
        at: &At,
        result: Result<(), String>,
        out: &mut Vec<Output>,
    ) {
        let Err(why) = result else { return };
        let message = format!("the sick run of {} cannot be frozen and is stopped: {why}", at.id);
        let kind = EventKind::QuarantineEnded;
        self.event_of(at, kind, Severity::Warning, message, Vec::new(), out);
        self.end_quarantine(now, at, out);
    }

    /// It was kept long enough: it is killed, for it can't be asked.
    pub(crate) fn end_quarantine(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let Some(run) = self.run_mut(at) else { return };
        if !matches!((&run.role, &run.stage), (Role::Quarantined { .. }, Stage::Running)) {
            return;
        }
        run.role = Role::Leaving(Drain::over(now));
        run.end = Some(End::Stop);
        run.down_since = Some(now);
        self.kill(now, at, out);
    }

    /// Nothing is left of a run that was not the present one, or nothing came of it.
    pub(crate) fn other_ended(
        &mut self,
        now: Now,
        at: &At,
        failed: Option<&str>,
        out: &mut Vec<Output>,
    ) {
        let id = &at.id;
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(place) = instance.others.iter().position(|run| run.id == at.run) else { return };
        let run = instance.others.remove(place);
        out.push(Output::Release { instance: id.clone(), run: at.run });
        let awaited = instance
            .care
            .replacement
            .as_ref()
            .is_some_and(|replacement| replacement.step == Step::Successor(at.run));
        if awaited {
            let why = failed.unwrap_or("it ended before it was in rotation");
            self.successor_failed(now, id, why, out);
        } else {
            let message = format!("{} is gone", run.role.who(id));
            let kind = EventKind::Stopped;
            self.event_of(at, kind, Severity::Info, message, Vec::new(), out);
        }
        if let Some(instance) = self.instances.get_mut(id) {
            instance.stop_waits &= instance.is_alive();
        }
        self.concern_group(id);
        self.dirty.insert(id.clone());
        self.announce(&id.service);
    }

    /// The present run is gone while its successor is on its way: that one is the present one now.
    pub(crate) fn promote(&mut self, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let wanted = instance.wish == Wish::Up && !instance.removed && self.shutdown.is_none();
        let place =
            instance.others.iter().position(|run| run.role == Role::Successor && run.end.is_none());
        let Some(place) = place.filter(|_| wanted && instance.run.is_none()) else { return };
        let mut successor = instance.others.remove(place);
        successor.role = Role::Present;
        instance.care.replacement = None;
        instance.care.slot = successor.slot;
        instance.rest = crate::instance::Rest::Idle;
        instance.last_run = successor.id;
        instance.since = successor.spawned;
        instance.run = Some(successor);
        self.persist(id, out);
    }
}

//! The second half of a replacement: somebody else serves in the place of the run that goes.
//!
//! Beside it, where the configuration allows: a successor is started, warmed, and swapped in. After
//! it, where not: out of rotation, drained, stopped, started anew.
//! Invariant: the budget of restarts is charged when something is stopped, not before.

use crate::instance::{At, Drain, End, Role};
use crate::machine::{Supervisor, millis};
use crate::replace::{Cause, Replacement, Step};
use crate::start::short;
use crate::{EventKind, Output, ReplacePolicy, RunRole, Severity, Successor, Value};
use base::{InstanceId, Now};
use std::time::Duration;

/// Pause after a planned replacement that failed.
const RETRY_PAUSE: Duration = Duration::from_mins(1);

impl Supervisor {
    /// Its place is taken: by a successor beside it, or after it.
    pub(crate) fn take_over(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get(id) else { return };
        if instance.spec.tolerance.replace.successor == Successor::After {
            return self.drain_present(now, id, out);
        }
        let Some(slot) = instance.other_slot() else {
            // A frozen run holds the ports that the successor needs.
            let frozen = instance.others.iter().find(|run| run.role.told() != RunRole::Present);
            if let Some(run) = frozen.map(|run| run.id) {
                self.end_quarantine(now, &At { id: id.clone(), run }, out);
            }
            return self.drain_present(now, id, out);
        };
        self.spawn(now, id, slot, Role::Successor, out);
        let successor = self.instances.get(id).and_then(|it| it.others.last()).map(|run| run.id);
        if let Some(run) = successor {
            self.step_to(id, Step::Successor(run));
        }
    }

    pub(crate) fn step_to(&mut self, id: &InstanceId, step: Step) {
        let instance = self.instances.get_mut(id);
        if let Some(replacement) = instance.and_then(|it| it.care.replacement.as_mut()) {
            replacement.step = step;
        }
    }

    /// Without overlap: out of rotation, until its connections have ended.
    fn drain_present(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(replacement) = &mut instance.care.replacement else { return };
        let at = At { id: id.clone(), run: replacement.run };
        let hopeless = replacement.cause.is_hopeless();
        let drain = drain_of(now, &instance.spec.tolerance.replace, hopeless);
        replacement.step = Step::Drain(drain);
        self.say_draining(now, &at, &drain, out);
        if !drain.empty {
            let (instance, run) = (at.id, at.run);
            out.push(Output::CountConnections { instance, run });
        } else if drain.is_over(now) {
            self.stop_present(now, id, out);
        }
    }

    pub(crate) fn say_draining(&self, now: Now, at: &At, drain: &Drain, out: &mut Vec<Output>) {
        let longest = drain.until.since(now);
        if longest.is_zero() {
            return;
        }
        let message =
            format!("{} is out of rotation, its connections have {} to end", at.id, short(longest));
        let data = vec![millis("at_most_ms", longest)];
        self.event_of(at, EventKind::Draining, Severity::Info, message, data, out);
    }

    /// Drained: stopped, or frozen and kept; the successor comes next.
    pub(crate) fn stop_present(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(replacement) = &mut instance.care.replacement else { return };
        let (cause, at) = (replacement.cause.clone(), At { id: id.clone(), run: replacement.run });
        replacement.step = Step::Stop;
        self.charge(now, id, &cause);
        let Some(instance) = self.instances.get_mut(id) else { return };
        let kept = instance.spec.tolerance.quarantine.is_some() && !cause.planned;
        if kept && let Some(old) = instance.run.take() {
            let (slot, bundle) = (old.slot, old.evidence.bundle());
            instance.others.push(old);
            instance.care.run_ended(slot, bundle);
            instance.care.slot = instance.other_slot().unwrap_or(slot);
            instance.since = now;
            self.quarantine(now, &at, out);
            self.dirty.insert(id.clone());
            self.announce(&id.service);
            return;
        }
        if cause.cannot_run {
            if let Some(run) = instance.run_at_mut(at.run) {
                run.end = Some(End::Replaced);
                run.down_since = Some(now);
            }
            self.announce(&id.service);
            return self.kill(now, &at, out);
        }
        self.enter_stop(now, &at, End::Replaced, out);
    }

    /// A replacement that is not planned counts against the budget (H26).
    fn charge(&mut self, now: Now, id: &InstanceId, cause: &Cause) {
        let Some(instance) = self.instances.get_mut(id).filter(|_| !cause.planned) else { return };
        instance.recent.push_back(now);
        instance.restarts += 1;
    }

    /// The successor beside the present run is warm: it takes its place.
    pub(crate) fn swap(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let id = &at.id;
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(replacement) = instance.care.replacement.take() else { return };
        let place = instance.others.iter().position(|run| run.id == at.run);
        let Some(place) = place else { return };
        let mut successor = instance.others.remove(place);
        successor.role = Role::Present;
        instance.since = successor.ready_since.unwrap_or(now);
        instance.last_run = successor.id;
        let policy = instance.spec.tolerance.clone();
        let slot = successor.slot;
        let old = instance.run.replace(successor);
        let bundle = old.as_ref().and_then(|old| old.evidence.bundle());
        instance.care.run_ended(slot, bundle);
        let Some(mut old) = old else { return };
        let old_at = At { id: id.clone(), run: old.id };
        let drain = drain_beside(now, &policy.replace, &replacement.cause);
        old.role = Role::Leaving(drain);
        old.cannot_run = replacement.cause.cannot_run;
        instance.others.push(old);
        self.charge(now, id, &replacement.cause);
        self.persist_at(at, out);
        self.replaced(now, at, &replacement, out);
        if policy.quarantine.is_some() && !replacement.cause.planned {
            self.quarantine(now, &old_at, out);
        } else {
            self.persist_at(&old_at, out);
            if drain.shared.is_none() {
                self.leave_rotation(now, &old_at, drain, out);
            }
        }
        self.announce(&id.service);
    }

    /// An old run gets no more work: its connections are to end.
    pub(crate) fn leave_rotation(
        &mut self,
        now: Now,
        at: &At,
        drain: Drain,
        out: &mut Vec<Output>,
    ) {
        self.say_draining(now, at, &drain, out);
        if drain.empty {
            return self.drain_due(now, at, out);
        }
        let (instance, run) = (at.id.clone(), at.run);
        out.push(Output::CountConnections { instance, run });
    }

    /// A new run serves in the place of the one that was replaced.
    pub(crate) fn replaced(
        &mut self,
        now: Now,
        at: &At,
        replacement: &Replacement,
        out: &mut Vec<Output>,
    ) {
        let cause = &replacement.cause;
        let (id, took) = (&at.id, now.since(replacement.since));
        let severity = if cause.planned { Severity::Info } else { Severity::Warning };
        let message = format!(
            "{id} was replaced within {}, it had been up for {}: {}",
            short(took),
            short(replacement.uptime),
            cause.message
        );
        let mut data = vec![
            ("detector", Value::Text(cause.detector.clone())),
            ("kind", Value::Text(cause.kind.to_owned())),
            ("cause", Value::Text(cause.message.clone())),
            ("planned", Value::Flag(cause.planned)),
            millis("took_ms", took),
            millis("uptime_ms", replacement.uptime),
        ];
        data.extend(replacement.evidence.clone().map(|name| ("evidence", Value::Text(name))));
        self.event_of(at, EventKind::Replaced, severity, message, data, out);
        self.concern_group(id);
    }

    /// Those that wait for their turn may have it now.
    pub(crate) fn concern_group(&mut self, id: &InstanceId) {
        self.concerned.extend(self.ids_of(&id.service));
    }

    /// A successor could not take over: the old one is kept if it is well, else stopped first.
    pub(crate) fn successor_failed(
        &mut self,
        now: Now,
        id: &InstanceId,
        why: &str,
        out: &mut Vec<Output>,
    ) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(replacement) = &instance.care.replacement else { return };
        let planned = replacement.cause.planned;
        let what = if planned { "the old one goes on" } else { "the old one is stopped first" };
        let message = format!("the successor of {id} did not come up, {what}: {why}");
        let severity = if planned { Severity::Error } else { Severity::Warning };
        let data = vec![("planned", Value::Flag(planned))];
        if planned {
            instance.care.replacement = None;
            instance.care.not_before = Some(now + RETRY_PAUSE);
            self.concern_group(id);
        }
        self.event(id, EventKind::ReplacementFailed, severity, message, data, out);
        if !planned {
            self.drain_present(now, id, out);
        }
    }
}

/// What was not taken out of rotation before stays in it until balancers have seen its successor.
fn drain_beside(now: Now, policy: &ReplacePolicy, cause: &Cause) -> Drain {
    let shared = (cause.planned && !policy.settle.is_zero()).then(|| now + policy.settle);
    Drain { shared, ..drain_of(shared.unwrap_or(now), policy, cause.is_hopeless()) }
}

/// How long connections have to end. They are counted unless they are not waited for.
fn drain_of(now: Now, policy: &ReplacePolicy, hopeless: bool) -> Drain {
    let counts = !hopeless && !policy.drain.is_zero();
    let longest = if counts { policy.drain.max(policy.settle) } else { policy.settle };
    let (settled, until) = (now + policy.settle, now + longest);
    Drain { shared: None, settled, until, again: None, empty: !counts }
}

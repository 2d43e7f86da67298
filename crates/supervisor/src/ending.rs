//! After the end of a run: restart, give up, be done, or stay down.

use crate::instance::{At, End, Instance, Rest, Run};
use crate::machine::{Supervisor, millis};
use crate::start::short;
use crate::{EventKind, Exit, Kind, Output, RestartWhen, Severity, Value, Wish};
use base::{InstanceId, Now, format_duration};
use std::sync::Arc;
use std::time::Duration;

impl Supervisor {
    /// Nothing of the run is left.
    pub(crate) fn ended(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        if !self.is_present(at) {
            return self.other_ended(now, at, None, out);
        }
        let id = &at.id;
        let Some(run) = self.instances.get_mut(id).and_then(|instance| instance.run.take()) else {
            return;
        };
        out.push(Output::Release { instance: id.clone(), run: run.id });
        let down = self.is_to_be_down(id);
        if let Some(instance) = self.instances.get_mut(id) {
            instance.since = now;
            instance.rest = Rest::Idle;
            instance.keep_waiting(down);
            instance.status_text.clear();
            instance.care.run_ended(run.slot, run.evidence.bundle());
        }
        self.decide(now, id, &run, out);
        self.persist(id, out);
        self.promote(id, out);
        self.dirty.insert(id.clone());
        self.announce(&id.service);
    }

    /// Whether nothing of it is wanted: by its wish, by the configuration, or because the daemon ends.
    pub(crate) fn is_to_be_down(&self, id: &InstanceId) -> bool {
        let is_wanted = |it: &Instance| it.wish == Wish::Up && !it.removed;
        self.shutdown.is_some() || !self.instances.get(id).is_some_and(|it| is_wanted(it))
    }

    fn decide(&mut self, now: Now, id: &InstanceId, run: &Run, out: &mut Vec<Output>) {
        let down = self.is_to_be_down(id);
        let Some(instance) = self.instances.get_mut(id) else { return };
        if down {
            if matches!(instance.wish, Wish::Failed(_) | Wish::Finished) {
                return;
            }
            let message = format!("{id} is stopped");
            self.event(id, EventKind::Stopped, Severity::Info, message, Vec::new(), out);
            return;
        }
        let exit = instance.last_exit.unwrap_or(Exit::Unknown);
        let end = run.end.unwrap_or(End::Own);
        if matches!(end, End::Replace | End::Replaced) {
            instance.last_end.clear();
            return;
        }
        let good = end == End::Own && self.is_success(id, exit);
        // Getting rid of what it has left is no time of health.
        let down = run.down_since.unwrap_or(now);
        let healthy = run
            .ready_since
            .is_some_and(|since| run.spec.restart.healthy_after <= down.since(since));
        if healthy && let Some(instance) = self.instances.get_mut(id) {
            instance.row = 0;
        }
        let Some(instance) = self.instances.get(id) else { return };
        let finishes = match instance.spec.restart.when {
            RestartWhen::Always => good && instance.spec.kind == Kind::Oneshot,
            RestartWhen::OnFailure | RestartWhen::Never => good,
        };
        if finishes {
            return self.finish(id, out);
        }
        if instance.spec.restart.when == RestartWhen::Never {
            let reason = format!("{}, and restart = \"never\"", instance.last_end);
            let kind = match run.ready_since {
                Some(_) => EventKind::Failed,
                None => EventKind::StartFailed,
            };
            return self.fail(id, kind, &reason, out);
        }
        // A one-shot does its work while it starts; that is time like any other.
        let is_start = run.spec.kind != Kind::Oneshot || end == End::StartTimeout;
        if run.ready_since.is_none() && is_start {
            self.uncount(now, id, now.since(run.spawned));
        }
        self.schedule(now, id, out);
    }

    /// A start that failed spends no time of the budget's window, else a service that hangs in
    /// each of its starts would be restarted for ever, with nobody called (H26).
    fn uncount(&mut self, now: Now, id: &InstanceId, spent: Duration) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        for at in &mut instance.recent {
            // A successor may have begun before the last of these.
            *at = *at + spent.min(now.since(*at));
        }
    }

    fn finish(&mut self, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.wish = Wish::Finished;
        instance.wish_reason = format!("it has done its work: {}", instance.last_end);
        let message = format!("{id} has done its work");
        self.event(id, EventKind::Finished, Severity::Info, message, Vec::new(), out);
    }

    fn fail(&mut self, id: &InstanceId, kind: EventKind, reason: &str, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.wish = Wish::Failed(reason.to_owned());
        instance.rest = Rest::Idle;
        let message = format!("{id} is given up: {reason}");
        self.event(id, kind, Severity::Error, message, Vec::new(), out);
    }

    /// The next try, now or later, or none any more.
    fn schedule(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let policy = Arc::clone(&instance.spec);
        let policy = &policy.restart;
        while instance.recent.front().is_some_and(|at| policy.budget_window <= now.since(*at)) {
            instance.recent.pop_front();
        }
        if policy.budget as usize <= instance.recent.len() {
            let reason = format!(
                "{} restarts within {} did not help; last, {}",
                instance.recent.len(),
                format_duration(policy.budget_window),
                instance.last_end
            );
            return self.fail(id, EventKind::BudgetSpent, &reason, out);
        }
        instance.recent.push_back(now);
        instance.restarts += 1;
        instance.row = instance.row.saturating_add(1);
        let pause = policy.backoff.pause(instance.row - 1, &mut self.rng);
        let (number, restarts) = (instance.recent.len(), instance.restarts);
        let instance_evidence = instance.care.last_evidence.take();
        if !pause.is_zero() {
            instance.rest = Rest::Backoff(now + pause);
        }
        let when = if pause.is_zero() { "now".to_owned() } else { format!("in {}", short(pause)) };
        // Our own helpers are never given up: a number without end says nothing.
        let most = match policy.budget {
            u32::MAX => String::new(),
            budget => format!(" of at most {budget}"),
        };
        let message = format!(
            "{id} restarts {when} (restart {number}{most} within {}): {}",
            format_duration(policy.budget_window),
            instance.last_end
        );
        let count = i64::try_from(restarts).unwrap_or(i64::MAX);
        let mut data = vec![millis("delay_ms", pause), ("restarts", Value::Number(count))];
        data.extend(instance_evidence.map(|name| ("evidence", Value::Text(name))));
        self.event(id, EventKind::RestartScheduled, Severity::Warning, message, data, out);
    }

    /// Nothing was executed, or nothing of it is left.
    pub(crate) fn spawn_failed(
        &mut self,
        now: Now,
        at: &At,
        reason: &str,
        permanent: bool,
        out: &mut Vec<Output>,
    ) {
        let id = &at.id;
        if !self.is_present(at) {
            return self.other_ended(now, at, Some(reason), out);
        }
        let down = self.is_to_be_down(id);
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(mut run) = instance.run.take() else { return };
        instance.care.run_ended(run.slot, None);
        reason.clone_into(&mut instance.last_end);
        instance.since = now;
        instance.rest = Rest::Idle;
        instance.keep_waiting(down);
        // To be started anew: what failed is not what is wanted now.
        let anew = matches!(run.end, Some(End::Replace | End::Replaced));
        if !anew {
            run.end = Some(End::StartTimeout);
        }
        out.push(Output::Release { instance: id.clone(), run: run.id });
        if permanent && !down && !anew {
            self.fail(id, EventKind::StartFailed, reason, out);
        } else {
            let message = format!("{id} could not be started: {reason}");
            self.event_of(at, EventKind::StartFailed, Severity::Warning, message, Vec::new(), out);
            self.decide(now, id, &run, out);
        }
        self.persist(id, out);
        self.dirty.insert(id.clone());
        self.announce(&id.service);
    }

    pub(crate) fn is_success(&self, id: &InstanceId, exit: Exit) -> bool {
        let Some(instance) = self.instances.get(id) else { return false };
        let policy = &instance.spec.restart;
        match exit {
            Exit::Code(code) => code == 0 || policy.success_codes.contains(&code),
            Exit::Signal(signal) => policy.success_signals.contains(&signal),
            Exit::Unknown => false,
        }
    }
}

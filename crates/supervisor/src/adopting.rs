//! What an earlier daemon left: alive runs go on, each in the role that it had.
//!
//! Invariant: nothing is restarted because holdfast died. What was on its way out goes on its way,
//! what was kept is kept; a successor that had not taken over goes.

use crate::instance::{At, Cleaning, Drain, End, Role, Run, Stage, StartWait};
use crate::machine::{Supervisor, pid_value};
use crate::start::wait_of;
use crate::{
    Adopted, EventKind, Exit, Kind, Output, RunRecord, RunRole, ServiceSpec, Severity, Wish,
};
use base::Now;
use std::sync::Arc;

impl Supervisor {
    /// What an earlier daemon left of an instance.
    pub(crate) fn adopt(&mut self, now: Now, adopted: Adopted, out: &mut Vec<Output>) {
        // Of two that were present, the youngest was told first: the other was about to leave.
        let known = self.instances.get(&adopted.instance);
        let second = known.is_some_and(|instance| instance.run.is_some() && !self.begun);
        if adopted.record.role != RunRole::Present || second {
            return self.adopt_other(now, adopted, out);
        }
        let Adopted { instance: id, record, alive, age, outdated } = adopted;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.run.is_some() || self.begun {
            return;
        }
        instance.care.slot = record.slot;
        instance.restarts = record.restarts;
        instance.last_run = record.run;
        instance.wish.clone_from(&record.wish);
        instance.by_default = false;
        instance.wish_reason = reason_of(&instance.wish).into();
        let since = now - age;
        let spec = Arc::clone(&instance.spec);
        // Executed, and not seen any further: its real process may still be to come.
        let forks = matches!(spec.kind, Kind::Forking { .. }) && record.main.is_none();
        let stage = match alive {
            Some(_) => stage_of(now, &record, &spec),
            None => Stage::Cleaning(Cleaning::new(now)),
        };
        let end = match (alive, record.main) {
            (Some(_), _) => None,
            (None, Some(_)) => Some(End::Own),
            // Nothing of it was running: what it waited for is no fault of its own.
            (None, None) => Some(End::Replace),
        };
        let ready_since = (alive.is_some() && record.ready).then_some(since);
        instance.since = since;
        instance.run = Some(Run {
            first: alive.filter(|_| forks),
            main: alive.filter(|_| !forks),
            ready_since,
            stage,
            end,
            slot: record.slot,
            adopted: true,
            watchdog_due: ready_since.and(spec.watchdog).map(|period| now + period),
            ..Run::new(record.run, Arc::clone(&spec), since)
        });
        match alive {
            Some(pid) => {
                let message = format!("{id} goes on under a new holdfast (pid {})", pid.0);
                out.push(Output::Attach { instance: id.clone(), run: record.run, pid, spec });
                let (kind, data) = (EventKind::Adopted, vec![pid_value(pid)]);
                self.event(&id, kind, Severity::Info, message, data, out);
                let wanted = self.instances.get(&id).is_some_and(|i| i.wish == Wish::Up);
                if !wanted {
                    // It was on its way down when the other daemon died.
                    if let Some(instance) = self.instances.get_mut(&id) {
                        instance.stop_waits = true;
                    }
                } else if outdated {
                    self.ask_replacement(&id);
                    // All that is alive must be known before anything is stopped in order.
                    self.dirty.remove(&id);
                }
                let at = At { id: id.clone(), run: record.run };
                self.go_on_starting(now, &at, out);
            }
            None => {
                if let Some(instance) = self.instances.get_mut(&id)
                    && end == Some(End::Own)
                {
                    instance.last_exit = Some(Exit::Unknown);
                    instance.last_end = "it ended while no holdfast was there to see".into();
                }
                out.push(Output::InspectTree { instance: id.clone(), run: record.run });
            }
        }
        self.touch(&id);
    }

    /// A run of an earlier daemon that was not the present one: what was on its way out goes on
    /// its way, what was kept is kept. A successor had not taken over, and goes.
    fn adopt_other(&mut self, now: Now, adopted: Adopted, out: &mut Vec<Output>) {
        let Adopted { instance: id, record, alive, age, .. } = adopted;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if self.begun {
            return;
        }
        let spec = Arc::clone(&instance.spec);
        let mut run = Run::new(record.run, Arc::clone(&spec), now - age);
        run.adopted = true;
        run.slot = record.slot;
        run.main = alive;
        run.ready_since = Some(now - age);
        run.role = match record.role {
            RunRole::Quarantined { until } if alive.is_some() => Role::Quarantined { until },
            RunRole::Present
            | RunRole::Successor
            | RunRole::Leaving
            | RunRole::Quarantined { .. } => Role::Leaving(Drain::over(now)),
        };
        run.stage = match alive {
            Some(_) => Stage::Running,
            None => Stage::Cleaning(Cleaning::new(now)),
        };
        run.watchdog = None;
        instance.others.push(run);
        let instance = id.clone();
        match alive {
            Some(pid) => {
                out.push(Output::Attach { instance, run: record.run, pid, spec });
                let at = At { id: id.clone(), run: record.run };
                let what = match record.role {
                    RunRole::Quarantined { .. } => "a sick run of it is kept",
                    RunRole::Successor => "a successor that had not taken over is stopped",
                    RunRole::Present | RunRole::Leaving => "an old run of it is stopped",
                };
                let message = format!("{id} goes on, and {what} (pid {})", pid.0);
                let (kind, data) = (EventKind::Adopted, vec![pid_value(pid)]);
                self.event_of(&at, kind, Severity::Info, message, data, out);
            }
            None => out.push(Output::InspectTree { instance, run: record.run }),
        }
        self.touch(&id);
    }
}

/// Why an adopted instance is wished to be as it is.
fn reason_of(wish: &Wish) -> &'static str {
    match wish {
        Wish::Up | Wish::Failed(_) => "",
        Wish::Down => "it was stopped before holdfast was started again",
        Wish::Finished => "it had done its work before holdfast was started again",
    }
}

/// Where an adopted run that is alive goes on.
fn stage_of(now: Now, record: &RunRecord, spec: &ServiceSpec) -> Stage {
    let deadline = now + spec.start_timeout;
    let forks = matches!(spec.kind, Kind::Forking { .. }) && record.main.is_none();
    match (record.ready, forks) {
        (true, _) => Stage::Running,
        (false, true) => Stage::Starting { deadline, wait: StartWait::Fork },
        (false, false) => Stage::Starting { deadline, wait: wait_of(now, spec) },
    }
}

//! The machine: takes one input, settles everything that follows from it, and says what to do.
//!
//! Each input touches the instance it is about; instances that depend on a change are put into
//! `dirty` and considered before `handle` returns, so that the cost of an input does not grow with
//! the number of instances that have nothing to do with it.

use crate::instance::{At, End, Instance, Rest, Role, Run, Stage};
use crate::{
    Action, Event, EventKind, Input, InstanceSnapshot, Output, Pid, RunRecord, RunRole,
    ServiceSpec, Severity, ShutdownMode, Value, Wish,
};
use base::{InstanceId, Now, Rng, RunId, ServiceName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The supervision core. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Supervisor {
    pub(crate) specs: BTreeMap<ServiceName, Arc<ServiceSpec>>,
    /// Boxed: the nodes of a map are half empty as a rule, and an instance is large.
    pub(crate) instances: BTreeMap<InstanceId, Box<Instance>>,
    /// Who names a service in `after`, `requires` or `wants`.
    pub(crate) dependants: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    /// The same, seen from the other side.
    pub(crate) needs: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    pub(crate) wakes: BTreeSet<(Now, InstanceId)>,
    pub(crate) dirty: BTreeSet<InstanceId>,
    /// Whose health, or what may be done about it, may have changed.
    pub(crate) concerned: BTreeSet<InstanceId>,
    /// Services that others depend on.
    pub(crate) depended: BTreeSet<ServiceName>,
    /// Why the host starves, if it does.
    pub(crate) pressure: Option<String>,
    pub(crate) rng: Rng,
    next_run: u64,
    pub(crate) begun: bool,
    pub(crate) shutdown: Option<ShutdownMode>,
    told_complete: bool,
}

impl Supervisor {
    /// An empty one. Run numbers ascend from `first_run` and are never used again.
    pub fn new(seed: u64, first_run: RunId) -> Self {
        Self {
            specs: BTreeMap::new(),
            instances: BTreeMap::new(),
            dependants: BTreeMap::new(),
            needs: BTreeMap::new(),
            wakes: BTreeSet::new(),
            dirty: BTreeSet::new(),
            concerned: BTreeSet::new(),
            depended: BTreeSet::new(),
            pressure: None,
            rng: Rng::new(seed),
            next_run: first_run.0,
            begun: false,
            shutdown: None,
            told_complete: false,
        }
    }

    /// Takes one input and appends all that is to be done about it.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Configure(specs) => self.configure(now, specs, out),
            Input::Adopt(adopted) => self.adopt(now, adopted, out),
            Input::Begin => {
                self.begun = true;
                self.pull_needed(now, out);
                self.dirty.extend(self.instances.keys().cloned());
            }
            Input::Command { targets, action, by } => {
                self.command(now, &targets, action, &by, out);
            }
            Input::Depends { instance, name, state, message } => {
                self.depends(&instance, name, state, message, out);
            }
            Input::Pressure(reason) => self.host_pressure(reason),
            Input::ModeSet { instance, mode, by } => self.mode_was_set(&instance, mode, by),
            Input::Tick => self.tick(now, out),
            Input::Shutdown(mode) => self.begin_shutdown(now, mode, out),
            about_a_run => self.about_a_run(now, about_a_run, out),
        }
        self.settle(now, out);
    }

    /// When [`Input::Tick`] is due.
    pub fn next_wake(&self) -> Option<Now> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// All instances, by name.
    pub fn snapshot(&self) -> Vec<InstanceSnapshot> {
        self.instances.keys().filter_map(|id| self.why(id)).collect()
    }

    fn about_a_run(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        let (id, run) = match &input {
            Input::Spawned { instance, run, .. }
            | Input::SpawnFailed { instance, run, .. }
            | Input::Exited { instance, run, .. }
            | Input::MainFound { instance, run, .. }
            | Input::Tree { instance, run, .. }
            | Input::Notify { instance, run, .. }
            | Input::Probed { instance, run, .. }
            | Input::CommandEnded { instance, run, .. }
            | Input::Gathered { instance, run, .. }
            | Input::Connections { instance, run, .. }
            | Input::Frozen { instance, run, .. }
            | Input::Verdict { instance, run, .. } => (instance.clone(), *run),
            Input::Configure(_)
            | Input::Adopt(_)
            | Input::Begin
            | Input::Command { .. }
            | Input::Depends { .. }
            | Input::Pressure(_)
            | Input::ModeSet { .. }
            | Input::Tick
            | Input::Shutdown(_) => return,
        };
        let at = At { id, run };
        // A late answer about an earlier life (B2).
        if self.run_at(&at).is_none() {
            return;
        }
        match input {
            Input::Spawned { pid, .. } => self.spawned(now, &at, pid, out),
            Input::SpawnFailed { reason, permanent, .. } => {
                self.spawn_failed(now, &at, &reason, permanent, out);
            }
            Input::Exited { pid, exit, .. } => self.exited(now, &at, pid, exit, out),
            Input::MainFound { main, .. } => self.main_found(now, &at, main, out),
            Input::Tree { alive, unkillable, .. } => self.tree(now, &at, &alive, &unkillable, out),
            Input::Notify { message, .. } => self.notified(now, &at, message, out),
            Input::Probed { answer, .. } => self.probed(now, &at, &answer, out),
            Input::CommandEnded { result, .. } => self.command_ended(now, &at, result, out),
            Input::Gathered { result, .. } => self.gathered(now, &at, result, out),
            Input::Connections { open, .. } => self.connections(now, &at, open, out),
            Input::Frozen { result, .. } => self.frozen(now, &at, result, out),
            Input::Verdict { verdict, .. } => self.verdict(now, &at, verdict, out),
            Input::Configure(_)
            | Input::Adopt(_)
            | Input::Begin
            | Input::Command { .. }
            | Input::Depends { .. }
            | Input::Pressure(_)
            | Input::ModeSet { .. }
            | Input::Tick
            | Input::Shutdown(_) => {}
        }
        self.touch(&at.id);
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some((at, id)) = self.wakes.first().cloned() {
            if now < at {
                return;
            }
            self.wakes.remove(&(at, id.clone()));
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.wake = None;
            }
            self.due(now, &id, out);
            self.touch(&id);
        }
    }

    fn due(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if let (None, Rest::Backoff(until)) = (&instance.run, &instance.rest)
            && *until <= now
        {
            instance.rest = Rest::Idle;
            self.dirty.insert(id.clone());
        }
        let runs = instance.run.iter().chain(&instance.others);
        let due = runs.filter(|run| run.due().is_some_and(|due| due <= now));
        let due: Vec<At> = due.map(|run| At { id: id.clone(), run: run.id }).collect();
        for at in due {
            self.run_due(now, &at, out);
        }
        self.care_due(now, id, out);
    }

    fn run_due(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let Some(run) = self.run_at(at) else { return };
        match (&run.stage, &run.role) {
            (Stage::Spawning, _) => {}
            (Stage::Starting { .. }, _) => self.start_due(now, at, out),
            (Stage::Running, Role::Quarantined { .. }) => self.end_quarantine(now, at, out),
            (Stage::Running, _) => {
                self.running_due(now, at, out);
                self.admit_due(now, at, out);
                self.drain_due(now, at, out);
            }
            (Stage::Stopping { .. }, _) => self.stop_due(now, at, out),
            (Stage::Cleaning(_), _) => self.cleaning_due(now, at, out),
        }
    }

    /// Does everything that follows, until nothing follows any more.
    fn settle(&mut self, now: Now, out: &mut Vec<Output>) {
        loop {
            if let Some(id) = self.dirty.pop_first() {
                self.consider(now, &id, out);
                self.touch(&id);
            } else if let Some(id) = self.concerned.pop_first() {
                self.consider_health(now, &id, out);
                self.rewake(&id);
            } else {
                break;
            }
        }
        let down = self.shutdown == Some(ShutdownMode::StopServices)
            && !self.instances.values().any(|instance| instance.is_alive());
        if down && !self.told_complete {
            for instance in self.instances.keys() {
                out.push(Output::Forget { instance: instance.clone() });
            }
            self.told_complete = true;
            out.push(Output::ShutdownComplete);
        }
    }

    fn begin_shutdown(&mut self, now: Now, mode: ShutdownMode, out: &mut Vec<Output>) {
        if self.shutdown.is_some() {
            return;
        }
        self.shutdown = Some(mode);
        if mode == ShutdownMode::KeepServices {
            let all: Vec<InstanceId> = self.instances.keys().cloned().collect();
            for id in all {
                self.persist_all(&id, out);
            }
            self.told_complete = true;
            out.push(Output::ShutdownComplete);
            return;
        }
        for instance in self.instances.values_mut() {
            instance.stop_waits = instance.is_alive();
            if let Some(run) = &mut instance.run {
                // It is not started anew any more, and what is kept beside it goes with it.
                run.end = run.end.map(|end| if end == End::Replace { End::Stop } else { end });
            }
            if instance.run.is_none() && instance.wish == Wish::Up {
                instance.rest = Rest::Idle;
                instance.since = now;
            }
        }
        self.dirty.extend(self.instances.keys().cloned());
    }

    fn command(
        &mut self,
        now: Now,
        targets: &[InstanceId],
        action: Action,
        by: &str,
        out: &mut Vec<Output>,
    ) {
        for id in targets {
            if !self.instances.contains_key(id) {
                continue;
            }
            let verb = match action {
                Action::Start => "start".to_owned(),
                Action::Stop => "stop".to_owned(),
                Action::Restart => "restart".to_owned(),
                Action::Reload => "reload".to_owned(),
                Action::Reset => "reset".to_owned(),
                Action::Replace => "replace".to_owned(),
                Action::Mode(mode) => {
                    let mode = mode.map_or("what the configuration says", crate::Mode::as_str);
                    format!("set the mode to {mode} of")
                }
                Action::Signal(signal) => {
                    let name = crate::instance::signal_name(signal);
                    name.map_or(format!("signal {signal}"), |name| format!("send {name} to"))
                }
            };
            let message = format!("{by} asked to {verb} {id}");
            let data = vec![("by", Value::Text(by.to_owned())), ("action", Value::Text(verb))];
            self.event(id, EventKind::Command, Severity::Info, message, data, out);
            match action {
                Action::Start => self.want_up(now, id, out),
                Action::Stop => self.want_down(now, id, &format!("it was stopped by {by}"), out),
                Action::Restart => self.replace(now, id, out),
                Action::Reload => self.reload(id, out),
                Action::Reset => self.reset(now, id, out),
                Action::Replace => self.asked_to_replace(id, by, out),
                Action::Mode(mode) => self.set_mode(id, mode, by, out),
                Action::Signal(signal) => {
                    let run = self.run_of(id);
                    if let Some((run, pid)) = run.and_then(|run| Some((run.id, run.main?))) {
                        out.push(Output::Signal { instance: id.clone(), run, pid, signal });
                    } else {
                        let why = match run {
                            None => "it does not run",
                            Some(_) => "its main process is not known",
                        };
                        let text = format!("{id} cannot be sent a signal: {why}");
                        let kind = EventKind::Command;
                        self.event(id, kind, Severity::Warning, text, Vec::new(), out);
                    }
                }
            }
            self.touch(id);
        }
    }

    pub(crate) fn run_of(&self, id: &InstanceId) -> Option<&Run> {
        self.instances.get(id)?.run.as_ref()
    }

    pub(crate) fn run_at(&self, at: &At) -> Option<&Run> {
        self.instances.get(&at.id)?.run_at(at.run)
    }

    pub(crate) fn run_mut(&mut self, at: &At) -> Option<&mut Run> {
        self.instances.get_mut(&at.id)?.run_at_mut(at.run)
    }

    /// The present run, by its number.
    pub(crate) fn present(&self, id: &InstanceId) -> Option<At> {
        let run = self.run_of(id)?.id;
        Some(At { id: id.clone(), run })
    }

    /// Whether this is the present run of its instance.
    pub(crate) fn is_present(&self, at: &At) -> bool {
        self.instances.get(&at.id).is_some_and(|instance| instance.is_present(at.run))
    }

    pub(crate) fn take_run_number(&mut self) -> RunId {
        let run = RunId(self.next_run);
        self.next_run += 1;
        run
    }

    /// Something about an instance has changed: its health is looked at before `handle` returns.
    pub(crate) fn touch(&mut self, id: &InstanceId) {
        if self.instances.contains_key(id) {
            self.concerned.insert(id.clone());
            self.rewake(id);
        }
    }

    /// Brings the wake list up to date with an instance.
    fn rewake(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let due = instance.due();
        if instance.wake == due {
            return;
        }
        if let Some(old) = instance.wake {
            self.wakes.remove(&(old, id.clone()));
        }
        instance.wake = due;
        if let Some(due) = due {
            self.wakes.insert((due, id.clone()));
        }
    }

    /// Something about a service has changed that others may wait for.
    pub(crate) fn announce(&mut self, service: &ServiceName) {
        let mut interested: BTreeSet<ServiceName> =
            self.dependants.get(service).cloned().unwrap_or_default();
        // Those that wait with their own stop until we are down.
        interested.extend(self.needs.get(service).into_iter().flatten().cloned());
        for name in interested {
            self.dirty.extend(self.ids_of(&name));
        }
    }

    /// The instances of a service that exist, wanted or not.
    pub(crate) fn ids_of(&self, name: &ServiceName) -> Vec<InstanceId> {
        let first = InstanceId { service: name.clone(), index: None };
        self.instances
            .range(first..)
            .take_while(|(id, _)| id.service == *name)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// What must be remembered of the present run, or of the last one.
    pub(crate) fn persist(&self, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get(id) else { return };
        let record = record_of(instance, instance.run.as_ref());
        out.push(Output::Persist { instance: id.clone(), record });
    }

    /// What must be remembered of one run, present or not.
    pub(crate) fn persist_at(&self, at: &At, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get(&at.id) else { return };
        let Some(run) = instance.run_at(at.run) else { return };
        let record = record_of(instance, Some(run));
        out.push(Output::Persist { instance: at.id.clone(), record });
    }

    fn persist_all(&self, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get(id) else { return };
        for run in &instance.others {
            self.persist_at(&At { id: id.clone(), run: run.id }, out);
        }
        self.persist(id, out);
    }

    pub(crate) fn event(
        &self,
        id: &InstanceId,
        kind: EventKind,
        severity: Severity,
        message: String,
        data: Vec<(&'static str, Value)>,
        out: &mut Vec<Output>,
    ) {
        let run = self.run_of(id).map(|run| run.id);
        out.push(Output::Event(Event { instance: id.clone(), run, kind, severity, message, data }));
    }

    pub(crate) fn event_of(
        &self,
        at: &At,
        kind: EventKind,
        severity: Severity,
        message: String,
        data: Vec<(&'static str, Value)>,
        out: &mut Vec<Output>,
    ) {
        debug_assert!(self.instances.contains_key(&at.id));
        let (instance, run) = (at.id.clone(), Some(at.run));
        out.push(Output::Event(Event { instance, run, kind, severity, message, data }));
    }
}

fn record_of(instance: &Instance, run: Option<&Run>) -> RunRecord {
    RunRecord {
        run: run.map_or(instance.last_run, |run| run.id),
        main: run.and_then(|run| run.main),
        ready: run.is_some_and(|run| run.ready_since.is_some()),
        wish: instance.wish.clone(),
        restarts: instance.restarts,
        slot: run.map_or(instance.care.slot, |run| run.slot),
        role: run.map_or(RunRole::Present, |run| run.role.told()),
    }
}

/// A pid as an event's detail.
pub(crate) fn pid_value(pid: Pid) -> (&'static str, Value) {
    ("pid", Value::Number(pid.0.into()))
}

/// A duration as an event's detail.
pub(crate) fn millis(name: &'static str, time: std::time::Duration) -> (&'static str, Value) {
    (name, Value::Number(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
}

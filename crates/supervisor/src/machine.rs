//! The machine: takes one input, settles everything that follows from it, and says what to do.
//!
//! Each input touches the instance it is about; instances that depend on a change are put into
//! `dirty` and considered before `handle` returns, so that the cost of an input does not grow with
//! the number of instances that have nothing to do with it.

use crate::instance::{Instance, Rest, Run, Stage};
use crate::{
    Action, Event, EventKind, Input, InstanceSnapshot, Output, Pid, RunRecord, ServiceSpec,
    Severity, ShutdownMode, Value, Wish,
};
use base::{InstanceId, Now, Rng, RunId, ServiceName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The supervision core. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Supervisor {
    pub(crate) specs: BTreeMap<ServiceName, Arc<ServiceSpec>>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    /// Who names a service in `after`, `requires` or `wants`.
    pub(crate) dependants: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    /// The same, seen from the other side.
    pub(crate) needs: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    pub(crate) wakes: BTreeSet<(Now, InstanceId)>,
    pub(crate) dirty: BTreeSet<InstanceId>,
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
            | Input::CommandEnded { instance, run, .. } => (instance.clone(), *run),
            Input::Configure(_)
            | Input::Adopt(_)
            | Input::Begin
            | Input::Command { .. }
            | Input::Tick
            | Input::Shutdown(_) => return,
        };
        // A late answer about an earlier life (B2).
        if self.run_of(&id).is_none_or(|present| present.id != run) {
            return;
        }
        match input {
            Input::Spawned { pid, .. } => self.spawned(now, &id, pid, out),
            Input::SpawnFailed { reason, permanent, .. } => {
                self.spawn_failed(now, &id, &reason, permanent, out);
            }
            Input::Exited { pid, exit, .. } => self.exited(now, &id, pid, exit, out),
            Input::MainFound { main, .. } => self.main_found(now, &id, main, out),
            Input::Tree { alive, unkillable, .. } => self.tree(now, &id, &alive, &unkillable, out),
            Input::Notify { message, .. } => self.notified(now, &id, message, out),
            Input::Probed { answer, .. } => self.probed(now, &id, &answer, out),
            Input::CommandEnded { result, .. } => self.command_ended(now, &id, result, out),
            Input::Configure(_)
            | Input::Adopt(_)
            | Input::Begin
            | Input::Command { .. }
            | Input::Tick
            | Input::Shutdown(_) => {}
        }
        self.touch(&id);
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
        match (&instance.run, &instance.rest) {
            (None, Rest::Backoff(until)) if *until <= now => {
                instance.rest = Rest::Idle;
                self.dirty.insert(id.clone());
            }
            (None, _) => {}
            (Some(run), _) => match run.stage {
                Stage::Spawning => {}
                Stage::Starting { .. } => self.start_due(now, id, out),
                Stage::Running => self.running_due(now, id, out),
                Stage::Stopping { .. } => self.stop_due(now, id, out),
                Stage::Cleaning(_) => self.cleaning_due(now, id, out),
            },
        }
    }

    /// Does everything that follows, until nothing follows any more.
    fn settle(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some(id) = self.dirty.pop_first() {
            self.consider(now, &id, out);
            self.touch(&id);
        }
        let down = self.shutdown == Some(ShutdownMode::StopServices)
            && self.instances.values().all(|instance| instance.run.is_none());
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
                self.persist(&id, out);
            }
            self.told_complete = true;
            out.push(Output::ShutdownComplete);
            return;
        }
        for instance in self.instances.values_mut() {
            instance.stop_waits = instance.run.is_some();
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

    pub(crate) fn run_mut(&mut self, id: &InstanceId) -> Option<&mut Run> {
        self.instances.get_mut(id)?.run.as_mut()
    }

    pub(crate) fn take_run_number(&mut self) -> RunId {
        let run = RunId(self.next_run);
        self.next_run += 1;
        run
    }

    /// Brings the wake list up to date with an instance, and those that look at it.
    pub(crate) fn touch(&mut self, id: &InstanceId) {
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

    pub(crate) fn persist(&self, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get(id) else { return };
        let record = RunRecord {
            run: instance.run.as_ref().map_or(instance.last_run, |run| run.id),
            main: instance.run.as_ref().and_then(|run| run.main),
            ready: instance.run.as_ref().is_some_and(|run| run.ready_since.is_some()),
            wish: instance.wish.clone(),
            restarts: instance.restarts,
        };
        out.push(Output::Persist { instance: id.clone(), record });
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
}

/// A pid as an event's detail.
pub(crate) fn pid_value(pid: Pid) -> (&'static str, Value) {
    ("pid", Value::Number(pid.0.into()))
}

/// A duration as an event's detail.
pub(crate) fn millis(name: &'static str, time: std::time::Duration) -> (&'static str, Value) {
    (name, Value::Number(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
}

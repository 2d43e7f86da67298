//! A new configuration touches only what differs.

use crate::instance::{End, Instance, Run, Stage};
use crate::machine::Supervisor;
use crate::{EventKind, Output, ServiceSpec, Severity, Wish};
use base::{InstanceId, Now, ServiceName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Supervisor {
    pub(crate) fn configure(
        &mut self,
        now: Now,
        specs: BTreeMap<ServiceName, Arc<ServiceSpec>>,
        out: &mut Vec<Output>,
    ) {
        let old = std::mem::replace(&mut self.specs, specs);
        let wanted: BTreeSet<InstanceId> =
            self.specs.values().flat_map(|spec| spec.instance_ids().collect::<Vec<_>>()).collect();
        let gone: Vec<InstanceId> =
            self.instances.keys().filter(|id| !wanted.contains(*id)).cloned().collect();
        for id in &gone {
            if let Some(instance) = self.instances.get_mut(id) {
                instance.removed = true;
            }
        }
        self.index_dependants();
        for id in gone {
            self.remove(now, &id, out);
        }
        for id in wanted {
            let Some(spec) = self.specs.get(&id.service).cloned() else { continue };
            let same = old.get(&id.service).is_some_and(|old| *old == spec);
            match self.instances.get(&id) {
                None => {
                    let instance = Instance::new(id.clone(), spec, now);
                    self.instances.insert(id.clone(), Box::new(instance));
                    self.dirty.insert(id.clone());
                    if self.begun {
                        let message = format!("{id} is new in the configuration");
                        let kind = EventKind::Added;
                        self.event(&id, kind, Severity::Info, message, Vec::new(), out);
                    }
                }
                Some(present) if same && !present.removed => {}
                Some(_) => self.change(now, &id, spec, out),
            }
        }
        if self.begun {
            self.pull_needed(now, out);
        }
        // Whoever waits may wait for something else now.
        self.dirty.extend(self.instances.keys().cloned());
    }

    fn remove(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        if self.instances.get(id).is_some_and(|instance| instance.is_alive()) {
            // Nobody requires it any more: those that still do require the ones that stay.
            self.lower(now, id, "it is gone from the configuration", out);
        }
        self.dirty.insert(id.clone());
    }

    fn change(&mut self, now: Now, id: &InstanceId, spec: Arc<ServiceSpec>, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let old = std::mem::replace(&mut instance.spec, Arc::clone(&spec));
        let came_back = std::mem::take(&mut instance.removed);
        if came_back {
            instance.wish = if spec.autostart { Wish::Up } else { Wish::Down };
        }
        let alive = instance.run.is_some();
        let wanted = instance.wish == Wish::Up && self.shutdown.is_none();
        let other_process = instance.run.as_ref().is_some_and(|run| !run.spec.runs_like(&spec));
        if !other_process && let Some(run) = &mut instance.run {
            follow(now, run, &old, &spec);
        }
        let how = match (alive && wanted, other_process) {
            (true, true) => "it is restarted",
            (true, false) => "it goes on",
            (false, _) => "it takes effect at its next start",
        };
        if came_back && wanted {
            stay(instance);
        }
        let message = format!("the configuration of {id} has changed: {how}");
        self.event(id, EventKind::Changed, Severity::Info, message, Vec::new(), out);
        if old.tolerance != spec.tolerance || old.depends != spec.depends {
            self.tolerance_changed(id);
        }
        if old.log != spec.log {
            out.push(Output::Relog { instance: id.clone(), spec });
        }
        if came_back {
            self.persist(id, out);
        }
        if wanted && other_process {
            self.ask_replacement(id);
        }
        self.dirty.insert(id.clone());
    }

    /// Other detectors, other dependencies: what the old ones said is void.
    fn tolerance_changed(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let spec = &instance.spec;
        let known = |name: &String| {
            name == crate::care::WATCHDOG || spec.tolerance.detectors.contains_key(name)
        };
        instance.care.verdicts.retain(|name, _| known(name));
        instance.care.dependencies.retain(|name, _| spec.depends.contains_key(name));
        // Told anew, with what it is now.
        instance.care.watched = None;
    }
}

/// What was to go, and is wanted again: it stays if its stop has not begun, else it comes back.
fn stay(instance: &mut Instance) {
    let Some(run) = &mut instance.run else {
        instance.stop_waits = false;
        return;
    };
    match run.stage {
        Stage::Spawning | Stage::Starting { .. } | Stage::Running => {
            instance.stop_waits = false;
            run.end = None;
        }
        Stage::Stopping { .. } | Stage::Cleaning(_) => run.end = Some(End::Replace),
    }
}

/// A run that goes on under a changed configuration takes on what can be changed while it runs.
///
/// How it becomes ready, and the period of its watchdog, were told to the service at its start: a
/// service without a notify socket can't feed a watchdog, and one that was told a longer period
/// does not feed it more often. These follow at its next start.
fn follow(now: Now, run: &mut Run, old: &ServiceSpec, spec: &Arc<ServiceSpec>) {
    let ready = run.spec.ready.clone();
    run.spec = if ready == spec.ready {
        Arc::clone(spec)
    } else {
        Arc::new(ServiceSpec { ready, ..ServiceSpec::clone(spec) })
    };
    if old.watchdog != spec.watchdog {
        run.watchdog = match (run.watchdog, spec.watchdog) {
            (Some(told), Some(period)) => Some(told.max(period)),
            (None, _) | (_, None) => None,
        };
        run.watchdog_due = run.ready_since.and(run.watchdog).map(|period| now + period);
    }
}

//! Who waits for whom: on the way up for what is needed, on the way down for those that need it.

use crate::instance::{End, Instance, Rest, Stage};
use crate::machine::Supervisor;
use crate::start::counts_as_ready;
use crate::{Output, Phase, ServiceSpec, Wish};
use base::{InstanceId, Now, ServiceName};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How a service stands, seen by those that wait for it.
enum Standing {
    Ready,
    /// Not ready, and it may become so by itself. With one of its instances and the reason.
    Coming(InstanceId, String),
    /// Not ready, and it stays so until somebody asks.
    Down(InstanceId, String),
}

impl Supervisor {
    /// What an instance that is wanted up has to wait for, each with a reason.
    pub(crate) fn blockers(&self, instance: &Instance) -> Vec<(InstanceId, String)> {
        let spec = &instance.spec;
        let mut blockers = Vec::new();
        for name in &spec.requires {
            match self.standing(name) {
                Standing::Ready => {}
                Standing::Coming(id, why) | Standing::Down(id, why) => {
                    blockers.push((id, format!("it requires {name}, and {why}")));
                }
            }
        }
        for name in &spec.wants {
            if let Standing::Coming(id, why) = self.standing(name) {
                blockers.push((id, format!("it wants {name} first, and {why}")));
            }
        }
        for name in &spec.after {
            if let Standing::Coming(id, why) = self.standing(name) {
                blockers.push((id, format!("it starts after {name}, and {why}")));
            }
        }
        blockers
    }

    fn standing(&self, name: &ServiceName) -> Standing {
        let mut coming = None;
        for id in self.ids_of(name) {
            let Some(instance) = self.instances.get(&id) else { continue };
            if counts_as_ready(instance) || instance.removed {
                continue;
            }
            let why = format!("{id} is {}", instance.phase().as_str());
            match instance.phase() {
                Phase::Failed | Phase::Stopped => return Standing::Down(id, why),
                _ if instance.wish != Wish::Up => return Standing::Down(id, why),
                _ => coming = coming.or(Some((id, why))),
            }
        }
        coming.map_or(Standing::Ready, |(id, why)| Standing::Coming(id, why))
    }

    /// Somebody asks for it to run: it, and what it requires and wants.
    pub(crate) fn want_up(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        self.raise(now, id, out);
        let mut seen = BTreeSet::from([id.service.clone()]);
        let mut names = self.needed_by(&id.service);
        while let Some(name) = names.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            for needed in self.ids_of(&name) {
                if self
                    .instances
                    .get(&needed)
                    .is_some_and(|needed| needed.wish != Wish::Up && needed.wish != Wish::Finished)
                {
                    self.raise(now, &needed, out);
                }
            }
            names.extend(self.needed_by(&name));
        }
    }

    fn needed_by(&self, name: &ServiceName) -> Vec<ServiceName> {
        let spec = self.specs.get(name);
        spec.into_iter().flat_map(|spec| spec.requires.union(&spec.wants).cloned()).collect()
    }

    fn raise(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if instance.removed || self.shutdown.is_some() {
            return;
        }
        instance.wish = Wish::Up;
        instance.wish_reason.clear();
        instance.stop_waits = false;
        match &mut instance.run {
            None => {
                instance.rest = Rest::Idle;
                instance.row = 0;
                instance.recent.clear();
                instance.since = now;
            }
            // On its way down: it comes back up after that.
            Some(run) => {
                if run.end == Some(End::Stop) {
                    run.end = Some(End::Replace);
                }
            }
        }
        self.persist(id, out);
        self.dirty.insert(id.clone());
        self.announce(&id.service);
    }

    /// Somebody asks for it to be down: it, and before it those that require it.
    pub(crate) fn want_down(
        &mut self,
        now: Now,
        id: &InstanceId,
        reason: &str,
        out: &mut Vec<Output>,
    ) {
        self.lower(now, id, reason, out);
        let requiring: Vec<ServiceName> = self
            .dependants
            .get(&id.service)
            .into_iter()
            .flatten()
            .filter(|name| self.specs.get(*name).is_some_and(|s| s.requires.contains(&id.service)))
            .cloned()
            .collect();
        for name in requiring {
            for dependant in self.ids_of(&name) {
                let up = self.instances.get(&dependant).is_some_and(|i| i.wish == Wish::Up);
                if up {
                    let reason = format!("it requires {}, which was stopped", id.service);
                    self.want_down(now, &dependant, &reason, out);
                }
            }
        }
    }

    fn lower(&mut self, now: Now, id: &InstanceId, reason: &str, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let idle = instance.run.is_none();
        let already = instance.wish == Wish::Down && (idle || instance.stop_waits);
        if already {
            return;
        }
        instance.wish = Wish::Down;
        reason.clone_into(&mut instance.wish_reason);
        if idle {
            instance.rest = Rest::Idle;
            instance.since = now;
            let message = format!("{id} is stopped: {reason}");
            let kind = crate::EventKind::Stopped;
            self.event(id, kind, crate::Severity::Info, message, Vec::new(), out);
        } else {
            instance.stop_waits = true;
            if let Some(run) = &mut instance.run
                && run.end == Some(End::Replace)
            {
                run.end = Some(End::Stop);
            }
        }
        self.persist(id, out);
        self.dirty.insert(id.clone());
        self.announce(&id.service);
    }

    /// Stop, then start. Those that require it are left alone.
    pub(crate) fn replace(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let alive = self.instances.get(id).is_some_and(Instance::is_alive);
        self.want_up(now, id, out);
        if alive {
            self.enter_stop(now, id, End::Replace, out);
        }
    }

    /// Forget that it failed, without starting it.
    pub(crate) fn reset(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.row = 0;
        instance.recent.clear();
        if matches!(instance.wish, Wish::Failed(_)) {
            instance.wish = Wish::Down;
            instance.wish_reason = "its failure was forgotten, and nobody has started it".into();
            instance.since = now;
            self.persist(id, out);
            self.announce(&id.service);
        }
    }

    /// Begins its stop once those that depend on it, and are on their way down too, are down.
    pub(crate) fn consider_stop(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let spawning = self.run_of(id).is_some_and(|run| matches!(run.stage, Stage::Spawning));
        if spawning || self.waits_for_dependant(id).is_some() {
            return;
        }
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.stop_waits = false;
        let end = instance.run.as_ref().and_then(|run| run.end).unwrap_or(End::Stop);
        self.enter_stop(now, id, end, out);
    }

    /// A dependant that is alive and on its way down.
    pub(crate) fn waits_for_dependant(&self, id: &InstanceId) -> Option<InstanceId> {
        let names = self.dependants.get(&id.service)?;
        names.iter().flat_map(|name| self.ids_of(name)).find(|dependant| {
            let going = self.instances.get(dependant).filter(|instance| instance.is_alive());
            going.is_some_and(|instance| {
                self.shutdown.is_some() || instance.wish != Wish::Up || instance.removed
            })
        })
    }

    /// Builds the index of dependants anew.
    pub(crate) fn index_dependants(&mut self) {
        self.dependants.clear();
        for spec in self.specs.values() {
            for needed in needs(spec) {
                self.dependants.entry(needed).or_default().insert(spec.name.clone());
            }
        }
    }
}

fn needs(spec: &Arc<ServiceSpec>) -> BTreeSet<ServiceName> {
    spec.after.iter().chain(&spec.requires).chain(&spec.wants).cloned().collect()
}

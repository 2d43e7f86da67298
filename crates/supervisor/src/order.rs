//! Who waits for whom: on the way up for what is needed, on the way down for those that need it.

use crate::instance::{At, End, Instance, Rest, Stage};
use crate::machine::Supervisor;
use crate::start::counts_as_ready;
use crate::{Output, Phase, ServiceSpec, ShutdownMode, Wish};
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
    /// What an instance that is wanted up has to wait for, each with a reason, and whether one of
    /// these does not come by itself.
    pub(crate) fn blockers(&self, instance: &Instance) -> (Vec<(InstanceId, String)>, bool) {
        let spec = &instance.spec;
        let mut blockers = Vec::new();
        let mut stuck = false;
        for name in &spec.requires {
            let standing = self.standing(name);
            stuck |= matches!(standing, Standing::Down(..));
            match standing {
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
        // `web` becomes `web:0` when there are to be more of it: the same port, the same place.
        let replaced = self.ids_of(&spec.name).into_iter().find(|id| {
            let gone = self.instances.get(id).is_some_and(|other| other.removed);
            gone && id.number() == instance.id.number()
        });
        if let Some(id) = replaced {
            let why = format!("it takes the place of {id}, which is not down yet");
            blockers.push((id, why));
        }
        (blockers, stuck)
    }

    fn standing(&self, name: &ServiceName) -> Standing {
        let mut coming = None;
        for id in self.ids_of(name) {
            let Some(instance) = self.instances.get(&id) else { continue };
            if counts_as_ready(instance) || instance.removed {
                continue;
            }
            let reloads = instance.run.as_ref().is_some_and(|run| run.reloading.is_some());
            let why = match instance.phase() {
                Phase::Running if instance.stop_waits => format!("{id} is to be stopped"),
                Phase::Running if reloads => format!("{id} reads its configuration again"),
                Phase::Backoff => format!("{id} waits for its next try"),
                phase => format!("{id} is {}", phase.as_str()),
            };
            let stuck = matches!(instance.rest, Rest::Waiting { stuck: true, .. });
            if stuck || instance.wish != Wish::Up {
                return Standing::Down(id, why);
            }
            coming = coming.or(Some((id, why)));
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

    /// What is wanted up pulls up what it requires and wants, unless somebody has asked for
    /// something else since.
    pub(crate) fn pull_needed(&mut self, now: Now, out: &mut Vec<Output>) {
        let up = self.instances.values().filter(|instance| instance.wish == Wish::Up);
        let mut names: BTreeSet<ServiceName> = up.map(|i| i.id.service.clone()).collect();
        while let Some(name) = names.pop_first() {
            for needed in self.needed_by(&name) {
                for id in self.ids_of(&needed) {
                    if self.instances.get(&id).is_some_and(|i| i.by_default && i.wish == Wish::Down)
                    {
                        self.raise(now, &id, out);
                        names.insert(needed.clone());
                    }
                }
            }
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
        instance.by_default = false;
        instance.wish_reason.clear();
        instance.stop_waits = false;
        instance.row = 0;
        instance.recent.clear();
        instance.care.given_up = None;
        match &mut instance.run {
            None => {
                instance.rest = Rest::Idle;
                instance.since = now;
            }
            Some(run) => match run.stage {
                // On its way down: it comes back up after that, whatever its policy says.
                Stage::Stopping { .. } | Stage::Cleaning(_) => run.end = Some(End::Replace),
                // A replacement that was asked for stays so; a stop that has not begun does not.
                Stage::Spawning | Stage::Starting { .. } | Stage::Running => {
                    run.end = run.end.filter(|end| *end == End::Replace);
                    instance.stop_waits = run.end.is_some();
                }
            },
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
        let mut lowered = vec![id.service.clone()];
        while let Some(service) = lowered.pop() {
            // As long as one of its instances is wanted, the service is.
            if self.ids_of(&service).iter().any(|id| self.is_wanted(id)) {
                continue;
            }
            let reason = format!("it requires {service}, which was stopped");
            for name in self.dependants.get(&service).cloned().unwrap_or_default() {
                if !self.specs.get(&name).is_some_and(|spec| spec.requires.contains(&service)) {
                    continue;
                }
                for dependant in self.ids_of(&name) {
                    if self.instances.get(&dependant).is_some_and(|i| i.wish == Wish::Up) {
                        self.lower(now, &dependant, &reason, out);
                        lowered.push(name.clone());
                    }
                }
            }
        }
    }

    fn is_wanted(&self, id: &InstanceId) -> bool {
        self.instances.get(id).is_some_and(|it| it.wish == Wish::Up && !it.removed)
    }

    pub(crate) fn lower(&mut self, now: Now, id: &InstanceId, reason: &str, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.by_default = false;
        let idle = !instance.is_alive();
        let already = instance.wish == Wish::Down && (idle || instance.stop_waits);
        if already {
            return;
        }
        instance.wish = Wish::Down;
        reason.clone_into(&mut instance.wish_reason);
        if instance.run.is_none() {
            instance.rest = Rest::Idle;
            instance.since = now;
        }
        if idle {
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
        if self.shutdown.is_some() {
            return;
        }
        self.want_up(now, id, out);
        self.ask_replacement(id);
    }

    /// It is to be started anew, once those that depend on it and are to be, too, are down: many
    /// are replaced in the order in which they would be stopped.
    pub(crate) fn ask_replacement(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(run) = &mut instance.run else { return };
        match run.stage {
            Stage::Spawning | Stage::Starting { .. } | Stage::Running => instance.stop_waits = true,
            Stage::Stopping { .. } | Stage::Cleaning(_) => {}
        }
        run.end = Some(End::Replace);
        self.dirty.insert(id.clone());
    }

    /// Forget that it failed, without starting it.
    pub(crate) fn reset(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.row = 0;
        instance.recent.clear();
        instance.care.given_up = None;
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
        let stays = self.shutdown == Some(ShutdownMode::KeepServices);
        if spawning || stays || self.waits_for_dependant(id).is_some() {
            return;
        }
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.stop_waits = false;
        let end = instance.run.as_ref().and_then(|run| run.end).unwrap_or(End::Stop);
        if self.is_to_be_down(id) {
            self.stop_others(now, id, out);
        }
        if let Some(at) = self.present(id) {
            self.enter_stop(now, &at, end, out);
        }
    }

    /// It is to be down: so are its old runs, and a successor on its way.
    fn stop_others(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get(id) else { return };
        let others: Vec<At> =
            instance.others.iter().map(|run| At { id: id.clone(), run: run.id }).collect();
        for at in others {
            self.end_quarantine(now, &at, out);
            self.enter_stop(now, &at, End::Stop, out);
        }
    }

    /// A dependant that is alive and on its way down.
    pub(crate) fn waits_for_dependant(&self, id: &InstanceId) -> Option<InstanceId> {
        let names = self.dependants.get(&id.service)?;
        names.iter().flat_map(|name| self.ids_of(name)).find(|dependant| {
            let going = self.instances.get(dependant).filter(|instance| instance.is_alive());
            going.is_some_and(|instance| {
                self.shutdown == Some(ShutdownMode::StopServices)
                    || instance.wish != Wish::Up
                    || instance.removed
                    || instance.run.as_ref().is_some_and(|run| run.end == Some(End::Replace))
            })
        })
    }

    /// Builds the indexes of who needs whom anew.
    pub(crate) fn index_dependants(&mut self) {
        self.dependants.clear();
        self.needs.clear();
        let depends = self.specs.values().flat_map(|spec| spec.depends.values());
        self.depended = depends.filter_map(|dependency| dependency.service().cloned()).collect();
        // What is gone from the configuration keeps its place in the order until it is down. Nobody
        // new can name it, so that no circle comes about.
        let gone = self.instances.values().filter(|instance| instance.removed);
        let gone = gone.map(|instance| &instance.spec);
        let gone = gone.filter(|spec| !self.specs.contains_key(&spec.name));
        for spec in self.specs.values().chain(gone) {
            for needed in needs(spec) {
                self.dependants.entry(needed.clone()).or_default().insert(spec.name.clone());
                self.needs.entry(spec.name.clone()).or_default().insert(needed);
            }
        }
    }
}

fn needs(spec: &Arc<ServiceSpec>) -> BTreeSet<ServiceName> {
    spec.after.iter().chain(&spec.requires).chain(&spec.wants).cloned().collect()
}

//! Hosts the detectors of all runs: who is asked when, what the machine's state makes of it, and
//! what is told.
//!
//! Invariants: [`Watcher::next_wake`] is never in the past once [`Watcher::handle`] has returned;
//! two watchers with one seed and the same inputs say the same; what is not watched costs nothing.

use super::doubt::Doubt;
use super::host::Host;
use super::instance::Instance;
use super::question::{Due, Question, on_grid};
use super::run::Context;
use super::{HostSample, Input, Output};
use base::{InstanceId, Now, Rng, ServiceName};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The machine is looked at five times as often as the runs, between once a second …
const HOST_PAUSE_MIN: Duration = Duration::from_secs(1);

/// … and this.
const HOST_PAUSE_MAX: Duration = Duration::from_secs(5);

/// A look at the machine takes at most this.
const HOST_TIMEOUT: Duration = Duration::from_secs(5);

/// An instance that had its turn gets the next one not before this: whatever it plans, the driver's
/// loop turns.
const TURN_PAUSE: Duration = Duration::from_millis(1);

/// Recognises sickness. See the module's `io` for what goes in and out.
#[derive(Clone, Debug)]
pub struct Watcher {
    seed: u64,
    rng: Rng,
    instances: BTreeMap<InstanceId, Instance>,
    /// When each instance wants its turn.
    wakes: BTreeSet<(Now, InstanceId)>,
    planned: BTreeMap<InstanceId, Now>,
    host: Host,
    looking: Option<Question>,
    /// Services that are looked at.
    services: usize,
    /// The shortest pause between two samples of a run; `None` = to be found out again.
    pace: Option<Duration>,
    doubt: Doubt,
    pressure: Option<String>,
}

impl Watcher {
    /// Watches nothing yet. The seed draws the moments of planned replacements and of first
    /// questions.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            rng: Rng::new(seed),
            instances: BTreeMap::new(),
            wakes: BTreeSet::new(),
            planned: BTreeMap::new(),
            host: Host::default(),
            looking: None,
            services: 0,
            pace: None,
            doubt: Doubt::default(),
            pressure: None,
        }
    }

    /// Takes one input; says what is to be done, in order.
    pub fn handle(&mut self, now: Now, input: Input, outputs: &mut Vec<Output>) {
        if let Some(planned) = self.next_wake() {
            self.host.late(now, now.since(planned));
        }
        let touched = self.take(now, input);
        self.host.calm(now);
        if self.looking.as_mut().is_some_and(|looking| looking.turn(now) != Due::NotYet) {
            outputs.push(Output::LookAtHost);
        }
        self.tell_pressure(outputs);
        if let Some(instance) = touched {
            self.turn(now, &instance, outputs);
        }
        while let Some((_, instance)) = self.wakes.first().filter(|(wake, _)| *wake <= now) {
            let instance = instance.clone();
            self.turn(now, &instance, outputs);
        }
        if self.doubt.turn(now) {
            self.tell_pressure(outputs);
            for instance in self.instances.keys().cloned().collect::<Vec<_>>() {
                self.turn(now, &instance, outputs);
            }
        }
        self.tell_pressure(outputs);
    }

    /// When it wants to be called again at the latest; `None` = not before something happens.
    pub fn next_wake(&self) -> Option<Now> {
        let instances = self.wakes.first().map(|(wake, _)| *wake);
        let host = self.looking.as_ref().map(Question::wake);
        let ends = [self.host.wake(), self.doubt.wake()].into_iter().flatten();
        instances.into_iter().chain(host).chain(ends).min()
    }

    /// Everything as it stands: pressure, dependencies and verdicts, as they would be told to
    /// somebody who has heard nothing yet.
    pub fn snapshot(&self) -> Vec<Output> {
        let mut told = vec![Output::Pressure(self.pressure.clone())];
        told.extend(self.instances.values().flat_map(Instance::snapshot));
        told
    }

    /// Takes an input. Says which instance it was about.
    fn take(&mut self, now: Now, input: Input) -> Option<InstanceId> {
        let instance = match &input {
            Input::Host(sample) => {
                self.host_sampled(now, sample.clone());
                return None;
            }
            Input::Tick => return None,
            Input::Watch(watch) => &watch.instance,
            Input::Unwatch { instance, .. }
            | Input::Mode { instance, .. }
            | Input::Sampled { instance, .. }
            | Input::Disk { instance, .. }
            | Input::Probed { instance, .. }
            | Input::Counted { instance, .. }
            | Input::Depended { instance, .. } => instance,
        };
        let instance = instance.clone();
        let new = matches!(input, Input::Watch(_));
        if new {
            let known = self.instances.entry(instance.clone());
            known.or_insert_with(|| Instance::new(instance.clone()));
        }
        let watched = self.instances.get_mut(&instance)?;
        let mut context = Context {
            now,
            host: self.host.sample(),
            patience: self.host.patience(),
            seed: self.seed,
            rng: &mut self.rng,
        };
        match input {
            Input::Watch(watch) => watched.watch(&watch, &mut context),
            Input::Unwatch { run, .. } => watched.unwatch(run, now),
            Input::Mode { mode, .. } => watched.set_mode(mode, &mut context),
            answer => {
                watched.answered(answer, &context);
                return Some(instance);
            }
        }
        self.settings_changed(now);
        Some(instance)
    }

    /// Looks at the machine only while a run is looked at.
    fn settings_changed(&mut self, now: Now) {
        let on = self.instances.iter().filter(|(_, instance)| !instance.is_off());
        let services: BTreeSet<&ServiceName> = on.map(|(id, _)| &id.service).collect();
        self.services = services.len();
        self.pace = None;
        if self.services == 0 {
            self.looking = None;
        } else {
            self.looking.get_or_insert_with(|| Question::new(now, HOST_TIMEOUT));
        }
    }

    fn host_sampled(&mut self, now: Now, sample: HostSample) {
        let Some(looking) = &mut self.looking else { return };
        let pace = *self.pace.get_or_insert_with(|| {
            let paces = self.instances.values().filter_map(Instance::pace);
            paces.min().unwrap_or(HOST_PAUSE_MAX)
        });
        let pause = (pace / 5).clamp(HOST_PAUSE_MIN, HOST_PAUSE_MAX);
        if looking.answered(|asked| on_grid(asked.max(now), pause)).is_some() {
            self.host.sampled(now, sample);
        }
    }

    /// Lets one instance judge, ask and tell.
    fn turn(&mut self, now: Now, id: &InstanceId, outputs: &mut Vec<Output>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let doubt = self.doubt.why().is_some();
        instance.turn(now, self.host.patience(), doubt, outputs);
        let (wake, unexplained) = (instance.wake(), instance.unexplained());
        if instance.is_empty() {
            self.instances.remove(id);
        }
        self.doubt.signs(now, self.services, id, unexplained);
        self.plan(id, wake.map(|wake| wake.max(now + TURN_PAUSE)));
    }

    /// An instance wants its next turn then, or none.
    fn plan(&mut self, id: &InstanceId, wake: Option<Now>) {
        let before = self.planned.get(id).copied();
        if before == wake {
            return;
        }
        let mut entry = (before.unwrap_or_default(), id.clone());
        if before.is_some() {
            self.wakes.remove(&entry);
        }
        let Some(wake) = wake else {
            self.planned.remove(id);
            return;
        };
        match self.planned.get_mut(id) {
            Some(planned) => *planned = wake,
            None => drop(self.planned.insert(id.clone(), wake)),
        }
        entry.0 = wake;
        self.wakes.insert(entry);
    }

    /// Tells the beginning and the end of a time in which nobody is to be replaced.
    fn tell_pressure(&mut self, outputs: &mut Vec<Output>) {
        let why = self.host.starves().or(self.doubt.why());
        if why.is_some() != self.pressure.is_some() {
            self.pressure = why.map(str::to_owned);
            outputs.push(Output::Pressure(self.pressure.clone()));
        }
    }
}

//! Whose fault it is: what an instance depends on is looked at before the instance is touched.
//!
//! Why: an application whose database is down is as sick as one that hangs, and restarting it cures
//! nothing. The first failing component is acted on, from the back end to the front (H16, H19).
//! Invariant: a service that we run ourselves counts as down for its dependants as long as none of
//! its instances is well.

use crate::instance::Instance;
use crate::machine::Supervisor;
use crate::watch::DependencyState;
use crate::{
    Dependency, DependencyTarget, EventKind, HealthState, Mode, Output, Rule, Severity, Value,
};
use base::{InstanceId, ServiceName};
use std::time::Duration;

/// Longest time that is given to a dependency's own detectors before its dependant is blamed.
const BLAME_MAX: Duration = Duration::from_secs(15);

/// In this time the watcher finds out that something that it asks itself is down.
const ASKED_WITHIN: Duration = Duration::from_secs(5);

impl Supervisor {
    /// Something that an instance depends on stands otherwise than before.
    pub(crate) fn depends(
        &mut self,
        id: &InstanceId,
        name: String,
        state: DependencyState,
        message: String,
        out: &mut Vec<Output>,
    ) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if !instance.spec.depends.contains_key(&name) {
            return;
        }
        let news = (state, message.clone());
        let before = instance.care.dependencies.insert(name.clone(), news);
        let was = before.map(|(state, _)| state);
        self.concerned.insert(id.clone());
        let bad = |state| matches!(state, DependencyState::Down | DependencyState::Slow);
        let data = vec![
            ("dependency", Value::Text(name.clone())),
            ("state", Value::Text(state.as_str().to_owned())),
        ];
        match (was.is_some_and(bad), bad(state)) {
            (false, true) => {
                let word = state.as_str();
                let text = format!("{id} depends on {name}, which is {word}: {message}");
                self.event(id, EventKind::DependencyDown, Severity::Warning, text, data, out);
            }
            (true, false) => {
                let text = format!("{name}, on which {id} depends, is {}", state.as_str());
                self.event(id, EventKind::DependencyUp, Severity::Info, text, data, out);
            }
            (true, true) | (false, false) => {}
        }
    }

    /// A service's health has changed: what depends on it learns of it.
    pub(crate) fn tell_dependants(&mut self, service: &ServiceName, out: &mut Vec<Output>) {
        let (state, message) = self.standing_of(service);
        let asks = |it: &Instance, name: &str| {
            let target = it.spec.depends.get(name).map(|dependency| &dependency.target);
            matches!(target, Some(DependencyTarget::Service(on)) if on == service)
        };
        let mut told = Vec::new();
        for instance in self.instances.values() {
            for name in instance.spec.depends.keys().filter(|name| asks(instance, name)) {
                let known = instance.care.dependencies.get(name).map(|(state, _)| *state);
                if known != Some(state) && instance.care.watched.is_some() {
                    told.push((instance.id.clone(), name.clone()));
                }
            }
        }
        for (id, name) in told {
            self.depends(&id, name, state, message.clone(), out);
        }
    }

    /// How a service of ours stands, seen by those that depend on it.
    pub(crate) fn standing_of(&self, service: &ServiceName) -> (DependencyState, String) {
        let ids = self.ids_of(service);
        let known = ids.iter().filter_map(|id| self.instances.get(id));
        let known: Vec<&Instance> = known.map(|instance| &**instance).collect();
        // Who is seen to be sick is to blame, whether something is done about that or not.
        let serves = |it: &&&Instance| it.health() == HealthState::Up && !it.seems_sick();
        if let Some(up) = known.iter().find(serves) {
            return (DependencyState::Up, format!("{} is up", up.id));
        }
        let state = known.first().map(|it| match it.health() {
            HealthState::Up => format!("{} is sick", it.id),
            other => format!("{} is {}", it.id, other.as_str()),
        });
        (DependencyState::Down, state.unwrap_or_else(|| format!("there is no {service}")))
    }

    /// How long the dependencies of an instance need to be found down, if they are.
    pub(crate) fn blame_time(&self, instance: &Instance) -> Duration {
        let times = instance.spec.depends.values().map(|dependency| self.time_to_tell(dependency));
        times.max().unwrap_or_default().min(BLAME_MAX)
    }

    fn time_to_tell(&self, dependency: &Dependency) -> Duration {
        let DependencyTarget::Service(name) = &dependency.target else {
            return ASKED_WITHIN;
        };
        let Some(spec) = self.specs.get(name).filter(|it| it.tolerance.mode != Mode::Off) else {
            return Duration::ZERO;
        };
        let detectors = spec.tolerance.detectors.values();
        let times = detectors.filter_map(|detector| match &detector.rule {
            Rule::Answer { interval, timeout, failures, .. } => {
                Some(time_to_fail(*interval, *timeout, *failures))
            }
            Rule::Backlog { lasting, .. }
            | Rule::Deadlock { lasting }
            | Rule::Livelock { lasting, .. }
            | Rule::Uninterruptible { lasting } => {
                Some(lasting.saturating_add(spec.tolerance.interval))
            }
            Rule::Leak { .. } | Rule::Age { .. } | Rule::Requests { .. } => None,
        });
        times.max().unwrap_or_default()
    }
}

/// From a hang to the last of so many answers that do not come: the first question may just have
/// been answered, and none is put before the one before it is over.
fn time_to_fail(interval: Duration, timeout: Duration, failures: u32) -> Duration {
    let between = interval.max(timeout).saturating_mul(failures.saturating_sub(1));
    interval.saturating_add(between).saturating_add(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h16_a_probe_that_is_slower_than_its_interval_needs_longer_to_tell() {
        let ms = Duration::from_millis;
        assert_eq!(time_to_fail(ms(10_000), ms(2_000), 3), ms(32_000));
        assert_eq!(time_to_fail(ms(200), ms(400), 5), ms(2_200));
        assert_eq!(time_to_fail(ms(200), ms(400), 1), ms(600));
    }
}

//! What a new configuration changes: a reload touches only that.

use crate::settings::Config;
use base::ServiceName;
use std::fmt;

/// A service that is in both configurations, but not the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceChange {
    /// Which one.
    pub name: ServiceName,
    /// Its processes have to be replaced, because what is executed has changed. Otherwise the new
    /// settings apply to the running ones.
    pub restart: bool,
}

/// What differs between two configurations.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Difference {
    /// Services only in the new one, by name.
    pub added: Vec<ServiceName>,
    /// Services only in the old one, by name.
    pub removed: Vec<ServiceName>,
    /// Services that have changed, by name.
    pub changed: Vec<ServiceChange>,
    /// How many services are the same in both.
    pub unchanged: usize,
    /// Settings of the daemon itself that have changed, such as `console.listen`.
    pub settings: Vec<&'static str>,
}

impl Difference {
    /// True when nothing differs.
    pub fn is_empty(&self) -> bool {
        let services = self.added.len() + self.removed.len() + self.changed.len();
        services + self.settings.len() == 0
    }

    /// One line for people; the same as [`fmt::Display`].
    pub fn summary(&self) -> String {
        self.to_string()
    }
}

/// Compares two configurations.
pub fn difference(old: &Config, new: &Config) -> Difference {
    let only_in = |one: &Config, other: &Config| -> Vec<ServiceName> {
        let names = one.services.keys().filter(|name| !other.services.contains_key(*name));
        names.cloned().collect()
    };
    let mut changed = Vec::new();
    let mut unchanged = 0;
    for (name, before) in &old.services {
        let Some(after) = new.services.get(name) else { continue };
        if before == after {
            unchanged += 1;
            continue;
        }
        let restart = !before.runs_like(after);
        changed.push(ServiceChange { name: name.clone(), restart });
    }
    Difference {
        added: only_in(new, old),
        removed: only_in(old, new),
        changed,
        unchanged,
        settings: settings(old, new),
    }
}

fn settings(old: &Config, new: &Config) -> Vec<&'static str> {
    let (before, after) = ((&old.daemon, &old.console), (&new.daemon, &new.console));
    [
        ("daemon.node", before.0.node != after.0.node),
        ("daemon.state_dir", before.0.state_dir != after.0.state_dir),
        ("daemon.run_dir", before.0.run_dir != after.0.run_dir),
        ("daemon.stall_limit", before.0.stall_limit != after.0.stall_limit),
        ("daemon.shutdown_timeout", before.0.shutdown_timeout != after.0.shutdown_timeout),
        ("console.listen", before.1.listen != after.1.listen),
        ("console.sample_interval", before.1.sample_interval != after.1.sample_interval),
        ("journal.age_max", old.journal.age_max != new.journal.age_max),
        ("journal.size_max", old.journal.size_max != new.journal.size_max),
        ("api.operators", old.api.operators != new.api.operators),
        ("api.viewers", old.api.viewers != new.api.viewers),
        ("api.tcp", old.api.tcp != new.api.tcp),
        ("api.token", old.api.tokens != new.api.tokens),
        ("health.http", old.health.http != new.health.http),
        ("health.agent", old.health.agent != new.health.agent),
        ("mail", old.mail != new.mail),
        ("supervisord", old.supervisord != new.supervisord),
        ("hook", old.hooks != new.hooks),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

/// Names in one part of the line; the rest is counted.
const NAMES_SHOWN_MAX: usize = 5;

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing has changed");
        }
        let names = |names: &mut dyn Iterator<Item = &str>| {
            let all: Vec<&str> = names.collect();
            let shown = all.iter().take(NAMES_SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
            match all.len().saturating_sub(NAMES_SHOWN_MAX) {
                0 => shown,
                more => format!("{shown} and {more} more"),
            }
        };
        let changed = |restart: bool| {
            let these = self.changed.iter().filter(move |change| change.restart == restart);
            names(&mut these.map(|change| change.name.as_str()))
        };
        let parts = [
            ("added", names(&mut self.added.iter().map(ServiceName::as_str))),
            ("removed", names(&mut self.removed.iter().map(ServiceName::as_str))),
            ("changed, to be restarted", changed(true)),
            ("changed while running", changed(false)),
            ("settings", names(&mut self.settings.iter().copied())),
        ];
        let said: Vec<String> = parts
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("{what}: {names}"))
            .collect();
        f.write_str(&said.join("; "))
    }
}

//! From what stands in the segment files and in the configuration to what the reporter takes.

use base::WallTime;
use config::{Config, MailSettings};
use control::{EventRecord, Severity, Snapshot};
use serde_json::Value;
use std::time::Duration;
use supervisor::report::{Fact, Policy, Relations, Workaround};
use supervisor::{Dependency, DependencyTarget};

/// An event as the reporter takes it.
pub(super) fn fact(event: &EventRecord) -> Fact {
    let text = |name: &str| event.data.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
    let flag = |name: &str| event.data.get(name).and_then(Value::as_bool).unwrap_or(false);
    let output = event.data.get("last_output").and_then(Value::as_array);
    Fact {
        wall: WallTime::from_micros(event.wall_us),
        subject: event.subject.clone(),
        kind: event.kind.clone(),
        severity: match event.severity {
            Severity::Info => supervisor::Severity::Info,
            Severity::Warning => supervisor::Severity::Warning,
            Severity::Error => supervisor::Severity::Error,
        },
        message: event.message.clone(),
        cause: text("cause"),
        uptime: event.data.get("uptime_ms").and_then(Value::as_u64).map(Duration::from_millis),
        evidence: text("evidence"),
        output: output
            .into_iter()
            .flatten()
            .filter_map(|line| line.as_str().map(ToOwned::to_owned))
            .collect(),
        planned: flag("planned"),
        waits: text("hindrance").is_some_and(|hindrance| hindrance == "group"),
        helped: flag("helped"),
    }
}

/// The workarounds that the root says are in force.
pub(super) fn in_force(snapshot: &Snapshot) -> Vec<Workaround> {
    let instances = snapshot.services.iter().flat_map(|service| &service.instances);
    let known = instances.filter_map(|instance| {
        let known = instance.health.workaround.as_ref()?;
        Some(Workaround {
            subject: instance.name.clone(),
            since: WallTime::from_micros(known.since_us),
            saves: known.saves,
            would_have: known.would_have,
            last: WallTime::from_micros(known.last_us),
            cause: known.last_cause.clone(),
        })
    });
    known.collect()
}

/// What is to be told.
pub(super) fn policy(mail: &MailSettings) -> Policy {
    Policy { severity: mail.severity, digest: mail.digest }
}

/// True if mails of the one configuration would be others with the other one.
pub(crate) fn differs(old: &Config, new: &Config) -> bool {
    let logs = |config: &Config| -> Vec<_> {
        let services = config.services.values();
        services.map(|spec| (spec.name.clone(), spec.log.path.clone())).collect()
    };
    old.mail != new.mail || relations(old) != relations(new) || logs(old) != logs(new)
}

/// Which service depends on which.
pub(super) fn relations(config: &Config) -> Relations {
    let pairs = config.services.values().flat_map(|spec| {
        let named = spec.requires.iter().chain(&spec.wants);
        let declared = spec.depends.values().filter_map(on_service);
        named.chain(declared).map(|on| (spec.name.to_string(), on.to_string())).collect::<Vec<_>>()
    });
    pairs.collect()
}

fn on_service(dependency: &Dependency) -> Option<&base::ServiceName> {
    match &dependency.target {
        DependencyTarget::Service(name) => Some(name),
        DependencyTarget::Probe(_) | DependencyTarget::Mount(_) => None,
    }
}

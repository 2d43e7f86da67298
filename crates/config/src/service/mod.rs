//! One `[service.NAME]` section, read into a [`ServiceSpec`].
//!
//! Why one key at a time: a service with five faults shows all five.
//! Invariants: a draft exists for every section, faulty or not, so that references to it are not
//! reported as dangling; a draft becomes part of a configuration only when nothing was faulty.

mod command;
mod limits;
mod log;
mod probe;
mod process;
mod ready;
mod restart;
mod rules;
mod socket;
mod stop;

mod answers;
mod counter;
mod depends;
mod detect;
mod evidence;
mod listener;
mod output_events;
mod tolerance;
mod tolerance_rules;

pub(crate) use command::split as split_command;
pub(crate) use limits::{RESOURCES, Unit};
pub(crate) use listener::EVENTS;
pub(crate) use process::{Binding, account, is_account};
pub(crate) use stop::ladder_time;

use crate::diagnostic::{Fault, Faults, quoted};
use crate::source::Spot;
use crate::table::{Node, Table};
use crate::template::{Port, Scope};
use crate::value::{absolute_path, boolean, duration, integer, line, list, text, unknown_value};
use base::ServiceName;
use std::collections::BTreeSet;
use std::time::Duration;
use supervisor::{Kind, ServiceSpec, Successor};

/// Instances of one service.
pub(crate) const INSTANCES_MAX: u16 = 1_000;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

/// Which of the keys a reference stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Relation {
    After,
    Requires,
    Wants,
    /// Not an order: whose fault it is.
    Depends,
}

impl Relation {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::After => "after",
            Self::Requires => "requires",
            Self::Wants => "wants",
            Self::Depends => "depends",
        }
    }
}

/// A reference to another service, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) relation: Relation,
    pub(crate) to: ServiceName,
    pub(crate) spot: Spot,
}

/// A service as far as it could be read.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) spec: ServiceSpec,
    /// Its name in the section's header.
    pub(crate) spot: Spot,
    pub(crate) references: Vec<Reference>,
    /// Addresses that it (or holdfast for it) listens on.
    pub(crate) bindings: Vec<Binding>,
    /// The value of `log.file`, if set and not faulty.
    pub(crate) log_spot: Option<Spot>,
    /// The value of `stop`, or the name where that is the default.
    pub(crate) stop_spot: Spot,
}

/// Reads a service. Keys that it does not set come from the table's fallback.
pub(crate) fn read_service(
    name: ServiceName,
    table: &mut Table<'_>,
    faults: &mut Faults<'_>,
) -> Draft {
    let description = table.read("description", String::new(), faults, |node, faults| {
        line(node, faults).map(str::to_owned)
    });
    let autostart = table.read("autostart", true, faults, boolean);
    let kind = read_kind(table, faults);
    let instances =
        table.read("instances", 1, faults, |node, faults| integer(node, 1..=INSTANCES_MAX, faults));
    let port =
        table.read_option("port", faults, |node, faults| integer(node, 1..=u16::MAX, faults));
    let scope = scope_of(table, port);
    let (process, mut bindings) = process::read(table, scope, port, instances, faults);
    let mut references = Vec::new();
    let after = read_references(Relation::After, &name, table, &mut references, faults);
    let requires = read_references(Relation::Requires, &name, table, &mut references, faults);
    let wants = read_references(Relation::Wants, &name, table, &mut references, faults);
    let ready = ready::read(table, scope, faults);
    let start_timeout = table.read("start_timeout", 60 * SECOND, faults, |node, faults| {
        duration(node, Duration::from_millis(10)..=DAY, faults)
    });
    let watchdog = read_watchdog(table, faults);
    let stop = stop::read_stop(table, scope, faults);
    let reload = table.read("reload", None, faults, |node, faults| {
        let action = (!is_off(node)).then(|| stop::read_action(node, scope, faults));
        action.map_or(Some(None), |action| action.map(Some))
    });
    let restart = restart::read(table, &kind, faults);
    let log = log::read(table, scope, faults);
    let depends = depends::read(&name, table, scope, &mut references, faults);
    let found = detect::read(table, scope, faults);
    let (tolerance, places) = tolerance::read(table, &found, scope, faults);
    let listener = listener::read(table, faults);
    let output_events = output_events::read(table, faults);
    let log_spot = log.path.as_ref().map(|_| table.value_spot("log"));
    let spec = ServiceSpec {
        name,
        description,
        autostart,
        kind,
        instances,
        process,
        after,
        requires,
        wants,
        ready,
        start_timeout,
        stop,
        reload,
        restart,
        watchdog,
        log,
        tolerance,
        depends,
        listener,
        output_events,
    };
    table.finish(faults);
    if !table.is_partial {
        rules::check(&spec, table, faults);
        tolerance_rules::check(&spec, &found, &places, table, faults);
    }
    if spec.tolerance.replace.successor == Successor::Beside {
        bindings.iter_mut().for_each(Binding::double);
    }
    if !table.sound(&["instances"]) {
        bindings.clear();
    }
    let (spot, stop_spot) = (table.spot, table.value_spot("stop"));
    Draft { spec, spot, references, bindings, log_spot, stop_spot }
}

/// What texts of this service can have filled in.
fn scope_of(table: &Table<'_>, port: Option<u16>) -> Scope {
    let port = match port {
        Some(_) => Port::Set,
        None if table.sound(&["port"]) && !table.is_partial => Port::NotSet,
        None => Port::Faulty,
    };
    Scope { port, extra: None }
}

fn read_watchdog(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<Duration> {
    table.read("watchdog", None, faults, |node, faults| {
        let period =
            (!is_off(node)).then(|| duration(node, Duration::from_millis(100)..=DAY, faults));
        period.map_or(Some(None), |period| period.map(Some))
    })
}

/// Whether a key is switched off, which is stronger than a default.
fn is_off(node: Node<'_>) -> bool {
    node.value.as_str() == Some("off")
}

fn read_kind(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Kind {
    let kinds = ["simple", "forking", "oneshot"];
    let kind = table.read("kind", Kind::Simple, faults, |node, faults| match text(node, faults)? {
        "simple" => Some(Kind::Simple),
        "forking" => Some(Kind::Forking { pid_file: None }),
        "oneshot" => Some(Kind::Oneshot),
        other => {
            unknown_value(node, other, kinds.into_iter(), faults);
            None
        }
    });
    let pid_file = table.read_option("pid_file", faults, absolute_path);
    match (kind, pid_file) {
        (Kind::Forking { .. }, pid_file) => Kind::Forking { pid_file },
        (kind, None) => kind,
        (kind, Some(_)) => {
            if table.sound(&["kind"]) && table.has_own("pid_file") && !table.is_partial {
                faults.push(
                    Fault::error(
                        "pid-file-without-forking",
                        "only a forking service has a pid file",
                    )
                    .at(table.key_spot("pid_file"), "the service does not fork")
                    .help("add `kind = \"forking\"`, or remove `pid_file`"),
                );
            }
            kind
        }
    }
}

fn read_references(
    relation: Relation,
    own: &ServiceName,
    table: &mut Table<'_>,
    references: &mut Vec<Reference>,
    faults: &mut Faults<'_>,
) -> BTreeSet<ServiceName> {
    let key = relation.as_str();
    let example = format!("`{key} = [\"database\"]`");
    // A faulty item hides no other: each good one is kept when it is read.
    let from = references.len();
    table.read(key, (), faults, |node, faults| {
        let read = list(node, "a list of services", &example, faults, |item, faults| {
            let reference = reference(relation, own, item, faults)?;
            references.push(reference);
            Some(())
        });
        read.map(|_| ())
    });
    references[from..].iter().map(|reference| reference.to.clone()).collect()
}

/// The name of another service.
fn reference(
    relation: Relation,
    own: &ServiceName,
    item: Node<'_>,
    faults: &mut Faults<'_>,
) -> Option<Reference> {
    let text = text(item, faults)?;
    let to: ServiceName = match text.parse() {
        Ok(name) => name,
        Err(error) => {
            faults.push(
                Fault::error("bad-name", format!("{} can't be a service", quoted(text)))
                    .at(item.spot, error.to_string())
                    .help("use the name that stands in the other section's header"),
            );
            return None;
        }
    };
    if to == *own {
        faults.push(
            Fault::error("self-reference", format!("service `{own}` refers to itself"))
                .at(item.spot, format!("`{own}` in its own `{}`", relation.as_str()))
                .help("remove it"),
        );
        return None;
    }
    Some(Reference { relation, to, spot: item.spot })
}

//! `depends`: what a service depends on, so that it is not blamed for what is not its own fault.

use super::command::{self, Through};
use super::probe::{host_port, http_url, one_of, status, stray};
use super::process::template_path;
use super::{DAY, Reference, Relation, Scope, reference};
use crate::diagnostic::{Fault, Faults, quoted};
use crate::table::{Entry, Table, entries_of};
use crate::value::{duration, nonempty, table, wrong_type};
use base::ServiceName;
use std::collections::BTreeMap;
use std::time::Duration;
use supervisor::{Dependency, DependencyTarget, HealthProbe};

/// Dependencies of one service. Each is asked all the time.
const DEPENDS_MAX: usize = 100;

const EXAMPLE: &str = "`depends = { db = { service = \"postgres\" } }`";
const WAYS: [&str; 5] = ["service", "tcp", "http", "command", "mount"];

/// Reads `depends`. References to services of ours are checked together with the other ones.
pub(crate) fn read(
    own: &ServiceName,
    service: &mut Table<'_>,
    scope: Scope,
    references: &mut Vec<Reference>,
    faults: &mut Faults<'_>,
) -> BTreeMap<String, Dependency> {
    service.read("depends", BTreeMap::new(), faults, |node, faults| {
        let Some(depends) = node.value.as_table() else {
            wrong_type(node, "a table", EXAMPLE, faults);
            return None;
        };
        if DEPENDS_MAX < depends.len() {
            let count = depends.len();
            faults.push(
                Fault::error("out-of-range", format!("`depends` has {count} dependencies"))
                    .at(node.spot, format!("the limit is {DEPENDS_MAX}"))
                    .help("join some of them into a command that checks several"),
            );
            return None;
        }
        let read: Vec<Option<(String, Dependency)>> = entries_of(node.spot.file, depends)
            .map(|(name, entry)| {
                let good = check_name(name, entry, faults);
                let dependency = read_one(own, name, entry, scope, references, faults)?;
                good.then(|| (name.to_owned(), dependency))
            })
            .collect();
        read.into_iter().collect()
    })
}

fn check_name(name: &str, entry: Entry<'_>, faults: &mut Faults<'_>) -> bool {
    let Err(error) = name.parse::<ServiceName>() else { return true };
    faults.push(
        Fault::error("bad-name", format!("{} can't be the name of a dependency", quoted(name)))
            .at(entry.key, error.to_string())
            .help("choose a name such as `db` or `mail-server`"),
    );
    false
}

fn read_one(
    own: &ServiceName,
    name: &str,
    entry: Entry<'_>,
    scope: Scope,
    references: &mut Vec<Reference>,
    faults: &mut Faults<'_>,
) -> Option<Dependency> {
    let mut asked = table(entry.node, format!("dependency `{name}`"), EXAMPLE, faults)?;
    asked.spot = entry.key;
    let to = asked.read_option("service", faults, |node, faults| {
        reference(Relation::Depends, own, node, faults)
    });
    let tcp = asked.read_option("tcp", faults, |node, faults| host_port(node, scope, faults));
    let url = asked.read_option("http", faults, |node, faults| http_url(node, scope, faults));
    let status = asked.read_option("status", faults, status);
    let contains = asked
        .read_option("contains", faults, |node, faults| nonempty(node, faults).map(str::to_owned));
    let command = asked.read_option("command", faults, |node, faults| {
        command::read(node, Through::Words, scope, faults)
    });
    let mount =
        asked.read_option("mount", faults, |node, faults| template_path(node, scope, faults));
    let slow = asked.read_option("slow", faults, |node, faults| {
        duration(node, Duration::from_millis(1)..=DAY, faults)
    });
    asked.finish(faults);
    let way = one_of(&asked, &WAYS, EXAMPLE, faults)?;
    stray(&asked, "status", way == "http", way, faults);
    stray(&asked, "contains", way == "http", way, faults);
    // A service of ours is not asked: how it stands is known.
    stray(&asked, "slow", way != "service", way, faults);
    if !asked.sound(&WAYS) || !asked.sound(&["status", "contains", "slow"]) {
        return None;
    }
    let target = tcp
        .map(HealthProbe::Tcp)
        .or_else(|| url.map(|url| HealthProbe::Http { url, status, contains }))
        .or_else(|| command.map(HealthProbe::Command))
        .map(DependencyTarget::Probe)
        .or_else(|| mount.map(DependencyTarget::Mount))
        .or_else(|| {
            let to = to?;
            references.push(to.clone());
            Some(DependencyTarget::Service(to.to))
        })?;
    Some(Dependency { target, slow })
}

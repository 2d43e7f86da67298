//! References between services: to nobody, and in circles.
//!
//! Invariants: every reference of a configuration without faults leads to a service of it;
//! "waits for" has no circle, so that a start in parallel always ends; "depends on" has none, so
//! that the first failing component can be told.

use crate::diagnostic::{Fault, Faults};
use crate::service::{Draft, Reference, Relation};
use crate::suggest::did_you_mean;
use base::ServiceName;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Cycles that are reported at once. They tend to be the same mistake seen from several sides.
const CYCLES_MAX: usize = 20;

/// Edges of a cycle that are pointed at.
const EDGES_SHOWN_MAX: usize = 10;

type Graph<'d> = BTreeMap<&'d ServiceName, Vec<&'d Reference>>;

/// Checks all references. `unreadable` are names that exist, but whose sections are no tables.
pub(crate) fn check(drafts: &[Draft], unreadable: &BTreeSet<String>, faults: &mut Faults<'_>) {
    let names: BTreeSet<&ServiceName> = drafts.iter().map(|draft| &draft.spec.name).collect();
    let (mut order, mut blame) = (Graph::new(), Graph::new());
    for draft in drafts {
        for reference in &draft.references {
            if names.contains(&reference.to) {
                let graph = match reference.relation {
                    Relation::After | Relation::Requires | Relation::Wants => &mut order,
                    Relation::Depends => &mut blame,
                };
                graph.entry(&draft.spec.name).or_default().push(reference);
            } else if !unreadable.contains(reference.to.as_str()) {
                report_dangling(draft, reference, &names, faults);
            }
        }
    }
    check_cycles(order, faults);
    check_cycles(blame, faults);
}

fn report_dangling(
    draft: &Draft,
    reference: &Reference,
    names: &BTreeSet<&ServiceName>,
    faults: &mut Faults<'_>,
) {
    let (own, to) = (&draft.spec.name, &reference.to);
    let others = names.iter().filter(|name| **name != own).map(|name| name.as_str());
    let help = did_you_mean(to.as_str(), others)
        .unwrap_or_else(|| format!("add a section `[service.{to}]`, or remove the reference"));
    faults.push(
        Fault::error(
            "unknown-service",
            format!("service `{own}` refers to `{to}`, which is not there"),
        )
        .at(reference.spot, "no such service")
        .help(help),
    );
}

fn check_cycles(mut graph: Graph<'_>, faults: &mut Faults<'_>) {
    let knots = knots(&graph);
    // Within a knot every service is on a circle, so that the search never leaves it in vain.
    for (name, edges) in &mut graph {
        let own = knots.get(name);
        edges.retain(|edge| own.is_some() && own == knots.get(&edge.to));
    }
    let mut told = BTreeSet::new();
    for (name, knot) in &knots {
        if told.len() < CYCLES_MAX && told.insert(knot) {
            let cycle = shortest_cycle(name, &graph).unwrap_or_default();
            report_cycle(&cycle, faults);
        }
    }
}

/// Groups of services that all wait for each other (strongly connected components of more than
/// one), as the group's number by name. Without recursion: a chain may have thousands of links.
fn knots<'d>(graph: &Graph<'d>) -> BTreeMap<&'d ServiceName, usize> {
    let mut waiters: BTreeMap<&ServiceName, Vec<&'d ServiceName>> = BTreeMap::new();
    for (from, edges) in graph {
        for edge in edges {
            waiters.entry(&edge.to).or_default().push(from);
        }
    }
    let mut knots = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (number, root) in last_finished_first(graph).into_iter().enumerate() {
        let mut group = Vec::new();
        let mut stack = vec![root];
        while let Some(name) = stack.pop() {
            if seen.insert(name) {
                group.push(name);
                stack.extend(waiters.get(name).into_iter().flatten());
            }
        }
        if 1 < group.len() {
            knots.extend(group.into_iter().map(|name| (name, number)));
        }
    }
    knots
}

/// The services in the reverse order in which a depth-first walk leaves them.
fn last_finished_first<'d>(graph: &Graph<'d>) -> Vec<&'d ServiceName> {
    let mut finished = Vec::with_capacity(graph.len());
    let mut seen = BTreeSet::new();
    for root in graph.keys().copied() {
        if !seen.insert(root) {
            continue;
        }
        let mut path = vec![(root, 0)];
        while let Some((name, next)) = path.pop() {
            let Some(edge) = graph.get(name).and_then(|edges| edges.get(next)) else {
                finished.push(name);
                continue;
            };
            path.push((name, next + 1));
            if seen.insert(&edge.to) {
                path.push((&edge.to, 0));
            }
        }
    }
    finished.reverse();
    finished
}

/// The shortest way from a service back to itself, as (from, edge).
fn shortest_cycle<'d>(
    start: &'d ServiceName,
    graph: &Graph<'d>,
) -> Option<Vec<(&'d ServiceName, &'d Reference)>> {
    let mut reached: BTreeMap<&ServiceName, (&'d ServiceName, &'d Reference)> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(from) = queue.pop_front() {
        for edge in graph.get(from).into_iter().flatten() {
            if reached.contains_key(&edge.to) {
                continue;
            }
            reached.insert(&edge.to, (from, edge));
            if edge.to == *start {
                return Some(walk_back(start, &reached));
            }
            queue.push_back(&edge.to);
        }
    }
    None
}

fn walk_back<'d>(
    start: &'d ServiceName,
    reached: &BTreeMap<&ServiceName, (&'d ServiceName, &'d Reference)>,
) -> Vec<(&'d ServiceName, &'d Reference)> {
    let mut cycle = Vec::new();
    let mut at = start;
    while let Some((from, edge)) = reached.get(at) {
        cycle.push((*from, *edge));
        at = from;
        if at == start {
            break;
        }
    }
    cycle.reverse();
    cycle
}

fn report_cycle(cycle: &[(&ServiceName, &Reference)], faults: &mut Faults<'_>) {
    let Some((first, first_edge)) = cycle.first() else { return };
    let path: Vec<String> = cycle.iter().map(|(from, _)| format!("`{from}`")).collect();
    let path = path.join(" → ");
    let (all, each, why) = match first_edge.relation {
        Relation::After | Relation::Requires | Relation::Wants => {
            ("wait for", "waits for", "none of the services could ever be the first")
        }
        Relation::Depends => {
            ("depend on", "depends on", "nobody could tell which of the services is at fault")
        }
    };
    let message = format!("services {all} each other: {path} → `{first}`");
    let label = |from: &ServiceName, edge: &Reference| {
        format!("`{from}` {each} `{}` ({})", edge.to, edge.relation.as_str())
    };
    let fault = Fault::error("dependency-cycle", message)
        .at(first_edge.spot, label(first, first_edge))
        .help(format!("remove one of these references: {why}"));
    let rest = cycle.iter().skip(1).take(EDGES_SHOWN_MAX);
    faults.push(rest.fold(fault, |fault, (from, edge)| fault.also(edge.spot, label(from, edge))));
}

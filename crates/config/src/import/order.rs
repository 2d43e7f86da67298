//! `priority`: what starts before what.
//!
//! supervisord starts groups by their priority, and the programs of a group by theirs. We say it by
//! `after`: of the services with the next lower rank, those that start by themselves.

use super::service::{Rank, Service};
use std::collections::{BTreeMap, BTreeSet};

/// The names that each service starts after, in the order of `services`. Event listeners are not
/// waited for: what happens before they are ready waits for them.
pub(crate) fn after(services: &[Service]) -> Vec<Vec<String>> {
    let mut by_group: BTreeMap<(i64, &str), BTreeMap<i64, Vec<&Service>>> = BTreeMap::new();
    let mut by_priority: BTreeMap<i64, Vec<&Service>> = BTreeMap::new();
    for service in services.iter().filter(|service| !is_listener(service)) {
        let Rank { group_priority, group, priority } = &service.rank;
        by_priority.entry(*group_priority).or_default().push(service);
        let group = (*group_priority, group.as_str());
        by_group.entry(group).or_default().entry(*priority).or_default().push(service);
    }
    let below = |levels: &BTreeMap<i64, Vec<&Service>>, priority: i64| -> BTreeSet<String> {
        let starting = |level: &&Vec<&Service>| level.iter().any(|service| service.autostart);
        let level = levels.range(..priority).rev().map(|(_, level)| level).find(starting);
        level.into_iter().flatten().map(|service| service.name.clone()).collect()
    };
    let of = |service: &Service| -> Vec<String> {
        if is_listener(service) {
            return Vec::new();
        }
        let Rank { group_priority, group, priority } = &service.rank;
        let mut names = below(&by_priority, *group_priority);
        if let Some(group) = by_group.get(&(*group_priority, group.as_str())) {
            names.extend(below(group, *priority));
        }
        names.remove(&service.name);
        names.into_iter().collect()
    };
    services.iter().map(of).collect()
}

fn is_listener(service: &Service) -> bool {
    service.keys.iter().any(|(key, _)| *key == "event_listener")
}

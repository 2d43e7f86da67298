//! The runs of a realm, as far as the world is concerned: what is held for each while it lasts.
//!
//! An instance may have several runs alive at once: a successor beside one that is being drained,
//! or one that is kept for inspection. So everything that belongs to a run is known by the run: its
//! control group, its notify socket, its record, its jobs. What belongs to the instance (its output
//! pipes, its listening sockets) is shared by its runs.
//! Invariant: a run is in here from its spawn, or its adoption, to its release.

use super::hands::{Realm, RunKey};
use base::{InstanceId, Now, RunId};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use supervisor::{Pid, Readiness, ServiceSpec};
use sys::tree::Tree;
use tokio::task::AbortHandle;

/// One run.
pub(crate) struct Run {
    pub(crate) spec: Arc<ServiceSpec>,
    pub(crate) main: Option<(Pid, Arc<OwnedFd>)>,
    pub(crate) tree: Option<Arc<Mutex<Tree>>>,
    pub(crate) group: Option<sys::cgroup::Group>,
    /// Its first process, and those that were its main one.
    pub(crate) known: Vec<u32>,
    /// Processes of its group that the kernel had killed for its memory limit when last looked at.
    pub(crate) oom_kills: Option<u64>,
    pub(crate) since: Now,
    pub(crate) tasks: Vec<AbortHandle>,
    /// Which set of ports it has.
    pub(crate) slot: u16,
    /// The process that it named as its main one, while a hand looks whether it is its own.
    pub(crate) claim: Option<Claim>,
}

/// A service may name its main process as often as it likes: one question is under way at a time,
/// and only the latest name is asked about next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    pub(crate) asked: Pid,
    pub(crate) latest: Pid,
}

impl Run {
    /// A run of which nothing is known yet but what it is to be.
    pub(crate) fn new(spec: Arc<ServiceSpec>, since: Now) -> Self {
        Self {
            spec,
            main: None,
            tree: None,
            group: None,
            known: Vec::new(),
            oom_kills: None,
            since,
            tasks: Vec::new(),
            slot: 0,
            claim: None,
        }
    }
}

/// All runs of one realm.
pub(crate) struct Runs {
    realm: Realm,
    runs: BTreeMap<RunKey, Run>,
}

impl Runs {
    pub(crate) fn new(realm: Realm) -> Self {
        Self { realm, runs: BTreeMap::new() }
    }

    pub(crate) fn insert(&mut self, key: RunKey, run: Run) {
        self.runs.insert(key, run);
    }

    pub(crate) fn remove(&mut self, key: &RunKey) -> Option<Run> {
        self.runs.remove(key)
    }

    pub(crate) fn contains(&self, key: &RunKey) -> bool {
        self.runs.contains_key(key)
    }

    pub(crate) fn get(&self, key: &RunKey) -> Option<&Run> {
        self.runs.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &RunKey) -> Option<&mut Run> {
        self.runs.get_mut(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RunKey, &Run)> {
        self.runs.iter()
    }

    /// The runs of one instance, the eldest first.
    pub(crate) fn of(
        &self,
        instance: &InstanceId,
    ) -> impl DoubleEndedIterator<Item = (&RunKey, &Run)> {
        let key = |run| RunKey { realm: self.realm, instance: instance.clone(), run: RunId(run) };
        self.runs.range(key(0)..=key(u64::MAX))
    }

    /// The present run of an instance: the one that the core names, else the youngest.
    pub(crate) fn present(&self, instance: &InstanceId, named: Option<RunId>) -> Option<&Run> {
        let key = |run| RunKey { realm: self.realm, instance: instance.clone(), run };
        let named = named.and_then(|run| self.runs.get(&key(run)));
        named.or_else(|| self.of(instance).next_back().map(|(_, run)| run))
    }
}

/// Whether a service is given a socket to say things by (`sd_notify`(3)).
pub(crate) fn wants_notify(spec: &ServiceSpec) -> bool {
    spec.ready == Readiness::Notify || spec.watchdog.is_some() || spec.tolerance.is_told_counts()
}

/// The name of a run's control group. Run numbers are used once, so a group is never taken over:
/// nothing that was done to an earlier run can reach a process that is born in it.
pub(crate) fn group_name(instance: &InstanceId, run: RunId) -> String {
    format!("{instance}.{run}")
}

/// The run that a group's name was made of, if it was. A service's name may have dots in it, a run
/// number has none.
pub(crate) fn run_of_group(name: &str) -> Option<(InstanceId, RunId)> {
    let (instance, run) = name.rsplit_once('.')?;
    Some((instance.parse().ok()?, RunId(run.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(instance: &str, run: u64) -> RunKey {
        RunKey { realm: Realm::Services, instance: instance.parse().unwrap(), run: RunId(run) }
    }

    fn spec() -> Arc<ServiceSpec> {
        Arc::new(super::super::duties::duty_spec("true".to_owned(), "web").unwrap())
    }

    #[test]
    fn several_runs_of_an_instance_are_told_apart_and_one_is_the_present_one() {
        let mut runs = Runs::new(Realm::Services);
        for (key, since) in [(key("web", 7), 1), (key("web", 9), 2), (key("web-2", 8), 3)] {
            runs.insert(key, Run::new(spec(), Now::from_nanos(since)));
        }
        let web = "web".parse().unwrap();
        let since = |run: Option<&Run>| run.map(|run| run.since.as_nanos());
        assert_eq!(runs.of(&web).map(|(key, _)| key.run.0).collect::<Vec<_>>(), [7, 9]);
        assert_eq!(since(runs.present(&web, Some(RunId(7)))), Some(1));
        assert_eq!(since(runs.present(&web, None)), Some(2));
        // One that is not there yet, or not any more.
        assert_eq!(since(runs.present(&web, Some(RunId(10)))), Some(2));
        runs.remove(&key("web", 9));
        assert_eq!(since(runs.present(&web, Some(RunId(9)))), Some(1));
        assert_eq!(since(runs.present(&"other".parse().unwrap(), None)), None);
    }

    #[test]
    fn the_name_of_a_group_says_of_which_run_it_is() {
        for (instance, run) in [("web", 1), ("web:3", 2_000_000_017), ("a.5", u64::MAX)] {
            let instance: InstanceId = instance.parse().unwrap();
            let name = group_name(&instance, RunId(run));
            assert_eq!(run_of_group(&name), Some((instance, RunId(run))));
        }
        assert_eq!(run_of_group("web"), None);
        assert_eq!(run_of_group("web.x"), None);
        assert_eq!(run_of_group(".7"), None);
    }
}

//! What must hold in every world, looked at with every input and output.

use crate::world::Key;
use base::{InstanceId, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use supervisor::{EventKind, Input, Output, RunRecord, ServiceSpec};

#[derive(Default)]
pub(crate) struct Checks {
    pub(crate) trace: Vec<String>,
    /// Runs of this daemon's life that were begun, and whether they were released.
    runs: BTreeMap<Key, bool>,
    records: BTreeMap<Key, RunRecord>,
    highest_run: u64,
    restarts: BTreeMap<InstanceId, Vec<Now>>,
    specs: BTreeMap<base::ServiceName, Arc<ServiceSpec>>,
    /// How many other runs of an instance may be alive when one begins, by what was ever
    /// configured: one that serves, one about to be frozen or killed, and those that are kept.
    beside: BTreeMap<base::ServiceName, usize>,
    asked: BTreeSet<Key>,
    /// What has happened at all.
    pub(crate) kinds: BTreeSet<EventKind>,
    completed: u32,
}

impl Checks {
    pub(crate) fn new_life(&mut self) {
        self.runs.clear();
        self.asked.clear();
        self.restarts.clear();
        self.completed = 0;
        // The next daemon goes on from what the records say.
        self.highest_run = 0;
    }

    pub(crate) fn heard(&mut self, now: Now, input: &Input) {
        match input {
            Input::Configure(specs) => {
                self.specs.clone_from(specs);
                for (name, spec) in specs.iter().filter(|(_, spec)| spec.tolerance.is_in_use()) {
                    let kept = spec.tolerance.quarantine.map_or(0, |kept| usize::from(kept.max));
                    let most = self.beside.entry(name.clone()).or_default();
                    *most = (*most).max(2 + kept);
                }
                self.restarts.clear();
            }
            // Whoever asks for something gives a new budget to all that follows from it.
            Input::Command { .. } => self.restarts.clear(),
            Input::Adopt(adopted) => {
                self.runs.insert((adopted.instance.clone(), adopted.record.run), false);
            }
            Input::Probed { instance, run, .. } => {
                assert!(self.asked.remove(&(instance.clone(), *run)), "an answer to no question");
            }
            _ => {}
        }
        self.trace.push(format!("{} {input:?}", now.as_nanos()));
    }

    pub(crate) fn said(&mut self, now: Now, output: &Output, alive: impl Fn(&Key) -> bool) {
        assert_eq!(self.completed, 0, "nothing is done after the end: {output:?}");
        match output {
            Output::Persist { instance, record } => {
                self.records.insert((instance.clone(), record.run), record.clone());
            }
            Output::Spawn { instance, run, .. } => {
                let open = self.runs.iter().filter(|((id, _), over)| id == instance && !**over);
                let open = open.count();
                let beside = self.beside.get(&instance.service).copied().unwrap_or_default();
                assert!(open <= beside, "{instance} is spawned while {open} of it are alive");
                assert!(self.highest_run < run.0, "run numbers ascend (B2)");
                self.highest_run = run.0;
                let remembered = self.records.contains_key(&(instance.clone(), *run));
                assert!(remembered, "a run is remembered before it begins");
                self.runs.insert((instance.clone(), *run), false);
            }
            Output::Release { instance, run } => {
                let key = (instance.clone(), *run);
                assert!(!alive(&key), "{instance} is released although something of it is alive");
                assert_eq!(self.runs.insert(key, true), Some(false), "{instance}: released twice");
            }
            Output::Probe { instance, run, .. } => {
                let news = self.asked.insert((instance.clone(), *run));
                assert!(news, "{instance} is asked twice at once");
            }
            Output::Event(event) => {
                assert!(!event.message.ends_with('.'), "{}", event.message);
                self.kinds.insert(event.kind);
                if event.kind == EventKind::RestartScheduled {
                    self.restarted(now, &event.instance);
                }
            }
            Output::ShutdownComplete => {
                self.completed += 1;
                self.all_released();
            }
            _ => {}
        }
    }

    /// H26: never more restarts within the window than the budget says.
    fn restarted(&mut self, now: Now, instance: &InstanceId) {
        let Some(spec) = self.specs.get(&instance.service) else { return };
        let times = self.restarts.entry(instance.clone()).or_default();
        times.push(now);
        times.retain(|at| now.since(*at) < spec.restart.budget_window);
        assert!(times.len() <= spec.restart.budget as usize, "{instance} overdraws its budget");
    }

    pub(crate) fn all_released(&self) {
        let open: Vec<&Key> =
            self.runs.iter().filter(|(_, over)| !**over).map(|(key, _)| key).collect();
        assert!(open.is_empty(), "never released: {open:?}");
    }

    /// How many of an instance may run when another one begins.
    pub(crate) fn may_be_beside(&self, instance: &InstanceId) -> usize {
        self.beside.get(&instance.service).copied().unwrap_or_default().min(2)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.completed == 1
    }
}

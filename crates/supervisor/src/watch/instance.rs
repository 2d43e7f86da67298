//! One instance: its runs (two while a successor stands beside the old one), and what it depends
//! on. Here the question of blame is decided before a verdict is told.

use super::depend::{Counts, Dependencies, Seen};
use super::detector::{Hold, Watched};
use super::finding::Patience;
use super::run::{Context, Run};
use super::{Input, Output, Watch};
use crate::{Dependency, Mode};
use base::{InstanceId, Now, RunId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Runs of one instance: the old one, its successor, and what was forgotten. The oldest goes.
const RUNS_MAX: usize = 4;

/// Dependencies are asked at the pace of the samples, but not more often than this …
const DEPENDENCY_PAUSE_MIN: Duration = Duration::from_secs(1);

/// … and not less often than this.
const DEPENDENCY_PAUSE_MAX: Duration = Duration::from_mins(1);

/// One instance.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Instance {
    pub(super) id: InstanceId,
    runs: BTreeMap<RunId, Run>,
    depends: Arc<BTreeMap<String, Dependency>>,
    dependencies: Dependencies,
}

impl Instance {
    pub(super) fn new(id: InstanceId) -> Self {
        let dependencies = Dependencies::default();
        Self { id, runs: BTreeMap::new(), depends: Arc::default(), dependencies }
    }

    pub(super) fn watch(&mut self, watch: &Watch, context: &mut Context<'_>) {
        self.depends = Arc::clone(&watch.depends);
        match self.runs.get_mut(&watch.run) {
            Some(run) => {
                let tolerance = Arc::clone(&watch.tolerance);
                run.configure(&watch.instance, watch.mode, tolerance, context);
            }
            None => {
                self.runs.insert(watch.run, Run::new(watch, context));
            }
        }
        if RUNS_MAX < self.runs.len() {
            self.runs.pop_first();
        }
        self.set_dependencies(context.now);
    }

    pub(super) fn unwatch(&mut self, run: RunId, now: Now) {
        self.runs.remove(&run);
        self.set_dependencies(now);
    }

    pub(super) fn set_mode(&mut self, mode: Mode, context: &mut Context<'_>) {
        for run in self.runs.values_mut() {
            run.set_mode(&self.id, mode, context);
        }
        self.set_dependencies(context.now);
    }

    /// Nothing is asked for an instance that is not watched.
    fn set_dependencies(&mut self, now: Now) {
        let none = BTreeMap::new();
        let on = self.runs.values().any(|run| !run.is_off());
        let wanted = if on { &*self.depends } else { &none };
        let pace = self.pace().unwrap_or(DEPENDENCY_PAUSE_MAX);
        self.dependencies.set(now, wanted, pace.clamp(DEPENDENCY_PAUSE_MIN, DEPENDENCY_PAUSE_MAX));
    }

    /// An answer about one of its runs, or about what it depends on. One about a run that is not
    /// watched is ignored.
    pub(super) fn answered(&mut self, input: Input, context: &Context<'_>) {
        let now = context.now;
        let signs = self.signs().is_some();
        match input {
            Input::Sampled { run, result, .. } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.sampled(result, context);
                }
            }
            Input::Disk { run, detector, result, .. } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.disk(&detector, result, now);
                }
            }
            Input::Probed { run, detector, answer, took, .. } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.probed(&detector, answer, took, now);
                }
            }
            Input::Counted { run, source, result, .. } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.counted(&source, result, now);
                }
            }
            Input::Depended { dependency, answer, took, .. } => {
                let counts = counts(context.patience, signs);
                self.dependencies.answered(now, &dependency, Seen { answer, took, counts });
            }
            Input::Watch(_)
            | Input::Unwatch { .. }
            | Input::Mode { .. }
            | Input::Host(_)
            | Input::Tick => {}
        }
    }

    /// Judges, asks what is due, and tells what is news: first of the dependencies, then of the
    /// verdicts that they may explain.
    pub(super) fn turn(
        &mut self,
        now: Now,
        patience: Patience,
        doubt: bool,
        outputs: &mut Vec<Output>,
    ) {
        self.runs.values_mut().for_each(|run| run.judge(now, patience));
        let signs = self.signs();
        if let Some(signs) = signs {
            self.dependencies.hurry(now, signs);
        }
        let counts = counts(patience, signs.is_some());
        self.dependencies.turn(now, &self.id, counts, outputs);
        self.dependencies.tell(&self.id, outputs);
        let dependencies = &self.dependencies;
        let hold = |detector: &Watched| match detector.signs() {
            _ if !detector.is_suspect() || detector.stands_alone() => Hold::No,
            Some(signs) if !dependencies.answered_since(now, signs) => Hold::Dependencies,
            _ if doubt => Hold::Doubt,
            _ => Hold::No,
        };
        for run in self.runs.values_mut() {
            run.publish(now, &self.id, hold, outputs);
            run.turn(now, &self.id, outputs);
        }
    }

    /// Signs of a sickness that nothing explains yet.
    pub(super) fn unexplained(&self) -> Option<Now> {
        self.signs().filter(|_| !self.dependencies.to_blame())
    }

    fn signs(&self) -> Option<Now> {
        self.runs.values().filter_map(Run::signs).min()
    }

    /// All verdicts and dependencies as they stand.
    pub(super) fn snapshot(&self) -> Vec<Output> {
        let mut told: Vec<Output> = self.dependencies.snapshot(&self.id).collect();
        for run in self.runs.values() {
            told.extend(run.snapshot(&self.id));
        }
        told
    }

    /// The shortest pause between two samples.
    pub(super) fn pace(&self) -> Option<Duration> {
        self.runs.values().filter_map(Run::pace).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn is_off(&self) -> bool {
        self.runs.values().all(Run::is_off)
    }

    pub(super) fn wake(&self) -> Option<Now> {
        let runs = self.runs.values().filter_map(Run::wake);
        runs.chain(self.dependencies.wake()).min()
    }
}

fn counts(patience: Patience, signs: bool) -> Counts {
    match (patience, signs) {
        (Patience::Endless, _) => Counts::ForNothing,
        (Patience::Normal | Patience::Long, true) => Counts::Witnessed,
        (Patience::Normal | Patience::Long, false) => Counts::Once,
    }
}

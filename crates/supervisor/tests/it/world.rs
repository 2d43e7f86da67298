//! A simulated world around the core: its driver, its processes, the people, and time.
//!
//! Jobs are carried out late but in order for one instance, as the driver's hands do; answers come
//! back in any order; what a tree holds is seen when a job is carried out, not when it is told.
//! Everything is drawn from one seed.

use crate::bench::line;
use crate::check::Checks;
use crate::life::{Process, Tree};
use base::{Answer, InstanceId, Now, Rng, RunId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use supervisor::watch::{DependencyState, Verdict, VerdictState};
use supervisor::{
    Adopted, Exit, Input, Kind, NotifyMessage, Output, Pid, Readiness, RunRecord, RunRole,
    ServiceSpec, Supervisor,
};

pub(crate) type Key = (InstanceId, RunId);

/// What will happen, in order of time; the number keeps things of one time apart.
type Agenda<T> = BTreeMap<(Now, u64), T>;

pub(crate) struct World {
    pub(crate) core: Supervisor,
    pub(crate) now: Now,
    pub(crate) rng: Rng,
    pub(crate) specs: BTreeMap<base::ServiceName, Arc<ServiceSpec>>,
    pub(crate) trees: BTreeMap<Key, Tree>,
    pub(crate) checks: Checks,
    /// From now on processes do what is expected of them.
    pub(crate) good: bool,
    /// What the core would find after the daemon's death.
    pub(crate) records: BTreeMap<Key, RunRecord>,
    /// What the core wants watched.
    pub(crate) watched: BTreeMap<InstanceId, RunId>,
    jobs: Agenda<Output>,
    answers: Agenda<Input>,
    busy_until: BTreeMap<InstanceId, Now>,
    number: u64,
    next_pid: u32,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            core: Supervisor::new(seed, RunId(1)),
            now: Now::from_millis(5_000),
            rng: Rng::new(seed ^ 0x5EED),
            specs: BTreeMap::new(),
            trees: BTreeMap::new(),
            checks: Checks::default(),
            good: false,
            records: BTreeMap::new(),
            watched: BTreeMap::new(),
            jobs: Agenda::new(),
            answers: Agenda::new(),
            busy_until: BTreeMap::new(),
            number: 0,
            next_pid: 100,
        }
    }

    /// One input, and all that the core wants done about it.
    pub(crate) fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        self.checks.heard(self.now, &input);
        let tick = input == Input::Tick;
        self.core.handle(self.now, input, &mut out);
        if tick {
            let next = self.core.next_wake();
            assert!(next.is_none_or(|next| self.now < next), "a tick without progress");
        }
        for output in out {
            let trees = &self.trees;
            self.checks.said(self.now, &output, |key| trees.contains_key(key));
            self.checks.trace.push(format!("{} {}", self.now.as_nanos(), line(&output)));
            self.take(output);
        }
    }

    /// What everything waits for, for a person who reads why a test failed.
    pub(crate) fn why_not(&self) -> Vec<String> {
        let seen = self.core.snapshot();
        let words = seen.iter().map(|seen| {
            let because: Vec<&str> = seen.because.iter().map(|(_, why)| why.as_str()).collect();
            format!("{} {:?} {:?} {because:?}", seen.instance, seen.phase, seen.wish)
        });
        words.collect()
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Persist { instance, record } => {
                if record.role == RunRole::Present {
                    // One record of a present run is enough: the youngest.
                    self.records.retain(|(id, run), old| {
                        *id != instance || old.role != RunRole::Present || record.run <= *run
                    });
                }
                self.records.insert((instance, record.run), record);
            }
            Output::Forget { instance } => {
                self.records.retain(|(id, _), _| *id != instance);
            }
            Output::Release { instance, run } => {
                let key = (instance, run);
                if self.records.get(&key).is_some_and(|old| old.role != RunRole::Present) {
                    self.records.remove(&key);
                }
            }
            Output::Watch { instance, run, .. } => {
                self.watched.insert(instance, run);
            }
            Output::Unwatch { instance, run } => {
                assert_eq!(self.watched.remove(&instance), Some(run), "{instance}: not watched");
            }
            Output::Gather { instance, run, .. } => {
                let result = match self.rng.below(4) {
                    0 => return,
                    1 => Err("the disk is full".to_owned()),
                    _ => Ok(format!("{instance}-{run}")),
                };
                let at = self.soon(3_000);
                self.answer(at, Input::Gathered { instance, run, result });
            }
            Output::CountConnections { instance, run } => {
                let open = match self.rng.below(4) {
                    0 => None,
                    left => Some(left as u32 - 1),
                };
                let at = self.soon(30);
                self.answer(at, Input::Connections { instance, run, open });
            }
            Output::Attach { .. }
            | Output::Relog { .. }
            | Output::Event(_)
            | Output::ShutdownComplete => {}
            Output::Probe { .. } | Output::RunCommand { .. } => {
                // These take their time beside the others.
                let at = self.soon(1_500);
                self.plan_job(at, output);
            }
            Output::Spawn { ref instance, .. }
            | Output::FindMain { ref instance, .. }
            | Output::Signal { ref instance, .. }
            | Output::SignalTree { ref instance, .. }
            | Output::KillTree { ref instance, .. }
            | Output::Freeze { ref instance, .. }
            | Output::InspectTree { ref instance, .. } => {
                let instance = instance.clone();
                let at = self.soon(40);
                let free = self.busy_until.get(&instance).copied().unwrap_or(Now::ZERO);
                let at = at.max(free);
                self.busy_until.insert(instance, at);
                self.plan_job(at, output);
            }
        }
    }

    fn soon(&mut self, millis_max: u64) -> Now {
        self.now + Duration::from_micros(self.rng.below(millis_max * 1_000))
    }

    fn plan_job(&mut self, at: Now, output: Output) {
        self.number += 1;
        self.jobs.insert((at, self.number), output);
    }

    pub(crate) fn answer(&mut self, at: Now, input: Input) {
        self.number += 1;
        self.answers.insert((at, self.number), input);
    }

    /// The next thing that happens by itself, if it does before `until`.
    pub(crate) fn step(&mut self, until: Now) -> bool {
        let job = self.jobs.first_key_value().map(|((at, _), _)| *at);
        let answer = self.answers.first_key_value().map(|((at, _), _)| *at);
        let ends = self.trees.iter().filter_map(|(key, tree)| Some((tree.next_end()?, key)));
        let end = ends.min_by_key(|((at, pid, _), _)| (*at, *pid));
        let end = end.map(|((at, pid, exit), key)| (at.max(self.now), pid, exit, key.clone()));
        let wake = self.core.next_wake().map(|at| at.max(self.now));
        let first = [job, answer, end.as_ref().map(|end| end.0), wake];
        let Some(at) = first.into_iter().flatten().min().filter(|at| *at <= until) else {
            self.now = until.max(self.now);
            return false;
        };
        self.now = at.max(self.now);
        if job == Some(at) {
            if let Some((_, output)) = self.jobs.pop_first() {
                self.carry_out(output);
            }
        } else if let Some((_, pid, exit, key)) = end.filter(|end| end.0 == at) {
            self.process_ends(&key, pid, exit);
        } else if answer == Some(at) {
            if let Some((_, input)) = self.answers.pop_first() {
                self.tell(input);
            }
        } else {
            self.tell(Input::Tick);
        }
        true
    }

    pub(crate) fn run_until(&mut self, until: Now) {
        let mut steps = 0;
        while self.step(until) {
            steps += 1;
            assert!(steps < 2_000_000, "the world does not come to rest");
        }
    }

    fn process_ends(&mut self, key: &Key, pid: Pid, exit: Exit) {
        let told = self.soon(20);
        let Some(tree) = self.trees.get_mut(key) else { return };
        let Some(process) = tree.alive.remove(&pid) else { return };
        for _ in 0..process.leaves {
            self.next_pid += 1;
            let mut child = Process::draw(&mut self.rng, self.now, self.good);
            child.leaves = 0;
            tree.alive.insert(Pid(self.next_pid), child);
        }
        let watched = tree.watched.contains(&pid);
        if tree.alive.is_empty() {
            self.trees.remove(key);
        }
        if watched {
            let (instance, run) = key.clone();
            self.answer(told, Input::Exited { instance, run, pid, exit });
        }
    }

    fn carry_out(&mut self, job: Output) {
        match job {
            Output::Spawn { instance, run, spec, .. } => self.spawn(instance, run, &spec),
            Output::Freeze { instance, run } => {
                let failed = self.rng.below(5) == 0;
                if let Some(tree) = self.trees.get_mut(&(instance.clone(), run)) {
                    tree.frozen = !failed;
                }
                let result = if failed { Err("no freezer".to_owned()) } else { Ok(()) };
                self.tell(Input::Frozen { instance, run, result });
            }
            Output::FindMain { instance, run } => self.find_main(instance, run),
            Output::Signal { instance, run, pid, signal } => {
                let tree = self.trees.get_mut(&(instance, run));
                if let Some(process) = tree.and_then(|tree| tree.alive.get_mut(&pid)) {
                    process.signal(self.now, signal);
                }
            }
            Output::SignalTree { instance, run, signal } => {
                self.signal_tree(&instance, run, signal);
                self.tell_tree(instance, run);
            }
            Output::KillTree { instance, run } => {
                self.signal_tree(&instance, run, 9);
                self.tell_tree(instance, run);
            }
            Output::InspectTree { instance, run } => self.tell_tree(instance, run),
            Output::RunCommand { instance, run, .. } => {
                let failed = self.rng.below(3) == 0;
                let result = if failed { Err("it failed".to_owned()) } else { Ok(()) };
                self.tell(Input::CommandEnded { instance, run, result });
            }
            Output::Probe { instance, run, .. } => {
                let ready = self.trees.get(&(instance.clone(), run)).and_then(|tree| tree.ready);
                let answer = match ready {
                    Some(ready) if ready <= self.now => Answer::Yes,
                    Some(_) => Answer::No("refused".into()),
                    None => Answer::CannotTell("nobody there".into()),
                };
                self.tell(Input::Probed { instance, run, answer });
            }
            _ => {}
        }
    }

    fn spawn(&mut self, instance: InstanceId, run: RunId, spec: &ServiceSpec) {
        let at = self.soon(30);
        if !self.good && self.rng.below(10) == 0 {
            let permanent = self.rng.below(4) == 0;
            let reason = "no such file".to_owned();
            return self.answer(at, Input::SpawnFailed { instance, run, reason, permanent });
        }
        let rivals = self.trees.iter().filter(|((other, _), tree)| {
            other.service == instance.service && other.number() == instance.number() && !tree.frozen
        });
        let rivals: Vec<&Key> = rivals.map(|(key, _)| key).collect();
        // A successor may begin beside one that serves, and one may be about to be frozen.
        let beside = self.checks.may_be_beside(&instance);
        assert!(rivals.len() <= beside, "{instance} is spawned although {rivals:?} is alive");
        self.next_pid += 1;
        let pid = Pid(self.next_pid);
        let tree = Tree::draw(&mut self.rng, self.now, &spec.kind, pid, self.good);
        if let (Some(ready), Readiness::Notify) = (tree.ready, &spec.ready) {
            let ready = ready.max(at);
            let (instance, message) = (instance.clone(), NotifyMessage::Ready);
            self.answer(ready, Input::Notify { instance, run, message });
        }
        self.trees.insert((instance.clone(), run), tree);
        // Its end is never told before its beginning: the driver learns of both in order.
        self.tell(Input::Spawned { instance, run, pid });
    }

    fn find_main(&mut self, instance: InstanceId, run: RunId) {
        let at = self.soon(20);
        let found = self.trees.get_mut(&(instance.clone(), run)).and_then(|tree| {
            let pid = *tree.alive.keys().next()?;
            tree.watched.push(pid);
            Some(pid)
        });
        let main = found.ok_or_else(|| "no process of it is alive".to_owned());
        if found.is_some() {
            // Watched from the moment that its being found is told.
            return self.tell(Input::MainFound { instance, run, main });
        }
        self.answer(at, Input::MainFound { instance, run, main });
    }

    fn signal_tree(&mut self, instance: &InstanceId, run: RunId, signal: i32) {
        if let Some(tree) = self.trees.get_mut(&(instance.clone(), run)) {
            for process in tree.alive.values_mut() {
                process.signal(self.now, signal);
            }
            // What can be killed is gone when the look comes that follows a kill.
            if signal == 9 {
                let now = self.now;
                while let Some((at, pid, exit)) =
                    self.trees.get(&(instance.clone(), run)).and_then(Tree::next_end)
                {
                    if now < at {
                        return;
                    }
                    self.process_ends(&(instance.clone(), run), pid, exit);
                }
            }
        }
    }

    fn tell_tree(&mut self, instance: InstanceId, run: RunId) {
        let tree = self.trees.get(&(instance.clone(), run));
        let now = self.now;
        let alive: Vec<Pid> =
            tree.into_iter().flat_map(|tree| tree.alive.keys().copied()).collect();
        let unkillable = tree
            .into_iter()
            .flat_map(|tree| &tree.alive)
            .filter(|(_, process)| now < process.stuck_until)
            .map(|(pid, _)| (*pid, "io_schedule".to_owned()))
            .collect();
        let at = self.soon(30);
        self.answer(at, Input::Tree { instance, run, alive, unkillable });
    }

    /// The daemon dies; what it was about to do is lost. Another one takes over.
    pub(crate) fn daemon_dies(&mut self) {
        self.jobs.clear();
        self.answers.clear();
        self.busy_until.clear();
        self.checks.new_life();
        self.watched.clear();
        let seen = self.records.values().map(|record| record.run.0);
        let last = seen.chain(self.trees.keys().map(|(_, run)| run.0)).max().unwrap_or(0);
        self.core = Supervisor::new(self.rng.next_u64(), RunId(last + 1));
        self.checks.trace.push("the daemon dies".into());
        self.tell(Input::Configure(self.specs.clone()));
        // As the driver does: runs that no record names are killed before anything is spawned.
        let records = self.records.clone();
        self.trees.retain(|key, _| records.contains_key(key));
        // The youngest first.
        for ((instance, _), record) in records.into_iter().rev() {
            if !self.core.snapshot().iter().any(|seen| seen.instance == instance) {
                let key = (instance, record.run);
                self.trees.remove(&key);
                self.records.remove(&key);
                continue;
            }
            let tree = self.trees.get_mut(&(instance.clone(), record.run));
            let alive = tree.as_ref().and_then(|tree| match record.main {
                Some(main) => tree.alive.contains_key(&main).then_some(main),
                None => tree.alive.keys().next().copied(),
            });
            if let (Some(tree), Some(pid)) = (tree, alive) {
                tree.watched = vec![pid];
            }
            let age = Duration::from_secs(self.rng.below(100));
            let outdated = self.rng.below(10) == 0;
            self.tell(Input::Adopt(Adopted { instance, record, alive, age, outdated }));
        }
        self.tell(Input::Begin);
    }

    /// Every detector, every dependency and the host say that all is well.
    pub(crate) fn all_is_well(&mut self) {
        self.tell(Input::Pressure(None));
        for seen in self.core.snapshot() {
            for (name, ..) in seen.dependencies {
                let (instance, message) = (seen.instance.clone(), "it answers".to_owned());
                let state = DependencyState::Up;
                self.tell(Input::Depends { instance, name, state, message });
            }
            let Some(run) = seen.run else { continue };
            for verdict in seen.verdicts {
                let verdict = Verdict { state: VerdictState::Well, ..verdict };
                self.tell(Input::Verdict { instance: seen.instance.clone(), run, verdict });
            }
        }
    }

    /// Everything that is alive becomes well-behaved.
    pub(crate) fn calm(&mut self) {
        self.good = true;
        let now = self.now;
        let kinds: BTreeMap<Key, Kind> = self
            .trees
            .keys()
            .filter_map(|key| Some((key.clone(), self.specs.get(&key.0.service)?.kind.clone())))
            .collect();
        for (key, tree) in &mut self.trees {
            tree.ready.get_or_insert(now);
            let simple = kinds.get(key) == Some(&Kind::Simple);
            for process in tree.alive.values_mut() {
                process.stuck_until = process.stuck_until.min(now);
                if simple && !process.killed {
                    process.end = None;
                }
            }
        }
    }
}

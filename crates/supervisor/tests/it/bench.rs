//! A core on the bench: inputs as words, outputs as lines of text that can be compared.

use crate::specs::{config, id, verdict};
use base::{Answer, Now, RunId};
use std::collections::BTreeMap;
use std::time::Duration;
use supervisor::watch::{DependencyState, Verdict, VerdictState};
use supervisor::{
    Action, Adopted, Exit, Input, InstanceSnapshot, NotifyMessage, Output, Phase, Pid, RunRecord,
    RunRole, ServiceSpec, ShutdownMode, Supervisor, Wish,
};

pub(crate) struct Bench {
    pub(crate) core: Supervisor,
    pub(crate) now: Now,
    runs: BTreeMap<String, RunId>,
}

impl Bench {
    /// Configured, and nothing begun.
    pub(crate) fn with(specs: impl IntoIterator<Item = ServiceSpec>) -> Self {
        let core = Supervisor::new(1, RunId(1));
        let mut bench = Self { core, now: Now::from_millis(1_000), runs: BTreeMap::new() };
        assert_eq!(bench.configure(specs), [""; 0]);
        bench
    }

    /// Configured, begun, and every first spawn is under way.
    pub(crate) fn of(specs: impl IntoIterator<Item = ServiceSpec>) -> Self {
        let mut bench = Self::with(specs);
        bench.begin();
        bench
    }

    /// One service that runs as pid 10.
    pub(crate) fn running(spec: ServiceSpec) -> Self {
        let name = spec.name.to_string();
        let mut bench = Self::of([spec]);
        bench.spawned(&name, 10);
        assert_eq!(bench.phase(&name), Phase::Running);
        bench
    }

    /// All of these run, as pids 10, 11, … in the order given.
    pub(crate) fn all_running(specs: impl IntoIterator<Item = ServiceSpec>) -> Self {
        let specs: Vec<ServiceSpec> = specs.into_iter().collect();
        let ids: Vec<String> =
            specs.iter().flat_map(ServiceSpec::instance_ids).map(|id| id.to_string()).collect();
        let mut bench = Self::of(specs);
        for (id, pid) in ids.iter().zip(10..) {
            bench.spawned(id, pid);
        }
        for id in &ids {
            assert_eq!(bench.phase(id), Phase::Running, "{id}");
        }
        bench
    }

    /// Takes one input; all outputs.
    pub(crate) fn raw(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.core.handle(self.now, input, &mut out);
        for output in &out {
            if let Output::Spawn { instance, run, .. } | Output::Attach { instance, run, .. } =
                output
            {
                self.runs.insert(instance.to_string(), *run);
            }
        }
        out
    }

    /// Takes one input; what is done about it, without what is remembered.
    pub(crate) fn give(&mut self, input: Input) -> Vec<String> {
        let out = self.raw(input);
        out.iter().filter(|o| !matches!(o, Output::Persist { .. })).map(line).collect()
    }

    pub(crate) fn configure(
        &mut self,
        specs: impl IntoIterator<Item = ServiceSpec>,
    ) -> Vec<String> {
        self.give(Input::Configure(config(specs)))
    }

    pub(crate) fn begin(&mut self) -> Vec<String> {
        self.give(Input::Begin)
    }

    pub(crate) fn run(&self, name: &str) -> RunId {
        *self.runs.get(name).unwrap_or_else(|| panic!("{name} was never spawned"))
    }

    pub(crate) fn spawned(&mut self, name: &str, pid: u32) -> Vec<String> {
        let run = self.run(name);
        self.give(Input::Spawned { instance: id(name), run, pid: Pid(pid) })
    }

    pub(crate) fn spawn_failed(
        &mut self,
        name: &str,
        reason: &str,
        permanent: bool,
    ) -> Vec<String> {
        let (run, reason) = (self.run(name), reason.to_owned());
        self.give(Input::SpawnFailed { instance: id(name), run, reason, permanent })
    }

    pub(crate) fn exited(&mut self, name: &str, pid: u32, exit: Exit) -> Vec<String> {
        let run = self.run(name);
        self.give(Input::Exited { instance: id(name), run, pid: Pid(pid), exit })
    }

    pub(crate) fn tree(&mut self, name: &str, alive: &[u32]) -> Vec<String> {
        let run = self.run(name);
        let alive = alive.iter().copied().map(Pid).collect();
        self.give(Input::Tree { instance: id(name), run, alive, unkillable: Vec::new() })
    }

    pub(crate) fn tree_stuck(&mut self, name: &str, pid: u32, wait: &str) -> Vec<String> {
        let run = self.run(name);
        let (alive, unkillable) = (vec![Pid(pid)], vec![(Pid(pid), wait.to_owned())]);
        self.give(Input::Tree { instance: id(name), run, alive, unkillable })
    }

    /// It exits and leaves nothing.
    pub(crate) fn ends(&mut self, name: &str, pid: u32, exit: Exit) -> Vec<String> {
        let mut lines = self.exited(name, pid, exit);
        lines.extend(self.tree(name, &[]));
        lines
    }

    pub(crate) fn main_found(&mut self, name: &str, main: Result<u32, &str>) -> Vec<String> {
        let run = self.run(name);
        let main = main.map(Pid).map_err(str::to_owned);
        self.give(Input::MainFound { instance: id(name), run, main })
    }

    pub(crate) fn says(&mut self, name: &str, message: NotifyMessage) -> Vec<String> {
        let run = self.run(name);
        self.give(Input::Notify { instance: id(name), run, message })
    }

    pub(crate) fn probed(&mut self, name: &str, answer: Answer) -> Vec<String> {
        let run = self.run(name);
        self.give(Input::Probed { instance: id(name), run, answer })
    }

    /// A detector of the present run says something.
    pub(crate) fn detects(&mut self, name: &str, verdict: Verdict) -> Vec<String> {
        let run = self.seen(name).run.unwrap_or(RunId(0));
        self.give(Input::Verdict { instance: id(name), run, verdict })
    }

    /// It is sick: see [`verdict`].
    pub(crate) fn sick(&mut self, name: &str, detector: &str) -> Vec<String> {
        let verdict = verdict(detector, VerdictState::Sick, self.now);
        self.detects(name, verdict)
    }

    /// It is well again.
    pub(crate) fn well(&mut self, name: &str, detector: &str) -> Vec<String> {
        let verdict = verdict(detector, VerdictState::Well, self.now);
        self.detects(name, verdict)
    }

    /// Evidence of a run is there.
    pub(crate) fn gathered(&mut self, name: &str, run: RunId, bundle: &str) -> Vec<String> {
        let result = Ok(bundle.to_owned());
        self.give(Input::Gathered { instance: id(name), run, result })
    }

    /// So many connections of a run are open.
    pub(crate) fn open(&mut self, name: &str, run: RunId, open: u32) -> Vec<String> {
        self.give(Input::Connections { instance: id(name), run, open: Some(open) })
    }

    /// A run that need not be the present one exits, and leaves nothing.
    pub(crate) fn run_ends(&mut self, name: &str, run: RunId, pid: u32) -> Vec<String> {
        let (instance, exit) = (id(name), Exit::Signal(15));
        let mut lines = self.give(Input::Exited { instance, run, pid: Pid(pid), exit });
        lines.extend(self.run_is_gone(name, run));
        lines
    }

    /// Nothing of a run is alive.
    pub(crate) fn run_is_gone(&mut self, name: &str, run: RunId) -> Vec<String> {
        let (alive, unkillable) = (Vec::new(), Vec::new());
        self.give(Input::Tree { instance: id(name), run, alive, unkillable })
    }

    pub(crate) fn depends(&mut self, name: &str, on: &str, state: DependencyState) -> Vec<String> {
        let message = format!("so says {on}");
        self.give(Input::Depends { instance: id(name), name: on.to_owned(), state, message })
    }

    pub(crate) fn pressure(&mut self, reason: Option<&str>) -> Vec<String> {
        self.give(Input::Pressure(reason.map(str::to_owned)))
    }

    pub(crate) fn health(&self, name: &str) -> &'static str {
        self.seen(name).health.as_str()
    }

    pub(crate) fn command_ended(&mut self, name: &str, result: Result<(), &str>) -> Vec<String> {
        let run = self.run(name);
        let result = result.map_err(str::to_owned);
        self.give(Input::CommandEnded { instance: id(name), run, result })
    }

    pub(crate) fn ask(&mut self, action: Action, name: &str) -> Vec<String> {
        let lines =
            self.give(Input::Command { targets: vec![id(name)], action, by: "ada".to_owned() });
        assert!(lines[0].starts_with("service.command: ada asked to "), "{}", lines[0]);
        lines[1..].to_vec()
    }

    pub(crate) fn shutdown(&mut self, mode: ShutdownMode) -> Vec<String> {
        self.give(Input::Shutdown(mode))
    }

    pub(crate) fn adopt(
        &mut self,
        name: &str,
        wish: Wish,
        ready: bool,
        alive: Option<u32>,
    ) -> Vec<String> {
        self.adopt_as(name, wish, ready, alive, false)
    }

    pub(crate) fn adopt_as(
        &mut self,
        name: &str,
        wish: Wish,
        ready: bool,
        alive: Option<u32>,
        outdated: bool,
    ) -> Vec<String> {
        // What is not alive any more was, as pid 9.
        self.adopt_recorded(name, (wish, ready), Some(alive.unwrap_or(9)), alive, outdated)
    }

    /// As it was recorded: `main` may not have been known yet.
    pub(crate) fn adopt_recorded(
        &mut self,
        name: &str,
        (wish, ready): (Wish, bool),
        main: Option<u32>,
        alive: Option<u32>,
        outdated: bool,
    ) -> Vec<String> {
        let run = RunId(90 + self.runs.len() as u64);
        self.runs.insert(name.to_owned(), run);
        let (slot, role) = (0, RunRole::Present);
        let main = main.map(Pid);
        let record = RunRecord { run, main, ready, wish, restarts: 0, slot, role };
        let age = Duration::from_millis(400);
        let alive = alive.map(Pid);
        self.give(Input::Adopt(Adopted { instance: id(name), record, alive, age, outdated }))
    }

    /// Time passes; the core is woken whenever it wants to be.
    pub(crate) fn after(&mut self, pause: Duration) -> Vec<String> {
        let until = self.now + pause;
        let mut lines = Vec::new();
        while let Some(wake) = self.core.next_wake().filter(|wake| *wake <= until) {
            self.now = wake.max(self.now);
            lines.extend(self.give(Input::Tick));
            let next = self.core.next_wake();
            assert!(next.is_none_or(|next| self.now < next), "a tick without progress");
        }
        self.now = until;
        lines
    }

    pub(crate) fn after_ms(&mut self, millis: u64) -> Vec<String> {
        self.after(Duration::from_millis(millis))
    }

    pub(crate) fn seen(&self, name: &str) -> InstanceSnapshot {
        self.core.why(&id(name)).unwrap_or_else(|| panic!("there is no {name}"))
    }

    pub(crate) fn phase(&self, name: &str) -> Phase {
        self.seen(name).phase
    }

    /// The causal chain, as sentences.
    pub(crate) fn because(&self, name: &str) -> Vec<String> {
        self.seen(name).because.into_iter().map(|(_, why)| why).collect()
    }
}

/// One output in words.
pub(crate) fn line(output: &Output) -> String {
    match output {
        Output::Persist { instance, record } => format!(
            "remember {instance}: run {}, main {:?}, ready {}, {:?}",
            record.run,
            record.main.map(|pid| pid.0),
            record.ready,
            record.wish
        ),
        Output::Forget { instance } => format!("forget {instance}"),
        Output::Spawn { instance, run, .. } => format!("spawn {instance} as run {run}"),
        Output::Attach { instance, run, pid, .. } => {
            format!("attach {instance}, run {run}, pid {}", pid.0)
        }
        Output::FindMain { instance, .. } => format!("find main of {instance}"),
        Output::Signal { instance, pid, signal, .. } => {
            format!("signal {signal} to pid {} of {instance}", pid.0)
        }
        Output::SignalTree { instance, signal, .. } => {
            format!("signal {signal} to all of {instance}")
        }
        Output::KillTree { instance, .. } => format!("kill all of {instance}"),
        Output::InspectTree { instance, .. } => format!("look at {instance}"),
        Output::RunCommand { instance, argv, timeout, main, .. } => {
            let main = main.map(|pid| pid.0);
            format!("run `{}` for {instance}, main {main:?}, {timeout:?}", argv.join(" "))
        }
        Output::Probe { instance, probe, timeout, .. } => {
            format!("probe {instance}: {probe:?}, {timeout:?}")
        }
        Output::Watch { instance, run, mode } => {
            format!("watch {instance}, run {run}: {}", mode.as_str())
        }
        Output::Unwatch { instance, run } => format!("unwatch {instance}, run {run}"),
        Output::Gather { instance, run, budget, .. } => {
            format!("gather evidence of {instance}, run {run}, {budget:?}")
        }
        Output::CountConnections { instance, run } => {
            format!("count connections of {instance}, run {run}")
        }
        Output::Freeze { instance, run } => format!("freeze {instance}, run {run}"),
        Output::Release { instance, run } => format!("release {instance}, run {run}"),
        Output::Relog { instance, .. } => format!("relog {instance}"),
        Output::Event(event) => format!("{}: {}", event.kind.as_str(), event.message),
        Output::ShutdownComplete => "shutdown complete".to_owned(),
    }
}

/// Only the lines that do something: no events.
pub(crate) fn deeds(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).filter(|line| !line.starts_with("service.")).collect()
}

//! Carries out what the core asks for: each output becomes a job for a hand, a task, or an event.

use super::driver::{Driver, Watched};
use super::hands::{Job, Realm, RunKey, TreeWork};
use super::launch::{Launch, Output as Streams, Tracking, render_argv};
use super::records::{self, StoredRecord};
use super::runs::{Run, wants_notify};
use base::{InstanceId, RunId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use supervisor::{Input, Output, Pid, RunRecord, RunRole, ServiceSpec};

/// Drops records that are written anew a moment later: between the two nothing is done that the
/// first one has to be there for. What ends and is started again at once makes two of them.
pub(crate) fn drop_superseded(outputs: &mut Vec<Output>) {
    let is_record = |output: &&Output| matches!(output, Output::Persist { .. });
    if outputs.iter().filter(is_record).count() < 2 {
        return;
    }
    let mut written_later: BTreeMap<InstanceId, RunId> = BTreeMap::new();
    let mut kept: Vec<Output> = Vec::with_capacity(outputs.len());
    for output in outputs.drain(..).rev() {
        match &output {
            Output::Persist { instance, record } if record.role == RunRole::Present => {
                if written_later.insert(instance.clone(), record.run).is_some() {
                    continue;
                }
            }
            // The record of a run beside the present one, which may have been the present one.
            Output::Persist { instance, record } => {
                if written_later.get(instance) == Some(&record.run) {
                    written_later.remove(instance);
                }
            }
            Output::Event(_)
            | Output::Release { .. }
            | Output::Watch { .. }
            | Output::Unwatch { .. } => {}
            Output::ShutdownComplete => written_later.clear(),
            Output::Forget { instance }
            | Output::Spawn { instance, .. }
            | Output::Attach { instance, .. }
            | Output::FindMain { instance, .. }
            | Output::Signal { instance, .. }
            | Output::SignalTree { instance, .. }
            | Output::KillTree { instance, .. }
            | Output::InspectTree { instance, .. }
            | Output::RunCommand { instance, .. }
            | Output::Probe { instance, .. }
            | Output::Gather { instance, .. }
            | Output::CountConnections { instance, .. }
            | Output::Freeze { instance, .. }
            | Output::Relog { instance, .. } => {
                written_later.remove(instance);
            }
        }
        kept.push(output);
    }
    kept.reverse();
    *outputs = kept;
}

/// Whether the kernel says at once that nothing is in the group of a run: after the end of a single
/// process that is the rule, and spares the way to a hand and back. A small read from memory, which
/// waits for nothing. Where there is a memory limit, a hand has to look at its counter as well.
fn is_seen_empty(run: &Run) -> bool {
    let Some(tree) = run.tree.as_ref().filter(|_| run.spec.process.limits.memory.is_none()) else {
        return false;
    };
    // It is locked while it is being killed.
    let Ok(tree) = tree.try_lock() else { return false };
    let group = tree.group.as_ref().filter(|group| group.tells_at_once());
    group.is_some_and(|group| group.members().is_ok_and(|members| members.is_empty()))
}

impl Driver {
    pub(crate) fn carry_out(&mut self, realm: Realm, output: Output) {
        let key = |instance, run| RunKey { realm, instance, run };
        match output {
            Output::Persist { instance, record } => self.persist(realm, &instance, &record),
            Output::Forget { instance } => self.forget(realm, &instance),
            Output::Spawn { instance, run, slot, spec } => {
                self.spawn(key(instance, run), slot, spec);
            }
            Output::Attach { instance, run, pid, spec } => {
                self.attach(key(instance, run), pid, spec);
            }
            Output::FindMain { instance, run } => self.find_main(key(instance, run)),
            Output::Signal { instance, run, pid, signal } => {
                self.signal(key(instance, run), pid, signal);
            }
            Output::SignalTree { instance, run, signal } => {
                self.tree_work(key(instance, run), TreeWork::Signal(signal));
            }
            Output::KillTree { instance, run } => {
                self.tree_work(key(instance, run), TreeWork::Kill);
            }
            Output::InspectTree { instance, run } => {
                self.tree_work(key(instance, run), TreeWork::Inspect);
            }
            Output::RunCommand { instance, run, argv, timeout, main } => {
                self.run_command(key(instance, run), argv, timeout, main);
            }
            Output::Probe { instance, run, probe, timeout } => {
                self.probe(key(instance, run), probe, timeout);
            }
            Output::Release { instance, run } => self.release(&key(instance, run)),
            Output::Relog { instance, spec } => self.duties.watch_log(&instance, &spec),
            Output::Watch { instance, run, mode } => self.watch_run(key(instance, run), mode),
            Output::Unwatch { instance, run } => self.unwatch_run(&key(instance, run)),
            Output::Gather { instance, run, cause, budget } => {
                self.gather(key(instance, run), cause, budget);
            }
            Output::CountConnections { instance, run } => {
                self.count_connections(key(instance, run));
            }
            Output::Freeze { instance, run } => self.freeze(key(instance, run)),
            Output::Event(event) => {
                if realm == Realm::Services {
                    self.note_event(&event);
                }
                let subject = match realm {
                    Realm::Services => event.instance.to_string(),
                    Realm::Duties => format!("duty/{}", event.instance),
                };
                self.events.core_event(&subject, event);
            }
            Output::ShutdownComplete => {
                if let Some(ending) = &mut self.ending {
                    match realm {
                        Realm::Services => ending.services_done = true,
                        Realm::Duties => ending.duties_done = true,
                    }
                }
            }
        }
    }

    fn persist(&mut self, realm: Realm, instance: &InstanceId, record: &RunRecord) {
        if realm == Realm::Duties {
            // A duty dies with its root, or is found by its lock: there is nothing to remember.
            return;
        }
        let key = RunKey { realm, instance: instance.clone(), run: record.run };
        let run = self.services.runs.get(&key);
        let spec = run.map(|run| Arc::clone(&run.spec));
        let spec = spec.or_else(|| self.config.services.get(&instance.service).cloned());
        let digest = spec.map_or_else(String::new, |spec| records::digest(&spec));
        let since = run.map_or_else(sys::clock::now, |run| run.since);
        let stored =
            StoredRecord::new(instance, record, &self.boot_id, None, digest, since.as_nanos());
        let path = self.paths.record(instance, record.run);
        let start_of = record.main.map(|pid| pid.0);
        // What is not the present run speaks for itself alone.
        let present = record.role == RunRole::Present;
        if let Some(record) = present.then(|| self.takes_the_place_of(&key)).flatten() {
            // After whatever else this turn is about: a start is in a hurry, this is not.
            let job = Job::Supersede { record, by: path.clone() };
            self.afterwards.push((instance.clone(), job));
        }
        self.hands.give(instance, Job::Persist { path, record: Box::new(stored), start_of });
    }

    /// From now on this run's record speaks for its instance. Gives the record that is worth
    /// nothing any more by that: a former run that is still alive keeps its own until it is
    /// released, so that the next daemon finds both.
    fn takes_the_place_of(&mut self, key: &RunKey) -> Option<PathBuf> {
        let former = match self.recorded.get_mut(&key.instance) {
            Some(run) if *run < key.run => std::mem::replace(run, key.run),
            Some(_) => return None,
            None => {
                self.recorded.insert(key.instance.clone(), key.run);
                return None;
            }
        };
        let former = RunKey { run: former, ..key.clone() };
        let alive = self.services.runs.contains(&former);
        (!alive).then(|| self.paths.record(&former.instance, former.run))
    }

    fn forget(&mut self, realm: Realm, instance: &InstanceId) {
        if realm == Realm::Duties {
            return self.forget_duties();
        }
        self.duties.unwatch_log(instance);
        self.sockets.close_of_instance(instance);
        if !self.config.services.contains_key(&instance.service) {
            self.sockets.close_of_service(instance.service.as_str());
        }
        self.notices.remove(&format!("limits-{instance}"));
        if let Some(run) = self.recorded.remove(instance) {
            let records = vec![self.paths.record(instance, run)];
            self.hands.give(instance, Job::Forget { records });
        }
    }

    fn spawn(&mut self, key: RunKey, slot: u16, spec: Arc<ServiceSpec>) {
        let instance = key.instance.clone();
        let mut run = Run::new(Arc::clone(&spec), sys::clock::now());
        run.slot = slot;
        self.realm(key.realm).runs.insert(key.clone(), run);
        let launch = match key.realm {
            Realm::Services => {
                self.duties.watch_log(&instance, &spec);
                self.service_launch(key, slot, &spec)
            }
            Realm::Duties => match self.duty_launch(&key, &spec) {
                Ok(launch) => launch,
                Err(error) => {
                    let reason = format!("{error:#}");
                    let RunKey { realm, instance, run } = key;
                    let input = Input::SpawnFailed { instance, run, reason, permanent: false };
                    return self.pending.push_back((realm, input));
                }
            },
        };
        self.hands.give(&instance, Job::Launch(Box::new(launch)));
    }

    fn service_launch(&self, key: RunKey, slot: u16, spec: &ServiceSpec) -> Launch {
        let token = self.token(&key.instance, key.run);
        let mut own_env = vec![("HOLDFAST_RUN".to_owned(), token.clone())];
        let wants_notify = wants_notify(spec);
        let notify = wants_notify.then(|| self.paths.notify_socket(key.run));
        if let Some(path) = &notify {
            own_env.push(("NOTIFY_SOCKET".into(), path.to_string_lossy().into_owned()));
        }
        if let Some(period) = spec.watchdog {
            own_env.push(("WATCHDOG_USEC".into(), period.as_micros().to_string()));
        }
        if let Some(url) = &self.duties.supervisord_url
            && (spec.listener.is_some() || self.config.supervisord.is_some())
        {
            own_env.extend(crate::supervisord::environment(&key.instance, url));
        }
        Launch {
            process: Arc::new(spec.process.clone()),
            argv: render_argv(spec, &key.instance, slot),
            port: spec.port_at(&key.instance, slot),
            own_env,
            output: self.streams(&key, spec),
            tracking: Tracking::Tree { cgroups: Some(Arc::clone(&self.cgroups)), token },
            notify,
            sockets: (!spec.process.sockets.is_empty()).then(|| self.sockets.clone()),
            duty_fds: Vec::new(),
            parent_death_signal: None,
            key,
        }
    }

    /// What marks the processes of a run in their environment: this state directory, the
    /// instance, the run.
    pub(crate) fn token(&self, instance: &InstanceId, run: RunId) -> String {
        format!("{}/{instance}/{run}", self.state_id)
    }

    fn streams(&self, RunKey { instance, run, .. }: &RunKey, spec: &ServiceSpec) -> Streams {
        let fifo = |end: &str| self.paths.fifos().join(format!("{instance}.{end}"));
        if spec.listener.is_some() {
            let events = self.paths.listener_in(instance, *run);
            let answers = self.paths.listener_out(instance, *run);
            return Streams::Listener { events, answers, out: fifo("out") };
        }
        Streams::Fifo { out: fifo("out"), err: spec.log.split_stderr.then(|| fifo("err")) }
    }

    fn attach(&mut self, key: RunKey, pid: Pid, spec: Arc<ServiceSpec>) {
        let Some(prepared) = self.prepared.remove(&key) else {
            tracing::error!(instance = %key.instance, "an adoption that nobody has prepared");
            return;
        };
        self.duties.watch_log(&key.instance, &spec);
        let mut run = Run::new(Arc::clone(&spec), prepared.since);
        (run.tree, run.group, run.slot) = (Some(prepared.tree), prepared.group, prepared.slot);
        run.known = prepared.known;
        self.services.runs.insert(key.clone(), run);
        let ends = if spec.log.split_stderr { &["out", "err"][..] } else { &["out"] };
        let paths =
            ends.iter().map(|end| self.paths.fifos().join(format!("{}.{end}", key.instance)));
        let pipes = paths.filter_map(|path| sys::fifo::open_for_service(&path).ok()).collect();
        self.pipes.insert(key.instance.clone(), pipes);
        if let Some(pidfd) = prepared.pidfd {
            let complaints =
                super::sockets::recover(&self.sockets, &spec.process, &key.instance, &pidfd);
            let subject = key.instance.to_string();
            for why in complaints {
                self.events.complain(&subject, why);
            }
            self.watch_main(&key, pid, pidfd);
        }
        if wants_notify(&spec) {
            let path = self.paths.notify_socket(key.run);
            let owner = sys::proc_fs::owner(pid.0).ok();
            match sys::socket::notify_socket(&path, owner) {
                Ok(socket) => {
                    let task = self.listen_for_notify(&key, socket);
                    if let Some(run) = self.run(&key) {
                        run.tasks.extend(task);
                    }
                }
                Err(error) => self.events.complain(
                    &key.instance.to_string(),
                    format!("cannot make {} again: {error}", path.display()),
                ),
            }
        }
    }

    fn find_main(&mut self, key: RunKey) {
        let instance = key.instance.clone();
        let found = self.run(&key).and_then(|run| {
            let pid_file = match &run.spec.kind {
                supervisor::Kind::Forking { pid_file } => pid_file.clone(),
                supervisor::Kind::Simple | supervisor::Kind::Oneshot => None,
            };
            let (spec, slot) = (&run.spec, run.slot);
            let pid_file = pid_file
                .map(|path| spec.render_at(&path.to_string_lossy(), &instance, slot).into());
            run.tree.clone().map(|tree| (tree, pid_file))
        });
        match found {
            Some((tree, pid_file)) => {
                self.hands.give_for_run(&key.clone(), Job::FindMain { key, tree, pid_file });
            }
            None => {
                let main = Err("nothing of it is tracked".to_owned());
                let RunKey { realm, instance, run } = key;
                self.pending.push_back((realm, Input::MainFound { instance, run, main }));
            }
        }
    }

    fn signal(&mut self, key: RunKey, pid: Pid, signal: i32) {
        let main = self.run(&key).and_then(|run| run.main.clone());
        if let Some((_, pidfd)) = main.filter(|(main, _)| *main == pid) {
            self.hands.give_for_run(&key.clone(), Job::Signal { pidfd, signal, key });
        }
    }

    fn tree_work(&mut self, key: RunKey, work: TreeWork) {
        let tree = self.run(&key).and_then(|run| {
            let looked_at = work == TreeWork::Inspect && is_seen_empty(run);
            run.tree.clone().filter(|_| !looked_at)
        });
        match tree {
            Some(tree) => self.hands.give_for_run(&key.clone(), Job::Tree { key, tree, work }),
            None => {
                let (alive, unkillable) = (Vec::new(), Vec::new());
                let RunKey { realm, instance, run } = key;
                self.pending.push_back((realm, Input::Tree { instance, run, alive, unkillable }));
            }
        }
    }

    fn release(&mut self, key: &RunKey) {
        let Some(run) = self.realm(key.realm).runs.remove(key) else { return };
        run.tasks.iter().for_each(tokio::task::AbortHandle::abort);
        self.pids.retain(|_, watched| !matches!(watched, Watched::Run(of) if of == key));
        if key.realm == Realm::Duties {
            return;
        }
        self.released = true;
        if self.recorded.get(&key.instance) != Some(&key.run) {
            let records = vec![self.paths.record(&key.instance, key.run)];
            self.hands.give(&key.instance, Job::Forget { records });
        }
        let mut paths = Vec::new();
        if wants_notify(&run.spec) {
            paths.push(self.paths.notify_socket(key.run));
        }
        if run.spec.listener.is_some() {
            paths.push(self.paths.listener_in(&key.instance, key.run));
            paths.push(self.paths.listener_out(&key.instance, key.run));
        }
        self.hands.give_for_run(key, Job::Release { paths, tree: run.tree });
    }

    /// Closes the listening sockets of services that are down and do not come back by
    /// themselves: a socket that nobody will ever accept on would let clients wait for ever.
    pub(crate) fn close_idle_sockets(&mut self) {
        use supervisor::Phase;
        if !std::mem::take(&mut self.released) {
            return;
        }
        let down = |phase| matches!(phase, Phase::Stopped | Phase::Failed | Phase::Finished);
        let with_sockets =
            self.config.services.values().filter(|spec| !spec.process.sockets.is_empty());
        for spec in with_sockets {
            let mut all_down = true;
            for instance in spec.instance_ids() {
                let phase = self.services.core.why(&instance).map(|seen| seen.phase);
                if phase.is_none_or(down) {
                    if instance.index.is_some() {
                        self.sockets.close_of_instance(&instance);
                    }
                } else {
                    all_down = false;
                }
            }
            if all_down {
                self.sockets.close_of_service(spec.name.as_str());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use supervisor::{Event, EventKind, Severity, Wish};

    fn id(name: &str) -> InstanceId {
        name.parse().unwrap()
    }

    fn record(name: &str, run: u64) -> Output {
        let run = RunId(run);
        let wish = Wish::Up;
        let role = RunRole::Present;
        let record = RunRecord { run, main: None, ready: false, wish, restarts: 0, slot: 0, role };
        Output::Persist { instance: id(name), record }
    }

    fn spawn(name: &str, run: u64) -> Output {
        let spec = super::super::duties::duty_spec("true".to_owned(), name).unwrap();
        Output::Spawn { instance: id(name), run: RunId(run), slot: 0, spec: Arc::new(spec) }
    }

    fn event(name: &str) -> Output {
        Output::Event(Event {
            instance: id(name),
            run: None,
            kind: EventKind::Exited,
            severity: Severity::Info,
            message: String::new(),
            data: Vec::new(),
        })
    }

    fn kept(outputs: &[Output]) -> Vec<Output> {
        let mut outputs = outputs.to_vec();
        drop_superseded(&mut outputs);
        outputs
    }

    #[test]
    fn a_record_that_is_written_anew_at_once_is_written_once() {
        let release = Output::Release { instance: id("a"), run: RunId(1) };
        let all = [
            release.clone(),
            event("a"),
            record("a", 1),
            event("b"),
            record("a", 2),
            spawn("a", 2),
        ];
        let expect = [release, event("a"), event("b"), record("a", 2), spawn("a", 2)];
        assert_eq!(kept(&all), expect);
    }

    #[test]
    fn a_record_that_something_relies_on_is_written_before() {
        let all = [record("a", 2), spawn("a", 2), record("a", 3), spawn("a", 3)];
        assert_eq!(kept(&all), all);
        // What is done to another instance does not rely on it.
        let all = [record("a", 1), record("b", 1), spawn("b", 1), record("a", 2)];
        assert_eq!(kept(&all), all[1..]);
        let all = [record("a", 1), Output::ShutdownComplete, record("a", 2)];
        assert_eq!(kept(&all), all);
    }
}

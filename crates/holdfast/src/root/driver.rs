//! The root's driver: owns the supervision core, turns the world into its inputs, and carries out
//! its outputs in order. It decides nothing.
//!
//! There are two realms, each with a core of its own: the user's services, and our own duties.
//! Invariant: a process that is watched stands in `pids`; every output that has an answer is
//! answered, also where the run it is about is gone.

use super::adopt::Prepared;
use super::duties::Duties;
use super::early::EarlyExits;
use super::events::Events;
use super::hands::{Done, Hands, Job, Realm, RunKey};
use super::launch::{LaunchError, Launched};
use super::outputs::drop_superseded;
use super::runs::{Run, Runs};
use super::sockets::SocketStore;
use super::tolerate::CareBook;
use super::upgrade::Upgrade;
use crate::paths::Paths;
use base::{Answer, InstanceId, Now, RunId};
use control::Reply;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use supervisor::{Exit, Input, Pid, ShutdownMode, Supervisor};
use sys::tree::Member;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

/// What happens outside the hands: answers of tasks.
pub(crate) enum Happening {
    /// A probe's answer.
    Probed { key: RunKey, answer: Answer },
    /// A datagram on a run's notify socket.
    Notified { key: RunKey, bytes: Vec<u8> },
    /// A process that is not our child is gone.
    Gone { pid: u32, exit: Exit },
    /// The configuration was read again.
    Reloaded { loaded: Box<config::Loaded>, answer: Option<oneshot::Sender<Reply>> },
    /// The link to this run of the logs duty has ended.
    LogsUnlinked { key: RunKey },
    /// The logs duty said something.
    LogsSaid(crate::logs::protocol::FromLogs),
    /// The link to the watch duty has ended.
    WatchUnlinked,
    /// The watch duty said something.
    WatchSaid(crate::watch::protocol::FromWatch),
}

/// One realm: a core and its runs.
pub(crate) struct RealmState {
    pub(crate) core: Supervisor,
    pub(crate) runs: Runs,
}

/// Why a process is watched.
pub(crate) enum Watched {
    /// A process of a run.
    Run(RunKey),
    /// A command of a run.
    Command(CommandKey),
}

/// A run has at most one command of each purpose at a time.
pub(crate) type CommandKey = (RunKey, CommandFor);

/// Whom a command's end is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum CommandFor {
    /// `Input::CommandEnded`.
    Step,
    /// `Input::Probed`.
    Probe,
    /// Whoever asked for an upgrade.
    Trial,
}

/// A command on its way.
pub(crate) struct Command {
    pub(crate) shown: String,
    pub(crate) deadline: Now,
    pub(crate) pid: Option<u32>,
    pub(crate) timed_out: bool,
}

/// The driver.
pub(crate) struct Driver {
    pub(crate) paths: Paths,
    pub(crate) boot_id: String,
    pub(crate) state_id: String,
    pub(crate) config: config::Config,
    pub(crate) config_path: PathBuf,
    pub(crate) context: config::Context,
    pub(crate) services: RealmState,
    pub(crate) duty_realm: RealmState,
    pub(crate) duties: Duties,
    pub(crate) prepared: BTreeMap<RunKey, Prepared>,
    /// Of which run the record is that speaks for an instance: of the last one that was started.
    pub(crate) recorded: BTreeMap<InstanceId, RunId>,
    /// Modes that were set, and workarounds in force.
    pub(crate) care: CareBook,
    pub(crate) pids: BTreeMap<u32, Watched>,
    pub(crate) commands: BTreeMap<CommandKey, Command>,
    pub(crate) hands: Hands,
    pub(crate) tasks: JoinSet<()>,
    /// Memory is given back soon.
    pub(crate) giving_back: Option<AbortHandle>,
    pub(crate) happenings: mpsc::Sender<Happening>,
    pub(crate) reaped: Arc<AtomicU64>,
    early: EarlyExits,
    pub(crate) cgroups: Arc<sys::cgroup::Cgroups>,
    pub(crate) sockets: SocketStore,
    pub(crate) events: Arc<Events>,
    pub(crate) pending: VecDeque<(Realm, Input)>,
    /// Jobs that wait until all outputs of the present input are carried out.
    pub(crate) afterwards: Vec<(InstanceId, Job)>,
    pub(crate) notices: BTreeMap<String, control::Notice>,
    pub(crate) started: base::WallTime,
    pub(crate) ending: Option<Ending>,
    pub(crate) upgrade: Option<Upgrade>,
    /// Output pipes, held open until the logs duty has read all that was written into them: a
    /// service may be gone before its output is looked at.
    pub(crate) pipes: BTreeMap<InstanceId, Vec<OwnedFd>>,
    /// A run has ended since idle sockets were last looked for.
    pub(crate) released: bool,
    /// The listening control socket, to be kept across an upgrade.
    pub(crate) control_fd: Option<OwnedFd>,
    /// Who may ask what, for those who serve connections.
    pub(crate) api_settings: watch::Sender<config::ApiSettings>,
}

/// The daemon is on its way down.
pub(crate) struct Ending {
    pub(crate) mode: ShutdownMode,
    pub(crate) deadline: Now,
    pub(crate) services_done: bool,
    pub(crate) duties_told: bool,
    pub(crate) duties_done: bool,
    /// The deadline has passed: what is left was killed.
    pub(crate) insisted: bool,
    /// The time after it has passed as well: a hand that hangs is no longer waited for.
    pub(crate) gave_up: bool,
}

/// What a new driver is made of.
pub(crate) struct Parts {
    pub(crate) paths: Paths,
    pub(crate) boot_id: String,
    pub(crate) state_id: String,
    pub(crate) config: config::Config,
    pub(crate) config_path: PathBuf,
    pub(crate) context: config::Context,
    pub(crate) first_run: RunId,
    pub(crate) duties: Duties,
    pub(crate) hands: Hands,
    pub(crate) happenings: mpsc::Sender<Happening>,
    pub(crate) reaped: Arc<AtomicU64>,
    pub(crate) cgroups: Arc<sys::cgroup::Cgroups>,
    pub(crate) sockets: SocketStore,
    pub(crate) events: Arc<Events>,
    pub(crate) care: CareBook,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let seed = sys::clock::now().as_nanos() ^ u64::from(std::process::id());
        let realm = |realm| RealmState {
            core: Supervisor::new(seed, parts.first_run),
            runs: Runs::new(realm),
        };
        Self {
            paths: parts.paths,
            boot_id: parts.boot_id,
            state_id: parts.state_id,
            config: parts.config,
            config_path: parts.config_path,
            context: parts.context,
            services: realm(Realm::Services),
            duty_realm: realm(Realm::Duties),
            duties: parts.duties,
            prepared: BTreeMap::new(),
            recorded: BTreeMap::new(),
            care: parts.care,
            pids: BTreeMap::new(),
            commands: BTreeMap::new(),
            hands: parts.hands,
            tasks: JoinSet::new(),
            giving_back: None,
            happenings: parts.happenings,
            reaped: parts.reaped,
            early: EarlyExits::default(),
            cgroups: parts.cgroups,
            sockets: parts.sockets,
            events: parts.events,
            pending: VecDeque::new(),
            afterwards: Vec::new(),
            notices: BTreeMap::new(),
            started: sys::clock::wall(),
            ending: None,
            upgrade: None,
            pipes: BTreeMap::new(),
            released: false,
            control_fd: None,
            api_settings: watch::Sender::new(config::ApiSettings::default()),
        }
    }

    pub(crate) fn realm(&mut self, realm: Realm) -> &mut RealmState {
        match realm {
            Realm::Services => &mut self.services,
            Realm::Duties => &mut self.duty_realm,
        }
    }

    /// Tells a core something, and carries out all that follows from it.
    pub(crate) fn tell(&mut self, realm: Realm, input: Input) {
        self.pending.push_back((realm, input));
        let mut outputs = Vec::new();
        while let Some((realm, input)) = self.pending.pop_front() {
            let now = sys::clock::now();
            tracing::trace!(?realm, ?input, "input");
            self.realm(realm).core.handle(now, input, &mut outputs);
            drop_superseded(&mut outputs);
            for output in std::mem::take(&mut outputs) {
                tracing::trace!(?realm, ?output, "output");
                self.carry_out(realm, output);
            }
            for (instance, job) in std::mem::take(&mut self.afterwards) {
                self.hands.give(&instance, job);
            }
        }
    }

    /// A run, unless it was released.
    pub(crate) fn run(&mut self, key: &RunKey) -> Option<&mut Run> {
        self.realm(key.realm).runs.get_mut(key)
    }

    /// When the driver wants to be called again.
    pub(crate) fn next_wake(&self) -> Option<Now> {
        let cores = [self.services.core.next_wake(), self.duty_realm.core.next_wake()];
        let commands = self.commands.values().filter(|command| !command.timed_out);
        let ending = self.ending.as_ref().map(|ending| ending.deadline);
        let upgrade = self.upgrade.as_ref().and_then(|upgrade| upgrade.at);
        let others = commands.map(|command| command.deadline).chain(ending).chain(upgrade);
        let others = others.chain(self.duties.watch.next_wake());
        cores.into_iter().flatten().chain(others).min()
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self) {
        let now = sys::clock::now();
        self.hands.flush();
        for realm in [Realm::Services, Realm::Duties] {
            if self.realm(realm).core.next_wake().is_some_and(|wake| wake <= now) {
                self.tell(realm, Input::Tick);
            }
        }
        self.time_out_commands(now);
        self.answer_overdue(now);
        self.insist_on_ending(now);
    }

    /// Collects every child that has ended.
    pub(crate) fn reap(&mut self) {
        loop {
            let ended = sys::child::reap_all();
            if ended.is_empty() {
                return;
            }
            let before = self.reaped.fetch_add(ended.len() as u64, Ordering::AcqRel);
            for (number, (pid, exit)) in (before + 1..).zip(ended) {
                self.process_ended(pid, exit_to_core(exit), number);
            }
        }
    }

    fn process_ended(&mut self, pid: u32, exit: Exit, number: u64) {
        match self.pids.remove(&pid) {
            Some(Watched::Run(RunKey { realm, instance, run })) => {
                self.tell(realm, Input::Exited { instance, run, pid: Pid(pid), exit });
            }
            Some(Watched::Command(key)) => self.command_ended(&key, pid, exit),
            None => self.early.keep(pid, exit, number),
        }
    }

    /// A process that is no child of ours has ended.
    pub(crate) fn gone(&mut self, pid: u32, exit: Exit) {
        // If it became our child meanwhile, its exit status is ours to collect.
        self.reap();
        if self.pids.contains_key(&pid) {
            self.process_ended(pid, exit, self.reaped.load(Ordering::Acquire));
        }
    }

    /// Begins to watch a process that a hand has started; says at once if it has ended already.
    pub(crate) fn watch(&mut self, pid: u32, watched: Watched, reaped_before: u64) {
        self.pids.insert(pid, watched);
        if let Some((number, exit)) = self.early.take(pid, reaped_before) {
            self.process_ended(pid, exit, number);
        }
    }

    /// A hand has done its job.
    pub(crate) fn done(&mut self, done: Done) {
        match done {
            Done::Launched { key, result, reaped_before } => {
                self.launched(key, result, reaped_before);
            }
            Done::CommandLaunched { key, result, reaped_before } => {
                self.command_launched(key, result, reaped_before);
            }
            Done::Tree { key, members, oom_kills } => {
                self.oom_seen(&key, oom_kills);
                self.tree_seen(key, &members);
            }
            Done::Frozen { key, result } => self.frozen(key, result),
            Done::MainFound { key, main, pidfd } => self.main_found(key, main, pidfd),
            Done::MainSaid { key, pid, pidfd } => self.main_said(key, pid, pidfd),
            Done::Complaint { subject, message } => {
                self.events.complain(&subject, message);
            }
        }
    }

    fn launched(&mut self, key: RunKey, result: Result<Launched, LaunchError>, reaped_before: u64) {
        let RunKey { realm, instance, run } = key.clone();
        let launched = match result {
            Ok(launched) => launched,
            Err(LaunchError { reason, permanent }) => {
                return self.tell(realm, Input::SpawnFailed { instance, run, reason, permanent });
            }
        };
        for notice in launched.notices {
            self.notice(&format!("limits-{instance}"), format!("{instance}: {notice}"), "");
        }
        if realm == Realm::Services {
            self.pipes.insert(instance.clone(), launched.pipes);
        }
        let pid = launched.pid;
        let notify = launched.notify.map(|socket| self.listen_for_notify(&key, socket));
        if let Some(of) = self.run(&key) {
            of.main = Some((Pid(pid), Arc::new(launched.pidfd)));
            of.group = launched.tree.as_ref().and_then(|tree| tree.group.clone());
            of.known.push(pid);
            of.tree = launched.tree.map(|tree| Arc::new(Mutex::new(tree)));
            // The group is its own and new.
            of.oom_kills = of.group.is_some().then_some(0);
            of.since = sys::clock::now();
            of.tasks.extend(notify.flatten());
        }
        self.tell(realm, Input::Spawned { instance, run, pid: Pid(pid) });
        self.watch(pid, Watched::Run(key), reaped_before);
    }

    fn tree_seen(&mut self, key: RunKey, members: &[Member]) {
        let alive = members.iter().map(|member| Pid(member.pid)).collect();
        let stuck = members.iter().filter(|member| member.state == 'D');
        let unkillable = stuck
            .map(|member| (Pid(member.pid), member.waits_in.clone().unwrap_or_default()))
            .collect();
        let RunKey { realm, instance, run } = key;
        self.tell(realm, Input::Tree { instance, run, alive, unkillable });
    }

    fn main_found(&mut self, key: RunKey, main: Result<Pid, String>, pidfd: Option<OwnedFd>) {
        let main = match (main, pidfd) {
            (Ok(pid), Some(pidfd)) => {
                self.watch_main(&key, pid, pidfd);
                Ok(pid)
            }
            (Ok(pid), None) => Err(format!("process {} ended before it could be watched", pid.0)),
            (Err(why), _) => Err(why),
        };
        let RunKey { realm, instance, run } = key;
        self.tell(realm, Input::MainFound { instance, run, main });
    }

    fn main_said(&mut self, key: RunKey, pid: Pid, pidfd: Option<OwnedFd>) {
        let claim = self.run(&key).and_then(|run| run.claim.take());
        if let Some(claim) = claim.filter(|claim| claim.latest != claim.asked) {
            self.check_main(&key, claim.latest);
        }
        let Some(pidfd) = pidfd else {
            let subject = key.instance.to_string();
            let message = format!(
                "{subject} named process {} as its main one, which is none of its processes",
                pid.0
            );
            return self.events.complain(&subject, message);
        };
        self.watch_main(&key, pid, pidfd);
        let message = supervisor::NotifyMessage::MainPid(pid);
        let RunKey { realm, instance, run } = key;
        self.tell(realm, Input::Notify { instance, run, message });
    }

    /// From now on this is the main process of a run.
    pub(crate) fn watch_main(&mut self, key: &RunKey, pid: Pid, pidfd: OwnedFd) {
        let pidfd = Arc::new(pidfd);
        if self.run(key).is_none() {
            return;
        }
        let watched = |of: &Watched| matches!(of, Watched::Run(of) if of == key);
        let known = self.pids.get(&pid.0).is_some_and(watched);
        let ours = sys::proc_fs::stat(pid.0).is_ok_and(|stat| stat.ppid == std::process::id());
        let task = (!ours && !known).then(|| self.watch_stranger(pid, &pidfd));
        if let Some(run) = self.run(key) {
            run.main = Some((pid, pidfd));
            if !run.known.contains(&pid.0) {
                run.known.push(pid.0);
            }
            run.tasks.retain(|task| !task.is_finished());
            run.tasks.extend(task);
            self.watch(pid.0, Watched::Run(key.clone()), self.reaped.load(Ordering::Acquire));
            self.tell_watch(key);
        }
    }

    /// A standing notice, said once in the log.
    pub(crate) fn notice(&mut self, code: &str, message: String, help: &str) {
        let notice = control::Notice { code: code.into(), message, help: help.into() };
        if self.notices.get(code) != Some(&notice) {
            tracing::warn!(code, message = %notice.message, help, "notice");
            self.events.say(
                "holdfast",
                "daemon.notice",
                control::Severity::Warning,
                notice.message.clone(),
            );
            self.notices.insert(code.into(), notice);
        }
    }
}

fn exit_to_core(exit: sys::child::Exit) -> Exit {
    match exit {
        sys::child::Exit::Code(code) => Exit::Code(code),
        sys::child::Exit::Signal(signal) => Exit::Signal(signal),
        sys::child::Exit::Unknown => Exit::Unknown,
    }
}

/// Watches the end of a process that is not our child, by its pidfd.
pub(crate) async fn wait_for_stranger(
    pid: Pid,
    pidfd: Arc<OwnedFd>,
    happenings: mpsc::Sender<Happening>,
) {
    use std::os::fd::AsFd;
    #[expect(
        deprecated,
        reason = "its successor is unsafe; this descriptor is owned by what is watched"
    )]
    let registered = tokio::io::unix::AsyncFd::new(Arc::clone(&pidfd));
    let exit = match registered {
        Ok(watched) => match watched.readable().await {
            Ok(_) => sys::pidfd::exit_of(pidfd.as_fd()).map_or(Exit::Unknown, exit_to_core),
            Err(_) => Exit::Unknown,
        },
        Err(error) => {
            tracing::error!(pid = pid.0, %error, "cannot watch a process");
            return;
        }
    };
    let _ = happenings.send(Happening::Gone { pid: pid.0, exit }).await;
}

impl Driver {
    /// Waits until the hands have done all they were given. Blocks the loop: only for its end.
    pub(crate) fn settle(&mut self, limit: std::time::Duration) -> bool {
        let deadline = sys::clock::now() + limit;
        while 0 < self.hands.outstanding() {
            if deadline <= sys::clock::now() {
                return false;
            }
            self.hands.flush();
            std::thread::park_timeout(std::time::Duration::from_millis(1));
        }
        true
    }

    fn watch_stranger(&mut self, pid: Pid, pidfd: &Arc<OwnedFd>) -> AbortHandle {
        let happenings = self.happenings.clone();
        self.tasks.spawn(wait_for_stranger(pid, Arc::clone(pidfd), happenings))
    }

    /// Ends the wait for what hangs.
    fn insist_on_ending(&mut self, now: Now) {
        let Some(ending) = &mut self.ending else { return };
        if now < ending.deadline {
            return;
        }
        if std::mem::replace(&mut ending.insisted, true) && ending.services_done {
            ending.gave_up = true;
        }
        ending.deadline = now + std::time::Duration::from_secs(5);
        let message = "the shutdown takes too long: everything left is killed now".to_owned();
        self.events.say("holdfast", "daemon.shutdown_forced", control::Severity::Warning, message);
        let mut killed = Vec::new();
        for (key, run) in self.services.runs.iter().chain(self.duty_realm.runs.iter()) {
            killed.extend(run.tree.clone().map(|tree| (key.clone(), tree)));
        }
        for (key, tree) in killed {
            let work = super::hands::TreeWork::Kill;
            self.hands.give_for_run(&key.clone(), Job::Tree { key, tree, work });
        }
    }
}

//! Our own helper processes, supervised by a core of their own: holdfast is its own first
//! customer. A duty that hangs or dies costs a restart of that duty and nothing else.

use super::control_server::{self, Door};
use super::driver::{Driver, Happening};
use super::hands::{Job, RunKey};
use super::launch::{Launch, Output as Streams, Tracking};
use super::watching::WatchDesk;
use crate::logs::protocol::{FromLogs, ToLogs, WatchPolicy};
use crate::paths::Paths;
use anyhow::Context as _;
use base::{Backoff, ByteSize, InstanceId, ServiceName};
use config::Config;
use control::{Caller, Role, decode_frame, encode_frame};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use supervisor::{
    Kind, LogPolicy, ProcessSpec, Readiness, RestartPolicy, RestartWhen, ServiceSpec, StopAction,
    StopStep,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// The duty with the journal, the API and the web console.
pub(crate) const CONSOLE: &str = "console";
/// The duty that keeps the services' output.
pub(crate) const LOGS: &str = "logs";

/// The duty that tells people by mail.
pub(crate) const MAIL: &str = "mail";
/// The duty with supervisord's interface and its event listeners.
pub(crate) const SUPERVISORD: &str = "supervisord";
/// The duty that tells commands of events.
pub(crate) const HOOKS: &str = "hooks";
/// Names of listening sockets that begin so are the duty's of that name; all others the console's.
const SUPERVISORD_SOCKETS: &str = "supervisord.";
/// The duty that looks at services, and gathers evidence.
pub(crate) const WATCH: &str = "watch";

/// Orders that wait for the logs duty. All instances at once fit: 10,000 services.
const LOG_ORDERS_MAX: usize = 65_536;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// What the duties need of the root.
pub(crate) struct Duties {
    /// The program that runs: this one.
    pub(crate) program: PathBuf,
    pub(crate) door: Door,
    /// Listening sockets that outlive the duty which serves them, by name.
    pub(crate) listeners: BTreeMap<String, OwnedFd>,
    log_orders: Option<mpsc::Sender<ToLogs>>,
    watched: BTreeMap<InstanceId, WatchPolicy>,
    /// What happened before is not told by mail, unless an earlier mail duty has begun with it.
    pub(crate) mail_since: base::WallTime,
    pub(crate) watch: WatchDesk,
    /// Instances that are gone, until the logs duty says that it has forgotten them.
    leaving: BTreeMap<InstanceId, WatchPolicy>,
    /// Where supervisord's interface is served, for those who are told.
    pub(crate) supervisord_url: Option<String>,
    /// The file of its Unix socket.
    pub(crate) supervisord_socket: Option<PathBuf>,
}

/// The duties that a configuration asks for.
fn wanted(config: &Config) -> Vec<&'static str> {
    let mut wanted = vec![CONSOLE, LOGS];
    if config.supervisord_face().is_some() {
        wanted.push(SUPERVISORD);
    }
    if config.mail.is_some() {
        wanted.push(MAIL);
    }
    if !config.hooks.is_empty() {
        wanted.push(HOOKS);
    }
    wanted
}

/// Cursors of the duties that read the events' segment files beside the console, which deletes what
/// everybody has read.
pub(crate) fn readers(config: &Config, paths: &Paths) -> Vec<PathBuf> {
    let face = config.supervisord_face().map(|_| crate::supervisord::cursor_path(&paths.state));
    let mail = config.mail.as_ref().map(|_| paths.mail_cursor());
    let hooks = config.hooks.keys().map(|name| crate::hooks::cursor_path(&paths.state, name));
    face.into_iter().chain(mail).chain(hooks).collect()
}

/// The duties that must begin anew when one configuration takes the place of another.
pub(crate) fn touched(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut touched = Vec::new();
    let (before, after) = (wanted(old), wanted(new));
    let api = old.api != new.api;
    let console = old.console != new.console || old.health != new.health;
    // It keeps the events' files until every duty that reads them has done so.
    let reads = |config: &Config| readers(config, &Paths::of(&new.daemon));
    if api || console || old.journal != new.journal || reads(old) != reads(new) {
        touched.push(CONSOLE);
    }
    if crate::mail::differs(old, new) {
        touched.push(MAIL);
    }
    if api || old.supervisord_face() != new.supervisord_face() {
        touched.push(SUPERVISORD);
    }
    if old.hooks != new.hooks {
        touched.push(HOOKS);
    }
    touched.retain(|name| before.contains(name) && after.contains(name));
    touched
}

impl Duties {
    pub(crate) fn new(program: PathBuf, door: Door, listeners: BTreeMap<String, OwnedFd>) -> Self {
        let (watched, leaving) = (BTreeMap::new(), BTreeMap::new());
        Self {
            program,
            door,
            listeners,
            log_orders: None,
            watched,
            // Before any service is started.
            mail_since: sys::clock::wall(),
            watch: WatchDesk::default(),
            leaving,
            supervisord_url: None,
            supervisord_socket: None,
        }
    }

    /// The specs of all duties that a configuration asks for.
    pub(crate) fn specs(&self, config: &Config) -> BTreeMap<ServiceName, Arc<ServiceSpec>> {
        let watch = self.watch.wanted.then_some(WATCH);
        wanted(config)
            .into_iter()
            .chain(watch)
            .filter_map(|name| Some((name.parse().ok()?, Arc::new(self.spec(name)?))))
            .collect()
    }

    fn spec(&self, name: &str) -> Option<ServiceSpec> {
        duty_spec(self.program.to_string_lossy().into_owned(), name)
    }

    /// Orders the output of an instance to be kept, now or as soon as the logs duty is there.
    pub(crate) fn watch_log(&mut self, instance: &InstanceId, spec: &ServiceSpec) {
        let policy = policy_of(instance, spec);
        if self.watched.get(instance) != Some(&policy) {
            self.leaving.remove(instance);
            self.watched.insert(instance.clone(), policy.clone());
            self.order(ToLogs::Watch { instance: instance.to_string(), policy });
        }
    }

    /// The instance is gone from the configuration.
    pub(crate) fn unwatch_log(&mut self, instance: &InstanceId) {
        if let Some(policy) = self.watched.remove(instance) {
            self.leaving.insert(instance.clone(), policy);
            self.order(ToLogs::Unwatch { instance: instance.to_string() });
        }
    }

    fn order(&mut self, order: ToLogs) {
        let lost = self.log_orders.as_ref().is_some_and(|orders| orders.try_send(order).is_err());
        if lost {
            // The link is dead or hopelessly behind: the next one begins with all orders.
            self.log_orders = None;
        }
    }
}

/// What a duty is started from and how it is kept alive.
pub(super) fn duty_spec(program: String, name: &str) -> Option<ServiceSpec> {
    let mut process = process(vec![program, "duty".into(), name.into()]);
    // A hook may be a program with a set-group-ID bit, as sendmail is; commands by which services
    // are asked have the rights that the services have.
    process.no_new_privileges = ![HOOKS, WATCH].contains(&name);
    Some(ServiceSpec {
        name: name.parse().ok()?,
        description: String::new(),
        autostart: true,
        kind: Kind::Simple,
        instances: 1,
        process,
        after: BTreeSet::new(),
        requires: BTreeSet::new(),
        wants: BTreeSet::new(),
        ready: Readiness::Started,
        start_timeout: Duration::from_secs(30),
        stop: vec![StopStep { action: StopAction::Signal(SIGTERM), wait: Duration::from_secs(5) }],
        reload: None,
        restart: RestartPolicy {
            when: RestartWhen::Always,
            success_codes: BTreeSet::new(),
            success_signals: BTreeSet::new(),
            backoff: Backoff {
                first: Duration::from_millis(100),
                max: Duration::from_secs(10),
                jitter_percent: 10,
            },
            healthy_after: Duration::from_secs(10),
            // A duty is never given up: its back-off bounds what trying costs.
            budget: u32::MAX,
            budget_window: Duration::from_mins(1),
        },
        watchdog: None,
        log: log_policy(),
        tolerance: supervisor::Tolerance::default(),
        depends: BTreeMap::new(),
        listener: None,
        output_events: supervisor::OutputEvents::default(),
    })
}

pub(crate) fn process(argv: Vec<String>) -> ProcessSpec {
    let mut env = BTreeMap::new();
    for name in ["RUST_BACKTRACE", "HOLDFAST_LOG"] {
        if let Ok(value) = std::env::var(name) {
            env.insert(name.to_owned(), value);
        }
    }
    ProcessSpec {
        argv,
        env,
        env_files: Vec::new(),
        user: None,
        group: None,
        supplementary_groups: None,
        directory: "/".into(),
        umask: 0o027,
        nice: 0,
        io_priority: None,
        oom_score_adjust: 0,
        rlimits: BTreeMap::new(),
        limits: supervisor::CgroupLimits::default(),
        sockets: Vec::new(),
        port: None,
        no_new_privileges: true,
    }
}

fn policy_of(instance: &InstanceId, spec: &ServiceSpec) -> WatchPolicy {
    let log = &spec.log;
    let render = |path: &PathBuf| spec.process.render(&path.to_string_lossy(), instance).into();
    WatchPolicy {
        path: log.path.as_ref().map(render),
        size_max: log.size_max.0,
        age_max_ms: log.age_max.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        keep: log.keep,
        compress: log.compress,
        split_stderr: log.split_stderr,
    }
}

fn log_policy() -> LogPolicy {
    LogPolicy {
        path: None,
        size_max: ByteSize::mib(10),
        age_max: None,
        keep: 0,
        compress: false,
        split_stderr: false,
    }
}

impl Driver {
    /// Makes ready what a duty is started with: its link to us and its listening sockets.
    pub(crate) fn duty_launch(
        &mut self,
        key: &RunKey,
        spec: &ServiceSpec,
    ) -> anyhow::Result<Launch> {
        let name = spec.name.as_str();
        let (ours, theirs) = sys::socket::pair().context("cannot make a pair of sockets")?;
        let mut fds = vec![("root".to_owned(), theirs)];
        let is_for = |socket: &str| match socket.starts_with(SUPERVISORD_SOCKETS) {
            true => name == SUPERVISORD,
            false => name == CONSOLE,
        };
        for (listener, fd) in self.duties.listeners.iter().filter(|(socket, _)| is_for(socket)) {
            fds.push((listener.clone(), fd.as_fd().try_clone_to_owned()?));
        }
        let stream = std::os::unix::net::UnixStream::from(ours);
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        if name == LOGS {
            self.link_logs(key, stream);
        } else if name == WATCH {
            self.link_watch(stream);
        } else {
            let caller = Caller { name: format!("duty {name}"), role: Role::Act };
            let door = self.duties.door.clone();
            self.tasks.spawn(control_server::serve(stream, caller, door, true));
        }
        let names = (3..).zip(&fds).map(|(number, (name, _))| format!("{name}={number}"));
        let fd_list = names.collect::<Vec<_>>().join(",");
        let paths = &self.paths;
        // `@` can't be in a service's name, so this is never taken for one.
        let token = format!("{}/@{name}/{}", self.state_id, key.run);
        let mut own_env = vec![
            ("HOLDFAST_FDS".into(), fd_list),
            ("HOLDFAST_RUN".into(), token.clone()),
            ("HOLDFAST_NODE".into(), self.config.daemon.node.clone()),
            ("HOLDFAST_STALL_LIMIT".into(), base::format_duration(self.config.daemon.stall_limit)),
            ("HOLDFAST_STATE_DIR".into(), paths.state.to_string_lossy().into_owned()),
            ("HOLDFAST_RUN_DIR".into(), paths.run.to_string_lossy().into_owned()),
        ];
        if name == MAIL {
            let since = self.duties.mail_since.as_micros().to_string();
            own_env.push(("HOLDFAST_MAIL_SINCE_US".into(), since));
        }
        if name == SUPERVISORD {
            // It compares what is in the files with what is in force.
            let path = self.config_path.to_string_lossy().into_owned();
            own_env.push(("HOLDFAST_CONFIG".into(), path));
            if self.context.state_dir_override.is_some() {
                own_env.push(("HOLDFAST_STATE_DIR_GIVEN".into(), "1".into()));
            }
        }
        Ok(Launch {
            key: key.clone(),
            process: Arc::new(spec.process.clone()),
            argv: spec.process.argv.clone(),
            port: None,
            own_env,
            output: Streams::Inherit,
            tracking: Tracking::Tree { cgroups: None, token },
            notify: None,
            sockets: None,
            duty_fds: fds.into_iter().map(|(_, fd)| fd).collect(),
            // The logs duty outlives us: while nobody is there, it goes on keeping the output.
            parent_death_signal: (name != LOGS).then_some(SIGKILL),
        })
    }

    /// Removes what duties have kept that the configuration no longer asks for, and that are gone: to
    /// their successors nothing is owed.
    pub(crate) fn forget_duties(&self) {
        let wanted = wanted(&self.config);
        if !wanted.contains(&SUPERVISORD) {
            crate::supervisord::forget(&self.paths.state);
        }
        if !wanted.contains(&HOOKS) {
            crate::hooks::forget(&self.paths.state);
        }
    }

    /// The link to the logs duty has ended. A duty that still lives would keep the streams it has
    /// and never hear of another one: it ends, and its successor is told everything.
    pub(crate) fn logs_unlinked(&mut self, key: &RunKey) {
        let main = self.run(key).and_then(|run| run.main.clone());
        if let Some((_, pidfd)) = main {
            let job = Job::Signal { pidfd, signal: SIGTERM, key: key.clone() };
            self.hands.give_for_run(key, job);
        }
    }

    fn link_logs(&mut self, key: &RunKey, stream: UnixStream) {
        let (orders, waiting) = mpsc::channel(LOG_ORDERS_MAX);
        for (instance, policy) in &self.duties.watched {
            let instance = instance.to_string();
            let _ = orders.try_send(ToLogs::Watch { instance, policy: policy.clone() });
        }
        for (instance, policy) in &self.duties.leaving {
            // A duty that died may have left output of it in the pipe: it is read before the end.
            let instance = instance.to_string();
            let watch = ToLogs::Watch { instance: instance.clone(), policy: policy.clone() };
            let _ = orders.try_send(watch);
            let _ = orders.try_send(ToLogs::Unwatch { instance });
        }
        self.duties.log_orders = Some(orders);
        let (happenings, key) = (self.happenings.clone(), key.clone());
        self.tasks.spawn(async move {
            logs_link(stream, waiting, happenings.clone()).await;
            let _ = happenings.send(Happening::LogsUnlinked { key }).await;
        });
    }

    /// The logs duty said something.
    pub(crate) fn logs_said(&mut self, said: FromLogs) {
        match said {
            FromLogs::Ready | FromLogs::Drained { .. } => {}
            FromLogs::Unwatched { instance } => {
                let Ok(instance) = instance.parse::<InstanceId>() else { return };
                self.duties.leaving.remove(&instance);
                let fifo = |end: &str| self.paths.fifos().join(format!("{instance}.{end}"));
                let paths = vec![fifo("out"), fifo("err")];
                if !self.duties.watched.contains_key(&instance) {
                    self.pipes.remove(&instance);
                    self.hands.give(&instance, Job::Remove { paths });
                }
            }
            FromLogs::Lost { instance, bytes, lines, reason } => {
                let message = format!(
                    "{bytes} bytes ({lines} lines) of the output of {instance} were lost: {reason}"
                );
                let data = [("bytes".to_owned(), bytes.into()), ("lines".to_owned(), lines.into())];
                let (data, severity) = (data.into_iter().collect(), control::Severity::Error);
                self.events.say_with(&instance, "logs.lost", severity, message, data);
            }
            FromLogs::Notice { message } => self.events.complain("duty/logs", message),
            FromLogs::Failed { instance, message } => {
                self.events.complain(&instance, message);
            }
        }
    }
}

async fn logs_link(
    stream: UnixStream,
    orders: mpsc::Receiver<ToLogs>,
    happenings: mpsc::Sender<Happening>,
) {
    if let Err(error) = talk_to_logs(stream, orders, happenings).await {
        tracing::debug!(error = %format!("{error:#}"), "the link to the logs duty ended");
    }
}

async fn talk_to_logs(
    stream: UnixStream,
    mut orders: mpsc::Receiver<ToLogs>,
    happenings: mpsc::Sender<Happening>,
) -> anyhow::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = Vec::new();
    loop {
        while let Some((said, used)) = decode_frame::<FromLogs>(&buffer)? {
            buffer.drain(..used);
            happenings.send(Happening::LogsSaid(said)).await?;
        }
        tokio::select! {
            // Cancel safe: what has been read is in `buffer`.
            read = reader.read_buf(&mut buffer) => if read? == 0 { return Ok(()) },
            order = orders.recv() => match order {
                Some(order) => writer.write_all(&encode_frame(&order)?).await?,
                None => return Ok(()),
            },
        }
    }
}

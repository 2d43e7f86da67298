//! What all parts of the duty share: the link to the root, the configuration in force, and what is
//! to be seen.

use super::groups::Groups;
use super::main_log::MainLog;
use crate::nudge::Nudge;
use crate::paths::Paths;
use config::{Config, SupervisordSettings};
use console::{LinkError, RootLink};
use control::{
    Caller, ErrorCode, EventRecord, Fault, InstanceView, Notice, Reply, Request, Snapshot,
};
use jiff::tz::TimeZone;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use supervisord::{Code, Logs, ProcessInfo, ProcessState, RpcFault, Wanted, wanted};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// Log files that are followed at one time.
pub(crate) const TAILS_MAX: usize = 32;

/// Questions to the root at one time; more of ours wait here. The link refuses more than 64.
const QUESTIONS_MAX: usize = 32;

/// Shared by all.
pub(crate) struct House {
    root: RootLink,
    pub(crate) face: SupervisordSettings,
    pub(crate) api: Arc<config::ApiSettings>,
    pub(crate) paths: Paths,
    pub(crate) nudge: Nudge,
    pub(crate) tails: Arc<Semaphore>,
    pub(crate) zone: TimeZone,
    pub(crate) shutdown: CancellationToken,
    questions: Semaphore,
    config: watch::Sender<Arc<Config>>,
    main_log: Mutex<MainLog>,
    groups: Mutex<Groups>,
    tasks: Mutex<JoinSet<()>>,
    connections: AtomicU64,
}

/// A process that was found.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) view: InstanceView,
    pub(crate) info: ProcessInfo,
}

impl Seen {
    pub(crate) fn state(&self) -> ProcessState {
        self.info.state
    }
}

impl House {
    pub(crate) fn new(
        root: RootLink,
        config: Config,
        paths: Paths,
        nudge: Nudge,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let Some(face) = config.supervisord_face() else {
            anyhow::bail!("the configuration asks for nothing that this duty serves");
        };
        Ok(Self {
            root,
            face,
            api: Arc::new(config.api.clone()),
            paths,
            nudge,
            tails: Arc::new(Semaphore::new(TAILS_MAX)),
            zone: TimeZone::system(),
            shutdown,
            questions: Semaphore::new(QUESTIONS_MAX),
            config: watch::Sender::new(Arc::new(config)),
            main_log: Mutex::default(),
            groups: Mutex::default(),
            tasks: Mutex::default(),
            connections: AtomicU64::default(),
        })
    }

    /// Asks the root to push its events. Without them we would look late.
    pub(crate) async fn subscribe(&self) {
        if let Err(error) = self.ask(Request::Subscribe).await {
            tracing::error!(%error, "cannot subscribe to the root's events");
        }
    }

    /// Runs something beside, until its end or ours. What is started here is bounded by whoever
    /// starts it.
    pub(crate) fn run(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task)
    }

    /// A number that no connection had before.
    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// Another one is in force now.
    pub(crate) fn set_config(&self, config: Arc<Config>) {
        self.groups().configured(&config);
        self.config.send_replace(config);
    }

    pub(crate) fn main_log(&self) -> MutexGuard<'_, MainLog> {
        self.main_log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the root, when it is our turn.
    pub(crate) async fn ask(&self, request: Request) -> Result<Reply, LinkError> {
        let _turn = self.questions.acquire().await.map_err(|_| LinkError::Gone)?;
        self.root.ask(request).await
    }

    /// Everything that the root knows.
    pub(crate) async fn snapshot(&self) -> Result<Box<Snapshot>, RpcFault> {
        match self.ask(Request::Status).await.map_err(unreachable)? {
            Reply::Status { snapshot } => Ok(snapshot),
            Reply::Failed(fault) => Err(fault_of(&fault)),
            _ => Err(unreachable(LinkError::Unexpected)),
        }
    }

    /// Asks the root in somebody's name. What is not done is a fault.
    pub(crate) async fn ask_for(
        &self,
        caller: &Caller,
        request: Request,
    ) -> Result<Reply, RpcFault> {
        let request = Box::new(request);
        let request = Request::OnBehalf { caller: caller.clone(), request };
        match self.ask(request).await.map_err(unreachable)? {
            Reply::Failed(fault) => Err(fault_of(&fault)),
            reply => Ok(reply),
        }
    }

    /// Has the root record an event of ours.
    pub(crate) async fn record(&self, event: EventRecord) {
        let kind = event.kind.clone();
        if let Err(error) = self.ask(Request::Record { event: Box::new(event) }).await {
            tracing::warn!(kind, %error, "cannot record an event");
        }
    }

    /// Shows a notice of ours in `status`, or no longer.
    pub(crate) async fn notice(&self, code: String, notice: Option<Notice>) {
        if let Err(error) = self.ask(Request::Notice { code, notice }).await {
            tracing::warn!(%error, "cannot show a notice");
        }
    }

    /// All processes that are on the list, to do something with some of them: not while everything
    /// is being stopped anyway.
    pub(crate) async fn processes_to_act_on(&self) -> Result<Vec<Seen>, RpcFault> {
        let snapshot = self.snapshot().await?;
        if snapshot.shutting_down {
            return Err(Code::ShutdownState.bare());
        }
        Ok(self.look(&snapshot))
    }

    /// All processes that are on the list, by group.
    pub(crate) async fn processes(&self) -> Result<Vec<Seen>, RpcFault> {
        let snapshot = self.snapshot().await?;
        Ok(self.look(&snapshot))
    }

    /// The processes of a snapshot that are on the list.
    pub(crate) fn look(&self, snapshot: &Snapshot) -> Vec<Seen> {
        let config = self.config();
        let mut seen = Vec::new();
        for service in &snapshot.services {
            let mut instances: Vec<Seen> =
                service.instances.iter().map(|view| self.see(view, snapshot, &config)).collect();
            let is_down = instances.iter().all(|one| one.state().is_down());
            if !self.groups().is_hidden(&service.name, is_down) {
                seen.append(&mut instances);
            }
        }
        seen
    }

    fn see(&self, view: &InstanceView, snapshot: &Snapshot, config: &Config) -> Seen {
        let logs = logs_of(view, config);
        let info = ProcessInfo::of(view, logs, snapshot.taken_us, &self.zone);
        Seen { view: view.clone(), info }
    }

    /// The one process that a text names.
    pub(crate) async fn process(&self, name: &str) -> Result<Seen, RpcFault> {
        one_of(self.processes().await?, name)
    }
}

/// The one process that a text names.
pub(crate) fn one_of(all: Vec<Seen>, name: &str) -> Result<Seen, RpcFault> {
    let Wanted::Instance(instance) = wanted(name) else { return Err(Code::BadName.of(name)) };
    let found = all.into_iter().find(|seen| seen.view.name == instance);
    found.ok_or_else(|| Code::BadName.of(name))
}

/// The processes of a group.
pub(crate) fn group_of(mut all: Vec<Seen>, name: &str) -> Result<Vec<Seen>, RpcFault> {
    all.retain(|seen| seen.info.name.group == name);
    if all.is_empty() { Err(Code::BadName.of(name)) } else { Ok(all) }
}

/// An event about us or about a listener; the root fills in the rest.
pub(crate) fn event(
    subject: &str,
    kind: &str,
    severity: control::Severity,
    message: String,
) -> EventRecord {
    EventRecord {
        seq: 0,
        source: String::new(),
        source_seq: 0,
        wall_us: 0,
        mono_ns: 0,
        node: String::new(),
        subject: subject.to_owned(),
        kind: kind.to_owned(),
        severity,
        message,
        data: serde_json::Map::new(),
    }
}

/// Where a process's output goes. What an event listener writes to its standard output is no output.
fn logs_of(view: &InstanceView, config: &Config) -> Logs {
    let spec = view.name.parse::<base::InstanceId>().ok();
    let spec = spec.and_then(|instance| config.services.get(&instance.service));
    let beside = || crate::logs::stream::stderr_path(&PathBuf::from(&view.log));
    match spec {
        Some(spec) if spec.listener.is_some() => {
            Logs { stdout: String::new(), stderr: view.log.clone() }
        }
        Some(spec) if spec.log.split_stderr => {
            Logs { stdout: view.log.clone(), stderr: beside().to_string_lossy().into_owned() }
        }
        _ => Logs { stdout: view.log.clone(), stderr: String::new() },
    }
}

fn unreachable(error: LinkError) -> RpcFault {
    Code::Failed.of(error)
}

/// A refusal of the root in supervisord's words.
pub(crate) fn fault_of(fault: &Fault) -> RpcFault {
    let text = match fault.help.as_str() {
        "" => fault.message.clone(),
        help => format!("{}; {help}", fault.message),
    };
    match fault.code {
        ErrorCode::NotFound => Code::BadName.of(text),
        ErrorCode::Forbidden
        | ErrorCode::Invalid
        | ErrorCode::Conflict
        | ErrorCode::Unsupported
        | ErrorCode::Internal => Code::Failed.of(text),
    }
}

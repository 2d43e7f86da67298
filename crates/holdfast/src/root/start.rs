//! From a checked configuration to a running loop, and back out again.

use super::adopt::Remains;
use super::control_server::{
    self, CONNECTIONS_MAX, Door, OTHERS_CONNECTIONS_MAX, REQUESTS_MAX, SUBSCRIBER_LAG_MAX,
    identify, is_owner,
};
use super::driver::{Driver, Parts};
use super::duties::Duties;
use super::events::Events;
use super::hands::{Hands, RESULTS_MAX, Realm};
use super::sockets::SocketStore;
use super::tolerate::{self, CareBook};
use super::turn::{Ended, Signals, Sources, turn};
use super::upgrade::{self, Handover, KEEP_VARIABLE};
use super::{ConfigFaults, RunOptions};
use crate::own_log;
use crate::own_loop::{stall_event, watched_runtime};
use crate::paths::Paths;
use anyhow::Context as _;
use base::RunId;
use config::{Config, DaemonSettings};
use control::Severity;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use supervisor::Input;
use sys::daemon::PidFile;
use sys::lock::StateLock;
use sys::socket::Address;
use tokio::sync::{Semaphore, broadcast, mpsc};

/// Waiting messages from tasks.
const HAPPENINGS_MAX: usize = 4096;

/// Accept queue of the control socket.
const BACKLOG: u32 = 128;

/// A connection of somebody who may nothing is closed after this long.
const STRANGER_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// Turns of the loop between the last event and the end: an answer passes through three tasks, and
/// as many again make it certain.
const LAST_TURNS: usize = 8;

/// Run numbers of one daemon's life: each life begins a block of its own.
const RUNS_PER_EPOCH: u64 = 1_000_000_000;

/// Makes the directories that everything else needs, with the rights they need.
pub(crate) fn prepare_directories(daemon: &DaemonSettings) -> anyhow::Result<()> {
    let paths = Paths::of(daemon);
    // Services that run as somebody else must reach their notify sockets and nothing else.
    let listed = [
        (paths.state.clone(), 0o751),
        (paths.events(), 0o750),
        (paths.records(), 0o700),
        (paths.fifos(), 0o700),
        (paths.logs(), 0o750),
        (paths.run.clone(), 0o755),
        (paths.notify_dir(), 0o711),
    ];
    for (path, mode) in listed {
        let existed = path.is_dir();
        fs::create_dir_all(&path).with_context(|| {
            format!(
                "cannot make the directory {} (set state_dir and run_dir of [daemon] to places \
                     that may be written)",
                path.display()
            )
        })?;
        if !existed {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
    }
    let trial = paths.state.join(".writable");
    fs::write(&trial, b"").with_context(|| {
        format!("the state directory {} is not writable", paths.state.display())
    })?;
    let _ = fs::remove_file(trial);
    Ok(())
}

/// Runs in this process, to the end of the daemon. `up` is called once everything stands.
pub(crate) fn run_here(
    options: RunOptions,
    config: Config,
    context: config::Context,
    warnings: &str,
    up: impl Fn(),
) -> anyhow::Result<()> {
    sys::memory::keep_small();
    sys::notify::clear_environment();
    own_log::start(&options.log_level, own_log::Colour::OnTerminals);
    let mut kept = sys::process::inherited_fds(KEEP_VARIABLE);
    let paths = Paths::of(&config.daemon);
    let lock = match kept.remove("lock") {
        Some(fd) => StateLock::from_fd(fd, &paths.lock()),
        None => StateLock::acquire(&paths.lock())?,
    };
    let pid_file = match (&options.pid_file, kept.remove("pid_file")) {
        // The lock goes with the descriptor.
        (Some(path), Some(fd)) => Some(PidFile::from_fd(fd, path)),
        (Some(path), None) => Some(PidFile::create(path)?),
        (None, _) => None,
    };
    sys::child::become_subreaper().context("cannot become the reaper of orphaned processes")?;
    sys::process::raise_nofile_limit();
    sys::process::ignore_sigpipe();
    // All threads are started from here to `assemble`; signals are for the loop.
    let only_the_loop = sys::process::leave_signals_to_others();
    let told: Arc<OnceLock<Arc<Events>>> = Arc::default();
    let stalled = Arc::clone(&told);
    let report = move |stall| {
        if let Some(events) = stalled.get() {
            events.record(stall_event("holdfast", stall));
        }
    };
    let (runtime, _detector) = watched_runtime("root", config.daemon.stall_limit, 4, report)?;
    let ended = runtime.block_on(async {
        let (mut driver, mut sources) = assemble(&options, config, context, &mut kept)?;
        drop(only_the_loop);
        // From now on a stall can be recorded.
        let _ = told.set(Arc::clone(&driver.events));
        if !warnings.is_empty() {
            driver.events.complain("holdfast", warnings.to_owned());
        }
        up();
        let address = driver.snapshot().console;
        let address = address.map_or(String::new(), |address| format!(", console at {address}"));
        let message = format!("holdfast {} is up{address}", env!("CARGO_PKG_VERSION"));
        driver.events.say("holdfast", "daemon.started", Severity::Info, message);
        let _ = sys::notify::send("READY=1\nSTATUS=services are supervised");
        loop {
            match turn(&mut driver, &mut sources).await {
                Ended::Shutdown => {
                    let _ = sys::notify::send("STOPPING=1");
                    let message = "holdfast ends".to_owned();
                    driver.events.say("holdfast", "daemon.stopped", Severity::Info, message);
                    driver.cgroups.remove_base_if_empty();
                    driver.remove_supervisord_socket();
                    answer_the_last(&driver).await;
                    return anyhow::Ok(());
                }
                Ended::Upgrade => execute_upgrade(&mut driver, &options, &lock, pid_file.as_ref()),
            }
        }
    });
    // Tasks and the recorder end here: what was recorded is flushed.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    let _ = fs::remove_file(paths.control_socket());
    let _ = fs::remove_file(paths.api_socket());
    drop(pid_file);
    drop(lock);
    ended
}

/// Whoever asked for the end gets the answer, which waits until what was done is on record.
async fn answer_the_last(driver: &Driver) {
    driver.events.flush();
    for _ in 0..LAST_TURNS {
        tokio::task::yield_now().await;
    }
}

fn assemble(
    options: &RunOptions,
    config: Config,
    context: config::Context,
    kept: &mut BTreeMap<String, OwnedFd>,
) -> anyhow::Result<(Driver, Sources)> {
    let paths = Paths::of(&config.daemon);
    let boot_id = sys::proc_fs::boot_id().context("cannot read the id of this boot")?;
    let state_id = identity(&paths.identity())?;
    let epoch = next_epoch(&paths.epoch())?;
    let (remains, complaints) = Remains::find(&paths, &state_id, &boot_id);
    let first_run = RunId((epoch * RUNS_PER_EPOCH).max(remains.last_run()) + 1);

    let (results, done) = mpsc::channel(RESULTS_MAX);
    let (happenings, happened) = mpsc::channel(HAPPENINGS_MAX);
    let (requests, asked) = mpsc::channel(REQUESTS_MAX);
    let (listeners, _) = broadcast::channel(SUBSCRIBER_LAG_MAX);
    let node = config.daemon.node.clone();
    let events = Arc::new(Events::start(&paths.events(), node, listeners.clone())?);
    let reaped = Arc::new(AtomicU64::new(0));
    let hands = Hands::start(&results, &reaped).context("cannot start threads")?;
    let program = std::env::current_exe().context("cannot find our own program")?;
    let door = Door { requests, events: listeners };
    let cgroups = Arc::new(sys::cgroup::Cgroups::detect(&format!("holdfast-{state_id}")));
    let sockets = SocketStore::default();
    let signals = Signals::listen().context("cannot listen to signals")?;
    let control =
        listener(kept, "control", &Address::Unix { path: paths.control_socket(), mode: 0o666 })?;
    let api = listener(kept, "api", &Address::Unix { path: paths.api_socket(), mode: 0o666 })?;
    let mut duties = Duties::new(program, door.clone(), BTreeMap::new());
    duties.listeners.insert("api".into(), api);
    let written = events.written();
    let (mut care, forgotten) = CareBook::load(&paths.care());
    care.environment = tolerate::modes_of_environment(&config).map_err(ConfigFaults)?;
    let mut driver = Driver::new(Parts {
        paths,
        boot_id,
        state_id,
        config,
        config_path: options.config.clone(),
        context,
        first_run,
        duties,
        hands,
        happenings,
        reaped,
        cgroups,
        sockets,
        events,
        care,
    });
    driver.control_fd = Some(control.as_fd().try_clone_to_owned()?);
    for complaint in complaints.into_iter().chain(forgotten) {
        driver.events.complain("holdfast", complaint);
    }
    for name in ["http", "tcp", "health", "agent", "supervisord.unix", "supervisord.tcp"] {
        if let Some(fd) = kept.remove(name) {
            driver.duties.listeners.insert(name.into(), fd);
        }
    }
    driver.keep_sockets(kept);
    driver.open_listeners();
    driver.write_effective_config();
    for notice in driver.cgroups.notices() {
        let help = "run holdfast as root, or under systemd with `Delegate=yes`; services without \
                    `limits` work all the same";
        driver.notice(&format!("cgroup: {notice}"), notice.clone(), help);
    }
    serve_control(&mut driver, control, door)?;
    driver.begin(remains);
    let watchdog = sys::notify::watchdog_interval();
    let sources = Sources { done, happenings: happened, asked, written, signals, watchdog };
    Ok((driver, sources))
}

fn serve_control(driver: &mut Driver, fd: OwnedFd, door: Door) -> anyhow::Result<()> {
    let listener = std::os::unix::net::UnixListener::from(fd);
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let api = driver.api_settings.subscribe();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let room_for_others = Arc::new(Semaphore::new(OTHERS_CONNECTIONS_MAX));
    driver.tasks.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Anybody may connect; who only holds connections must not shut out those
                    // who own this daemon.
                    let room = if is_owner(&stream) { &room } else { &room_for_others };
                    let Ok(permit) = Arc::clone(room).try_acquire_owned() else { continue };
                    let (settings, door) = (api.borrow().clone(), door.clone());
                    connections.spawn(async move {
                        let caller = identify(&stream, settings).await;
                        let stranger = caller.role == control::Role::None;
                        let serving = control_server::serve(stream, caller, door, false);
                        if stranger {
                            // Time enough to be told that this is not for them.
                            let _ = tokio::time::timeout(STRANGER_MAX, serving).await;
                        } else {
                            serving.await;
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control connection");
                    // Out of descriptors: the next try would fail at once, and again (C6).
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

fn listener(
    kept: &mut BTreeMap<String, OwnedFd>,
    name: &str,
    address: &Address,
) -> anyhow::Result<OwnedFd> {
    match kept.remove(name) {
        Some(fd) => Ok(fd),
        None => Ok(sys::socket::listen(address, BACKLOG)?),
    }
}

/// This state directory's own random name: processes are found again by it.
fn identity(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().len() == 16 => Ok(text.trim().to_owned()),
        _ => {
            let mut bytes = [0; 8];
            let random = ring::rand::SystemRandom::new();
            ring::rand::SecureRandom::fill(&random, &mut bytes)
                .map_err(|_| anyhow::anyhow!("the kernel gives no random numbers"))?;
            let name = format!("{:016x}", u64::from_le_bytes(bytes));
            fs::write(path, &name).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(name)
        }
    }
}

/// Counts the daemons of this state directory. Synced: a run number must never come twice.
fn next_epoch(path: &Path) -> anyhow::Result<u64> {
    let last = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let next = last.unwrap_or(0) + 1;
    let fresh = path.with_extension("new");
    fs::write(&fresh, next.to_string())
        .and_then(|()| fs::File::open(&fresh)?.sync_all())
        .and_then(|()| fs::rename(&fresh, path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(next)
}

impl Driver {
    /// Tells the cores what is wanted and what is left, and lets them begin.
    fn begin(&mut self, remains: Remains) {
        if self.config.mail.is_none() {
            self.begin_mail();
        }
        self.forget_duties();
        let duties = self.duties.specs(&self.config);
        self.tell(Realm::Duties, Input::Configure(duties));
        self.tell(Realm::Duties, Input::Begin);
        let wanted = self.config.services.iter();
        let wanted = wanted.map(|(name, spec)| (name.clone(), Arc::clone(spec))).collect();
        self.tell(Realm::Services, Input::Configure(wanted));
        self.apply_modes();
        let adopted = self.adopt(remains);
        if 0 < adopted {
            let message = match adopted {
                1 => "1 running service was adopted; it was not restarted for it".to_owned(),
                _ => format!("{adopted} running services were adopted; none was restarted for it"),
            };
            self.events.say("holdfast", "daemon.adopted", Severity::Info, message);
        }
        self.tell(Realm::Services, Input::Begin);
        // Children that ended while a new binary was taking over.
        self.reap();
    }

    /// Opens and closes the listeners of the duties so that they are as configured.
    pub(crate) fn open_listeners(&mut self) {
        let tcp = self.config.api.tcp.as_ref().map(|tcp| tcp.listen);
        let health = self.config.health;
        let face = self.config.supervisord_face();
        self.duties.supervisord_url = face.as_ref().and_then(crate::supervisord::url);
        let (unix, face_tcp) = face.map_or((None, None), |face| (face.unix, face.tcp));
        let socket = unix.as_ref().map(|(path, _)| path.clone());
        if self.duties.supervisord_socket != socket {
            self.remove_supervisord_socket();
            self.duties.supervisord_socket = socket;
        }
        let unix = unix.map(|(path, mode)| Address::Unix { path, mode });
        let at = |address: Option<SocketAddr>| address.map(Address::Tcp);
        self.open_listener("http", "`listen` of [console]", at(self.config.console.listen));
        self.open_listener("tcp", "`listen` of [api.tcp]", at(tcp));
        self.open_listener("health", "`http` of [health]", at(health.http));
        self.open_listener("agent", "`agent` of [health]", at(health.agent));
        self.open_listener("supervisord.unix", "`unix` of [supervisord]", unix);
        self.open_listener("supervisord.tcp", "`tcp` of [supervisord]", at(face_tcp));
    }

    /// A client that finds no file is told so; one that finds a dead socket is left to wonder.
    fn remove_supervisord_socket(&mut self) {
        if let Some(path) = self.duties.supervisord_socket.take() {
            let _ = fs::remove_file(path);
        }
    }

    fn open_listener(&mut self, name: &str, setting: &str, wanted: Option<Address>) {
        let code = format!("listen-{name}");
        self.notices.remove(&code);
        let Some(wanted) = wanted else {
            self.duties.listeners.remove(name);
            return;
        };
        let held = self.duties.listeners.get(name);
        if held.is_some_and(|fd| sys::socket::is_bound_to(fd.as_fd(), &wanted)) {
            if let Address::Unix { path, mode } = &wanted {
                let _ = fs::set_permissions(path, fs::Permissions::from_mode(*mode));
            }
            return;
        }
        self.duties.listeners.remove(name);
        match sys::socket::listen(&wanted, BACKLOG) {
            Ok(fd) => {
                self.duties.listeners.insert(name.into(), fd);
            }
            Err(error) => {
                // Nobody's services wait for a web page.
                let help = format!(
                    "free the address or set {setting} to another, then run `holdfast reload`"
                );
                self.notice(&code, format!("not served at {wanted}: {error:#}"), &help);
            }
        }
    }

    /// Writes down what is in force, for the duties and for people.
    pub(crate) fn write_effective_config(&mut self) {
        self.api_settings.send_replace(self.config.api.clone());
        let path = self.paths.effective_config();
        let fresh = path.with_extension("new");
        let written = write_private(&fresh, &config::show(&self.config))
            .and_then(|()| fs::rename(&fresh, &path));
        if let Err(error) = written {
            let message = format!("cannot write {}: {error}", path.display());
            self.events.complain("holdfast", message);
        }
        self.want_watch();
        self.watch_configured();
    }

    /// Takes over the listening sockets of services that the program before us had open.
    fn keep_sockets(&mut self, kept: &mut BTreeMap<String, OwnedFd>) {
        for (name, fd) in std::mem::take(kept) {
            let mut parts = name.splitn(4, '/');
            let named = (parts.next(), parts.next(), parts.next(), parts.next());
            let (Some("socket"), Some(service), Some(socket), Some(index)) = named else {
                continue;
            };
            let Ok(service) = service.parse() else { continue };
            let instance = base::InstanceId { service, index: index.parse().ok() };
            let spec = self.config.services.get(&instance.service);
            let wanted = spec
                .and_then(|spec| spec.process.sockets.iter().find(|wanted| wanted.name == socket));
            if let Some(wanted) = wanted {
                self.sockets.put(wanted, &instance, fd);
            }
        }
    }
}

/// Writes a file with secrets in it: nobody else may read it at any moment, not even while it is
/// being made.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn execute_upgrade(
    driver: &mut Driver,
    options: &RunOptions,
    lock: &StateLock,
    pid_file: Option<&PidFile>,
) {
    let Some(upgrade) = driver.upgrade.take() else { return };
    let settled = driver.settle(upgrade::SETTLE_MAX);
    let mut arguments: Vec<OsString> = vec!["holdfast".into(), "run".into(), "--config".into()];
    arguments.push(options.config.clone().into());
    if let Some(directory) = &options.state_dir {
        arguments.extend(["--state-dir".into(), directory.clone().into()]);
    }
    if let Some(path) = &options.pid_file {
        arguments.extend(["--pid-file".into(), path.clone().into()]);
    }
    let sockets = driver.sockets.list();
    let mut kept = vec![("lock".to_owned(), lock.as_fd())];
    kept.extend(pid_file.map(|file| ("pid_file".to_owned(), file.as_fd())));
    kept.extend(driver.control_fd.as_ref().map(|fd| ("control".to_owned(), fd.as_fd())));
    kept.extend(driver.duties.listeners.iter().map(|(name, fd)| (name.clone(), fd.as_fd())));
    kept.extend(sockets.iter().map(|(name, fd)| (name.clone(), fd.as_fd())));
    let error = match settled {
        true => {
            driver.events.flush();
            upgrade::execute(&Handover { binary: &upgrade.binary, arguments, kept }).to_string()
        }
        false => "jobs under way did not end in time".to_owned(),
    };
    let message = format!("not upgraded: {error}; the running holdfast goes on");
    driver.events.say("holdfast", "daemon.upgrade_refused", Severity::Error, message);
}

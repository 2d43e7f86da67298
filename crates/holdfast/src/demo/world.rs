//! The demo's world: a temporary directory, a daemon in it, and eyes and hands to use them.
//!
//! Invariant: every wait has a deadline and ends at once when the demo is interrupted.

use super::Stop;
use super::interrupt::Interrupt;
use super::narrator::Narrator;
use super::settings::{self, SERVICES, Settings};
use super::visitor::{Totals, Visitor};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output::Tone;
use base::Now;
use control::{EventRecord, InstanceView, Request, ServiceAction, Snapshot};
use std::fs::{DirBuilder, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The console's usual port; the demo takes another one where it is in use.
const CONSOLE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7490);

/// From exec of the daemon to its first answer.
const DAEMON_MAX: Duration = Duration::from_secs(15);

/// From there until all services are ready.
const READY_MAX: Duration = Duration::from_secs(20);

/// Pause between two looks at the state of things.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A socket path has at most 107 bytes (unix(7)); the rest is ours.
const TEMPORARY_BYTES_MAX: usize = 40;

/// Everything of one demo.
#[derive(Debug)]
pub(crate) struct World {
    pub(super) dir: PathBuf,
    pub(super) keep: bool,
    pub(super) daemon: Option<Child>,
    pub(super) interrupt: Interrupt,
    pub(super) visitor: Option<Visitor>,
    binary: PathBuf,
    web: SocketAddr,
    console: Option<String>,
}

impl World {
    /// Makes the directory and the configuration. Nothing runs yet.
    pub(crate) fn create(interrupt: Interrupt, keep: bool) -> Result<Self, Failure> {
        let fail = |what: &str, why: &dyn std::fmt::Display| Failure::no(format!("{what}: {why}"));
        let binary =
            std::env::current_exe().map_err(|why| fail("cannot find my own binary", &why))?;
        let free = || free_address(None).map_err(|why| fail("cannot listen on loopback", &why));
        let (web, store) = (free()?, free()?);
        let console = match free_address(Some(CONSOLE)) {
            Ok(address) => address,
            Err(_) => free()?,
        };
        let dir = temporary().join(format!("holdfast-demo-{}", std::process::id()));
        let cannot = |why| fail(&format!("cannot make the directory {}", dir.display()), &why);
        DirBuilder::new().mode(0o700).create(&dir).map_err(cannot)?;
        let toml = settings::render(&Settings { dir: &dir, binary: &binary, console, web, store });
        let world =
            Self { dir, keep, daemon: None, interrupt, visitor: None, binary, web, console: None };
        std::fs::write(world.config(), toml).map_err(|why| {
            let _ = std::fs::remove_dir_all(&world.dir);
            fail("cannot write the demo's configuration", &why)
        })?;
        Ok(world)
    }

    fn config(&self) -> PathBuf {
        self.dir.join("holdfast.toml")
    }

    /// The daemon's own log.
    pub(super) fn own_log(&self) -> PathBuf {
        self.dir.join("holdfast.log")
    }

    /// The program that runs as daemon and as services.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// The control socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("run/control.sock")
    }

    /// Where the web service listens.
    pub(crate) fn web(&self) -> SocketAddr {
        self.web
    }

    /// The console's address.
    pub(crate) fn console_url(&self) -> String {
        self.console.clone().unwrap_or_else(|| "not served".to_owned())
    }

    /// The file whose existence breaks `fragile`.
    pub(crate) fn broken(&self) -> PathBuf {
        self.dir.join(settings::BROKEN)
    }

    /// Executes the daemon, and waits until it answers.
    pub(crate) fn start_daemon(&mut self, narrator: &Narrator<'_>) -> Result<Snapshot, Stop> {
        let pid = self.spawn_daemon().map_err(|why| {
            Stop::Broken(format!("cannot start {}: {why}", self.binary.display()))
        })?;
        narrator.tell(Tone::Plain, &format!("holdfast run, pid {pid}, in {}", self.dir.display()));
        let deadline = Instant::now() + DAEMON_MAX;
        while Instant::now() < deadline {
            if let Ok(snapshot) = Client::connect(&self.socket()).and_then(|mut c| c.status()) {
                self.remember(&snapshot);
                return Ok(snapshot);
            }
            let ended = self.daemon.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                self.daemon = None;
                let said = self.last_words();
                return Err(Stop::Broken(format!("the daemon ended at once ({status}):\n{said}")));
            }
            self.pause(LOOK_EVERY)?;
        }
        Err(Stop::Broken(format!("the daemon does not answer:\n{}", self.last_words())))
    }

    fn spawn_daemon(&mut self) -> std::io::Result<u32> {
        let log = File::options().create(true).append(true).open(self.own_log())?;
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("--config").arg(self.config());
        for name in ["HOLDFAST_SOCKET", "HOLDFAST_CONFIG", "HOLDFAST_LOG", "NOTIFY_SOCKET"] {
            command.env_remove(name);
        }
        // A group of its own: Ctrl-C is for the demo, which then stops the daemon in order.
        command.process_group(0).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let child = command.spawn()?;
        let pid = child.id();
        self.daemon = Some(child);
        Ok(pid)
    }

    /// SIGKILL to the daemon, as the kernel's out-of-memory killer would.
    pub(crate) fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// The end of the daemon's own log.
    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.own_log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    fn remember(&mut self, snapshot: &Snapshot) {
        self.console.clone_from(&snapshot.console);
    }

    /// Waits until every service is ready, then sends the visitor. How long it took.
    pub(crate) fn wait_until_all_ready(&mut self) -> Result<Duration, Stop> {
        let begun = Instant::now();
        let web = self.web;
        let ready = self.wait_for(READY_MAX, |snapshot| {
            let of = |name| find(snapshot, name).is_some_and(|i| i.state == "running");
            SERVICES.iter().all(|name| of(name))
        })?;
        if !ready {
            return Err(Stop::Broken(format!("not all services are ready: {}", self.not_ready()?)));
        }
        let took = begun.elapsed();
        let visitor = Visitor::start(web)
            .map_err(|why| Stop::Broken(format!("cannot start a thread: {why}")))?;
        self.visitor = Some(visitor);
        Ok(took)
    }

    fn not_ready(&mut self) -> Result<String, Stop> {
        let snapshot = self.status()?;
        let all = snapshot.services.iter().flat_map(|service| &service.instances);
        let bad = all.filter(|i| i.state != "running").map(|i| {
            let because = i.because.first().map_or("", |link| link.message.as_str());
            format!("{} is {} ({because})", i.name, i.state)
        });
        Ok(bad.collect::<Vec<_>>().join(", "))
    }

    /// Waits, unless the demo should end.
    pub(crate) fn pause(&mut self, pause: Duration) -> Result<(), Stop> {
        if self.interrupt.wait(pause) { Err(Stop::Interrupted) } else { Ok(()) }
    }

    /// Everything that is to be seen now.
    pub(crate) fn status(&mut self) -> Result<Snapshot, Stop> {
        let snapshot = Client::connect(&self.socket())?.status()?;
        self.remember(&snapshot);
        Ok(snapshot)
    }

    /// One instance as it is now.
    pub(crate) fn instance(&mut self, name: &str) -> Result<InstanceView, Stop> {
        let snapshot = self.status()?;
        find(&snapshot, name)
            .cloned()
            .ok_or_else(|| Stop::Broken(format!("there is no service {name}")))
    }

    /// Looks until a condition holds; false when it does not within `most`.
    pub(crate) fn wait_for(
        &mut self,
        most: Duration,
        mut condition: impl FnMut(&Snapshot) -> bool,
    ) -> Result<bool, Stop> {
        let deadline = Instant::now() + most;
        while Instant::now() < deadline {
            if condition(&self.status()?) {
                return Ok(true);
            }
            self.pause(LOOK_EVERY)?;
        }
        Ok(false)
    }

    /// Asks the daemon to do something with a service.
    pub(crate) fn command(&mut self, action: ServiceAction, name: &str) -> Result<(), Stop> {
        let targets = vec![name.to_owned()];
        Client::connect(&self.socket())?.ask(Request::Service { action, targets })?;
        Ok(())
    }

    /// Watches one instance from before a fault until it is ready again.
    pub(crate) fn watch(&mut self, name: &str) -> Result<Watch, Stop> {
        let mut listener = Client::connect(&self.socket())?;
        listener.ask(Request::Subscribe)?;
        Ok(Watch { listener, before: self.instance(name)?, heard: Vec::new() })
    }

    /// What the visitor has counted.
    pub(crate) fn visitor_totals(&self) -> Totals {
        self.visitor.as_ref().map(Visitor::totals).unwrap_or_default()
    }

    /// The same, before a fault.
    pub(crate) fn visitor_begin(&self) -> Totals {
        self.visitor.as_ref().map(Visitor::begin).unwrap_or_default()
    }
}

/// One instance, watched across a fault.
#[derive(Debug)]
pub(crate) struct Watch {
    listener: Client,
    /// As it was before.
    pub(crate) before: InstanceView,
    /// What was said of it since, up to the last look.
    pub(crate) heard: Vec<EventRecord>,
}

impl Watch {
    /// Waits for another run that is ready: the time since `since`, and how it is now. The inner
    /// failure says why there is none within `most`.
    pub(crate) fn until_ready(
        &mut self,
        world: &mut World,
        since: Now,
        most: Duration,
    ) -> Result<Result<(Duration, InstanceView), String>, Stop> {
        let deadline = Instant::now() + most;
        let mut ready_at = None;
        while Instant::now() < deadline {
            world.pause(Duration::ZERO)?;
            match self.listener.event(Instant::now() + LOOK_EVERY)? {
                Some(event) if event.subject == self.before.name => {
                    let at = Now::from_nanos(event.mono_ns);
                    if event.kind == "service.ready" && since < at {
                        ready_at = Some(at);
                    }
                    self.heard.push(event);
                    continue;
                }
                Some(_) => continue,
                None => {}
            }
            let now = world.instance(&self.before.name)?;
            if now.state == "running" && now.run != self.before.run {
                // The event has the exact time; without one the time of this look must do.
                let at = ready_at.unwrap_or_else(sys::clock::now);
                return Ok(Ok((at.since(since), now)));
            }
        }
        let now = world.instance(&self.before.name)?;
        let because = now.because.first().map_or("", |link| link.message.as_str());
        Ok(Err(format!("{} is {} {because}", now.name, now.state)))
    }
}

/// One instance of a snapshot.
pub(crate) fn find<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a InstanceView> {
    snapshot.services.iter().flat_map(|s| &s.instances).find(|i| i.name == name)
}

/// An address on loopback that nobody listens on: the wanted one, or any.
fn free_address(wanted: Option<SocketAddr>) -> std::io::Result<SocketAddr> {
    let any = SocketAddr::new(CONSOLE.ip(), 0);
    TcpListener::bind(wanted.unwrap_or(any))?.local_addr()
}

/// Where temporary directories go, unless that path is too long for a socket.
fn temporary() -> PathBuf {
    let dir = std::env::temp_dir();
    if dir.as_os_str().len() <= TEMPORARY_BYTES_MAX { dir } else { Path::new("/tmp").to_owned() }
}

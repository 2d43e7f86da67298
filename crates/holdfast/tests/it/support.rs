//! A daemon for one test: a temporary directory, the real binary, and conditions with deadlines.
//!
//! Invariant: when a `Daemon` is dropped, nothing that it started is alive; a test that leaves
//! something behind fails.

use control::{
    Envelope, EventRecord, InstanceView, Reply, Request, ServiceAction, Snapshot, WhyView,
    decode_frame, encode_frame,
};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A condition that has not come true by then never will.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_holdfast");

/// Waits for a condition; panics with the last look if the deadline passes.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(why) if deadline < Instant::now() => panic!("{what} did not come true: {why}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(10)),
        }
    }
}

/// True while a process exists and is no zombie.
pub(crate) fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

pub(crate) fn kill(pid: u32, signal: &str) {
    let done = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).output();
    assert!(done.unwrap().status.success(), "kill -{signal} {pid}");
}

/// A free port of the loopback.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) struct Daemon {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) child: Option<Child>,
    /// What the daemon is executed by: a program and its arguments, or nothing. It has to replace
    /// itself by the daemon, as `setpriv` does.
    pub(crate) under: Vec<String>,
}

impl Daemon {
    /// A directory with a configuration; nothing runs yet. `{dir}` stands for the directory.
    pub(crate) fn prepare(services: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let daemon = Self { directory, child: None, under: Vec::new() };
        daemon.configure(services);
        daemon
    }

    /// A running daemon.
    pub(crate) fn start(services: &str) -> Self {
        let mut daemon = Self::prepare(services);
        daemon.run();
        daemon
    }

    pub(crate) fn dir(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Writes the configuration; the daemon's own part is always the same. There is no web console
    /// unless the text has a section for it.
    pub(crate) fn configure(&self, services: &str) {
        let dir = self.dir().display();
        let services = services.replace("{dir}", &dir.to_string());
        let mut own = format!("[daemon]\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\n");
        if !services.contains("[console]") {
            own.push_str("[console]\nlisten = \"off\"\n");
        }
        fs::write(self.path("holdfast.toml"), own + &services).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--config").arg(self.path("holdfast.toml"));
        command.env("NO_COLOR", "1");
        command
    }

    /// Runs one command of the command line to its end.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn run(&mut self) {
        let log =
            fs::File::options().create(true).append(true).open(self.path("daemon.log")).unwrap();
        let run = self.command(&["run"]);
        let mut command = match self.under.split_first() {
            None => run,
            Some((program, arguments)) => {
                let mut under = Command::new(program);
                under.args(arguments).arg(run.get_program()).args(run.get_args());
                under.env("NO_COLOR", "1");
                under
            }
        };
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        wait_for("the daemon answers", || self.try_ask(Request::Ping).map(|_| ()));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// `kill -9` of the root, and nothing else.
    pub(crate) fn kill_root(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn try_ask(&self, request: Request) -> Result<Reply, String> {
        let path = self.path("run/control.sock");
        let mut stream = UnixStream::connect(&path).map_err(|e| format!("{e}: {}", self.log()))?;
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let frame = encode_frame(&Envelope { id: 1, body: request }).unwrap();
        stream.write_all(&frame).map_err(|error| error.to_string())?;
        let mut buffer = Vec::new();
        let mut chunk = [0; 8192];
        loop {
            if let Some((envelope, _)) = decode_frame::<Envelope<Reply>>(&buffer).unwrap() {
                return Ok(envelope.body);
            }
            match stream.read(&mut chunk).map_err(|error| error.to_string())? {
                0 => return Err("the connection ended without an answer".into()),
                read => buffer.extend_from_slice(&chunk[..read]),
            }
        }
    }

    pub(crate) fn ask(&self, request: Request) -> Reply {
        self.try_ask(request).unwrap()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        match self.ask(Request::Status) {
            Reply::Status { snapshot } => *snapshot,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn why(&self, subject: &str) -> WhyView {
        match self.ask(Request::Why { subject: subject.into() }) {
            Reply::Why { why } => *why,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn act(&self, action: ServiceAction, target: &str) {
        let reply = self.ask(Request::Service { action, targets: vec![target.into()] });
        assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    }

    pub(crate) fn instance(&self, name: &str) -> InstanceView {
        let snapshot = self.snapshot();
        let mut all = snapshot.services.into_iter().flat_map(|service| service.instances);
        all.find(|instance| instance.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Waits until an instance is in a state, and returns what is seen of it then.
    pub(crate) fn wait_state(&self, name: &str, state: &str) -> InstanceView {
        wait_for(&format!("{name} is {state}"), || {
            let seen = self.instance(name);
            if seen.state == state { Ok(seen) } else { Err(format!("{seen:?}\n{}", self.log())) }
        })
    }

    /// Waits until an instance runs under another pid than `old`.
    pub(crate) fn wait_replaced(&self, name: &str, old: u32) -> InstanceView {
        wait_for(&format!("{name} has a successor"), || {
            let seen = self.instance(name);
            let replaced = seen.state == "running" && seen.pid.is_some_and(|pid| pid != old);
            if replaced { Ok(seen) } else { Err(format!("{seen:?}\n{}", self.log())) }
        })
    }

    /// All events of the journal as the console tells them, oldest first, filtered by `arguments`
    /// of `holdfast events`.
    pub(crate) fn try_events(&self, arguments: &[&str]) -> Result<Vec<EventRecord>, String> {
        let wanted = [&["events", "--json", "--limit", "10000"], arguments].concat();
        let output = self.cli(&wanted);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // The journal's file is read where the console does not answer: that is not meant here.
        if !output.status.success() || !said.is_empty() {
            return Err(said);
        }
        let text = String::from_utf8(output.stdout).unwrap();
        Ok(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// Waits until the journal has an event of a kind about a subject; the newest such.
    pub(crate) fn wait_event(&self, subject: &str, kind: &str) -> EventRecord {
        wait_for(&format!("{kind} of {subject} is in the journal"), || {
            let events = self.try_events(&["--subject", subject])?;
            let found = events.iter().rfind(|event| event.subject == subject && event.kind == kind);
            found.cloned().ok_or_else(|| format!("{events:#?}"))
        })
    }

    /// One whose message contains this text.
    pub(crate) fn wait_event_with(&self, subject: &str, kind: &str, text: &str) -> EventRecord {
        wait_for(&format!("{kind} of {subject} says {text}"), || {
            let events = self.try_events(&["--subject", subject])?;
            let found = events.iter().rfind(|event| {
                event.subject == subject && event.kind == kind && event.message.contains(text)
            });
            found.cloned().ok_or_else(|| format!("{events:#?}"))
        })
    }

    /// A file in the daemon's directory, which another user may read too.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Lets other users enter the directory.
    pub(crate) fn open_to_all(&self) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Waits until the daemon has logged an event of a kind; the newest such line.
    pub(crate) fn wait_event_in_log(&self, kind: &str) -> String {
        wait_for(&format!("{kind} is in the daemon's log"), || {
            let log = self.log();
            let found = log.lines().rfind(|line| line.contains(&format!("kind={kind}")));
            found.map(str::to_owned).ok_or(log)
        })
    }

    /// The daemon's own log, for messages of failed tests.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// What a service has written.
    pub(crate) fn output(&self, instance: &str) -> String {
        fs::read_to_string(self.path(&format!("state/logs/{instance}.log"))).unwrap_or_default()
    }

    /// Asks the daemon to end and waits for it; its exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        let _ = self.try_ask(Request::Stop { keep_services: false });
        let mut child = self.child.take().unwrap();
        wait_for("the daemon ends", || match child.try_wait().unwrap() {
            Some(status) => Ok(status.code().unwrap_or(-1)),
            None => Err(self.log()),
        })
    }

    /// Every process that belongs to this daemon's state directory, with its command line.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        let Ok(id) = fs::read_to_string(self.path("state/id")) else { return Vec::new() };
        let marker = format!("HOLDFAST_RUN={}/", id.trim());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let env = fs::read(entry.path().join("environ")).unwrap_or_default();
            if env.split(|byte| *byte == 0).any(|pair| pair.starts_with(marker.as_bytes())) {
                let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
            }
        }
        found.retain(|(pid, _)| alive(*pid));
        found
    }
}

/// True for root; otherwise says that a test is skipped.
pub(crate) fn root_or_skip(why: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can {why}");
    }
    root
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some() && !std::thread::panicking() {
            self.stop();
        }
        if let Some(mut child) = self.child.take() {
            eprintln!("{}", self.log());
            let _ = child.kill();
            let _ = child.wait();
        }
        // The keeper of the output goes on for a while when its root was killed; services too.
        let left = self.processes();
        for (pid, _) in &left {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).output();
        }
        // The folder is removed next, which whoever still writes into it would keep from going.
        let deadline = Instant::now() + Duration::from_secs(10);
        while left.iter().any(|(pid, _)| alive(*pid)) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(2));
        }
        let services: Vec<_> =
            left.iter().filter(|(_, command)| !command.contains("duty logs")).collect();
        if !std::thread::panicking() {
            assert!(services.is_empty(), "left behind: {services:?}");
        }
    }
}

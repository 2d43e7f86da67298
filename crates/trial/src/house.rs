//! A daemon in a temporary directory, its events, and hands to do something with it.
//!
//! Invariant: when a house is dropped, nothing that it started is alive, and its files, its mounts
//! and its control groups are gone.

use crate::cgroups;
use crate::client::Client;
use crate::clock::At;
use anyhow::{Context, Result, bail};
use control::{EventRecord, InstanceView, Reply, Request, ServiceAction, Snapshot};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// From exec to the first answer; also on a machine that builds something else meanwhile.
const START_MAX: Duration = Duration::from_secs(30);

/// Services are stopped, duties end.
const STOP_MAX: Duration = Duration::from_secs(30);

/// Pause between two looks at something that tells of no event.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a house is made of.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// The configuration; `{dir}` stands for the house's directory. The daemon's own directories
    /// are added, and that it has no console, unless there is a section for one.
    pub services: String,
    /// What the daemon is executed by: a program and its arguments, `{dir}` as above. It has to
    /// replace itself by the daemon.
    pub under: Vec<String>,
}

/// A process of a house.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// `web:1/17`: the instance, and the number of the run that it belongs to.
    pub run: String,
    /// Its command line.
    pub command: String,
}

/// A daemon that runs.
pub struct House {
    directory: tempfile::TempDir,
    holdfast: PathBuf,
    child: Option<Child>,
    listener: Option<Client>,
    /// Everything that has happened so far, as far as it was waited for.
    pub events: Vec<EventRecord>,
}

impl House {
    /// Starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// It does not; the error has what it said.
    pub fn start(holdfast: &Path, setting: &Setting) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("trial-").tempdir()?;
        let holdfast = holdfast.to_owned();
        let mut house =
            Self { directory, holdfast, child: None, listener: None, events: Vec::new() };
        house.configure(&setting.services)?;
        house.execute(setting)?;
        let deadline = Instant::now() + START_MAX;
        let mut listener = loop {
            match Client::connect(&house.path("run/control.sock")) {
                Ok(client) => break client,
                Err(error) if deadline < Instant::now() => bail!("{error:#}: {}", house.log()),
                Err(_) => std::thread::park_timeout(LOOK_EVERY),
            }
            if let Some(child) = &mut house.child
                && let Some(status) = child.try_wait()?
            {
                house.child = None;
                bail!("the daemon ended at once ({status}): {}", house.log());
            }
        };
        listener.ask(Request::Subscribe)?;
        house.listener = Some(listener);
        Ok(house)
    }

    /// Writes the configuration.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn configure(&self, services: &str) -> Result<()> {
        let dir = self.dir().display();
        let services = services.replace("{dir}", &dir.to_string());
        let mut own = format!("[daemon]\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\n");
        if !services.contains("[console]") {
            own.push_str("[console]\nlisten = \"off\"\n");
        }
        Ok(fs::write(self.path("holdfast.toml"), own + &services)?)
    }

    fn execute(&mut self, setting: &Setting) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.path("daemon.log"))?;
        let dir = self.dir().display().to_string();
        let mut words: Vec<String> =
            setting.under.iter().map(|word| word.replace("{dir}", &dir)).collect();
        words.push(self.holdfast.display().to_string());
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).arg("run").arg("--config").arg(self.path("holdfast.toml"));
        for name in ["HOLDFAST_SOCKET", "HOLDFAST_CONFIG", "HOLDFAST_MODE", "NOTIFY_SOCKET"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).env("NO_COLOR", "1");
        self.child = Some(command.spawn().context("cannot start the daemon")?);
        Ok(())
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// A file of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// The root process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// The daemon's own log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// Asks the daemon something.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub fn ask(&self, request: Request) -> Result<Reply> {
        Client::connect(&self.path("run/control.sock"))?.ask(request)
    }

    /// Everything that is to be seen.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn snapshot(&self) -> Result<Snapshot> {
        match self.ask(Request::Status)? {
            Reply::Status { snapshot } => Ok(*snapshot),
            other => bail!("not what was asked for: {other:?}"),
        }
    }

    /// One instance.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn instance(&self, name: &str) -> Result<InstanceView> {
        let snapshot = self.snapshot()?;
        let mut all = snapshot.services.into_iter().flat_map(|service| service.instances);
        all.find(|it| it.name == name).with_context(|| format!("there is no instance {name}"))
    }

    /// Does something with a service.
    ///
    /// # Errors
    /// The daemon refuses.
    pub fn act(&self, action: ServiceAction, name: &str) -> Result<()> {
        self.ask(Request::Service { action, targets: vec![name.to_owned()] }).map(|_| ())
    }

    /// Runs one command of the command line; its output.
    ///
    /// # Errors
    /// It fails.
    pub fn cli(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.holdfast)
            .args(arguments)
            .arg("--config")
            .arg(self.path("holdfast.toml"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("holdfast {} failed: {said}", arguments.join(" "));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Waits until a look says yes.
    ///
    /// # Errors
    /// It does not by the deadline.
    pub fn wait_for(
        &self,
        what: &str,
        most: Duration,
        mut look: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + most;
        while !look(self)? {
            if deadline < Instant::now() {
                bail!("{what}: not within {most:?}\n{}", self.log());
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        Ok(())
    }

    /// Waits for an event that was seen at `from` or later; `None` if it does not come.
    ///
    /// # Errors
    /// The daemon is gone.
    pub fn wait_event(
        &mut self,
        from: At,
        most: Duration,
        fits: impl Fn(&EventRecord) -> bool,
    ) -> Result<Option<EventRecord>> {
        let deadline = Instant::now() + most;
        let mut looked_at = 0;
        loop {
            let news = self.events.get(looked_at..).unwrap_or_default();
            if let Some(found) = news.iter().find(|it| from <= At::of(it) && fits(it)) {
                return Ok(Some(found.clone()));
            }
            looked_at = self.events.len();
            let listener = self.listener.as_mut().context("the daemon is not there")?;
            match listener.event(deadline)? {
                Some(event) => self.events.push(event),
                None => return Ok(None),
            }
        }
    }

    /// Takes the events that have come meanwhile.
    ///
    /// # Errors
    /// The daemon is gone.
    pub fn take_events(&mut self) -> Result<()> {
        self.wait_event(At::now(), LOOK_EVERY, |_| false).map(|_| ())
    }

    /// Every process of this house that is alive, the daemon's duties among them, found by what
    /// stands in its environment, which whoever has escaped from everything else has still
    /// inherited; or by its control group, because a program that sets a title of its own (nginx)
    /// writes it over its environment.
    pub fn processes(&self) -> Vec<Process> {
        let Ok(id) = fs::read_to_string(self.inside("state/id")) else { return Vec::new() };
        let id = id.trim();
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            let (env, groups) = (read("environ"), read("cgroup"));
            let by_env = || run_in_environment(&env, id);
            let Some(run) = by_env().or_else(|| run_in_groups(&groups, id)) else { continue };
            if is_alive(pid) {
                let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
                found.push(Process { pid, run, command });
            }
        }
        found
    }

    /// A file as the daemon sees it, which may have mounts of its own.
    pub fn inside(&self, name: &str) -> PathBuf {
        let seen = PathBuf::from(format!("/proc/{}/root{}", self.pid(), self.path(name).display()));
        if seen.exists() { seen } else { self.path(name) }
    }

    /// Ends the daemon and its services, in order.
    ///
    /// # Errors
    /// It does not end, or something is left.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if self.child.is_none() {
            return Ok(());
        }
        let asked = self.ask(Request::Stop { keep_services: false });
        let deadline = Instant::now() + STOP_MAX;
        let mut ended = false;
        while asked.is_ok() && !ended && Instant::now() < deadline {
            std::thread::park_timeout(LOOK_EVERY);
            ended = self.child.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(Some(_))));
        }
        let left = self.processes();
        let services: Vec<_> = left.iter().filter(|it| !it.command.contains("duty logs")).collect();
        let outcome = match (asked, ended, services.is_empty()) {
            (Err(error), ..) => Err(error),
            (Ok(_), false, _) => Err(anyhow::anyhow!("the daemon did not end: {}", self.log())),
            (Ok(_), true, false) => Err(anyhow::anyhow!("left behind: {services:?}")),
            (Ok(_), true, true) => Ok(()),
        };
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for process in left {
            signal(process.pid, Signal::KILL);
        }
        if outcome.is_err() {
            cgroups::remove(&self.path("state"));
        }
        outcome
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // Who wants to know whether it ended well has called `stop`.
        let _ = self.end();
    }
}

/// `HOLDFAST_RUN=ID/web:1/17` among the variables of a process.
fn run_in_environment(env: &[u8], id: &str) -> Option<String> {
    let mark = format!("HOLDFAST_RUN={id}/");
    let mut pairs = env.split(|byte| *byte == 0);
    let run = pairs.find_map(|pair| pair.strip_prefix(mark.as_bytes()))?;
    Some(String::from_utf8_lossy(run).into_owned())
}

/// `…/holdfast-ID/web:1.17` among the control groups of a process.
fn run_in_groups(groups: &[u8], id: &str) -> Option<String> {
    let mark = format!("/holdfast-{id}/");
    let groups = String::from_utf8_lossy(groups);
    let group = groups.lines().find_map(|line| line.split_once(&mark)).map(|(_, rest)| rest)?;
    let (instance, run) = group.split('/').find_map(|name| name.rsplit_once('.'))?;
    Some(format!("{instance}/{run}"))
}

/// Sends a signal; a process that is gone is no error.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// True while a process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_process_is_stands_in_its_environment_or_in_its_control_group() {
        let env = b"HOME=/\0HOLDFAST_RUN=ab/web:1/17\0";
        assert_eq!(run_in_environment(env, "ab").unwrap(), "web:1/17");
        assert_eq!(run_in_environment(env, "a"), None);
        let groups = b"3:cpuset:/\n1:cpu:/box/holdfast-ab/web:1.17\n0::/\n";
        assert_eq!(run_in_groups(groups, "ab").unwrap(), "web:1/17");
        assert_eq!(run_in_groups(groups, "a"), None);
        assert_eq!(run_in_groups(b"0::/holdfast-ab/\n", "ab"), None);
    }
}

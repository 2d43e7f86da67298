//! Stop, reload and probe commands: short processes that are given a time and then killed.
//! And the other ways to hear from a service: probes and its notify socket.

use super::driver::{Command, CommandFor, CommandKey, Driver, Happening, Watched};
use super::hands::{Job, RunKey};
use super::launch::{Launch, LaunchError, Launched, Output as Streams, Tracking};
use super::probes;
use super::runs::Claim;
use base::{Answer, Now};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;
use supervisor::{Exit, Input, NotifyMessage, Pid, Probe, ProcessSpec};
use tokio::task::AbortHandle;

const SIGKILL: i32 = 9;

/// What one run may say of itself by its notify socket within a second. A service that says more
/// is made to wait: each message is work for the loop, and some of them are events.
const MESSAGES_PER_SECOND_MAX: u32 = 256;

impl Driver {
    pub(crate) fn run_command(
        &mut self,
        key: RunKey,
        argv: Vec<String>,
        timeout: Duration,
        main: Option<Pid>,
    ) {
        let main = main.map(|pid| ("MAINPID".to_owned(), pid.0.to_string()));
        self.start_command((key, CommandFor::Step), argv, timeout, main.into_iter().collect());
    }

    pub(crate) fn probe(&mut self, key: RunKey, probe: Probe, timeout: Duration) {
        if let Probe::Command(argv) = probe {
            return self.start_command((key, CommandFor::Probe), argv, timeout, Vec::new());
        }
        let happenings = self.happenings.clone();
        let asked = key.clone();
        let tree = self.run(&key).and_then(|run| run.tree.clone());
        let task = self.tasks.spawn(async move {
            let answer = match probes::ask(&probe, timeout).await {
                Answer::No(why) => Answer::No(probes::name_stranger(&probe, why, tree).await),
                other => other,
            };
            let _ = happenings.send(Happening::Probed { key: asked, answer }).await;
        });
        match self.run(&key) {
            Some(run) => {
                run.tasks.retain(|task| !task.is_finished());
                run.tasks.push(task);
            }
            None => task.abort(),
        }
    }

    fn start_command(
        &mut self,
        command: CommandKey,
        argv: Vec<String>,
        timeout: Duration,
        own_env: Vec<(String, String)>,
    ) {
        let Some((spec, slot)) = self.run(&command.0).map(|run| (Arc::clone(&run.spec), run.slot))
        else {
            return self.tell_command(&command, Err("nothing of it runs".into()));
        };
        let process = Arc::new(spec.process.clone());
        let port = spec.port_at(&command.0.instance, slot);
        self.execute_command(command, process, (argv, port), timeout, own_env);
    }

    /// Executes a command as a service would be, with a limit of time.
    pub(crate) fn execute_command(
        &mut self,
        command: CommandKey,
        process: Arc<ProcessSpec>,
        (argv, port): (Vec<String>, Option<u16>),
        timeout: Duration,
        own_env: Vec<(String, String)>,
    ) {
        let (key, purpose) = &command;
        let fifo = |end: &str| self.paths.fifos().join(format!("{}.{end}", key.instance));
        let output = match purpose {
            CommandFor::Step => Streams::Fifo { out: fifo("out"), err: None },
            CommandFor::Probe => Streams::Null,
            CommandFor::Trial => Streams::Inherit,
        };
        let launch = Launch {
            key: key.clone(),
            process,
            argv: argv.clone(),
            port,
            own_env,
            output,
            tracking: Tracking::Group,
            notify: None,
            sockets: None,
            duty_fds: Vec::new(),
            parent_death_signal: Some(SIGKILL),
        };
        let deadline = sys::clock::now() + timeout;
        let shown = shell_words::join(&argv);
        let waiting = Command { shown, deadline, pid: None, timed_out: false };
        // A run has one command of each purpose: one that hangs makes way for the next.
        let hanging = self.commands.insert(command.clone(), waiting);
        if let Some(pid) = hanging.and_then(|hanging| hanging.pid) {
            sys::process::kill_group(pid, SIGKILL);
        }
        let key = key.clone();
        self.hands.give_for_run(&key, Job::Command { key: command, launch: Box::new(launch) });
    }

    pub(crate) fn command_launched(
        &mut self,
        command: CommandKey,
        result: Result<Launched, LaunchError>,
        reaped_before: u64,
    ) {
        match result {
            Err(error) => {
                self.commands.remove(&command);
                self.tell_command(&command, Err(error.reason));
                self.tell_pending();
            }
            Ok(launched) => {
                if let Some(waiting) = self.commands.get_mut(&command) {
                    waiting.pid = Some(launched.pid);
                }
                self.watch(launched.pid, Watched::Command(command), reaped_before);
            }
        }
    }

    pub(crate) fn command_ended(&mut self, command: &CommandKey, pid: u32, exit: Exit) {
        let Some(ended) = self.commands.get(command).filter(|ended| ended.pid == Some(pid)) else {
            return;
        };
        let result = match (ended.timed_out, exit) {
            (true, _) => Err(format!("`{}` took too long and was killed", ended.shown)),
            (false, Exit::Code(0)) => Ok(()),
            (false, Exit::Code(code)) => Err(format!("`{}` exited with code {code}", ended.shown)),
            (false, Exit::Signal(signal)) => Err(format!(
                "`{}` was killed by {}",
                ended.shown,
                sys::process::signal_name(signal)
            )),
            (false, Exit::Unknown) => Err(format!("`{}` ended, nobody knows how", ended.shown)),
        };
        self.commands.remove(command);
        self.tell_command(command, result);
        self.tell_pending();
    }

    fn tell_command(&mut self, (key, purpose): &CommandKey, result: Result<(), String>) {
        let RunKey { realm, instance, run } = key.clone();
        let input = match purpose {
            CommandFor::Step => Input::CommandEnded { instance, run, result },
            CommandFor::Probe => {
                let answer = result.map_or_else(Answer::No, |()| Answer::Yes);
                Input::Probed { instance, run, answer }
            }
            CommandFor::Trial => return self.upgrade_tried(result),
        };
        self.pending.push_back((realm, input));
    }

    /// Tells the cores what waits to be told.
    pub(crate) fn tell_pending(&mut self) {
        if let Some((realm, input)) = self.pending.pop_front() {
            self.tell(realm, input);
        }
    }

    /// Kills the commands whose time is over; their end is told when they are reaped.
    pub(crate) fn time_out_commands(&mut self, now: Now) {
        for command in self.commands.values_mut() {
            if !command.timed_out && command.deadline <= now {
                match command.pid {
                    Some(pid) => {
                        command.timed_out = true;
                        // It leads a session of its own: its group is all that it started.
                        sys::process::kill_group(pid, SIGKILL);
                    }
                    // Not even started: the hand hangs. Look again later.
                    None => command.deadline = now + Duration::from_secs(1),
                }
            }
        }
    }

    /// Listens to what a run says of itself.
    pub(crate) fn listen_for_notify(
        &mut self,
        key: &RunKey,
        socket: OwnedFd,
    ) -> Option<AbortHandle> {
        let socket = UnixDatagram::from(socket);
        // Descriptors that somebody attaches are closed by the kernel: there is no room for them.
        let listening =
            socket.set_nonblocking(true).and_then(|()| tokio::net::UnixDatagram::from_std(socket));
        let socket = match listening {
            Ok(socket) => socket,
            Err(error) => {
                let message = format!("cannot listen to its notify socket: {error}");
                self.events.complain(&key.instance.to_string(), message);
                return None;
            }
        };
        let (key, happenings) = (key.clone(), self.happenings.clone());
        Some(self.tasks.spawn(async move {
            let mut buffer = [0; sys::socket::NOTIFY_BYTES_MAX];
            let (mut window, mut heard) = (tokio::time::Instant::now(), 0);
            loop {
                if MESSAGES_PER_SECOND_MAX <= heard {
                    // The rest waits in the socket, and the sender with it.
                    tokio::time::sleep_until(window + Duration::from_secs(1)).await;
                }
                if Duration::from_secs(1) <= window.elapsed() {
                    (window, heard) = (tokio::time::Instant::now(), 0);
                }
                match socket.recv(&mut buffer).await {
                    Ok(read) => {
                        heard += 1;
                        let bytes = buffer[..read].to_vec();
                        let said = Happening::Notified { key: key.clone(), bytes };
                        if happenings.send(said).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(instance = %key.instance, %error, "notify socket failed");
                        return;
                    }
                }
            }
        }))
    }

    /// A run said something by its notify socket.
    pub(crate) fn notified(&mut self, key: &RunKey, bytes: &[u8]) {
        if let Some(value) = supervisor::parse_counter(bytes) {
            self.watch_counted(key, value);
        }
        for message in supervisor::parse_notify(bytes) {
            if let NotifyMessage::MainPid(pid) = message {
                self.check_main(key, pid);
                continue;
            }
            let RunKey { realm, instance, run } = key.clone();
            self.tell(realm, Input::Notify { instance, run, message });
        }
    }

    /// Asks whether the process that a run has named as its main one is its own.
    pub(crate) fn check_main(&mut self, key: &RunKey, pid: Pid) {
        let Some(run) = self.run(key) else { return };
        if let Some(claim) = &mut run.claim {
            claim.latest = pid;
            return;
        }
        let named_before = run.main.as_ref().is_some_and(|(main, _)| *main == pid);
        let forks = matches!(run.spec.kind, supervisor::Kind::Forking { .. });
        let Some(tree) = run.tree.clone().filter(|_| !named_before || forks) else { return };
        run.claim = Some(Claim { asked: pid, latest: pid });
        self.hands.give_for_run(key, Job::CheckMain { key: key.clone(), tree, pid });
    }
}

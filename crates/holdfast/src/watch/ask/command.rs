//! A service's own check: a command that exits with 0 if all that matters is well (H17).
//!
//! It runs as the service would, with its user, directory and environment, but with no output, and
//! is killed with its process group when its time is over.
//! Invariant: at most [`COMMANDS_MAX`] run at a time; each has a thread to wait for it.

use crate::root::launch::{Launch, Output, Tracking, launch};
use crate::root::{Realm, RunKey};
use base::{Answer, InstanceId, RunId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use supervisor::ProcessSpec;
use sys::child::Exit;
use tokio::sync::Semaphore;

/// Commands that run at a time.
const COMMANDS_MAX: usize = 16;

/// How long a killed command may take to end: longer, and it is in uninterruptible sleep.
const ENDING_MAX: Duration = Duration::from_secs(1);

const SIGKILL: i32 = 9;

/// What is run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::watch) struct Command {
    pub(in crate::watch) process: Arc<ProcessSpec>,
    pub(in crate::watch) instance: InstanceId,
    pub(in crate::watch) run: RunId,
    /// Templates filled in.
    pub(in crate::watch) argv: Vec<String>,
    /// For `MAINPID`.
    pub(in crate::watch) main: Option<u32>,
    pub(in crate::watch) port: Option<u16>,
}

/// Bounds how many run.
#[derive(Debug)]
pub(in crate::watch) struct Commands(Arc<Semaphore>);

impl Commands {
    pub(in crate::watch) fn new() -> Self {
        Self(Arc::new(Semaphore::new(COMMANDS_MAX)))
    }

    /// Runs it; says how long it took.
    pub(in crate::watch) fn ask(
        &self,
        command: Command,
        timeout: Duration,
    ) -> impl Future<Output = (Answer, Duration)> + use<> {
        let permits = Arc::clone(&self.0);
        async move {
            let deadline = Instant::now() + timeout;
            let permit = tokio::time::timeout(timeout, permits.acquire_owned()).await;
            let Ok(Ok(permit)) = permit else {
                let why = format!("{COMMANDS_MAX} other commands are running");
                return (Answer::CannotTell(why), timeout);
            };
            let began = Instant::now();
            let work = tokio::task::spawn_blocking(move || {
                let answer = run(&command, deadline);
                drop(permit);
                answer
            });
            // The thread keeps to the deadline itself; only starting a program could hang.
            let margin = deadline.saturating_duration_since(began) + 2 * ENDING_MAX;
            let answer = match tokio::time::timeout(margin, work).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => Answer::CannotTell(error.to_string()),
                Err(_) => Answer::CannotTell("starting the command hangs".into()),
            };
            (answer, began.elapsed())
        }
    }
}

fn run(command: &Command, deadline: Instant) -> Answer {
    let key =
        RunKey { realm: Realm::Services, instance: command.instance.clone(), run: command.run };
    let main = command.main.map(|pid| ("MAINPID".to_owned(), pid.to_string()));
    let plan = Launch {
        key,
        process: Arc::clone(&command.process),
        argv: command.argv.clone(),
        port: command.port,
        own_env: main.into_iter().collect(),
        output: Output::Null,
        tracking: Tracking::Group,
        notify: None,
        sockets: None,
        duty_fds: Vec::new(),
        // This very thread waits for it.
        parent_death_signal: Some(SIGKILL),
    };
    let shown = command.argv.first().map_or("", String::as_str);
    let launched = match launch(&plan) {
        Ok(launched) => launched,
        Err(error) => return Answer::CannotTell(error.reason),
    };
    let allowed = deadline.saturating_duration_since(Instant::now());
    match wait(&launched.pidfd, deadline) {
        Some(Exit::Code(0)) => Answer::Yes,
        Some(Exit::Code(code)) => Answer::No(format!("`{shown}` exited with {code}")),
        Some(Exit::Signal(signal)) => {
            Answer::No(format!("`{shown}` was killed by {}", sys::process::signal_name(signal)))
        }
        Some(Exit::Unknown) => Answer::CannotTell(format!("`{shown}` ended, nobody saw how")),
        None => {
            // Not reaped yet, so that the number of its group can be nobody else's.
            sys::process::kill_group(launched.pid, SIGKILL);
            wait(&launched.pidfd, Instant::now() + ENDING_MAX);
            let allowed = base::format_duration(allowed);
            Answer::No(format!("`{shown}` did not end within {allowed}, and was killed"))
        }
    }
}

/// Waits until a child has ended, and takes its exit status.
fn wait(pidfd: &OwnedFd, deadline: Instant) -> Option<Exit> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        // Interrupted by a signal, it is asked again.
        let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout));
        match sys::child::reap(pidfd.as_fd()) {
            Ok(Some(exit)) => return Some(exit),
            Ok(None) if left.is_zero() => return None,
            Ok(None) => {}
            Err(_) => return Some(Exit::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(script: &str, timeout: Duration) -> Answer {
        let argv: Vec<String> = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let command = Command {
            process: Arc::new(crate::root::duties::process(argv.clone())),
            instance: "web:1".parse().unwrap(),
            run: RunId(3),
            argv,
            main: Some(42),
            port: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Commands::new().ask(command, timeout)).0
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn h17_a_command_says_yes_or_no_by_its_exit() {
        assert_eq!(ask("test \"$MAINPID\" = 42", LONG), Answer::Yes);
        assert_eq!(ask("exit 3", LONG), Answer::No("`/bin/sh` exited with 3".into()));
        assert_eq!(ask("kill -9 $$", LONG), Answer::No("`/bin/sh` was killed by SIGKILL".into()));
    }

    #[test]
    fn h17_a_command_that_hangs_is_killed_with_its_group() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", path.display());
        let answer = ask(&script, Duration::from_millis(500));
        assert!(matches!(&answer, Answer::No(why) if why.contains("and was killed")), "{answer:?}");
        let Ok(text) = std::fs::read_to_string(&path) else { return };
        let Ok(child) = text.trim().parse() else { return };
        let deadline = Instant::now() + LONG;
        while sys::proc_fs::stat(child).is_ok_and(|stat| stat.is_alive()) {
            assert!(Instant::now() < deadline, "its child lives on");
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

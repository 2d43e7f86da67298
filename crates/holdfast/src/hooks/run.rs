//! One run of a hook's command. Blocks, at most as long as the hook may take.
//!
//! Invariants: when it returns, nothing of the run is left, unless the kernel itself can't end it; it
//! holds at most [`OUTPUT_BYTES_MAX`] bytes of what the command writes.

use super::bell::Bell;
use crate::root::DEFAULT_PATH;
use config::HookSettings;
use control::EventRecord;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use sys::spawn::{SpawnPlan, Spawned, Stdin};
use sys::users::Identity;

/// The end of what the command wrote, for the event that says that it failed.
const OUTPUT_BYTES_MAX: usize = 2 * 1024;

/// Between two looks whether the duty is to end.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// A run that is under way when the duty ends has this much longer.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// After SIGKILL: one that is not gone by then is stuck in the kernel.
const KILLED_WAIT: Duration = Duration::from_secs(1);

const SIGKILL: i32 = 9;

/// What has come of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// It exited with 0.
    Well,
    /// How it failed, and what it wrote last.
    Badly(String),
    /// The duty ends, and the run with it: it has to come again.
    Cut,
}

/// Runs the command for one event.
pub(crate) fn run(name: &str, hook: &HookSettings, event: &EventRecord, bell: &Bell) -> Ended {
    let mut json = match serde_json::to_vec(event) {
        Ok(json) => json,
        Err(error) => return Ended::Badly(format!("the event can't be written as JSON: {error}")),
    };
    json.push(b'\n');
    match start(name, hook, event) {
        Ok((spawned, pipes)) => {
            let deadline = Instant::now() + hook.timeout;
            Conversation { spawned, pipes, json, written: 0, output: Vec::new() }
                .hold(hook, deadline, bell)
        }
        Err(why) => Ended::Badly(why),
    }
}

/// Our ends.
struct Pipes {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
}

fn start(name: &str, hook: &HookSettings, event: &EventRecord) -> Result<(Spawned, Pipes), String> {
    let account = match &hook.user {
        Some(user) => sys::users::account(user).map_err(|error| error.to_string())?,
        None => sys::users::current(),
    };
    let identity = hook.user.is_some().then(|| Identity {
        uid: account.uid,
        gid: account.gid,
        groups: sys::users::groups_of(&account),
    });
    let lang = std::env::var("LANG").ok().map(|lang| ("LANG", lang));
    let env = [
        ("PATH", DEFAULT_PATH.to_owned()),
        ("HOME", account.home.to_string_lossy().into_owned()),
        ("USER", account.name.clone()),
        ("LOGNAME", account.name.clone()),
        ("SHELL", account.shell.to_string_lossy().into_owned()),
        ("HOLDFAST_HOOK", name.to_owned()),
        ("HOLDFAST_KIND", event.kind.clone()),
        ("HOLDFAST_SUBJECT", event.subject.clone()),
    ];
    let env = env.into_iter().chain(lang);
    let program = sys::command::resolve(&hook.argv[0], DEFAULT_PATH, "/".as_ref())
        .map_err(|error| error.to_string())?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| format!("no pipe: {error}"));
    let ((stdin, input), (output, stdout)) = (pipe()?, pipe()?);
    for ours in [&input, &output] {
        rustix::io::ioctl_fionbio(ours, true).map_err(|error| format!("no pipe: {error}"))?;
    }
    let plan = SpawnPlan {
        program,
        argv: hook.argv.iter().map(OsString::from).collect(),
        env: env.map(|(name, value)| (name.into(), value.into())).collect(),
        directory: "/".into(),
        identity,
        umask: 0o022,
        nice: 0,
        io_priority: None,
        oom_score_adjust: Some(0),
        rlimits: Vec::new(),
        cgroup: None,
        stdin: Stdin::Fd(stdin),
        stdout: stdout.as_fd(),
        stderr: stdout.as_fd(),
        pass_fds: Vec::new(),
        listen: None,
        new_session: true,
        no_new_privileges: false,
        parent_death_signal: Some(SIGKILL),
    };
    let spawned = sys::spawn::spawn(&plan).map_err(|error| error.to_string())?;
    Ok((spawned, Pipes { input: Some(input), output: Some(output) }))
}

struct Conversation {
    spawned: Spawned,
    pipes: Pipes,
    json: Vec<u8>,
    written: usize,
    output: Vec<u8>,
}

impl Conversation {
    fn hold(mut self, hook: &HookSettings, mut deadline: Instant, bell: &Bell) -> Ended {
        let mut is_cut = false;
        loop {
            if !is_cut && bell.is_stopped() {
                is_cut = true;
                deadline = deadline.min(Instant::now() + LAST_WAIT);
            }
            if self.wait(deadline.saturating_duration_since(Instant::now()).min(LOOK_PAUSE)) {
                break;
            }
            if deadline <= Instant::now() {
                self.kill();
                let took = base::format_duration(hook.timeout);
                return match is_cut {
                    true => Ended::Cut,
                    false => self.badly(&format!("it took longer than {took} and was killed")),
                };
            }
        }
        self.read();
        // What it left behind is its group, whose number is taken as long as nobody reaps it.
        sys::process::kill_group(self.spawned.pid, SIGKILL);
        let options = WaitIdOptions::EXITED;
        match waitid(WaitId::PidFd(self.spawned.pidfd.as_fd()), options) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(0), _) => Ended::Well,
                (Some(code), _) => self.badly(&format!("it exited with code {code}")),
                (None, Some(signal)) => {
                    let name = sys::process::signal_name(signal);
                    self.badly(&format!("it was killed by {name}"))
                }
                (None, None) => self.badly("it ended, nobody knows how"),
            },
            Ok(None) | Err(_) => self.badly("it ended, nobody knows how"),
        }
    }

    /// Moves what can be moved; true once the command has ended.
    fn wait(&mut self, at_most: Duration) -> bool {
        let pidfd = self.spawned.pidfd.as_fd();
        let mut fds = vec![PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        let wanted = [(&self.pipes.output, PollFlags::IN), (&self.pipes.input, PollFlags::OUT)];
        for (pipe, flags) in wanted {
            fds.extend(pipe.as_ref().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), flags)));
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(at_most.subsec_nanos()),
        };
        if poll(&mut fds, Some(&timeout)).is_err() {
            return false;
        }
        let ended = !fds[0].revents().is_empty();
        drop(fds);
        self.read();
        self.write();
        ended
    }

    /// Takes what it wrote, and keeps the end of it.
    fn read(&mut self) {
        let mut chunk = [0; 4096];
        while let Some(pipe) = &self.pipes.output {
            match rustix::io::read(pipe, &mut chunk) {
                Ok(0) => self.pipes.output = None,
                Ok(read) => {
                    self.output.extend_from_slice(&chunk[..read]);
                    let excess = self.output.len().saturating_sub(OUTPUT_BYTES_MAX);
                    self.output.drain(..excess);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.pipes.output = None,
            }
        }
    }

    /// A command that does not read its event is its own affair.
    fn write(&mut self) {
        while let Some(pipe) = &self.pipes.input {
            match rustix::io::write(pipe, &self.json[self.written..]) {
                Ok(written) => {
                    self.written += written;
                    if self.written == self.json.len() {
                        self.pipes.input = None;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.pipes.input = None,
            }
        }
    }

    fn kill(&mut self) {
        sys::process::kill_group(self.spawned.pid, SIGKILL);
        let deadline = Instant::now() + KILLED_WAIT;
        while Instant::now() < deadline {
            if self.wait(deadline.saturating_duration_since(Instant::now())) {
                let _ = waitid(
                    WaitId::PidFd(self.spawned.pidfd.as_fd()),
                    WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
                );
                return;
            }
        }
        tracing::warn!(pid = self.spawned.pid, "a hook can't be killed: it is stuck in the kernel");
    }

    fn badly(&self, how: &str) -> Ended {
        let text = String::from_utf8_lossy(&self.output);
        match text.trim() {
            "" => Ended::Badly(how.to_owned()),
            text => Ended::Badly(format!("{how}; it wrote: {text}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: Duration) -> HookSettings {
        HookSettings {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            events: vec!["*".into()],
            severity: supervisor::Severity::Info,
            user: None,
            timeout,
        }
    }

    fn event(message: String) -> EventRecord {
        EventRecord {
            seq: 0,
            source: "root".into(),
            source_seq: 5,
            wall_us: 1,
            mono_ns: 2,
            node: "n".into(),
            subject: "web".into(),
            kind: "service.failed".into(),
            severity: control::Severity::Error,
            message,
            data: serde_json::Map::new(),
        }
    }

    fn try_run(script: &str, message: &str) -> Ended {
        let hook = hook(script, Duration::from_secs(20));
        run("pager", &hook, &event(message.to_owned()), &Bell::default())
    }

    #[test]
    fn it_reads_the_event_and_knows_what_it_is_about() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let script = format!(
            "cat > {0}; echo $HOLDFAST_HOOK $HOLDFAST_KIND $HOLDFAST_SUBJECT $PWD >> {0}",
            path.display()
        );
        // Longer than a pipe holds.
        let message = "ä".repeat(200_000);
        assert_eq!(try_run(&script, &message), Ended::Well);
        let text = std::fs::read_to_string(path).unwrap();
        let (json, rest) = text.split_once('\n').unwrap();
        let read: EventRecord = serde_json::from_str(json).unwrap();
        assert_eq!(read, event(message));
        assert_eq!(rest, "pager service.failed web /\n");
    }

    #[test]
    fn how_it_failed_is_told_with_the_end_of_what_it_wrote() {
        let script = "seq 100000; echo 'no line to ops' >&2; exit 3";
        let Ended::Badly(why) = try_run(script, "") else { panic!("it exits with 3") };
        assert!(why.starts_with("it exited with code 3; it wrote:"), "{why}");
        assert!(why.ends_with("no line to ops") && why.len() < OUTPUT_BYTES_MAX + 100, "{why}");
        assert_eq!(try_run("kill -9 $$", ""), Ended::Badly("it was killed by SIGKILL".into()));
        let mut missing = hook("", Duration::from_secs(1));
        missing.argv = vec!["/nonexistent/x".into()];
        let ended = run("pager", &missing, &event(String::new()), &Bell::default());
        assert!(matches!(&ended, Ended::Badly(why) if why.contains("/nonexistent")), "{ended:?}");
        missing.argv = vec!["true".into()];
        missing.user = Some("nobody-has-this-name".into());
        let ended = run("pager", &missing, &event(String::new()), &Bell::default());
        assert!(matches!(&ended, Ended::Badly(why) if why.contains("nobody-has")), "{ended:?}");
    }

    #[test]
    fn one_that_hangs_is_killed_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pids");
        let script = format!("sleep 1000 & echo $! > {}; sleep 1000", path.display());
        let hook = hook(&script, Duration::from_millis(700));
        let ended = run("pager", &hook, &event(String::new()), &Bell::default());
        assert!(
            matches!(&ended, Ended::Badly(why) if why.contains("took longer than 700ms")),
            "{ended:?}"
        );
        let pid: u32 = std::fs::read_to_string(&path).unwrap().trim().parse().unwrap();
        wait_gone(pid);
    }

    /// Nobody has reaped it: its parent, the shell, is gone.
    fn wait_gone(pid: u32) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return;
            }
            assert!(Instant::now() < deadline, "{stat}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_it_leaves_behind_ends_with_it_and_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}", path.display());
        assert_eq!(try_run(&script, ""), Ended::Well);
        wait_gone(std::fs::read_to_string(&path).unwrap().trim().parse().unwrap());
    }

    #[test]
    fn the_end_of_the_duty_cuts_it_off() {
        let bell = Bell::default();
        bell.stop();
        let ended =
            run("pager", &hook("sleep 1000", Duration::from_mins(1)), &event(String::new()), &bell);
        assert_eq!(ended, Ended::Cut);
        let quick =
            run("pager", &hook("true", Duration::from_mins(1)), &event(String::new()), &bell);
        assert_eq!(quick, Ended::Well, "one that is nearly done is let end");
    }
}

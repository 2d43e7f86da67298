//! What supervisord says of a process, made from what we say of an instance.
//!
//! Source: the manual's `getProcessInfo`, and answers of supervisor 4.2.5.

use crate::fault::{Code, RpcFault};
use crate::name::ProcessName;
use crate::rpc::Value;
use control::InstanceView;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// supervisord's own state while it serves.
pub const SUPERVISOR_RUNNING: (i64, &str) = (1, "RUNNING");

/// The state of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are supervisord's")]
pub enum ProcessState {
    Stopped,
    Starting,
    Running,
    Backoff,
    Stopping,
    Exited,
    Fatal,
    Unknown,
}

impl ProcessState {
    /// From one of our states. What waits for another service is on its way up.
    pub fn of(state: &str) -> Self {
        match state {
            "stopped" => Self::Stopped,
            "waiting" | "starting" => Self::Starting,
            "running" => Self::Running,
            "backoff" => Self::Backoff,
            "stopping" => Self::Stopping,
            "finished" => Self::Exited,
            "failed" => Self::Fatal,
            _ => Self::Unknown,
        }
    }

    /// supervisord's number and name.
    const fn parts(self) -> (i64, &'static str) {
        match self {
            Self::Stopped => (0, "STOPPED"),
            Self::Starting => (10, "STARTING"),
            Self::Running => (20, "RUNNING"),
            Self::Backoff => (30, "BACKOFF"),
            Self::Stopping => (40, "STOPPING"),
            Self::Exited => (100, "EXITED"),
            Self::Fatal => (200, "FATAL"),
            Self::Unknown => (1000, "UNKNOWN"),
        }
    }

    /// supervisord's number.
    pub const fn number(self) -> i64 {
        self.parts().0
    }

    /// supervisord's name.
    pub const fn as_str(self) -> &'static str {
        self.parts().1
    }

    /// It is up or on its way up: it can be stopped, and not started.
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Backoff)
    }

    /// Nothing of it runs, and it does not come by itself.
    pub const fn is_down(self) -> bool {
        matches!(self, Self::Stopped | Self::Exited | Self::Fatal)
    }
}

/// The struct of `getProcessInfo`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessInfo {
    /// Group and name.
    pub name: ProcessName,
    /// Started, seconds since the epoch; 0 = never.
    pub start: i64,
    /// Ended, seconds since the epoch; 0 while it is up.
    pub stop: i64,
    /// Seconds since the epoch.
    pub now: i64,
    /// The state.
    pub state: ProcessState,
    /// Why it does not come up.
    pub spawn_error: String,
    /// Of the last run; 0 while it is up, -1 for a signal.
    pub exit_status: i64,
    /// Empty = none.
    pub stdout_log: String,
    /// Empty = none.
    pub stderr_log: String,
    /// 0 = none.
    pub pid: i64,
    /// What `supervisorctl status` shows behind the state.
    pub description: String,
}

/// The log files of a process; an empty path stands for none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Logs {
    /// Standard output's.
    pub stdout: String,
    /// Standard error's own.
    pub stderr: String,
}

impl ProcessInfo {
    /// Of an instance, as it was seen at `taken_us`.
    pub fn of(view: &InstanceView, logs: Logs, taken_us: i64, zone: &TimeZone) -> Self {
        let state = ProcessState::of(&view.state);
        let now = taken_us.div_euclid(MICROS);
        let pid = view.pid.map_or(0, i64::from);
        let up_seconds = view.uptime_ms.map(|ms| i64::try_from(ms / 1000).unwrap_or(i64::MAX));
        let since = view.since_us.div_euclid(MICROS);
        let is_down = state.is_down() || state == ProcessState::Backoff;
        let ran = view.run.is_some() || view.last_exit.is_some();
        let start = match up_seconds {
            Some(seconds) => now.saturating_sub(seconds),
            None if ran => since,
            None => 0,
        };
        let why = view.because.first().map_or_else(String::new, |link| link.message.clone());
        let spawn_error = match state {
            ProcessState::Fatal | ProcessState::Backoff => why.clone(),
            _ => String::new(),
        };
        let description = match state {
            ProcessState::Running => {
                format!("pid {pid}, uptime {}", uptime(up_seconds.unwrap_or(0)))
            }
            ProcessState::Stopped | ProcessState::Exited if ran => date(view.since_us, zone),
            ProcessState::Stopped | ProcessState::Exited => "Not started".to_owned(),
            _ => why,
        };
        Self {
            name: ProcessName::of(&view.name),
            start,
            stop: if is_down && ran { since } else { 0 },
            now,
            state,
            spawn_error,
            exit_status: if is_down { exit_status(view.last_exit.as_deref()) } else { 0 },
            stdout_log: logs.stdout,
            stderr_log: logs.stderr,
            pid,
            description,
        }
    }

    /// As it is sent.
    pub fn to_value(&self) -> Value {
        Value::members([
            ("name", self.name.process.as_str().into()),
            ("group", self.name.group.as_str().into()),
            ("start", self.start.into()),
            ("stop", self.stop.into()),
            ("now", self.now.into()),
            ("state", self.state.number().into()),
            ("statename", self.state.as_str().into()),
            ("spawnerr", self.spawn_error.as_str().into()),
            ("exitstatus", self.exit_status.into()),
            ("logfile", self.stdout_log.as_str().into()),
            ("stdout_logfile", self.stdout_log.as_str().into()),
            ("stderr_logfile", self.stderr_log.as_str().into()),
            ("pid", self.pid.into()),
            ("description", self.description.as_str().into()),
        ])
    }
}

const MICROS: i64 = 1_000_000;

/// One line of the answer to a call that concerns a group: done, or what went wrong.
pub fn group_result(name: &ProcessName, result: &Result<(), RpcFault>) -> Value {
    let (status, description) = match result {
        Ok(()) => (Code::Success.number(), "OK"),
        Err(fault) => (fault.code, fault.text.as_str()),
    };
    Value::members([
        ("name", name.process.as_str().into()),
        ("group", name.group.as_str().into()),
        ("status", status.into()),
        ("description", description.into()),
    ])
}

/// `0:01:02`, `1 day, 0:01:02`, `12 days, 0:01:02`.
fn uptime(seconds: i64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let time = format!("{}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    match days {
        0 => time,
        1 => format!("1 day, {time}"),
        days => format!("{days} days, {time}"),
    }
}

/// `Nov 24 10:02 AM`, in local time.
fn date(micros: i64, zone: &TimeZone) -> String {
    let moment = Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH);
    moment.to_zoned(zone.clone()).strftime("%b %d %I:%M %p").to_string()
}

/// From the words of [`InstanceView::last_exit`]: `exit code 1`, `signal 9 (KILL)`.
fn exit_status(last_exit: Option<&str>) -> i64 {
    match last_exit {
        None => 0,
        Some(words) => match words.strip_prefix("exit code ") {
            Some(code) => code.parse().unwrap_or(-1),
            None => -1,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::WhyLink;

    const NOW_US: i64 = 1_795_514_607_250_000;

    fn info(view: &InstanceView) -> ProcessInfo {
        let logs = Logs { stdout: "/l/web.log".into(), stderr: String::new() };
        ProcessInfo::of(view, logs, NOW_US, &TimeZone::UTC)
    }

    fn view(state: &str) -> InstanceView {
        InstanceView { name: "web".into(), state: state.into(), ..InstanceView::default() }
    }

    #[test]
    fn a_running_process_says_pid_and_uptime() {
        let up = Some(90_061_999);
        let seen = info(&InstanceView {
            pid: Some(17),
            run: Some(1),
            uptime_ms: up,
            last_exit: Some("exit code 3".into()),
            ..view("running")
        });
        assert_eq!((seen.state.number(), seen.pid, seen.exit_status), (20, 17, 0));
        assert_eq!(seen.description, "pid 17, uptime 1 day, 1:01:01");
        assert_eq!((seen.now, seen.start, seen.stop), (1_795_514_607, 1_795_424_546, 0));
    }

    #[test]
    fn what_is_down_says_since_when_or_that_it_never_was_up() {
        assert_eq!(info(&view("stopped")).description, "Not started");
        let ended = InstanceView {
            since_us: 1_795_514_570_999_999,
            last_exit: Some("signal 9 (KILL)".into()),
            ..view("finished")
        };
        let seen = info(&ended);
        assert_eq!(seen.description, "Nov 24 10:02 AM");
        assert_eq!(
            (seen.stop, seen.exit_status, seen.state.as_str()),
            (1_795_514_570, -1, "EXITED")
        );
        let afternoon = InstanceView { since_us: 1_795_536_000_000_000, ..ended };
        assert_eq!(info(&afternoon).description, "Nov 24 04:00 PM");
    }

    #[test]
    fn what_does_not_come_up_says_why() {
        let because = vec![WhyLink { subject: "web".into(), message: "no such file".into() }];
        let seen = info(&InstanceView {
            run: Some(2),
            last_exit: Some("exit code 127".into()),
            because: because.clone(),
            ..view("failed")
        });
        assert_eq!((seen.spawn_error.as_str(), seen.exit_status), ("no such file", 127));
        assert_eq!(seen.description, "no such file");
        let waits = info(&InstanceView { because, ..view("waiting") });
        assert_eq!((waits.state, waits.spawn_error.as_str()), (ProcessState::Starting, ""));
        assert_eq!(info(&view("quarantined")).state, ProcessState::Unknown);
    }
}

//! What a service is: checked, with every default filled in.
//!
//! `config` builds these from TOML; the core decides by them; the driver starts processes by them.
//! Two specs that differ only outside [`ProcessSpec`] need no restart when one replaces the other,
//! but for what [`ServiceSpec::runs_like`] names.

use crate::{Dependency, ListenerSpec, Tolerance};
use base::{Backoff, ByteSize, InstanceId, ServiceName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A service, checked: names resolve, values are possible, nothing is optional that has a default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceSpec {
    /// Unique among services.
    pub name: ServiceName,
    /// One line for people; may be empty.
    pub description: String,
    /// Started with the daemon (and when it appears by a reload).
    pub autostart: bool,
    /// What "running" means for its main process.
    pub kind: Kind,
    /// How many instances; at least 1. With 1 the instance is called like the service.
    pub instances: u16,
    /// What is executed, and as whom. A change here restarts the service on reload.
    pub process: ProcessSpec,
    /// Start after these (when they are wanted at all), stop before them. Nothing else.
    pub after: BTreeSet<ServiceName>,
    /// Start these first and only start once they are ready; stop when they are stopped.
    pub requires: BTreeSet<ServiceName>,
    /// Start these too, and wait until they are ready or have failed; go on either way.
    pub wants: BTreeSet<ServiceName>,
    /// When the service counts as ready.
    pub ready: Readiness,
    /// From exec to ready; longer is a failed start.
    pub start_timeout: Duration,
    /// How it is stopped, in order; after the last step everything it ever forked gets SIGKILL.
    pub stop: Vec<StopStep>,
    /// How it is asked to read its configuration again; `None` where it cannot.
    pub reload: Option<StopAction>,
    /// What happens when it ends by itself.
    pub restart: RestartPolicy,
    /// The service must say `WATCHDOG=1` at least this often; `None` = no watchdog.
    pub watchdog: Option<Duration>,
    /// Where its output goes.
    pub log: LogPolicy,
    /// How its sickness is recognised, and what is done about it.
    pub tolerance: Tolerance,
    /// What it depends on, by name.
    pub depends: BTreeMap<String, Dependency>,
    /// It is an event listener of supervisord's kind; `None` = an ordinary service.
    pub listener: Option<ListenerSpec>,
    /// Which of its output supervisord's event listeners are told.
    pub output_events: OutputEvents,
}

/// What is told of a service's output as supervisord's events. Default: nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OutputEvents {
    /// `PROCESS_LOG_STDOUT` for what it writes.
    pub stdout: bool,
    /// `PROCESS_LOG_STDERR`; only where standard error has a log of its own.
    pub stderr: bool,
    /// `PROCESS_COMMUNICATION_STDOUT` for what stands between supervisord's marks, the last so many
    /// bytes of it; 0 = the marks are output like any other.
    pub stdout_capture: ByteSize,
    /// The same for standard error, if that has a log of its own.
    pub stderr_capture: ByteSize,
}

impl OutputEvents {
    /// Of one of the two: whether output is told, and how much is kept between marks.
    pub fn of(&self, is_error: bool) -> (bool, ByteSize) {
        match is_error {
            false => (self.stdout, self.stdout_capture),
            true => (self.stderr, self.stderr_capture),
        }
    }
}

/// What the main process of a service does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The process that is started is the service; its end is the service's end.
    Simple,
    /// The process that is started forks the real one and exits with 0 (D2).
    Forking {
        /// Where it writes the pid of the real one. Only a hint: believed if that process is ours.
        pid_file: Option<PathBuf>,
    },
    /// Runs to its end; ready once it has exited with 0; then it is `Finished`, not restarted.
    Oneshot,
}

/// What is executed. Templates `{index}`, `{port}`, `{name}` are still inside: see [`Self::render`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessSpec {
    /// Program and arguments; never empty. With `shell`, already `["/bin/sh", "-c", "…"]`.
    pub argv: Vec<String>,
    /// Variables set for it, over a clean environment (`PATH`, `HOME`, `USER`, `LOGNAME`, `SHELL`
    /// as for the user, `LANG` as holdfast's); nothing else of holdfast's reaches it.
    pub env: BTreeMap<String, String>,
    /// Files of `KEY=value` lines, read at each start, before `env`. `true`: may be missing.
    pub env_files: Vec<(PathBuf, bool)>,
    /// User name or number; `None` = holdfast's own.
    pub user: Option<String>,
    /// Group name or number; `None` = the user's own.
    pub group: Option<String>,
    /// Supplementary groups; `None` = the user's from the group database.
    pub supplementary_groups: Option<Vec<String>>,
    /// Working directory.
    pub directory: PathBuf,
    /// File mode creation mask, octal 0 to 0o777.
    pub umask: u32,
    /// -20 to 19.
    pub nice: i32,
    /// I/O scheduling; `None` = the kernel's default (derived from nice).
    pub io_priority: Option<IoPriority>,
    /// -1000 to 1000.
    pub oom_score_adjust: i32,
    /// Resource limits by name.
    pub rlimits: BTreeMap<Resource, RlimitPair>,
    /// Control-group limits.
    pub limits: CgroupLimits,
    /// Listening sockets, opened by holdfast and passed by the `LISTEN_FDS` protocol, in order.
    pub sockets: Vec<SocketSpec>,
    /// `{port}` of instance n is this plus n; `None` = the template may not be used.
    pub port: Option<u16>,
    /// `PR_SET_NO_NEW_PRIVS`: no program it runs gains privileges by set-user-ID bits.
    pub no_new_privileges: bool,
}

impl ProcessSpec {
    /// Fills `{name}`, `{index}` and `{port}` of one instance into a text. `{{` and `}}` stand for
    /// braces. Unknown templates were refused by `config`, and are left as they stand.
    pub fn render(&self, text: &str, instance: &InstanceId) -> String {
        self.render_with(text, instance, self.port_of(instance))
    }

    /// The same for a run that may have other ports than the first.
    pub fn render_with(&self, text: &str, instance: &InstanceId, port: Option<u16>) -> String {
        let mut done = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            done.push_str(before);
            let taken = [
                ("{{", "{".to_owned()),
                ("}}", "}".to_owned()),
                ("{name}", instance.service.to_string()),
                ("{index}", instance.number().to_string()),
                ("{port}", port.map_or("{port}".to_owned(), |p| p.to_string())),
            ]
            .into_iter()
            .find(|(template, _)| brace.starts_with(template));
            let (template_bytes, filled) = match &taken {
                Some((template, filled)) => (template.len(), filled.as_str()),
                None => (1, &brace[..1]),
            };
            done.push_str(filled);
            rest = &brace[template_bytes..];
        }
        done.push_str(rest);
        done
    }

    /// The port of one instance.
    pub fn port_of(&self, instance: &InstanceId) -> Option<u16> {
        self.port.and_then(|first| first.checked_add(instance.number()))
    }
}

impl ServiceSpec {
    /// The port of a run in this slot. A successor that runs beside its predecessor has the other
    /// slot, 0 or 1: its port counts on by the number of instances.
    pub fn port_at(&self, instance: &InstanceId, slot: u16) -> Option<u16> {
        let first = self.process.port_of(instance)?;
        first.checked_add(slot.checked_mul(self.instances)?)
    }

    /// Fills the templates of a run in this slot into a text.
    pub fn render_at(&self, text: &str, instance: &InstanceId, slot: u16) -> String {
        self.process.render_with(text, instance, self.port_at(instance, slot))
    }
}

/// I/O scheduling class and level (ioprio_set(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoPriority {
    /// Real time, level 0 (first) to 7.
    Realtime(u8),
    /// Best effort, level 0 (first) to 7.
    BestEffort(u8),
    /// Only when nobody else wants the disk.
    Idle,
}

/// A resource of setrlimit(2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the names are those of setrlimit(2)")]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// Soft and hard limit in the resource's own unit; `None` = unlimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RlimitPair {
    /// What is enforced.
    pub soft: Option<u64>,
    /// How far the process itself may raise the soft one.
    pub hard: Option<u64>,
}

/// Limits by control group; all `None` = no limit wanted (the group is used for tracking only).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CgroupLimits {
    /// Memory, hard limit.
    pub memory: Option<ByteSize>,
    /// CPU time in hundredths of one core: 150 = one and a half cores.
    pub cpu_percent: Option<u32>,
    /// Number of processes and threads.
    pub pids: Option<u32>,
}

/// A listening socket that outlives the service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SocketSpec {
    /// Name passed in `LISTEN_FDNAMES`.
    pub name: String,
    /// Where it listens. With several instances the port counts up by the instance number, unless
    /// `shared`.
    pub address: SocketAddress,
    /// All instances get the same socket.
    pub shared: bool,
    /// Length of the accept queue.
    pub backlog: u32,
}

/// Where a socket listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SocketAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// UDP (bound, not listening).
    Udp(SocketAddr),
    /// Unix stream socket with its file mode.
    Unix {
        /// Path of the socket file.
        path: PathBuf,
        /// Octal permission bits.
        mode: u32,
        /// User name or number that the file belongs to; `None` = holdfast's own.
        owner: Option<String>,
        /// Group name or number; `None` = the owner's own group.
        group: Option<String>,
    },
}

/// When a service counts as ready.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// As soon as it has been executed (Simple), has forked (Forking), has ended (Oneshot).
    Started,
    /// When it says `READY=1` (sd_notify(3)).
    Notify,
    /// When a probe says yes.
    Probe {
        /// What is asked.
        probe: Probe,
        /// Pause between two askings.
        interval: Duration,
        /// One asking takes at most this long.
        timeout: Duration,
    },
    /// After it has been alive this long.
    Delay(Duration),
}

/// One question to the service. Templates are allowed in the texts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Probe {
    /// A TCP connection is accepted at `host:port`.
    Tcp(String),
    /// `GET` of an `http://` URL answers with a status within 200 to 399, or the one given.
    Http {
        /// The URL.
        url: String,
        /// The one right status; `None` = any of 200 to 399.
        status: Option<u16>,
    },
    /// A command exits with 0.
    Command(Vec<String>),
    /// A file exists.
    File(String),
}

/// One rung of the stop ladder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StopStep {
    /// What is done.
    pub action: StopAction,
    /// How long to wait for the end before the next rung.
    pub wait: Duration,
}

/// A way to tell a service something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StopAction {
    /// A signal (its number) to the main process.
    Signal(i32),
    /// A command, run as the service's user with `MAINPID` in its environment.
    Command(Vec<String>),
}

/// What happens when a service ends by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestartPolicy {
    /// After which ends it is started again.
    pub when: RestartWhen,
    /// Exit codes that count as success, next to 0.
    pub success_codes: BTreeSet<i32>,
    /// Signals whose death counts as success (besides those that we sent).
    pub success_signals: BTreeSet<i32>,
    /// Pause before the second and later restarts in a row; the first comes at once.
    pub backoff: Backoff,
    /// Ready for this long = healthy again: the back-off begins anew.
    pub healthy_after: Duration,
    /// More than this many restarts …
    pub budget: u32,
    /// … within this time: the service is `failed` and stays so until asked (H26). Starts that fail
    /// take none of it, however long they last.
    pub budget_window: Duration,
}

/// After which ends a service is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestartWhen {
    /// Any.
    Always,
    /// An exit code or signal that is not a success; a start or watchdog time-out.
    OnFailure,
    /// None.
    Never,
}

/// Where a service's output goes: files of our own, rotated by us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogPolicy {
    /// `None` = `<state>/logs/<instance>.log`.
    pub path: Option<PathBuf>,
    /// Rotated when larger.
    pub size_max: ByteSize,
    /// Rotated when older; `None` = never by age.
    pub age_max: Option<Duration>,
    /// How many rotated files are kept; older ones are deleted.
    pub keep: u32,
    /// Rotated files are gzipped.
    pub compress: bool,
    /// Standard error goes to a file of its own (`….err.log`).
    pub split_stderr: bool,
}

impl ServiceSpec {
    /// What runs by the one may go on by the other: the same is executed, and its standard input
    /// and output go to the same kind of reader.
    pub fn runs_like(&self, other: &Self) -> bool {
        self.process == other.process
            && self.kind == other.kind
            && self.listener.is_some() == other.listener.is_some()
    }

    /// Its instances, in order.
    pub fn instance_ids(&self) -> impl Iterator<Item = InstanceId> + '_ {
        (0..self.instances).map(|n| InstanceId {
            service: self.name.clone(),
            index: (1 < self.instances).then_some(n),
        })
    }
}

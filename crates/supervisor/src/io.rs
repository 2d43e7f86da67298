//! Everything that can happen to the supervision core, and everything it can ask for.
//!
//! Protocol with the driver: one input, then all outputs in order. Each output that can fail
//! reports back as a later input. A [`RunId`] in an input that is not the instance's present run
//! is a late answer, and is ignored.

use crate::watch::{DependencyState, Verdict};
use crate::{Event, Mode, Probe, ServiceSpec};
use base::{Answer, InstanceId, RunId, ServiceName};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A process id. Only together with a [`RunId`] is it an identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pid(pub u32);

/// Everything that can happen.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// The wanted services, all of them: at start, and at each reload. Touches only what differs.
    Configure(BTreeMap<ServiceName, Arc<ServiceSpec>>),
    /// A run of an earlier daemon is still alive (or has ended meanwhile). Comes after the first
    /// `Configure` and before `Begin`.
    Adopt(Adopted),
    /// All adoptions are told: start what is wanted.
    Begin,
    /// Somebody asks for something.
    Command {
        /// Instances; the driver has resolved service names to all of theirs.
        targets: Vec<InstanceId>,
        /// What is asked.
        action: Action,
        /// Who asked, for the event: `uid 0 (root)`, `console`, ….
        by: String,
    },
    /// A spawn has been carried out.
    Spawned {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Its first process.
        pid: Pid,
    },
    /// A spawn has failed before the program ran; nothing is left of it.
    SpawnFailed {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Cause and remedy, one sentence.
        reason: String,
        /// Trying again can't help until somebody changes something (no such file, no such user).
        permanent: bool,
    },
    /// A process of a run has ended: the first one, or the main one that was adopted or found.
    Exited {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Which process.
        pid: Pid,
        /// How.
        exit: Exit,
    },
    /// Answer to [`Output::FindMain`].
    MainFound {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// The process, or why there is none (yet).
        main: Result<Pid, String>,
    },
    /// Answer to [`Output::InspectTree`] and [`Output::KillTree`]: what is alive of this run.
    Tree {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Processes alive (zombies do not count).
        alive: Vec<Pid>,
        /// Those of them in uninterruptible sleep, with what they wait for if the kernel says.
        unkillable: Vec<(Pid, String)>,
    },
    /// The service said something by sd_notify(3).
    Notify {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// What it said.
        message: NotifyMessage,
    },
    /// Answer to [`Output::Probe`].
    Probed {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// The answer; `CannotTell` counts as "not yet", its reason is kept for `why`.
        answer: Answer,
    },
    /// A command asked for by [`Output::RunCommand`] has ended.
    CommandEnded {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Success, or why not.
        result: Result<(), String>,
    },
    /// Answer to [`Output::Gather`]; comes within its budget and a second.
    Gathered {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// The bundle's name, or why there is none.
        result: Result<String, String>,
    },
    /// Answer to [`Output::CountConnections`].
    Connections {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// How many are established; `None` = it can't be told.
        open: Option<u32>,
    },
    /// Answer to [`Output::Freeze`].
    Frozen {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// It stands still, or why not.
        result: Result<(), String>,
    },
    /// A detector has something to say about a run.
    Verdict {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// What.
        verdict: Verdict,
    },
    /// How something stands that an instance depends on.
    Depends {
        /// Which instance.
        instance: InstanceId,
        /// The dependency's name.
        name: String,
        /// How it stands.
        state: DependencyState,
        /// One sentence.
        message: String,
    },
    /// The host starves, with the reason; or no longer.
    Pressure(Option<String>),
    /// What an operator had set before this daemon began. Comes after the first `Configure`.
    ModeSet {
        /// Which instance.
        instance: InstanceId,
        /// The mode.
        mode: Mode,
        /// Who had set it.
        by: String,
    },
    /// Time has passed ([`crate::Supervisor::next_wake`]).
    Tick,
    /// The daemon is to end.
    Shutdown(ShutdownMode),
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It is gone, but it was not our child and the kernel does not say how.
    Unknown,
}

/// What an operator can ask of instances.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Start; clears `failed` and the restart budget. Starts what it requires and wants, too.
    Start,
    /// Stop; what requires it is stopped first.
    Stop,
    /// Stop, then start. What requires it is left alone.
    Restart,
    /// Tell it to read its configuration again, the way its spec says.
    Reload,
    /// Send this signal to the main process.
    Signal(i32),
    /// Forget `failed` and the spent budget, without starting.
    Reset,
    /// Replace it without a failed request, by its [`crate::ReplacePolicy`].
    Replace,
    /// From now on this much is done about what detectors see; `None` = what the configuration
    /// says.
    Mode(Option<Mode>),
}

/// How the daemon ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShutdownMode {
    /// Services are stopped in reverse order first.
    StopServices,
    /// Services go on; a later daemon adopts them.
    KeepServices,
}

/// A message of sd_notify(3), one assignment each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotifyMessage {
    /// `READY=1`.
    Ready,
    /// `STATUS=…`, cut to a bounded length.
    Status(String),
    /// `MAINPID=…`; the driver has verified that the process belongs to this run.
    MainPid(Pid),
    /// `RELOADING=1`: not ready until the next `READY=1`.
    Reloading,
    /// `STOPPING=1`: it ends by its own wish.
    Stopping,
    /// `WATCHDOG=1`.
    Watchdog,
    /// `WATCHDOG=trigger`: it says of itself that it is sick.
    WatchdogTrigger,
    /// `EXTEND_TIMEOUT_USEC=…`: the present start or stop step may take this much longer from now.
    ExtendTimeout(Duration),
    /// `WATCHDOG_USEC=…`: a new watchdog period.
    WatchdogPeriod(Duration),
}

/// What an earlier daemon left behind of one instance, as verified by the driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Adopted {
    /// Which instance.
    pub instance: InstanceId,
    /// The record that was kept of it.
    pub record: RunRecord,
    /// Its main process if that is still the same one (pid, start time and boot id agree).
    pub alive: Option<Pid>,
    /// How long ago it became ready, or was spawned.
    pub age: Duration,
    /// The record's process part is not what the configuration says now: restart needed.
    pub outdated: bool,
}

/// What must survive the daemon's death about one instance. Written by the driver on
/// [`Output::Persist`], together with pid start time and boot id, which only the driver knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunRecord {
    /// The run.
    pub run: RunId,
    /// Its main process, if one is known.
    pub main: Option<Pid>,
    /// It had become ready.
    pub ready: bool,
    /// An operator (or the budget) decided that it stays down; or it was on its way down.
    pub wish: Wish,
    /// Restarts by policy so far.
    pub restarts: u64,
    /// Which set of ports it has.
    pub slot: u16,
    /// What it is to its instance.
    pub role: RunRole,
}

/// What a run is to its instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunRole {
    /// The one that people and dependants see.
    Present,
    /// On its way up beside the present one.
    Successor,
    /// On its way out.
    Leaving,
    /// Frozen, and kept for inspection.
    Quarantined {
        /// Until then.
        until: base::Now,
    },
}

impl RunRole {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Successor => "successor",
            Self::Leaving => "leaving",
            Self::Quarantined { .. } => "quarantined",
        }
    }
}

/// What is wanted of an instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// It should run.
    Up,
    /// It should not: an operator's wish, or not started automatically.
    Down,
    /// It should, but we gave up; the reason. Nothing restarts until asked.
    Failed(String),
    /// A one-shot has done its work, or a service ended well and its policy says that is fine.
    Finished,
}

/// Everything the core can ask for. Carried out in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Remember this, before what follows is done.
    Persist {
        /// Which instance.
        instance: InstanceId,
        /// What.
        record: RunRecord,
    },
    /// Nothing needs to be remembered of this instance any more (it is gone from the
    /// configuration, and down).
    Forget {
        /// Which instance.
        instance: InstanceId,
    },
    /// Execute the spec's process. Answer: `Spawned` or `SpawnFailed`.
    Spawn {
        /// Which instance.
        instance: InstanceId,
        /// Its new run.
        run: RunId,
        /// Which set of ports it gets: see [`crate::ServiceSpec::port_at`].
        slot: u16,
        /// What to execute.
        spec: Arc<ServiceSpec>,
    },
    /// The adopted run goes on: watch its processes and its output again.
    Attach {
        /// Which instance.
        instance: InstanceId,
        /// The run.
        run: RunId,
        /// Its main process.
        pid: Pid,
        /// Its present spec.
        spec: Arc<ServiceSpec>,
    },
    /// Look for the main process of a service that forks. Answer: `MainFound`.
    FindMain {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
    },
    /// Send a signal to the main process (through its pidfd; a process that is gone is no error).
    Signal {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Whom.
        pid: Pid,
        /// Which.
        signal: i32,
    },
    /// Send a signal to everything alive of this run. Answer: `Tree`, with what was found.
    SignalTree {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Which.
        signal: i32,
    },
    /// SIGKILL everything alive of this run, repeatedly until a look finds nobody new. Answer:
    /// `Tree`, with what is still alive.
    KillTree {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
    },
    /// Look what is alive of this run. Answer: `Tree`.
    InspectTree {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
    },
    /// Run a stop or reload command. Answer: `CommandEnded`, after `timeout` at the latest.
    RunCommand {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Program and arguments, templates filled in.
        argv: Vec<String>,
        /// Killed after this long.
        timeout: Duration,
        /// The main process, for `MAINPID`.
        main: Option<Pid>,
    },
    /// Put one question. Answer: `Probed`, after `timeout` at the latest.
    Probe {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Templates filled in.
        probe: Probe,
        /// At most this long.
        timeout: Duration,
    },
    /// This run has ended and nothing is left of it: close what was held for it.
    Release {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
    },
    /// The log policy of a live instance has changed.
    Relog {
        /// Which instance.
        instance: InstanceId,
        /// Its present spec.
        spec: Arc<ServiceSpec>,
    },
    /// Look at this run, and say what its detectors see.
    Watch {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// The most that is done about it.
        mode: Mode,
    },
    /// Look no longer.
    Unwatch {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
    },
    /// Keep what can be known of this run. Answer: `Gathered`.
    Gather {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Why, one sentence.
        cause: String,
        /// At most this long.
        budget: Duration,
    },
    /// Count the established connections of this run. Answer: `Connections`.
    CountConnections {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
    },
    /// Let nothing of this run be scheduled any more. Answer: `Frozen`.
    Freeze {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
    },
    /// Something that people may want to know.
    Event(Event),
    /// Everything asked for by `Shutdown` is done.
    ShutdownComplete,
}

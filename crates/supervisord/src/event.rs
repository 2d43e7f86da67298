//! supervisord's events: their names, which name stands for which, and what they carry.
//!
//! Source: the manual's page "Events", and events of supervisor 4.2.5 as a listener received them.

use crate::info::ProcessState;
use crate::name::ProcessName;

/// The name of an event, or of a family of events that can be subscribed to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the names are supervisord's")]
pub enum EventName {
    Event,
    ProcessState,
    ProcessStateStarting,
    ProcessStateRunning,
    ProcessStateBackoff,
    ProcessStateStopping,
    ProcessStateExited,
    ProcessStateStopped,
    ProcessStateFatal,
    ProcessStateUnknown,
    RemoteCommunication,
    ProcessLog,
    ProcessLogStdout,
    ProcessLogStderr,
    ProcessCommunication,
    ProcessCommunicationStdout,
    ProcessCommunicationStderr,
    SupervisorStateChange,
    SupervisorStateChangeRunning,
    SupervisorStateChangeStopping,
    Tick,
    Tick5,
    Tick60,
    Tick3600,
    ProcessGroup,
    ProcessGroupAdded,
    ProcessGroupRemoved,
}

use EventName as N;

/// Every name, its text, and the family it belongs to.
const NAMES: &[(EventName, &str, EventName)] = &[
    (N::Event, "EVENT", N::Event),
    (N::ProcessState, "PROCESS_STATE", N::Event),
    (N::ProcessStateStarting, "PROCESS_STATE_STARTING", N::ProcessState),
    (N::ProcessStateRunning, "PROCESS_STATE_RUNNING", N::ProcessState),
    (N::ProcessStateBackoff, "PROCESS_STATE_BACKOFF", N::ProcessState),
    (N::ProcessStateStopping, "PROCESS_STATE_STOPPING", N::ProcessState),
    (N::ProcessStateExited, "PROCESS_STATE_EXITED", N::ProcessState),
    (N::ProcessStateStopped, "PROCESS_STATE_STOPPED", N::ProcessState),
    (N::ProcessStateFatal, "PROCESS_STATE_FATAL", N::ProcessState),
    (N::ProcessStateUnknown, "PROCESS_STATE_UNKNOWN", N::ProcessState),
    (N::RemoteCommunication, "REMOTE_COMMUNICATION", N::Event),
    (N::ProcessLog, "PROCESS_LOG", N::Event),
    (N::ProcessLogStdout, "PROCESS_LOG_STDOUT", N::ProcessLog),
    (N::ProcessLogStderr, "PROCESS_LOG_STDERR", N::ProcessLog),
    (N::ProcessCommunication, "PROCESS_COMMUNICATION", N::Event),
    (N::ProcessCommunicationStdout, "PROCESS_COMMUNICATION_STDOUT", N::ProcessCommunication),
    (N::ProcessCommunicationStderr, "PROCESS_COMMUNICATION_STDERR", N::ProcessCommunication),
    (N::SupervisorStateChange, "SUPERVISOR_STATE_CHANGE", N::Event),
    (N::SupervisorStateChangeRunning, "SUPERVISOR_STATE_CHANGE_RUNNING", N::SupervisorStateChange),
    (
        N::SupervisorStateChangeStopping,
        "SUPERVISOR_STATE_CHANGE_STOPPING",
        N::SupervisorStateChange,
    ),
    (N::Tick, "TICK", N::Event),
    (N::Tick5, "TICK_5", N::Tick),
    (N::Tick60, "TICK_60", N::Tick),
    (N::Tick3600, "TICK_3600", N::Tick),
    (N::ProcessGroup, "PROCESS_GROUP", N::Event),
    (N::ProcessGroupAdded, "PROCESS_GROUP_ADDED", N::ProcessGroup),
    (N::ProcessGroupRemoved, "PROCESS_GROUP_REMOVED", N::ProcessGroup),
];

impl EventName {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(name, _, _)| *name)
    }

    fn entry(self) -> &'static (EventName, &'static str, EventName) {
        NAMES.iter().find(|(name, _, _)| *name == self).unwrap_or(&NAMES[0])
    }

    /// supervisord's name.
    pub fn as_str(self) -> &'static str {
        self.entry().1
    }

    /// The name that a text is, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        NAMES.iter().find(|(_, name, _)| *name == text).map(|(name, _, _)| *name)
    }

    /// Whoever wants this gets that: it is the same, or one of its family.
    pub fn covers(self, event: Self) -> bool {
        let mut name = event;
        loop {
            if name == self {
                return true;
            }
            let parent = name.entry().2;
            if parent == name {
                return false;
            }
            name = parent;
        }
    }
}

/// The periods of the ticks, in seconds.
pub const TICKS: [(EventName, u64); 3] = [(N::Tick5, 5), (N::Tick60, 60), (N::Tick3600, 3600)];

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// A process has changed its state.
    State {
        /// Which.
        name: ProcessName,
        /// Before.
        from: ProcessState,
        /// Now.
        to: NewState,
    },
    /// A process has written something.
    Log {
        /// Which.
        name: ProcessName,
        /// Its process id.
        pid: u32,
        /// On standard error, not on standard output.
        is_error: bool,
        /// What.
        text: String,
    },
    /// A process has written something between supervisord's communication marks.
    Communication {
        /// Which.
        name: ProcessName,
        /// Its process id.
        pid: u32,
        /// On standard error, not on standard output.
        is_error: bool,
        /// What.
        text: String,
    },
    /// Somebody called `sendRemoteCommEvent`.
    Remote {
        /// Freely chosen by the sender.
        kind: String,
        /// Freely chosen by the sender.
        data: String,
    },
    /// The daemon is up.
    SupervisorRunning,
    /// The daemon is about to end.
    SupervisorStopping,
    /// Time has passed.
    Tick {
        /// One of [`TICKS`].
        tick: EventName,
        /// Seconds since the epoch, a multiple of the period.
        when: i64,
    },
    /// A group is new.
    GroupAdded(String),
    /// A group is gone.
    GroupRemoved(String),
}

/// A state with what its event tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are supervisord's")]
pub enum NewState {
    Starting { tries: u32 },
    Running { pid: u32 },
    Backoff { tries: u32 },
    Stopping { pid: u32 },
    Exited { pid: u32, expected: bool },
    Stopped { pid: u32 },
    Fatal,
    Unknown,
}

impl NewState {
    /// The state alone.
    pub fn state(self) -> ProcessState {
        match self {
            Self::Starting { .. } => ProcessState::Starting,
            Self::Running { .. } => ProcessState::Running,
            Self::Backoff { .. } => ProcessState::Backoff,
            Self::Stopping { .. } => ProcessState::Stopping,
            Self::Exited { .. } => ProcessState::Exited,
            Self::Stopped { .. } => ProcessState::Stopped,
            Self::Fatal => ProcessState::Fatal,
            Self::Unknown => ProcessState::Unknown,
        }
    }
}

impl Payload {
    /// The event's name.
    pub fn name(&self) -> EventName {
        match self {
            Self::State { to, .. } => match to {
                NewState::Starting { .. } => N::ProcessStateStarting,
                NewState::Running { .. } => N::ProcessStateRunning,
                NewState::Backoff { .. } => N::ProcessStateBackoff,
                NewState::Stopping { .. } => N::ProcessStateStopping,
                NewState::Exited { .. } => N::ProcessStateExited,
                NewState::Stopped { .. } => N::ProcessStateStopped,
                NewState::Fatal => N::ProcessStateFatal,
                NewState::Unknown => N::ProcessStateUnknown,
            },
            Self::Log { is_error: false, .. } => N::ProcessLogStdout,
            Self::Log { is_error: true, .. } => N::ProcessLogStderr,
            Self::Communication { is_error: false, .. } => N::ProcessCommunicationStdout,
            Self::Communication { is_error: true, .. } => N::ProcessCommunicationStderr,
            Self::Remote { .. } => N::RemoteCommunication,
            Self::SupervisorRunning => N::SupervisorStateChangeRunning,
            Self::SupervisorStopping => N::SupervisorStateChangeStopping,
            Self::Tick { tick, .. } => *tick,
            Self::GroupAdded(_) => N::ProcessGroupAdded,
            Self::GroupRemoved(_) => N::ProcessGroupRemoved,
        }
    }

    /// Bytes of output that it carries; what else it says is short.
    pub fn weight(&self) -> usize {
        match self {
            Self::Log { text, .. } | Self::Communication { text, .. } => text.len(),
            _ => 0,
        }
    }

    /// What a listener reads behind the header.
    pub fn text(&self) -> String {
        match self {
            Self::State { name, from, to } => state_text(name, *from, *to),
            Self::Log { name, pid, is_error, text } => {
                let channel = if *is_error { "stderr" } else { "stdout" };
                let head = format!("{} pid:{pid} channel:{channel}\n", who(name));
                head + &plain_line_ends(text)
            }
            Self::Communication { name, pid, text, .. } => {
                format!("{} pid:{pid}\n{}", who(name), plain_line_ends(text))
            }
            Self::Remote { kind, data } => {
                format!("type:{}\n{}", plain_line_ends(kind), plain_line_ends(data))
            }
            Self::SupervisorRunning | Self::SupervisorStopping => String::new(),
            Self::Tick { when, .. } => format!("when:{when}"),
            Self::GroupAdded(group) | Self::GroupRemoved(group) => format!("groupname:{group}"),
        }
    }
}

fn who(name: &ProcessName) -> String {
    format!("processname:{} groupname:{}", name.process, name.group)
}

fn state_text(name: &ProcessName, from: ProcessState, to: NewState) -> String {
    let head = format!("{} from_state:{}", who(name), from.as_str());
    match to {
        NewState::Starting { tries } | NewState::Backoff { tries } => {
            format!("{head} tries:{tries}")
        }
        NewState::Running { pid } | NewState::Stopping { pid } | NewState::Stopped { pid } => {
            format!("{head} pid:{pid}")
        }
        NewState::Exited { pid, expected } => {
            format!("{head} expected:{} pid:{pid}", u8::from(expected))
        }
        NewState::Fatal | NewState::Unknown => head,
    }
}

/// Listeners read as text and count characters; their libraries turn two-character line ends into
/// one, and would then wait for the character that is missing.
fn plain_line_ends(text: &str) -> String {
    text.replace("\r\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_families_cover_their_members() {
        for name in EventName::all() {
            assert_eq!(EventName::parse(name.as_str()), Some(name));
            assert!(N::Event.covers(name) && name.covers(name));
        }
        assert!(N::ProcessState.covers(N::ProcessStateExited));
        assert!(N::Tick.covers(N::Tick3600));
        assert!(!N::Tick5.covers(N::Tick60) && !N::ProcessStateExited.covers(N::ProcessState));
        assert!(!N::ProcessLog.covers(N::ProcessCommunicationStdout));
        assert_eq!(EventName::parse("PROCESS_STATE_exited"), None);
        assert_eq!(NAMES.len(), 27);
    }

    /// As supervisor 4.2.5 sent them to a listener.
    #[test]
    fn payloads_are_as_recorded() {
        let worker = ProcessName::of("worker:0");
        let state = |from, to| Payload::State { name: worker.clone(), from, to };
        let check = |payload: Payload, name: &str, text: &str| {
            assert_eq!((payload.name().as_str(), payload.text().as_str()), (name, text));
        };
        check(
            state(ProcessState::Running, NewState::Exited { pid: 32385, expected: false }),
            "PROCESS_STATE_EXITED",
            "processname:worker_0 groupname:worker from_state:RUNNING expected:0 pid:32385",
        );
        check(
            state(ProcessState::Starting, NewState::Backoff { tries: 1 }),
            "PROCESS_STATE_BACKOFF",
            "processname:worker_0 groupname:worker from_state:STARTING tries:1",
        );
        check(
            state(ProcessState::Starting, NewState::Running { pid: 32210 }),
            "PROCESS_STATE_RUNNING",
            "processname:worker_0 groupname:worker from_state:STARTING pid:32210",
        );
        check(
            state(ProcessState::Backoff, NewState::Fatal),
            "PROCESS_STATE_FATAL",
            "processname:worker_0 groupname:worker from_state:BACKOFF",
        );
        let name = ProcessName::of("logger");
        check(
            Payload::Log { name, pid: 32207, is_error: false, text: "evt\r\n".into() },
            "PROCESS_LOG_STDOUT",
            "processname:logger groupname:logger pid:32207 channel:stdout\nevt\n",
        );
        check(Payload::Tick { tick: N::Tick5, when: 1_795_514_525 }, "TICK_5", "when:1795514525");
        let remote = Payload::Remote { kind: "foo".into(), data: "bar".into() };
        check(remote, "REMOTE_COMMUNICATION", "type:foo\nbar");
        check(Payload::GroupAdded("web".into()), "PROCESS_GROUP_ADDED", "groupname:web");
        check(Payload::SupervisorRunning, "SUPERVISOR_STATE_CHANGE_RUNNING", "");
    }
}

//! Requests to the root and its replies, by the control socket or a duty's inherited socket pair.

use crate::{EventRecord, Notice, Snapshot, WhyView};
use serde::{Deserialize, Serialize};

/// Raised when a request changes its meaning. A reader accepts unknown fields, and answers an
/// unknown request with [`ErrorCode::Unsupported`].
pub const PROTOCOL_VERSION: u32 = 1;

/// A numbered message. Replies carry the number of their request; pushed events carry 0.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// Chosen by the asker, from 1.
    pub id: u64,
    /// What is said.
    pub body: T,
}

/// What can be asked of the root.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// Are you there, and which version?
    Ping,
    /// Everything that is to be seen.
    Status,
    /// Why is this subject as it is?
    Why {
        /// An instance, a service, or `holdfast`.
        subject: String,
    },
    /// Do something with services.
    Service {
        /// What.
        action: ServiceAction,
        /// Services or instances; `*` = all.
        targets: Vec<String>,
    },
    /// Set how much is done about a sick service, until somebody sets it otherwise (H1, H12).
    Mode {
        /// Services or instances; `*` = all.
        targets: Vec<String>,
        /// `off`, `observe` or `enforce`; `None` = as the configuration says.
        mode: Option<String>,
    },
    /// The fault was mended: the workaround is no longer in force, and its count begins anew (H28).
    Cured {
        /// Services or instances; `*` = all.
        targets: Vec<String>,
    },
    /// Read the configuration again.
    Reload,
    /// The effective configuration, as TOML.
    ConfigShow,
    /// End the daemon.
    Stop {
        /// Leave the services running.
        keep_services: bool,
    },
    /// Execute this binary (or the one that started us, as it is on disk now) in place.
    Upgrade {
        /// Absolute path.
        binary: Option<String>,
    },
    /// From now on, push every event on this connection.
    Subscribe,
    /// Only by a duty, for somebody else: do this in the name of that caller.
    OnBehalf {
        /// Who really asks.
        caller: Caller,
        /// What.
        request: Box<Request>,
    },
    /// Only by a duty: record this event (it is given the root's next number).
    Record {
        /// `seq`, `source_seq` and times are filled in by the root.
        event: Box<EventRecord>,
    },
    /// Only by a duty: `status` shows this notice from now on, or no longer. The duty records the
    /// event about it itself.
    Notice {
        /// Which; begins with the duty's name and `-`.
        code: String,
        /// What is the case; `None` = it is no longer.
        notice: Option<Notice>,
    },
}

/// What can be done with a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", content = "with", rename_all = "snake_case")]
pub enum ServiceAction {
    /// Start.
    Start,
    /// Stop.
    Stop,
    /// Stop, then start.
    Restart,
    /// Ask it to read its configuration again.
    Reload,
    /// Send a signal, by number.
    Signal(i32),
    /// Forget that it failed.
    Reset,
    /// Replace it without a failed request, as its configuration says.
    Replace,
}

/// Who asks, as the kernel or a token says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Caller {
    /// For the event: `uid 0 (root)`, `token deploy`.
    pub name: String,
    /// What they may.
    pub role: Role,
}

/// What a caller may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Nothing.
    None,
    /// Look.
    Read,
    /// Look and act.
    Act,
}

impl Request {
    /// What a caller must be allowed to ask this.
    pub fn needs(&self) -> Role {
        match self {
            Self::Ping | Self::Status | Self::Why { .. } | Self::Subscribe => Role::Read,
            Self::Service { .. }
            | Self::Mode { .. }
            | Self::Cured { .. }
            | Self::Reload
            | Self::ConfigShow
            | Self::Stop { .. }
            | Self::Upgrade { .. }
            | Self::OnBehalf { .. }
            | Self::Record { .. }
            | Self::Notice { .. } => Role::Act,
        }
    }
}

/// What the root answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Reply {
    /// To `Ping`.
    Pong {
        /// Holdfast's version.
        version: String,
        /// [`PROTOCOL_VERSION`].
        protocol: u32,
    },
    /// To `Status`.
    Status {
        /// What is to be seen.
        snapshot: Box<Snapshot>,
    },
    /// To `Why`.
    Why {
        /// The chain.
        why: Box<WhyView>,
    },
    /// To `ConfigShow`.
    Config {
        /// The effective configuration.
        toml: String,
    },
    /// Done, or accepted and under way.
    Done {
        /// One sentence.
        message: String,
        /// The instances it concerns.
        instances: Vec<String>,
    },
    /// Not done; nothing has changed.
    Failed(Fault),
    /// Pushed after `Subscribe`.
    Event {
        /// The event.
        event: Box<EventRecord>,
    },
}

/// Why something was not done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// For programs.
    pub code: ErrorCode,
    /// For people: the cause.
    pub message: String,
    /// For people: the remedy; may be empty.
    pub help: String,
}

/// Kinds of refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No such service or subject.
    NotFound,
    /// The caller may not.
    Forbidden,
    /// The request makes no sense as it stands.
    Invalid,
    /// It can't be done in the present state.
    Conflict,
    /// This version does not know the request.
    Unsupported,
    /// It went wrong on our side.
    Internal,
}

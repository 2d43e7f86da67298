//! What can go wrong with a call, by supervisord's numbers.
//!
//! Source: the manual's API page, and answers of supervisor 4.2.5 to wrong calls.

use crate::rpc::Value;

/// Why a call has no value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}")]
pub struct RpcFault {
    /// One of [`Code`]'s numbers, in answers of ours.
    pub code: i64,
    /// `BAD_NAME: web`. Clients show it, and some look at its beginning.
    pub text: String,
}

/// The kinds of fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are supervisord's")]
pub enum Code {
    UnknownMethod,
    IncorrectParameters,
    BadArguments,
    SignatureUnsupported,
    ShutdownState,
    BadName,
    BadSignal,
    NoFile,
    NotExecutable,
    Failed,
    AbnormalTermination,
    SpawnError,
    AlreadyStarted,
    NotRunning,
    Success,
    AlreadyAdded,
    StillRunning,
    CantReread,
}

impl Code {
    /// supervisord's number and name.
    const fn parts(self) -> (i64, &'static str) {
        match self {
            Self::UnknownMethod => (1, "UNKNOWN_METHOD"),
            Self::IncorrectParameters => (2, "INCORRECT_PARAMETERS"),
            Self::BadArguments => (3, "BAD_ARGUMENTS"),
            Self::SignatureUnsupported => (4, "SIGNATURE_UNSUPPORTED"),
            Self::ShutdownState => (6, "SHUTDOWN_STATE"),
            Self::BadName => (10, "BAD_NAME"),
            Self::BadSignal => (11, "BAD_SIGNAL"),
            Self::NoFile => (20, "NO_FILE"),
            Self::NotExecutable => (21, "NOT_EXECUTABLE"),
            Self::Failed => (30, "FAILED"),
            Self::AbnormalTermination => (40, "ABNORMAL_TERMINATION"),
            Self::SpawnError => (50, "SPAWN_ERROR"),
            Self::AlreadyStarted => (60, "ALREADY_STARTED"),
            Self::NotRunning => (70, "NOT_RUNNING"),
            Self::Success => (80, "SUCCESS"),
            Self::AlreadyAdded => (90, "ALREADY_ADDED"),
            Self::StillRunning => (91, "STILL_RUNNING"),
            Self::CantReread => (92, "CANT_REREAD"),
        }
    }

    /// The number.
    pub const fn number(self) -> i64 {
        self.parts().0
    }

    /// A fault that is only its name.
    pub fn bare(self) -> RpcFault {
        RpcFault { code: self.number(), text: self.parts().1.to_owned() }
    }

    /// A fault with what it is about: `BAD_NAME: web`.
    pub fn of(self, about: impl std::fmt::Display) -> RpcFault {
        RpcFault { code: self.number(), text: format!("{}: {about}", self.parts().1) }
    }
}

impl RpcFault {
    /// As it stands in a response and in the results of `system.multicall`.
    pub fn to_value(&self) -> Value {
        Value::members([
            ("faultCode", Value::Int(self.code)),
            ("faultString", Value::text(self.text.as_str())),
        ])
    }

    /// From the struct of a response.
    pub fn from_value(value: &Value) -> Option<Self> {
        match (value.member("faultCode")?, value.member("faultString")?) {
            (Value::Int(code), Value::Text(text)) => Some(Self { code: *code, text: text.clone() }),
            _ => None,
        }
    }
}

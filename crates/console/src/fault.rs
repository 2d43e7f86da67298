//! What a refused request is answered with: a status, a stable code, the cause and the remedy.
//!
//! Why: one shape for every refusal, so that a client prints `message` and `help` and is done.

use crate::link::LinkError;
use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The JSON body of every answer that is not a success.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ApiFault {
    /// Stable, for programs: `not_found`, `forbidden`, `root_silent`, ….
    pub code: &'static str,
    /// The cause, for people.
    pub message: String,
    /// The remedy, for people; may be empty.
    pub help: String,
}

/// A refusal on its way to the client.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) fault: ApiFault,
}

impl Refusal {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { status, fault: ApiFault { code, message: message.into(), help: help.into() } }
    }

    pub(crate) fn invalid(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message, help)
    }

    pub(crate) fn not_found(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message, help)
    }

    pub(crate) fn unavailable(
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message, help)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self.fault)).into_response();
        let extra = match status {
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, "1")),
            _ => None,
        };
        if let Some((name, value)) = extra {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl From<LinkError> for Refusal {
    fn from(error: LinkError) -> Self {
        let code = match error {
            LinkError::Busy => "root_busy",
            LinkError::Gone => "root_gone",
            LinkError::Late => "root_silent",
            LinkError::Unexpected => "root_unexpected",
        };
        let help = "services keep running; ask again in a moment, and look at holdfast's own log \
                    if it stays like this";
        Self::unavailable(code, error.to_string(), help)
    }
}

impl From<control::Fault> for Refusal {
    fn from(fault: control::Fault) -> Self {
        use control::ErrorCode as Code;
        let (status, code) = match fault.code {
            Code::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Code::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            Code::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
            Code::Conflict => (StatusCode::CONFLICT, "conflict"),
            Code::Unsupported => (StatusCode::NOT_IMPLEMENTED, "unsupported"),
            Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self::new(status, code, fault.message, fault.help)
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(
            format!("the query can't be read: {}", rejection.body_text()),
            "see /api/v1/openapi.json for the parameters and their types",
        )
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(format!("the path can't be read: {}", rejection.body_text()), "")
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return too_large();
        }
        Self::invalid(
            format!("the body can't be read: {}", rejection.body_text()),
            "send JSON with the header `Content-Type: application/json`",
        )
    }
}

/// The body is over [`crate::guard::BODY_BYTES_MAX`].
pub(crate) fn too_large() -> Refusal {
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too_large",
        format!("the body has more than {} bytes", crate::guard::BODY_BYTES_MAX),
        "no request of this API needs more than a short JSON object",
    )
}

//! Services: what they are, why, and acting on them.

use super::{granted, unexpected};
use crate::App;
use crate::fault::{ApiFault, Refusal};
use crate::status::{ServiceStatus, Status, status as with_samples};
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use control::{Caller, Reply, Request, ServiceAction, WhyView};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What was done, or is under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Done {
    /// One sentence.
    message: String,
    /// The instances it concerns.
    instances: Vec<String>,
}

/// What can be done with a service without saying more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// Start; forgets that it failed.
    Start,
    /// Stop; what requires it first.
    Stop,
    /// Stop, then start.
    Restart,
    /// Have it read its configuration again.
    Reload,
    /// Forget that it failed, without starting it.
    Reset,
    /// Replace it without a failed request, as its configuration says.
    Replace,
}

impl From<Action> for ServiceAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Start => Self::Start,
            Action::Stop => Self::Stop,
            Action::Restart => Self::Restart,
            Action::Reload => Self::Reload,
            Action::Reset => Self::Reset,
            Action::Replace => Self::Replace,
        }
    }
}

/// A signal to send.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignalBody {
    /// `HUP`, `SIGHUP` or `1`.
    #[schema(example = "HUP")]
    signal: String,
}

/// How much is to be done about a sick service.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModeBody {
    /// Until somebody sets it otherwise.
    mode: ModeWish,
}

/// A mode, or the configured one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ModeWish {
    /// Look at nothing.
    Off,
    /// Compute, show and log everything, and touch nothing.
    Observe,
    /// Replace what is sick.
    Enforce,
    /// As the configuration says.
    Default,
}

impl ModeWish {
    const fn word(self) -> Option<&'static str> {
        match self {
            Self::Off => Some("off"),
            Self::Observe => Some("observe"),
            Self::Enforce => Some("enforce"),
            Self::Default => None,
        }
    }
}

/// Everything that is to be seen.
#[utoipa::path(get, path = "/api/v1/status", tag = "services",
    responses((status = 200, body = Status), (status = 503, body = ApiFault)))]
pub(super) async fn status(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let text = crate::status::render(&app).await?;
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((kind, text.as_bytes().to_vec()).into_response())
}

/// One service, by its name or by the name of one of its instances.
#[utoipa::path(get, path = "/api/v1/services/{name}", tag = "services",
    params(("name" = String, Path, description = "`web` or `web:1`")),
    responses((status = 200, body = ServiceStatus), (status = 404, body = ApiFault)))]
pub(super) async fn service(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<ServiceStatus>, Refusal> {
    let Path(name) = name?;
    let snapshot = app.snapshots.fresh().await?;
    let found = with_samples(&app, &snapshot).services.into_iter().find(|service| {
        service.name == name || service.instances.iter().any(|one| one.view.name == name)
    });
    found.map(Json).ok_or_else(|| no_such_service(&name))
}

pub(super) fn no_such_service(name: &str) -> Refusal {
    Refusal::not_found(
        format!("there is no service or instance `{name}`"),
        "GET /api/v1/status lists all of them",
    )
}

/// Why a subject is as it is: the causal chain down to the root.
#[utoipa::path(get, path = "/api/v1/why/{subject}", tag = "services",
    params(("subject" = String, Path, description = "A service, an instance, or `holdfast`")),
    responses((status = 200, body = WhyView), (status = 404, body = ApiFault)))]
pub(super) async fn why(
    State(app): State<Arc<App>>,
    subject: Result<Path<String>, PathRejection>,
) -> Result<Json<WhyView>, Refusal> {
    let Path(subject) = subject?;
    match granted(app.root.ask(Request::Why { subject }).await?)? {
        Reply::Why { why } => Ok(Json(*why)),
        _ => Err(unexpected()),
    }
}

/// Starts, stops, restarts, reloads, resets or replaces a service, an instance, or (`*`) all. Answers as soon
/// as the daemon has accepted it.
#[utoipa::path(post, path = "/api/v1/services/{target}/{action}", tag = "services",
    params(
        ("target" = String, Path, description = "`web`, `web:1`, or `*` for all"),
        ("action" = Action, Path, description = "What to do"),
    ),
    responses((status = 200, body = Done), (status = 403, body = ApiFault),
        (status = 404, body = ApiFault), (status = 409, body = ApiFault)))]
pub(super) async fn act(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<(String, Action)>, PathRejection>,
) -> Result<Json<Done>, Refusal> {
    let Path((target, action)) = path.map_err(|_| {
        Refusal::not_found(
            "there is no such action",
            "there are start, stop, restart, replace, reload, reset, cured, and signal and mode with a body",
        )
    })?;
    let request = Request::Service { action: action.into(), targets: vec![target] };
    on_behalf(&app, caller, request).await
}

/// Sends a signal to the main process.
#[utoipa::path(post, path = "/api/v1/services/{target}/signal", tag = "services",
    params(("target" = String, Path, description = "`web`, `web:1`, or `*` for all")),
    request_body = SignalBody,
    responses((status = 200, body = Done), (status = 400, body = ApiFault),
        (status = 403, body = ApiFault), (status = 404, body = ApiFault)))]
pub(super) async fn signal(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    target: Result<Path<String>, PathRejection>,
    body: Result<Json<SignalBody>, JsonRejection>,
) -> Result<Json<Done>, Refusal> {
    let (Path(target), Json(SignalBody { signal })) = (target?, body?);
    let number = sys::process::signal_number(&signal).ok_or_else(|| {
        Refusal::invalid(
            format!("`{signal}` is no signal"),
            "use a name such as HUP, TERM or USR1, or a number from 1 to 64",
        )
    })?;
    let action = ServiceAction::Signal(number);
    on_behalf(&app, caller, Request::Service { action, targets: vec![target] }).await
}

/// Sets how much is done about a sickness, until somebody sets it otherwise.
#[utoipa::path(post, path = "/api/v1/services/{target}/mode", tag = "services",
    params(("target" = String, Path, description = "`web`, `web:1`, or `*` for all")),
    request_body = ModeBody,
    responses((status = 200, body = Done), (status = 400, body = ApiFault),
        (status = 403, body = ApiFault), (status = 404, body = ApiFault)))]
pub(super) async fn mode(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    target: Result<Path<String>, PathRejection>,
    body: Result<Json<ModeBody>, JsonRejection>,
) -> Result<Json<Done>, Refusal> {
    let (Path(target), Json(ModeBody { mode })) = (target?, body?);
    let mode = mode.word().map(str::to_owned);
    on_behalf(&app, caller, Request::Mode { targets: vec![target], mode }).await
}

/// The fault was mended: the workaround is no longer in force, and what it saved is counted anew.
#[utoipa::path(post, path = "/api/v1/services/{target}/cured", tag = "services",
    params(("target" = String, Path, description = "`web`, `web:1`, or `*` for all")),
    responses((status = 200, body = Done), (status = 403, body = ApiFault),
        (status = 404, body = ApiFault)))]
pub(super) async fn cured(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    target: Result<Path<String>, PathRejection>,
) -> Result<Json<Done>, Refusal> {
    let Path(target) = target?;
    on_behalf(&app, caller, Request::Cured { targets: vec![target] }).await
}

/// Has the root do something in the caller's name, so that the event says who it was.
pub(super) async fn on_behalf(
    app: &App,
    caller: Caller,
    request: Request,
) -> Result<Json<Done>, Refusal> {
    let request = Request::OnBehalf { caller, request: Box::new(request) };
    match granted(app.root.ask(request).await?)? {
        Reply::Done { message, instances } => Ok(Json(Done { message, instances })),
        _ => Err(unexpected()),
    }
}

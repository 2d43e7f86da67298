//! `GET /health/SERVICE`: the status that is configured for the state, and the reasons as JSON.
//!
//! Why also HEAD and OPTIONS: balancers ask so (HAProxy's `option httpchk` says OPTIONS unless told
//! otherwise).

use super::answer::{Health, about, about_all};
use super::book::CannotTell;
use crate::App;
use crate::counters::{Face, Told};
use crate::fault::{ApiFault, Refusal};
use crate::guard::secure;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, options};
use axum::{Json, Router};
use std::sync::Arc;

/// The paths that a balancer may ask for.
const ALL: &str = "/health";
const ONE: &str = "/health/{name}";
const INSTANCE: &str = "/health/{name}/{index}";

/// The router of the listener that answers nothing else.
pub(crate) fn own_router(app: Arc<App>) -> Router {
    let routes =
        Router::new().route(ALL, get(all)).route(ONE, get(one)).route(INSTANCE, get(instance));
    with_options(routes)
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(map_response(|mut response: Response| async move {
            secure(response.headers_mut());
            response
        }))
        .with_state(app)
}

/// Adds what the description of the API does not list: the second way to name an instance, and
/// OPTIONS.
pub(crate) fn with_options(routes: Router<Arc<App>>) -> Router<Arc<App>> {
    routes.route(ALL, options(all)).route(ONE, options(one)).route(INSTANCE, options(instance))
}

/// The health of all services. The status is 200 whenever it can be told.
#[utoipa::path(get, path = "/health", tag = "health",
    responses((status = 200, body = Vec<Health>), (status = 503, body = ApiFault)))]
pub(crate) async fn all(State(app): State<Arc<App>>) -> Result<Json<Vec<Health>>, Refusal> {
    let seen = app.health.look().await.map_err(|why| cannot_tell(&app, &why))?;
    Ok(Json(about_all(&seen.snapshot, seen.age.as_millis() as u64)))
}

/// The health of a service or an instance, for balancers: the status is the one configured for the
/// state (unless configured, 200 while it may be given work, else 503). A service is in rotation
/// while one of its instances is. Also answers HEAD and OPTIONS.
#[utoipa::path(get, path = "/health/{name}", tag = "health",
    params(("name" = String, Path, description = "`web`, `web:1` or `web/1`, or `web@8002` for the run with that port")),
    responses((status = 200, body = Health), (status = 404, body = ApiFault),
        (status = 503, body = Health)))]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let Path(name) = name?;
    answer(&app, &name).await
}

async fn instance(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Refusal> {
    let Path((name, index)) = path?;
    answer(&app, &format!("{name}:{index}")).await
}

async fn answer(app: &App, name: &str) -> Result<Response, Refusal> {
    let seen = app.health.look().await.map_err(|why| cannot_tell(app, &why))?;
    let Some(health) = about(&seen.snapshot, name, seen.age.as_millis() as u64) else {
        app.counters.told(Face::Http, Told::Unknown);
        return Err(Refusal::not_found(
            format!("there is no service or instance `{name}`"),
            "GET /health lists all of them",
        ));
    };
    app.counters.told(Face::Http, Told::of(&health));
    let status = StatusCode::from_u16(health.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    Ok((status, Json(health)).into_response())
}

fn cannot_tell(app: &App, why: &CannotTell) -> Refusal {
    app.counters.told(Face::Http, Told::CannotTell);
    Refusal::unavailable(
        "cannot_tell",
        why.to_string(),
        "the services may be well all the same; look with `holdfast status`, and at holdfast's own log",
    )
}

async fn nothing_here(request: Request) -> Refusal {
    Refusal::not_found(
        format!("there is nothing at {}", request.uri().path()),
        "only /health and /health/SERVICE are answered here",
    )
}

async fn wrong_method(request: Request) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong_method",
        format!("{} can't be used on {}", request.method(), request.uri().path()),
        "GET, HEAD and OPTIONS can",
    )
}

//! The HTTP API, version 1: routes, and the OpenAPI document made from the same code.
//!
//! Why from the code: a description that is written by hand is wrong within a month.

mod events;
mod evidence;
mod logs;
mod services;
mod system;
mod watch;

use crate::App;
use crate::fault::Refusal;
use crate::guard::{BODY_BYTES_MAX, guard};
use crate::health;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use control::Reply;
use std::sync::{Arc, LazyLock};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Holdfast",
        description = "What Holdfast keeps alive on this node, and how to act on it. On the Unix \
                       socket and on the loopback listener the caller is known by the kernel; over \
                       TCP a bearer token is needed. Every answer that is no success has the shape \
                       `ApiFault`.",
        license(name = "Apache-2.0 OR MIT")
    ),
    tags(
        (name = "services", description = "What runs, and acting on it"),
        (name = "events", description = "What happened"),
        (name = "output", description = "Logs and samples"),
        (name = "health", description = "Verdicts for balancers"),
        (name = "evidence", description = "What is kept of sick runs; for operators alone"),
        (name = "daemon", description = "The daemon itself"),
    )
)]
struct Document;

fn described() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(services::status))
        .routes(routes!(services::service))
        .routes(routes!(services::why))
        .routes(routes!(services::act))
        .routes(routes!(services::signal))
        .routes(routes!(services::mode))
        .routes(routes!(services::cured))
        .routes(routes!(health::all))
        .routes(routes!(health::one))
        .routes(routes!(events::events))
        .routes(routes!(events::stream))
        .routes(routes!(evidence::list))
        .routes(routes!(evidence::index))
        .routes(routes!(evidence::file))
        .routes(routes!(logs::tail))
        .routes(routes!(logs::stream))
        .routes(routes!(watch::samples))
        .routes(routes!(watch::all_samples))
        .routes(routes!(watch::trends))
        .routes(routes!(watch::stream))
        .routes(routes!(system::config))
        .routes(routes!(system::reload))
        .routes(routes!(system::whoami))
        .routes(routes!(system::health))
        .routes(routes!(system::metrics))
}

/// The OpenAPI document, as JSON.
pub fn openapi() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut document = described().into_openapi();
        env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
        document.to_pretty_json().unwrap_or_default()
    });
    &TEXT
}

/// Everything that is served.
pub(crate) fn router(app: Arc<App>) -> Router {
    let (routes, _) = described().split_for_parts();
    health::with_options(routes)
        .route("/api/v1/openapi.json", get(document))
        .route("/", get(page))
        .route("/service/{name}", get(page))
        .route("/events", get(page))
        .route("/favicon.ico", get(asset))
        .route("/assets/{*path}", get(asset))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&app), guard))
        .with_state(app)
}

async fn document() -> Response {
    ([(axum::http::header::CONTENT_TYPE, "application/json")], openapi()).into_response()
}

async fn page(request: Request) -> Response {
    crate::pages::index(request.headers())
}

async fn asset(request: Request) -> Response {
    crate::pages::asset(request.uri().path(), request.headers())
}

async fn nothing_here(request: Request) -> Refusal {
    Refusal::not_found(
        format!("there is nothing at {}", request.uri().path()),
        "see /api/v1/openapi.json for what there is",
    )
}

async fn wrong_method(request: Request) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong_method",
        format!("{} can't be used on {}", request.method(), request.uri().path()),
        "see /api/v1/openapi.json for the methods",
    )
}

/// The reply, unless it is a refusal of the root.
fn granted(reply: Reply) -> Result<Reply, Refusal> {
    match reply {
        Reply::Failed(fault) => Err(fault.into()),
        other => Ok(other),
    }
}

/// A reply that does not belong to the question.
fn unexpected() -> Refusal {
    crate::link::LinkError::Unexpected.into()
}

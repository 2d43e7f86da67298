//! The daemon itself: its configuration, who asks, whether it lives, and its metrics.

use super::services::{Done, on_behalf};
use super::{granted, unexpected};
use crate::App;
use crate::fault::{ApiFault, Refusal};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use control::{Caller, Reply, Request, Role};
use serde::Serialize;
use std::sync::Arc;

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Words in a key whose value is a secret.
const SECRET_WORDS: [&str; 8] =
    ["password", "passwd", "secret", "token", "apikey", "api_key", "private", "credential"];

const MASK: &str = "********";

/// Who the daemon takes the caller for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Whoami {
    /// `uid 1000 (alice)`, `token deploy`.
    name: String,
    /// What the caller may.
    role: Role,
}

/// The effective configuration as TOML, every default filled in, secrets masked.
#[utoipa::path(get, path = "/api/v1/config", tag = "daemon",
    responses((status = 200, body = String, content_type = "application/toml"),
        (status = 403, body = ApiFault)))]
pub(super) async fn config(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let Reply::Config { toml } = granted(app.root.ask(Request::ConfigShow).await?)? else {
        return Err(unexpected());
    };
    let mut table: toml::Table = toml.parse().map_err(|_| unexpected())?;
    mask(&mut table);
    let text = toml::to_string(&table).map_err(|_| unexpected())?;
    Ok(([(header::CONTENT_TYPE, "application/toml; charset=utf-8")], text).into_response())
}

fn mask(table: &mut toml::Table) {
    for (key, value) in table.iter_mut() {
        let key = key.to_ascii_lowercase();
        match value {
            toml::Value::Table(inner) => mask(inner),
            toml::Value::Array(items) => {
                items.iter_mut().filter_map(toml::Value::as_table_mut).for_each(mask);
            }
            toml::Value::String(text)
                if key == "sha256" || SECRET_WORDS.iter().any(|word| key.contains(word)) =>
            {
                MASK.clone_into(text);
            }
            _ => {}
        }
    }
}

/// Reads the configuration again, and changes only what differs.
#[utoipa::path(post, path = "/api/v1/reload", tag = "daemon",
    responses((status = 200, body = Done), (status = 400, body = ApiFault),
        (status = 403, body = ApiFault)))]
pub(super) async fn reload(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Done>, Refusal> {
    on_behalf(&app, caller, Request::Reload).await
}

/// Who the daemon takes the caller for, and what he may.
#[utoipa::path(get, path = "/api/v1/whoami", tag = "daemon",
    responses((status = 200, body = Whoami), (status = 401, body = ApiFault)))]
pub(super) async fn whoami(Extension(caller): Extension<Caller>) -> Json<Whoami> {
    Json(Whoami { name: caller.name, role: caller.role })
}

/// Answers 200 when the console and the root behind it answer. Needs no role.
#[utoipa::path(get, path = "/healthz", tag = "daemon",
    responses((status = 200, body = String), (status = 503, body = ApiFault)))]
pub(super) async fn health(State(app): State<Arc<App>>) -> Result<&'static str, Refusal> {
    app.pulse.fresh().await?;
    Ok("ok\n")
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "daemon",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = crate::metrics::collect(&app).await;
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let text = "[service.web.env]\nDB_PASSWORD = \"x1\"\nLANG = \"C\"\n\
                    [[api.token]]\nname = \"deploy\"\nsha256 = \"x2\"\n";
        let mut table: toml::Table = text.parse().unwrap();
        mask(&mut table);
        let shown = toml::to_string(&table).unwrap();
        assert!(!shown.contains("x1") && !shown.contains("x2"), "{shown}");
        assert!(shown.contains("LANG = \"C\"") && shown.contains("deploy"), "{shown}");
    }
}

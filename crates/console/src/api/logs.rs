//! The services' output: the last lines, and new ones as they come.
//!
//! Invariant: the path of a log comes from the root's snapshot; a client names an instance, never a
//! file.

use super::services::no_such_service;
use crate::App;
use crate::fault::{ApiFault, Refusal};
use crate::streams::{answer, json_event};
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::response::sse::Event;
use futures_util::stream as streams;
use journal::logfile::{self, Follow};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// Lines of one answer, unless the client says otherwise.
const LINES_DEFAULT: usize = 200;

/// Lines of one event of a stream.
const LINES_PER_EVENT: usize = 500;

/// Pause between two looks at a log that somebody follows.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How many lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lines {
    /// At most so many of the last lines (10000 at most).
    lines: Option<usize>,
}

impl Lines {
    fn or(self, default: usize) -> Result<usize, Refusal> {
        let lines = self.lines.unwrap_or(default);
        if logfile::TAIL_LINES_MAX < lines {
            let message = format!("`lines` is at most {}", logfile::TAIL_LINES_MAX);
            return Err(Refusal::invalid(message, "read the log file itself for more"));
        }
        Ok(lines)
    }
}

/// The last lines of an instance's output.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct LogLines {
    /// Whose.
    instance: String,
    /// The file they stand in.
    file: String,
    /// Oldest first, without line ends.
    lines: Vec<String>,
}

/// The last lines of an instance's output, also from rotated files.
#[utoipa::path(get, path = "/api/v1/logs/{instance}", tag = "output",
    params(("instance" = String, Path, description = "`web` or `web:1`"), Lines),
    responses((status = 200, body = LogLines), (status = 404, body = ApiFault)))]
pub(super) async fn tail(
    State(app): State<Arc<App>>,
    instance: Result<Path<String>, PathRejection>,
    lines: Result<Query<Lines>, QueryRejection>,
) -> Result<Json<LogLines>, Refusal> {
    let (Path(instance), Query(lines)) = (instance?, lines?);
    let lines = lines.or(LINES_DEFAULT)?;
    let path = log_of(&app, &instance).await?;
    let file = path.display().to_string();
    let lines = aside(move || logfile::tail(&path, lines)).await?;
    Ok(Json(LogLines { instance, file, lines }))
}

/// New lines as server-sent events named `lines`, each with `{"lines": […]}`; with `lines=N` the
/// last N come first, without a gap.
#[utoipa::path(get, path = "/api/v1/logs/{instance}/stream", tag = "output",
    params(("instance" = String, Path, description = "`web` or `web:1`"), Lines),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 404, body = ApiFault), (status = 503, body = ApiFault)))]
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    instance: Result<Path<String>, PathRejection>,
    lines: Result<Query<Lines>, QueryRejection>,
) -> Result<Response, Refusal> {
    let (Path(instance), Query(lines)) = (instance?, lines?);
    let lines = lines.or(0)?;
    let place = app.streams.enter()?;
    let path = log_of(&app, &instance).await?;
    let (first, follow) = aside(move || logfile::tail_and_follow(&path, lines)).await?;
    let shutdown = app.shutdown.clone();
    let feed = Feed { first, follow: Some(follow), shutdown, _place: place };
    Ok(answer(streams::unfold(feed, async |mut feed| {
        let event = feed.next().await?;
        Some((Ok::<_, Infallible>(event), feed))
    })))
}

struct Feed {
    first: Vec<String>,
    /// Away while a look is under way.
    follow: Option<Follow>,
    shutdown: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Feed {
    async fn next(&mut self) -> Option<Event> {
        if !self.first.is_empty() {
            let rest = self.first.split_off(LINES_PER_EVENT.min(self.first.len()));
            let lines = std::mem::replace(&mut self.first, rest);
            return Some(wrap(&lines));
        }
        loop {
            let mut follow = self.follow.take()?;
            let looked = aside(move || {
                let lines = follow.poll(LINES_PER_EVENT)?;
                Ok((lines, follow))
            })
            .await;
            let (lines, follow) = looked.ok()?;
            self.follow = Some(follow);
            if !lines.is_empty() {
                return Some(wrap(&lines));
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }
}

fn wrap(lines: &[String]) -> Event {
    json_event(&serde_json::json!({ "lines": lines })).event("lines")
}

/// The log file of an instance, as the root says.
async fn log_of(app: &App, instance: &str) -> Result<PathBuf, Refusal> {
    let snapshot = app.snapshots.fresh().await?;
    let mut instances = snapshot.services.iter().flat_map(|service| &service.instances);
    let found = instances.find(|one| one.name == instance);
    found.map(|one| PathBuf::from(&one.log)).ok_or_else(|| no_such_service(instance))
}

/// Reads files on a thread of the runtime's pool: a slow disk must not stop the event loop.
async fn aside<T: Send + 'static>(
    read: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let unreadable = |why: String| {
        let help = "the service is not affected";
        Refusal::unavailable("log_unreadable", format!("the log can't be read: {why}"), help)
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(unreadable(error.to_string())),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

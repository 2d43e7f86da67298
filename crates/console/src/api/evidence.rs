//! Evidence of sick runs: which bundles there are, and what is in them.
//!
//! Invariant: a client names an instance, a bundle and a file; each has a form that is checked by
//! `journal::evidence` before a path is made of it.

use crate::App;
use crate::fault::{ApiFault, Refusal};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use control::{EvidenceEntry, EvidenceIndex};
use futures_util::stream;
use journal::evidence::{BundleId, Evidence};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

/// Read of a file at a time: a core file is never in our memory.
const BLOCK_BYTES: usize = 256 * 1024;

/// Of whom.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Of {
    /// A service or an instance; default: all.
    of: Option<String>,
}

/// The bundles that are kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct EvidenceList {
    /// The newest first.
    bundles: Vec<EvidenceEntry>,
}

/// The evidence that is kept of sick runs.
#[utoipa::path(get, path = "/api/v1/evidence", tag = "evidence", params(Of),
    responses((status = 200, body = EvidenceList), (status = 403, body = ApiFault)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    of: Result<Query<Of>, QueryRejection>,
) -> Result<Json<EvidenceList>, Refusal> {
    let Query(Of { of }) = of?;
    let evidence = evidence_of(&app);
    let bundles = aside(move || evidence.list(of.as_deref())).await?;
    Ok(Json(EvidenceList { bundles }))
}

/// What one bundle says of itself: why it was gathered, what is in it, and what is not.
#[utoipa::path(get, path = "/api/v1/evidence/{instance}/{id}", tag = "evidence",
    params(("instance" = String, Path, description = "`web` or `web:1`"),
        ("id" = String, Path, description = "`20261124T102233.123Z-17`")),
    responses((status = 200, body = EvidenceIndex), (status = 404, body = ApiFault)))]
pub(super) async fn index(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<EvidenceIndex>, Refusal> {
    let Path((instance, id)) = path?;
    let (evidence, bundle) = (evidence_of(&app), bundle_of(&instance, &id)?);
    Ok(Json(aside(move || evidence.index(&bundle)).await?))
}

/// One file of a bundle.
#[utoipa::path(get, path = "/api/v1/evidence/{instance}/{id}/{file}", tag = "evidence",
    params(("instance" = String, Path, description = "`web` or `web:1`"),
        ("id" = String, Path, description = "`20261124T102233.123Z-17`"),
        ("file" = String, Path, description = "`threads.txt`")),
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = 404, body = ApiFault)))]
pub(super) async fn file(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String, String)>, PathRejection>,
) -> Result<Response, Refusal> {
    let Path((instance, id, name)) = path?;
    let (evidence, bundle) = (evidence_of(&app), bundle_of(&instance, &id)?);
    let kind = kind_of(&name);
    let (file, length) = aside(move || evidence.open(&bundle, &name)).await?;
    let blocks = stream::try_unfold(file.take(length), async |file| {
        let (file, block) = tokio::task::spawn_blocking(move || next_block(file))
            .await
            .map_err(io::Error::other)??;
        io::Result::Ok((!block.is_empty()).then_some((block, file)))
    });
    let headers =
        [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_LENGTH, length.to_string())];
    Ok((headers, Body::from_stream(blocks)).into_response())
}

fn next_block(mut file: io::Take<File>) -> io::Result<(io::Take<File>, Vec<u8>)> {
    let mut block = vec![0; BLOCK_BYTES];
    let read = file.read(&mut block)?;
    block.truncate(read);
    Ok((file, block))
}

fn kind_of(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "txt")) => "text/plain; charset=utf-8",
        Some((_, "json")) => "application/json",
        _ => "application/octet-stream",
    }
}

fn evidence_of(app: &App) -> Evidence {
    Evidence::of_state(&app.config.daemon.state_dir)
}

fn bundle_of(instance: &str, id: &str) -> Result<BundleId, Refusal> {
    BundleId::new(instance, id).ok_or_else(nothing)
}

fn nothing() -> Refusal {
    Refusal::not_found("there is no such evidence", "GET /api/v1/evidence lists what there is")
}

/// Reads files on a thread of the runtime's pool: a slow disk must not stop the event loop.
async fn aside<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let unreadable = |why: String| {
        let help = "look at the state directory's disk";
        let message = format!("the evidence can't be read: {why}");
        Refusal::unavailable("evidence_unreadable", message, help)
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Err(nothing()),
        Ok(Err(error)) => Err(unreadable(error.to_string())),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

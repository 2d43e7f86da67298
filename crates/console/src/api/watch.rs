//! Samples, and the status as a stream.

use super::services::no_such_service;
use crate::App;
use crate::fault::{ApiFault, Refusal};
use crate::samples::Sample;
use crate::status::{Status, render};
use crate::streams::{Watching, answer};
use crate::trends::Trends;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::response::sse::Event;
use futures_util::stream as streams;
use serde::Serialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

/// The samples of one instance.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct InstanceSamples {
    /// Whose.
    instance: String,
    /// Oldest first, at most 120.
    samples: Vec<Sample>,
}

/// The samples of all instances.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AllSamples {
    /// By instance, oldest first: `[at_us, rss_bytes, cpu_percent]`.
    #[schema(value_type = BTreeMap<String, Vec<Vec<f64>>>)]
    samples: BTreeMap<String, Vec<(i64, u64, f64)>>,
}

/// The last samples of one instance.
#[utoipa::path(get, path = "/api/v1/samples/{instance}", tag = "output",
    params(("instance" = String, Path, description = "`web` or `web:1`")),
    responses((status = 200, body = InstanceSamples), (status = 404, body = ApiFault)))]
pub(super) async fn samples(
    State(app): State<Arc<App>>,
    instance: Result<Path<String>, PathRejection>,
) -> Result<Json<InstanceSamples>, Refusal> {
    let Path(instance) = instance?;
    let known = app.samples.lock().get(&instance).map(|ring| ring.samples().collect());
    if let Some(samples) = known {
        return Ok(Json(InstanceSamples { instance, samples }));
    }
    // Nothing measured yet is not the same as nobody there.
    let snapshot = app.snapshots.fresh().await?;
    let exists =
        snapshot.services.iter().flat_map(|s| &s.instances).any(|one| one.name == instance);
    if exists {
        return Ok(Json(InstanceSamples { instance, samples: Vec::new() }));
    }
    Err(no_such_service(&instance))
}

/// Where the numbers of an instance's detectors went during the last half hour.
#[utoipa::path(get, path = "/api/v1/trends/{instance}", tag = "output",
    params(("instance" = String, Path, description = "`web` or `web:1`")),
    responses((status = 200, body = Trends), (status = 404, body = ApiFault)))]
pub(super) async fn trends(
    State(app): State<Arc<App>>,
    instance: Result<Path<String>, PathRejection>,
) -> Result<Json<Trends>, Refusal> {
    let Path(instance) = instance?;
    if let Some(known) = app.trends.of(&instance) {
        return Ok(Json(known));
    }
    let snapshot = app.snapshots.fresh().await?;
    let mut all = snapshot.services.iter().flat_map(|service| &service.instances);
    if all.any(|one| one.name == instance) {
        return Ok(Json(Trends::default()));
    }
    Err(no_such_service(&instance))
}

/// The last samples of all instances, in short form.
#[utoipa::path(get, path = "/api/v1/samples", tag = "output",
    responses((status = 200, body = AllSamples)))]
pub(super) async fn all_samples(State(app): State<Arc<App>>) -> Json<AllSamples> {
    let rings = app.samples.lock();
    let short = |sample: Sample| (sample.at_us, sample.rss_bytes, sample.cpu_percent);
    let samples = rings
        .iter()
        .map(|(name, ring)| (name.clone(), ring.samples().map(short).collect()))
        .collect();
    Json(AllSamples { samples })
}

/// The status as server-sent events named `status`: the present one at once, then the newest one
/// whenever something has changed or was measured, at most twice a second.
#[utoipa::path(get, path = "/api/v1/status/stream", tag = "services",
    responses((status = 200, body = Status, content_type = "text/event-stream"),
        (status = 503, body = ApiFault)))]
pub(super) async fn stream(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let place = app.streams.enter()?;
    let mut pictures = app.pictures.subscribe();
    pictures.mark_unchanged();
    let feed = Feed {
        _watching: Watching::begin(&app.watchers),
        first: Some(render(&app).await?),
        pictures,
        shutdown: app.shutdown.clone(),
        _place: place,
    };
    Ok(answer(streams::unfold(feed, async |mut feed| {
        let picture = feed.next().await?;
        Some((Ok::<_, Infallible>(Event::default().event("status").data(&*picture)), feed))
    })))
}

/// One client's stream of pictures.
struct Feed {
    first: Option<Arc<str>>,
    pictures: watch::Receiver<Option<Arc<str>>>,
    shutdown: CancellationToken,
    _watching: Watching,
    _place: OwnedSemaphorePermit,
}

impl Feed {
    async fn next(&mut self) -> Option<Arc<str>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        tokio::select! {
            () = self.shutdown.cancelled() => return None,
            changed = self.pictures.changed() => changed.ok()?,
        }
        self.pictures.borrow_and_update().clone()
    }
}

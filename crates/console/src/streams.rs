//! Server-sent events: how many streams there may be, and what every one of them has.
//!
//! Why: a stream lives for hours, so their number is bounded apart from ordinary requests, and each
//! has a heartbeat by which both sides notice that the other is gone.
//! Source: HTML Living Standard, "Server-sent events".

use crate::fault::Refusal;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Streams at one time, of all clients together.
pub(crate) const STREAMS_MAX: usize = 64;

/// A comment is sent when nothing else was for this long.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Counts streams; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    permits: Arc<Semaphore>,
    refused: Arc<AtomicU64>,
}

impl Streams {
    pub(crate) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(STREAMS_MAX)), refused: Arc::default() }
    }

    /// A place for one more stream, given back when it is dropped.
    pub(crate) fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            Refusal::unavailable(
                "too_many_streams",
                format!("{STREAMS_MAX} streams are open already"),
                "close a page of the console, or ask without a stream",
            )
        })
    }

    /// Streams refused because too many were open.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Streams open now.
    pub(crate) fn open(&self) -> usize {
        STREAMS_MAX - self.permits.available_permits()
    }
}

/// Counts one who watches the status for as long as it lives, so that samples come more often.
pub(crate) struct Watching(Arc<watch::Sender<usize>>);

impl Watching {
    pub(crate) fn begin(watchers: &Arc<watch::Sender<usize>>) -> Self {
        watchers.send_modify(|count| *count += 1);
        Self(Arc::clone(watchers))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// The answer that carries `stream`.
pub(crate) fn answer<S>(stream: S) -> Response
where
    S: Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    let keep_alive = KeepAlive::new().interval(HEARTBEAT).text("still here");
    Sse::new(stream).keep_alive(keep_alive).into_response()
}

/// One event with JSON as its data.
pub(crate) fn json_event<T: serde::Serialize>(data: &T) -> Event {
    // Our own types always become JSON; an empty object is better than a broken stream.
    Event::default().json_data(data).unwrap_or_else(|_| Event::default().data("{}"))
}

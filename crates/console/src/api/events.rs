//! Events: asked for, and live.
//!
//! A stream begins in the journal, behind the number that the client has seen last, and goes over
//! to live events without a gap: it listens before it reads.

use crate::App;
use crate::fault::{ApiFault, Refusal};
use crate::history::{History, HistoryError};
use crate::streams::{answer, json_event};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use control::{EventRecord, Severity};
use futures_util::{Stream, stream as streams};
use journal::Order;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

/// Events of one answer, unless the client says otherwise.
const LIMIT_DEFAULT: usize = 100;

/// The most events of one answer; more are asked for page by page.
const LIMIT_MAX: usize = 10_000;

/// Events read from the journal at once while a stream catches up.
const CATCH_UP_PAGE: usize = 500;

/// Longest subject and kind in a filter.
const FILTER_BYTES_MAX: usize = 256;

/// Which events. All given conditions hold together.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventFilter {
    /// Only events with a larger number.
    after: Option<u64>,
    /// Only at or after: microseconds since the epoch, RFC 3339, or a duration ago (`10m`).
    since: Option<String>,
    /// Only before: as `since`.
    until: Option<String>,
    /// About this subject: `web` also means `web:0`, `web:1`, ….
    subject: Option<String>,
    /// The kind begins with this: `service.`.
    kind: Option<String>,
    /// At least this severe: `info`, `warning`, `error`.
    severity: Option<Severity>,
    /// At most so many (100 unless said, 10000 at most).
    limit: Option<usize>,
    /// `asc` (oldest first; default) or `desc`.
    order: Option<EventOrder>,
}

/// Which end comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EventOrder {
    /// Oldest first.
    Asc,
    /// Newest first.
    Desc,
}

/// An answer with events.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct EventPage {
    events: Vec<EventRecord>,
    /// The newest event's number.
    last_seq: u64,
}

impl EventFilter {
    fn query(&self, now_us: i64) -> Result<journal::Query, Refusal> {
        for (name, value) in [("subject", &self.subject), ("kind", &self.kind)] {
            if value.as_ref().is_some_and(|value| FILTER_BYTES_MAX < value.len()) {
                let message = format!("`{name}` has more than {FILTER_BYTES_MAX} bytes");
                return Err(Refusal::invalid(message, ""));
            }
        }
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if limit == 0 || LIMIT_MAX < limit {
            let help = "ask page by page, with `after` = the last `seq` you have";
            return Err(Refusal::invalid(format!("`limit` is 1 to {LIMIT_MAX}"), help));
        }
        let time = |name: &str, text: &Option<String>| {
            text.as_deref().map(|text| point(name, text, now_us)).transpose()
        };
        Ok(journal::Query {
            after_seq: self.after,
            since_us: time("since", &self.since)?,
            until_us: time("until", &self.until)?,
            subject: self.subject.clone(),
            kind_prefix: self.kind.clone(),
            severity_min: self.severity,
            limit,
            order: match self.order {
                Some(EventOrder::Desc) => Order::Descending,
                Some(EventOrder::Asc) | None => Order::Ascending,
            },
        })
    }
}

/// A point in time, in microseconds since the epoch.
fn point(name: &str, text: &str, now_us: i64) -> Result<i64, Refusal> {
    if let Ok(micros) = text.parse::<i64>() {
        return Ok(micros);
    }
    if let Ok(ago) = base::parse_duration(text) {
        let ago = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
        return Ok(now_us.saturating_sub(ago));
    }
    text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_microsecond).map_err(|_| {
        Refusal::invalid(
            format!("`{name}` is no point in time: `{text}`"),
            "use 2026-01-31T12:00:00Z, a duration ago such as 10m, or microseconds since the epoch",
        )
    })
}

/// True when a live event fits.
fn fits(query: &journal::Query, event: &EventRecord) -> bool {
    let about = query.subject.as_ref().is_none_or(|subject| {
        event.subject == *subject
            || event
                .subject
                .strip_prefix(subject.as_str())
                .is_some_and(|rest| rest.starts_with(':'))
    });
    let kind = query.kind_prefix.as_ref().is_none_or(|kind| event.kind.starts_with(kind.as_str()));
    let severe = query.severity_min.is_none_or(|least| least <= event.severity);
    let early = query.until_us.is_none_or(|until| event.wall_us < until);
    about && kind && severe && early
}

/// Events of the journal.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(EventFilter),
    responses((status = 200, body = EventPage), (status = 400, body = ApiFault),
        (status = 503, body = ApiFault)))]
pub(super) async fn events(
    State(app): State<Arc<App>>,
    filter: Result<Query<EventFilter>, QueryRejection>,
) -> Result<Json<EventPage>, Refusal> {
    let Query(filter) = filter?;
    let query = filter.query(sys::clock::wall().as_micros())?;
    let events = app.history.query(query).await?;
    Ok(Json(EventPage { events, last_seq: app.history.tally().last_seq() }))
}

/// Events as they happen, as server-sent events: each has the event as JSON in `data` and its number
/// in `id`. With `Last-Event-ID` (or `after`, or `since`) the stream begins in the past. An event
/// `lagged` with `{missed, last_seq}` says that the client was too slow; to get what it missed it
/// connects again with the number it has seen last. An event `reset` says that the numbering has
/// begun anew.
#[utoipa::path(get, path = "/api/v1/events/stream", tag = "events", params(EventFilter),
    responses((status = 200, body = EventRecord, content_type = "text/event-stream"),
        (status = 503, body = ApiFault)))]
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    filter: Result<Query<EventFilter>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(mut filter) = filter?;
    filter.order = None;
    let place = app.streams.enter()?;
    // Listen first, read then: what happens in between comes twice and is dropped by its number.
    let live = app.history.live();
    let newest = app.history.tally().last_seq();
    let resumed = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse::<u64>().ok());
    let after = resumed.or(filter.after);
    let mut query = filter.query(sys::clock::wall().as_micros())?;
    query.limit = CATCH_UP_PAGE;
    let is_reset = after.is_some_and(|after| newest < after);
    let from_past = (after.is_some() && !is_reset) || query.since_us.is_some();
    let feed = Feed {
        history: app.history.clone(),
        live,
        query,
        last: if is_reset || after.is_none() && !from_past { 0 } else { after.unwrap_or(0) },
        page: VecDeque::new(),
        catching_up: from_past,
        is_live: !from_past,
        is_reset,
        shutdown: app.shutdown.clone(),
        _place: place,
    };
    Ok(answer(feed.into_stream()))
}

fn numbered(event: &EventRecord) -> Event {
    json_event(event).id(event.seq.to_string())
}

/// One client's stream of events.
struct Feed {
    history: History,
    live: broadcast::Receiver<Arc<EventRecord>>,
    query: journal::Query,
    /// The number sent last: nothing at or below it is sent again.
    last: u64,
    page: VecDeque<EventRecord>,
    catching_up: bool,
    /// A live event was given since the journal was read to its end.
    is_live: bool,
    is_reset: bool,
    shutdown: CancellationToken,
    _place: OwnedSemaphorePermit,
}

/// The client was too slow.
#[derive(Serialize)]
struct Lagged {
    missed: u64,
    last_seq: u64,
}

impl Feed {
    fn into_stream(self) -> impl Stream<Item = Result<Event, Infallible>> + Send {
        streams::unfold(self, async |mut feed| {
            let event = feed.next().await?;
            Some((Ok(event), feed))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.is_reset) {
            let data = serde_json::json!({ "last_seq": self.history.tally().last_seq() });
            return Some(json_event(&data).event("reset"));
        }
        loop {
            if let Some(event) = self.page.pop_front() {
                self.last = event.seq;
                return Some(numbered(&event));
            }
            if self.catching_up {
                match self.next_page().await {
                    Ok(()) => continue,
                    Err(error) => {
                        // The client comes back with its last number, and the journal may be there.
                        tracing::debug!(%error, "a stream ends: its past can't be read");
                        return None;
                    }
                }
            }
            let received = tokio::select! {
                () = self.shutdown.cancelled() => return None,
                received = self.live.recv() => received,
            };
            match received {
                Ok(event) if event.seq <= self.last || !fits(&self.query, &event) => {}
                Ok(event) => {
                    self.last = event.seq;
                    self.is_live = true;
                    return Some(numbered(&event));
                }
                // So much was new while it read the past: that is in the journal, too.
                Err(RecvError::Lagged(_)) if !self.is_live => self.catching_up = true,
                Err(RecvError::Lagged(missed)) => {
                    self.history.tally().count_lagged(missed);
                    return Some(
                        json_event(&Lagged { missed, last_seq: self.last }).event("lagged"),
                    );
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    async fn next_page(&mut self) -> Result<(), HistoryError> {
        let query = journal::Query { after_seq: Some(self.last), ..self.query.clone() };
        let page = self.history.query(query).await?;
        self.catching_up = page.len() == CATCH_UP_PAGE;
        self.page = page.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_are_read_three_ways() {
        let hour = 3_600_000_000;
        assert_eq!(point("since", "5", 0).unwrap(), 5);
        assert_eq!(point("since", "1h", hour).unwrap(), 0);
        assert_eq!(point("since", "1970-01-01T01:00:00Z", 0).unwrap(), hour);
        assert!(point("since", "yesterday", 0).is_err());
    }

    #[test]
    fn a_limit_and_a_filter_have_limits() {
        let limit = |limit| EventFilter { limit: Some(limit), ..EventFilter::default() };
        assert!(limit(0).query(0).is_err());
        assert!(limit(10_001).query(0).is_err());
        assert_eq!(limit(10_000).query(0).unwrap().limit, 10_000);
        let long = EventFilter { kind: Some("x".repeat(300)), ..EventFilter::default() };
        assert!(long.query(0).is_err());
    }
}

//! What the doors count, for the metrics.

use axum::http::StatusCode;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the console started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    unauthorized: AtomicU64,
    forbidden: AtomicU64,
    other: AtomicU64,
    turned_away: AtomicU64,
}

impl Counters {
    /// A request was refused before it reached a handler.
    pub(crate) fn refused(&self, status: StatusCode) {
        let counter = match status {
            StatusCode::UNAUTHORIZED => &self.unauthorized,
            StatusCode::FORBIDDEN => &self.forbidden,
            _ => &self.other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was closed because too many were open.
    pub(crate) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// Refused requests, by reason.
    pub(crate) fn refusals(&self) -> [(&'static str, u64); 3] {
        [
            ("unauthorized", self.unauthorized.load(Ordering::Relaxed)),
            ("forbidden", self.forbidden.load(Ordering::Relaxed)),
            ("other", self.other.load(Ordering::Relaxed)),
        ]
    }

    /// Connections closed because too many were open.
    pub(crate) fn turned_away_total(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }
}

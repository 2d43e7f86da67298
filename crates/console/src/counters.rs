//! What the doors count, for the metrics.

use crate::health::Health;
use axum::http::StatusCode;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the console started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    unauthorized: AtomicU64,
    forbidden: AtomicU64,
    other: AtomicU64,
    turned_away: AtomicU64,
    /// By face, then by what was told.
    health: [[AtomicU64; 4]; 2],
}

/// How a balancer asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Face {
    /// `GET /health/…`.
    Http,
    /// HAProxy's agent check.
    Agent,
}

/// What a balancer was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// It may be given work.
    InRotation,
    /// It may not.
    Out,
    /// There is nothing of that name.
    Unknown,
    /// Nobody knows.
    CannotTell,
}

impl Told {
    /// What this answer says.
    pub(crate) fn of(health: &Health) -> Self {
        if 0 < health.in_rotation { Self::InRotation } else { Self::Out }
    }
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

    /// A balancer was told something.
    pub(crate) fn told(&self, face: Face, told: Told) {
        self.health[face as usize][told as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What balancers were told: the face, what, and how often.
    pub(crate) fn health_answers(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut all = Vec::new();
        for (face, name) in [(Face::Http, "http"), (Face::Agent, "agent")] {
            for (told, word) in [
                (Told::InRotation, "in_rotation"),
                (Told::Out, "out"),
                (Told::Unknown, "unknown"),
                (Told::CannotTell, "cannot_tell"),
            ] {
                let counter = &self.health[face as usize][told as usize];
                all.push((name, word, counter.load(Ordering::Relaxed)));
            }
        }
        all
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

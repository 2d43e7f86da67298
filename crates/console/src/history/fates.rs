//! Counts what became of sick runs, instance by instance, as the journal takes it in.
//!
//! Why from events: a snapshot shows what is, not what was; an instance may have been replaced twice
//! between two looks of Prometheus.
//! Invariant: at most [`INSTANCES_MAX`] instances are counted; a counter never falls.

use control::EventRecord;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// As many instances as a configuration can sensibly have.
const INSTANCES_MAX: usize = 10_000;

/// What can become of a run that is sick.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Its successor has taken over.
    Replaced,
    /// Its replacement went wrong.
    Failed,
    /// It is left alone, because a replacement would not help.
    Suppressed,
    /// It is left alone, because of the mode.
    Observed,
    /// A finer action is tried.
    Remedy,
}

const FATES: usize = 5;

impl Fate {
    /// What an event says, if it is about the fate of a run.
    fn of(kind: &str) -> Option<Self> {
        match kind {
            "service.replaced" => Some(Self::Replaced),
            "service.replacement_failed" => Some(Self::Failed),
            "service.replacement_suppressed" => Some(Self::Suppressed),
            "service.would_replace" => Some(Self::Observed),
            "service.remedy" => Some(Self::Remedy),
            _ => None,
        }
    }
}

/// Counts since the console started.
#[derive(Debug, Default)]
pub(crate) struct Fates {
    by_instance: Mutex<BTreeMap<String, [u64; FATES]>>,
}

impl Fates {
    /// An event was stored.
    pub(super) fn count(&self, event: &EventRecord) {
        let Some(fate) = Fate::of(&event.kind) else { return };
        let mut all = self.by_instance.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < INSTANCES_MAX || all.contains_key(&event.subject) {
            all.entry(event.subject.clone()).or_default()[fate as usize] += 1;
        }
    }

    /// What became of the runs of an instance: by the place of a [`Fate`].
    pub(crate) fn of(&self, instance: &str) -> [u64; FATES] {
        let all = self.by_instance.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(instance).copied().unwrap_or_default()
    }
}

//! What `top` shows: pure state, changed by snapshots, samples, events and keys.
//!
//! Invariants: a change sets `changed`; the selection follows the name of an instance, not its
//! place; histories and events are bounded.

use super::sample::Sample;
use crate::cli::status;
use base::{BoundedQueue, Full};
use control::{EventRecord, InstanceView, ServiceAction, Snapshot, WhyView};
use std::collections::BTreeMap;

/// Points of a sparkline that are kept.
pub(super) const HISTORY_MAX: usize = 60;

/// Events that are kept; older ones are in the journal.
const EVENTS_MAX: usize = 200;

/// What fills the screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum View {
    /// All services, and the selected one's cause and events.
    Table,
    /// The selected one's output.
    Log,
}

/// Memory and CPU of one instance over time, oldest first.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct History {
    pub(super) cpu_percent: Vec<f32>,
    pub(super) memory_bytes: Vec<u64>,
}

/// An action that waits for a yes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Question {
    pub(super) action: ServiceAction,
    pub(super) verb: &'static str,
    pub(super) instance: String,
}

/// Everything on the screen.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) snapshot: Snapshot,
    pub(super) machine: super::sample::Machine,
    pub(super) histories: BTreeMap<String, History>,
    pub(super) view: View,
    pub(super) question: Option<Question>,
    pub(super) why: WhyView,
    pub(super) log: Vec<String>,
    pub(super) message: String,
    pub(super) lost: Option<String>,
    events: BoundedQueue<EventRecord>,
    selected: String,
    changed: bool,
}

impl Model {
    /// With the first instance selected.
    pub(super) fn new(snapshot: Snapshot) -> Self {
        let selected = status::instances(&snapshot).next().map(|i| i.name.clone());
        Self {
            snapshot,
            machine: super::sample::Machine::default(),
            histories: BTreeMap::new(),
            view: View::Table,
            question: None,
            why: WhyView::default(),
            log: Vec::new(),
            message: String::new(),
            lost: None,
            events: BoundedQueue::new(EVENTS_MAX, Full::DropOldest),
            selected: selected.unwrap_or_default(),
            changed: true,
        }
    }

    /// All instances in the order of the screen.
    pub(super) fn rows(&self) -> Vec<&InstanceView> {
        status::instances(&self.snapshot).collect()
    }

    /// The place of the selected one.
    pub(super) fn selected_row(&self) -> usize {
        self.rows().iter().position(|i| i.name == self.selected).unwrap_or(0)
    }

    /// The selected one.
    pub(super) fn selected(&self) -> Option<&InstanceView> {
        self.rows().get(self.selected_row()).copied()
    }

    /// Moves the selection by rows, up to the ends.
    pub(super) fn select_by(&mut self, rows: isize) {
        let last = self.rows().len().saturating_sub(1);
        let row = self.selected_row().saturating_add_signed(rows).min(last);
        if let Some(name) = self.rows().get(row).map(|i| i.name.clone()) {
            self.selected = name;
        }
        self.why = WhyView::default();
        self.touch();
    }

    /// Everything as it is now.
    pub(super) fn update(&mut self, snapshot: Snapshot, sample: Sample) {
        self.machine = sample.machine;
        self.histories.retain(|name, _| sample.instances.contains_key(name));
        for (name, (cpu, memory)) in sample.instances {
            let history = self.histories.entry(name).or_default();
            push(&mut history.cpu_percent, cpu);
            push(&mut history.memory_bytes, memory);
        }
        self.snapshot = snapshot;
        self.lost = None;
        self.touch();
    }

    /// Something has happened.
    pub(super) fn add_event(&mut self, event: EventRecord) {
        // Drops the oldest by its policy, and never refuses.
        let _ = self.events.push(event);
        self.touch();
    }

    /// The events of the selected one, newest first.
    pub(super) fn events_of_selected(&self) -> Vec<&EventRecord> {
        let mut events: Vec<_> =
            self.events.iter().filter(|event| event.subject == self.selected).collect();
        events.reverse();
        events
    }

    /// Why the selected one is as it is.
    pub(super) fn set_why(&mut self, why: WhyView) {
        self.why = why;
        self.touch();
    }

    /// The selected one's output.
    pub(super) fn set_log(&mut self, lines: Vec<String>) {
        if self.log != lines {
            self.log = lines;
            self.touch();
        }
    }

    /// Tells the person something; empty = nothing any more.
    pub(super) fn say(&mut self, message: String) {
        self.message = message;
        self.touch();
    }

    /// The daemon does not answer.
    pub(super) fn lose(&mut self, why: String) {
        if self.lost.as_ref() != Some(&why) {
            self.lost = Some(why);
            self.touch();
        }
    }

    /// The daemon answers again: what it says, and what we know from before.
    pub(super) fn found_again(&mut self, now: Self) -> Self {
        Self {
            selected: std::mem::take(&mut self.selected),
            histories: std::mem::take(&mut self.histories),
            view: self.view,
            ..now
        }
    }

    /// Must be drawn.
    pub(super) fn touch(&mut self) {
        self.changed = true;
    }

    /// Whether it must be drawn; asked once before each drawing.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

fn push<T>(points: &mut Vec<T>, point: T) {
    if points.len() == HISTORY_MAX {
        points.remove(0);
    }
    points.push(point);
}

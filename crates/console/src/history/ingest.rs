//! The ingest thread: moves events from the segment files into the journal, then tells everybody.
//!
//! Why nudged and not polling: nothing happens most of the time, and then nothing should wake up.
//! The nudge may come before the file holds the event, so the thread looks again, with growing
//! pauses, until it does.
//! Invariants: an event is stored exactly once (positions are stored with it); damage is skipped
//! and said; trouble with the disk is retried and costs nothing but delay.

use super::questions::chain;
use super::{Note, Shared};
use control::{EventRecord, Severity};
use journal::segment::{Follower, SegmentError, load_cursor};
use journal::{Finding, FindingKind, Journal, JournalError};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Events stored in one transaction.
const BATCH_MAX: usize = 512;

/// First pause before looking again for a record that was announced; doubles.
const LOOK_AGAIN_FIRST: Duration = Duration::from_millis(5);

/// Times to look for an announced record before it is left to the next nudge.
const LOOKS_MAX: u32 = 10;

/// Without any nudge: writers that nobody announces, such as a root that is restarting.
const IDLE_LOOK: Duration = Duration::from_secs(30);

/// Pause after trouble with the disk or the database.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

/// Pause between two prunings.
const PRUNE_INTERVAL: Duration = Duration::from_hours(1);

/// Segments kept behind the reader, to fill a new journal from if the old one is damaged.
const SEGMENTS_KEEP: usize = 2;

/// What went wrong between the files and the database.
enum Trouble {
    Journal(JournalError),
    Segment(SegmentError),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Journal(error) => f.write_str(&chain(error)),
            Self::Segment(error) => f.write_str(&chain(error)),
        }
    }
}

struct Open {
    journal: Journal,
    follower: Follower,
    pruned: Option<Instant>,
}

/// See the module's head.
pub(super) struct Ingest {
    shared: Arc<Shared>,
    nudged: Receiver<()>,
    notes: mpsc::Sender<Note>,
    open: Option<Open>,
    seen: BTreeMap<String, u64>,
    looks: u32,
    in_trouble: bool,
}

impl Ingest {
    pub(super) fn new(
        shared: Arc<Shared>,
        nudged: Receiver<()>,
        notes: mpsc::Sender<Note>,
    ) -> Self {
        Self {
            shared,
            nudged,
            notes,
            open: None,
            seen: BTreeMap::new(),
            looks: 0,
            in_trouble: false,
        }
    }

    /// Works until it is told to stop, or the asking end is gone.
    pub(super) fn run(mut self) {
        loop {
            let pause = match self.turn() {
                Ok(()) => self.next_look(),
                Err(trouble) => {
                    self.troubled(trouble);
                    TROUBLE_PAUSE
                }
            };
            if self.shared.stopping.load(Ordering::Acquire) {
                return;
            }
            match self.nudged.recv_timeout(pause) {
                Ok(()) => self.looks = 0,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn turn(&mut self) -> Result<(), String> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open()?,
        };
        match self.move_all(&mut open) {
            Ok(()) => self.open = Some(open),
            // Set aside now; the next turn opens the new one and fills it from the segments.
            Err(Trouble::Journal(error @ JournalError::Damaged { .. })) => {
                let why = chain(&error);
                let (_, findings) = open.journal.replace(&why).map_err(|error| chain(&error))?;
                for finding in &findings {
                    self.note_finding(finding);
                }
                return Err(why);
            }
            // Dropped, and opened anew by the next turn.
            Err(trouble) => return Err(trouble.to_string()),
        }
        if self.in_trouble {
            self.in_trouble = false;
            self.shared.tally.set_trouble(None);
            tracing::info!("events are stored in the journal again");
        }
        Ok(())
    }

    fn open(&mut self) -> Result<Open, String> {
        let places = &self.shared.places;
        let (journal, findings) =
            Journal::open(&places.journal, &places.retention).map_err(|error| chain(&error))?;
        let positions = journal.positions().map_err(|error| chain(&error))?;
        let last = journal.last_seq().map_err(|error| chain(&error))?;
        let follower = Follower::open(&places.events, positions).map_err(|error| chain(&error))?;
        self.shared.tally.last_seq.store(last, Ordering::Relaxed);
        self.shared.count_opened();
        for finding in &findings {
            self.note_finding(finding);
        }
        Ok(Open { journal, follower, pruned: None })
    }

    fn move_all(&mut self, open: &mut Open) -> Result<(), Trouble> {
        loop {
            let batch = open.follower.poll(BATCH_MAX).map_err(Trouble::Segment)?;
            if batch.is_empty() {
                break;
            }
            let stored = open.journal.ingest(&batch).map_err(Trouble::Journal)?;
            open.follower.advance(&batch);
            for finding in &batch.findings {
                self.note_finding(finding);
            }
            for event in &batch.records {
                let seen = self.seen.entry(event.source.clone()).or_default();
                *seen = (*seen).max(event.source_seq);
            }
            self.tell(stored);
        }
        if open.pruned.is_none_or(|at| PRUNE_INTERVAL <= at.elapsed()) {
            open.pruned = Some(Instant::now());
            let pruned = open.journal.prune(sys::clock::wall().as_micros());
            let pruned = pruned.map_err(Trouble::Journal)?;
            let retired = self.retire(&mut open.follower)?;
            tracing::debug!(pruned, retired, "the journal was pruned");
        }
        Ok(())
    }

    /// Deletes segments that everybody has read. Where it can't be told how far somebody is, none:
    /// the writer bounds what that costs.
    fn retire(&self, follower: &mut Follower) -> Result<usize, Trouble> {
        let mut others = Vec::new();
        for path in &self.shared.places.other_readers {
            match load_cursor(path) {
                Ok(positions) => others.extend(positions),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "old events' files are kept");
                    return Ok(0);
                }
            }
        }
        follower.retire(SEGMENTS_KEEP, &others).map_err(Trouble::Segment)
    }

    fn tell(&self, stored: Vec<EventRecord>) {
        for event in stored {
            self.shared.tally.count(&event);
            // Nobody listening is fine.
            let _ = self.shared.live.send(Arc::new(event));
        }
    }

    /// How long to wait for a nudge.
    fn next_look(&mut self) -> Duration {
        let behind = {
            let wanted = self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            wanted
                .iter()
                .any(|(source, newest)| self.seen.get(source).is_none_or(|seen| seen < newest))
        };
        if !behind || LOOKS_MAX <= self.looks {
            return IDLE_LOOK;
        }
        let pause = LOOK_AGAIN_FIRST * 2_u32.pow(self.looks);
        self.looks += 1;
        pause
    }

    fn troubled(&mut self, trouble: String) {
        self.looks = 0;
        if !self.in_trouble {
            self.in_trouble = true;
            tracing::error!(error = %trouble, "events can't be stored; they wait in their files");
            self.note(Note {
                kind: "journal.unavailable",
                severity: Severity::Error,
                message: format!(
                    "events can't be stored in the journal, they wait in their files: {trouble}"
                ),
            });
        }
        self.shared.tally.set_trouble(Some(trouble));
        self.shared.opened.notify_all();
    }

    fn note_finding(&self, finding: &Finding) {
        let severity = match finding.kind {
            FindingKind::SegmentTorn => Severity::Warning,
            FindingKind::JournalReplaced
            | FindingKind::SegmentDamaged
            | FindingKind::SegmentMissing => Severity::Error,
        };
        tracing::error!(path = %finding.path.display(), "{}", finding.message);
        let (kind, message) = (finding.event_kind(), finding.message.clone());
        self.note(Note { kind, severity, message });
    }

    fn note(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            tracing::warn!("a note about the journal could not be recorded: too many wait");
        }
    }
}

//! One hook: reads the events in order and runs its command for those that it wants.
//!
//! Invariants: at least once: an event is marked after its run; in order of each source; a failure
//! is counted, and said at most every [`SAY_PAUSE`], with how many there were.

use super::bell::Bell;
use super::marks::Marks;
use super::run::{Ended, run};
use super::{cursor_path, marks_path};
use base::ServiceName;
use config::HookSettings;
use control::{EventRecord, Severity};
use journal::FindingKind;
use journal::segment::{Batch, Follower, Positions, SegmentError, load_cursor, save_cursor};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Records of one look.
const BATCH_MAX: usize = 64;

/// Without any nudge: writers that nobody announces.
const IDLE_LOOK: Duration = Duration::from_secs(30);

/// Pause after trouble with the disk.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

/// Between two writings of the cursor, which are synced.
const CURSOR_PAUSE: Duration = Duration::from_secs(10);

/// Between two words about failures.
const SAY_PAUSE: Duration = Duration::from_secs(10);

/// What a hook's thread is given.
pub(crate) struct Worker {
    pub(crate) name: ServiceName,
    pub(crate) settings: HookSettings,
    pub(crate) state: PathBuf,
    pub(crate) events: PathBuf,
    /// For a hook that has never been told anything: what is older is no news.
    pub(crate) news_since_us: i64,
    pub(crate) bell: Arc<Bell>,
    pub(crate) words: mpsc::Sender<EventRecord>,
}

/// Where a hook is.
struct Place {
    follower: Follower,
    marks: Marks,
    /// The hook is new: what happened before this time is history.
    history_before_us: Option<i64>,
    saved: Positions,
    save_after: Instant,
}

/// Failures that nobody has been told of.
struct Failures {
    unsaid: u64,
    last: String,
    say_after: Instant,
}

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Go {
    On,
    Home,
}

impl Worker {
    /// Works until the bell is stopped.
    pub(crate) fn work(self) {
        let mut place = None;
        let mut failures = Failures { unsaid: 0, last: String::new(), say_after: Instant::now() };
        while !self.bell.is_stopped() {
            let heard = self.bell.times();
            let pause = match self.look(&mut place, &mut failures) {
                Ok(Go::On) => IDLE_LOOK,
                Ok(Go::Home) => break,
                Err(error) => {
                    tracing::warn!(hook = %self.name, %error, "cannot read events");
                    TROUBLE_PAUSE
                }
            };
            let pause = match self.say_failures(&mut failures) {
                Some(until) => pause.min(until.saturating_duration_since(Instant::now())),
                None => pause,
            };
            self.bell.wait(heard, pause);
        }
        if let Some(place) = &mut place {
            self.save_cursor(place);
        }
    }

    /// Tells everything that is new.
    fn look(&self, place: &mut Option<Place>, failures: &mut Failures) -> Result<Go, SegmentError> {
        let place = match place {
            Some(place) => place,
            None => place.insert(self.begin()?),
        };
        loop {
            let batch = place.follower.poll(BATCH_MAX)?;
            if self.tell(place, &batch, failures) == Go::Home {
                return Ok(Go::Home);
            }
            place.follower.advance(&batch);
            if place.save_after <= Instant::now() {
                self.save_cursor(place);
            }
            if batch.records.len() < BATCH_MAX {
                return Ok(Go::On);
            }
        }
    }

    fn begin(&self) -> Result<Place, SegmentError> {
        let marks = Marks::load(&marks_path(&self.state, &self.name));
        let history_before_us = marks.is_none().then_some(self.news_since_us);
        let cursor = load_cursor(&cursor_path(&self.state, &self.name)).unwrap_or_else(|error| {
            tracing::warn!(hook = %self.name, %error, "cannot read how far a hook is");
            None
        });
        let follower = match cursor {
            Some(positions) => Follower::open(&self.events, positions)?,
            // What it was not told may stand anywhere.
            None if marks.is_some() => Follower::open(&self.events, Positions::new())?,
            None => Follower::open_at_newest(&self.events)?,
        };
        let (saved, save_after) = (Positions::new(), Instant::now());
        let marks = marks.unwrap_or_default();
        Ok(Place { follower, marks, history_before_us, saved, save_after })
    }

    fn tell(&self, place: &mut Place, batch: &Batch, failures: &mut Failures) -> Go {
        for finding in &batch.findings {
            if finding.kind == FindingKind::SegmentMissing {
                place.marks.lose();
                self.say_lost(format!(
                    "hook {} was not told of events: {}",
                    self.name, finding.message
                ));
            }
        }
        let mut is_changed = false;
        for record in &batch.records {
            if place.marks.has(record) {
                continue;
            }
            let is_history = place.history_before_us.is_some_and(|before| record.wall_us < before);
            if !is_history && self.wants(record) {
                match run(self.name.as_str(), &self.settings, record, &self.bell) {
                    Ended::Well => {}
                    Ended::Badly(why) => self.failed(failures, record, &why),
                    Ended::Cut => {
                        self.save_marks(place);
                        return Go::Home;
                    }
                }
                self.lost_before(place, record);
                self.save_marks(place);
                is_changed = false;
                self.say_failures(failures);
            } else {
                self.lost_before(place, record);
                is_changed = true;
            }
        }
        if is_changed {
            self.save_marks(place);
        }
        if self.bell.is_stopped() { Go::Home } else { Go::On }
    }

    /// Events about hooks would be an endless chain.
    fn wants(&self, record: &EventRecord) -> bool {
        let severity = match record.severity {
            Severity::Info => supervisor::Severity::Info,
            Severity::Warning => supervisor::Severity::Warning,
            Severity::Error => supervisor::Severity::Error,
        };
        !record.kind.starts_with("hook.") && self.settings.wants(&record.kind, severity)
    }

    fn lost_before(&self, place: &mut Place, record: &EventRecord) {
        let lost = place.marks.mark(record);
        if 0 < lost {
            self.say_lost(format!(
                "hook {} was not told of {lost} events of `{}`: they could not be written",
                self.name, record.source
            ));
        }
    }

    fn save_marks(&self, place: &Place) {
        if let Err(error) = place.marks.save(&marks_path(&self.state, &self.name)) {
            tracing::warn!(hook = %self.name, %error, "cannot write how far a hook is");
        }
    }

    fn save_cursor(&self, place: &mut Place) {
        place.save_after = Instant::now() + CURSOR_PAUSE;
        if place.saved == *place.follower.positions() {
            return;
        }
        match save_cursor(&cursor_path(&self.state, &self.name), place.follower.positions()) {
            Ok(()) => place.saved.clone_from(place.follower.positions()),
            Err(error) => {
                tracing::warn!(hook = %self.name, %error, "cannot write how far a hook is");
            }
        }
    }

    fn failed(&self, failures: &mut Failures, record: &EventRecord, why: &str) {
        tracing::debug!(hook = %self.name, why, "a hook failed");
        failures.unsaid += 1;
        failures.last = format!("for {} of {}: {why}", record.kind, record.subject);
    }

    /// Says what has failed, not too often. Gives when there is something to say next.
    fn say_failures(&self, failures: &mut Failures) -> Option<Instant> {
        if failures.unsaid == 0 {
            return None;
        }
        if Instant::now() < failures.say_after {
            return Some(failures.say_after);
        }
        let count = std::mem::take(&mut failures.unsaid);
        let times = match count {
            1 => String::new(),
            times => format!(" {times} times, the last"),
        };
        failures.say_after = Instant::now() + SAY_PAUSE;
        let message = format!("hook {} failed{times} {}", self.name, failures.last);
        let mut event = self.event("hook.failed", message);
        event.data.insert("failures".to_owned(), count.into());
        self.say(event);
        None
    }

    fn say_lost(&self, message: String) {
        self.say(self.event("hook.lost", message));
    }

    fn event(&self, kind: &str, message: String) -> EventRecord {
        EventRecord {
            seq: 0,
            source: String::new(),
            source_seq: 0,
            wall_us: 0,
            mono_ns: 0,
            node: String::new(),
            subject: format!("hook/{}", self.name),
            kind: kind.to_owned(),
            severity: Severity::Warning,
            message,
            data: serde_json::Map::new(),
        }
    }

    fn say(&self, event: EventRecord) {
        if let Err(error) = self.words.try_send(event) {
            tracing::warn!(hook = %self.name, %error, "an event about a hook is not recorded");
        }
    }
}

#[cfg(test)]
mod tests;

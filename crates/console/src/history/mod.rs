//! History: events from the segment files into the journal, questions to the journal, and the live
//! events behind it.
//!
//! ```text
//! root's push ──nudge──► ingest thread: Follower ─► Journal ─► broadcast ─► streams of clients
//! handlers ──question──► query thread:  read-only connection
//! ```
//! Why two threads of their own: SQLite waits for the disk, and the event loop must not (D3); a
//! long question must not hold up what is to be stored.
//! Invariants: an event is broadcast after it is in the journal, in the order of its number; all
//! queues are bounded, and a full one is an answer (`Busy`) or a count, never a wait.

pub(crate) mod fates;
mod ingest;
mod questions;

use self::fates::Fates;
use crate::link::Pushed;
use control::{EventRecord, Severity};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Events a slow client may be behind before it is told that it missed some.
pub(crate) const LIVE_EVENTS_MAX: usize = 1024;

/// Questions waiting for the query thread.
pub(crate) const QUESTIONS_MAX: usize = 32;

/// Notes of the ingest thread waiting to be handed to the root.
const NOTES_MAX: usize = 64;

/// How long a question waits for the journal to be opened. A damaged one is checked first, which
/// takes as long as reading it.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);

/// Why a question has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    /// [`QUESTIONS_MAX`] wait already.
    #[error("{QUESTIONS_MAX} questions to the journal are waiting already")]
    Busy,
    /// The journal can't be read; why.
    #[error("the journal can't be read: {0}")]
    Unavailable(String),
}

impl From<HistoryError> for crate::fault::Refusal {
    fn from(error: HistoryError) -> Self {
        let code = match error {
            HistoryError::Busy => "journal_busy",
            HistoryError::Unavailable(_) => "journal_unavailable",
        };
        Self::unavailable(code, error.to_string(), "services and live events are not affected")
    }
}

/// Something that the ingest thread wants to have recorded as an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Note {
    pub(crate) kind: &'static str,
    pub(crate) severity: Severity,
    pub(crate) message: String,
}

/// Counters and the state that metrics and status show.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    by_severity: [AtomicU64; 3],
    last_seq: AtomicU64,
    lagged: AtomicU64,
    busy: AtomicU64,
    waiting: AtomicU64,
    fates: Fates,
    trouble: Mutex<Option<String>>,
}

impl Tally {
    /// Events taken in since the console started, by severity.
    pub(crate) fn events(&self, severity: Severity) -> u64 {
        self.by_severity[severity as usize].load(Ordering::Relaxed)
    }

    /// What became of sick runs.
    pub(crate) fn fates(&self) -> &Fates {
        &self.fates
    }

    /// The newest event's number.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq.load(Ordering::Relaxed)
    }

    /// Events that slow clients missed on their streams.
    pub(crate) fn lagged(&self) -> u64 {
        self.lagged.load(Ordering::Relaxed)
    }

    /// Adds to [`Self::lagged`].
    pub(crate) fn count_lagged(&self, missed: u64) {
        self.lagged.fetch_add(missed, Ordering::Relaxed);
    }

    /// Questions refused because too many waited.
    pub(crate) fn busy(&self) -> u64 {
        self.busy.load(Ordering::Relaxed)
    }

    /// Questions that wait or are being answered.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Why events can't be stored at present.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn count(&self, event: &EventRecord) {
        self.by_severity[event.severity as usize].fetch_add(1, Ordering::Relaxed);
        self.fates.count(event);
        self.last_seq.store(event.seq, Ordering::Relaxed);
    }
}

/// Where things lie, and how much is kept.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) events: PathBuf,
    pub(crate) journal: PathBuf,
    /// Cursors of others who read the segments.
    pub(crate) other_readers: Vec<PathBuf>,
    pub(crate) retention: journal::Retention,
}

/// What both threads share.
pub(crate) struct Shared {
    pub(crate) places: Places,
    pub(crate) tally: Arc<Tally>,
    pub(crate) live: broadcast::Sender<Arc<EventRecord>>,
    /// How often the database file was opened by its writer: readers must open it anew, too, and
    /// must not open it before the first time.
    generation: Mutex<u64>,
    /// The ingest thread is to end.
    stopping: AtomicBool,
    /// Told when `generation` or the trouble has changed.
    opened: Condvar,
    /// The newest number the root has pushed, by source: the files must come to hold it.
    wanted: Mutex<BTreeMap<String, u64>>,
}

impl Shared {
    /// The writer has opened the database.
    fn count_opened(&self) {
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.opened.notify_all();
    }

    /// Which opening of the database is the present one. Waits for the first, but not while there
    /// is trouble with it.
    fn wait_until_open(&self) -> Result<u64, HistoryError> {
        let generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = |generation: &mut u64| *generation == 0 && self.tally.trouble().is_none();
        let (generation, _) = self
            .opened
            .wait_timeout_while(generation, OPEN_DEADLINE, missing)
            .unwrap_or_else(PoisonError::into_inner);
        if 0 < *generation {
            return Ok(*generation);
        }
        let why = self.tally.trouble().unwrap_or_else(|| "it is still being opened".to_owned());
        Err(HistoryError::Unavailable(why))
    }
}

struct Question {
    query: journal::Query,
    answer: oneshot::Sender<Result<Vec<EventRecord>, HistoryError>>,
}

/// What the threads give back.
pub(crate) struct Behind {
    /// What is to be recorded.
    pub(crate) notes: mpsc::Receiver<Note>,
    /// The journal is closed.
    pub(crate) finished: oneshot::Receiver<()>,
}

/// The asking end; cheap to clone.
#[derive(Clone)]
pub(crate) struct History {
    shared: Arc<Shared>,
    questions: SyncSender<Question>,
    nudges: SyncSender<()>,
    changes: Arc<watch::Sender<u64>>,
}

impl History {
    /// Starts both threads.
    pub(crate) fn start(places: Places) -> std::io::Result<(Self, Behind)> {
        let (notes, noted) = mpsc::channel(NOTES_MAX);
        let (questions, asked) = sync_channel(QUESTIONS_MAX);
        // One nudge that waits says as much as many.
        let (nudges, nudged) = sync_channel(1);
        let shared = Arc::new(Shared {
            places,
            tally: Arc::default(),
            live: broadcast::Sender::new(LIVE_EVENTS_MAX),
            generation: Mutex::default(),
            opened: Condvar::new(),
            stopping: AtomicBool::new(false),
            wanted: Mutex::default(),
        });
        let ingest = ingest::Ingest::new(Arc::clone(&shared), nudged, notes);
        let (finish, finished) = oneshot::channel();
        std::thread::Builder::new().name("journal".into()).spawn(move || {
            ingest.run();
            // Nobody waits for it when the console ends in a hurry.
            let _ = finish.send(());
        })?;
        let reader = questions::Reader::new(Arc::clone(&shared), asked);
        std::thread::Builder::new().name("journal-query".into()).spawn(move || reader.run())?;
        let changes = Arc::new(watch::Sender::new(0));
        Ok((Self { shared, questions, nudges, changes }, Behind { notes: noted, finished }))
    }

    /// Has the ingest thread finish its turn, close the journal and end.
    pub(crate) fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        let _ = self.nudges.try_send(());
    }

    /// Asks the journal.
    pub(crate) async fn query(
        &self,
        query: journal::Query,
    ) -> Result<Vec<EventRecord>, HistoryError> {
        let (answer, answered) = oneshot::channel();
        self.questions.try_send(Question { query, answer }).map_err(|_| {
            self.shared.tally.busy.fetch_add(1, Ordering::Relaxed);
            HistoryError::Busy
        })?;
        self.shared.tally.waiting.fetch_add(1, Ordering::Relaxed);
        let got = answered.await;
        self.shared.tally.waiting.fetch_sub(1, Ordering::Relaxed);
        got.unwrap_or_else(|_| Err(HistoryError::Unavailable("its thread has ended".into())))
    }

    /// Every event stored from now on.
    pub(crate) fn live(&self) -> broadcast::Receiver<Arc<EventRecord>> {
        self.shared.live.subscribe()
    }

    /// Live events that the slowest client has not taken yet.
    pub(crate) fn backlog(&self) -> usize {
        self.shared.live.len()
    }

    /// Counters.
    pub(crate) fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    /// Changes whenever the root has pushed an event: what it shows may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Pushed for History {
    fn pushed(&mut self, event: &EventRecord) {
        {
            let mut wanted = self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = wanted.entry(event.source.clone()).or_default();
            *newest = (*newest).max(event.source_seq);
        }
        // Full means that a nudge waits already.
        let _ = self.nudges.try_send(());
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

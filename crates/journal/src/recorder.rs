//! The root's recorder: a thread and a bounded queue in front of the segment writer.
//!
//! Why: the root's loop must never wait for a disk. What can't be written waits here; when there
//! is too much of it the oldest is dropped and counted, and the loss is itself recorded (`events.lost`)
//! in the place of what was dropped, once writing works again.
//! Invariants: numbers ascend in the file; recorded = written + lost + waiting; no wake-ups while
//! nothing happens.

mod thread;

use crate::Finding;
use crate::segment::{SegmentError, Writer};
use control::{EventRecord, encode_record};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Events that wait to be written. A thousand services that all fail within one second while the
/// disk hangs make a few thousand.
pub const BACKLOG_EVENTS_MAX: usize = 16_384;

/// Bytes that wait to be written: the root's memory budget does not allow more.
pub const BACKLOG_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long [`Recorder::stop`] waits for the disk.
const STOP_WAIT_MAX: Duration = Duration::from_secs(2);

/// Called on the recorder's thread with the number up to which all is in the file. Must not block.
pub type WrittenCallback = Box<dyn Fn(u64) + Send>;

/// Records events of one source. Shared by reference; every method may be called from any thread.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    findings: Vec<Finding>,
    thread: Option<JoinHandle<()>>,
}

/// What could not be written before the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{events} events could not be written before the end; is the disk full or not answering?")]
pub struct Unwritten {
    /// How many.
    pub events: u64,
}

#[derive(Debug)]
struct Shared {
    node: String,
    source: String,
    state: Mutex<State>,
    /// The thread waits here for work.
    work: Condvar,
    /// Callers wait here for `written`.
    progress: Condvar,
}

struct State {
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    next_seq: u64,
    /// Everything up to here is in the file, or was lost and counted.
    written: u64,
    lost: u64,
    /// Lost, and not yet told in the file.
    untold: Option<Untold>,
    callback: Option<WrittenCallback>,
    phase: Phase,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("waiting", &self.waiting.len())
            .field("written", &self.written)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Running,
    Stopping,
    Stopped,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    record: Vec<u8>,
}

/// Events that were dropped one after the other.
#[derive(Clone, Debug)]
struct Untold {
    count: u64,
    first: u64,
    last: u64,
}

impl Recorder {
    /// Opens the segments of `source` in `dir` and starts the thread. What was wrong with them is
    /// in [`Self::findings`].
    pub fn start(dir: &Path, node: &str, source: &str) -> Result<Self, SegmentError> {
        let (writer, recovery) = Writer::open(dir, source)?;
        let shared = Arc::new(Shared {
            node: node.to_owned(),
            source: source.to_owned(),
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                waiting_bytes: 0,
                next_seq: recovery.next_seq,
                written: recovery.next_seq - 1,
                lost: 0,
                untold: None,
                callback: None,
                phase: Phase::Running,
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || thread::run(&for_thread, writer))
            .map_err(SegmentError::io("start the recorder's thread for", dir))?;
        Ok(Self { shared, findings: recovery.findings, thread: Some(thread) })
    }

    /// What was wrong with the segments at the start. The caller records it.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Takes an event: gives it its number (and the node and source) and returns that number.
    /// Never blocks on a disk. `wall_us` and `mono_ns` are the caller's.
    pub fn record(&self, mut event: EventRecord) -> u64 {
        let mut state = self.shared.lock();
        event.seq = 0;
        event.source_seq = state.next_seq;
        event.source.clone_from(&self.shared.source);
        event.node.clone_from(&self.shared.node);
        state.next_seq += 1;
        let number = event.source_seq;
        match encode_bounded(event) {
            Some(record) => state.push(Waiting { number, record }),
            None => state.lose(number, 1),
        }
        drop(state);
        self.shared.work.notify_one();
        number
    }

    /// The number up to which everything is in the file (and so survives `kill -9`), or is counted
    /// as lost.
    pub fn written(&self) -> u64 {
        self.shared.lock().written
    }

    /// Waits until `number` is written; false if that did not happen within `limit`.
    pub fn wait_written(&self, number: u64, limit: Duration) -> bool {
        let state = self.shared.lock();
        let waited = self.shared.progress.wait_timeout_while(state, limit, |s| s.written < number);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        number <= state.written
    }

    /// From now on, calls back whenever [`Self::written`] has grown.
    pub fn on_written(&self, callback: WrittenCallback) {
        self.shared.lock().callback = Some(callback);
    }

    /// How many events were lost since the start.
    pub fn lost(&self) -> u64 {
        self.shared.lock().lost
    }

    /// Writes what waits, makes it survive a power cut, and ends. Waits two seconds at most; a
    /// thread that hangs in the disk is left behind.
    pub fn stop(mut self) -> Result<(), Unwritten> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Unwritten> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let deadline = Instant::now() + STOP_WAIT_MAX;
        let mut state = self.shared.lock();
        state.phase = Phase::Stopping;
        self.shared.work.notify_one();
        while state.phase != Phase::Stopped {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Unwritten { events: state.waiting.len().max(1) as u64 });
            }
            let waited = self.shared.progress.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let events = state.waiting.len() as u64;
        drop(state);
        let joined = thread.join().is_ok();
        if joined && events == 0 { Ok(()) } else { Err(Unwritten { events }) }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Without `stop`, what was recorded is still written, if the disk lets us.
        let _ = self.end();
    }
}

impl Shared {
    /// A panic of another holder can't leave the state half changed: every change is one that
    /// can't fail in the middle.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, item: Waiting) {
        self.waiting_bytes += item.record.len();
        self.waiting.push_back(item);
        while BACKLOG_EVENTS_MAX < self.waiting.len() || BACKLOG_BYTES_MAX < self.waiting_bytes {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= oldest.record.len();
            self.lose(oldest.number, 1);
        }
    }

    fn lose(&mut self, number: u64, count: u64) {
        self.lost += count;
        let untold = self.untold.get_or_insert(Untold { count: 0, first: number, last: number });
        untold.count += count;
        untold.first = untold.first.min(number);
        untold.last = untold.last.max(number);
    }
}

/// Encodes an event; one that is too long loses its details first, then most of its message.
fn encode_bounded(mut event: EventRecord) -> Option<Vec<u8>> {
    if let Ok(record) = encode_record(&event) {
        return Some(record);
    }
    event.data = serde_json::Map::new();
    event.data.insert("details".into(), "left out: too long".into());
    event.message = event.message.chars().take(1_000).collect();
    event.subject = event.subject.chars().take(200).collect();
    event.kind = event.kind.chars().take(200).collect();
    encode_record(&event).ok()
}

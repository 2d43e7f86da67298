//! The recorder's thread: writes what waits, tells what was lost, syncs in the background.

use super::{Phase, Shared, State, Untold, Waiting};
use crate::segment::Writer;
use control::{EventRecord, Severity, encode_record};
use std::error::Error;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Written records are made to survive a power cut at least this often.
const SYNC_INTERVAL: Duration = Duration::from_millis(200);

/// Pause before the next try after a failed write.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What the thread should do next.
enum Job {
    Write(Waiting),
    /// Tell the file what was lost. The record takes the number of the last one lost, so that
    /// numbers still ascend.
    Tell(Untold),
    Sync,
    /// A try to write failed a moment ago.
    Pause,
    Wait,
    End,
}

pub(super) fn run(shared: &Shared, mut writer: Writer) {
    let mut unsynced: Option<Instant> = None;
    let mut failed: Option<(Instant, String)> = None;
    let mut state = shared.lock();
    loop {
        let job = next_job(&mut state, unsynced, failed.as_ref());
        match job {
            Job::Write(item) => {
                drop(state);
                let result = writer.append_encoded(item.number, &item.record);
                state = shared.lock();
                match result {
                    Ok(()) => {
                        failed = None;
                        unsynced.get_or_insert_with(Instant::now);
                        state = progress(shared, state, item.number);
                    }
                    Err(error) => {
                        failed = Some((Instant::now(), chain(&error)));
                        state.waiting_bytes += item.record.len();
                        state.waiting.push_front(item);
                    }
                }
            }
            Job::Tell(untold) => {
                drop(state);
                let reason = failed.as_ref().map_or("too many at once", |(_, why)| why.as_str());
                let result = tell(shared, &mut writer, &untold, reason);
                state = shared.lock();
                match result {
                    Ok(()) => {
                        failed = None;
                        unsynced.get_or_insert_with(Instant::now);
                        state = progress(shared, state, untold.last);
                    }
                    Err(why) => {
                        failed = Some((Instant::now(), why));
                        put_back(&mut state, untold);
                    }
                }
            }
            Job::Sync => {
                drop(state);
                // A failed sync is tried again with the next record; the data stays in the file.
                let _ = writer.sync();
                unsynced = None;
                state = shared.lock();
            }
            Job::Pause => state = wait(shared, state, RETRY_INTERVAL),
            Job::Wait => {
                state = match unsynced {
                    None => shared.work.wait(state).unwrap_or_else(PoisonError::into_inner),
                    Some(since) => {
                        wait(shared, state, SYNC_INTERVAL.saturating_sub(since.elapsed()))
                    }
                };
            }
            Job::End => {
                drop(state);
                let _ = writer.sync();
                shared.lock().phase = Phase::Stopped;
                shared.progress.notify_all();
                return;
            }
        }
    }
}

fn next_job(
    state: &mut State,
    unsynced: Option<Instant>,
    failed: Option<&(Instant, String)>,
) -> Job {
    let stopping = state.phase == Phase::Stopping;
    if let Some((at, _)) = failed
        && at.elapsed() < RETRY_INTERVAL
    {
        return if stopping { Job::End } else { Job::Pause };
    }
    if unsynced.is_some_and(|since| SYNC_INTERVAL <= since.elapsed()) {
        return Job::Sync;
    }
    // In the order of the numbers: what was lost is told before what is newer than it.
    let next = state.waiting.front().map_or(u64::MAX, |item| item.number);
    if let Some(untold) = state.untold.take_if(|untold| untold.last < next) {
        return Job::Tell(untold);
    }
    match state.waiting.pop_front() {
        Some(item) => {
            state.waiting_bytes -= item.record.len();
            Job::Write(item)
        }
        None if stopping => Job::End,
        None => Job::Wait,
    }
}

/// One wait; a spurious or early wake-up only makes the loop look again.
fn wait<'a>(
    shared: &Shared,
    state: MutexGuard<'a, State>,
    limit: Duration,
) -> MutexGuard<'a, State> {
    shared.work.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
}

fn progress<'a>(
    shared: &'a Shared,
    mut state: MutexGuard<'a, State>,
    number: u64,
) -> MutexGuard<'a, State> {
    state.written = state.written.max(number);
    shared.progress.notify_all();
    let Some(callback) = state.callback.take() else { return state };
    // Called without the lock: it may ask us something.
    drop(state);
    callback(number);
    let mut state = shared.lock();
    state.callback.get_or_insert(callback);
    state
}

fn put_back(state: &mut State, told_later: Untold) {
    let newer = state.untold.take();
    state.untold = Some(match newer {
        None => told_later,
        Some(newer) => Untold {
            count: told_later.count + newer.count,
            first: told_later.first,
            last: newer.last,
        },
    });
}

fn tell(shared: &Shared, writer: &mut Writer, lost: &Untold, reason: &str) -> Result<(), String> {
    let mut data = serde_json::Map::new();
    data.insert("count".into(), lost.count.into());
    data.insert("first".into(), lost.first.into());
    data.insert("last".into(), lost.last.into());
    data.insert("reason".into(), reason.into());
    let event = EventRecord {
        seq: 0,
        source: shared.source.clone(),
        source_seq: lost.last,
        wall_us: wall_us(),
        mono_ns: mono_ns(),
        node: shared.node.clone(),
        subject: "holdfast".into(),
        kind: "events.lost".into(),
        severity: Severity::Error,
        message: format!("{} events were lost: {reason}", lost.count),
        data,
    };
    let record = encode_record(&event).map_err(|error| chain(&error))?;
    writer.append_encoded(lost.last, &record).map_err(|error| chain(&error))
}

fn wall_us() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

fn mono_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The whole cause, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

//! Our own event loops: one thread each, watched by a stall detector in a plain thread (D3).
//!
//! Why: a call that blocks on a loop stops everything that the loop serves. It must never happen;
//! when it happens all the same, it is an event with a stack, and not a mystery.

use anyhow::Context as _;
use control::{EventRecord, Severity};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;
use sys::stall::{Stall, StallDetector};
use tokio::runtime::{Builder, Runtime};

/// A start, or a reload, is over by then.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// A runtime for one loop on the calling thread, and the watch over it.
pub(crate) fn watched_runtime(
    name: &str,
    limit: Duration,
    blocking_threads_max: usize,
    report: impl Fn(Stall) + Send + 'static,
) -> anyhow::Result<(Runtime, Option<StallDetector>)> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(blocking_threads_max).thread_stack_size(512 * 1024);
    let detector = match StallDetector::start(name, limit, report) {
        Ok((heart, detector)) => {
            let parked = heart.clone();
            builder.on_thread_park(move || parked.idle()).on_thread_unpark(move || heart.busy());
            Some(detector)
        }
        Err(error) => {
            tracing::warn!(%error, "stalls of the loop can't be detected");
            None
        }
    };
    let runtime = builder.build().context("cannot build the runtime")?;
    runtime.spawn(give_back_later());
    Ok((runtime, detector))
}

/// Gives back what reading a configuration and getting under way took, once that is over.
pub(crate) async fn give_back_later() {
    tokio::time::sleep(SETTLED_AFTER).await;
    sys::memory::give_back();
    sys::memory::give_back_program();
}

/// A stall as an event about `subject`.
pub(crate) fn stall_event(subject: &str, stall: Stall) -> EventRecord {
    let message = format!(
        "the loop `{}` has been busy for {} without a pause: it stalls",
        stall.loop_name,
        base::format_duration(stall.lasted_so_far)
    );
    let stack = ("stack".to_owned(), stall.stack.into());
    let data = [stack, ("wait_channel".to_owned(), stall.wait_channel.into())];
    EventRecord {
        seq: 0,
        source: String::new(),
        source_seq: 0,
        wall_us: sys::clock::wall().as_micros(),
        mono_ns: sys::clock::now().as_nanos(),
        node: String::new(),
        subject: subject.to_owned(),
        kind: "daemon.stall".to_owned(),
        severity: Severity::Warning,
        message,
        data: data.into_iter().collect(),
    }
}

/// Records the stalls of a duty in segment files of its own: its link to the root is served by
/// the very loop that stalls. The recorder is started by the first stall.
pub(crate) fn duty_report(
    name: &str,
    events: PathBuf,
    node: String,
) -> impl Fn(Stall) + Send + 'static {
    let (source, recorder) = (name.to_owned(), OnceLock::new());
    move |stall| {
        let event = stall_event(&format!("duty/{source}"), stall);
        tracing::warn!(message = %event.message, "stall");
        let recorder = recorder.get_or_init(|| journal::Recorder::start(&events, &node, &source));
        match recorder {
            Ok(recorder) => {
                recorder.record(event);
            }
            Err(error) => tracing::error!(%error, "a stall can't be recorded"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Instant;

    /// Blocks the loop until the watch has said so.
    #[inline(never)]
    fn a_call_that_blocks(reports: &mpsc::Receiver<Stall>) -> Stall {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Ok(stall) = reports.try_recv() {
                return stall;
            }
            std::hint::spin_loop();
        }
        panic!("the stall was not noticed");
    }

    #[test]
    fn d3_a_blocking_call_on_our_loop_is_an_event_with_its_stack() {
        let (sender, reports) = mpsc::channel();
        let report = move |stall| drop(sender.send(stall));
        let (runtime, detector) =
            watched_runtime("test", Duration::from_millis(20), 1, report).unwrap();
        assert!(detector.is_some());
        let stall = runtime.block_on(async {
            // The watch begins with the first pause of the loop.
            tokio::time::sleep(Duration::from_millis(1)).await;
            a_call_that_blocks(&reports)
        });
        let event = stall_event("holdfast", stall);
        assert_eq!((event.kind.as_str(), event.severity), ("daemon.stall", Severity::Warning));
        let stack = event.data["stack"].to_string();
        assert!(stack.contains("a_call_that_blocks"), "{stack}");
    }
}

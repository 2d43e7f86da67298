//! A plain thread that watches an event loop: is it stuck in one turn, and where (D3)?
//!
//! The loop says [`Heart::busy`] when a turn begins and [`Heart::idle`] when it goes to sleep: two
//! stores. While the loop sleeps the watcher sleeps, too, without any timer. When a turn takes longer
//! than the limit, the watcher sends the loop's thread a signal whose handler notes down return
//! addresses; names are looked up by the watcher. A thread in uninterruptible sleep takes no signal:
//! then the kernel function it waits in is all that can be said.
//!
//! Reports: at the limit, then each time the stall has lasted `REPORT_GROWTH` times as long.
//! Source: signal-safety(7), tgkill(2).

mod stack;

use crate::clock;
use base::Now;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// Each report of one stall waits this many times longer than the one before.
const REPORT_GROWTH: u32 = 8;

/// Stack of the watching thread: looking up names reads debug tables, which takes some.
const WATCHER_STACK_BYTES: usize = 512 * 1024;

/// A loop that is stuck.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stall {
    /// Which loop.
    pub loop_name: String,
    /// Since its present turn began.
    pub lasted_so_far: Duration,
    /// Names of functions, innermost first; empty if the thread takes no signals.
    pub stack: Vec<String>,
    /// The kernel function in which it sleeps, if it does and the kernel tells.
    pub wait_channel: Option<String>,
}

/// What the loop and the watcher share.
struct Shared {
    /// Nanoseconds since boot at which the present turn began; 0 while idle.
    busy_since: AtomicU64,
    /// The watcher sleeps until it is woken.
    parked: AtomicBool,
    stop: AtomicBool,
}

/// The loop's handle. Cheap to clone and to call.
#[derive(Clone)]
pub struct Heart {
    shared: Arc<Shared>,
    watcher: Thread,
}

impl Heart {
    /// A turn begins. Wakes the watcher if it sleeps.
    pub fn busy(&self) {
        self.shared.busy_since.store(clock::now().as_nanos(), Ordering::SeqCst);
        // Mostly the watcher is awake anyway, within its last wait; then this is one load.
        if self.shared.parked.load(Ordering::SeqCst) {
            self.watcher.unpark();
        }
    }

    /// The turn is over.
    pub fn idle(&self) {
        self.shared.busy_since.store(0, Ordering::SeqCst);
    }
}

/// The watching thread. Ends when dropped.
pub struct StallDetector {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl StallDetector {
    /// Watches the calling thread. `report` runs in the watcher.
    pub fn start(
        name: &str,
        limit: Duration,
        report: impl Fn(Stall) + Send + 'static,
    ) -> io::Result<(Heart, Self)> {
        stack::prepare()?;
        let shared = Arc::new(Shared {
            busy_since: AtomicU64::new(0),
            parked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let watch = Watch {
            shared: Arc::clone(&shared),
            loop_name: name.to_owned(),
            limit,
            tid: rustix::thread::gettid().as_raw_nonzero().get(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("stall-{name}"))
            .stack_size(WATCHER_STACK_BYTES)
            .spawn(move || watch.run(&report))?;
        let heart = Heart { shared: Arc::clone(&shared), watcher: thread.thread().clone() };
        Ok((heart, Self { shared, thread: Some(thread) }))
    }
}

impl Drop for StallDetector {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A report that hangs must not hang us; one that panicked has nothing to tell.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

struct Watch {
    shared: Arc<Shared>,
    loop_name: String,
    limit: Duration,
    tid: i32,
}

impl Watch {
    fn run(&self, report: &impl Fn(Stall)) {
        let mut turn = 0;
        let mut due = self.limit;
        while !self.shared.stop.load(Ordering::SeqCst) {
            let since = self.shared.busy_since.load(Ordering::SeqCst);
            if since == 0 {
                self.sleep_until_busy();
                continue;
            }
            if since != turn {
                turn = since;
                due = self.limit;
            }
            let lasted = clock::now().since(Now::from_nanos(since));
            if lasted < due {
                std::thread::park_timeout(due.saturating_sub(lasted));
                continue;
            }
            let stall = self.look(lasted);
            // Only if it is still the same turn does the stack belong to the stall.
            if self.shared.busy_since.load(Ordering::SeqCst) == since {
                report(stall);
                due = lasted.max(self.limit).saturating_mul(REPORT_GROWTH);
            }
        }
    }

    fn sleep_until_busy(&self) {
        self.shared.parked.store(true, Ordering::SeqCst);
        // The loop may have become busy before it could see that we are about to sleep.
        let idle = self.shared.busy_since.load(Ordering::SeqCst) == 0;
        if idle && !self.shared.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.shared.parked.store(false, Ordering::SeqCst);
    }

    fn look(&self, lasted_so_far: Duration) -> Stall {
        Stall {
            loop_name: self.loop_name.clone(),
            lasted_so_far,
            // Before the signal wakes it from where it sleeps.
            wait_channel: crate::proc_fs::wait_channel_of_thread(self.tid.unsigned_abs()),
            stack: stack::of_thread(self.tid),
        }
    }
}

//! Every thread sleeps on a lock while work waits.
//!
//! A pool of idle workers sleeps on locks too, but then one thread sleeps in `epoll_wait` or
//! `accept`, not on a lock; and then no work waits. Both are asked for.
//! Invariant: sick only after all of `lasting`, in which each look saw all threads on locks, work
//! that waits, and no advance.

use super::finding::{Finding, Lasting, Look};
use super::standstill::{Counted, Cpu, Standstill};
use super::words::count;
use super::{LockWaits, SocketSample};
use crate::Progress;
use base::Now;
use std::time::Duration;

/// The detector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Deadlock {
    standstill: Standstill,
    lasting: Lasting,
    /// Each look since then saw all threads on locks, and work that waits.
    locked: Option<Now>,
}

impl Deadlock {
    pub(super) fn new(lasting: Duration) -> Self {
        let standstill = Standstill::new(Progress::Kernel, Cpu::IsLife);
        Self { standstill, lasting: Lasting::new(lasting), locked: None }
    }

    pub(super) fn sampled(&mut self, look: &Look<'_>) -> Finding {
        let still = self.standstill.observe(look, Counted::Unknown);
        let Some(waits) = look.sample.lock_waits else {
            return Finding::cannot_tell("what its threads wait for can't be read");
        };
        let work = look.sample.sockets.map_or(0, work);
        let measured = vec![
            ("threads", f64::from(waits.looked_at)),
            ("on_locks", f64::from(waits.on_locks)),
            ("waiting", f64::from(work)),
        ];
        let locked = all_on_locks(waits) && 0 < work;
        if !locked || still.advanced {
            self.lasting.ends();
        }
        let threads = count(u64::from(waits.looked_at), "thread");
        let connections = count(u64::from(work), "connection");
        if !locked {
            self.locked = None;
            let message = format!("{} of {threads} on locks, work: {connections}", waits.on_locks);
            return Finding::well(message).measured(measured);
        }
        let locked = *self.locked.get_or_insert(look.now);
        let held = self.lasting.goes_on(look, still.since.max(locked));
        let evidence = self.standstill.evidence(look);
        let message = format!(
            "all of {threads} on locks, work that waits: {connections}; {} {evidence}",
            held.sentence()
        );
        Finding { cannot_run: held.is_sick(), ..held.finding(message).measured(measured) }
    }
}

/// No thread can run before another one has: they all sleep on locks.
pub(super) fn all_on_locks(waits: LockWaits) -> bool {
    0 < waits.looked_at && waits.on_locks == waits.looked_at && waits.running == 0
}

/// Connections that wait for the service.
fn work(sockets: SocketSample) -> u32 {
    let answers = sockets.unanswered.map_or(sockets.established, |it| it.connections);
    sockets.queue.saturating_add(answers)
}

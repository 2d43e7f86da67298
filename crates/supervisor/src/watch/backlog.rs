//! Work waits, and nothing advances (H2): read from the kernel, without the program's help.
//!
//! Work that waits: connections that wait to be accepted, `queue` of them or more; or, where
//! `connections` is set, that many accepted connections whose peer waits for an answer. An idle
//! keep-alive connection has had its answer, and does not count; only where the kernel does not
//! tell who waits, all established connections do. What "nothing advances" means stands in
//! `standstill`.
//! Invariant: sick only after all of `lasting`, in which each look saw work that waits, and, where
//! ages are known, with work that has waited all of `lasting` itself.

use super::SocketSample;
use super::finding::{Finding, Held, Lasting, Look};
use super::standstill::{Counted, Cpu, Standstill, oldest};
use super::words::{count, time};
use crate::Progress;
use base::Now;
use std::time::Duration;

/// The detector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Backlog {
    queue: u32,
    connections: Option<u32>,
    standstill: Standstill,
    lasting: Lasting,
    /// Each look since then saw work that waits.
    waiting: Option<Now>,
}

impl Backlog {
    pub(super) fn new(
        queue: u32,
        connections: Option<u32>,
        lasting: Duration,
        progress: Progress,
    ) -> Self {
        let standstill = Standstill::new(progress, Cpu::IsLife);
        Self { queue, connections, standstill, lasting: Lasting::new(lasting), waiting: None }
    }

    pub(super) fn sampled(&mut self, look: &Look<'_>, counted: Counted) -> Finding {
        let still = self.standstill.observe(look, counted);
        let Some(sockets) = look.sample.sockets else {
            return Finding::cannot_tell("its sockets can't be read");
        };
        if sockets.queue_limit == 0 && sockets.established == 0 {
            return Finding::cannot_tell("it listens on no socket that the kernel tells of");
        }
        let measured = measured(&sockets);
        let waits = self.work_waits(&sockets);
        if !waits || still.advanced {
            self.lasting.ends();
        }
        if !waits {
            self.waiting = None;
            return Finding::well(self.idle(&sockets)).measured(measured);
        }
        let waiting = *self.waiting.get_or_insert(look.now);
        // The oldest work must itself have waited all the time: else what waited before was done.
        let oldest = oldest(&sockets).map_or(Now::ZERO, |age| look.now - age);
        let held = self.lasting.goes_on(look, still.since.max(waiting).max(oldest));
        let message = self.sentence(look, &sockets, held);
        held.finding(message).measured(measured)
    }

    fn work_waits(&self, sockets: &SocketSample) -> bool {
        let answers = sockets.unanswered.map_or(sockets.established, |it| it.connections);
        self.queue <= sockets.queue || self.connections.is_some_and(|least| least <= answers)
    }

    fn idle(&self, sockets: &SocketSample) -> String {
        let queue = count(u64::from(sockets.queue), "connection");
        format!("{queue} to be accepted, which is below {}", self.queue)
    }

    fn sentence(&self, look: &Look<'_>, sockets: &SocketSample, held: Held) -> String {
        let stopped = if look.sample.stopped { "it is stopped by a signal; " } else { "" };
        let queue = count(u64::from(sockets.queue), "connection");
        let answers = match sockets.unanswered {
            Some(it) => format!("{} for an answer", it.connections),
            None => format!("{} are established", sockets.established),
        };
        let age = oldest(sockets).map_or(String::new(), |age| format!(" (oldest {})", time(age)));
        let evidence = self.standstill.evidence(look);
        let held = held.sentence();
        format!("{stopped}{queue} to be accepted, {answers}{age}; {held} {evidence}")
    }
}

fn measured(sockets: &SocketSample) -> Vec<(&'static str, f64)> {
    let mut measured = vec![
        ("queue", f64::from(sockets.queue)),
        ("queue_limit", f64::from(sockets.queue_limit)),
        ("established", f64::from(sockets.established)),
    ];
    measured.extend(sockets.unanswered.map(|it| ("unanswered", f64::from(it.connections))));
    measured.extend(oldest(sockets).map(|age| ("oldest_seconds", age.as_secs_f64())));
    measured
}

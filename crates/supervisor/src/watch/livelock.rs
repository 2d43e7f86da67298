//! It burns a core and nothing advances.
//!
//! A service that works hard looks the same to `top`; the difference is progress, see
//! `standstill`. Work need not wait: a loop that spins without any client is a livelock as well.
//! A program that computes for its own sake (an index, a compaction) needs a counter, or a
//! `lasting` above its longest job.
//! Invariant: sick only after all of `lasting`, with that much CPU time between any two looks.

use super::finding::{Finding, Lasting, Look};
use super::standstill::{Counted, Cpu, Standstill};
use crate::Progress;
use base::Now;
use std::time::Duration;

/// The detector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Livelock {
    core_percent: u32,
    progress: Progress,
    standstill: Standstill,
    lasting: Lasting,
    /// Between all looks since then it used that much.
    burning: Option<Now>,
}

impl Livelock {
    pub(super) fn new(core_percent: u32, lasting: Duration, progress: Progress) -> Self {
        let standstill = Standstill::new(progress.clone(), Cpu::IsNot);
        let lasting = Lasting::new(lasting);
        Self { core_percent, progress, standstill, lasting, burning: None }
    }

    pub(super) fn sampled(&mut self, look: &Look<'_>, counted: Counted) -> Finding {
        let still = self.standstill.observe(look, counted);
        if !self.progress_is_known(look, counted) {
            let message = "it has no socket whose progress could be seen; give it a counter";
            return Finding::cannot_tell(message);
        }
        let (Some(used), Some((gap, _))) = (look.core_percent(), look.before) else {
            self.burning = None;
            return self
                .lasting
                .unknown("CPU time is the difference of two looks; the first is taken");
        };
        let measured = vec![("core_percent", used)];
        let least = self.core_percent;
        let burns = f64::from(least) <= used;
        if !burns || still.advanced {
            self.lasting.ends();
        }
        if !burns {
            self.burning = None;
            let message = format!("{used:.1}% of a core, which is below {least}%");
            return Finding::well(message).measured(measured);
        }
        let burning = *self.burning.get_or_insert(look.now - gap);
        let held = self.lasting.goes_on(look, still.since.max(burning));
        let evidence = self.standstill.evidence(look);
        let message =
            format!("{used:.0}% of a core (limit {least}%); {} {evidence}", held.sentence());
        held.finding(message).measured(measured)
    }

    fn progress_is_known(&self, look: &Look<'_>, counted: Counted) -> bool {
        let listens = |sockets: &super::SocketSample| 0 < sockets.queue_limit;
        matches!((&self.progress, counted), (Progress::Counter(_), Counted::At(_)))
            || look.sample.sockets.as_ref().is_some_and(listens)
    }
}

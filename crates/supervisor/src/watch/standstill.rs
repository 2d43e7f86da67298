//! Since when has a service not advanced, as far as the kernel or its own counter tells?
//!
//! The reasoning, because each obvious sign lies for some kind of server:
//!
//! - **CPU time and context switches prove nothing good.** A server that accepts for ever and
//!   answers nothing uses both, a livelock uses nothing else, and a blocked one may have timers.
//! - **Bytes acknowledged that rise prove an answer**: a peer has got something that it had not.
//!   A sum that does *not* rise proves less. It is taken over the connections that are open at the
//!   moment of the look, and a server that closes after each answer never shows its answers there.
//! - **The age of the oldest unanswered work** closes that gap. A server that answers never has an
//!   old request: the oldest leaves, and a younger one is the oldest now. In one that hangs, the
//!   oldest stays and ages as the clock goes. A request waits first to be accepted, then to be
//!   answered, and is the same one: accepting for ever moves it, and does not make it younger.
//! - The oldest also leaves when its client gives up with a reset. Whoever has used no processor
//!   since the look before has answered nobody, so leaving counts only together with CPU time
//!   ([`LIFE_PERCENT`]). A client that gives up with a FIN leaves its work behind (CLOSE_WAIT).
//! - Where the kernel tells no ages (Unix sockets), a queue that became shorter is an answer, and
//!   so is a processor that is really used ([`FALLBACK_PERCENT`]), but for a livelock.
//! - **A counter of the program** that rises is progress by definition, and one that does not is
//!   none. While it can't be read (it is asked by HTTP of a server that hangs), the kernel's view
//!   holds.
//!
//! Idle is not standing still: each detector asks besides whether work waits.
//! Source: include/uapi/linux/tcp.h (`tcp_info`), requirement H2.

use super::SocketSample;
use super::finding::{Look, Patience};
use crate::Progress;
use base::Now;
use std::time::Duration;

/// Who has used less than this of a core has answered nobody.
const LIFE_PERCENT: f64 = 0.2;

/// Where there are no ages: who has used this much of a core was not blocked.
const FALLBACK_PERCENT: f64 = 5.0;

/// The clocks of two looks and of the kernel's ages may differ by this.
const AGE_SLACK: Duration = Duration::from_millis(50);

/// Whether CPU time may speak for a service, where nothing better is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cpu {
    /// It may: a blocked service uses none.
    IsLife,
    /// It may not: what is looked for is a livelock.
    IsNot,
}

/// A counter that the program reports, as it was last read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Counted {
    /// It stands at this.
    At(u64),
    /// It can't be read, or never was.
    Unknown,
}

/// What one more look says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Still {
    /// Nothing has advanced since then.
    pub(super) since: Now,
    /// Something was seen to advance just now. `false` may also mean that the look proves nothing.
    pub(super) advanced: bool,
}

/// Follows one run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Standstill {
    progress: Progress,
    cpu: Cpu,
    since: Option<Now>,
    counter: Option<u64>,
}

impl Standstill {
    pub(super) fn new(progress: Progress, cpu: Cpu) -> Self {
        Self { progress, cpu, since: None, counter: None }
    }

    /// The clock starts again with each advance, and with each look that proves nothing: the
    /// first, one after a gap, one while the machine starves.
    pub(super) fn observe(&mut self, look: &Look<'_>, counted: Counted) -> Still {
        let advanced = self.advanced(look, counted);
        if advanced || look.before.is_none() || look.patience == Patience::Endless {
            self.since = Some(look.now);
        }
        Still { since: *self.since.get_or_insert(look.now), advanced }
    }

    /// What is looked at, for a sentence.
    pub(super) fn evidence(&self, look: &Look<'_>) -> String {
        let cpu = look.core_percent().map_or(String::new(), |used| format!(", {used:.1}% CPU"));
        match (&self.progress, self.counter) {
            (Progress::Counter(_), Some(count)) => format!("its counter stays at {count}{cpu}"),
            (Progress::Counter(_) | Progress::Kernel, _) => {
                format!("no byte was acknowledged{cpu}")
            }
        }
    }

    fn advanced(&mut self, look: &Look<'_>, counted: Counted) -> bool {
        if let (Progress::Counter(_), Counted::At(count)) = (&self.progress, counted) {
            let before = self.counter.replace(count);
            return before.is_none_or(|before| before != count);
        }
        let Some((gap, before)) = look.before else { return false };
        let (Some(before), Some(now)) = (before.sockets, look.sample.sockets) else { return false };
        let used = look.core_percent().unwrap_or(0.0);
        if before.bytes_acked < now.bytes_acked {
            return true;
        }
        match (oldest(&before), oldest(&now)) {
            (Some(was), Some(is)) => {
                let stayed = (was + gap).saturating_sub(gap / 4 + AGE_SLACK);
                !was.is_zero() && is < stayed && LIFE_PERCENT <= used
            }
            _ => {
                let busy = self.cpu == Cpu::IsLife && FALLBACK_PERCENT <= used;
                now.queue < before.queue || busy
            }
        }
    }
}

/// Age of the oldest work that waits, to be accepted or to be answered. `None` = not known.
pub(super) fn oldest(sockets: &SocketSample) -> Option<Duration> {
    if sockets.queue_waiting.is_none() && sockets.unanswered.is_none() {
        return None;
    }
    let accepted = sockets.unanswered.map_or(Duration::ZERO, |unanswered| unanswered.longest);
    Some(sockets.queue_waiting.unwrap_or(Duration::ZERO).max(accepted))
}

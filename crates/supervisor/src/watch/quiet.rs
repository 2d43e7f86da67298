//! Is this a quiet moment of a service, by its own measure?
//!
//! A planned replacement hurts least when the service does least: less CPU time than in most of
//! its recent looks, and no more connections than usual. A service that is always the same is
//! always quiet.

use super::finding::Look;
use std::collections::VecDeque;

/// Looks that "recent" means.
const RECENT: usize = 32;

/// Differences of CPU time below this many hundredths of a core are none.
const SAME_PERCENT: f64 = 0.5;

/// Remembers how busy a run was.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Quiet {
    recent: VecDeque<(f64, u32)>,
}

impl Quiet {
    pub(super) fn sampled(&mut self, look: &Look<'_>) {
        let Some(used) = look.core_percent() else { return };
        let established = look.sample.sockets.map_or(0, |sockets| sockets.established);
        self.recent.push_back((used, established));
        if RECENT < self.recent.len() {
            self.recent.pop_front();
        }
    }

    /// The youngest look, against the others.
    pub(super) fn is_now(&self) -> bool {
        let Some((used, established)) = self.recent.back() else { return false };
        let mut by_use: Vec<f64> = self.recent.iter().map(|(used, _)| *used).collect();
        let mut by_connections: Vec<u32> = self.recent.iter().map(|(_, number)| *number).collect();
        by_use.sort_by(f64::total_cmp);
        by_connections.sort_unstable();
        let calm = by_use.get(by_use.len() / 4).is_some_and(|low| *used <= low + SAME_PERCENT);
        let usual = by_connections.get(by_connections.len() / 2);
        calm && usual.is_some_and(|usual| established <= usual)
    }
}

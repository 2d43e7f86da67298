//! That something has happened, for those who then look for themselves.

use console::Pushed;
use control::EventRecord;
use std::sync::Arc;
use tokio::sync::watch;

/// Counts what the root pushes: whoever waits for a change looks again when it has grown.
#[derive(Clone)]
pub(crate) struct Nudge(Arc<watch::Sender<u64>>);

impl Default for Nudge {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Nudge {
    /// Resolves each time something has happened since the last time.
    pub(crate) fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

impl Pushed for Nudge {
    fn pushed(&mut self, _event: &EventRecord) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }
}

//! Ctrl-C, a closed terminal and SIGTERM end the demo in order: every pause and every wait of it
//! looks here.
//!
//! Invariant: from [`Interrupt::listen`] on, none of these signals kills the demo, so that it can
//! always clean up.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Tells whether the demo should end.
#[derive(Debug)]
pub(crate) struct Interrupt {
    told: Receiver<()>,
    was_told: bool,
}

impl Interrupt {
    /// Takes over the signals. The thread behind it lives until the process ends.
    pub(crate) fn listen() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let guard = runtime.enter();
        let mut int = signal(SignalKind::interrupt())?;
        let mut term = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        drop(guard);
        // One message is enough; a second Ctrl-C says nothing new.
        let (tell, told) = sync_channel(1);
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async move {
                loop {
                    tokio::select! {
                        _ = int.recv() => {}
                        _ = term.recv() => {}
                        _ = hangup.recv() => {}
                    }
                    let _ = tell.try_send(());
                }
            });
        })?;
        Ok(Self { told, was_told: false })
    }

    /// Waits; true as soon as the demo should end.
    pub(crate) fn wait(&mut self, pause: Duration) -> bool {
        if !self.was_told {
            self.was_told =
                !matches!(self.told.recv_timeout(pause), Err(RecvTimeoutError::Timeout));
        }
        self.was_told
    }

    /// From now on only a new Ctrl-C counts.
    pub(crate) fn forget(&mut self) {
        self.was_told = false;
    }
}

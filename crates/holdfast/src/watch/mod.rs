//! The watch duty: a process of its own that looks at services, asks them whether they are well,
//! and gathers evidence of those that are not.
//!
//! ```text
//! root ──(protocol)──► duty ──► supervisor::watch::Watcher ──► verdicts ──(protocol)──► root
//!                       │  ▲
//!                       ▼  │ answers
//!      looker thread (/proc, sock_diag) · probe tasks · file threads · evidence threads
//! ```
//! Why a process of its own: looking can block, and evidence is gathered by foreign tools; neither
//! may hold up the restart of a service that died. It runs only while some service is watched.
//!
//! Invariants: it decides nothing (the watcher judges, the root acts); nothing that may block is
//! done on its loop; it dies with the root, and a new one is told everything again.

mod ask;
mod duty;
mod facts;
mod gather;
mod link;
mod looker;
pub(crate) mod protocol;

pub(crate) use duty::Options;

use anyhow::Context as _;
use duty::Duty;
use journal::evidence::Evidence;
use link::Link;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::runtime::Runtime;

/// Runs the duty until the root is gone or it is asked to end (SIGTERM).
pub(crate) fn run(
    runtime: &Runtime,
    root: OwnedFd,
    config: config::Config,
    options: Options,
) -> anyhow::Result<()> {
    match Evidence::of_state(&options.state).finish_partial() {
        Ok(finished) => finished.iter().for_each(|bundle| {
            tracing::warn!(%bundle, "evidence was not finished: what there is of it is kept");
        }),
        Err(error) => tracing::warn!(%error, "unfinished evidence can't be looked for"),
    }
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut stop = signal(SignalKind::terminate())?;
        // A terminal's Ctrl-C is meant for the root.
        let _ignored = [signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?];
        let mut duty = Duty::new(Link::new(root)?, config, options);
        tokio::select! {
            () = duty.serve() => tracing::info!("the root is gone: the watch duty ends"),
            _ = stop.recv() => tracing::info!("the watch duty ends"),
        }
        anyhow::Ok(())
    })
}

/// The configuration in force, as the root has written it down.
pub(crate) fn effective(state: &Path) -> anyhow::Result<config::Config> {
    let path = state.join("effective.toml");
    let loaded = config::load(&path, &crate::paths::machine_context(None));
    loaded.config.with_context(|| format!("{} has faults", path.display()))
}

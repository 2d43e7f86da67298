//! The duty `hooks`: tells commands of events, as JSON on their standard input (H27).
//!
//! ```text
//! root ──(nudge)──► bell ──► a thread for each hook: segment files ──► command ──► marks on disk
//! ```
//! A process of its own below the root, started only where hooks are configured. Each hook has a
//! thread that does one thing after the other: it reads the next event, runs the command, and writes
//! down that it has. So a hook that hangs holds up nobody else, and its events wait where all events
//! are anyway: in the segment files.
//! Invariants: an event is marked after its run, never before; at most one run of a hook at a time.

mod bell;
mod marks;
mod run;
mod worker;

use crate::nudge::Nudge;
use crate::paths::Paths;
use anyhow::Context as _;
use base::ServiceName;
use bell::Bell;
use console::RootLink;
use control::{EventRecord, Reply, Request};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use worker::Worker;

/// What hooks have to say and nobody has recorded yet.
const WORDS_MAX: usize = 64;

/// How long the threads may take to end: longer than a run is given then.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(4);

/// Stack of a hook's thread: it reads a segment at a time into the heap, and calls little.
const STACK_BYTES: usize = 512 * 1024;

/// What the duty is given by who starts it.
pub(crate) struct Setup {
    /// The link to the root.
    pub(crate) root: OwnedFd,
    /// Where everything lies.
    pub(crate) paths: Paths,
    /// The configuration in force.
    pub(crate) config: config::Config,
}

fn directory(state: &Path) -> PathBuf {
    state.join("hooks")
}

/// How far a hook is, for whoever deletes segments.
pub(crate) fn cursor_path(state: &Path, hook: &ServiceName) -> PathBuf {
    directory(state).join(format!("{hook}.cursor"))
}

fn marks_path(state: &Path, hook: &ServiceName) -> PathBuf {
    directory(state).join(format!("{hook}.json"))
}

/// There are no hooks any more, so nothing is owed to those that may come.
pub(crate) fn forget(state: &Path) {
    let _ = std::fs::remove_dir_all(directory(state));
}

/// Serves until it is told to end, or the root has closed its end of the link.
pub(crate) async fn serve(setup: Setup) -> anyhow::Result<()> {
    let Setup { root, paths, config } = setup;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut tasks = JoinSet::new();
    let shutdown = CancellationToken::new();
    let stream = UnixStream::from(root);
    stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(stream).context("cannot use the link")?;
    let nudge = Nudge::default();
    let root = RootLink::start(stream, &mut tasks, shutdown.clone(), nudge.clone());
    let news_since_us = news_since(&root).await?;
    std::fs::create_dir_all(directory(&paths.state)).context("cannot make a directory")?;
    tidy(&paths.state, &config);
    let bell = Arc::new(Bell::default());
    let (words, said) = mpsc::channel(WORDS_MAX);
    let mut threads = Vec::new();
    for (name, settings) in &config.hooks {
        let worker = Worker {
            name: name.clone(),
            settings: settings.clone(),
            state: paths.state.clone(),
            events: paths.events(),
            news_since_us,
            bell: Arc::clone(&bell),
            words: words.clone(),
        };
        let thread = std::thread::Builder::new().name(format!("hook-{name}"));
        threads.push(thread.stack_size(STACK_BYTES).spawn(move || worker.work())?);
    }
    drop(words);
    tasks.spawn(ring(nudge, Arc::clone(&bell)));
    tasks.spawn(record(root.clone(), said));
    tokio::select! {
        _ = terminate.recv() => {}
        () = shutdown.cancelled() => {}
    }
    bell.stop();
    let ended = tokio::task::spawn_blocking(move || {
        for thread in threads {
            let _ = thread.join();
        }
    });
    if tokio::time::timeout(GOODBYE_DEADLINE, ended).await.is_err() {
        tracing::warn!("a hook has not ended in time");
    }
    tasks.shutdown().await;
    Ok(())
}

/// What happened before this time is no news for a hook that is new. One that begins with the daemon
/// is told from its start on.
async fn news_since(root: &RootLink) -> anyhow::Result<i64> {
    /// A duty begins within this time of its daemon.
    const FRESH_US: i64 = 30_000_000;
    match root.ask(Request::Subscribe).await? {
        Reply::Done { .. } => {}
        other => tracing::error!(?other, "the root does not push its events"),
    }
    match root.ask(Request::Status).await? {
        Reply::Status { snapshot } => {
            let age = snapshot.taken_us.saturating_sub(snapshot.started_us);
            Ok(if age <= FRESH_US { snapshot.started_us } else { snapshot.taken_us })
        }
        other => anyhow::bail!("the root gave an answer to another question: {other:?}"),
    }
}

/// Removes what was kept of hooks that are gone.
fn tidy(state: &Path, config: &config::Config) {
    let wanted: Vec<PathBuf> = config
        .hooks
        .keys()
        .flat_map(|name| [cursor_path(state, name), marks_path(state, name)])
        .collect();
    let entries = std::fs::read_dir(directory(state)).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| !wanted.contains(path)) {
        let _ = std::fs::remove_file(path);
    }
}

async fn ring(nudge: Nudge, bell: Arc<Bell>) {
    let mut happened = nudge.listen();
    while happened.changed().await.is_ok() {
        bell.ring();
    }
}

async fn record(root: RootLink, mut said: mpsc::Receiver<EventRecord>) {
    while let Some(event) = said.recv().await {
        let kind = event.kind.clone();
        if let Err(error) = root.ask(Request::Record { event: Box::new(event) }).await {
            tracing::warn!(kind, %error, "cannot record an event");
        }
    }
}

//! The logs duty: a process of its own that keeps what services write to their standard output and
//! standard error.
//!
//! ```text
//! service ──► fifo/web.out (kernel pipe, 1 MiB) ──splice──► logs/web.log ──► web.log.1 ──► web.log.1.gz
//! ```
//! Why a process of its own: it must outlive the root, so that `kill -9` of holdfast costs no line,
//! and a slow disk must not slow down supervision.
//!
//! Invariants:
//! - A service is never blocked by a log that can't be written: output is then taken, counted, and
//!   the loss is told in the log (`[holdfast: 42 bytes lost: disk full]`) and to the root.
//! - A byte is in the pipe, in a file, or counted. It is never in our memory alone: the kernel moves
//!   it (splice(2)), so that our own sudden death loses and doubles nothing. (On a file system that
//!   can't splice it passes through a buffer of at most 64 KiB, and only those can be lost.)
//! - Nobody starves: each stream gets 64 KiB at a time.
//! - No wake-ups while nothing happens.

mod compress;
mod duty;
mod files;
mod handover;
mod link;
mod pipe;
pub(crate) mod protocol;
pub(crate) mod rotation;
mod sink;
pub(crate) mod stream;
mod streams;
mod waits;
mod yielding;

use anyhow::Context;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Runtime;

/// An orphan that nobody has written to for this long has no services left, and ends.
const ORPHAN_LINGER: Duration = Duration::from_mins(1);

/// Where a logs duty works.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LogsOptions {
    /// State directory: `logs.lock`, `fifo/`, `logs/`.
    pub(crate) state_dir: PathBuf,
    /// Run directory: `logs.sock`.
    pub(crate) run_dir: PathBuf,
    /// How long an orphan without any writing service stays.
    pub(crate) orphan_linger: Duration,
}

/// Runs the logs duty until it is asked to end (SIGTERM), a successor takes over, or the root and
/// all services are gone. `link` is the socket pair to the root, see [`protocol`].
///
/// Takes over from another duty that still keeps the logs of this state directory; fails if that one
/// can neither be asked nor killed.
pub(crate) fn run(
    runtime: &Runtime,
    link: OwnedFd,
    state_dir: &Path,
    run_dir: &Path,
) -> anyhow::Result<()> {
    let options = LogsOptions {
        state_dir: state_dir.to_owned(),
        run_dir: run_dir.to_owned(),
        orphan_linger: ORPHAN_LINGER,
    };
    run_with(runtime, link, &options)
}

/// As [`run`], with everything said.
pub(crate) fn run_with(
    runtime: &Runtime,
    link: OwnedFd,
    options: &LogsOptions,
) -> anyhow::Result<()> {
    for dir in ["fifo", "logs"] {
        let dir = options.state_dir.join(dir);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let socket = options.run_dir.join("logs.sock");
    let ownership = handover::take_over(&options.state_dir, &socket)?;
    runtime.block_on(duty::run(link, options, &socket, ownership))
}

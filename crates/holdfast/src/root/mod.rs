//! The daemon's root process.

use std::path::PathBuf;

/// How the daemon is started.
#[derive(Debug)]
pub(crate) struct RunOptions {
    /// The configuration file.
    pub(crate) config: PathBuf,
    /// Instead of the configured state directory.
    pub(crate) state_dir: Option<PathBuf>,
    /// Go to the background.
    pub(crate) daemon: bool,
    /// Where the pid is written, with a lock.
    pub(crate) pid_file: Option<PathBuf>,
    /// Own log with `daemon`.
    pub(crate) log_file: Option<PathBuf>,
    /// Filter of the own log.
    pub(crate) log_level: String,
}

/// Runs the daemon to its end.
pub(crate) fn run(options: RunOptions) -> anyhow::Result<()> {
    anyhow::bail!("not in this version: {options:?}")
}

/// Runs one of the daemon's helper processes to its end.
pub(crate) fn duty(name: &str) -> anyhow::Result<()> {
    anyhow::bail!("there is no duty called {name}")
}

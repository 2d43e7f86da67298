//! The daemon's root process: starts the services, keeps them alive, answers for them.
//!
//! One loop on one thread; it never waits for anything but the next thing to happen. Start reading
//! at [`run`], then `driver` (the loop's state), `outputs` (what the core asks for) and `hands`
//! (the threads that do what may block).

mod adopt;
mod commands;
mod control_server;
mod driver;
pub(crate) mod duties;
mod duty;
mod early;
mod events;
mod hands;
mod health;
pub(crate) mod launch;
mod oom;
mod outputs;
mod probes;
mod records;
mod requests;
mod runs;
mod sockets;
mod start;
mod tolerate;
mod turn;
mod upgrade;
mod views;
mod watching;

pub(crate) use duty::duty;
pub(crate) use hands::{Realm, RunKey};
pub(crate) use launch::DEFAULT_PATH;

use crate::paths::machine_context;
use anyhow::Context as _;
use std::io::IsTerminal;
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

/// The configuration has faults; the text shows them.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has faults\n{0}")]
pub(crate) struct ConfigFaults(pub(crate) String);

/// Runs the daemon to its end.
pub(crate) fn run(mut options: RunOptions) -> anyhow::Result<()> {
    // With `--daemon` the working directory becomes `/`: relative paths are resolved before.
    options.config = std::path::absolute(&options.config)?;
    options.state_dir = options.state_dir.map(std::path::absolute).transpose()?;
    options.pid_file = options.pid_file.map(std::path::absolute).transpose()?;
    options.log_file = options.log_file.map(std::path::absolute).transpose()?;
    let context = machine_context(options.state_dir.as_deref());
    let loaded = config::load(&options.config, &context);
    let shown = loaded.diagnostics.render(std::io::stderr().is_terminal());
    let Some(config) = loaded.config else { return Err(ConfigFaults(shown).into()) };
    tolerate::modes_of_environment(&config).map_err(ConfigFaults)?;
    start::prepare_directories(&config.daemon)?;
    if !options.daemon {
        return start::run_here(options, config, context, &shown, || {});
    }
    let log =
        options.log_file.clone().unwrap_or_else(|| config.daemon.state_dir.join("holdfast.log"));
    let side = sys::daemon::daemonize(&log)
        .with_context(|| format!("cannot go to the background with the log {}", log.display()))?;
    match side {
        sys::daemon::Side::Launcher(waiter) => {
            waiter.wait().map_err(|why| anyhow::anyhow!("the daemon did not start: {why}"))
        }
        sys::daemon::Side::Daemon(sender) => {
            let sender = std::cell::Cell::new(Some(sender));
            let ended = start::run_here(options, config, context, &shown, || {
                if let Some(sender) = sender.take() {
                    sender.ready();
                }
            });
            if let (Err(error), Some(sender)) = (&ended, sender.take()) {
                sender.failed(&format!("{error:#}"));
            }
            ended
        }
    }
}

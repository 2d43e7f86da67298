//! What `demo-app` can be told: which service it is, and where.

use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// `holdfast demo-app`.
#[derive(Args, Debug)]
pub(crate) struct DemoAppArgs {
    /// What it does.
    #[command(subcommand)]
    pub(crate) mode: DemoAppMode,
}

/// What the demo's service does.
#[derive(Subcommand, Debug)]
pub(crate) enum DemoAppMode {
    /// An HTTP server on the socket that it was passed (or on ADDRESS): /, /health, /crash, /hang, /leak
    Web {
        /// Where it listens when no socket is passed
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<SocketAddr>,
    },
    /// Forks twice, writes its pid file, and goes on in the background
    Forker {
        /// Where the pid goes
        #[arg(long, value_name = "PATH")]
        pid_file: PathBuf,
        /// Internal: already in the background
        #[arg(long, hide = true)]
        background: bool,
    },
    /// Ignores SIGTERM
    Stubborn,
    /// A TCP echo server on the socket that it was passed (or on ADDRESS)
    Store {
        /// Where it listens when no socket is passed
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<SocketAddr>,
    },
    /// Asks the store now and then; ready by sd_notify, with a watchdog
    Worker {
        /// Where the store listens
        #[arg(long, value_name = "ADDRESS")]
        store: SocketAddr,
    },
    /// Exits at once with a code while FILE exists, else keeps running
    Fragile {
        /// The reason to exit
        #[arg(long, value_name = "FILE")]
        while_exists: PathBuf,
    },
    /// Writes numbered lines as fast as it can for a while after each SIGUSR1
    Flood {
        /// How many bytes at each signal
        #[arg(long, default_value = "64MiB", value_parser = size)]
        bytes: u64,
    },
}

fn size(text: &str) -> Result<u64, String> {
    text.parse::<base::ByteSize>().map(|size| size.0).map_err(|why| why.to_string())
}

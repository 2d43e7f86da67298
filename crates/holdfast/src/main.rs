//! The one binary: reads the command line and hands it to the room that does the work.
//!
//! Invariant: no thread is started and no runtime built before the dispatch, because
//! `run --daemon` forks.

mod cli;
mod demo;
mod hooks;
mod logs;
mod mail;
mod nudge;
mod own_loop;
mod paths;
mod root;
mod supervisord;
mod watch;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(cli::args::Cli::parse())
}

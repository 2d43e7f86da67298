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
mod own_log;
mod own_loop;
mod paths;
mod root;
mod supervisord;
mod watch;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A duty is started by us alone, stays for months, and needs none of the command line's tables.
    let mut arguments = std::env::args_os().skip(1);
    let words = (arguments.next(), arguments.next(), arguments.next());
    if let (Some(duty), Some(name), None) = &words
        && duty == "duty"
        && let Some(name) = name.to_str()
    {
        return cli::duty(name);
    }
    cli::main(cli::args::Cli::parse())
}

//! `demo-app`: small real services with faults to order, for the demo and the tests.
//!
//! Each mode is a program of its own that happens to live in this binary, so that the demo needs
//! nothing but one file. None of them knows anything about Holdfast beyond the protocols that any
//! service may speak: `LISTEN_FDS`, `NOTIFY_SOCKET`, exit codes and signals.

pub(crate) mod args;
mod forker;
mod passed;
mod simple;
mod tcp;
mod web;

use anyhow::Context;
use args::{DemoAppArgs, DemoAppMode};
use std::io::Write;

/// Runs one of the services to its end.
pub(crate) fn run(args: DemoAppArgs) -> anyhow::Result<()> {
    if let DemoAppMode::Forker { pid_file, background } = &args.mode {
        return forker::run(pid_file, *background);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot build a runtime")?;
    runtime.block_on(async {
        match args.mode {
            DemoAppMode::Web { listen } => web::run(listen).await,
            DemoAppMode::Store { listen } => tcp::store(listen).await,
            DemoAppMode::Worker { store } => tcp::worker(store).await,
            DemoAppMode::Stubborn => simple::stubborn().await,
            DemoAppMode::Fragile { while_exists } => simple::fragile(&while_exists).await,
            DemoAppMode::Flood { bytes } => simple::flood(bytes).await,
            DemoAppMode::Forker { .. } => Ok(()),
        }
    })
}

/// A line of output, as a service writes it. Nobody to read it is no reason to end.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

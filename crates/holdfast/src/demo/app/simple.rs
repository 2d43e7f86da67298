//! Services that do one thing wrong.

use super::say;
use anyhow::Context;
use std::io::Write;
use std::path::Path;
use tokio::signal::unix::{SignalKind, signal};

/// What `fragile` exits with.
const BROKEN: i32 = 3;

/// Ignores SIGTERM; only SIGKILL ends it.
pub(super) async fn stubborn() -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    say("running; a SIGTERM will not impress me");
    loop {
        term.recv().await;
        say("ignored a SIGTERM");
    }
}

/// Exits at once while the file exists.
pub(super) async fn fragile(broken: &Path) -> anyhow::Result<()> {
    if broken.exists() {
        say(&format!("cannot work: {} exists", broken.display()));
        std::process::exit(BROKEN);
    }
    say("running");
    std::future::pending().await
}

/// Writes so many bytes of numbered lines after each SIGUSR1, as fast as the reader takes them.
pub(super) async fn flood(bytes: u64) -> anyhow::Result<()> {
    let mut asked = signal(SignalKind::user_defined1())?;
    say("waiting for SIGUSR1");
    loop {
        asked.recv().await;
        write_lines(bytes).context("cannot write")?;
    }
}

fn write_lines(bytes: u64) -> std::io::Result<()> {
    let padding = "x".repeat(100);
    let mut out = std::io::BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
    let (mut written, mut number) = (0_u64, 0_u64);
    writeln!(out, "flood begins")?;
    while written < bytes {
        number += 1;
        let line = format!("line {number:010} {padding}\n");
        out.write_all(line.as_bytes())?;
        written += line.len() as u64;
    }
    writeln!(out, "flood ends after {number} lines")?;
    out.flush()
}

//! A daemon of the old kind: forks twice, writes its pid file, and goes on in the background.

use super::say;
use anyhow::{Context, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// Which of the three processes this is.
const STAGE: &str = "DEMO_APP_STAGE";

/// The launcher starts the middle one and waits for its end; the middle one starts the daemon,
/// writes its pid and ends, so that the daemon is nobody's child any more.
pub(super) fn run(pid_file: &Path, background: bool) -> anyhow::Result<()> {
    if !background {
        let status = again(pid_file, "middle")?.wait()?;
        if !status.success() {
            bail!("the second process failed: {status}");
        }
        return Ok(());
    }
    if std::env::var_os(STAGE).is_some_and(|stage| stage == "middle") {
        let daemon = again(pid_file, "daemon")?;
        return std::fs::write(pid_file, format!("{}\n", daemon.id()))
            .with_context(|| format!("cannot write {}", pid_file.display()));
    }
    say(&format!("in the background as pid {}", std::process::id()));
    loop {
        std::thread::park();
    }
}

fn again(pid_file: &Path, stage: &str) -> anyhow::Result<std::process::Child> {
    let myself = std::env::current_exe().context("cannot find my own binary")?;
    Command::new(myself)
        .args(["demo-app", "forker", "--background", "--pid-file"])
        .arg(pid_file)
        .env(STAGE, stage)
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start myself again")
}

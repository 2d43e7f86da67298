//! The Python programs that the tests with real peers need, in an environment of their own.
//!
//! Why: Zope, superlance, aiosmtpd and their like are peers like nginx, but Debian has them too old
//! or not at all; the machine's own Python is not ours to change.
//! Invariant: what is installed is what [`WHEELS`] says; a change of it makes the environment anew.

use crate::report::say;
use crate::tool;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Names the environment's `bin` directory to the tests.
pub(crate) const VARIABLE: &str = "HOLDFAST_PEERS_PYTHON";

/// Set to anything to keep [`ensure`] from installing.
const NO_INSTALL: &str = "HOLDFAST_NO_INSTALL";

/// Exact versions, so that a test means the same tomorrow.
const WHEELS: &[&str] = &[
    "Products.ExternalMethod==6.1",
    "ZEO==6.2",
    // Zope 5.14.2 does not start with a later one.
    "ZODB==6.2",
    "Zope==5.14.2",
    "aiosmtpd==1.4.6",
    "eventlet==0.41.3",
    "gunicorn==27.0.1",
    "py-spy==0.4.3",
    "superlance==2.0.0",
    // superlance and supervisor ask for `pkg_resources`, which later ones no longer have.
    "setuptools==65.5.0",
];

/// Makes the environment if it is not there; answers with its `bin` directory, if there is one.
pub(crate) fn ensure() -> Result<Option<PathBuf>> {
    let place = tool::root().join("target/peers/python");
    let (stamp, wanted) = (place.join("wheels"), WHEELS.join("\n"));
    let bin = place.join("bin");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(Some(bin));
    }
    let reason = if std::env::var_os(NO_INSTALL).is_some() {
        format!("{NO_INSTALL} is set")
    } else if tool::find("python3").is_none() {
        "there is no python3".to_owned()
    } else {
        say(&format!("installing for the tests with real peers: {}", WHEELS.join(" ")));
        make(&place).context("cannot make the Python environment for the tests")?;
        fs::write(&stamp, wanted)?;
        return Ok(Some(bin));
    };
    say(&format!(
        "not installed, and {reason}: {}\n\
         The tests that need them will be skipped, each saying so.",
        WHEELS.join(" ")
    ));
    Ok(None)
}

fn make(place: &Path) -> Result<()> {
    if place.exists() {
        fs::remove_dir_all(place)?;
    }
    tool::run(tool::command("python3").args(["-m", "venv"]).arg(place))?;
    tool::run(
        tool::command(place.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(WHEELS),
    )
}

//! What it costs to build Holdfast from nothing, and of how many crates it consists.

use crate::report::{say, seconds, title};
use crate::tidy::metadata::Metadata;
use crate::tool;
use anyhow::Result;
use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

/// A cold build.
pub(crate) struct Build {
    pub(crate) took: Duration,
    pub(crate) binary_bytes: u64,
    pub(crate) crates: usize,
    pub(crate) own_crates: usize,
    pub(crate) rustc: String,
}

/// Builds the release binary in an empty folder, after everything was downloaded.
pub(crate) fn cold_build() -> Result<Build> {
    title("cold release build");
    let metadata = Metadata::load()?;
    let folder = metadata.target_directory.join("bench-cold");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    tool::run(tool::cargo().args(["fetch", "--locked"]))?;
    let begun = Instant::now();
    tool::run(
        tool::cargo()
            .args(["build", "--release", "--locked", "--package", "holdfast", "--target-dir"])
            .arg(&folder),
    )?;
    let took = begun.elapsed();
    say(&format!("took {}", seconds(took)));
    let binary_bytes = fs::metadata(folder.join("release/holdfast"))?.len();
    fs::remove_dir_all(&folder)?;
    let (crates, own_crates) = count_crates(&metadata)?;
    let rustc = tool::output(tool::command("rustc").arg("--version"))?.trim().to_owned();
    Ok(Build { took, binary_bytes, crates, own_crates, rustc })
}

/// Crates that end up in the program: those of others, and ours.
fn count_crates(metadata: &Metadata) -> Result<(usize, usize)> {
    let tree = tool::output(tool::cargo().args([
        "tree",
        "--locked",
        "--package",
        "holdfast",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    // A crate that appears again is marked at the end of its line.
    let all: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let is_own =
        |line: &&&str| metadata.members().any(|m| line.starts_with(&format!("{} ", m.name)));
    let own = all.iter().filter(is_own).count();
    Ok((all.len() - own, own))
}

//! The crate against files that libtdb wrote, against damaged ones, and against garbage.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends when it can't go on")]

mod dice;
mod fuzz;
mod garbage;
mod golden;
mod growth;
mod hammer;
mod killed;
mod libtdb;
mod mutexes;
mod opening;
mod peer;
mod quarrels;
mod trace;
mod write;

use std::path::{Path, PathBuf};

/// The folder of files that libtdb wrote, where this repository lies beside them; `None` with a word
/// on standard error where it stands alone.
fn golden_folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec/tdb-golden");
    if folder.is_dir() {
        return Some(folder);
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec");
    assert!(!beside.is_dir(), "{} is not in its place", folder.display());
    #[expect(clippy::print_stderr, reason = "whoever runs the tests has to see what was left out")]
    {
        eprintln!("skipped: {} is not there", folder.display());
    }
    None
}

//! The two programs that are compared, and the files they work on.
//!
//! Invariants: libtdb makes every file, and each piece of work begins with a copy of its own, so that
//! neither works on what the other left; every program ends in time or is ended.

use super::Effort;
use crate::packages;
use crate::tidy::metadata::Metadata;
use crate::tool;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Seconds until a program that has not ended is stuck.
const SECONDS_MAX: &str = "120";

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Ours,
    Libtdb,
}

/// What lists are locked by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Locks {
    Bytes,
    Mutexes,
    None,
}

impl Locks {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bytes => "fcntl",
            Self::Mutexes => "mutexes",
            Self::None => "none",
        }
    }

    fn option(self) -> Option<&'static str> {
        match self {
            Self::Bytes => None,
            Self::Mutexes => Some("mutexes=1"),
            Self::None => Some("unlocked=1"),
        }
    }
}

/// Where files are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In memory.
    Memory,
    /// On a disk that can be waited for.
    Disk,
}

/// What a program printed.
#[derive(Deserialize, Debug)]
pub(crate) struct Told {
    #[serde(default)]
    pub(crate) operations: u64,
    #[serde(default)]
    pub(crate) ns: u64,
    #[serde(default)]
    pub(crate) cpu_ns: u64,
    /// The operations of the user who did fewest.
    #[serde(default)]
    pub(crate) fewest: u64,
    /// The longest operation of any user.
    #[serde(default)]
    pub(crate) longest_ns: u64,
    /// From the wish to the lock, and from when the lock was free.
    #[serde(default)]
    pub(crate) samples: Vec<(u64, u64)>,
}

/// Everything that is needed to measure.
pub(crate) struct Bench {
    pub(crate) effort: Effort,
    ours: PathBuf,
    libtdb: PathBuf,
    memory: Folder,
    disk: Folder,
}

/// A folder that goes when this does.
struct Folder(PathBuf);

impl Folder {
    fn new(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("holdfast-bench-tdb-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Bench {
    /// Builds both programs.
    pub(crate) fn prepare(effort: Effort) -> Result<Self> {
        if !packages::ensure_libtdb()? {
            bail!("libtdb's header is needed: sudo apt-get install libtdb-dev");
        }
        let target = Metadata::load()?.target_directory;
        tool::run(tool::cargo().args([
            "build",
            "--release",
            "--locked",
            "-p",
            "tdb",
            "--example",
            "bench",
        ]))?;
        let memory = Folder::new(Path::new("/dev/shm"))?;
        let libtdb = memory.0.join("tdb");
        let source = tool::root().join("xtask/assets/tdb.c");
        tool::run(
            tool::command("cc")
                .args(["-O2", "-Wall", "-Wextra", "-o"])
                .args([&libtdb, &source])
                .arg("-ltdb"),
        )?;
        let ours = target.join("release/examples/bench");
        Ok(Self { effort, ours, libtdb, memory, disk: Folder::new(&target)? })
    }

    /// Makes a file, unless another part did; `name` is what it is asked for by afterwards.
    pub(crate) fn make(&self, name: &str, locks: Locks, options: &[String]) -> Result<()> {
        let path = self.memory.0.join(name);
        if path.exists() {
            return Ok(());
        }
        let mut made = tool::command(&self.libtdb);
        made.arg("make").arg(path).args(locks.option()).args(options);
        tool::run(&mut made)
    }

    /// Lets one side do a piece of work on a copy of a file.
    pub(crate) fn run(&self, side: Side, name: &str, work: &Work) -> Result<Told> {
        let folder = match work.place {
            Place::Memory => &self.memory.0,
            Place::Disk => &self.disk.0,
        };
        let path = folder.join("copy.tdb");
        fs::copy(self.memory.0.join(name), &path)?;
        let told = self.run_in_place(side, &path, work);
        fs::remove_file(&path)?;
        told
    }

    /// Lets one side do a piece of work that changes nothing.
    pub(crate) fn look(&self, side: Side, name: &str, work: &Work) -> Result<Told> {
        self.run_in_place(side, &self.memory.0.join(name), work)
    }

    fn run_in_place(&self, side: Side, path: &Path, work: &Work) -> Result<Told> {
        let program = match side {
            Side::Ours => &self.ours,
            Side::Libtdb => &self.libtdb,
        };
        let mut command = tool::command("timeout");
        command.arg(SECONDS_MAX).arg(program).arg(work.name).arg(path);
        command.args(work.locks.option()).args(&work.options);
        if side == Side::Ours {
            command.arg(format!("holder={}", self.libtdb.display()));
        }
        let line = tool::output(&mut command)?;
        serde_json::from_str(&line).with_context(|| format!("{side:?} printed `{line}`"))
    }

    /// The kind of file system that [`Place::Disk`] is.
    pub(crate) fn disk_kind(&self) -> String {
        let kind = tool::output(tool::command("stat").args(["-f", "-c", "%T"]).arg(&self.disk.0));
        kind.map_or_else(|_| "unknown".to_owned(), |kind| kind.trim().to_owned())
    }
}

/// A piece of work, as both programs are asked for it.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) locks: Locks,
    pub(crate) place: Place,
    pub(crate) options: Vec<String>,
}

impl Work {
    pub(crate) fn new(name: &'static str, locks: Locks, options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self { name, locks, place: Place::Memory, options }
    }
}

/// The two in the order of a round: each is the first one as often as the other.
pub(crate) fn turns(round: usize) -> [Side; 2] {
    match round % 2 {
        0 => [Side::Ours, Side::Libtdb],
        _ => [Side::Libtdb, Side::Ours],
    }
}

/// What Debian calls the version of the library.
pub(crate) fn version_of_libtdb() -> Option<String> {
    let mut asked = tool::command("dpkg-query");
    let version = tool::output(asked.args(["-W", "-f", "${Version}\n", "libtdb-dev"])).ok()?;
    version.lines().next().map(str::to_owned)
}

//! Run records: what one daemon leaves for the next about each run.
//!
//! Why: after `kill -9` the services are alive and nobody's children. A record says which process
//! was which, in a way that can be verified: pid, start time and boot id. A record of another boot
//! says nothing (G7).
//! Not synced to disk: a record matters only as long as the machine stays up.

use anyhow::Context as _;
use base::{InstanceId, Now, RunId};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use supervisor::{Pid, RunRecord, RunRole, ServiceSpec, Wish};

/// Raised when the meaning of a field changes; a newer record is not guessed at.
const FORMAT: u32 = 1;

/// Longest record file that is read.
const RECORD_BYTES_MAX: u64 = 64 * 1024;

/// A record as it stands in its file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct StoredRecord {
    format: u32,
    pub(crate) instance: String,
    pub(crate) boot_id: String,
    run: u64,
    pub(crate) main: Option<u32>,
    /// Start time of the main process in clock ticks since boot (proc(5), field 22).
    pub(crate) start_ticks: Option<u64>,
    ready: bool,
    wish: StoredWish,
    restarts: u64,
    /// What the process was started from; see [`digest`].
    pub(crate) digest: String,
    /// When the run became ready or was spawned, nanoseconds since boot.
    pub(crate) since_ns: u64,
    /// Log policy and the like are taken from the present configuration; the control group's
    /// name is the instance's.
    #[serde(default)]
    pub(crate) notify: bool,
    /// Which set of ports it has.
    #[serde(default)]
    slot: u16,
    /// What it is to its instance.
    #[serde(default)]
    role: StoredRole,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredRole {
    #[default]
    Present,
    Successor,
    Leaving,
    /// Until then, nanoseconds since boot.
    Quarantined(u64),
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredWish {
    Up,
    Down,
    Failed(String),
    Finished,
}

impl StoredRecord {
    /// Of a core's record, with what only the driver knows.
    pub(crate) fn new(
        instance: &InstanceId,
        record: &RunRecord,
        boot_id: &str,
        start_ticks: Option<u64>,
        digest: String,
        since_ns: u64,
    ) -> Self {
        let wish = match &record.wish {
            Wish::Up => StoredWish::Up,
            Wish::Down => StoredWish::Down,
            Wish::Failed(why) => StoredWish::Failed(why.clone()),
            Wish::Finished => StoredWish::Finished,
        };
        Self {
            format: FORMAT,
            instance: instance.to_string(),
            boot_id: boot_id.to_owned(),
            run: record.run.0,
            main: record.main.map(|pid| pid.0),
            start_ticks,
            ready: record.ready,
            wish,
            restarts: record.restarts,
            digest,
            since_ns,
            notify: false,
            slot: record.slot,
            role: match record.role {
                RunRole::Present => StoredRole::Present,
                RunRole::Successor => StoredRole::Successor,
                RunRole::Leaving => StoredRole::Leaving,
                RunRole::Quarantined { until } => StoredRole::Quarantined(until.as_nanos()),
            },
        }
    }

    /// Of which run it is.
    pub(crate) fn run(&self) -> RunId {
        RunId(self.run)
    }

    /// As the core knows it.
    pub(crate) fn to_core(&self) -> RunRecord {
        let wish = match &self.wish {
            StoredWish::Up => Wish::Up,
            StoredWish::Down => Wish::Down,
            StoredWish::Failed(why) => Wish::Failed(why.clone()),
            StoredWish::Finished => Wish::Finished,
        };
        RunRecord {
            run: self.run(),
            main: self.main.map(Pid),
            ready: self.ready,
            wish,
            restarts: self.restarts,
            slot: self.slot,
            role: match self.role {
                StoredRole::Present => RunRole::Present,
                StoredRole::Successor => RunRole::Successor,
                StoredRole::Leaving => RunRole::Leaving,
                StoredRole::Quarantined(until) => {
                    RunRole::Quarantined { until: Now::from_nanos(until) }
                }
            },
        }
    }

    /// It speaks for its instance.
    pub(crate) fn is_present(&self) -> bool {
        self.role == StoredRole::Present
    }

    /// Replaces the file as a whole: a reader sees the old record or the new one.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        replace(path, &serde_json::to_vec(self)?)
    }
}

/// Replaces a file as a whole.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let fresh = path.with_extension("json.new");
    fs::write(&fresh, bytes).with_context(|| format!("failed to write {}", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("failed to replace {}", path.display()))
}

/// Removes a record; one that is not there is no error.
pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove run record {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// All records of a directory that can be read, and a sentence about each that can't.
pub(crate) fn read_all(directory: &Path) -> (Vec<(PathBuf, StoredRecord)>, Vec<String>) {
    let mut records = Vec::new();
    let mut complaints = Vec::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return (records, complaints),
        Err(error) => {
            complaints.push(format!("cannot read {}: {error}", directory.display()));
            return (records, complaints);
        }
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match read_one(&path) {
            Ok(record) => records.push((path, record)),
            Err(error) => complaints.push(format!("{error:#}")),
        }
    }
    (records, complaints)
}

fn read_one(path: &Path) -> anyhow::Result<StoredRecord> {
    let shown = path.display();
    let length = fs::metadata(path).with_context(|| format!("cannot read {shown}"))?.len();
    anyhow::ensure!(length <= RECORD_BYTES_MAX, "{shown} has {length} bytes and is no run record");
    let bytes = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let record: StoredRecord =
        serde_json::from_slice(&bytes).with_context(|| format!("{shown} is no run record"))?;
    anyhow::ensure!(
        record.format <= FORMAT,
        "{shown} has format {}, this version reads up to {FORMAT}",
        record.format
    );
    Ok(record)
}

/// A fingerprint of what a process was started from. Made from named fields that differ from
/// their defaults, so that a newer holdfast which knows more fields makes the same one.
pub(crate) fn digest(spec: &ServiceSpec) -> String {
    use std::fmt::Write as _;
    let process = &spec.process;
    let mut text = format!("argv={:?};dir={};", process.argv, process.directory.display());
    let mut add = |name: &str, value: &dyn std::fmt::Debug, is_default: bool| {
        if !is_default {
            let _ = write!(text, "{name}={value:?};");
        }
    };
    add("kind", &spec.kind, spec.kind == supervisor::Kind::Simple);
    add("env", &process.env, process.env.is_empty());
    add("env_files", &process.env_files, process.env_files.is_empty());
    add("user", &process.user, process.user.is_none());
    add("group", &process.group, process.group.is_none());
    let groups = &process.supplementary_groups;
    add("groups", groups, groups.is_none());
    add("umask", &process.umask, process.umask == 0o022);
    add("nice", &process.nice, process.nice == 0);
    add("io", &process.io_priority, process.io_priority.is_none());
    add("oom", &process.oom_score_adjust, process.oom_score_adjust == 0);
    add("rlimits", &process.rlimits, process.rlimits.is_empty());
    let limits = &process.limits;
    add("limits", limits, *limits == supervisor::CgroupLimits::default());
    add("sockets", &process.sockets, process.sockets.is_empty());
    add("port", &process.port, process.port.is_none());
    add("no_new_privileges", &true, !process.no_new_privileges);
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    hash.as_ref()[..16].iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_as_written_and_foreign_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let instance: InstanceId = "web:1".parse().unwrap();
        let core = RunRecord {
            run: RunId(7),
            main: Some(Pid(42)),
            ready: true,
            wish: Wish::Failed("budget spent".into()),
            restarts: 3,
            slot: 1,
            role: RunRole::Quarantined { until: Now::from_nanos(12) },
        };
        let stored = StoredRecord::new(&instance, &core, "boot", Some(99), "d".into(), 5);
        stored.write(&directory.path().join("web:1.7.json")).unwrap();
        fs::write(directory.path().join("bad.json"), b"{").unwrap();
        fs::write(directory.path().join("left.json.new"), b"torn").unwrap();

        let (records, complaints) = read_all(directory.path());
        assert_eq!(records, [(directory.path().join("web:1.7.json"), stored)]);
        assert_eq!(records[0].1.to_core(), core);
        assert_eq!(records[0].1.run(), RunId(7));
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].contains("bad.json is no run record"), "{complaints:?}");
    }
}

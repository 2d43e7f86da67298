//! What a control group counts and how it stands, for those who only look.
//!
//! Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.

use super::Group;
use super::detect::{self, Mounted};
use super::group::{Place, keyed};
use std::fmt::Write as _;
use std::fs;
use std::io::Read;

/// Most bytes of a [`Group::report`].
pub const REPORT_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of one file of a report. The longest, memory.stat, has some 2 KiB.
const FILE_BYTES_MAX: u64 = 8 * 1024;

/// What is worth keeping of a sick service's group.
const REPORTED: [&str; 26] = [
    "cgroup.events",
    "cgroup.stat",
    "cpu.stat",
    "cpu.max",
    "cpu.pressure",
    "cpuacct.usage",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "memory.current",
    "memory.peak",
    "memory.max",
    "memory.high",
    "memory.swap.current",
    "memory.swap.max",
    "memory.events",
    "memory.pressure",
    "memory.stat",
    "memory.usage_in_bytes",
    "memory.limit_in_bytes",
    "memory.failcnt",
    "memory.oom_control",
    "pids.current",
    "pids.max",
    "pids.events",
    "io.stat",
    "io.pressure",
];

/// The hierarchies that are mounted, to find the groups of processes that others have placed.
#[derive(Debug)]
pub struct Mounts(pub(super) Vec<Mounted>);

impl Mounts {
    /// Reads what is mounted. Makes nothing and moves nobody, unlike [`super::Cgroups::detect`].
    pub fn read() -> Self {
        Self(detect::read_mounted())
    }

    /// The group that a process is in, in all hierarchies; `None` without any hierarchy, or if the
    /// process is gone.
    pub fn group_of(&self, pid: u32) -> Option<Group> {
        let places = detect::all_places_of_process(&self.0, pid);
        (!places.is_empty()).then(|| Group::new(places))
    }
}

impl Group {
    /// True if its processes are frozen: by this group or by one above it.
    pub fn is_frozen(&self) -> bool {
        self.places().any(is_frozen)
    }

    /// The same by its places but the one where it is tracked.
    pub(super) fn is_frozen_elsewhere(&self) -> bool {
        self.places().skip(1).any(is_frozen)
    }

    /// All its counters and limits as text: `[file]`, then what the file says. Each file of which
    /// only a part is kept says so.
    pub fn report(&self) -> String {
        let mut report = String::new();
        for place in self.places() {
            for name in REPORTED {
                let path = place.path.join(name);
                let Ok(file) = fs::File::open(&path) else { continue };
                let mut bytes = Vec::new();
                if file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).is_err() {
                    continue;
                }
                let text = String::from_utf8_lossy(&bytes);
                let cut = if bytes.len() as u64 == FILE_BYTES_MAX { "(cut here)\n" } else { "" };
                if REPORT_BYTES_MAX < report.len() + text.len() {
                    report.push_str("(more files are not kept)\n");
                    return report;
                }
                let _ = write!(report, "[{}]\n{}\n{cut}", path.display(), text.trim_end());
            }
        }
        report
    }
}

fn is_frozen(place: &Place) -> bool {
    if place.is_v2 {
        return keyed(&place.path.join("cgroup.events"), "frozen") == Some(1);
    }
    let text = fs::read_to_string(place.path.join("freezer.state"));
    text.is_ok_and(|text| text.trim() == "FROZEN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_group_of_version_1_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_owned();
        let v1 = Group::of_directories(vec![(false, place.clone())]).unwrap();
        let v2 = Group::of_directories(vec![(true, place.clone())]).unwrap();
        assert!(!v1.is_frozen());
        fs::write(place.join("freezer.state"), "FROZEN\n").unwrap();
        assert!(v1.is_frozen() && !v2.is_frozen());
    }

    #[test]
    fn a_report_is_bounded_and_says_what_it_leaves_out() {
        let directory = tempfile::tempdir().unwrap();
        for name in REPORTED {
            fs::write(directory.path().join(name), "x".repeat(50_000)).unwrap();
        }
        let group = Group::of_directories(vec![(true, directory.path().to_owned())]).unwrap();
        let report = group.report();
        assert!(report.len() < REPORT_BYTES_MAX + 8192);
        assert!(report.contains("(cut here)") && report.contains("(more files are not kept)"));
    }

    #[test]
    fn the_group_of_our_own_process_is_found_where_there_are_hierarchies() {
        let mounts = Mounts::read();
        if let Some(group) = mounts.group_of(std::process::id()) {
            assert!(group.members().unwrap().contains(&std::process::id()));
        }
        assert!(mounts.group_of(u32::MAX).is_none());
    }
}

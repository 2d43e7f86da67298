//! What a control group counts and what it allows, for those who only look.
//!
//! Why: the share of memory that a service has left is that of the tightest group above it, which
//! may be a container's or a slice's and none of ours (H3).
//! Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.

use super::Group;
use super::detect::{self, Mounted};
use super::group::{Place, keyed};
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::Path;

/// Most bytes of a [`Group::report`].
pub const REPORT_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of one file of a report. The longest, memory.stat, has some 2 KiB.
const FILE_BYTES_MAX: u64 = 8 * 1024;

/// Version 1 writes "no limit" as the largest number of whole pages; nobody has as much.
const NO_LIMIT_FROM: u64 = 1 << 60;

/// Groups above one that are looked at.
const ANCESTORS_MAX: usize = 32;

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
pub struct Mounts(Vec<Mounted>);

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
    /// Bytes of memory that it may use at most: the tightest limit of it and of the groups above.
    pub fn memory_limit(&self) -> Option<u64> {
        let limit = |place: &Place| match place.is_v2 {
            true => tightest(&place.path, "memory.max"),
            false => keyed(&place.path.join("memory.stat"), "hierarchical_memory_limit"),
        };
        self.places().filter_map(limit).filter(|limit| *limit < NO_LIMIT_FROM).min()
    }

    /// Processes and threads that it may have at most; likewise the tightest limit.
    pub fn threads_limit(&self) -> Option<u64> {
        self.places().filter_map(|place| tightest(&place.path, "pids.max")).min()
    }

    /// True if its processes are frozen: by this group or by one above it.
    pub fn is_frozen(&self) -> bool {
        self.places().any(|place| {
            let events = || keyed(&place.path.join("cgroup.events"), "frozen") == Some(1);
            let state = || {
                let text = fs::read_to_string(place.path.join("freezer.state"));
                text.is_ok_and(|text| text.trim() == "FROZEN")
            };
            if place.is_v2 { events() } else { state() }
        })
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

/// The smallest number in the files of this name, from a directory upwards to the hierarchy's top.
fn tightest(directory: &Path, file: &str) -> Option<u64> {
    directory
        .ancestors()
        .take(ANCESTORS_MAX)
        .take_while(|directory| directory.join("cgroup.procs").exists())
        .filter_map(|directory| fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h3_the_tightest_limit_above_a_group_counts() {
        let directory = tempfile::tempdir().unwrap();
        let (outer, inner) = (directory.path().join("a"), directory.path().join("a/b"));
        fs::create_dir_all(&inner).unwrap();
        for place in [&outer, &inner] {
            fs::write(place.join("cgroup.procs"), "").unwrap();
        }
        let group = Group::of_directories(vec![(true, inner.clone())]).unwrap();
        assert_eq!((group.memory_limit(), group.threads_limit()), (None, None));
        fs::write(outer.join("memory.max"), "5000\n").unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(inner.join("pids.max"), "7\n").unwrap();
        assert_eq!((group.memory_limit(), group.threads_limit()), (Some(5000), Some(7)));
        assert_eq!(group.directories(), [(true, inner.clone())]);

        let v1 = Group::of_directories(vec![(false, inner.clone())]).unwrap();
        let stat = |limit: u64| format!("cache 1\nhierarchical_memory_limit {limit}\n");
        fs::write(inner.join("memory.stat"), stat(9_223_372_036_854_771_712)).unwrap();
        assert_eq!(v1.memory_limit(), None);
        fs::write(inner.join("memory.stat"), stat(4096)).unwrap();
        assert_eq!(v1.memory_limit(), Some(4096));
        assert!(!v1.is_frozen());
        fs::write(inner.join("freezer.state"), "FROZEN\n").unwrap();
        assert!(v1.is_frozen() && !group.is_frozen());
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

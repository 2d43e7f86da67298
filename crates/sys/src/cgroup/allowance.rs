//! What control groups allow: the tightest limit of a group and of all groups above it.
//!
//! Why: the share of memory that a service has left is that of the tightest group above it, which
//! may be a container's or a slice's and none of ours (H3). A thousand services stand below the
//! same few groups, so what a directory allows is asked once for all of them.
//! Invariant: nothing that is remembered is older than [`BELIEVED`].
//! Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.

use super::detect;
use super::group::{Place, keyed};
use super::{Group, Mounts};
use base::Now;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer of the kernel is used again: a round of looks is over by then.
const BELIEVED: Duration = Duration::from_secs(10);

/// Version 1 writes "no limit" as the largest number of whole pages; nobody has as much.
const NO_LIMIT_FROM: u64 = 1 << 60;

/// Groups above one that are looked at.
const ANCESTORS_MAX: usize = 32;

/// Directories that are remembered. Beyond it everything is forgotten, and asked again.
const KNOWN_MAX: usize = 16_384;

/// What a group may have, with the groups above it; `None` = no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Allowed {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub threads: Option<u64>,
}

impl Allowed {
    fn tighter(self, other: Self) -> Self {
        let least = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        Self {
            memory: least(self.memory, other.memory),
            threads: least(self.threads, other.threads),
        }
    }
}

/// Asks what groups allow, and remembers it for a moment.
#[derive(Debug)]
pub struct Allowances {
    mounts: Mounts,
    /// `None`: it is no directory of a control group.
    known: HashMap<PathBuf, (Now, Option<Allowed>)>,
}

impl Allowances {
    /// Nothing is known yet.
    pub fn new(mounts: Mounts) -> Self {
        Self { mounts, known: HashMap::new() }
    }

    /// What the groups allow that a process is in, in all hierarchies; `None` if none of them is
    /// seen from here, or the process is gone.
    pub fn of_process(&mut self, now: Now, pid: u32) -> Option<Allowed> {
        let places = detect::limiting_places_of_process(&self.mounts.0, pid);
        let allowed = places.iter().filter_map(|place| self.of_place(now, place));
        allowed.reduce(Allowed::tighter)
    }

    /// What a group allows.
    pub fn of_group(&mut self, now: Now, group: &Group) -> Allowed {
        let allowed = group.places().filter_map(|place| self.of_place(now, place));
        allowed.reduce(Allowed::tighter).unwrap_or_default()
    }

    fn of_place(&mut self, now: Now, place: &Place) -> Option<Allowed> {
        self.of_directory(now, &place.path, place.is_v2, ANCESTORS_MAX)
    }

    fn of_directory(
        &mut self,
        now: Now,
        directory: &Path,
        is_v2: bool,
        depth: usize,
    ) -> Option<Allowed> {
        if let Some((at, allowed)) = self.known.get(directory)
            && now.since(*at) < BELIEVED
        {
            return *allowed;
        }
        let allowed = directory.join("cgroup.procs").exists().then(|| {
            let own = own(directory, is_v2);
            let parent = directory.parent().filter(|_| 0 < depth);
            let above = parent.and_then(|above| self.of_directory(now, above, is_v2, depth - 1));
            let above = above.unwrap_or_default();
            // Version 1 has told the memory of those above already, if it counts there at all.
            let memory = above.memory.filter(|_| is_v2);
            own.tighter(Allowed { memory, ..above })
        });
        if KNOWN_MAX <= self.known.len() {
            self.known.clear();
        }
        self.known.insert(directory.to_owned(), (now, allowed));
        allowed
    }
}

fn own(directory: &Path, is_v2: bool) -> Allowed {
    let number = |file| fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok();
    let memory = match is_v2 {
        true => number("memory.max"),
        false => keyed(&directory.join("memory.stat"), "hierarchical_memory_limit"),
    };
    Allowed { memory: memory.filter(|limit| *limit < NO_LIMIT_FROM), threads: number("pids.max") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(group: &Group) -> Allowed {
        Allowances::new(Mounts(Vec::new())).of_group(Now::from_millis(1), group)
    }

    #[test]
    fn h3_the_tightest_limit_above_a_group_counts() {
        let directory = tempfile::tempdir().unwrap();
        let (outer, inner) = (directory.path().join("a"), directory.path().join("a/b"));
        fs::create_dir_all(&inner).unwrap();
        for place in [&outer, &inner] {
            fs::write(place.join("cgroup.procs"), "").unwrap();
        }
        let group = Group::of_directories(vec![(true, inner.clone())]).unwrap();
        assert_eq!(fresh(&group), Allowed::default());
        fs::write(outer.join("memory.max"), "5000\n").unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(inner.join("pids.max"), "7\n").unwrap();
        assert_eq!(fresh(&group), Allowed { memory: Some(5000), threads: Some(7) });
        assert_eq!(group.directories(), [(true, inner.clone())]);

        let v1 = Group::of_directories(vec![(false, inner.clone())]).unwrap();
        let stat = |limit: u64| format!("cache 1\nhierarchical_memory_limit {limit}\n");
        fs::write(outer.join("memory.stat"), stat(4096)).unwrap();
        fs::write(inner.join("memory.stat"), stat(9_223_372_036_854_771_712)).unwrap();
        assert_eq!(fresh(&v1).memory, None);
        fs::write(inner.join("memory.stat"), stat(8192)).unwrap();
        assert_eq!(fresh(&v1), Allowed { memory: Some(8192), threads: Some(7) });
    }

    #[test]
    fn h4_groups_above_are_asked_once_for_all_that_stand_below() {
        let directory = tempfile::tempdir().unwrap();
        let inner = ["a", "b"].map(|name| directory.path().join(name));
        fs::write(directory.path().join("cgroup.procs"), "").unwrap();
        for place in &inner {
            fs::create_dir(place).unwrap();
            fs::write(place.join("cgroup.procs"), "").unwrap();
        }
        let [a, b] = inner.map(|place| Group::of_directories(vec![(true, place)]).unwrap());
        let mut allowances = Allowances::new(Mounts(Vec::new()));
        let limit = |limit: &str| fs::write(directory.path().join("memory.max"), limit).unwrap();
        let at = Now::from_millis;
        limit("5000\n");
        assert_eq!(allowances.of_group(at(1), &a).memory, Some(5000));
        limit("6000\n");
        assert_eq!(allowances.of_group(at(2), &b).memory, Some(5000), "from memory");
        assert_eq!(allowances.of_group(at(1) + BELIEVED, &b).memory, Some(5000), "its own, too");
        assert_eq!(allowances.of_group(at(2) + BELIEVED, &b).memory, Some(6000));
    }

    #[test]
    fn a_process_that_is_gone_has_no_group() {
        let mut allowances = Allowances::new(Mounts::read());
        assert_eq!(allowances.of_process(Now::from_millis(1), u32::MAX), None);
    }
}

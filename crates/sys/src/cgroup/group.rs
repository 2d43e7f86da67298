//! One service's control group, in all hierarchies that it needs.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Deepest nesting of groups that a service may have made inside its own.
const DEPTH_MAX: usize = 32;

/// Subgroups that are looked at. A service with more has gone mad.
const SUBGROUPS_MAX: usize = 4096;

/// How long a removal waits until the last dying process has left the group.
const EMPTY_WITHIN: Duration = Duration::from_millis(500);

/// Pause between two tries to remove a group that a dying process is still in.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A directory in one hierarchy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) is_v2: bool,
    pub(super) path: PathBuf,
}

/// The way into a group.
#[derive(Debug)]
pub struct Entry {
    /// The group, where it is of version 2: a process can be born in it.
    pub birthplace: Option<OwnedFd>,
    /// The files into which a process writes itself: one for each hierarchy, that of `birthplace`
    /// first. One that is born there needs the others only.
    pub files: Vec<PathBuf>,
}

/// A control group of one service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Where its members are tracked: the first place.
    tracking: Place,
    /// Further places that enforce limits.
    others: Vec<Place>,
}

impl Group {
    /// `places` is not empty; its first one tracks.
    pub(super) fn new(places: Vec<Place>) -> Self {
        let mut places = places.into_iter();
        let tracking =
            places.next().unwrap_or_else(|| Place { is_v2: false, path: PathBuf::new() });
        let mut others: Vec<Place> = Vec::new();
        for place in places {
            if place != tracking && !others.contains(&place) {
                others.push(place);
            }
        }
        Self { tracking, others }
    }

    /// Each directory of it, and whether it stands in a hierarchy of version 2: another process of
    /// ours can make the same group of them by [`Group::of_directories`].
    pub fn directories(&self) -> Vec<(bool, PathBuf)> {
        self.places().map(|place| (place.is_v2, place.path.clone())).collect()
    }

    /// The other half of [`Group::directories`]; `None` if there are none.
    pub fn of_directories(directories: Vec<(bool, PathBuf)>) -> Option<Self> {
        let places: Vec<Place> =
            directories.into_iter().map(|(is_v2, path)| Place { is_v2, path }).collect();
        (!places.is_empty()).then(|| Self::new(places))
    }

    /// The way in.
    pub fn entry(&self) -> Entry {
        use rustix::fs::{Mode, OFlags, open};
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let tracking = Some(&self.tracking).filter(|place| place.is_v2);
        let birthplace = tracking.and_then(|at| open(&at.path, flags, Mode::empty()).ok());
        let files = self.places().map(|place| place.path.join("cgroup.procs")).collect();
        Entry { birthplace, files }
    }

    /// All processes in it and in groups inside it.
    pub fn members(&self) -> io::Result<Vec<u32>> {
        let mut members = Vec::new();
        let mut left = SUBGROUPS_MAX;
        collect_members(&self.tracking.path, DEPTH_MAX, &mut left, &mut members)?;
        Ok(members)
    }

    /// True if its members are a short read from memory, and there is nothing more to be asked: of
    /// version 2, and without a place elsewhere.
    pub fn tells_at_once(&self) -> bool {
        self.tracking.is_v2 && self.others.is_empty()
    }

    /// Its members are tracked by version 2.
    pub(super) fn tracks_by_v2(&self) -> bool {
        self.tracking.is_v2
    }

    /// Kills everything in it at one stroke, forks in progress included. `false`: this kernel or
    /// this hierarchy can't (before Linux 5.14, or version 1).
    pub fn kill_all(&self) -> io::Result<bool> {
        if !self.tracking.is_v2 {
            return Ok(false);
        }
        match fs::write(self.tracking.path.join("cgroup.kill"), "1") {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Freezes everything in it, and whatever is born in it. `false`: this hierarchy can't (version
    /// 1, or before Linux 5.2). Source: cgroups(7), `cgroup.freeze`.
    pub fn freeze(&self) -> io::Result<bool> {
        if !self.tracking.is_v2 {
            return Ok(false);
        }
        match fs::write(self.tracking.path.join("cgroup.freeze"), "1") {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes it, and groups inside it, once the last dying process has left it. Fails while a
    /// process stays in one of them.
    pub fn remove(&self) -> io::Result<()> {
        self.wait_until_empty();
        let deadline = crate::clock::now() + EMPTY_WITHIN;
        loop {
            match self.remove_if_empty() {
                // Version 1 does not tell when.
                Err(error)
                    if error.kind() == io::ErrorKind::ResourceBusy
                        && crate::clock::now() < deadline =>
                {
                    std::thread::park_timeout(LOOK_AGAIN);
                }
                result => return result,
            }
        }
    }

    /// Removes it, and groups inside it, if no process is in them now.
    pub fn remove_if_empty(&self) -> io::Result<()> {
        self.places().try_for_each(|place| remove_tree(&place.path, DEPTH_MAX))
    }

    /// The directory in which its members are tracked.
    pub fn path(&self) -> &Path {
        &self.tracking.path
    }

    /// Bytes of memory in use, if a controller counts them.
    pub fn memory_current(&self) -> Option<u64> {
        self.number("memory.current", "memory.usage_in_bytes")
    }

    /// CPU time used since the group was made, in microseconds, if a controller counts it.
    pub fn cpu_usage_usec(&self) -> Option<u64> {
        self.places().find_map(|place| {
            if place.is_v2 {
                return keyed(&place.path.join("cpu.stat"), "usage_usec");
            }
            let nanos = fs::read_to_string(place.path.join("cpuacct.usage")).ok()?;
            nanos.trim().parse::<u64>().ok().map(|nanos| nanos / 1000)
        })
    }

    /// Processes that the kernel killed because of the memory limit, if a controller counts them.
    pub fn oom_kills(&self) -> Option<u64> {
        self.places().find_map(|place| {
            let file = if place.is_v2 { "memory.events" } else { "memory.oom_control" };
            keyed(&place.path.join(file), "oom_kill")
        })
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        std::iter::once(&self.tracking).chain(&self.others)
    }

    fn number(&self, v2: &str, v1: &str) -> Option<u64> {
        self.places().find_map(|place| {
            let file = if place.is_v2 { v2 } else { v1 };
            fs::read_to_string(place.path.join(file)).ok()?.trim().parse().ok()
        })
    }

    /// A killed process leaves its group a moment after it has ended. Version 2 tells when.
    fn wait_until_empty(&self) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        if !self.tracking.is_v2 {
            return;
        }
        let Ok(mut events) = fs::File::open(self.tracking.path.join("cgroup.events")) else {
            return;
        };
        let deadline = crate::clock::now() + EMPTY_WITHIN;
        loop {
            let mut text = String::new();
            // Each wait is armed by a read from the beginning.
            let read = io::Seek::rewind(&mut events)
                .and_then(|()| io::Read::read_to_string(&mut events, &mut text));
            let populated = text.lines().any(|line| line == "populated 1");
            let left = crate::clock::now().until(deadline);
            if read.is_err() || !populated || left.is_zero() {
                return;
            }
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
            let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout));
        }
    }
}

fn collect_members(
    path: &Path,
    depth: usize,
    left: &mut usize,
    members: &mut Vec<u32>,
) -> io::Result<()> {
    let text = fs::read_to_string(path.join("cgroup.procs"))?;
    members.extend(text.split_ascii_whitespace().flat_map(str::parse::<u32>));
    collect_below(path, depth, left, members);
    Ok(())
}

/// The members of all groups inside a group.
pub(super) fn members_below(path: &Path, members: &mut Vec<u32>) {
    let mut left = SUBGROUPS_MAX;
    collect_below(path, DEPTH_MAX, &mut left, members);
}

fn collect_below(path: &Path, depth: usize, left: &mut usize, members: &mut Vec<u32>) {
    if depth == 0 {
        return;
    }
    for inner in subdirectories(path) {
        if *left == 0 {
            return;
        }
        *left -= 1;
        // One that has just been removed has no members.
        let _ = collect_members(&inner, depth - 1, left, members);
    }
}

/// A directory has two links and one more for each directory in it, so most are not even listed.
pub(super) fn subdirectories(path: &Path) -> Vec<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    if fs::metadata(path).is_ok_and(|found| found.nlink() == 2) {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_directory).map(|entry| entry.path()).collect()
}

fn remove_tree(path: &Path, depth: usize) -> io::Result<()> {
    if 0 < depth {
        for inner in subdirectories(path) {
            remove_tree(&inner, depth - 1)?;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The number behind a word, in a file of `word number` lines.
pub(super) fn keyed(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

//! What the kernel says about the processes of a contender: which are its own, what they use.
//!
//! Invariants: a supervised process (one that executes the idle program) never counts as the
//! supervisor's own; only processes below the one that was started here, or that execute the idle
//! program of this run, are ever killed.
//! Source: proc(5); Documentation/scheduler/sched-stats.rst.

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What the supervisor's own processes use, all together.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Use {
    pub(crate) processes: usize,
    pub(crate) cpu_ns: u64,
    pub(crate) rss_kib: u64,
    pub(crate) pss_kib: u64,
}

/// The parent of every process.
fn parents() -> Result<BTreeMap<i32, i32>> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // The name stands in parentheses and may hold anything; what follows it may not.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse().ok()) {
            parents.insert(pid, parent);
        }
    }
    Ok(parents)
}

/// The process and everything below it.
fn tree(root: i32) -> Result<BTreeSet<i32>> {
    let parents = parents()?;
    let mut tree = BTreeSet::from([root]);
    // Children can have smaller numbers than their parents, so look until nothing is new.
    loop {
        let below: Vec<i32> = parents
            .iter()
            .filter(|(pid, parent)| tree.contains(parent) && !tree.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if below.is_empty() {
            return Ok(tree);
        }
        tree.extend(below);
    }
}

fn executes(pid: i32, program: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program)
}

/// The supervisor's own processes: below `root`, and not executing the idle program.
pub(crate) fn own(root: i32, idle: &Path) -> Result<BTreeSet<i32>> {
    Ok(tree(root)?.into_iter().filter(|pid| !executes(*pid, idle)).collect())
}

/// What one process uses; a process that has just ended uses nothing.
pub(crate) fn used_by(pid: i32) -> Use {
    Use {
        processes: 1,
        cpu_ns: cpu_ns(pid),
        rss_kib: field_kib(pid, "status", "VmRSS:"),
        pss_kib: field_kib(pid, "smaps_rollup", "Pss:"),
    }
}

/// All of them together.
pub(crate) fn used(pids: &BTreeSet<i32>) -> Use {
    pids.iter().map(|pid| used_by(*pid)).fold(Use::default(), |all, one| Use {
        processes: all.processes + one.processes,
        cpu_ns: all.cpu_ns + one.cpu_ns,
        rss_kib: all.rss_kib + one.rss_kib,
        pss_kib: all.pss_kib + one.pss_kib,
    })
}

/// Time on a processor, of all threads: the scheduler counts in nanoseconds, clock ticks are far
/// too coarse for a supervisor that does nothing.
fn cpu_ns(pid: i32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

fn field_kib(pid: i32, file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// The last word of the command line's first two, to tell the processes of one program apart.
pub(crate) fn role(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    match words.as_slice() {
        [_, duty, name, ..] if duty == "duty" => format!("duty {name}"),
        [_, verb, ..] => verb.clone(),
        _ => "?".to_owned(),
    }
}

/// Kills a supervised process; false if that number no longer belongs to one.
pub(crate) fn kill_idle(pid: i32, idle: &Path) -> bool {
    let Some(handle) = Handle::open(pid) else { return false };
    // Asked after the handle was opened: from here on the number cannot change its meaning.
    executes(pid, idle) && handle.kill()
}

/// A process that stays the same one, whatever becomes of its number.
pub(crate) struct Handle(OwnedFd);

impl Handle {
    /// `None` if there is no such process.
    pub(crate) fn open(pid: i32) -> Option<Handle> {
        pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok().map(Handle)
    }

    fn kill(&self) -> bool {
        pidfd_send_signal(&self.0, Signal::KILL).is_ok()
    }

    /// True once it has ended, also if nobody has asked for its exit code yet.
    fn has_ended(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut fds, Some(&now)).is_ok_and(|ready| 0 < ready)
    }
}

/// Asks the supervisor to end, as its administrator would.
pub(crate) fn ask(root: &Handle) {
    let _ = pidfd_send_signal(&root.0, Signal::TERM);
}

/// Ends the contender's own processes and all that they supervise. True once nothing is left.
pub(crate) fn end(own: &[Handle], idle: &Path) -> Result<bool> {
    // Supervisors first, so that nobody is left to start anything.
    for process in own {
        process.kill();
    }
    let supervised: Vec<i32> = parents()?.into_keys().filter(|pid| executes(*pid, idle)).collect();
    for pid in &supervised {
        kill_idle(*pid, idle);
    }
    Ok(supervised.is_empty() && own.iter().all(Handle::has_ended))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_our_own_tree() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(tree(me).unwrap().contains(&me));
        let exe = std::env::current_exe().unwrap();
        assert!(executes(me, &exe));
        assert!(!own(me, &exe).unwrap().contains(&me));
        let used = used_by(me);
        assert!(0 < used.rss_kib && 0 < used.cpu_ns, "{used:?}");
        assert!(used.pss_kib <= used.rss_kib);
    }
}

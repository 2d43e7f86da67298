//! One run: all its processes together.

use super::members::{self, Orphans};
use super::process::Process;
use super::room::Reserved;
use super::threads::Threads;
use super::{PROCESSES_MAX, RunSample, Scratch, Target};
use crate::cgroup::{Allowances, Allowed, OpenGroup};
use crate::proc_fs;
use base::Now;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Limits of control groups are read again after this long.
const LIMITS_EVERY: Duration = Duration::from_mins(1);

/// What is remembered of a run between two looks.
#[derive(Debug)]
pub(super) struct RunWatch {
    target: Target,
    pub(super) processes: BTreeMap<u32, Process>,
    /// Its control group, kept open.
    open: Option<(OpenGroup, Reserved)>,
    /// What its control groups allow, and when that was read.
    limits: Option<(Now, Allowed)>,
    /// CPU time at the last look.
    ticks: Option<u64>,
}

impl RunWatch {
    pub(super) fn new(target: Target) -> Self {
        Self { target, processes: BTreeMap::new(), open: None, limits: None, ticks: None }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Something about it has changed.
    pub(super) fn change(&mut self, target: Target) {
        if self.target != target {
            self.target = target;
            self.open = None;
            self.limits = None;
        }
    }

    /// Looks at everything but its sockets.
    pub(super) fn look(
        &mut self,
        now: Now,
        orphans: &Orphans,
        allowances: &mut Allowances,
        scratch: &mut Scratch,
    ) -> RunSample {
        let mut sample = RunSample::default();
        let wants = self.target.wants;
        let only_children = wants.zombies && !wants.threads;
        let mut threads = Threads { only_children, ..Threads::default() };
        let mut sums = Sums::new();
        let members = match self.members(scratch) {
            Some(mut members) => {
                members.sort_unstable();
                for pid in members.iter().copied().take(PROCESSES_MAX) {
                    self.look_at(pid, &mut threads, &mut sums, &mut sample, scratch);
                }
                members
            }
            None => self.look_by_descent(orphans, &mut threads, &mut sums, &mut sample, scratch),
        };
        self.processes.retain(|pid, _| members.binary_search(pid).is_ok());
        let beyond = members.len().saturating_sub(PROCESSES_MAX);
        if 0 < beyond {
            sample.processes =
                sample.processes.saturating_add(u32::try_from(beyond).unwrap_or(u32::MAX));
            sample.cannot_tell("it has more processes than are looked at");
        }
        sums.put_into(&self.target, &mut sample);
        if wants.zombies || wants.threads {
            sample.zombies += zombies_among(&threads.children, &members);
        }
        if wants.threads {
            put_threads(threads, &mut sample);
        }
        self.put_limits(now, allowances, &members, &mut sample);
        let all_stopped = 0 < sample.processes && sums.stopped == sample.processes;
        // Whoever has used the processor since the last look was not frozen then.
        let moved = self.ticks.replace(sums.ticks).is_some_and(|ticks| ticks < sums.ticks);
        sample.stopped = all_stopped || (!moved && self.is_frozen(scratch));
        sample
    }

    /// The processes in its group; `None` without a group, or with one that was removed.
    fn members(&mut self, scratch: &mut Scratch) -> Option<Vec<u32>> {
        let group = self.target.group.as_ref()?;
        if self.open.is_none()
            && let Some(reserved) = scratch.room.reserve(OpenGroup::DESCRIPTORS)
        {
            self.open = group.open().map(|open| (open, reserved));
        }
        if let Some((open, _)) = &self.open {
            match open.members(group, &mut scratch.bytes) {
                Ok(members) => return Some(members),
                Err(_) => self.open = None,
            }
        }
        group.members().ok()
    }

    fn is_frozen(&self, scratch: &mut Scratch) -> bool {
        let Some(group) = &self.target.group else { return false };
        match &self.open {
            Some((open, _)) => open.is_frozen(group, &mut scratch.bytes),
            None => group.is_frozen(),
        }
    }

    /// Without a group, or with one that was removed from outside. Gives those that were found: at
    /// most one more than are looked at.
    fn look_by_descent(
        &mut self,
        orphans: &Orphans,
        threads: &mut Threads,
        sums: &mut Sums,
        sample: &mut RunSample,
        scratch: &mut Scratch,
    ) -> Vec<u32> {
        threads.only_children = !self.target.wants.threads;
        let is_ours = |pid: &u32| {
            self.processes.contains_key(pid) || !members::is_of_another(*pid, &self.target)
        };
        let known = self.target.known.iter().copied().filter(is_ours);
        let mut queue: VecDeque<u32> = known.chain(orphans.of(&self.target)).collect();
        let mut found = BTreeSet::new();
        while let Some(pid) = queue.pop_front() {
            if PROCESSES_MAX < found.len() || !found.insert(pid) {
                continue;
            }
            let before = threads.children.len();
            self.look_at(pid, threads, sums, sample, scratch);
            queue.extend(threads.children.get(before..).unwrap_or(&[]));
        }
        found.into_iter().collect()
    }

    fn look_at(
        &mut self,
        pid: u32,
        threads: &mut Threads,
        sums: &mut Sums,
        sample: &mut RunSample,
        scratch: &mut Scratch,
    ) {
        let wants = self.target.wants;
        let mut look = None;
        // Twice at most: its number may have been given to a new one that is in the run, too.
        for _ in 0..2 {
            let process = match self.processes.entry(pid) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => {
                    let Ok(process) = Process::new(pid, scratch) else { return };
                    free.insert(process)
                }
            };
            if let Ok(seen) = process.look(wants, threads, scratch) {
                look = Some(seen);
                break;
            }
            self.processes.remove(&pid);
        }
        let Some(look) = look else { return };
        if !look.stat.is_alive() {
            sample.zombies += 1;
            return;
        }
        sample.processes += 1;
        sample.threads = sample.threads.saturating_add(look.stat.threads);
        sums.stopped += u32::from(matches!(look.stat.state, 'T' | 't'));
        sums.ticks += look.stat.utime_ticks + look.stat.stime_ticks;
        sums.add(pid, &look);
        if let (Some(process), Some(open)) = (self.processes.get_mut(&pid), look.descriptors) {
            process.links.open_now = open;
        }
    }

    fn put_limits(
        &mut self,
        now: Now,
        allowances: &mut Allowances,
        members: &[u32],
        sample: &mut RunSample,
    ) {
        let wants = self.target.wants;
        if !(wants.memory || wants.swap || wants.zombies || wants.threads) {
            return;
        }
        let is_new = |limits: &(Now, _)| now.since(limits.0) < LIMITS_EVERY;
        if !self.limits.as_ref().is_some_and(is_new) {
            // Where its processes really are may be deeper, or in a hierarchy that is none of ours.
            let real = members.first().and_then(|pid| allowances.of_process(now, *pid));
            let group = || Some(allowances.of_group(now, self.target.group.as_ref()?));
            let Some(allowed) = real.or_else(group) else { return };
            self.limits = Some((now, allowed));
        }
        if let Some((_, allowed)) = self.limits {
            (sample.memory_limit, sample.threads_limit) = (allowed.memory, allowed.threads);
        }
    }
}

/// What is added up over the processes of a run.
#[derive(Debug)]
struct Sums {
    ticks: u64,
    stopped: u32,
    /// `None` once it could not be read of one of them.
    memory: Option<u64>,
    swap: Option<u64>,
    descriptors: Option<(u64, u32)>,
}

impl Sums {
    fn new() -> Self {
        Self { ticks: 0, stopped: 0, memory: Some(0), swap: Some(0), descriptors: Some((0, 0)) }
    }

    fn add(&mut self, pid: u32, look: &super::process::Look) {
        let plus = |sum: Option<u64>, more: Option<u64>| Some(sum?.saturating_add(more?));
        self.memory = plus(self.memory, look.memory);
        self.swap = plus(self.swap, look.swap);
        self.descriptors =
            self.descriptors.and_then(|most| Some(most.max((look.descriptors?, pid))));
    }

    fn put_into(&self, target: &Target, sample: &mut RunSample) {
        let (seconds, ticks) = {
            let per_second = proc_fs::clock_ticks_per_second();
            (self.ticks / per_second, self.ticks % per_second * 1_000_000_000 / per_second)
        };
        sample.cpu = Duration::new(seconds, u32::try_from(ticks).unwrap_or(0));
        if sample.processes == 0 {
            return;
        }
        sample.memory = self.memory.filter(|_| target.wants.memory);
        sample.swap = self.swap.filter(|_| target.wants.swap);
        if target.wants.descriptors {
            let most = self.descriptors;
            sample.descriptors = most.and_then(|(open, pid)| Process::descriptors(pid, open));
            if sample.descriptors.is_none() {
                sample.cannot_tell(
                    "its descriptors can't be read: run holdfast as root or as its user",
                );
            }
        }
    }
}

fn put_threads(threads: Threads, sample: &mut RunSample) {
    // One that has just been woken waits nowhere, too; but if all are like that, nothing is told.
    let told = threads.untold == 0 || threads.untold < threads.asleep;
    if !told {
        sample
            .cannot_tell("the kernel does not tell where its threads wait (no right to trace it?)");
    }
    let looked_at = 0 < threads.waits.looked_at;
    sample.lock_waits = Some(threads.waits).filter(|_| told && looked_at);
    let scheduled = threads.scheduled.filter(|_| looked_at);
    sample.switches = scheduled.map(|(times, _)| times);
    sample.run_delay = scheduled.map(|(_, nanos)| Duration::from_nanos(nanos));
    sample.uninterruptible = threads.uninterruptible;
}

/// Those that are no members have ended, or are about to be members at the next look.
fn zombies_among(children: &[u32], members: &[u32]) -> u32 {
    let outside = children.iter().filter(|child| members.binary_search(child).is_err());
    let zombies = outside.filter(|child| proc_fs::stat(**child).is_ok_and(|stat| !stat.is_alive()));
    u32::try_from(zombies.count()).unwrap_or(u32::MAX)
}

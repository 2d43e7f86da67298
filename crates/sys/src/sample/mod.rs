//! Looking at the processes of services again and again, at little cost (H4, H24).
//!
//! ```text
//! who belongs to it      cgroup.procs, or the descendants that carry its token
//! each process           stat · fd · task/* (state, wchan, schedstat, children) · smaps_rollup
//! its sockets            fd links, matched with one sock_diag dump for all services of a round
//! its control group      limits, frozen
//! ```
//! Why so much care: a thousand processes are looked at every few seconds, for years. Nothing is
//! executed for it; descriptors are kept open where that saves work; what is expensive
//! (proportional memory, descriptor links) is read seldom and within a budget.
//!
//! Invariants: a process that ends while it is looked at is a normal answer; a number that can't be
//! read is `None`, never 0; no process with a thread in uninterruptible sleep is asked for anything
//! that needs its memory lock, as we would hang with it.
//! Source: proc(5) and its pages, sock_diag(7), the kernel's Documentation/scheduler/sched-stats.rst.

mod files;
mod host;
mod members;
mod memory;
mod process;
mod room;
mod run;
mod sockets;
mod threads;

pub use host::{DiskSample, HostReader, HostSample, Pressure, disk};

use crate::cgroup::{Allowances, Group, Mounts};
use members::Orphans;
use memory::Budget;
use room::Room;
use run::RunWatch;
use sockets::SocketRound;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Processes of one run that are looked at. A run with more is a fork bomb; the number of its
/// processes is still right.
pub const PROCESSES_MAX: usize = 4096;

/// Threads of one run that are looked at one by one in a sample.
pub const THREADS_LOOKED_AT_MAX: u32 = 256;

/// Processes or threads in uninterruptible sleep that are named in a sample.
pub const UNINTERRUPTIBLE_MAX: usize = 16;

/// What a sample has to tell. What nobody wants is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wants {
    /// [`RunSample::memory`].
    pub memory: bool,
    /// [`RunSample::swap`].
    pub swap: bool,
    /// [`RunSample::descriptors`].
    pub descriptors: bool,
    /// [`RunSample::zombies`]; with [`Self::threads`] they are told in any case.
    pub zombies: bool,
    /// [`RunSample::lock_waits`], [`RunSample::switches`], [`RunSample::run_delay`] and
    /// [`RunSample::uninterruptible`]: where each thread sleeps, which costs most.
    pub threads: bool,
    /// [`RunSample::sockets`].
    pub sockets: bool,
}

impl Wants {
    /// Everything.
    pub const ALL: Self = Self {
        memory: true,
        swap: true,
        descriptors: true,
        zombies: true,
        threads: true,
        sockets: true,
    };
}

/// What is looked at: one run of one service.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Target {
    /// Its control group, where it has one of its own.
    pub group: Option<Group>,
    /// The value of [`crate::tree::TOKEN_VARIABLE`] in the environment of its processes.
    pub token: String,
    /// Its main process and others known to be its own. They count only without a group.
    pub known: Vec<u32>,
    /// What has to be told.
    pub wants: Wants,
}

/// One look at a run: all its processes together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RunSample {
    /// Processes alive, without zombies.
    pub processes: u32,
    /// Zombies among its children: ended, and not collected by their parent.
    pub zombies: u32,
    /// Threads of all processes.
    pub threads: u32,
    /// CPU time, user and system, of the processes that are alive now, since they began.
    pub cpu: Duration,
    /// How often their threads came onto a processor: at most [`THREADS_LOOKED_AT_MAX`] of them.
    pub switches: Option<u64>,
    /// Time that the same threads were ready to run and got no processor.
    pub run_delay: Option<Duration>,
    /// Bytes of memory: resident, less what was shared with others when that was last measured.
    pub memory: Option<u64>,
    /// Bytes of swap.
    pub swap: Option<u64>,
    /// Of the process that has most descriptors.
    pub descriptors: Option<Descriptors>,
    /// How its threads sleep.
    pub lock_waits: Option<LockWaits>,
    /// Threads in uninterruptible sleep, and where in the kernel; at most [`UNINTERRUPTIBLE_MAX`].
    pub uninterruptible: Vec<(u32, String)>,
    /// Its sockets.
    pub sockets: Option<SocketSample>,
    /// Bytes of memory that its control group may use, with the groups above it.
    pub memory_limit: Option<u64>,
    /// Processes and threads that its control group may have, with the groups above it.
    pub threads_limit: Option<u64>,
    /// All its processes are stopped or frozen.
    pub stopped: bool,
    /// Why something that was wanted could not be read: a sentence each, none twice.
    pub cannot_tell: Vec<&'static str>,
}

impl RunSample {
    fn cannot_tell(&mut self, why: &'static str) {
        if !self.cannot_tell.contains(&why) {
            self.cannot_tell.push(why);
        }
    }
}

/// Descriptors of one process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Descriptors {
    /// Open now.
    pub open: u64,
    /// `RLIMIT_NOFILE`, soft; `u64::MAX` without a limit.
    pub limit: u64,
}

/// How the threads of a run sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LockWaits {
    /// Threads that were looked at.
    pub looked_at: u32,
    /// Of these, asleep in a futex, a semaphore, a file lock, or a lock of the kernel.
    pub on_locks: u32,
    /// Of these, running or ready to run.
    pub running: u32,
}

/// The sockets of a run. Connections that it has not accepted yet are in `queue` and nowhere else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SocketSample {
    /// Connections that wait to be accepted, over all its listening sockets, TCP and Unix.
    pub queue: u32,
    /// The longest that these queues may become.
    pub queue_limit: u32,
    /// Established connections that it has accepted on its listening sockets.
    pub established: u32,
    /// Its TCP sockets in CLOSE_WAIT, those towards others included.
    pub close_wait: u32,
    /// Bytes that peers have acknowledged, over the established TCP connections.
    pub bytes_acked: u64,
    /// Bytes received, over the same.
    pub bytes_received: u64,
    /// How long the connection that has waited longest has waited to be accepted; zero if none
    /// waits, `None` where the kernel does not tell (Unix sockets).
    pub queue_waiting: Option<Duration>,
    /// Accepted connections whose peer waits for an answer; `None` where the kernel does not tell.
    pub unanswered: Option<Unanswered>,
}

/// Accepted connections whose peer waits for an answer: it has spoken since the program last sent
/// something, or nothing was ever acknowledged on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unanswered {
    /// How many.
    pub connections: u32,
    /// How long the one waits that has waited longest; zero if there is none.
    pub longest: Duration,
}

/// Looks at runs, each named by a `K`. Every call may block as long as /proc does.
#[derive(Debug)]
pub struct Sampler<K> {
    runs: BTreeMap<K, RunWatch>,
    orphans: Orphans,
    sockets: SocketRound,
    allowances: Allowances,
    scratch: Scratch,
}

/// What every look uses, so that none allocates its own.
#[derive(Debug)]
struct Scratch {
    /// What was read last. No file of /proc that we read here is longer.
    bytes: Vec<u8>,
    /// A path below a process's directory.
    path: String,
    /// What may still be spent on proportional memory.
    budget: Budget,
    /// For descriptors that are kept open.
    room: Room,
}

const SCRATCH_BYTES: usize = 16 * 1024;

impl<K: Ord + Clone> Sampler<K> {
    /// Looks at nothing yet. `adopter` is the process that orphans of the runs come to: without
    /// control groups they are found among its children.
    pub fn new(adopter: u32) -> Self {
        Self {
            runs: BTreeMap::new(),
            orphans: Orphans::new(adopter),
            sockets: SocketRound::default(),
            allowances: Allowances::new(Mounts::read()),
            scratch: Scratch {
                bytes: vec![0; SCRATCH_BYTES],
                path: String::new(),
                budget: Budget::new(crate::clock::now()),
                room: Room::of_this_process(),
            },
        }
    }

    /// This run is looked at from now on, or looked at differently.
    pub fn watch(&mut self, key: K, target: Target) {
        match self.runs.get_mut(&key) {
            Some(run) => run.change(target),
            None => {
                self.runs.insert(key, RunWatch::new(target));
            }
        }
    }

    /// This run is not looked at any more.
    pub fn unwatch(&mut self, key: &K) {
        self.runs.remove(key);
    }

    /// The processes that were seen of a run at its last look, by pid.
    pub fn processes(&self, key: &K) -> Vec<u32> {
        self.runs.get(key).map(|run| run.processes.keys().copied().collect()).unwrap_or_default()
    }

    /// One round: looks at those of `due` that are watched. Sockets are asked for once for all.
    pub fn look(&mut self, due: &BTreeSet<K>) -> Vec<(K, RunSample)> {
        self.look_at_each(due, |_| {})
    }

    /// The same; says before each run that it comes next, so that a look that hangs has a name.
    pub fn look_at_each(
        &mut self,
        due: &BTreeSet<K>,
        mut next: impl FnMut(&K),
    ) -> Vec<(K, RunSample)> {
        let now = crate::clock::now();
        self.scratch.budget.refill(now);
        let is_due = |key: &K| due.contains(key);
        let by_descent =
            self.runs.iter().any(|(key, run)| run.target().group.is_none() && is_due(key));
        if by_descent {
            self.orphans.look();
        }
        let mut samples = Vec::with_capacity(due.len());
        for (key, run) in self.runs.iter_mut().filter(|(key, _)| is_due(key)) {
            next(key);
            let sample = run.look(now, &self.orphans, &mut self.allowances, &mut self.scratch);
            samples.push((key.clone(), sample));
        }
        let wanting = self.runs.iter_mut().filter(|(_, run)| run.target().wants.sockets);
        let mut asked = samples.iter_mut().peekable();
        // Both are in the order of keys, so that one walk pairs them.
        let pairs = wanting.map(|(key, run)| {
            while asked.next_if(|(other, _)| other < key).is_some() {}
            let sample = asked.next_if(|(other, _)| other == key).map(|(_, sample)| sample);
            (run, sample)
        });
        self.sockets.fill(now, pairs.collect());
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::process::Stdio;

    #[test]
    fn h24_without_room_for_open_files_a_look_tells_the_same() {
        let mut command = std::process::Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // From then on it has all that it will ever have.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        // Where it sleeps may change with each look.
        let wants = Wants { threads: false, ..Wants::ALL };
        let look = |room: usize| {
            let mut sampler = Sampler::new(std::process::id());
            sampler.scratch.room = Room::of(room);
            let known = vec![child.id()];
            sampler.watch(1, Target { known, wants, ..Target::default() });
            // The first one opens what the second one finds open, if there is room.
            sampler.look(&BTreeSet::from([1]));
            let mut sample = sampler.look(&BTreeSet::from([1])).remove(0).1;
            let kept = sampler.runs.values().flat_map(|run| run.processes.values());
            assert_eq!(kept.filter(|process| process.is_kept()).count(), room / 3);
            // What is shared, and so not its own, depends on who else runs the same program.
            sample.memory = sample.memory.map(|memory| memory.min(1));
            sample.cpu = Duration::ZERO;
            sample
        };
        let (with, without) = (look(3), look(0));
        assert_eq!((with.processes, with.threads, with.memory), (1, 1, Some(1)));
        assert_eq!(with, without);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

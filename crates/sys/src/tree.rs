//! Who belongs to a run: everything that a service ever forked (D2).
//!
//! With a cgroup the kernel keeps the list. Without one: our descendants (we are a subreaper, so an
//! orphan comes to us) that carry the run's token in their environment, or stand in the session of
//! its first process, or descend from one that does. A process that escapes from all of these
//! (own session, emptied environment, parent dead) can only be held by a cgroup; a notice says so.
//!
//! Cost: with a cgroup one small file and one line of /proc for each member; without, the
//! environment of our own children; all of /proc is read only for a run of an earlier daemon, whose
//! orphans went to process 1.
//! State: hashes of the tokens of the last `SPAWNED_MAX` runs that were spawned by this very process.

use crate::cgroup::Group;
use crate::{pidfd, proc_fs, process};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};

/// The environment variable that carries the token of a run.
pub const TOKEN_VARIABLE: &str = "HOLDFAST_RUN";

/// Looks at a tree that is being killed, after each of which whoever is new is killed as well. A
/// fork bomb without a pids limit is not over after this many; the caller is told who is left.
const KILL_ROUNDS_MAX: usize = 64;

/// How long one round waits for those it has killed to end.
const KILL_ROUND_WAIT_MS: i64 = 50;

/// Rounds in which nothing but the same processes is left before they count as survivors.
const KILL_IDLE_ROUNDS_MAX: usize = 4;

/// Looks at a tree that forks while it is being stopped. Each one has fewer left that can fork.
const HOLD_ROUNDS_MAX: usize = 64;

/// Processes looked at by one walk. A tree beyond this is a fork bomb; it is killed in rounds.
const MEMBERS_MAX: usize = 65_536;

/// Tokens remembered of runs spawned here. One that has fallen out costs a full scan, no more.
const SPAWNED_MAX: usize = 8192;

static SPAWNED: Mutex<VecDeque<u64>> = Mutex::new(VecDeque::new());

/// How the processes of one run are found.
#[derive(Debug)]
pub struct Tree {
    /// Its cgroup, where there is one.
    pub group: Option<Group>,
    /// The value of [`TOKEN_VARIABLE`] in its environment.
    pub token: String,
    /// Its first process, and others known to be its own. Used without a cgroup only.
    pub known: Vec<u32>,
}

/// A process of a run that has not ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its pid.
    pub pid: u32,
    /// When it began, in clock ticks since boot.
    pub start_ticks: u64,
    /// As in [`proc_fs::Stat::state`]; never `Z`.
    pub state: char,
    /// Its parent.
    pub ppid: u32,
    /// For one in uninterruptible sleep (`D`): the kernel function, if the kernel tells.
    pub waits_in: Option<String>,
}

impl Tree {
    /// Everything alive of this run, in the order of pids. Zombies do not count.
    pub fn members(&self) -> Vec<Member> {
        self.look().into_values().collect()
    }

    /// Sends a signal to each member; gives those that were found.
    pub fn signal_all(&self, signal: i32) -> Vec<Member> {
        let found = self.look();
        for member in found.values() {
            signal_member(member, signal);
        }
        found.into_values().collect()
    }

    /// SIGKILL to each member, again and again until a look finds nobody new. Gives the survivors:
    /// processes in uninterruptible sleep, as a rule.
    pub fn kill_all(&self) -> Vec<Member> {
        let mut killed = BTreeSet::new();
        let mut idle_rounds = 0;
        for round in 0..KILL_ROUNDS_MAX {
            if let Some(group) = &self.group {
                // Kills those, too, that fork faster than we look. Without cgroup.kill, or if it
                // fails, the loop below does it.
                let _ = group.kill_all();
            }
            let mut found = self.look();
            if found.is_empty() {
                return Vec::new();
            }
            let is_new = |member: &Member| !killed.contains(&(member.pid, member.start_ticks));
            let progress = found.values().any(is_new);
            if progress && 0 < round {
                found = self.hold(found);
            }
            for member in found.values() {
                killed.insert((member.pid, member.start_ticks));
                signal_member(member, libc::SIGKILL);
            }
            wait_until_ended(found.values());
            idle_rounds = if progress { 0 } else { idle_rounds + 1 };
            if idle_rounds == KILL_IDLE_ROUNDS_MAX {
                break;
            }
        }
        self.members()
    }

    /// Lets nothing of it be scheduled any more: by the group's freezer, where there is one, else by
    /// SIGSTOP to each member until a look finds nobody new. SIGKILL still works on both.
    pub fn freeze(&self) -> std::io::Result<()> {
        if let Some(group) = &self.group
            && group.freeze()?
        {
            return Ok(());
        }
        let found = self.look();
        if found.is_empty() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "nothing of it is alive any more",
            ));
        }
        self.hold(found);
        Ok(())
    }

    /// Somebody forked while we killed. Whoever is stopped can't fork, so everybody is stopped
    /// before the next one is killed.
    fn hold(&self, mut found: BTreeMap<u32, Member>) -> BTreeMap<u32, Member> {
        let mut held = BTreeSet::new();
        for _ in 0..HOLD_ROUNDS_MAX {
            let before = held.len();
            for member in found.values() {
                if held.insert((member.pid, member.start_ticks)) {
                    signal_member(member, libc::SIGSTOP);
                }
            }
            if held.len() == before {
                break;
            }
            found = self.look();
        }
        found
    }

    fn look(&self) -> BTreeMap<u32, Member> {
        if let Some(group) = &self.group
            && let Ok(pids) = group.members()
        {
            return pids.into_iter().filter_map(look_at).map(|m| (m.pid, m)).collect();
        }
        // A group that can't be read has been removed from outside: the other way still works.
        self.walk()
    }

    fn walk(&self) -> BTreeMap<u32, Member> {
        let spawned_here = was_spawned_here(&self.token);
        let mut found = BTreeMap::new();
        let own = std::process::id();
        let mut queue: VecDeque<u32> = proc_fs::children(own).into();
        if spawned_here {
            queue.retain(|pid| self.owns(*pid));
        } else {
            queue = proc_fs::all_pids().into();
            queue.retain(|pid| *pid != own && self.owns(*pid));
        }
        while let Some(pid) = queue.pop_front() {
            if found.contains_key(&pid) || pid == own || MEMBERS_MAX <= found.len() {
                continue;
            }
            queue.extend(proc_fs::children(pid));
            if let Some(member) = look_at(pid) {
                found.insert(pid, member);
            }
        }
        found
    }

    /// Its environment says so, or it is in the session of a known process of this run. A session's
    /// number can't be given to another process as long as anybody is in it.
    fn owns(&self, pid: u32) -> bool {
        match proc_fs::environ_value(pid, TOKEN_VARIABLE) {
            Some(token) => token == self.token,
            None => proc_fs::stat(pid).is_ok_and(|stat| self.known.contains(&stat.session)),
        }
    }
}

/// All processes whose token begins with `prefix`: one look at all of /proc, for the start.
pub fn find_by_token_prefix(prefix: &str) -> Vec<(u32, String)> {
    let own = std::process::id();
    let pids = proc_fs::all_pids().into_iter().filter(|pid| *pid != own);
    pids.filter_map(|pid| Some((pid, proc_fs::environ_value(pid, TOKEN_VARIABLE)?)))
        .filter(|(pid, token)| token.starts_with(prefix) && look_at(*pid).is_some())
        .collect()
}

/// Called by `spawn`: all descendants of this run will be found among our own.
pub(crate) fn remember_spawned(env: &[(OsString, OsString)]) {
    let token = env.iter().find(|(key, _)| key.as_bytes() == TOKEN_VARIABLE.as_bytes());
    let Some((_, token)) = token else { return };
    let token = hash_of(&token.to_string_lossy());
    let mut spawned = SPAWNED.lock().unwrap_or_else(PoisonError::into_inner);
    if spawned.contains(&token) {
        return;
    }
    if spawned.len() == SPAWNED_MAX {
        spawned.pop_front();
    }
    spawned.push_back(token);
}

fn was_spawned_here(token: &str) -> bool {
    let spawned = SPAWNED.lock().unwrap_or_else(PoisonError::into_inner);
    spawned.contains(&hash_of(token))
}

fn hash_of(token: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    token.hash(&mut hasher);
    hasher.finish()
}

fn look_at(pid: u32) -> Option<Member> {
    let stat = proc_fs::stat(pid).ok()?;
    stat.is_alive().then(|| Member {
        pid,
        start_ticks: stat.start_ticks,
        state: stat.state,
        ppid: stat.ppid,
        waits_in: if stat.state == 'D' { proc_fs::wait_channel(pid) } else { None },
    })
}

/// Through a pidfd that is verified after it was opened: the pid may be another's by now.
fn signal_member(member: &Member, signal: i32) {
    match pidfd::open(member.pid) {
        Ok(fd) => {
            if proc_fs::is_same_process(member.pid, member.start_ticks) {
                // A refusal shows in the next look: the process is still there.
                let _ = pidfd::send_signal(fd.as_fd(), signal);
            }
        }
        // Out of descriptors: better the small risk of a number than a survivor.
        Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
            if proc_fs::is_same_process(member.pid, member.start_ticks) {
                process::kill(member.pid, signal);
            }
        }
        Err(_) => {}
    }
}

/// Waits until all have ended, or the round is over.
fn wait_until_ended<'a>(members: impl Iterator<Item = &'a Member>) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let deadline =
        crate::clock::now() + std::time::Duration::from_millis(KILL_ROUND_WAIT_MS as u64);
    for member in members {
        let Ok(fd) = pidfd::open(member.pid) else { continue };
        let left = crate::clock::now().until(deadline);
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
        let _ = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout));
        if left.is_zero() {
            return;
        }
    }
}

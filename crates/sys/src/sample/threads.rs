//! How the threads of a process sleep: on locks, in the depths of the kernel, or not at all.
//!
//! The kernel tells where a sleeping thread waits (`wchan`), by the name of a function. Those that
//! stand for locks are in [`LOCKS`]; their names have changed with the kernel's versions, and all of
//! them are known here.
//! Source: proc_pid_wchan(5), proc_pid_task(5); kernel/futex/, kernel/locking/, fs/locks.c,
//! ipc/sem.c of Linux 4.18 to 6.18.

use super::files;
use super::{LockWaits, Scratch, THREADS_LOOKED_AT_MAX, UNINTERRUPTIBLE_MAX};
use rustix::fs::Dir;
use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Beginnings of the names of functions in which a thread waits for a lock.
const LOCKS: [&str; 14] = [
    "futex_",
    "__futex_",
    "do_futex",
    "rt_mutex_",
    "__rt_mutex_",
    "rwsem_",
    "__mutex_lock",
    "mutex_lock",
    "__down",
    "do_semtimedop",
    "__do_semtimedop",
    "locks_lock_inode_wait",
    "fcntl_setlk",
    "flock_lock_inode_wait",
];

/// Where frozen processes wait: with version 1 of control groups in uninterruptible sleep.
const FROZEN: [&str; 2] = ["__refrigerator", "do_freezer_trap"];

/// Threads of one process whose children are asked for.
const TASKS_MAX: usize = 4096;

/// What was seen of all threads of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Threads {
    /// How many may still be looked at.
    pub(super) left: u32,
    /// How they sleep.
    pub(super) waits: LockWaits,
    /// Threads in an interruptible sleep, and those of them of which the kernel did not tell where.
    pub(super) asleep: u32,
    /// As above.
    pub(super) untold: u32,
    /// How often they came onto a processor, and nanoseconds that they waited for one; `None` if
    /// the kernel does not count it.
    pub(super) scheduled: Option<(u64, u64)>,
    /// Those in uninterruptible sleep.
    pub(super) uninterruptible: Vec<(u32, String)>,
    /// Children of theirs, alive or not.
    pub(super) children: Vec<u32>,
    /// Only their children are wanted.
    pub(super) only_children: bool,
}

impl Default for Threads {
    fn default() -> Self {
        Self {
            left: THREADS_LOOKED_AT_MAX,
            waits: LockWaits::default(),
            asleep: 0,
            untold: 0,
            scheduled: Some((0, 0)),
            uninterruptible: Vec::new(),
            children: Vec::new(),
            only_children: false,
        }
    }
}

/// Whether a process has a thread in uninterruptible sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Calm {
    Yes,
    No,
}

/// The first thread of a process.
pub(super) struct Main<'p> {
    /// Its number, and that of the process.
    pub(super) tid: u32,
    pub(super) state: u8,
    /// Its list of children, once it was opened.
    pub(super) children: &'p mut Option<OwnedFd>,
}

impl Threads {
    /// Looks at the threads of one process. `count` is their number.
    pub(super) fn look(
        &mut self,
        process: BorrowedFd<'_>,
        main: Main<'_>,
        count: u32,
        scratch: &mut Scratch,
    ) -> Calm {
        self.add_children_of_main(process, main.tid, main.children, scratch);
        if count <= 1 {
            return self.look_at(process, main.tid, main.state, scratch);
        }
        let Ok(tasks) = files::open_below(process, "task").and_then(|fd| Ok(Dir::new(fd)?)) else {
            return Calm::Yes;
        };
        let mut calm = Calm::Yes;
        for entry in tasks.flatten().take(TASKS_MAX) {
            let name = entry.file_name().to_bytes();
            let Some(tid) = files::number(name).and_then(|tid| u32::try_from(tid).ok()) else {
                continue;
            };
            if tid != main.tid
                && let Some(text) = read(process, tid, "children", scratch)
            {
                self.add_children(text);
            }
            let state = if self.is_worth_a_look() { state_of(process, tid, scratch) } else { None };
            if self.look_at(process, tid, state.unwrap_or(b'?'), scratch) == Calm::No {
                calm = Calm::No;
            }
        }
        calm
    }

    /// Most processes have one thread and no children, look after look: its list stays open.
    fn add_children_of_main(
        &mut self,
        process: BorrowedFd<'_>,
        tid: u32,
        list: &mut Option<OwnedFd>,
        scratch: &mut Scratch,
    ) {
        if list.is_none() {
            *list = open(process, tid, "children", scratch);
        }
        let Some(file) = list else { return };
        match files::read_again(file.as_fd(), &mut scratch.bytes) {
            Ok(text) => self.add_children(text),
            Err(_) => *list = None,
        }
    }

    fn add_children(&mut self, text: &[u8]) {
        if let Ok(text) = std::str::from_utf8(text) {
            self.children.extend(text.split_ascii_whitespace().flat_map(str::parse::<u32>));
        }
    }

    fn is_worth_a_look(&self) -> bool {
        !self.only_children && 0 < self.left
    }

    fn look_at(
        &mut self,
        process: BorrowedFd<'_>,
        tid: u32,
        state: u8,
        scratch: &mut Scratch,
    ) -> Calm {
        if !self.is_worth_a_look() {
            return if state == b'D' { Calm::No } else { Calm::Yes };
        }
        self.left -= 1;
        self.waits.looked_at += 1;
        let more = read(process, tid, "schedstat", scratch).and_then(scheduled);
        let sum = self.scheduled.zip(more);
        self.scheduled =
            sum.map(|(sum, more)| (sum.0.saturating_add(more.0), sum.1.saturating_add(more.1)));
        match state {
            b'R' => self.waits.running += 1,
            b'S' => {
                self.asleep += 1;
                match read(process, tid, "wchan", scratch) {
                    Some(text) if is_one_of(text, &LOCKS) => self.waits.on_locks += 1,
                    Some(b"0" | b"") | None => self.untold += 1,
                    Some(_) => {}
                }
            }
            b'D' => return self.look_deep(process, tid, scratch),
            _ => {}
        }
        Calm::Yes
    }

    fn look_deep(&mut self, process: BorrowedFd<'_>, tid: u32, scratch: &mut Scratch) -> Calm {
        let channel = read(process, tid, "wchan", scratch).unwrap_or(&[]);
        if is_one_of(channel, &FROZEN) {
            return Calm::Yes;
        }
        if is_one_of(channel, &LOCKS) {
            self.waits.on_locks += 1;
        }
        if self.uninterruptible.len() < UNINTERRUPTIBLE_MAX {
            let channel = if channel == b"0" { &[] } else { channel };
            self.uninterruptible.push((tid, String::from_utf8_lossy(channel).into_owned()));
        }
        Calm::No
    }
}

fn state_of(process: BorrowedFd<'_>, tid: u32, scratch: &mut Scratch) -> Option<u8> {
    let text = read(process, tid, "stat", scratch)?;
    let end = text.iter().rposition(|byte| *byte == b')')?;
    text.get(end + 2).copied()
}

fn read<'s>(
    process: BorrowedFd<'_>,
    tid: u32,
    file: &str,
    scratch: &'s mut Scratch,
) -> Option<&'s [u8]> {
    let file = open(process, tid, file, scratch)?;
    files::read_again(file.as_fd(), &mut scratch.bytes).ok()
}

fn open(process: BorrowedFd<'_>, tid: u32, file: &str, scratch: &mut Scratch) -> Option<OwnedFd> {
    scratch.path.clear();
    write!(scratch.path, "task/{tid}/{file}").ok()?;
    files::open_below(process, &scratch.path).ok()
}

/// Times on a processor, and nanoseconds in a queue for one: the third and the second number.
fn scheduled(text: &[u8]) -> Option<(u64, u64)> {
    let mut numbers = text.split(|byte| *byte == b' ').map(files::number);
    let (_, waited, times) = (numbers.next()?, numbers.next()??, numbers.next()??);
    Some((times, waited))
}

fn is_one_of(channel: &[u8], beginnings: &[&str]) -> bool {
    beginnings.iter().any(|beginning| channel.starts_with(beginning.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_told_from_other_sleeps_by_the_names_of_all_kernels() {
        for name in
            ["futex_wait_queue_me", "futex_wait_queue", "futex_do_wait", "rwsem_down_read_slowpath"]
        {
            assert!(is_one_of(name.as_bytes(), &LOCKS), "{name}");
        }
        for name in [
            "do_epoll_wait",
            "ep_poll",
            "hrtimer_nanosleep",
            "pipe_read",
            "unix_stream_read_generic",
            "0",
            "",
        ] {
            assert!(!is_one_of(name.as_bytes(), &LOCKS), "{name}");
        }
        assert_eq!(scheduled(b"82107561 3834373 89\n"), Some((89, 3_834_373)));
        assert_eq!(scheduled(b"0 0"), None);
    }
}

//! One process, as it is looked at again and again.

use super::files::{self, open_below, open_process};
use super::memory::Share;
use super::room::Reserved;
use super::sockets::Links;
use super::threads::{Calm, Main, Threads};
use super::{Descriptors, Scratch, Wants};
use crate::proc_fs::{self, Stat};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Entries of a descriptor directory that are counted where the kernel does not tell their number.
const DESCRIPTORS_COUNTED_MAX: usize = 65_536;

/// Descriptors that are kept open for one process.
const DESCRIPTORS_KEPT: usize = 3;

/// What is remembered of a process between two looks.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    start_ticks: u64,
    /// Its directory and its `stat`, kept open. They can't slip to another process.
    kept: Option<(OwnedFd, OwnedFd)>,
    /// The list of its first thread's children, kept open with them once it was wanted.
    children: Option<OwnedFd>,
    /// Room for all three; without it nothing is kept.
    reserved: Option<Reserved>,
    share: Share,
    pub(super) links: Links,
}

/// What one look has found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Look {
    pub(super) stat: Stat,
    pub(super) memory: Option<u64>,
    pub(super) swap: Option<u64>,
    pub(super) descriptors: Option<u64>,
}

impl Process {
    /// Begins to look at a process.
    pub(super) fn new(pid: u32, scratch: &mut Scratch) -> io::Result<Self> {
        let directory = open_process(pid)?;
        let file = open_below(directory.as_fd(), "stat")?;
        let stat = read_stat(file.as_fd(), scratch)?;
        let reserved = scratch.room.reserve(DESCRIPTORS_KEPT);
        Ok(Self {
            pid,
            start_ticks: stat.start_ticks,
            kept: reserved.is_some().then_some((directory, file)),
            children: None,
            reserved,
            share: Share::default(),
            links: Links::default(),
        })
    }

    /// Its files stay open from look to look.
    #[cfg(test)]
    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Calls `with` with its directory; fails once it has ended.
    pub(super) fn in_directory<T>(
        &mut self,
        with: impl FnOnce(&mut Self, BorrowedFd<'_>) -> T,
    ) -> io::Result<T> {
        match self.kept.take() {
            Some(kept) => {
                let result = with(self, kept.0.as_fd());
                self.kept = Some(kept);
                Ok(result)
            }
            None => {
                let directory = open_process(self.pid)?;
                Ok(with(self, directory.as_fd()))
            }
        }
    }

    /// One look. An error: it has ended.
    pub(super) fn look(
        &mut self,
        wants: Wants,
        threads: &mut Threads,
        scratch: &mut Scratch,
    ) -> io::Result<Look> {
        let stat = match &self.kept {
            Some((_, file)) => read_stat(file.as_fd(), scratch)?,
            None => proc_fs::stat(self.pid)?,
        };
        if stat.start_ticks != self.start_ticks {
            return Err(io::ErrorKind::NotFound.into());
        }
        if !stat.is_alive() {
            return Ok(Look { stat, memory: None, swap: None, descriptors: None });
        }
        self.in_directory(|own, directory| {
            own.look_inside(directory, stat, wants, threads, scratch)
        })
    }

    fn look_inside(
        &mut self,
        directory: BorrowedFd<'_>,
        stat: Stat,
        wants: Wants,
        threads: &mut Threads,
        scratch: &mut Scratch,
    ) -> Look {
        let state = u8::try_from(stat.state).unwrap_or(b'?');
        let calm = if wants.threads || threads.only_children {
            let main = Main { tid: self.pid, state, children: &mut self.children };
            let calm = threads.look(directory, main, stat.threads, scratch);
            if self.reserved.is_none() {
                self.children = None;
            }
            calm
        } else if state == b'D' {
            Calm::No
        } else {
            Calm::Yes
        };
        let memory = wants.memory.then(|| {
            let resident = stat.rss_pages.saturating_mul(proc_fs::page_size());
            let Scratch { bytes, budget, .. } = scratch;
            self.share.memory(resident, calm == Calm::Yes, directory, bytes, budget)
        });
        let swap = wants.swap.then(|| swap_of(directory, scratch)).flatten();
        let count = wants.descriptors || wants.sockets;
        let descriptors = count.then(|| count_descriptors(directory)).flatten();
        Look { stat, memory, swap, descriptors }
    }

    /// Its descriptors and its own limit of them.
    pub(super) fn descriptors(pid: u32, open: u64) -> Option<Descriptors> {
        let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a null pointer asks for nothing to be changed; the answer goes into `limit`.
        let done = unsafe {
            libc::prlimit64(
                pid.cast_signed(),
                libc::RLIMIT_NOFILE,
                std::ptr::null(),
                &raw mut limit,
            )
        };
        (done == 0).then_some(Descriptors { open, limit: limit.rlim_cur })
    }
}

fn read_stat(file: BorrowedFd<'_>, scratch: &mut Scratch) -> io::Result<Stat> {
    let line = files::read_again(file, &mut scratch.bytes)?;
    proc_fs::parse_stat(line).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn swap_of(directory: BorrowedFd<'_>, scratch: &mut Scratch) -> Option<u64> {
    let text = files::read_below(directory, "status", &mut scratch.bytes).ok()?;
    files::keyed(text, "VmSwap:").map(|kib| kib.saturating_mul(1024))
}

/// Since Linux 6.2 their number is the directory's size; before, they have to be counted.
fn count_descriptors(directory: BorrowedFd<'_>) -> Option<u64> {
    use rustix::fs::{AtFlags, Dir, statat};
    let size = statat(directory, "fd", AtFlags::empty()).ok()?.st_size;
    if let Some(size) = u64::try_from(size).ok().filter(|size| 0 < *size) {
        return Some(size);
    }
    let entries = Dir::new(open_below(directory, "fd").ok()?).ok()?.flatten();
    let names = entries.filter(|entry| entry.file_name().to_bytes().first() != Some(&b'.'));
    u64::try_from(names.take(DESCRIPTORS_COUNTED_MAX).count()).ok()
}

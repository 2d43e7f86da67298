//! A close look at a sick process, for whoever will look for the fault (H15).
//!
//! Each function writes one [`Page`] about some processes: text for people, in the words of the
//! usual tools. Nothing is executed, and nothing is changed about the processes.
//!
//! Why with so many bounds: a process is inspected *because* something is wrong with it. It may
//! have a hundred thousand descriptors, or hold the very lock that reading its memory map needs; in
//! the latter case the read hangs, and with it the thread that reads: see [`within`].
//! Invariants: a page never exceeds its [`Room`] by more than a line, and says what it leaves out;
//! a secret is never on one.
//! Source: proc(5) and its pages, sock_diag(7).

mod environment;
mod files;
mod memory;
mod process;
mod secret;
mod sockets;
mod threads;

pub use environment::environment;
pub use files::descriptors;
pub use memory::maps;
pub use process::{limits, processes};
pub use secret::{masked, masked_command};
pub use sockets::sockets;
pub use threads::{kernel_stacks, threads};

use base::Now;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// Threads that hang in a read and were given up, at most. Beyond it nothing is begun that could
/// hang as well.
pub const ABANDONED_MAX: usize = 16;

static ABANDONED: AtomicUsize = AtomicUsize::new(0);

/// How much may be written, and until when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Bytes of a page.
    pub bytes_max: usize,
    /// Nothing new is begun after this.
    pub until: Now,
}

/// What was written about something.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// The text; empty if nothing could be read.
    pub text: String,
    /// What is not in it, and why: a sentence each.
    pub missing: Vec<String>,
}

impl Page {
    fn miss(&mut self, why: impl Into<String>) {
        let why = why.into();
        if !self.missing.contains(&why) {
            self.missing.push(why);
        }
    }

    /// Something of one of these processes can't be read. One that has ended meanwhile leaves no
    /// gap, unless it is the first of them, which is the main one.
    fn miss_of(&mut self, pids: &[u32], pid: u32, what: &str, error: &std::io::Error) {
        if !is_gone(error) || pids.first() == Some(&pid) {
            self.miss(format!("{what} of process {pid} can't be read: {error}"));
        }
    }

    /// Adds a line if there is room for it. `false`: there is none, or no time.
    fn line(&mut self, room: &Room, line: &str) -> bool {
        if room.bytes_max < self.text.len().saturating_add(line.len() + 1) {
            self.miss("it was longer than what is kept");
            return false;
        }
        if room.until <= crate::clock::now() {
            self.miss("there was no time for more");
            return false;
        }
        let _ = writeln!(self.text, "{line}");
        true
    }

    /// Says at the end of the text what it leaves out, for those who see only the text.
    fn finished(mut self) -> Self {
        for why in &self.missing {
            let _ = writeln!(self.text, "({why})");
        }
        self
    }
}

/// The process has ended, or the thread.
fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT))
}

/// Why there is no answer from [`within`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Late {
    /// The work takes longer, or for ever.
    #[error("it took longer than it may; the process may hold the lock that is needed to look")]
    Hangs,
    /// So many earlier works hang that no other is begun.
    #[error("{ABANDONED_MAX} earlier looks still hang")]
    TooMany,
    /// No thread can be started.
    #[error("no thread can be started")]
    NoThread,
}

/// Does some work in a thread of its own, which is given up if it takes too long: it ends when it
/// can. At most [`ABANDONED_MAX`] of them hang at a time.
pub fn within<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Late> {
    if ABANDONED_MAX <= ABANDONED.load(Ordering::Acquire) {
        return Err(Late::TooMany);
    }
    let (sender, receiver) = sync_channel(1);
    // Counted as given up until it is done, so that nobody has to notice when one ends late.
    ABANDONED.fetch_add(1, Ordering::AcqRel);
    let started = std::thread::Builder::new().name("inspect".into()).spawn(move || {
        let result = work();
        ABANDONED.fetch_sub(1, Ordering::AcqRel);
        // Nobody listens any more if it is late.
        let _ = sender.send(result);
    });
    if started.is_err() {
        ABANDONED.fetch_sub(1, Ordering::AcqRel);
        return Err(Late::NoThread);
    }
    receiver.recv_timeout(time).map_err(|_| Late::Hangs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_to_its_room_and_says_what_it_leaves_out() {
        let soon = crate::clock::now() + Duration::from_mins(1);
        let (mut page, room) = (Page::default(), Room { bytes_max: 10, until: soon });
        assert!(page.line(&room, "12345"));
        assert!(!page.line(&room, "12345"));
        assert!(!page.line(&room, "12345"));
        let page = page.finished();
        assert_eq!(page.text, "12345\n(it was longer than what is kept)\n");
        assert_eq!(page.missing.len(), 1);
        let late = Room { bytes_max: 100, until: Now::ZERO };
        assert!(!Page::default().line(&late, "x"));
    }

    #[test]
    fn work_that_hangs_is_given_up_and_so_many_at_most() {
        let moment = Duration::from_millis(1);
        assert_eq!(within(Duration::from_mins(1), || 42), Ok(42));
        let gates: Vec<_> = (0..ABANDONED_MAX)
            .map(|_| {
                let (open, wait) = sync_channel::<()>(0);
                assert_eq!(within(moment, move || wait.recv().is_err()), Err(Late::Hangs));
                open
            })
            .collect();
        assert_eq!(within(Duration::from_mins(1), || 42), Err(Late::TooMany));
        drop(gates);
        let deadline = crate::clock::now() + Duration::from_secs(30);
        while within(Duration::from_mins(1), || 42) != Ok(42) {
            assert!(crate::clock::now() < deadline, "they have ended");
            std::thread::park_timeout(moment);
        }
    }
}

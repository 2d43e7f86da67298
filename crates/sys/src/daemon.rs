//! Becoming a daemon, on request only (D1).
//!
//! ```text
//! launcher ──fork──▶ session leader ──fork──▶ daemon (can never regain a terminal)
//!    │                    └─ ends at once         │
//!    └── waits for one word on a pipe ◀───────────┘  "up", or why not
//! ```
//! Invariants: the launcher ends with 0 only if the daemon said that it is up; a daemon that dies
//! before is noticed by the end of the pipe.
//! Source: daemon(7), setsid(2).

use crate::lock::{LockError, StateLock};
use rustix::fs::{Mode, OFlags, open};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Longest complaint that is passed on to the launcher.
const MESSAGE_BYTES_MAX: u64 = 64 * 1024;

/// The byte before a complaint, and the one that means "up".
const FAILED: u8 = b'E';
const UP: u8 = b'R';

/// Who we are after [`daemonize`] has returned, twice.
#[derive(Debug)]
pub enum Side {
    /// The process that was called; it waits, then ends.
    Launcher(ReadyWaiter),
    /// The new one.
    Daemon(ReadySender),
}

/// The launcher's end.
#[derive(Debug)]
pub struct ReadyWaiter {
    pipe: File,
    log: PathBuf,
}

/// The daemon's end.
#[derive(Debug)]
pub struct ReadySender {
    pipe: File,
}

/// Goes to the background: own session, no terminal, `/` as directory, umask 022, input from
/// /dev/null, output to `log` (made with mode 0600, appended to).
///
/// Must be called before any thread is started, and refuses otherwise: a copy of a process with
/// threads has their locks but not the threads (B18). Relative paths mean something else afterwards.
pub fn daemonize(log: &Path) -> io::Result<Side> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        let why = format!("can't go to the background with {threads} threads running");
        return Err(io::Error::other(why));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    let log_file = open(log, flags, Mode::RUSR | Mode::WUSR)?;
    let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: there is one thread, so the copy finds every lock as its only thread knows it.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(reader);
            become_daemon(writer, &log_file, &null)
        }
        first => {
            drop(writer);
            reap(first);
            Ok(Side::Launcher(ReadyWaiter { pipe: File::from(reader), log: log.to_owned() }))
        }
    }
}

fn become_daemon(writer: OwnedFd, log: &OwnedFd, null: &OwnedFd) -> io::Result<Side> {
    let sender = ReadySender { pipe: File::from(writer) };
    let prepared = rustix::process::setsid()
        .and_then(|_| rustix::process::chdir("/"))
        .map_err(io::Error::from)
        .and_then(|()| redirect(log, null));
    if let Err(error) = prepared {
        sender.failed(&format!("cannot go to the background: {error}"));
        exit_at_once(1);
    }
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    // A session leader could still get a terminal by opening one; its child can't.
    // SAFETY: there is one thread, see above.
    match unsafe { libc::fork() } {
        -1 => {
            let error = io::Error::last_os_error();
            sender.failed(&format!("cannot go to the background: {error}"));
            exit_at_once(1)
        }
        0 => Ok(Side::Daemon(sender)),
        _ => exit_at_once(0),
    }
}

fn redirect(log: &OwnedFd, null: &OwnedFd) -> io::Result<()> {
    for (target, source) in [(0, null), (1, log), (2, log)] {
        // SAFETY: both are descriptors of ours; the standard ones are replaced on purpose, and no
        // other thread uses them meanwhile.
        if unsafe { libc::dup2(source.as_raw_fd(), target) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Ends without running the launcher's exit handlers a second time.
fn exit_at_once(code: i32) -> ! {
    // SAFETY: ends the process; nothing follows.
    unsafe { libc::_exit(code) }
}

fn reap(pid: libc::pid_t) {
    // The session leader lives for microseconds only.
    let _ = crate::child::wait_for(libc::P_PID, pid.unsigned_abs(), libc::WEXITED);
}

impl ReadyWaiter {
    /// Waits until the daemon is up, or says why it is not. The caller bounds the wait of the
    /// daemon, which may have much to adopt; its death ends the wait at once.
    pub fn wait(self) -> Result<(), String> {
        let mut word = Vec::new();
        let read = self.pipe.take(MESSAGE_BYTES_MAX).read_to_end(&mut word);
        match (read, word.split_first()) {
            (Ok(_), Some((&UP, _))) => Ok(()),
            (Ok(_), Some((&FAILED, message))) => Err(String::from_utf8_lossy(message).into_owned()),
            _ => Err(format!(
                "the daemon ended before it was up; its last words are in {}",
                self.log.display()
            )),
        }
    }

    /// The pipe, for a caller that waits for several things.
    pub fn as_raw_fd(&self) -> i32 {
        self.pipe.as_raw_fd()
    }
}

impl ReadySender {
    /// Up: the launcher ends with success.
    pub fn ready(mut self) {
        // A launcher that was interrupted is no concern of the daemon's.
        let _ = self.pipe.write_all(&[UP]);
    }

    /// Not up: the launcher prints this and ends with failure.
    pub fn failed(mut self, message: &str) {
        let _ = self.pipe.write_all(&[&[FAILED], message.as_bytes()].concat());
    }
}

/// A file with our pid, locked as long as we live; removed when dropped.
#[derive(Debug)]
pub struct PidFile {
    lock: StateLock,
}

impl PidFile {
    /// Writes and locks it. A file that a dead daemon left behind is taken over.
    pub fn create(path: &Path) -> Result<Self, LockError> {
        StateLock::acquire(path).map(|lock| Self { lock })
    }

    /// The locked file: the lock lasts as long as this is open anywhere.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Goes on holding a file that the program before us had locked.
    pub fn from_fd(fd: OwnedFd, path: &Path) -> Self {
        Self { lock: StateLock::from_fd(fd, path) }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Removed while still locked: whoever opened it meanwhile sees that it is gone, and makes
        // a new one.
        let _ = std::fs::remove_file(self.lock.path());
    }
}

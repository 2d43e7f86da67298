//! One daemon per state directory, and pid files: a lock that dies with its holder.
//!
//! Why: a pid in a file proves nothing (G8); a lock that the kernel drops when its holder ends does.
//! The pid is written inside only so that a person can be told who it is.
//! Source: flock(2). The lock belongs to the open file, so it goes along through execve(2).

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a lock file may vanish under us before we give up: each time, its last holder has
/// removed it while we waited, which happens once or twice at most.
const TRIES_MAX: usize = 16;

/// How long a lock may outlive its holder. A daemon that is killed in the midst of executing a
/// program leaves the lock with that child, which lets go of it when the program begins.
const BEQUEATHED_MAX: Duration = Duration::from_secs(2);

/// Pause between two looks at such a lock.
const BEQUEATHED_PAUSE: Duration = Duration::from_millis(2);

/// Why a lock can't be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error(
        "{} is locked by {}: another holdfast uses it; stop that one first, or choose another \
         directory", path.display(), holder(*pid)
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who, if the file says.
        pid: Option<u32>,
    },
    /// It can't be opened or written.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// The lock on a state directory. Let go of when dropped, or when the process ends.
#[derive(Debug)]
pub struct StateLock {
    file: File,
    path: PathBuf,
}

impl StateLock {
    /// Takes the lock, and writes our pid into the file. Waits only, and shortly, for a lock whose
    /// holder is dead.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let failed = |source: io::Error| LockError::Io { path: path.to_owned(), source };
        let deadline = Instant::now() + BEQUEATHED_MAX;
        let mut tries = 0;
        while tries < TRIES_MAX {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
            let mut file = File::from(open(path, flags, mode).map_err(|e| failed(e.into()))?);
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    let pid = read_pid(&mut file);
                    if pid.is_none_or(is_alive) || deadline <= Instant::now() {
                        return Err(LockError::Held { path: path.to_owned(), pid });
                    }
                    std::thread::park_timeout(BEQUEATHED_PAUSE);
                    continue;
                }
                Err(error) => return Err(failed(error.into())),
            }
            // The last holder may have removed the file after we opened it: then we hold a lock
            // on nothing, and the next comer would hold one on a new file.
            if is_same_file(&file, path) {
                write_pid(&mut file).map_err(failed)?;
                return Ok(Self { file, path: path.to_owned() });
            }
            tries += 1;
        }
        Err(failed(io::Error::from(io::ErrorKind::ResourceBusy)))
    }

    /// The open file that carries the lock, to be passed on through an exec.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The lock that came to us through an exec. The caller knows that `fd` carries it.
    pub fn from_fd(fd: OwnedFd, path: &Path) -> Self {
        Self { file: File::from(fd), path: path.to_owned() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn is_alive(pid: u32) -> bool {
    crate::proc_fs::stat(pid).is_ok_and(|stat| stat.is_alive())
}

fn is_same_file(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(named)) = (file.metadata(), std::fs::symlink_metadata(path)) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (named.dev(), named.ino())
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_holds_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("holdfast.lock");
        // What an earlier daemon left behind stops nobody (G8).
        std::fs::write(&path, "1\nsome more old text").unwrap();
        let held = StateLock::acquire(&path).unwrap();
        let Err(LockError::Held { pid, .. }) = StateLock::acquire(&path) else { panic!() };
        assert_eq!(pid, Some(std::process::id()));

        let copy = held.as_fd().try_clone_to_owned().unwrap();
        drop(held);
        assert!(StateLock::acquire(&path).is_err(), "the copy still carries the lock");
        drop(StateLock::from_fd(copy, &path));
        assert!(StateLock::acquire(&path).is_ok());
    }

    #[test]
    fn a_lock_that_outlives_its_holder_for_a_moment_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("holdfast.lock");
        let held = StateLock::acquire(&path).unwrap();
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        std::fs::write(&path, format!("{}\n", dead.id())).unwrap();
        let opened = || {
            let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            links.filter(|link| std::fs::read_link(link.path()).is_ok_and(|to| to == path)).count()
        };
        std::thread::scope(|scope| {
            let next = scope.spawn(|| StateLock::acquire(&path));
            // It has come to the lock: now what held it lets go.
            while opened() < 2 && !next.is_finished() {
                std::thread::yield_now();
            }
            drop(held);
            let next = next.join().unwrap().unwrap();
            assert_eq!(read_pid(&mut File::open(next.path()).unwrap()), Some(std::process::id()));
        });
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = StateLock::acquire(Path::new("/nonexistent/holdfast.lock")).unwrap_err();
        assert_eq!(error.to_string(), "cannot lock /nonexistent/holdfast.lock");
    }
}

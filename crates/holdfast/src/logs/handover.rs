//! Who keeps the logs: one duty per state directory, and how a new one takes over from an old one.
//!
//! ```text
//! new: try the lock ── free ──────────────────────────────► it is ours
//!        └─ held ─► ask the holder over <run>/logs.sock to yield
//!                     ├─ it answers with its untold losses and exits ─► the lock is free
//!                     └─ silence for 2 s ─► SIGKILL, by a verified identity ─► the lock is free
//! ```
//! Why a kill is no harm: output that is not in a file yet is still in its pipe (`pipe.rs`), and the
//! kernel keeps the pipe as long as the service, the root or one of us holds it open.
//! Invariant: two duties never read one pipe.

use super::protocol::{UntoldLoss, YieldRequest, Yielded};
use anyhow::{Context, bail};
use control::{decode_frame, encode_frame};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long an old duty may take to answer, and then to exit.
pub(super) const YIELD_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long a killed one may take to disappear.
const KILL_WAIT_MAX: Duration = Duration::from_secs(5);

/// Longest answer: a few dozen bytes per stream that is losing.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

const SIGKILL: i32 = 9;

/// The lock, held until this is dropped.
#[derive(Debug)]
pub(super) struct Ownership {
    _lock: File,
    /// Losses that the one before us had not told yet.
    pub(super) untold: Vec<UntoldLoss>,
    /// What went wrong on the way here.
    pub(super) notices: Vec<String>,
}

/// Who holds the lock, as it stands in the lock file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Holder {
    pid: u32,
    start_ticks: u64,
}

/// Takes the lock of `state_dir`, from another duty if need be.
pub(super) fn take_over(state_dir: &Path, socket: &Path) -> anyhow::Result<Ownership> {
    let path = state_dir.join("logs.lock");
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let (mut untold, mut notices) = (Vec::new(), Vec::new());
    if !try_lock(&lock)? {
        match ask_to_yield(&lock, socket) {
            Ok(yielded) => untold = yielded.untold,
            Err(why) => {
                let holder = kill_holder(&mut lock)?;
                notices.push(format!(
                    "the previous logs duty (pid {}) did not hand over ({why:#}): it was killed; \
                     output waiting in the pipes is kept",
                    holder.pid
                ));
            }
        }
        if !try_lock(&lock)? {
            bail!(
                "{} is held by another process again; is a second holdfast running on this state \
                   directory?",
                path.display()
            );
        }
    }
    write_holder(&mut lock).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Ownership { _lock: lock, untold, notices })
}

fn try_lock(lock: &File) -> anyhow::Result<bool> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock logs.lock"),
    }
}

fn write_holder(lock: &mut File) -> anyhow::Result<()> {
    let pid = std::process::id();
    let start_ticks = sys::proc_fs::stat(pid)?.start_ticks;
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    lock.write_all(format!("{pid} {start_ticks}\n").as_bytes())?;
    Ok(())
}

fn read_holder(lock: &mut File) -> anyhow::Result<Holder> {
    let mut text = String::new();
    lock.seek(SeekFrom::Start(0))?;
    lock.take(100).read_to_string(&mut text)?;
    let mut words = text.split_whitespace();
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    let (Some(pid), Some(start_ticks)) = (number(), number()) else {
        bail!("logs.lock does not say who holds it");
    };
    Ok(Holder { pid: u32::try_from(pid)?, start_ticks })
}

/// Asks, waits for the answer, and for the holder to be gone.
fn ask_to_yield(lock: &File, socket: &Path) -> anyhow::Result<Yielded> {
    let deadline = Instant::now() + YIELD_WAIT_MAX;
    let holder = read_holder(&mut lock.try_clone()?)?;
    let process = open_holder(holder)?;
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_write_timeout(Some(YIELD_WAIT_MAX))?;
    stream.write_all(&encode_frame(&YieldRequest { pid: std::process::id() })?)?;
    let mut answer = Vec::new();
    let mut block = vec![0; 64 * 1024];
    let yielded = loop {
        if let Some((yielded, _)) = decode_frame::<Yielded>(&answer)? {
            break yielded;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("no answer within {} s", YIELD_WAIT_MAX.as_secs());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut block) {
            Ok(0) => bail!("it closed the connection without an answer"),
            Ok(read) if answer.len() + read <= ANSWER_BYTES_MAX => {
                answer.extend_from_slice(&block[..read]);
            }
            Ok(_) => bail!("its answer is too long"),
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error).context("cannot read its answer"),
        }
    };
    if !wait_for_end(&process, deadline) {
        bail!("it answered, but did not exit");
    }
    Ok(yielded)
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// A handle of the holder that can't come to mean another process.
fn open_holder(holder: Holder) -> anyhow::Result<OwnedFd> {
    let process = sys::pidfd::open(holder.pid)
        .with_context(|| format!("cannot open process {}", holder.pid))?;
    // Looked at after opening: from here on the handle and the number mean the same process.
    if !sys::proc_fs::is_same_process(holder.pid, holder.start_ticks) {
        bail!("process {} is not the one that took the lock", holder.pid);
    }
    Ok(process)
}

fn kill_holder(lock: &mut File) -> anyhow::Result<Holder> {
    let holder = read_holder(lock)?;
    // It may have gone in the last moment; then there is nobody left to kill.
    if try_lock(lock)? {
        return Ok(holder);
    }
    let process = open_holder(holder).context(
        "the logs of this state directory are kept by a process that can't be identified",
    )?;
    sys::pidfd::send_signal(process.as_fd(), SIGKILL)
        .with_context(|| format!("cannot kill the previous logs duty (pid {})", holder.pid))?;
    if !wait_for_end(&process, Instant::now() + KILL_WAIT_MAX) {
        bail!("the previous logs duty (pid {}) does not end, even by SIGKILL", holder.pid);
    }
    Ok(holder)
}

/// True once the process has ended.
fn wait_for_end(process: &OwnedFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout)) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}

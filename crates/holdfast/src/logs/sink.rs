//! One log file: takes output from a pipe, rotates, and survives a disk that can't be written.
//!
//! Invariants: every byte taken from the pipe is in a file, or is counted as lost and told by a
//! line in the file once it can be written; the pipe is drained in every state; files end at line
//! ends (see [`rotation`]).

use super::files::{self, Opened, Unfinished};
use super::pipe::{Peek, Source};
use super::rotation::{self, FileState, Then};
use rustix::io::Errno;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The most that one stream moves before it is the next one's turn.
pub(super) const TURN_BYTES: usize = 64 * 1024;

/// After a failed write or rotation, the next try comes this much later.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How often we look whether somebody moved or removed the file under us.
const PATH_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How a log file is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SinkPolicy {
    pub(super) path: PathBuf,
    pub(super) size_max: u64,
    pub(super) age_max: Option<Duration>,
    pub(super) keep: u32,
    pub(super) compress: bool,
}

/// What the owner should tell the root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SinkEvent {
    Failing { message: String },
    Lost(Loss),
}

/// Output that could not be kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Loss {
    pub(super) bytes: u64,
    pub(super) lines: u64,
    pub(super) reason: String,
}

#[derive(Debug)]
pub(super) struct Sink {
    policy: SinkPolicy,
    state: State,
    /// When the file becomes too old; `None`: never, or this was acted on already.
    age_deadline: Option<Instant>,
    /// No rotation before this, after one failed.
    rotate_after: Option<Instant>,
    path_check: Instant,
    /// Rotated files may be waiting to be compressed.
    pub(super) wants_compression: bool,
}

#[derive(Debug)]
enum State {
    Writing(Opened),
    /// Output is taken, counted and dropped.
    Losing {
        loss: Loss,
        retry_at: Instant,
    },
}

impl Sink {
    /// Opens the log file; where that fails, begins by losing. `carried`: a loss of an earlier
    /// process that no line tells yet.
    pub(super) fn open(
        policy: SinkPolicy,
        carried: Option<Loss>,
        unfinished: &mut Unfinished,
        events: &mut Vec<SinkEvent>,
    ) -> Self {
        let now = Instant::now();
        unfinished.remove(&policy.path);
        files::tidy(&policy.path, policy.keep);
        let loss = carried.unwrap_or(Loss { bytes: 0, lines: 0, reason: String::new() });
        let mut sink = Self {
            wants_compression: policy.compress,
            policy,
            state: State::Losing { loss, retry_at: now },
            age_deadline: None,
            rotate_after: None,
            path_check: now + PATH_CHECK_INTERVAL,
        };
        sink.recover(now, events);
        sink
    }

    /// Where it writes.
    pub(super) fn path(&self) -> &Path {
        &self.policy.path
    }

    pub(super) fn policy(&self) -> &SinkPolicy {
        &self.policy
    }

    /// A loss that no line in the file tells yet.
    pub(super) fn untold_loss(&self) -> Option<&Loss> {
        match &self.state {
            State::Losing { loss, .. } if 0 < loss.bytes => Some(loss),
            State::Losing { .. } | State::Writing(_) => None,
        }
    }

    /// When [`Self::on_time`] wants to be called.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        match &self.state {
            State::Losing { retry_at, .. } => Some(*retry_at),
            State::Writing(_) => self.age_deadline,
        }
    }

    pub(super) fn on_time(&mut self, now: Instant, events: &mut Vec<SinkEvent>) {
        match &mut self.state {
            State::Losing { retry_at, .. } if *retry_at <= now => self.recover(now, events),
            State::Writing(open) if self.age_deadline.is_some_and(|at| at <= now) => {
                // Once: if a line is just unfinished, its end will rotate.
                self.age_deadline = None;
                if matches!(open.state(), Ok(s) if s.end == rotation::LineEnd::AtLineStart) {
                    self.rotate(now, events);
                }
            }
            State::Losing { .. } | State::Writing(_) => {}
        }
    }

    /// Takes up to [`TURN_BYTES`] from the pipe. Returns how much; 0 when it is empty.
    pub(super) fn turn(
        &mut self,
        source: &Source,
        peek: &mut Peek,
        scratch: &mut [u8],
        events: &mut Vec<SinkEvent>,
    ) -> io::Result<u64> {
        let now = Instant::now();
        if matches!(&self.state, State::Losing { retry_at, .. } if *retry_at <= now) {
            self.recover(now, events);
        }
        if let State::Losing { loss, .. } = &mut self.state {
            return discard(source, scratch, loss);
        }
        self.notice_moved_file(now, events);
        let mut moved = 0;
        match self.append(now, source, peek, scratch, &mut moved, events) {
            Ok(()) | Err(Failure { error: Errno::AGAIN, .. }) => {}
            Err(failure) => self.begin_losing(now, &failure, events),
        }
        Ok(moved)
    }

    fn append(
        &mut self,
        now: Instant,
        source: &Source,
        peek: &mut Peek,
        scratch: &mut [u8],
        moved: &mut u64,
        events: &mut Vec<SinkEvent>,
    ) -> Result<(), Failure> {
        let State::Writing(open) = &mut self.state else { return Ok(()) };
        // The file's length is the truth, also if somebody emptied it.
        let size = open.file.seek(SeekFrom::End(0)).map_err(errno)?;
        if size == 0 {
            open.began = now;
            self.age_deadline = self.policy.age_max.map(|age| now + age);
        }
        let age = now.saturating_duration_since(open.began);
        let may_rotate = self.rotate_after.is_none_or(|after| after <= now);
        let limit = if !may_rotate {
            u64::MAX
        } else if rotation::is_too_old(age, self.policy.age_max, size) {
            0
        } else {
            self.policy.size_max
        };
        if TURN_BYTES as u64 <= limit.saturating_sub(size) {
            return transfer(open, source, TURN_BYTES, scratch, moved);
        }
        let state = FileState { size, end: open.line_end(size).map_err(errno)? };
        let chunk = peek.look(source)?;
        if chunk.is_empty() {
            return Ok(());
        }
        let cut = rotation::cut(state, limit, chunk);
        let mut left = cut.take;
        while 0 < left {
            let before = *moved;
            transfer(open, source, left, scratch, moved)?;
            if *moved == before {
                // Seen a moment ago, and gone: nobody else may read this pipe.
                return Err(Errno::PIPE.into());
            }
            left = left.saturating_sub((*moved - before) as usize);
        }
        if cut.then == Then::Rotate {
            self.rotate(now, events);
        }
        Ok(())
    }

    fn rotate(&mut self, now: Instant, events: &mut Vec<SinkEvent>) {
        match files::rotate(&self.policy.path, self.policy.keep) {
            Ok(file) => {
                self.rotate_after = None;
                self.age_deadline = None;
                self.wants_compression = self.policy.compress;
                self.state = State::Writing(file);
            }
            Err(error) => {
                if self.rotate_after.is_none() {
                    let path = self.policy.path.display();
                    let message =
                        format!("cannot rotate {path}: {error}; it grows until that works again");
                    events.push(SinkEvent::Failing { message });
                }
                self.rotate_after = Some(now + RETRY_INTERVAL);
            }
        }
    }

    fn begin_losing(&mut self, now: Instant, failure: &Failure, events: &mut Vec<SinkEvent>) {
        let reason = reason_of(failure.error);
        events.push(SinkEvent::Failing {
            message: format!(
                "cannot write {}: {reason}; output is dropped and counted until it can be written",
                self.policy.path.display()
            ),
        });
        let loss = Loss { bytes: failure.bytes, lines: failure.lines, reason };
        self.state = State::Losing { loss, retry_at: now + RETRY_INTERVAL };
    }

    /// Tries to write again: opens the file and tells the loss in it.
    fn recover(&mut self, now: Instant, events: &mut Vec<SinkEvent>) {
        let State::Losing { loss, retry_at } = &mut self.state else { return };
        let opened = files::open(&self.policy.path).and_then(|mut open| {
            tell(&mut open, loss)?;
            Ok(open)
        });
        match opened {
            Ok(open) => {
                if 0 < loss.bytes {
                    events.push(SinkEvent::Lost(loss.clone()));
                }
                let age = now.saturating_duration_since(open.began);
                self.age_deadline = self.policy.age_max.map(|max| now + max.saturating_sub(age));
                self.state = State::Writing(open);
            }
            Err(error) => {
                if loss.reason.is_empty() {
                    loss.reason =
                        Errno::from_io_error(&error).map_or_else(|| error.to_string(), reason_of);
                    events.push(SinkEvent::Failing {
                        message: format!(
                            "cannot open log {}: {error}; output is dropped and counted until that \
                             works",
                            self.policy.path.display()
                        ),
                    });
                }
                *retry_at = now + RETRY_INTERVAL;
            }
        }
    }

    /// If the file was moved or removed by somebody else, begins a new one, so that nothing is
    /// written where nobody looks.
    fn notice_moved_file(&mut self, now: Instant, events: &mut Vec<SinkEvent>) {
        let State::Writing(open) = &self.state else { return };
        if now < self.path_check {
            return;
        }
        self.path_check = now + PATH_CHECK_INTERVAL;
        let there = std::fs::symlink_metadata(&self.policy.path);
        if matches!(there, Ok(meta) if meta.ino() == open.inode && meta.dev() == open.device) {
            return;
        }
        let loss = Loss { bytes: 0, lines: 0, reason: String::new() };
        self.state = State::Losing { loss, retry_at: now };
        self.recover(now, events);
    }
}

/// Why output did not reach the file, and what was taken from the pipe without reaching it.
struct Failure {
    error: Errno,
    bytes: u64,
    lines: u64,
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Self { error, bytes: 0, lines: 0 }
    }
}

/// Moves up to `length` bytes from the pipe to the end of the file, adding to `moved`.
fn transfer(
    open: &mut Opened,
    source: &Source,
    length: usize,
    scratch: &mut [u8],
    moved: &mut u64,
) -> Result<(), Failure> {
    if open.splices {
        match source.splice_to(&open.file, length) {
            Ok(spliced) => {
                *moved += spliced as u64;
                return Ok(());
            }
            // This file system can't; by way of our memory then.
            Err(Errno::INVAL) => open.splices = false,
            Err(error) => return Err(error.into()),
        }
    }
    let most = length.min(scratch.len());
    let read = source.read(&mut scratch[..most])?;
    *moved += read as u64;
    let mut rest = &scratch[..read];
    while !rest.is_empty() {
        match rustix::io::write(&open.file, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(error) => {
                return Err(Failure { error, bytes: rest.len() as u64, lines: line_ends(rest) });
            }
        }
    }
    Ok(())
}

fn line_ends(bytes: &[u8]) -> u64 {
    (bytes.split(|b| *b == b'\n').count() - 1) as u64
}

/// Takes output and drops it, counted.
fn discard(source: &Source, scratch: &mut [u8], loss: &mut Loss) -> io::Result<u64> {
    match source.read(scratch) {
        Ok(read) => {
            loss.bytes += read as u64;
            loss.lines += line_ends(&scratch[..read]);
            Ok(read as u64)
        }
        Err(Errno::AGAIN) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Writes the line that tells a loss, whole or not at all.
fn tell(open: &mut Opened, loss: &Loss) -> io::Result<()> {
    if loss.bytes == 0 {
        return Ok(());
    }
    let size = open.file.seek(SeekFrom::End(0))?;
    let fresh_line = match open.line_end(size)? {
        rotation::LineEnd::AtLineStart => "",
        rotation::LineEnd::WithinLine => "\n",
    };
    let line = format!("{fresh_line}[holdfast: {} bytes lost: {}]\n", loss.bytes, loss.reason);
    open.file.write_all(line.as_bytes()).inspect_err(|_| {
        // Half a line about a loss would be worse than none; it is tried again anyway.
        let _ = open.file.set_len(size);
    })
}

fn reason_of(error: Errno) -> String {
    match error {
        Errno::NOSPC | Errno::DQUOT => "disk full".to_owned(),
        other => io::Error::from(other).to_string(),
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

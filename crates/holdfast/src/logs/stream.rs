//! One output stream of one instance: its pipe, its log file, and who waits for it to be drained.

use super::files::Unfinished;
use super::pipe::{Peek, Source};
use super::protocol::WatchPolicy;
use super::sink::{Loss, Sink, SinkEvent, SinkPolicy};
use base::InstanceId;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which stream of which instance.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct StreamKey {
    pub(super) instance: InstanceId,
    pub(super) channel: Channel,
}

/// Which of an instance's streams.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Channel {
    /// Standard output, and standard error where it is not split off.
    Output,
    /// Standard error alone.
    Error,
}

impl StreamKey {
    /// `<state>/fifo/<instance>.out` or `.err`.
    pub(super) fn pipe_path(&self, state_dir: &Path) -> PathBuf {
        let ending = match self.channel {
            Channel::Output => "out",
            Channel::Error => "err",
        };
        state_dir.join("fifo").join(format!("{}.{ending}", self.instance))
    }

    /// `<state>/logs/<instance>.log` or `.err.log`.
    pub(super) fn default_log(&self, state_dir: &Path) -> PathBuf {
        let ending = match self.channel {
            Channel::Output => "log",
            Channel::Error => "err.log",
        };
        state_dir.join("logs").join(format!("{}.{ending}", self.instance))
    }

    /// How this stream is kept by `policy`.
    pub(super) fn sink_policy(&self, policy: &WatchPolicy, state_dir: &Path) -> SinkPolicy {
        let path = match (&policy.path, self.channel) {
            (None, _) => self.default_log(state_dir),
            (Some(path), Channel::Output) => path.clone(),
            (Some(path), Channel::Error) => stderr_path(path),
        };
        SinkPolicy {
            // In one form, so that two that mean the same are equal byte by byte.
            path: path.components().collect(),
            // 0 would rotate at every line.
            size_max: policy.size_max.max(1),
            age_max: policy.age_max_ms.map(Duration::from_millis),
            keep: policy.keep,
            compress: policy.compress,
        }
    }
}

/// The file of standard error alone: `/x/web.log` → `/x/web.err.log`.
pub(crate) fn stderr_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match name.strip_suffix(".log") {
        Some(stem) => path.with_file_name(format!("{stem}.err.log")),
        None => path.with_file_name(format!("{name}.err")),
    }
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) source: Source,
    pub(super) sink: Sink,
    /// Bytes taken from the pipe since we opened it.
    taken: u64,
}

impl Stream {
    pub(super) fn open(
        pipe: &Path,
        policy: SinkPolicy,
        carried: Option<Loss>,
        unfinished: &mut Unfinished,
        events: &mut Vec<SinkEvent>,
    ) -> io::Result<Self> {
        let source = Source::open(pipe)?;
        Ok(Self { source, sink: Sink::open(policy, carried, unfinished, events), taken: 0 })
    }

    /// Takes one turn's worth from the pipe; 0 when it is empty.
    pub(super) fn turn(
        &mut self,
        peek: &mut Peek,
        scratch: &mut [u8],
        events: &mut Vec<SinkEvent>,
    ) -> io::Result<u64> {
        let moved = self.sink.turn(&self.source, peek, scratch, events)?;
        self.taken += moved;
        if moved == 0 {
            self.source.hold_if_abandoned()?;
        }
        Ok(moved)
    }

    /// The mark that [`Self::has_reached`] is true for once everything now in the pipe was taken.
    pub(super) fn mark(&self) -> io::Result<u64> {
        Ok(self.taken + self.source.waiting()?)
    }

    pub(super) fn has_reached(&self, mark: u64) -> bool {
        mark <= self.taken
    }
}

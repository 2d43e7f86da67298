//! What services write, as supervisord's events `PROCESS_LOG_…` and `PROCESS_COMMUNICATION_…`.
//!
//! Why from the log files: the duty `logs` moves output from pipe to file in the kernel, and nobody
//! here can make it wait. So a listener that is slow costs events, and never a line of a log.
//! Invariants: only services with `output_events` are followed, and only while a listener wants such
//! events; at most [`READ_BYTES`] of one output are in hand; who is [`BEHIND_MAX`] behind goes on at the
//! end, and it is said. What was written while this duty did not run is not told.

use super::configuration::log_path;
use crate::paths::Paths;
use config::Config;
use journal::logfile::{Follow, follow, follow_from_start};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use supervisor::OutputEvents;
use supervisord::ProcessName;
use supervisord::event::Payload;
use supervisord::output::{Output, Piece};

/// Between two looks.
pub(super) const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Taken from one output at one look: as much as one event carries.
const READ_BYTES: usize = 64 * 1024;

/// Whoever is further behind than this misses something.
const BEHIND_MAX: u64 = 16 * 1024 * 1024;

/// One of the two outputs of an instance.
type Key = (String, bool);

/// All that are followed.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    streams: BTreeMap<Key, Stream>,
}

#[derive(Debug)]
struct Stream {
    path: PathBuf,
    tells_log: bool,
    limit: usize,
    output: Output,
    follow: Option<Follow>,
    /// A file that is younger than this is told from its beginning.
    since: SystemTime,
    pid: u32,
}

/// What one look at one output brought.
#[derive(Debug)]
pub(super) struct Read {
    key: Key,
    bytes: Vec<u8>,
    /// Passed over, because there was too much.
    pub(super) skipped: u64,
}

impl Read {
    pub(super) fn instance(&self) -> &str {
        &self.key.0
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() == READ_BYTES
    }
}

impl Outputs {
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    pub(super) fn has(&self, instance: &str) -> bool {
        [false, true]
            .into_iter()
            .any(|is_error| self.streams.contains_key(&(instance.to_owned(), is_error)))
    }

    /// Follows what is to be told by `config`. What is followed already goes on.
    pub(super) fn configure(&mut self, config: &Config, paths: &Paths, since: SystemTime) {
        let mut wanted = BTreeMap::new();
        for spec in config.services.values().filter(|spec| spec.listener.is_none()) {
            for instance in spec.instance_ids() {
                let out = log_path(paths, spec, &instance);
                for (is_error, path) in
                    [(false, out.clone()), (true, crate::logs::stream::stderr_path(&out))]
                {
                    if let Some(stream) = Stream::new(spec.output_events, is_error, path, since) {
                        wanted.insert((instance.to_string(), is_error), stream);
                    }
                }
            }
        }
        for (key, stream) in &mut wanted {
            if let Some(old) = self.streams.remove(key).filter(|old| old.is_like(stream)) {
                *stream = old;
            }
        }
        self.streams = wanted;
    }

    /// Takes what is new, of one instance or of all. May block.
    pub(super) fn read(&mut self, only: Option<&str>) -> Vec<Read> {
        let mut all = Vec::new();
        for (key, stream) in &mut self.streams {
            if only.is_some_and(|only| only != key.0) {
                continue;
            }
            match stream.read() {
                Ok((bytes, skipped)) if !bytes.is_empty() || 0 < skipped => {
                    all.push(Read { key: key.clone(), bytes, skipped });
                }
                Ok(_) => {}
                Err(error) => {
                    let path = stream.path.display();
                    tracing::debug!(%error, %path, "output is not told");
                    stream.follow = None;
                }
            }
        }
        all
    }

    /// The events of what was read, by the process that runs now, or by the one that ran last.
    pub(super) fn tell(&mut self, read: &Read, pid: Option<u32>) -> Vec<Payload> {
        let Some(stream) = self.streams.get_mut(&read.key) else { return Vec::new() };
        let mut payloads = match pid {
            Some(pid) if pid != stream.pid => stream.begin(&read.key, pid),
            _ => Vec::new(),
        };
        let pieces = stream.output.hear(&read.bytes);
        payloads.extend(stream.payloads(&read.key, pieces));
        payloads
    }

    /// The run of an instance is over.
    pub(super) fn end(&mut self, instance: &str) -> Vec<Payload> {
        let mut payloads = Vec::new();
        for (key, stream) in self.streams.iter_mut().filter(|(key, _)| key.0 == instance) {
            // What comes late is still of this process.
            payloads.extend(stream.begin(key, stream.pid));
        }
        payloads
    }
}

impl Stream {
    fn new(events: OutputEvents, is_error: bool, path: PathBuf, since: SystemTime) -> Option<Self> {
        let (tells_log, capture) = events.of(is_error);
        let limit = usize::try_from(capture.0).unwrap_or(usize::MAX);
        let output = Output::new(limit);
        let new = Self { path, tells_log, limit, output, follow: None, since, pid: 0 };
        (tells_log || 0 < limit).then_some(new)
    }

    fn is_like(&self, other: &Self) -> bool {
        let of = |one: &Self| (one.path.clone(), one.tells_log, one.limit);
        of(self) == of(other)
    }

    fn read(&mut self) -> io::Result<(Vec<u8>, u64)> {
        if self.follow.is_none() {
            self.follow = Some(begin(&self.path, self.since)?);
        }
        let Some(reader) = &mut self.follow else { return Ok((Vec::new(), 0)) };
        let behind = reader.behind()?;
        if behind <= BEHIND_MAX {
            return Ok((reader.poll_bytes(READ_BYTES)?, 0));
        }
        *reader = follow(&self.path)?;
        Ok((Vec::new(), behind))
    }

    /// Another process writes from now on.
    fn begin(&mut self, key: &Key, pid: u32) -> Vec<Payload> {
        let pieces = self.output.end();
        let payloads = self.payloads(key, pieces);
        self.pid = pid;
        payloads
    }

    fn payloads(&self, (instance, is_error): &Key, pieces: Vec<Piece>) -> Vec<Payload> {
        let name = ProcessName::of(instance);
        let (pid, is_error) = (self.pid, *is_error);
        let payload = |piece| match piece {
            Piece::Text(text) => {
                self.tells_log.then(|| Payload::Log { name: name.clone(), pid, is_error, text })
            }
            Piece::Communication(text) => {
                Some(Payload::Communication { name: name.clone(), pid, is_error, text })
            }
        };
        pieces.into_iter().filter_map(payload).collect()
    }
}

/// At the end of what is there, or at the beginning of what has just begun.
fn begin(path: &Path, since: SystemTime) -> io::Result<Follow> {
    let born = std::fs::metadata(path).and_then(|found| found.created());
    if born.is_ok_and(|born| since <= born) {
        return Ok(follow_from_start(path));
    }
    follow(path)
}

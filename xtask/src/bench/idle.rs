//! The idle program that every contender supervises, and the FIFO through which each of its
//! processes says when it was executed.
//!
//! Why: the time from a death to the successor's exec is only worth something if the successor
//! itself read the clock.
//! Invariant: both ends read `CLOCK_MONOTONIC`, the one clock that all processes share.

use crate::tool;
use anyhow::{Context, Result, bail};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The program, built.
pub(crate) struct Idle {
    program: PathBuf,
}

impl Idle {
    /// Compiles it into `folder`.
    pub(crate) fn build(folder: &Path) -> Result<Idle> {
        let program = folder.join("idle");
        let source = tool::root().join("xtask/assets/idle.c");
        let compile = |linking: &[&str]| {
            tool::run(
                tool::command("cc")
                    .args(["-Os", "-Wall", "-Wextra"])
                    .args(linking)
                    .arg("-o")
                    .args([&program, &source]),
            )
        };
        // Without a static C library, every contender has the same few hundred microseconds more.
        compile(&["-static", "-s"]).or_else(|_| compile(&[]))?;
        Ok(Idle { program })
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A process of ours was executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Executed {
    pub(crate) pid: i32,
    pub(crate) at_ns: u64,
}

/// Reports waiting to be looked at; far more than all processes can send between two looks.
const REPORTS_MAX: usize = 65_536;
/// The line that tells the reading thread to end.
const END: &str = "end\n";

/// The reading end of a FIFO, on a thread of its own.
pub(crate) struct Reports {
    path: PathBuf,
    receiver: Receiver<Executed>,
    reader: Option<JoinHandle<()>>,
    writer: File,
}

impl Reports {
    pub(crate) fn open(path: &Path) -> Result<Reports> {
        tool::run(tool::command("mkfifo").args(["-m", "622"]).arg(path))?;
        // Open in both directions: the thread never sees the end between two processes.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let writer = file.try_clone()?;
        let (sender, receiver) = sync_channel(REPORTS_MAX);
        let reader = std::thread::Builder::new().name("reports".to_owned()).spawn(move || {
            for line in BufReader::new(file).lines().map_while(Result::ok) {
                match parse(&line) {
                    Some(executed) => {
                        if sender.send(executed).is_err() {
                            return;
                        }
                    }
                    None => return,
                }
            }
        })?;
        Ok(Reports { path: path.to_path_buf(), receiver, reader: Some(reader), writer })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next report, or nothing by the deadline.
    pub(crate) fn next(&self, deadline: Instant) -> Result<Option<Executed>> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.receiver.recv_timeout(left) {
            Ok(executed) => Ok(Some(executed)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the reader of the reports has ended"),
        }
    }

    /// Waits for `span`; returns how many processes were executed meanwhile.
    pub(crate) fn count_for(&self, span: Duration) -> Result<usize> {
        let deadline = Instant::now() + span;
        let mut count = 0;
        while self.next(deadline)?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        let told = self.writer.write_all(END.as_bytes());
        if let (Ok(()), Some(reader)) = (told, self.reader.take()) {
            // Reports that nobody took must not keep the thread from seeing the last line.
            while !reader.is_finished() {
                let _ = self.receiver.recv_timeout(Duration::from_millis(10));
            }
        }
    }
}

fn parse(line: &str) -> Option<Executed> {
    let (pid, at_ns) = line.split_once(' ')?;
    Some(Executed { pid: pid.parse().ok()?, at_ns: at_ns.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        assert_eq!(parse("12 345"), Some(Executed { pid: 12, at_ns: 345 }));
        assert_eq!(parse("end"), None);
        assert_eq!(parse("12 x"), None);
    }

    #[test]
    fn a_process_says_when_it_was_executed() {
        let folder = std::env::temp_dir().join(format!("holdfast-idle-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let idle = Idle::build(&folder).unwrap();
        let reports = Reports::open(&folder.join("fifo")).unwrap();
        let before = now_ns();
        let mut child = tool::command(idle.program()).arg(reports.path()).spawn().unwrap();
        let executed = reports.next(Instant::now() + Duration::from_secs(30)).unwrap().unwrap();
        let after = now_ns();
        child.kill().unwrap();
        child.wait().unwrap();
        drop(reports);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(executed.pid, i32::try_from(child.id()).unwrap());
        assert!(before < executed.at_ns && executed.at_ns < after);
    }
}

//! Compresses rotated files, one at a time, in a thread of low priority.
//!
//! Why: compression is slower than a flood of output; it must cost neither the reader nor the
//! services any time. There is no queue to fill: what waits for compression is seen in the names of
//! the files, and if a flood rotates faster than we compress, files are simply dropped uncompressed.

use super::files;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::mpsc;

/// Text shrinks nearly as much as at higher levels, at several times the speed.
const LEVEL: u32 = 3;

/// Added to our own niceness.
const NICENESS: i32 = 10;

#[derive(Debug)]
struct Job {
    /// The log's present file, to know whose rotated file it is.
    log: PathBuf,
    source: File,
    inode: u64,
    target: PathBuf,
}

/// A finished job.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) log: PathBuf,
    pub(super) inode: u64,
    pub(super) target: PathBuf,
    pub(super) result: io::Result<()>,
}

/// The thread, and what it is doing.
#[derive(Debug)]
pub(super) struct Compressor {
    jobs: SyncSender<Job>,
    done: mpsc::Receiver<Done>,
    busy: bool,
}

impl Compressor {
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, work) = sync_channel(1);
        let (finished, done) = mpsc::channel(1);
        std::thread::Builder::new().name("compress".into()).spawn(move || run(&work, &finished))?;
        Ok(Self { jobs, done, busy: false })
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Begins with `rotated`, a rotated file of `log`.
    pub(super) fn begin(&mut self, log: &Path, rotated: &Path) -> io::Result<()> {
        let source = File::open(rotated)?;
        let inode = source.metadata()?.ino();
        let target = files::unfinished_path(log, inode);
        let job = Job { log: log.to_owned(), source, inode, target };
        self.jobs.try_send(job).map_err(|_| io::Error::other("the compressing thread is gone"))?;
        self.busy = true;
        Ok(())
    }

    /// The next finished job. Cancel-safe. Waits for ever while nothing is being done.
    pub(super) async fn next(&mut self) -> Done {
        if self.busy
            && let Some(done) = self.done.recv().await
        {
            self.busy = false;
            return done;
        }
        std::future::pending().await
    }
}

fn run(work: &Receiver<Job>, finished: &mpsc::Sender<Done>) {
    // In Linux this is the niceness of the calling thread alone. Refused: then it competes.
    let _ = rustix::process::getpriority_process(None)
        .and_then(|own| rustix::process::setpriority_process(None, own + NICENESS));
    while let Ok(job) = work.recv() {
        let result = compress(&job).inspect_err(|_| {
            let _ = std::fs::remove_file(&job.target);
        });
        let Job { log, inode, target, .. } = job;
        if finished.blocking_send(Done { log, inode, target, result }).is_err() {
            return;
        }
    }
}

fn compress(job: &Job) -> io::Result<()> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    let target = File::from(rustix::fs::open(&job.target, flags, mode)?);
    let mut encoder = GzEncoder::new(target, Compression::new(LEVEL));
    io::copy(&mut BufReader::with_capacity(64 * 1024, &job.source), &mut encoder)?;
    // On disk before the plain file goes: else a power cut could take both.
    encoder.finish()?.sync_data()
}

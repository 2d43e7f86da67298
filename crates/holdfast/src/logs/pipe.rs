//! The named pipe of one output stream: our end of it.
//!
//! Why: the service holds the pipe open for reading and writing, so that it never gets SIGPIPE and
//! its output waits in the kernel while nobody reads; the root holds it as well. Once nobody else
//! does, the pipe would be "ready" for ever (end of file), and waiting on it would spin (C6): from
//! then on we hold a writing end of our own.
//! Source: pipe(7), fifo(7), splice(2), tee(2).

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice, tee};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The reading side of a service's output.
#[derive(Debug)]
pub(super) struct Source {
    reader: OwnedFd,
    /// Keeps a pipe that nobody else writes from reporting its end. Never written to.
    keeper: Option<OwnedFd>,
}

impl Source {
    /// Opens the pipe at `path`, and makes it first if it is missing.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        sys::fifo::ensure(path)?;
        // One that nobody has written yet has no end to report.
        let reader = sys::fifo::open_for_reading(path)?;
        // Less room only means that the service waits for us sooner.
        let _ = sys::fifo::enlarge(reader.as_fd());
        Ok(Self { reader, keeper: None })
    }

    /// Bytes that are in the pipe now.
    pub(super) fn waiting(&self) -> io::Result<u64> {
        Ok(rustix::io::ioctl_fionread(&self.reader)?)
    }

    /// True when somebody besides us holds the pipe open for writing.
    pub(super) fn has_writers(&mut self) -> io::Result<bool> {
        self.keeper = None;
        self.hold_if_abandoned()?;
        Ok(self.keeper.is_none())
    }

    /// Holds the pipe if nobody else does any more.
    pub(super) fn hold_if_abandoned(&mut self) -> io::Result<()> {
        let mut ready = [PollFd::new(&self.reader, PollFlags::empty())];
        poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        if ready[0].revents().contains(PollFlags::HUP) {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            // By our own descriptor, not by a name: the file may have been removed meanwhile.
            let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.reader));
            self.keeper = Some(open(own.as_str(), flags, Mode::empty())?);
        }
        Ok(())
    }

    /// Moves up to `length` bytes from the pipe to the place where `file` stands, in the kernel:
    /// they are never in our memory, so our sudden death neither loses nor doubles any.
    pub(super) fn splice_to(&self, file: &File, length: usize) -> Result<usize, Errno> {
        retry(|| splice(&self.reader, None, file, None, length, SpliceFlags::NONBLOCK))
    }

    /// Takes up to `into.len()` bytes out of the pipe.
    pub(super) fn read(&self, into: &mut [u8]) -> Result<usize, Errno> {
        retry(|| rustix::io::read(&self.reader, &mut *into))
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// A pipe of our own to look at output without taking it.
#[derive(Debug)]
pub(super) struct Peek {
    reader: OwnedFd,
    writer: OwnedFd,
    buffer: Vec<u8>,
}

impl Peek {
    pub(super) fn new(length: usize) -> io::Result<Self> {
        let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
        let (reader, writer) = rustix::pipe::pipe_with(flags)?;
        Ok(Self { reader, writer, buffer: vec![0; length] })
    }

    /// The next bytes of `source`; empty when there are none. They stay there.
    pub(super) fn look(&mut self, source: &Source) -> Result<&[u8], Errno> {
        let length = self.buffer.len();
        let copied =
            match retry(|| tee(&source.reader, &self.writer, length, SpliceFlags::NONBLOCK)) {
                Ok(copied) => copied,
                Err(Errno::AGAIN) => 0,
                Err(error) => return Err(error),
            };
        let mut filled = 0;
        while filled < copied {
            let into = &mut self.buffer[filled..copied];
            match retry(|| rustix::io::read(&self.reader, &mut *into))? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(&self.buffer[..filled])
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

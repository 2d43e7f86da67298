//! The client of the control socket: one request, one reply, each with a deadline.
//!
//! Why blocking: a command asks one thing and ends; `status` must work when the runtime, the
//! console and the journal do not.
//! Invariant: every wait ends after [`ANSWER_MAX`] at the latest.

use super::failure::Failure;
use control::{Envelope, EventRecord, Reply, Request, Snapshot, decode_frame, encode_frame};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The root answers from memory within milliseconds; one that needs this long is stuck.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Read at once: most answers fit.
const READ_BYTES: usize = 64 * 1024;

/// A connection to the root.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    path: PathBuf,
    buffer: Vec<u8>,
    last_id: u64,
}

impl Client {
    /// Connects; the failure says whether nobody listens or we may not.
    pub(crate) fn connect(path: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(path).map_err(|why| not_connected(path, &why))?;
        Ok(Self { stream, path: path.to_owned(), buffer: Vec::new(), last_id: 0 })
    }

    /// Asks, and waits for the answer. A refusal is a failure.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Reply, Failure> {
        let id = self.send(request)?;
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            let reply = self.receive(deadline)?.ok_or_else(|| self.silent())?;
            if reply.id == id {
                return match reply.body {
                    Reply::Failed(fault) => Err(fault.into()),
                    body => Ok(body),
                };
            }
        }
    }

    /// Sends a request; its number.
    pub(crate) fn send(&mut self, body: Request) -> Result<u64, Failure> {
        self.last_id += 1;
        let frame = encode_frame(&Envelope { id: self.last_id, body }).map_err(Failure::no)?;
        let written = self
            .stream
            .set_write_timeout(Some(ANSWER_MAX))
            .and_then(|()| self.stream.write_all(&frame));
        written.map_err(|why| self.broken(&why))?;
        Ok(self.last_id)
    }

    /// The next message; `None` when the deadline passes first.
    pub(crate) fn receive(
        &mut self,
        deadline: Instant,
    ) -> Result<Option<Envelope<Reply>>, Failure> {
        loop {
            let first = decode_frame::<Envelope<Reply>>(&self.buffer).map_err(|why| {
                Failure::cannot_tell(format!("the daemon's answer can't be read: {why}"))
                    .help("are daemon and command line of very different versions?")
            })?;
            if let Some((reply, used)) = first {
                self.buffer.drain(..used);
                return Ok(Some(reply));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.fill(left)? {
                return Ok(None);
            }
        }
    }

    /// Reads what is there; false when nothing came in time.
    fn fill(&mut self, timeout: Duration) -> Result<bool, Failure> {
        let mut chunk = vec![0; READ_BYTES];
        let read =
            self.stream.set_read_timeout(Some(timeout)).and_then(|()| self.stream.read(&mut chunk));
        match read {
            Ok(0) => Err(Failure::cannot_tell("the daemon closed the connection")
                .help("it has ended, or was replaced; see `holdfast status`")),
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(true)
            }
            Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(why) if why.kind() == ErrorKind::Interrupted => Ok(true),
            Err(why) => Err(self.broken(&why)),
        }
    }

    /// Everything that is to be seen.
    pub(crate) fn status(&mut self) -> Result<Snapshot, Failure> {
        match self.ask(Request::Status)? {
            Reply::Status { snapshot } => Ok(*snapshot),
            other => Err(unexpected(&other)),
        }
    }

    /// The next pushed event before the deadline, after a `Subscribe`.
    pub(crate) fn event(&mut self, deadline: Instant) -> Result<Option<EventRecord>, Failure> {
        while let Some(message) = self.receive(deadline)? {
            if let Reply::Event { event } = message.body {
                return Ok(Some(*event));
            }
        }
        Ok(None)
    }

    fn silent(&self) -> Failure {
        Failure::cannot_tell(format!(
            "the daemon at {} did not answer within {} s",
            self.path.display(),
            ANSWER_MAX.as_secs()
        ))
        .help("look at its own log; `kill -9` of its process leaves the services running, and a new `holdfast run` adopts them")
    }

    fn broken(&self, why: &std::io::Error) -> Failure {
        Failure::cannot_tell(format!("lost the daemon at {}: {why}", self.path.display()))
            .help("it has ended, or was replaced; see `holdfast status`")
    }
}

/// A reply that does not fit the request: another version, or a bug.
pub(crate) fn unexpected(reply: &Reply) -> Failure {
    Failure::cannot_tell(format!("the daemon gave another answer than was asked for: {reply:?}"))
        .help("are daemon and command line of very different versions?")
}

fn not_connected(path: &Path, why: &std::io::Error) -> Failure {
    let at = path.display();
    match why.kind() {
        ErrorKind::NotFound => {
            Failure::cannot_tell(format!("holdfast is not running: no socket at {at}"))
                .help("start it with `holdfast run`, or name its socket with --socket")
        }
        ErrorKind::ConnectionRefused => {
            Failure::cannot_tell(format!("holdfast is not running: nobody listens at {at}"))
                .help("it was killed; a new `holdfast run` adopts the services that still run")
        }
        ErrorKind::PermissionDenied => Failure::cannot_tell(format!("permission denied: {at}"))
            .help("ask an operator, or have yourself added to `operators` or `viewers` in [api]"),
        _ => Failure::cannot_tell(format!("cannot connect to {at}: {why}")),
    }
}

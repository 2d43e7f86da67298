//! The control socket, as the command line uses it.

use anyhow::{Context, Result, bail};
use control::{Envelope, EventRecord, Reply, Request, decode_frame, encode_frame};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The root answers from memory within milliseconds, also on a machine that is busy elsewhere.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// A connection to the root.
pub(crate) struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
    last: u64,
}

impl Client {
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("nobody listens at {}", path.display()))?;
        Ok(Self { stream, buffer: Vec::new(), last: 0 })
    }

    /// Asks, and waits for the answer; a refusal is an error.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Reply> {
        self.last += 1;
        let frame = encode_frame(&Envelope { id: self.last, body: request })?;
        self.stream.write_all(&frame)?;
        let deadline = Instant::now() + ANSWER_MAX;
        while let Some(envelope) = self.receive(deadline)? {
            match envelope.body {
                Reply::Failed(fault) if envelope.id == self.last => {
                    bail!("{fault}: {}", fault.help)
                }
                body if envelope.id == self.last => return Ok(body),
                _ => {}
            }
        }
        bail!("the daemon did not answer within {ANSWER_MAX:?}")
    }

    /// The next event that is pushed, before the deadline.
    pub(crate) fn event(&mut self, deadline: Instant) -> Result<Option<EventRecord>> {
        while let Some(envelope) = self.receive(deadline)? {
            if let Reply::Event { event } = envelope.body {
                return Ok(Some(*event));
            }
        }
        Ok(None)
    }

    fn receive(&mut self, deadline: Instant) -> Result<Option<Envelope<Reply>>> {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            if let Some((envelope, used)) = decode_frame(&self.buffer)? {
                self.buffer.drain(..used);
                return Ok(Some(envelope));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => bail!("the daemon closed the connection"),
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(why) => return Err(why).context("lost the daemon"),
            }
        }
    }
}

//! The framed socket pair to the root.
//!
//! Invariants: never blocks; a root that does not read costs at most [`OUTBOX_BYTES_MAX`]; what does
//! not fit is dropped and counted.

use super::protocol::{FromLogs, ToLogs};
use control::{decode_frame, encode_frame};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Messages for a root that does not read. A drain's answer has about 50 bytes.
const OUTBOX_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Read from the socket in one turn of the loop: some fifty orders, each of which opens files. A
/// thousand at once would stall the loop.
const READ_BYTES: usize = 8 * 1024;

#[derive(Debug)]
pub(super) struct Link {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    dropped: u64,
}

/// What the root's side is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Peer {
    Alive,
    Gone,
}

impl Link {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(fd);
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        Ok(Self { stream, inbox: Vec::new(), outbox: Vec::new(), dropped: 0 })
    }

    /// Waits until there is something to read, or to write if something waits. Cancel-safe.
    pub(super) async fn ready(&self) -> io::Result<()> {
        let interest = if self.outbox.is_empty() {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        self.stream.ready(interest).await.map(drop)
    }

    /// Reads what is there and returns whole messages.
    pub(super) fn receive(&mut self, messages: &mut Vec<ToLogs>) -> Peer {
        let mut block = vec![0; READ_BYTES];
        match self.stream.try_read(&mut block) {
            Ok(0) => return Peer::Gone,
            Ok(read) => self.inbox.extend_from_slice(&block[..read]),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
                _ => return Peer::Gone,
            },
        }
        self.decode(messages)
    }

    fn decode(&mut self, messages: &mut Vec<ToLogs>) -> Peer {
        let mut used = 0;
        let peer = loop {
            match decode_frame(&self.inbox[used..]) {
                Ok(Some((message, length))) => {
                    messages.push(message);
                    used += length;
                }
                Ok(None) => break Peer::Alive,
                Err(error) => {
                    // Both ends are one binary; after such a frame nothing can be trusted. The
                    // root sees the end of the link and starts a new duty.
                    tracing::error!(%error, "the root said something that can't be read");
                    break Peer::Gone;
                }
            }
        };
        self.inbox.drain(..used);
        peer
    }

    /// Says something, as soon as the socket takes it.
    pub(super) fn send(&mut self, message: &FromLogs) {
        match encode_frame(message) {
            Ok(frame) if self.outbox.len() + frame.len() <= OUTBOX_BYTES_MAX => {
                self.outbox.extend_from_slice(&frame);
            }
            Ok(_) | Err(_) => {
                self.dropped += 1;
                tracing::warn!(dropped = self.dropped, "the root does not read; message dropped");
            }
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> Peer {
        while !self.outbox.is_empty() {
            match self.stream.try_write(&self.outbox) {
                Ok(0) => return Peer::Gone,
                Ok(written) => {
                    self.outbox.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Peer::Alive,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Peer::Gone,
            }
        }
        Peer::Alive
    }
}

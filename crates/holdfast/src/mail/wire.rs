//! The byte stream to a mail server: plain first if need be, TLS in the same place from then on.
//!
//! Why: with STARTTLS whoever sits in between can put words into the stream before TLS begins, and
//! a client that has read ahead takes them for the server's protected words (RFC 3207, section 6).
//! So nothing is read ahead here: a reader gets one line at a time, and what came unasked before the
//! handshake ends the connection.
//! Invariants: a line of the server is bounded; small writes leave at once.

use lettre::transport::smtp::client::AsyncTokioStream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest line of an answer; RFC 5321 (4.5.3.1.5) allows 512 bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// One end of the stream; clones are the same stream.
#[derive(Clone, Debug)]
pub(super) struct Wire(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    stream: Stream,
    /// Read, and not given out yet.
    ahead: Vec<u8>,
    peer: SocketAddr,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// A handshake is under way, or has failed.
    Gone,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        // Body and end of a mail are written apart; the end must not wait for an acknowledgement.
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        let inner = Inner { stream: Stream::Plain(stream), ahead: Vec::new(), peer };
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    /// From now on it is protected.
    pub(super) async fn protect(
        &self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<()> {
        let plain = {
            let mut inner = self.lock();
            if !inner.ahead.is_empty() {
                let why =
                    "somebody has sent words before TLS began, to be taken for protected ones";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            std::mem::replace(&mut inner.stream, Stream::Gone)
        };
        let Stream::Plain(plain) = plain else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is protected already"));
        };
        let tls = TlsConnector::from(config).connect(name, plain).await?;
        self.lock().stream = Stream::Tls(Box::new(tls));
        Ok(())
    }

    /// TLS version in words; `None` without TLS.
    pub(super) fn protection(&self) -> Option<&'static str> {
        match &self.lock().stream {
            Stream::Tls(tls) => Some(match tls.get_ref().1.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
                _ => "TLS",
            }),
            Stream::Plain(_) | Stream::Gone => None,
        }
    }

    /// The server's address.
    pub(super) fn peer(&self) -> SocketAddr {
        self.lock().peer
    }

    /// Nothing in here is left half changed by a panic.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Gives out at most one line of what was read; false if there is no whole line.
    fn give_line(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let Some(end) = self.ahead.iter().position(|byte| *byte == b'\n') else { return false };
        let length = (end + 1).min(into.remaining());
        into.put_slice(&self.ahead[..length]);
        self.ahead.drain(..length);
        true
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the connection is gone")
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        while !inner.give_line(into) {
            if LINE_BYTES_MAX < inner.ahead.len() {
                let why = "a line of the server's answer does not end";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
            }
            let mut block = [0; 2048];
            let mut read = ReadBuf::new(&mut block);
            let polled = match &mut inner.stream {
                Stream::Plain(stream) => Pin::new(stream).poll_read(cx, &mut read),
                Stream::Tls(stream) => Pin::new(stream).poll_read(cx, &mut read),
                Stream::Gone => Poll::Ready(Err(gone())),
            };
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // The end: an unfinished line is no answer.
                Poll::Ready(Ok(())) if read.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => inner.ahead.extend_from_slice(read.filled()),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.lock().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.lock().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.lock().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer())
    }
}

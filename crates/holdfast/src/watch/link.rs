//! The framed socket pair to the root.
//!
//! Invariant: the loop never waits for the root. A root that does not read for so long that
//! [`OUTBOX_MAX`] messages wait is lost to us: the link ends, and with it the duty, and the next one
//! says everything again.

use super::protocol::{FromWatch, ToWatch};
use anyhow::Context as _;
use control::{decode_frame, encode_frame};
use std::os::fd::OwnedFd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Messages for a root that does not read: a few for each of ten thousand instances.
const OUTBOX_MAX: usize = 65_536;

/// Orders that wait for the loop.
const INBOX_MAX: usize = 1024;

/// Both directions.
pub(super) struct Link {
    orders: mpsc::Receiver<ToWatch>,
    outbox: mpsc::Sender<FromWatch>,
    tasks: JoinSet<()>,
}

impl Link {
    pub(super) fn new(fd: OwnedFd) -> anyhow::Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(fd);
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream).context("cannot use the link to the root")?;
        let (reader, writer) = stream.into_split();
        let (to_loop, orders) = mpsc::channel(INBOX_MAX);
        let (outbox, said) = mpsc::channel(OUTBOX_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = read(reader, to_loop).await {
                tracing::error!(error = %format!("{error:#}"), "the root can't be understood");
            }
        });
        tasks.spawn(async move {
            if let Err(error) = write(writer, said).await {
                tracing::debug!(error = %format!("{error:#}"), "the root does not listen");
            }
        });
        Ok(Self { orders, outbox, tasks })
    }

    /// The next order; `None` once the link has ended. Cancel-safe.
    pub(super) async fn receive(&mut self) -> Option<ToWatch> {
        tokio::select! {
            order = self.orders.recv() => order,
            // Neither direction is of use without the other.
            _ = self.tasks.join_next() => self.orders.try_recv().ok(),
        }
    }

    /// Says something. `false`: the link is lost.
    pub(super) fn say(&self, message: FromWatch) -> bool {
        self.outbox.try_send(message).is_ok()
    }
}

async fn read(
    mut reader: tokio::net::unix::OwnedReadHalf,
    orders: mpsc::Sender<ToWatch>,
) -> anyhow::Result<()> {
    let mut buffer = Vec::new();
    loop {
        while let Some((order, used)) = decode_frame::<ToWatch>(&buffer)? {
            buffer.drain(..used);
            orders.send(order).await?;
        }
        if reader.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

async fn write(
    mut writer: tokio::net::unix::OwnedWriteHalf,
    mut said: mpsc::Receiver<FromWatch>,
) -> anyhow::Result<()> {
    while let Some(message) = said.recv().await {
        writer.write_all(&encode_frame(&message)?).await?;
    }
    Ok(())
}

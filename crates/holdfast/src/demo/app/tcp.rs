//! `store`, a TCP echo server, and `worker`, which needs it and survives its absence.

use super::{passed, say};
use anyhow::Context;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

/// Connections served at once; more wait in the accept queue.
const CONNECTIONS_MAX: usize = 64;

/// How often the worker asks the store.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// The store answers from memory; longer is as bad as no answer.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// Sends back what it gets.
pub(super) async fn store(listen: Option<SocketAddr>) -> anyhow::Result<()> {
    let listener = passed::listener(listen)?;
    say(&format!("listening on {}", listener.local_addr()?));
    let mut connections = JoinSet::new();
    loop {
        while CONNECTIONS_MAX <= connections.len() {
            connections.join_next().await;
        }
        let (stream, _) = listener.accept().await.context("cannot accept")?;
        connections.spawn(echo(stream));
        while connections.try_join_next().is_some() {}
    }
}

async fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        if stream.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// Asks the store now and then; says so, and that it is alive, by sd_notify(3).
pub(super) async fn worker(store: SocketAddr) -> anyhow::Result<()> {
    let mut tick = interval(ASK_EVERY);
    let mut was_there = None;
    notify("READY=1")?;
    loop {
        tick.tick().await;
        let is_there = matches!(timeout(ANSWER_MAX, ask(store)).await, Ok(Ok(())));
        if was_there != Some(is_there) {
            let word = if is_there { "the store answers" } else { "the store is away; I wait" };
            say(word);
            notify(&format!("STATUS={word}"))?;
            was_there = Some(is_there);
        }
        notify("WATCHDOG=1")?;
    }
}

async fn ask(store: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(store).await?;
    stream.write_all(b"ping").await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.map(|_| ())
}

fn notify(state: &str) -> anyhow::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match socket.send_to(state.as_bytes(), &path) {
        // The daemon may be away for a moment, or behind: the next message tells the same.
        Ok(_) | Err(_) => Ok(()),
    }
}

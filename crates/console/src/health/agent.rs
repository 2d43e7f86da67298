//! HAProxy's agent check: a line with a name comes in, a line with words goes out, and that is all.
//!
//! Why: by it a balancer is told to drain before it would notice a fault by itself, and told to
//! begin again, where an HTTP check only counts failures.
//! Invariants: at most [`NAME_BYTES_MAX`] bytes and [`NAME_DEADLINE`] are spent on a question;
//! where nobody can tell nothing is said, and HAProxy leaves the server as it is.
//! Source: HAProxy 2.6 configuration manual, `agent-check`, `agent-send`.

use super::answer::{about, agent_line, only_service};
use crate::App;
use crate::counters::{Face, Told};
use crate::listen::{Entrance, House};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The longest name there can be is much shorter.
const NAME_BYTES_MAX: usize = 256;

/// HAProxy sends what `agent-send` says with the first packet. Who has sent nothing by then sends
/// nothing at all, and waits for an answer.
const NAME_DEADLINE: Duration = Duration::from_millis(300);

/// For the answer to be taken, and the connection to be closed from the other side.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);

/// What is read away at the end: closing with unread bytes would take the answer back.
const REST_BYTES_MAX: u64 = 4096;

/// The door for agent checks.
pub(crate) struct AgentDoor(pub(crate) TcpListener);

impl Entrance for AgentDoor {
    type Stream = TcpStream;
    const NAME: &'static str = "agent";

    async fn accept(&self) -> io::Result<TcpStream> {
        self.0.accept().await.map(|(stream, _)| stream)
    }

    /// Says nothing: HAProxy leaves the server as it is.
    fn refuse(&self, _stream: TcpStream) {}

    async fn serve(&self, mut stream: TcpStream, house: House) {
        let _ = stream.set_nodelay(true);
        let name = read_name(&mut stream).await;
        let line = answer(&house.app, &name).await;
        let goodbye = async {
            if let Some(line) = line {
                stream.write_all(format!("{line}\n").as_bytes()).await?;
            }
            stream.shutdown().await?;
            tokio::io::copy(&mut stream.take(REST_BYTES_MAX), &mut tokio::io::sink()).await
        };
        match timeout(GOODBYE_DEADLINE, goodbye).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an agent check was cut off"),
            Err(_) => tracing::debug!("an agent check was not closed from the other side"),
        }
    }
}

/// What stands before the first line end. A name whose line end is forgotten is one all the same.
async fn read_name(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::with_capacity(NAME_BYTES_MAX);
    let read = async {
        let mut limited = stream.take(NAME_BYTES_MAX as u64);
        while !bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            match limited.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    let _ = timeout(NAME_DEADLINE, read).await;
    let line = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    String::from_utf8_lossy(line).trim().to_owned()
}

/// The line to say; `None` = nothing.
async fn answer(app: &App, name: &str) -> Option<String> {
    let Ok(seen) = app.health.look().await else {
        app.counters.told(Face::Agent, Told::CannotTell);
        return None;
    };
    let age_ms = seen.age.as_millis() as u64;
    let meant = if name.is_empty() { only_service(&seen.snapshot) } else { Some(name) };
    let health = meant.and_then(|name| about(&seen.snapshot, name, age_ms));
    match health {
        Some(health) => {
            app.counters.told(Face::Agent, Told::of(&health));
            Some(health.agent)
        }
        None => {
            app.counters.told(Face::Agent, Told::Unknown);
            let reason = match meant {
                Some(name) => format!("holdfast has no service {name}"),
                None => "no service was named: use agent-send".to_owned(),
            };
            Some(agent_line("fail", &reason))
        }
    }
}

//! The duty `supervisord`: supervisord's XML-RPC interface for unmodified clients, and the other end
//! of the event listeners' pipes.
//!
//! ```text
//! supervisorctl ──HTTP──► doors ──► http ──► calls ──► root (link), log files
//! root ──(nudge)──► events: segment files ──► Translator ──► Pool ──► pipes ──► listeners
//! ```
//! A process of its own below the root: it is a client of the root like the console, and asks it in
//! the name of whoever asked. What means what is in crate `supervisord`.

mod actions;
mod caller;
mod calls;
mod configuration;
mod doors;
mod events;
mod groups;
mod house;
mod http;
mod listeners;
mod logfiles;
mod main_log;
mod memory;
mod output;
mod pipes;
mod tail;

pub(crate) use events::{cursor_path, forget};

use crate::nudge::Nudge;
use crate::paths::Paths;
use anyhow::Context as _;
use base::InstanceId;
use config::SupervisordSettings;
use house::House;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;
use supervisord::ProcessName;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long everything may take to finish when we end.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(3);

/// What the duty is given by who starts it.
pub(crate) struct Setup {
    /// The link to the root.
    pub(crate) root: OwnedFd,
    /// Listening sockets: `supervisord.unix`, `supervisord.tcp`.
    pub(crate) sockets: BTreeMap<String, OwnedFd>,
    /// Where everything lies.
    pub(crate) paths: Paths,
    /// The configuration in force.
    pub(crate) config: config::Config,
}

/// Where clients find the interface: what `SUPERVISOR_SERVER_URL` says.
pub(crate) fn url(face: &SupervisordSettings) -> Option<String> {
    match (&face.unix, face.tcp) {
        (Some((path, _)), _) => Some(format!("unix://{}", path.display())),
        (None, Some(mut address)) => {
            if address.ip().is_unspecified() {
                let v4 = address.is_ipv4();
                address.set_ip(if v4 {
                    [127, 0, 0, 1].into()
                } else {
                    [0, 0, 0, 0, 0, 0, 0, 1].into()
                });
            }
            Some(format!("http://{address}"))
        }
        (None, None) => None,
    }
}

/// What supervisord sets for its children.
pub(crate) fn environment(instance: &InstanceId, url: &str) -> [(String, String); 4] {
    let ProcessName { group, process } = ProcessName::of(&instance.to_string());
    [
        ("SUPERVISOR_ENABLED", "1".to_owned()),
        ("SUPERVISOR_SERVER_URL", url.to_owned()),
        ("SUPERVISOR_PROCESS_NAME", process),
        ("SUPERVISOR_GROUP_NAME", group),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

/// Serves until it is told to end, or the root has closed its end of the link.
pub(crate) async fn serve(setup: Setup) -> anyhow::Result<()> {
    let Setup { root, mut sockets, paths, config } = setup;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut tasks = JoinSet::new();
    let shutdown = CancellationToken::new();
    let stream = UnixStream::from(root);
    stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(stream).context("cannot use the link")?;
    let nudge = Nudge::default();
    let root = console::RootLink::start(stream, &mut tasks, shutdown.clone(), nudge.clone());
    let house = Arc::new(House::new(root, config, paths, nudge, shutdown.clone())?);
    house.subscribe().await;
    let mut doors = JoinSet::new();
    if let Some(fd) = sockets.remove("supervisord.unix") {
        let listener = UnixListener::from(fd);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        doors.spawn(doors::keep(doors::Door::Unix(listener), Arc::clone(&house)));
    }
    if let Some(fd) = sockets.remove("supervisord.tcp") {
        let listener = TcpListener::from(fd);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        doors.spawn(doors::keep(doors::Door::Tcp(listener), Arc::clone(&house)));
    }
    doors.spawn(events::run(Arc::clone(&house)));
    tokio::select! {
        _ = terminate.recv() => {}
        () = shutdown.cancelled() => {}
    }
    shutdown.cancel();
    let closed = async { while doors.join_next().await.is_some() {} };
    if tokio::time::timeout(GOODBYE_DEADLINE, closed).await.is_err() {
        tracing::warn!("not everything was finished at the end");
    }
    tasks.shutdown().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_told_where_to_ask() {
        let face = |unix: Option<&str>, tcp: Option<&str>| SupervisordSettings {
            unix: unix.map(|path| (path.into(), 0o600)),
            tcp: tcp.map(|tcp| tcp.parse().unwrap()),
            login: None,
            identifier: "x".into(),
        };
        assert_eq!(url(&face(Some("/r/s"), Some("127.0.0.1:9"))).unwrap(), "unix:///r/s");
        assert_eq!(url(&face(None, Some("0.0.0.0:9001"))).unwrap(), "http://127.0.0.1:9001");
        assert_eq!(url(&face(None, Some("[::]:9001"))).unwrap(), "http://[::1]:9001");
        let env = environment(&"worker:2".parse().unwrap(), "unix:///r/s");
        let env: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expect = [
            "SUPERVISOR_ENABLED=1",
            "SUPERVISOR_SERVER_URL=unix:///r/s",
            "SUPERVISOR_PROCESS_NAME=worker_2",
            "SUPERVISOR_GROUP_NAME=worker",
        ];
        assert_eq!(env, expect);
    }
}

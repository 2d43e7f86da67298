//! Listening sockets passed by the `LISTEN_FDS` protocol.
//!
//! Source: sd_listen_fds(3).

use anyhow::{Context, bail};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

/// The first passed descriptor, by the protocol.
const FIRST: i32 = 3;

/// The socket that was passed; without one, a new one on `listen`.
pub(super) fn listener(listen: Option<SocketAddr>) -> anyhow::Result<tokio::net::TcpListener> {
    let listener = match (passed()?, listen) {
        (Some(listener), _) => listener,
        (None, Some(address)) => {
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?
        }
        (None, None) => bail!("no socket was passed; name an address with --listen"),
    };
    listener.set_nonblocking(true)?;
    Ok(tokio::net::TcpListener::from_std(listener)?)
}

fn passed() -> anyhow::Result<Option<TcpListener>> {
    let variable = |name| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    let for_us = variable("LISTEN_PID") == Some(std::process::id());
    if !for_us || variable("LISTEN_FDS").unwrap_or(0) == 0 {
        return Ok(None);
    }
    let myself = sys::pidfd::open(std::process::id()).context("cannot open a pidfd of myself")?;
    let socket = sys::pidfd::take_fd(myself.as_fd(), FIRST)
        .context("LISTEN_FDS is set, but descriptor 3 is no open one")?;
    Ok(Some(TcpListener::from(socket)))
}

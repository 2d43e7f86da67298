//! What the loop waits for, each as a future that never comes when there is nothing to wait for.
//!
//! Invariant: all are cancel-safe; none of them changes anything but what it was given.

use super::link::Link;
use super::yielding::{Asker, Door};
use rustix::event::epoll;
use std::os::fd::OwnedFd;
use std::time::Instant;
use tokio::io::unix::AsyncFd;

/// Streams that get their turn before we look at the root again.
const READY_MAX: usize = 64;

/// Makes the runtime wait for our epoll.
#[expect(
    deprecated,
    reason = "unsound only for types whose descriptor changes or closes early; an OwnedFd's doesn't, \
              and the replacement is an unsafe function"
)]
pub(super) fn watched(epoll: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(epoll)
}

/// The streams with output, in the kernel's order: who had a turn goes to the end.
pub(super) fn ready_streams(epoll: &OwnedFd) -> Vec<u64> {
    let mut events = Vec::with_capacity(READY_MAX);
    let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    match epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), Some(&none)) {
        Ok(_) => events.iter().map(|event: &epoll::Event| event.data.u64()).collect(),
        Err(_) => Vec::new(),
    }
}

pub(super) async fn link_ready(link: Option<&Link>) -> std::io::Result<()> {
    match link {
        Some(link) => link.ready().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn asked_to_yield(door: Option<&mut Door>) -> Asker {
    match door {
        Some(door) => door.next().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

//! The doors: accepts connections, finds out who is there, and serves HTTP on each.
//!
//! Invariants: at most [`CONNECTIONS_MAX`] connections a door; each wait on a client has a deadline;
//! an error of accept(2) costs a pause, never the loop.

use super::caller;
use super::house::House;
use super::http::{Body, answer};
use console::Patient;
use control::Caller;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections of one door at one time. Each `supervisorctl` has two.
const CONNECTIONS_MAX: usize = 128;

/// Of these, connections of anybody but root and our own user: who only holds connections must not
/// shut out those who own this daemon.
const OTHERS_CONNECTIONS_MAX: usize = 96;

/// A whole header must have come within this time; an idle kept-alive connection ends after it.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);

/// Header lines and the buffer they are read into.
const HEADER_BYTES_MAX: usize = 32 * 1024;

/// After an error such as "too many open files": time for something to be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How long connections may take to finish when we end.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);

/// Told to one client too many, and then the connection is closed.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\r\n";

/// Where clients come in.
pub(crate) enum Door {
    Unix(UnixListener),
    Tcp(TcpListener),
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Door {
    async fn accept(&self) -> std::io::Result<Stream> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
        }
    }
}

impl Stream {
    /// Whether the other end is root or our own user, as far as the kernel says so at once.
    fn is_owner(&self) -> bool {
        let Self::Unix(stream) = self else { return false };
        let uid = stream.peer_cred().map(|peer| peer.uid());
        uid.is_ok_and(|uid| uid == 0 || uid == sys::users::effective_uid())
    }
}

/// Serves a door until the end; then lets its connections finish for a moment.
pub(crate) async fn keep(door: Door, house: Arc<House>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let room_for_others = Arc::new(Semaphore::new(OTHERS_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = house.shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = door.accept() => match accepted {
                Ok(stream) => {
                    let others = (!stream.is_owner()).then(|| Arc::clone(&room_for_others));
                    let others = others.map(Semaphore::try_acquire_owned).transpose();
                    let permit = Arc::clone(&room).try_acquire_owned();
                    let (Ok(others), Ok(permit)) = (others, permit) else {
                        refuse(&stream);
                        continue;
                    };
                    let house = Arc::clone(&house);
                    connections.spawn(async move {
                        serve(stream, house).await;
                        drop((permit, others));
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GOODBYE_DEADLINE, finish).await.is_err() {
        connections.shutdown().await;
    }
}

fn refuse(stream: &Stream) {
    let _ = match stream {
        Stream::Unix(stream) => stream.try_write(FULL),
        Stream::Tcp(stream) => stream.try_write(FULL),
    };
}

async fn serve(stream: Stream, house: Arc<House>) {
    match stream {
        Stream::Unix(stream) => {
            let caller = caller::on_unix(&house, &stream).await;
            converse(stream, caller, house).await;
        }
        Stream::Tcp(stream) => {
            // Small answers must not wait for the acknowledgement of earlier ones.
            let _ = stream.set_nodelay(true);
            let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) else { return };
            let caller = caller::on_tcp(&house, local, remote).await;
            converse(stream, caller, house).await;
        }
    }
}

async fn converse<S>(stream: S, caller: Caller, house: Arc<House>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shutdown = house.shutdown.clone();
    let number = house.next_connection();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (house, caller) = (Arc::clone(&house), caller.clone());
        async move {
            Ok::<hyper::Response<Body>, Infallible>(answer(house, caller, number, request).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(HEADER_BYTES_MAX)
        // supervisord's own clients look for `Content-Type` as it is written here.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

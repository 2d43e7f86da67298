//! The doors: accepts connections, finds out who is there, and serves HTTP on each.
//!
//! Why: a client that sends nothing, reads nothing or comes a thousand times must cost a bounded
//! amount, and one door that is full must not close another.
//! Invariants: at most [`CONNECTIONS_MAX`] connections a door; each wait on a client has a
//! deadline; an error of accept(2) costs a pause, never the loop.

use crate::App;
use crate::patient::Patient;
use crate::visitor::{self, Visitor};
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Connections of one door at one time. A browser opens six at most for all its pages.
pub(crate) const CONNECTIONS_MAX: usize = 256;

/// A whole header must have come within this time; an idle kept-alive connection ends after it.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);

/// A TLS handshake takes two round trips and a millisecond of work.
const TLS_DEADLINE: Duration = Duration::from_secs(10);

/// After an error such as "too many open files": time for something to be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How long connections may take to finish when we end.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);

/// Header lines and the buffer they are read into.
const HEADER_BYTES_MAX: usize = 32 * 1024;

/// Told to one client too many, and then the connection is closed.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
Connection: close\r\nRetry-After: 1\r\n\r\n\
{\"code\":\"too_many_connections\",\"message\":\"too many connections are open\",\
\"help\":\"close some, or ask again in a moment\"}\n";

/// What every door needs.
#[derive(Clone)]
pub(crate) struct House {
    pub(crate) app: Arc<App>,
    pub(crate) router: Router,
    pub(crate) settings: Arc<config::ApiSettings>,
    pub(crate) shutdown: CancellationToken,
}

/// A door: how to accept, how to say that it is full, and how to serve.
pub(crate) trait Entrance: Send + Sync + 'static {
    /// A connection.
    type Stream: Send + 'static;
    /// For metrics and logs.
    const NAME: &'static str;
    /// Waits for the next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
    /// Says that there are too many, without waiting.
    fn refuse(&self, stream: Self::Stream);
    /// Serves a connection to its end.
    fn serve(&self, stream: Self::Stream, house: House) -> impl Future<Output = ()> + Send;
}

/// The API's Unix socket.
pub(crate) struct UnixDoor(pub(crate) UnixListener);

impl Entrance for UnixDoor {
    type Stream = UnixStream;
    const NAME: &'static str = "unix";

    async fn accept(&self) -> io::Result<UnixStream> {
        self.0.accept().await.map(|(stream, _)| stream)
    }

    fn refuse(&self, stream: UnixStream) {
        let _ = stream.try_write(FULL);
    }

    async fn serve(&self, stream: UnixStream, house: House) {
        let visitor = visitor::on_unix(&house.settings, &stream).await;
        converse(stream, visitor, house).await;
    }
}

/// The web console.
pub(crate) struct WebDoor {
    pub(crate) listener: TcpListener,
    pub(crate) local: SocketAddr,
}

impl Entrance for WebDoor {
    type Stream = (TcpStream, SocketAddr);
    const NAME: &'static str = "web";

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.listener.accept().await
    }

    fn refuse(&self, (stream, _): (TcpStream, SocketAddr)) {
        let _ = stream.try_write(FULL);
    }

    async fn serve(&self, (stream, remote): (TcpStream, SocketAddr), house: House) {
        // Small answers must not wait for the acknowledgement of earlier ones.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().unwrap_or(self.local);
        let visitor = visitor::on_web(&house.settings, self.local, local, remote).await;
        converse(stream, visitor, house).await;
    }
}

/// The API over TCP: tokens, and TLS unless it is on loopback.
pub(crate) struct RemoteDoor {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
}

impl Entrance for RemoteDoor {
    type Stream = TcpStream;
    const NAME: &'static str = "remote";

    async fn accept(&self) -> io::Result<TcpStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    fn refuse(&self, stream: TcpStream) {
        if self.tls.is_none() {
            let _ = stream.try_write(FULL);
        }
    }

    async fn serve(&self, stream: TcpStream, house: House) {
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return converse(stream, visitor::on_remote(), house).await;
        };
        match tokio::time::timeout(TLS_DEADLINE, tls.accept(stream)).await {
            Ok(Ok(stream)) => converse(stream, visitor::on_remote(), house).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }
}

/// The listener for balancers: whoever may connect may ask, and nothing but health is told. What
/// it serves is the house's router, which is another one there.
pub(crate) struct HealthDoor(pub(crate) TcpListener);

impl Entrance for HealthDoor {
    type Stream = TcpStream;
    const NAME: &'static str = "health";

    async fn accept(&self) -> io::Result<TcpStream> {
        self.0.accept().await.map(|(stream, _)| stream)
    }

    fn refuse(&self, stream: TcpStream) {
        let _ = stream.try_write(FULL);
    }

    async fn serve(&self, stream: TcpStream, house: House) {
        let _ = stream.set_nodelay(true);
        converse(stream, visitor::on_health(), house).await;
    }
}

/// Serves a door until `house.shutdown`; then lets its connections finish for a moment.
pub(crate) async fn keep_door<E: Entrance>(entrance: E, house: House) {
    let entrance = Arc::new(entrance);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = house.shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = entrance.accept() => match accepted {
                Ok(stream) => admit(&entrance, stream, &permits, &house, &mut connections),
                Err(error) => {
                    tracing::warn!(door = E::NAME, %error, "cannot accept a connection");
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

/// Serves one more connection, or says that there are too many.
fn admit<E: Entrance>(
    entrance: &Arc<E>,
    stream: E::Stream,
    permits: &Arc<Semaphore>,
    house: &House,
    connections: &mut JoinSet<()>,
) {
    let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
        house.app.counters.turned_away();
        return entrance.refuse(stream);
    };
    let (entrance, house) = (Arc::clone(entrance), house.clone());
    connections.spawn(async move {
        entrance.serve(stream, house).await;
        drop(permit);
    });
}

async fn converse<S>(stream: S, visitor: Visitor, house: House)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(house.router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(visitor.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = house.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

//! `web`, an HTTP server that can be told to crash, to hang and to leak.
//!
//! Asked to end, it takes no new connection and finishes those it has: each gets one more answer,
//! which says that the connection ends with it. Whoever shares its listening socket loses no
//! request.

use super::{passed, say};
use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections served at once; more wait in the accept queue.
const CONNECTIONS_MAX: usize = 256;

/// A client that has not sent its header by then is closed.
const HEADER_MAX: Duration = Duration::from_secs(5);

/// Pause between two lines that say how many requests came.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// How long a connection on which nothing comes is kept once it is time to end.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// What `/crash` exits with ("internal software error", sysexits(3)).
const CRASHED: i32 = 70;

/// What `/leak` takes, a piece at a time.
const LEAK_BYTES: usize = 128 * 1024 * 1024;
const LEAK_PIECE: usize = 1024 * 1024;
const LEAK_PAUSE: Duration = Duration::from_millis(20);

/// Serves until SIGTERM.
pub(super) async fn run(listen: Option<SocketAddr>) -> anyhow::Result<()> {
    let listener = passed::listener(listen)?;
    let mut term = signal(SignalKind::terminate())?;
    say(&format!("serving http://{} as pid {}", listener.local_addr()?, std::process::id()));
    let mut connections = JoinSet::new();
    loop {
        while CONNECTIONS_MAX <= connections.len() {
            connections.join_next().await;
        }
        tokio::select! {
            // Both branches are cancel-safe: nothing is taken before it is ready.
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("cannot accept")?;
                connections.spawn(serve(stream));
            }
            _ = term.recv() => break,
        }
        while connections.try_join_next().is_some() {}
    }
    say("asked to end");
    ENDING.store(true, Ordering::Relaxed);
    let all_done = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(GOODBYE_MAX, all_done).await;
    Ok(())
}

/// Each answer is the last one of its connection.
static ENDING: AtomicBool = AtomicBool::new(false);

async fn serve(stream: TcpStream) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_MAX);
    // A client that goes away in the middle is no business of ours.
    let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

/// Says how many requests came, every two seconds at most: a line for each would bury all others.
fn count_request() {
    static SINCE: Mutex<Option<(Instant, u64)>> = Mutex::new(None);
    let Ok(mut since) = SINCE.lock() else { return };
    let (begun, count) = since.map_or((Instant::now(), 1), |(begun, count)| (begun, count + 1));
    *since = Some((begun, count));
    let elapsed = begun.elapsed();
    if REPORT_EVERY <= elapsed {
        *since = None;
        say(&format!("{count} requests in the last {:.1} s", elapsed.as_secs_f64()));
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    count_request();
    let pid = std::process::id();
    let (status, body) = match request.uri().path() {
        "/" => (StatusCode::OK, format!("hello from pid {pid}\n")),
        "/health" => (StatusCode::OK, "healthy\n".to_owned()),
        "/crash" => {
            say("asked to crash; goodbye");
            std::process::exit(CRASHED);
        }
        "/hang" => {
            say("asked to hang: a call that never returns, on the only thread that serves");
            loop {
                std::thread::park();
            }
        }
        "/leak" => {
            say("asked to leak");
            match std::thread::Builder::new().name("leak".into()).spawn(leak) {
                Ok(_) => (StatusCode::OK, "leaking\n".to_owned()),
                Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("no thread: {why}\n")),
            }
        }
        _ => {
            let text = "there are /, /health, /crash, /hang and /leak\n";
            (StatusCode::NOT_FOUND, text.to_owned())
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    if ENDING.load(Ordering::Relaxed) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Takes memory and never gives it back, while everything is served as always.
fn leak() {
    let mut kept = Vec::new();
    loop {
        if kept.len() < LEAK_BYTES / LEAK_PIECE {
            // Written to, or the kernel would not give it.
            kept.push(vec![0x5a_u8; LEAK_PIECE]);
        }
        std::thread::park_timeout(LEAK_PAUSE);
    }
}

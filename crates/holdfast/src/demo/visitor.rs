//! A client that asks the web service without a pause, all through the demo, and counts.
//!
//! Why: "recovered" is what the clients see. Refused connections are what a restart without a
//! passed socket would show them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(5);

/// Longer than any recovery of the demo.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The numbers so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Totals {
    /// Requests with a whole answer.
    pub(crate) answered: u64,
    /// Connections that nobody took: what must not happen.
    pub(crate) refused: u64,
    /// Requests whose server died while it had them in hand.
    pub(crate) cut_short: u64,
    /// The longest time to an answer since the last [`Visitor::begin`], in microseconds.
    pub(crate) slowest_us: u64,
}

#[derive(Debug, Default)]
struct Counters {
    answered: AtomicU64,
    refused: AtomicU64,
    cut_short: AtomicU64,
    slowest_us: AtomicU64,
    end: AtomicBool,
}

/// The client's thread.
#[derive(Debug)]
pub(crate) struct Visitor {
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl Visitor {
    /// Begins to ask.
    pub(crate) fn start(address: SocketAddr) -> std::io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let ours = Arc::clone(&counters);
        let thread = std::thread::Builder::new()
            .name("visitor".into())
            .spawn(move || visit(address, &ours))?;
        Ok(Self { counters, thread: Some(thread) })
    }

    /// The numbers so far.
    pub(crate) fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            answered: read(&self.counters.answered),
            refused: read(&self.counters.refused),
            cut_short: read(&self.counters.cut_short),
            slowest_us: read(&self.counters.slowest_us),
        }
    }

    /// The numbers before a fault; the slowest answer is looked for anew.
    pub(crate) fn begin(&self) -> Totals {
        self.counters.slowest_us.store(0, Ordering::Relaxed);
        self.totals()
    }

    /// Ends it; the numbers stay.
    pub(crate) fn end(&mut self) {
        self.counters.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.end();
    }
}

fn visit(address: SocketAddr, counters: &Counters) {
    // Nobody ever sends: receiving is the pause.
    let (_keep, pause) = mpsc::channel::<()>();
    while !counters.end.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let counter = match ask(address) {
            Ok(()) => {
                let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                counters.slowest_us.fetch_max(took, Ordering::Relaxed);
                &counters.answered
            }
            Err(why) if why.kind() == ErrorKind::ConnectionRefused => &counters.refused,
            Err(_) => &counters.cut_short,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let _ = pause.recv_timeout(PAUSE);
    }
}

fn ask(address: SocketAddr) -> std::io::Result<()> {
    let answer = get(address, "/")?;
    let is_good = answer.starts_with(b"HTTP/1.0 200") || answer.starts_with(b"HTTP/1.1 200");
    if is_good { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// A request on a connection of its own; the answer is not read.
pub(crate) fn ask_only(address: SocketAddr, path: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    Ok(stream)
}

/// One request on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<Vec<u8>> {
    let stream = ask_only(address, path)?;
    let mut answer = Vec::new();
    // The demo's own server never says more than a line.
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(answer)
}

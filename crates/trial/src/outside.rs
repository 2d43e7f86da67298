//! Something that a service depends on and that is not ours: a small server that can go away or
//! become slow.

use anyhow::Result;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest wait for a request.
const REQUEST_MAX: Duration = Duration::from_secs(2);

/// The server is to end.
const END: u64 = u64::MAX;

/// A server that answers every request, after a time that can be set. Gone when it is dropped.
pub struct Outside {
    address: SocketAddr,
    delay_ms: Arc<AtomicU64>,
    asked: Arc<AtomicU64>,
    server: Option<JoinHandle<()>>,
}

impl Outside {
    /// On an address of the loopback: any, or the one of before.
    ///
    /// # Errors
    /// Somebody else has the address.
    pub fn start(address: Option<SocketAddr>) -> Result<Self> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(address.unwrap_or(any))?;
        let address = listener.local_addr()?;
        let (delay_ms, asked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (delay, count) = (Arc::clone(&delay_ms), Arc::clone(&asked));
        let server = std::thread::Builder::new().name("outside".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if delay.load(Ordering::Relaxed) == END {
                    return;
                }
                // Each on a thread of its own, so that slowness is not a queue.
                if let Ok(stream) = stream {
                    let (delay, count) = (Arc::clone(&delay), Arc::clone(&count));
                    std::thread::spawn(move || answer(stream, &delay, &count));
                }
            }
        })?;
        Ok(Self { address, delay_ms, asked, server: Some(server) })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that have come so far, answered or not.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// From now on it takes this long.
    pub fn slow(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(END - 1);
        self.delay_ms.store(millis, Ordering::Relaxed);
    }

    fn end(&mut self) {
        self.delay_ms.store(END, Ordering::Relaxed);
        // Wakes it from accept.
        let _ = TcpStream::connect(self.address);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.end();
    }
}

fn answer(mut stream: TcpStream, delay_ms: &AtomicU64, asked: &AtomicU64) {
    let _ = stream.set_read_timeout(Some(REQUEST_MAX));
    let mut request = [0; 4096];
    if !matches!(stream.read(&mut request), Ok(1..)) {
        return;
    }
    asked.fetch_add(1, Ordering::Relaxed);
    let millis = delay_ms.load(Ordering::Relaxed);
    if millis == END {
        return;
    }
    std::thread::park_timeout(Duration::from_millis(millis));
    let _ =
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(address: SocketAddr) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn it_answers_goes_away_and_comes_back_at_the_same_address() {
        let first = Outside::start(None).unwrap();
        let address = first.address();
        assert!(ask(address).unwrap().starts_with("HTTP/1.1 200"));
        drop(first);
        assert!(ask(address).is_err());
        let second = Outside::start(Some(address)).unwrap();
        second.slow(Duration::from_millis(1));
        assert!(ask(address).unwrap().ends_with("ok"));
        assert_eq!(second.asked(), 1);
    }
}

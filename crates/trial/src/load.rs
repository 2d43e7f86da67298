//! A small constant load: clients that ask one after the other, and remember every answer.
//!
//! Why not a load generator that exists: what counts here is *which* requests failed and when they
//! were begun, not how many there were.
//! Invariant: each request is counted once, as answered or as failed.

use crate::clock::At;
use anyhow::Result;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A client gives up after this.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a client reads of an answer at most.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Requests that are remembered: an hour of the largest load used here.
const REMEMBERED_MAX: usize = 4_000_000;

/// One request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    /// When it was begun.
    pub begun: At,
    /// When it ended.
    pub ended: At,
    /// Who answered, or why nobody did.
    pub by: Result<u32, String>,
}

/// All requests so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally(pub Vec<Answered>);

impl Tally {
    /// Requests that were begun in this time and failed.
    pub fn failed(&self, from: At, until: At) -> usize {
        let in_time = |it: &&Answered| from <= it.begun && it.begun < until;
        self.0.iter().filter(in_time).filter(|it| it.by.is_err()).count()
    }

    /// The first answer after `from` by somebody else than `pid`.
    pub fn first_by_another(&self, pid: u32, from: At) -> Option<At> {
        let others = self.0.iter().filter(|it| it.by.as_ref().is_ok_and(|by| *by != pid));
        others.filter(|it| from <= it.ended).map(|it| it.ended).min()
    }

    /// Why requests failed: one example each.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons: Vec<String> =
            self.0.iter().filter_map(|it| it.by.as_ref().err().cloned()).collect();
        reasons.sort();
        reasons.dedup();
        reasons
    }
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// So many clients, each with a pause between an answer and its next request.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(address: SocketAddr, clients: usize, pause: Duration) -> Result<Self> {
        let mut load = Self { stop: Arc::default(), tally: Arc::default(), clients: Vec::new() };
        for _ in 0..clients {
            let (stop, tally) = (Arc::clone(&load.stop), Arc::clone(&load.tally));
            let client = std::thread::Builder::new().name("client".to_owned());
            load.clients.push(client.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let begun = At::now();
                    let by = ask(address, PATIENCE);
                    let answered = Answered { begun, ended: At::now(), by };
                    if let Ok(mut tally) = tally.lock()
                        && tally.0.len() < REMEMBERED_MAX
                    {
                        tally.0.push(answered);
                    }
                    std::thread::park_timeout(pause);
                }
            })?);
        }
        Ok(load)
    }

    /// What has come so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().map(|tally| tally.clone()).unwrap_or_default()
    }

    /// Ends the clients; what has come.
    pub fn stop(mut self) -> Tally {
        self.end();
        self.tally()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.thread().unpark();
            let _ = client.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

/// One request: the pid that the answer names.
///
/// # Errors
/// Why there is none.
pub fn ask(address: SocketAddr, patience: Duration) -> Result<u32, String> {
    let say = |what: &'static str| move |why: std::io::Error| format!("{what}: {}", why.kind());
    let mut stream =
        TcpStream::connect_timeout(&address, patience).map_err(say("no connection"))?;
    stream
        .set_read_timeout(Some(patience))
        .and_then(|()| stream.write_all(b"GET / HTTP/1.1\r\nHost: trial\r\n\r\n"))
        .map_err(say("not sent"))?;
    let mut answer = String::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer);
    read.map_err(say("no answer"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("an empty answer")?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(head.lines().next().unwrap_or_default().to_owned());
    }
    body.trim().parse().map_err(|_| format!("an answer without a pid: {body}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn serve_one(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn an_answer_names_a_pid_or_is_a_failure() {
        let answer = |text| ask(serve_one(text), Duration::from_secs(10));
        assert_eq!(answer("HTTP/1.1 200 OK\r\n\r\n12\n"), Ok(12));
        assert_eq!(answer("HTTP/1.1 502 Bad\r\n\r\n12\n"), Err("HTTP/1.1 502 Bad".to_owned()));
        assert_eq!(answer(""), Err("an empty answer".to_owned()));
    }

    #[test]
    fn failures_count_by_when_they_were_begun() {
        let start = At::now();
        let at = |ms| start + Duration::from_millis(ms);
        let one = |begun, ended, by: Result<u32, &str>| Answered {
            begun: at(begun),
            ended: at(ended),
            by: by.map_err(str::to_owned),
        };
        let tally = Tally(vec![
            one(0, 5, Ok(1)),
            one(10, 1_010, Err("no answer")),
            one(1_020, 1_030, Ok(2)),
            one(1_040, 1_041, Err("refused")),
        ]);
        assert_eq!(tally.failed(at(0), at(500)), 1);
        assert_eq!(tally.failed(at(500), at(2_000)), 1);
        assert_eq!(tally.first_by_another(1, at(0)), Some(at(1_030)));
        assert_eq!(tally.reasons(), ["no answer", "refused"]);
    }
}

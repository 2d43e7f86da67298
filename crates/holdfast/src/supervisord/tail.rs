//! Logs that are followed: `supervisorctl tail -f` and `maintail -f`.
//!
//! Why by looking: only while somebody follows, twice a second. A rotation while following loses
//! nothing, and no line is shown twice.
//! Invariants: at most [`super::house::TAILS_MAX`] at one time; a client that does not read is
//! waited for by the connection, not by what is buffered here.

use super::calls::log_file;
use super::house::House;
use super::http::{Body, plain, respond};
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use supervisord::{Channel, Reading};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Lines that are shown of before.
const BEFORE_LINES: usize = 20;

/// Bytes of the main log that are shown of before: as many as supervisord shows.
const BEFORE_BYTES: u64 = 1024;

/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// Lines of one look.
const LINES_MAX: usize = 16;

/// Pieces on their way to the client.
const PIECES_MAX: usize = 1;

const TEXT: &str = "text/plain; charset=utf-8";

/// `/logtail/NAME`, `/logtail/NAME/stdout`, `/logtail/NAME/stderr`.
pub(crate) async fn log(house: &Arc<House>, rest: &str) -> Response<Body> {
    let rest = rest.trim_end_matches('/');
    let (name, channel) = match rest.rsplit_once('/') {
        None | Some((_, "stdout")) => (rest.trim_end_matches("/stdout"), Channel::Stdout),
        Some((name, "stderr")) => (name, Channel::Stderr),
        Some(_) => return plain(StatusCode::NOT_FOUND, "no such log".to_owned()),
    };
    let name = percent_decoded(name);
    let found = house.process(&name).await.and_then(|seen| log_file(&seen, channel));
    let path = match found {
        Ok(path) => path,
        Err(fault) => return plain(StatusCode::NOT_FOUND, fault.text),
    };
    let Ok(permit) = Arc::clone(&house.tails).try_acquire_owned() else { return too_many() };
    let (pieces, body) = mpsc::channel(PIECES_MAX);
    let shutdown = house.shutdown.clone();
    // It ends with its receiver, which the connection holds, or with us.
    house.run(async move {
        tokio::select! {
            () = follow_file(path, pieces, permit) => {}
            () = shutdown.cancelled() => {}
        }
    });
    respond(StatusCode::OK, TEXT, Body::Pieces(body))
}

/// `/mainlogtail`.
pub(crate) fn main_log(house: &Arc<House>) -> Response<Body> {
    let Ok(permit) = Arc::clone(&house.tails).try_acquire_owned() else { return too_many() };
    let (pieces, body) = mpsc::channel(PIECES_MAX);
    let (of, shutdown) = (Arc::clone(house), house.shutdown.clone());
    house.run(async move {
        tokio::select! {
            () = follow_main_log(of, pieces, permit) => {}
            () = shutdown.cancelled() => {}
        }
    });
    respond(StatusCode::OK, TEXT, Body::Pieces(body))
}

fn too_many() -> Response<Body> {
    let why = "too many logs are followed already; close one".to_owned();
    plain(StatusCode::SERVICE_UNAVAILABLE, why)
}

async fn follow_file(path: PathBuf, pieces: mpsc::Sender<Bytes>, permit: OwnedSemaphorePermit) {
    let begin = move || journal::logfile::tail_and_follow(&path, BEFORE_LINES);
    let Ok(Ok((before, mut follow))) = tokio::task::spawn_blocking(begin).await else { return };
    if !before.is_empty() && pieces.send(text_of(&before)).await.is_err() {
        return;
    }
    loop {
        let polled = tokio::task::spawn_blocking(move || {
            let lines = follow.poll(LINES_MAX);
            (follow, lines)
        });
        let Ok((again, Ok(lines))) = polled.await else { break };
        follow = again;
        if lines.is_empty() {
            tokio::select! {
                () = pieces.closed() => break,
                () = tokio::time::sleep(LOOK_PAUSE) => {}
            }
            continue;
        }
        if pieces.send(text_of(&lines)).await.is_err() {
            break;
        }
    }
    drop(permit);
}

fn text_of(lines: &[String]) -> Bytes {
    (lines.join("\n") + "\n").into()
}

async fn follow_main_log(
    house: Arc<House>,
    pieces: mpsc::Sender<Bytes>,
    permit: OwnedSemaphorePermit,
) {
    let (before, mut seen) = {
        let log = house.main_log();
        (log.read(Reading::Last(BEFORE_BYTES)), log.since(u64::MAX).1)
    };
    let mut text = before;
    loop {
        if !text.is_empty() && pieces.send(text.into()).await.is_err() {
            break;
        }
        tokio::select! {
            () = pieces.closed() => break,
            () = tokio::time::sleep(LOOK_PAUSE) => {}
        }
        (text, seen) = house.main_log().since(seen);
    }
    drop(permit);
}

/// RFC 3986, section 2.1. What is no escape stays as it stands.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_in_a_path_are_read() {
        assert_eq!(percent_decoded("worker%3Aworker_0"), "worker:worker_0");
        assert_eq!(percent_decoded("a%2"), "a%2");
        assert_eq!(percent_decoded("a%zz%"), "a%zz%");
        assert_eq!(percent_decoded("%C3%A4"), "ä");
    }
}

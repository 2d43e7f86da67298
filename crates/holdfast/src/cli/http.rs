//! The client of the console's API on its Unix socket, where history and other people's files are.
//!
//! Invariants: no answer is larger than [`BODY_BYTES_MAX`], no event of a stream larger than
//! [`EVENT_BYTES_MAX`]; every wait but that for the next event of a stream has a deadline.
//! Source: WHATWG HTML, "Server-sent events".

use super::failure::Failure;
use control::Fault;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// From connecting to the answer's header, and from there to its end.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// 10,000 events of a usual size take 5 MB.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A batch of 500 log lines of the longest kind.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One server-sent event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Pushed {
    /// Its type; empty = `message`.
    pub(crate) kind: String,
    /// Its data.
    pub(crate) data: String,
}

/// What to do after an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Go on.
    More,
    /// Enough.
    Enough,
}

/// The API behind one socket.
#[derive(Debug)]
pub(crate) struct Api {
    socket: PathBuf,
}

impl Api {
    /// The API beside a control socket.
    pub(crate) fn beside(control_socket: &Path) -> Self {
        Self { socket: control_socket.with_file_name("api.sock") }
    }

    /// Gets a whole answer.
    pub(crate) fn get(&self, path: &str) -> Result<Vec<u8>, Failure> {
        run(async {
            let mut tasks = JoinSet::new();
            let response = self.request(path, None, &mut tasks).await?;
            whole(response).await
        })
    }

    /// Gets events, each as it comes, until `each` has enough or the server ends the stream.
    pub(crate) fn stream(
        &self,
        path: &str,
        last_id: Option<u64>,
        mut each: impl FnMut(Pushed) -> Result<Next, Failure>,
    ) -> Result<(), Failure> {
        run(async {
            let mut tasks = JoinSet::new();
            let response = self.request(path, last_id, &mut tasks).await?;
            let mut body = response.into_body();
            let mut parser = Parser::default();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|why| self.unreachable(&why))?;
                let Ok(bytes) = frame.into_data() else { continue };
                for event in parser.take(&bytes)? {
                    if each(event)? == Next::Enough {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }

    /// Sends the request, and waits for a header that says all is well.
    async fn request(
        &self,
        path: &str,
        last_id: Option<u64>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::get(path).header("host", "localhost");
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(Failure::usage)?;
        let answer = async {
            let stream =
                UnixStream::connect(&self.socket).await.map_err(|why| self.unreachable(&why))?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|why| self.unreachable(&why))?;
            tasks.spawn(async move {
                // Its failure shows as that of the request or of the body.
                let _ = connection.await;
            });
            sender.send_request(request).await.map_err(|why| self.unreachable(&why))
        };
        let response = match timeout(ANSWER_MAX, answer).await {
            Ok(response) => response?,
            Err(_) => return Err(self.unreachable(&"no answer in time")),
        };
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> Failure {
        let at = self.socket.display();
        Failure::cannot_tell(format!("the console can't be reached at {at}: {why}"))
            .help("`holdfast status` shows whether it runs")
    }
}

fn run<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::no)?.block_on(work)
}

async fn whole(response: Response<Incoming>) -> Result<Vec<u8>, Failure> {
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect();
    match timeout(ANSWER_MAX, body).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes().to_vec()),
        Ok(Err(why)) => Err(Failure::cannot_tell(format!("the answer broke off: {why}"))),
        Err(_) => Err(Failure::cannot_tell("the answer did not end in time")),
    }
}

/// What the server says of why not.
async fn refusal(response: Response<Incoming>) -> Failure {
    let status = response.status();
    let body = whole(response).await.unwrap_or_default();
    // The API's own faults have texts that are better than ours.
    if let Ok(fault) = serde_json::from_slice::<Fault>(&body) {
        return fault.into();
    }
    let said = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
    let text = |name| said.get(name).and_then(|text| text.as_str()).unwrap_or("").to_owned();
    let message = match text("message") {
        message if message.is_empty() => format!("the console answers {status}"),
        message => message,
    };
    match status {
        StatusCode::BAD_REQUEST => Failure::usage(message),
        status if status.is_client_error() => Failure::no(message),
        _ => Failure::cannot_tell(message),
    }
    .help(text("help"))
}

/// Cuts a stream into events.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    event: Pushed,
}

impl Parser {
    fn take(&mut self, bytes: &[u8]) -> Result<Vec<Pushed>, Failure> {
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if EVENT_BYTES_MAX < self.line.len() + self.event.data.len() {
                return Err(Failure::cannot_tell("the console sent an event beyond all limits"));
            }
            if self.line.last() == Some(&b'\n') {
                let line = std::mem::take(&mut self.line);
                let line = String::from_utf8_lossy(&line);
                events.extend(self.line_ended(line.trim_end_matches(['\r', '\n'])));
            }
        }
        Ok(events)
    }

    fn line_ended(&mut self, line: &str) -> Option<Pushed> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return (!event.data.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" if self.event.data.is_empty() => value.clone_into(&mut self.event.data),
            "data" => {
                self.event.data.push('\n');
                self.event.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.event.kind),
            // Comments keep the connection alive; other fields are for browsers.
            _ => {}
        }
        None
    }
}

/// A text as a value in a query.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
            encoded.extend(['%', digit(byte >> 4), digit(byte & 0xF)]);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_at_empty_lines_wherever_the_network_cuts_it() {
        let bytes =
            b": hello\n\nid: 4\ndata: {\"a\":1}\n\nevent: lagged\r\ndata: x\r\ndata:y\r\n\r\n";
        let expect = [
            Pushed { kind: String::new(), data: "{\"a\":1}".into() },
            Pushed { kind: "lagged".into(), data: "x\ny".into() },
        ];
        for cut in 0..bytes.len() {
            let mut parser = Parser::default();
            let mut events = parser.take(&bytes[..cut]).unwrap();
            events.extend(parser.take(&bytes[cut..]).unwrap());
            assert_eq!(events, expect, "cut at {cut}");
        }
    }

    #[test]
    fn a_name_cannot_become_another_part_of_the_address() {
        assert_eq!(encode("web:1&x=/ä"), "web%3a1%26x%3d%2f%c3%a4");
    }
}

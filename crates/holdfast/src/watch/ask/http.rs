//! One bounded HTTP exchange. The caller limits its time.
//!
//! Invariants: at most [`BODY_BYTES_MAX`] of a body and [`HEAD_BYTES_MAX`] of a head are read,
//! whatever the server sends; a redirect is an answer like any other.

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Of a body.
pub(in crate::watch) const BODY_BYTES_MAX: usize = 64 * 1024;

/// Of the head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Lines of the head.
const HEADERS_MAX: usize = 100;

/// What is read of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Want {
    /// Only its status.
    Head,
    /// The beginning of its body, too.
    Body,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    /// Its beginning, where it was wanted.
    pub(super) body: Vec<u8>,
    /// There was more than that.
    pub(super) more: bool,
}

/// `GET`.
pub(super) async fn get(url: &str, want: Want) -> Result<Got, String> {
    exchange(url, want).await.map_err(|error| {
        let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
        format!("GET {}: {}", sys::inspect::masked(url), chain.join(": "))
    })
}

async fn exchange(url: &str, want: Want) -> anyhow::Result<Got> {
    let uri: hyper::Uri = url.parse()?;
    let authority = uri.authority().ok_or_else(|| anyhow::anyhow!("the URL names no host"))?;
    let host = authority.host().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let host = match authority.port() {
        Some(port) => format!("{}:{port}", authority.host()),
        None => authority.host().to_owned(),
    };
    let request = hyper::Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, host)
        .header(USER_AGENT, concat!("holdfast/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let work = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let (body, more) = match want {
            Want::Head => (Vec::new(), false),
            Want::Body => beginning(response.into_body()).await?,
        };
        anyhow::Ok(Got { status, body, more })
    };
    tokio::pin!(work, connection);
    // The connection may end first with all of the answer already read.
    tokio::select! {
        biased;
        got = &mut work => return got,
        _ = &mut connection => {}
    }
    work.await
}

async fn beginning(mut body: hyper::body::Incoming) -> anyhow::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = BODY_BYTES_MAX - bytes.len();
        bytes.extend_from_slice(data.get(..room.min(data.len())).unwrap_or(&data));
        if room < data.len() {
            return Ok((bytes, true));
        }
    }
    Ok((bytes, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream as StdStream};
    use std::time::Duration;

    /// A server in a thread of its own; gives its address.
    fn server(serve: impl FnOnce(StdStream) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            serve(stream);
        });
        url
    }

    fn get_within(url: &str, want: Want, time: Duration) -> Result<Got, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let got = tokio::time::timeout(time, get(url, want)).await;
            got.unwrap_or_else(|_| Err("late".into()))
        })
    }

    fn get_soon(url: &str, want: Want) -> Result<Got, String> {
        get_within(url, want, Duration::from_secs(30))
    }

    #[test]
    fn h17_an_answer_without_end_is_read_to_the_limit_and_no_further() {
        let (end, ended) = std::sync::mpsc::channel();
        let url = server(move |mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n");
            let mut sent = 0_usize;
            let block = vec![b'x'; 65_536];
            while sent < 100 << 20 && stream.write_all(&block).is_ok() {
                sent += block.len();
            }
            end.send(sent).unwrap();
        });
        let got = get_soon(&url, Want::Body).unwrap();
        assert_eq!((got.status, got.body.len(), got.more), (200, BODY_BYTES_MAX, true));
        // What the kernel buffers on the way is all that was sent for nothing.
        assert!(ended.recv().unwrap() < 50 << 20);
    }

    #[test]
    fn h17_a_head_without_end_is_an_error() {
        let url = server(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        let why = get_soon(&url, Want::Head).unwrap_err();
        assert!(why.contains("too large"), "{why}");
        let url = server(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
            while stream.write_all(b"a: b\r\n").is_ok() {}
        });
        assert!(get_soon(&url, Want::Head).is_err());
    }

    #[test]
    fn h17_a_redirect_is_an_answer_and_is_not_followed() {
        let url = server(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n");
        });
        // The server answers once: to follow would fail.
        assert_eq!(get_soon(&url, Want::Body).unwrap().status, 302);
    }

    #[test]
    fn h17_a_server_that_says_nothing_costs_the_time_limit() {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let url = server(move |stream| {
            let _ = held.recv();
            drop(stream);
        });
        assert_eq!(get_within(&url, Want::Head, Duration::from_millis(50)), Err("late".into()));
        drop(hold);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = listener.local_addr().unwrap();
        drop(listener);
        let why = get_soon(&format!("http://u:secret@{gone}/"), Want::Head).unwrap_err();
        assert!(why.contains("refused") && !why.contains("secret"), "{why}");
    }
}

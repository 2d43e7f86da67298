//! What is asked by HTTP: calls at `/RPC2`, and logs that are followed.
//!
//! Invariants: nothing is read or looked up for somebody who may nothing; a body is read up to
//! [`REQUEST_BYTES_MAX`] and not longer than [`BODY_DEADLINE`].
//! Source: answers of supervisor 4.2.5.

use super::caller::{Login, login};
use super::house::House;
use super::{calls, tail};
use control::{Caller, Role};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, SERVER, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use supervisord::rpc::{REQUEST_BYTES_MAX, read_call, write_fault, write_response};
use tokio::sync::mpsc;

/// A whole request must have come within this time.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// What is read away of a refused request, and for how long.
const DRAIN_BYTES_MAX: usize = 64 * 1024;
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// The body of an answer: all of it, or what comes.
pub(crate) enum Body {
    Whole(Option<Bytes>),
    Pieces(mpsc::Receiver<Bytes>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take()),
            Self::Pieces(pieces) => pieces.poll_recv(context),
        };
        piece.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(bytes) => {
                hyper::body::SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::Pieces(_) => hyper::body::SizeHint::default(),
        }
    }
}

/// Answers a request of `caller`, as far as the connection tells who that is.
pub(crate) async fn answer(
    house: Arc<House>,
    caller: Caller,
    connection: u64,
    request: Request<Incoming>,
) -> Response<Body> {
    let given = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let caller = match admit(&house, caller, given) {
        Ok(caller) => caller,
        Err(refusal) => {
            drain(request.into_body()).await;
            return *refusal;
        }
    };
    let path = request.uri().path().to_owned();
    let rest = path.strip_prefix("/logtail/");
    match (request.method(), path.as_str(), rest) {
        (&Method::POST, "/RPC2" | "/RPC2/", _) => call(house, caller, connection, request).await,
        (_, "/RPC2" | "/RPC2/", _) => {
            plain(StatusCode::BAD_REQUEST, "XML-RPC is asked by POST".to_owned())
        }
        (&Method::GET, "/mainlogtail" | "/mainlogtail/", _) => tail::main_log(&house),
        (&Method::GET, _, Some(rest)) => tail::log(&house, rest).await,
        _ => {
            let why = "supervisord's pages are not served; `holdfast status` shows the address of \
                       the console";
            plain(StatusCode::NOT_FOUND, why.to_owned())
        }
    }
}

/// Who really asks, or why he is not answered.
fn admit(
    house: &House,
    caller: Caller,
    given: Option<&[u8]>,
) -> Result<Caller, Box<Response<Body>>> {
    let caller = match login(&house.face, given) {
        Login::Absent => caller,
        Login::Right(caller) => caller,
        Login::Wrong => return Err(Box::new(unauthorized())),
    };
    if caller.role != Role::None {
        return Ok(caller);
    }
    if house.face.login.is_some() {
        return Err(Box::new(unauthorized()));
    }
    let why = format!(
        "{} may nothing here; be listed in `operators` or `viewers` of [api] in the configuration \
         of holdfast",
        caller.name
    );
    Err(Box::new(plain(StatusCode::FORBIDDEN, why)))
}

/// Reads away what a refused client is still sending, within limits: closing a socket with unread
/// bytes in it resets the connection, and the client would lose the answer that tells it why.
async fn drain(body: Incoming) {
    let body = Limited::new(body, DRAIN_BYTES_MAX).collect();
    let _ = tokio::time::timeout(DRAIN_DEADLINE, body).await;
}

async fn call(
    house: Arc<House>,
    caller: Caller,
    connection: u64,
    request: Request<Incoming>,
) -> Response<Body> {
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect();
    let bytes = match tokio::time::timeout(BODY_DEADLINE, body).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let why = format!("the request has more than {REQUEST_BYTES_MAX} bytes");
            return plain(StatusCode::PAYLOAD_TOO_LARGE, why);
        }
        Ok(Err(error)) => return plain(StatusCode::BAD_REQUEST, error.to_string()),
        Err(_) => {
            let why = "the request has not come in time".to_owned();
            return plain(StatusCode::REQUEST_TIMEOUT, why);
        }
    };
    let call = match read_call(&bytes) {
        Ok(call) => call,
        Err(error) => return plain(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let xml = match calls::make(&house, &caller, connection, call).await {
        Ok(value) => write_response(&value),
        Err(fault) => write_fault(&fault),
    };
    respond(StatusCode::OK, "text/xml", Body::Whole(Some(xml.into())))
}

/// An answer of one kind of content.
pub(crate) fn respond(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers
        .insert(SERVER, HeaderValue::from_static(concat!("holdfast/", env!("CARGO_PKG_VERSION"))));
    response
}

/// A refusal with its reason.
pub(crate) fn plain(status: StatusCode, why: String) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", Body::Whole(Some((why + "\n").into())))
}

fn unauthorized() -> Response<Body> {
    let why = "name and password of [supervisord] in the configuration of holdfast are needed";
    let mut response = plain(StatusCode::UNAUTHORIZED, why.to_owned());
    let basic = HeaderValue::from_static("Basic realm=\"default\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, basic);
    response
}

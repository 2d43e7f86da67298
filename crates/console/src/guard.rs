//! Stands before every request: is it meant for us, may this caller ask it, and is it short enough?
//!
//! Why: one place that can be read in one go. A handler that is reached may be run.
//! Invariants: everything but `/healthz` and the console's static files needs a role; a changing
//! method needs `Act`; through the web console's door only a page that we served may ask.
//! Source: RFC 9110 (421, 413), W3C Fetch Metadata, OWASP on DNS rebinding and CSRF.

use crate::App;
use crate::fault::{Refusal, too_large};
use crate::visitor::{Door, Visitor, bearer};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use control::{Caller, Role};
use futures_util::StreamExt as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Largest body of a request. The only body there is names a signal.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

/// Longest path and query. The longest sensible one is a filter of a few hundred bytes.
pub(crate) const TARGET_BYTES_MAX: usize = 4 * 1024;

/// From a whole header to the beginning of the answer, the body of the request included.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// What is read away of a refused request, and for how long.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a path is to the guard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Nothing to see that is not in our source: static files and the sign of life.
    Public,
    /// A page of the console, which says in words what is wrong.
    Page,
    /// The API and the metrics.
    Api(Role),
}

fn place(method: &Method, path: &str) -> Place {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    match path {
        "/healthz" => Place::Public,
        "/metrics" | "/health" => Place::Api(Role::Read),
        // Balancers have a listener of their own.
        _ if path.starts_with("/health/") => Place::Api(Role::Read),
        // The effective configuration shows commands and paths that a viewer need not know.
        "/api/v1/config" => Place::Api(Role::Act),
        // Stacks and memory of a program may hold what is nobody else's business.
        _ if path.starts_with("/api/v1/evidence") => Place::Api(Role::Act),
        _ if path.starts_with("/api/") => Place::Api(if reads { Role::Read } else { Role::Act }),
        _ if crate::pages::is_asset(path) => Place::Public,
        _ => Place::Page,
    }
}

/// The middleware.
pub(crate) async fn guard(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(visitor) = request.extensions().get::<Visitor>().cloned() else {
        return Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "a request from nowhere",
            "",
        )
        .into_response();
    };
    match admit(&app, &visitor, &request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
        }
        Err(refusal) => {
            app.counters.refused(refusal.status);
            tracing::debug!(
                door = visitor.door.name(),
                status = refusal.status.as_u16(),
                "request refused"
            );
            let page = place(request.method(), request.uri().path()) == Place::Page;
            let mut response =
                if page { crate::pages::refusal_page(&refusal) } else { refusal.into_response() };
            secure(response.headers_mut());
            drain(request.into_body()).await;
            return response;
        }
    }
    let mut response = match tokio::time::timeout(ANSWER_DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            format!(
                "the request was not complete or answered within {} s",
                ANSWER_DEADLINE.as_secs()
            ),
            "",
        )
        .into_response(),
    };
    secure(response.headers_mut());
    response
}

/// Reads away what a refused client is still sending, within limits: closing a socket with unread
/// bytes in it resets the connection, and the client would lose the answer that tells it why.
async fn drain(body: Body) {
    let mut frames = body.into_data_stream();
    let mut left = DRAIN_BYTES_MAX;
    let all = async {
        while let Some(Ok(bytes)) = frames.next().await {
            left = left.saturating_sub(bytes.len());
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_DEADLINE, all).await;
}

fn admit(app: &App, visitor: &Visitor, request: &Request) -> Result<Caller, Refusal> {
    let place = place(request.method(), request.uri().path());
    check_size(request)?;
    if let Door::Web { local } = visitor.door {
        check_host(request, local)?;
        check_origin(request, place)?;
    }
    let caller = caller(app, visitor, request.headers())?;
    let needs = match place {
        Place::Public => Role::None,
        Place::Page => Role::Read,
        Place::Api(role) => role,
    };
    if needs <= caller.role {
        return Ok(caller);
    }
    if visitor.door == Door::Remote && caller.role == Role::None {
        let message = "a bearer token is needed here";
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            message,
            &*visitor.help,
        ));
    }
    let message = match needs {
        Role::Act if caller.role == Role::Read => {
            format!("{} may look, but not act", caller.name)
        }
        _ => format!("{} may not look at this", caller.name),
    };
    Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", message, &*visitor.help))
}

/// A token where one is sent, else who opened the connection.
fn caller(app: &App, visitor: &Visitor, headers: &HeaderMap) -> Result<Caller, Refusal> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(visitor.caller.clone()) };
    let token = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    token.and_then(|token| bearer(&app.config.api.tokens, token)).ok_or_else(|| {
        Refusal::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "the token is not one that is known here",
            "send `Authorization: Bearer TOKEN` with a token whose SHA-256 stands in `[[api.token]]`",
        )
    })
}

fn check_size(request: &Request) -> Result<(), Refusal> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if TARGET_BYTES_MAX < target {
        return Err(Refusal::new(
            StatusCode::URI_TOO_LONG,
            "too_long",
            format!("the path and query have more than {TARGET_BYTES_MAX} bytes"),
            "",
        ));
    }
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    if length.is_some_and(|length| (BODY_BYTES_MAX as u64) < length) {
        return Err(too_large());
    }
    Ok(())
}

/// A foreign name that resolves to this machine would let a foreign page talk to us as itself.
fn check_host(request: &Request, listening: SocketAddr) -> Result<(), Refusal> {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let meant = host.is_some_and(|host| host_is_ours(host, listening));
    if meant {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::MISDIRECTED_REQUEST,
        "wrong_host",
        format!("this console is not called `{}`", host.unwrap_or("")),
        format!("open http://localhost:{} or http://{listening}", listening.port()),
    ))
}

fn host_is_ours(host: &str, listening: SocketAddr) -> bool {
    let name = match host.rsplit_once(':') {
        // Any port: it may be forwarded (`ssh -L`), and it gives a foreign page nothing.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let Ok(address) = bare.parse::<IpAddr>() else { return false };
    // An address can't be rebound as a name can; a wildcard listener has no address of its own.
    address.is_loopback() || address == listening.ip() || listening.ip().is_unspecified()
}

/// A browser says where a request comes from. Other clients say nothing, and need not.
fn check_origin(request: &Request, place: Place) -> Result<(), Refusal> {
    let text =
        |name: &HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let site = text(&FETCH_SITE);
    let foreign_site = matches!(site, Some("cross-site" | "same-site"));
    let guarded = matches!(place, Place::Api(_));
    let host = text(&header::HOST).unwrap_or("");
    let foreign_origin = text(&header::ORIGIN)
        .is_some_and(|origin| origin.strip_prefix("http://").is_none_or(|from| from != host));
    if guarded && (foreign_site || foreign_origin) {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "foreign_page",
            "a page of another site sent this request",
            "use the console's own pages, or a client that is no browser",
        ));
    }
    Ok(())
}

/// Headers of every answer.
pub(crate) fn secure(headers: &mut HeaderMap) {
    let fixed = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert_with(|| HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_ours() {
        let local: SocketAddr = "127.0.0.1:7490".parse().unwrap();
        for ours in ["localhost:7490", "LOCALHOST", "127.0.0.1:7490", "[::1]:8080", "127.0.0.2"] {
            assert!(host_is_ours(ours, local), "{ours}");
        }
        for foreign in ["", "evil.example", "localhost.evil.example:7490", "10.0.0.1:7490", "[::2]"]
        {
            assert!(!host_is_ours(foreign, local), "{foreign}");
        }
        let wide: SocketAddr = "0.0.0.0:7490".parse().unwrap();
        assert!(host_is_ours("10.0.0.1:7490", wide));
        assert!(!host_is_ours("evil.example:7490", wide));
    }

    #[test]
    fn every_path_has_its_place() {
        let check = |method: Method, path: &str, expect: Place| {
            assert_eq!(place(&method, path), expect, "{method} {path}");
        };
        check(Method::GET, "/healthz", Place::Public);
        check(Method::GET, "/", Place::Page);
        check(Method::GET, "/service/web", Place::Page);
        check(Method::GET, "/api/v1/status", Place::Api(Role::Read));
        check(Method::POST, "/api/v1/reload", Place::Api(Role::Act));
        check(Method::DELETE, "/api/v1/status", Place::Api(Role::Act));
        check(Method::GET, "/api/v1/config", Place::Api(Role::Act));
        check(Method::GET, "/metrics", Place::Api(Role::Read));
        check(Method::OPTIONS, "/health/web", Place::Api(Role::Read));
    }
}

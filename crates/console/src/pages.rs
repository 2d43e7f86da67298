//! The web console's static files, built into the binary.
//!
//! Why built in: the console works without any file beside the program, and a file can't be asked
//! for by its path on disk.
//! Invariants: only files that were in `assets/` at build time are served; each has an `ETag` of
//! its content, so that a browser asks again and gets 304.

use crate::fault::Refusal;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ring::digest::{SHA256, digest};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The page for every path that the pages' own router knows.
const INDEX: &str = "index.html";

/// Where the files are served.
const PREFIX: &str = "/assets/";

/// A browser may keep a file, but asks each time whether it is still the same.
const REVALIDATE: &str = "no-cache";

struct Asset {
    bytes: &'static [u8],
    kind: &'static str,
    tag: String,
}

static BY_NAME: LazyLock<BTreeMap<&'static str, Asset>> = LazyLock::new(|| {
    let asset = |(name, bytes): &(&'static str, &'static [u8])| {
        let hash = digest(&SHA256, bytes);
        let mut tag = String::from("\"");
        for byte in hash.as_ref().iter().take(16) {
            let _ = write!(tag, "{byte:02x}");
        }
        tag.push('"');
        (*name, Asset { bytes, kind: content_type(name), tag })
    };
    ASSETS.iter().map(asset).collect()
});

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "webmanifest" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// True for a path below `/assets/`, and for the icon that browsers ask for by themselves.
pub(crate) fn is_asset(path: &str) -> bool {
    path.starts_with(PREFIX) || path == "/favicon.ico"
}

/// A file by its path.
pub(crate) fn asset(path: &str, headers: &HeaderMap) -> Response {
    // What is no path below the prefix is the icon that browsers ask for by themselves.
    serve(path.strip_prefix(PREFIX).unwrap_or("favicon.svg"), headers)
}

/// The console's page.
pub(crate) fn index(headers: &HeaderMap) -> Response {
    serve(INDEX, headers)
}

fn serve(name: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = BY_NAME.get(name) else {
        return Refusal::not_found(format!("there is no file `{name}`"), "").into_response();
    };
    let known =
        headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).is_some_and(
            |tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == asset.tag),
        );
    let status = if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let body = if known { Body::empty() } else { Body::from(asset.bytes) };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(REVALIDATE));
    if let Ok(tag) = HeaderValue::from_str(&asset.tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// A refusal as a page, for a person with a browser.
pub(crate) fn refusal_page(refusal: &Refusal) -> Response {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Holdfast: {status}</title>\n\
         <link rel=\"stylesheet\" href=\"/assets/base.css\">\n</head>\n<body>\n\
         <main class=\"main\">\n<h1>{status}</h1>\n<p>{message}</p>\n<p>{help}</p>\n</main>\n\
         </body>\n</html>\n",
        status = refusal.status,
        message = escape(&refusal.fault.message),
        help = escape(&refusal.fault.help),
    );
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (refusal.status, kind, page).into_response()
}

/// Text as HTML text. The text may hold what a client sent (its `Host`).
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_known_type_and_its_own_tag() {
        for (name, asset) in BY_NAME.iter() {
            assert_ne!(asset.kind, "application/octet-stream", "{name}");
            assert_eq!(asset.tag.len(), 34, "{name}");
        }
        assert!(BY_NAME.contains_key(INDEX));
    }

    #[test]
    fn a_name_outside_the_table_is_not_found() {
        let none = HeaderMap::new();
        for path in ["/assets/../Cargo.toml", "/assets/", "/assets//etc/passwd", "/assets/%2e%2e"] {
            assert_eq!(asset(path, &none).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[test]
    fn what_a_client_sent_is_text_on_the_page() {
        assert_eq!(escape("<script>'\"&"), "&lt;script&gt;&#39;&quot;&amp;");
    }
}

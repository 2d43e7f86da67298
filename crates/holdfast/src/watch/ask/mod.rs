//! The questions that the watcher puts to services and to what they depend on. What an answer
//! means is the watcher's business.
//!
//! Invariants: each question ends within its time; none reads more than [`http::BODY_BYTES_MAX`]
//! of an answer, follows a redirect, or runs a shell; one that can't be put for a reason of ours
//! (too much to do, no such user) is `CannotTell`, never a no.

mod access_log;
mod command;
mod disk;
mod http;

pub(super) use access_log::LineCounter;
pub(super) use command::{Command, Commands};
pub(super) use disk::Places;

use base::Answer;
use std::time::{Duration, Instant};
use supervisor::HealthProbe;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Connections that are open to ask, at a time. A service has a few detectors, and each question is
/// under way once: beyond it they wait, within their own time.
const CONNECTIONS_MAX: usize = 256;

/// Bounds what is under way.
#[derive(Debug)]
pub(super) struct Doors {
    connections: Semaphore,
}

impl Doors {
    pub(super) fn new() -> Self {
        Self { connections: Semaphore::new(CONNECTIONS_MAX) }
    }

    /// Asks by TCP or HTTP; says how long the answer took.
    pub(super) async fn ask(&self, probe: &HealthProbe, timeout: Duration) -> (Answer, Duration) {
        let deadline = Instant::now() + timeout;
        let Ok(Ok(_permit)) = tokio::time::timeout(timeout, self.connections.acquire()).await
        else {
            let why = format!("{CONNECTIONS_MAX} other questions are under way");
            return (Answer::CannotTell(why), timeout);
        };
        let began = Instant::now();
        let left = deadline.saturating_duration_since(began);
        let answer = tokio::time::timeout(left, answer_of(probe)).await;
        let answer = answer.unwrap_or_else(|_| Answer::No(no_answer(left)));
        (answer, began.elapsed())
    }

    /// A number in a JSON document.
    pub(super) async fn count(
        &self,
        url: &str,
        field: &str,
        timeout: Duration,
    ) -> Result<u64, String> {
        let counting = async {
            let _permit = self.connections.acquire().await.map_err(|error| error.to_string())?;
            let got = http::get(url, http::Want::Body).await?;
            if got.more {
                return Err(format!("it has more than {} bytes", http::BODY_BYTES_MAX));
            }
            number_in(&got.body, field)
        };
        let counted = tokio::time::timeout(timeout, counting).await;
        let counted = counted.unwrap_or_else(|_| Err(no_answer(timeout)));
        counted.map_err(|why| format!("no number `{field}` from {url}: {why}"))
    }
}

pub(super) fn no_answer(within: Duration) -> String {
    // What is left of a time-out when the question is put is a little less than what was set.
    let shown = Duration::from_millis(within.as_micros().div_ceil(1_000) as u64);
    format!("no answer within {}", base::format_duration(shown))
}

async fn answer_of(probe: &HealthProbe) -> Answer {
    match probe {
        HealthProbe::Tcp(address) => match TcpStream::connect(address).await {
            Ok(_) => Answer::Yes,
            Err(error) => Answer::No(format!("cannot connect to {address}: {error}")),
        },
        HealthProbe::Http { url, status, contains } => {
            let want = if contains.is_some() { http::Want::Body } else { http::Want::Head };
            match http::get(url, want).await {
                Ok(got) => judge(&got, *status, contains.as_deref()),
                Err(why) => Answer::No(why),
            }
        }
        HealthProbe::Command(_) => Answer::CannotTell("a command is asked by running it".into()),
    }
}

fn judge(got: &http::Got, status: Option<u16>, contains: Option<&str>) -> Answer {
    let fine = status.map_or((200..=399).contains(&got.status), |wanted| wanted == got.status);
    if !fine {
        let wanted = status.map_or(String::new(), |wanted| format!(", {wanted} is wanted"));
        return Answer::No(format!("it answered {}{wanted}", got.status));
    }
    match contains {
        Some(text) if !holds(&got.body, text.as_bytes()) => {
            let looked_at = got.body.len();
            Answer::No(format!("`{text}` is not in the first {looked_at} bytes of its answer"))
        }
        _ => Answer::Yes,
    }
}

fn holds(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

/// `a.b.c` of a document; whole numbers only, as nothing else can be counted.
fn number_in(body: &[u8], field: &str) -> Result<u64, String> {
    let document: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| format!("it is no JSON: {error}"))?;
    let found = field.split('.').try_fold(&document, |value, name| value.get(name));
    match found {
        Some(value) => value.as_u64().ok_or_else(|| "it is no whole number".to_owned()),
        None => Err("it has no such field".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h6_a_counter_is_found_in_a_document_or_the_reason_why_not() {
        let document = br#"{"a": {"b": 42, "c": 1.5, "d": "7"}}"#;
        assert_eq!(number_in(document, "a.b"), Ok(42));
        for (field, why) in [("a.c", "no whole number"), ("a.d", "no whole"), ("a.x", "no such")] {
            assert!(number_in(document, field).unwrap_err().contains(why), "{field}");
        }
        assert!(number_in(b"<html>", "a").unwrap_err().contains("no JSON"));
    }

    #[test]
    fn h17_status_and_text_of_an_answer_are_judged_with_the_reason() {
        let got = |status| http::Got { status, body: b"all is well".to_vec(), more: false };
        assert_eq!(judge(&got(204), None, None), Answer::Yes);
        assert_eq!(judge(&got(302), None, Some("is well")), Answer::Yes);
        assert_eq!(judge(&got(500), None, None), Answer::No("it answered 500".into()));
        let why = Answer::No("it answered 204, 200 is wanted".into());
        assert_eq!(judge(&got(204), Some(200), None), why);
        let why = "`sick` is not in the first 11 bytes of its answer";
        assert_eq!(judge(&got(200), Some(200), Some("sick")), Answer::No(why.into()));
    }
}

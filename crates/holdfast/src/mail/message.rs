//! A mail as it travels: headers and body by RFC 5322 and MIME.
//!
//! Invariant: the same mail always has the same Message-ID, so that whoever gets it twice (we died
//! between the server's answer and our note of it) can tell.
//! Source: RFC 5322; RFC 2047 (umlauts in a subject); RFC 3834 (who answers to whom); X-Priority
//! and Importance as in RFC 2156 and common use.

use super::text::Text;
use anyhow::Context as _;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::{Address, Message};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A mailbox with its address, `root@example.org` or `Ops <ops@example.org>`.
pub(crate) fn mailbox(text: &str) -> anyhow::Result<Mailbox> {
    text.parse().with_context(|| format!("`{text}` is no mail address"))
}

/// The address of a mailbox, as the envelope has it.
pub(crate) fn address(text: &str) -> anyhow::Result<Address> {
    Ok(mailbox(text)?.email)
}

/// What the headers say.
#[derive(Clone, Debug)]
pub(crate) struct Headers {
    /// From whom.
    pub(crate) from: Mailbox,
    /// To whom; everybody, also those who have got it already.
    pub(crate) to: Vec<Mailbox>,
    /// When it was queued, microseconds since the epoch.
    pub(crate) date_us: i64,
    /// `<left@right>`.
    pub(crate) message_id: String,
    /// A person must act.
    pub(crate) urgent: bool,
    /// Why it is written: `incident`, `page`, `digest`, `reminder`, `test`.
    pub(crate) purpose: &'static str,
}

/// The whole mail, lines ended by CRLF, ASCII only.
pub(crate) fn compose(headers: &Headers, text: &Text) -> anyhow::Result<Vec<u8>> {
    let micros = u64::try_from(headers.date_us).unwrap_or_default();
    let date: SystemTime = UNIX_EPOCH + Duration::from_micros(micros);
    let mut builder = Message::builder()
        .from(headers.from.clone())
        .subject(text.subject.clone())
        .date(date)
        .message_id(Some(headers.message_id.clone()));
    for to in &headers.to {
        builder = builder.to(to.clone());
    }
    // No holiday notice is wanted in answer.
    builder = raw(builder, "Auto-Submitted", "auto-generated")?;
    builder = raw(builder, "X-Holdfast", headers.purpose)?;
    if headers.urgent {
        builder = raw(builder, "X-Priority", "1 (Highest)")?;
        builder = raw(builder, "Importance", "high")?;
    }
    let message = builder.header(ContentType::TEXT_PLAIN).body(text.body.clone());
    Ok(message.context("cannot make a mail of the text")?.formatted())
}

fn raw(builder: MessageBuilder, name: &str, value: &str) -> anyhow::Result<MessageBuilder> {
    let name = HeaderName::new_from_ascii(name.to_owned()).context("a header's name")?;
    Ok(builder.raw_header(HeaderValue::new(name, value.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(urgent: bool) -> Headers {
        Headers {
            from: mailbox("holdfast@n1.example.org").unwrap(),
            to: vec![mailbox("Öps <ops@example.org>").unwrap(), mailbox("b@example.org").unwrap()],
            date_us: 1_700_000_000_000_000,
            message_id: "<7.ab@n1>".into(),
            urgent,
            purpose: "page",
        }
    }

    fn composed(subject: &str, body: &str, urgent: bool) -> String {
        let text = Text { subject: subject.into(), body: body.into() };
        String::from_utf8(compose(&headers(urgent), &text).unwrap()).unwrap()
    }

    #[test]
    fn umlauts_travel_as_ascii_and_a_page_says_that_it_is_one() {
        let mail = composed("[holdfast n1] Dienst für Köln", "Grüße\n.\nEnde\n", true);
        assert!(mail.is_ascii());
        assert!(mail.contains("\r\nSubject: [holdfast n1] Dienst =?utf-8?b?"), "{mail}");
        assert!(mail.contains("X-Priority: 1 (Highest)\r\nImportance: high\r\n"), "{mail}");
        assert!(mail.contains("Auto-Submitted: auto-generated\r\n"), "{mail}");
        assert!(mail.contains("Message-ID: <7.ab@n1>\r\n"), "{mail}");
        assert!(mail.contains("Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"), "{mail}");
        assert!(!composed("x", "y", false).contains("Importance"));
    }

    #[test]
    fn no_text_becomes_a_header() {
        let mail = composed("a\r\nBcc: x@example.org\r\n\r\nbody", "y", false);
        let head = mail.split("\r\n\r\n").next().unwrap();
        assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
    }

    #[test]
    fn an_address_that_is_none_is_named() {
        let why = address("ops at example").unwrap_err().to_string();
        assert_eq!(why, "`ops at example` is no mail address");
        assert_eq!(address("Ops <a@b.example>").unwrap().to_string(), "a@b.example");
    }
}

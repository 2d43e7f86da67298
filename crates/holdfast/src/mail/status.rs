//! How the queue stands, in a file for those who look: the command line and the metrics.
//!
//! Invariant: it is a picture, never an input; what decides is in the spool.

use control::{MailTryView, MailView};
use std::collections::BTreeMap;
use std::path::Path;
use supervisor::report::Outbox;

/// Mails that are listed one by one.
const LISTED_MAX: usize = 100;

/// A picture is small.
const VIEW_BYTES_MAX: u64 = 256 * 1024;

/// As the duty has written it last; `None` if it never has, or nobody may read it.
pub(crate) fn read(path: &Path) -> Option<MailView> {
    serde_json::from_str(&sys::regular::read_to_string(path, VIEW_BYTES_MAX).ok()?).ok()
}

/// What was wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// With the server as a whole.
    Server,
    /// With one recipient.
    Recipient,
}

/// Something went wrong. What goes wrong again and again is once in our log.
pub(super) fn trouble(view: &mut MailView, trouble: Trouble, words: &str) {
    if view.last_error.as_deref() != Some(words) {
        match trouble {
            Trouble::Server => tracing::warn!(error = words, "mail can't be delivered"),
            Trouble::Recipient => tracing::info!(error = words, "mail is put off"),
        }
    }
    view.last_error = Some(words.to_owned());
    view.last_error_us = Some(sys::clock::wall().as_micros());
}

/// Takes the present picture. `queued`: when each mail was queued.
pub(super) fn look(view: &mut MailView, outbox: &Outbox, queued: &BTreeMap<u64, i64>) {
    let (now, wall) = (sys::clock::now(), sys::clock::wall().as_micros());
    let at = |next: base::Now| {
        wall.saturating_add(i64::try_from(now.until(next).as_micros()).unwrap_or(i64::MAX))
    };
    let waiting = outbox.waiting();
    view.updated_us = wall;
    view.waiting = waiting.len() as u64;
    view.oldest_us = waiting.iter().filter_map(|mail| queued.get(&mail.number)).min().copied();
    view.server_failures = outbox.server_failures();
    view.next_us = outbox.next_wake().map(at);
    let mails = waiting.iter().take(LISTED_MAX).map(|mail| MailTryView {
        number: mail.number,
        failures: mail.failures,
        next_us: (!mail.under_way).then(|| at(mail.next)),
    });
    view.mails = mails.collect();
}

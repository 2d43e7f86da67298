//! Metrics of the mail queue, from the picture that the mail duty writes down.
//!
//! Invariant: where mail is not configured there is nothing of it; a disk that hangs costs a thread
//! and never the loop.

use super::Page;
use crate::App;
use control::MailView;
use std::path::Path;

/// The picture lists a hundred mails at most.
const VIEW_BYTES_MAX: u64 = 256 * 1024;

/// The queue, if mail is configured and the duty has written how it stands.
pub(super) async fn view(app: &App) -> Option<MailView> {
    let path = app.mail_view.clone()?;
    tokio::task::spawn_blocking(move || read(&path)).await.ok()?
}

fn read(path: &Path) -> Option<MailView> {
    serde_json::from_str(&sys::regular::read_to_string(path, VIEW_BYTES_MAX).ok()?).ok()
}

pub(super) fn mail(page: &mut Page, view: &MailView) {
    let age = view.oldest_us.map_or(0, |oldest| sys::clock::wall().as_micros() - oldest);
    page.family("holdfast_mail_waiting", "gauge", "Mails that wait for the mail server.");
    page.sample(&[], view.waiting);
    page.family("holdfast_mail_waiting_limit", "gauge", "More mails than this are merged.");
    page.sample(&[], view.waiting_max);
    page.family("holdfast_mail_oldest_seconds", "gauge", "Age of the oldest mail that waits.");
    page.sample(&[], age.max(0) / 1_000_000);
    page.family(
        "holdfast_mail_server_failures",
        "gauge",
        "How often in a row the mail server could not be used.",
    );
    page.sample(&[], view.server_failures);
    page.family(
        "holdfast_mail_delivered_total",
        "counter",
        "Mails delivered since the mail duty started.",
    );
    page.sample(&[], view.delivered);
    page.family(
        "holdfast_mail_refused_total",
        "counter",
        "Recipients that the mail server refused for good.",
    );
    page.sample(&[], view.refused);
    page.family(
        "holdfast_mail_merged_total",
        "counter",
        "Mails that were merged into others because they could not be delivered.",
    );
    page.sample(&[], view.merged);
}

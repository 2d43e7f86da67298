//! What the duty itself has to say: events and one standing notice, by way of the root.
//!
//! Invariant: bounded; what the root does not take in time is dropped with a word in the log. No
//! event of ours is ever told by mail.

use console::RootLink;
use control::{EventRecord, Notice, Request, Severity};
use tokio::sync::{mpsc, watch};

/// Notes that wait for the root.
const NOTES_MAX: usize = 64;

/// The notice's name in `status`.
const NOTICE: &str = "mail-delayed";

/// An event to be recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Note {
    pub(super) kind: &'static str,
    pub(super) severity: Severity,
    pub(super) message: String,
}

/// The saying end; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Notes(mpsc::Sender<Note>);

impl Notes {
    pub(super) fn new() -> (Self, mpsc::Receiver<Note>) {
        let (sender, receiver) = mpsc::channel(NOTES_MAX);
        (Self(sender), receiver)
    }

    /// Never waits.
    pub(super) fn say(&self, note: Note) {
        if let Err(error) = self.0.try_send(note) {
            let (mpsc::error::TrySendError::Full(note) | mpsc::error::TrySendError::Closed(note)) =
                error;
            tracing::warn!(
                kind = note.kind,
                message = note.message,
                "a note could not be recorded"
            );
        }
    }
}

/// Has the root record what was said, one after the other.
pub(super) async fn record(root: RootLink, node: String, mut notes: mpsc::Receiver<Note>) {
    while let Some(Note { kind, severity, message }) = notes.recv().await {
        let event = Box::new(EventRecord {
            seq: 0,
            source: "mail".to_owned(),
            source_seq: 0,
            wall_us: 0,
            mono_ns: 0,
            node: node.clone(),
            subject: "duty/mail".to_owned(),
            kind: kind.to_owned(),
            severity,
            message,
            data: serde_json::Map::new(),
        });
        if let Err(error) = root.ask(Request::Record { event }).await {
            tracing::warn!(kind, %error, "cannot record an event");
        }
    }
}

/// Keeps the notice in `status` as it should be.
pub(super) async fn keep_notice(root: RootLink, mut wanted: watch::Receiver<Option<String>>) {
    loop {
        let message = wanted.borrow_and_update().clone();
        let notice = message.map(|message| Notice {
            code: NOTICE.to_owned(),
            message,
            help:
                "`holdfast mail test` tells what the server says; `holdfast mail queue` what waits"
                    .to_owned(),
        });
        let request = Request::Notice { code: NOTICE.to_owned(), notice };
        if let Err(error) = root.ask(request).await {
            tracing::warn!(%error, "cannot put a notice into the status");
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

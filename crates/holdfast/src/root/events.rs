//! The root's facts on their way to disk, and then to whoever listens.
//!
//! Invariant: a listener is told of an event only when it is in the segment file, so that one
//! which reads the file on being told always finds it.

use anyhow::Context as _;
use control::{EventRecord, Severity};
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// An operator's answer waits at most this long for the record of what they asked.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(1);

/// Longest message of one event, in bytes; the rest is cut, and it says so.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// The way of an event.
pub(crate) struct Events {
    recorder: journal::Recorder,
    node: String,
    waiting: Mutex<std::collections::VecDeque<Arc<EventRecord>>>,
    listeners: broadcast::Sender<Arc<EventRecord>>,
    written: watch::Receiver<u64>,
}

impl Events {
    /// Begins to write to the segment files of `directory`.
    pub(crate) fn start(
        directory: &Path,
        node: String,
        listeners: broadcast::Sender<Arc<EventRecord>>,
    ) -> anyhow::Result<Self> {
        let recorder = journal::Recorder::start(directory, &node, "root")
            .with_context(|| format!("cannot write events to {}", directory.display()))?;
        let (tell, written) = watch::channel(recorder.written());
        recorder.on_written(Box::new(move |upto| {
            tell.send_replace(upto);
        }));
        let events = Self { recorder, node, waiting: Mutex::default(), listeners, written };
        for finding in events.recorder.findings() {
            let message = finding.message.clone();
            events.say("holdfast", finding.event_kind(), Severity::Warning, message);
        }
        Ok(events)
    }

    /// Tells up to which number all is in the file, each time it grows.
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.written.clone()
    }

    /// Passes on to the listeners what is written by now.
    pub(crate) fn publish(&self) {
        let upto = self.recorder.written();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(event) = waiting.pop_front_if(|event| event.source_seq <= upto) {
            // Nobody listens: that is fine, the file has it.
            let _ = self.listeners.send(event);
        }
    }

    /// Records one event; returns its number.
    pub(crate) fn record(&self, mut event: EventRecord) -> u64 {
        event.source = "root".into();
        event.node.clone_from(&self.node);
        event.wall_us = sys::clock::wall().as_micros();
        event.mono_ns = sys::clock::now().as_nanos();
        if MESSAGE_BYTES_MAX < event.message.len() {
            let mut end = MESSAGE_BYTES_MAX;
            while !event.message.is_char_boundary(end) {
                end -= 1;
            }
            event.message.truncate(end);
            event.message.push_str(" … (cut)");
        }
        log(&event);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        event.source_seq = self.recorder.record(event.clone());
        let number = event.source_seq;
        if waiting.len() == super::control_server::SUBSCRIBER_LAG_MAX {
            waiting.pop_front();
        }
        waiting.push_back(Arc::new(event));
        number
    }

    /// An event without details.
    pub(crate) fn say(
        &self,
        subject: &str,
        kind: &str,
        severity: Severity,
        message: String,
    ) -> u64 {
        self.say_with(subject, kind, severity, message, Map::new())
    }

    /// An event with details.
    pub(crate) fn say_with(
        &self,
        subject: &str,
        kind: &str,
        severity: Severity,
        message: String,
        data: Map<String, Value>,
    ) -> u64 {
        self.record(EventRecord {
            seq: 0,
            source: String::new(),
            source_seq: 0,
            wall_us: 0,
            mono_ns: 0,
            node: String::new(),
            subject: subject.to_owned(),
            kind: kind.to_owned(),
            severity,
            message,
            data,
        })
    }

    /// Something of ours did not work, and we go on (B14: every caught failure is on record).
    pub(crate) fn complain(&self, subject: &str, message: String) {
        self.say(subject, "daemon.complaint", Severity::Warning, message);
    }

    /// A fact of a core.
    pub(crate) fn core_event(&self, subject: &str, event: supervisor::Event) {
        let severity = match event.severity {
            supervisor::Severity::Info => Severity::Info,
            supervisor::Severity::Warning => Severity::Warning,
            supervisor::Severity::Error => Severity::Error,
        };
        let details = event.data.into_iter().map(|(name, value)| {
            let value = match value {
                supervisor::Value::Real(real) => real.into(),
                supervisor::Value::Text(text) => Value::from(text),
                supervisor::Value::Number(number) => Value::from(number),
                supervisor::Value::Flag(flag) => Value::from(flag),
            };
            (name.to_owned(), value)
        });
        let run = event.run.map(|run| ("run".to_owned(), Value::from(run.0)));
        let data = details.chain(run).collect();
        self.say_with(subject, event.kind.as_str(), severity, event.message, data);
    }

    /// Waits until everything recorded so far is in the file, within reason.
    pub(crate) async fn acknowledge(mut written: watch::Receiver<u64>, upto: u64) {
        let all = written.wait_for(|written| upto <= *written);
        let _ = tokio::time::timeout(ACKNOWLEDGE_MAX, all).await;
    }

    /// The number of the latest event.
    pub(crate) fn last(&self) -> u64 {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.back().map_or(0, |event| event.source_seq)
    }

    /// Waits until everything recorded so far is in the file. Blocks: only for the end.
    pub(crate) fn flush(&self) {
        self.recorder.wait_written(self.last(), ACKNOWLEDGE_MAX);
    }

    /// Events that could not be written.
    pub(crate) fn lost(&self) -> u64 {
        self.recorder.lost()
    }
}

fn log(event: &EventRecord) {
    let (subject, kind, message) = (&event.subject, &event.kind, &event.message);
    match event.severity {
        Severity::Info => tracing::info!(%subject, %kind, "{message}"),
        Severity::Warning => tracing::warn!(%subject, %kind, "{message}"),
        Severity::Error => tracing::error!(%subject, %kind, "{message}"),
    }
}

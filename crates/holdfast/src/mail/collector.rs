//! The collecting thread: reads events as they are written, has the reporter decide, and makes
//! durable what it decides.
//!
//! Why a thread: every step may wait for the disk, and the courier's loop must not.
//! Invariant: what was read is either committed together with the position behind it, or read
//! again after our death; nothing more is read while a commit fails.

use super::facts::fact;
use super::note::{Note, Notes};
use super::spool::{Mail, Spool};
use crate::paths::Paths;
use base::Now;
use config::Config;
use control::Severity;
use journal::Finding;
use journal::segment::Follower;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use supervisor::report::{Fact, Letter, ReportInput, Reporter, Workaround};
use tokio::sync::mpsc;

/// Events that are read before what they led to is looked at.
const BATCH_MAX: usize = 512;

/// First pause before looking again for an event that was announced; doubles.
const LOOK_AGAIN_FIRST: Duration = Duration::from_millis(5);

/// Times to look for an announced event before it is left to the next nudge.
const LOOKS_MAX: u32 = 10;

/// Without any nudge: events of processes that nobody announces.
const IDLE_LOOK: Duration = Duration::from_mins(1);

/// How long the position behind events that are not told may wait to be written down.
const COMMIT_PAUSE: Duration = Duration::from_secs(10);

/// Pause after trouble with the disk.
const TROUBLE_PAUSE: Duration = Duration::from_secs(2);

/// Subjects of one letter whose output is quoted.
const QUOTED_MAX: usize = 8;

/// Lines that are quoted of each.
const QUOTED_LINES: usize = 12;

/// What the root's pushes and the thread share.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// The thread is to end.
    pub(super) stopping: AtomicBool,
    /// The newest number that was announced, by source.
    pub(super) announced: Mutex<BTreeMap<String, u64>>,
}

/// Asks, and may wait for some seconds.
pub(super) type AskInForce = Box<dyn Fn() -> Option<Vec<Workaround>> + Send>;

/// See the module's head.
pub(super) struct Collector {
    pub(super) follower: Follower,
    pub(super) reporter: Reporter,
    pub(super) spool: Arc<Mutex<Spool>>,
    /// Who is told.
    pub(super) to: BTreeSet<String>,
    /// Where each instance's output is kept.
    pub(super) logs: Logs,
    /// What happened before is not told.
    pub(super) since_us: i64,
    /// It goes on where an earlier one was.
    pub(super) resumed: bool,
    /// Asks the root for the workarounds in force; `None` if it does not answer.
    pub(super) in_force: AskInForce,
    pub(super) signals: Arc<Signals>,
    pub(super) nudged: Receiver<()>,
    pub(super) queued: mpsc::Sender<Mail>,
    pub(super) notes: Notes,
    pub(super) progress: Progress,
}

/// Finds an instance's output.
pub(super) struct Logs {
    pub(super) config: Config,
    pub(super) paths: Paths,
}

impl Logs {
    fn of(&self, subject: &str) -> Option<PathBuf> {
        let instance: base::InstanceId = subject.parse().ok()?;
        let spec = self.config.services.get(&instance.service)?;
        Some(self.paths.log(&instance, spec))
    }
}

/// How far the thread is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Decided, and not committed yet.
    letters: Vec<Letter>,
    /// Since when something is read that is not committed.
    dirty: Option<Now>,
    seen: BTreeMap<String, u64>,
    looks: u32,
    in_trouble: bool,
}

impl Collector {
    /// Works until it is told to stop, or the nudging end is gone.
    pub(super) fn run(mut self) {
        // From the first moment on there is a place to go on from.
        self.progress.dirty = Some(Now::ZERO);
        if !self.resumed {
            self.correct(sys::clock::now());
        }
        loop {
            let pause = match self.turn() {
                Ok(()) => self.pause(),
                Err(error) => {
                    self.troubled(&format!("{error:#}"));
                    TROUBLE_PAUSE
                }
            };
            if self.signals.stopping.load(Ordering::Acquire) {
                return self.last_words();
            }
            match self.nudged.recv_timeout(pause) {
                Ok(()) => self.progress.looks = 0,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        // Decided before, when it could not be written down.
        if !self.progress.letters.is_empty() {
            self.commit()?;
        }
        loop {
            let batch = self.follower.poll(BATCH_MAX)?;
            if batch.is_empty() {
                break;
            }
            for finding in &batch.findings {
                self.take(missed(finding));
            }
            for event in &batch.records {
                let seen = self.progress.seen.entry(event.source.clone()).or_default();
                *seen = (*seen).max(event.source_seq);
                if self.since_us <= event.wall_us {
                    self.take(fact(event));
                }
            }
            self.follower.advance(&batch);
            self.progress.dirty.get_or_insert(sys::clock::now());
            if !self.progress.letters.is_empty() {
                self.commit()?;
            }
        }
        let now = sys::clock::now();
        if self.reporter.reminds(now) {
            self.correct(now);
        }
        self.reporter.handle(now, ReportInput::Tick, &mut self.progress.letters);
        let late = self.progress.dirty.is_some_and(|since| COMMIT_PAUSE <= now.since(since));
        if late || !self.progress.letters.is_empty() {
            self.commit()?;
        }
        if self.progress.in_trouble {
            self.progress.in_trouble = false;
            tracing::info!("mails can be queued again");
        }
        Ok(())
    }

    /// The root keeps the book of workarounds: it also knows those from before mail was wanted.
    fn correct(&mut self, now: Now) {
        if let Some(known) = (self.in_force)() {
            self.reporter.handle(now, ReportInput::InForce(known), &mut self.progress.letters);
        }
    }

    fn take(&mut self, fact: Fact) {
        let input = ReportInput::Fact(Box::new(fact));
        self.reporter.handle(sys::clock::now(), input, &mut self.progress.letters);
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        for letter in &mut self.progress.letters {
            quote(letter, &self.logs);
        }
        let kept = self.reporter.kept(sys::clock::now());
        let mails = {
            let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
            let letters = &self.progress.letters;
            spool.commit(self.follower.positions(), &kept, letters, &self.to)?
        };
        self.progress.letters.clear();
        self.progress.dirty = None;
        for mail in mails {
            // The courier ends before us only when all of us end: the next start finds it.
            let _ = self.queued.blocking_send(mail);
        }
        Ok(())
    }

    fn pause(&mut self) -> Duration {
        let now = sys::clock::now();
        let until = |at: Now| now.until(at);
        let wake = self.reporter.next_wake().map(until);
        let commit = self.progress.dirty.map(|since| until(since + COMMIT_PAUSE));
        [wake, commit, Some(self.next_look())].into_iter().flatten().min().unwrap_or(IDLE_LOOK)
    }

    /// How long to wait for a nudge.
    fn next_look(&mut self) -> Duration {
        let behind = {
            let announced = self.signals.announced.lock().unwrap_or_else(PoisonError::into_inner);
            let seen = &self.progress.seen;
            announced.iter().any(|(source, newest)| seen.get(source).is_none_or(|it| it < newest))
        };
        if !behind || LOOKS_MAX <= self.progress.looks {
            return IDLE_LOOK;
        }
        let pause = LOOK_AGAIN_FIRST * 2_u32.pow(self.progress.looks);
        self.progress.looks += 1;
        pause
    }

    /// The end: what is decided waits on disk for the next start.
    fn last_words(mut self) {
        if self.progress.dirty.is_some()
            && let Err(error) = self.commit()
        {
            tracing::warn!(error = %format!("{error:#}"), "read again by the next start");
        }
    }

    fn troubled(&mut self, error: &str) {
        if self.progress.in_trouble {
            return;
        }
        self.progress.in_trouble = true;
        tracing::error!(error, "mails can't be queued");
        self.notes.say(Note {
            kind: "mail.not_queued",
            severity: Severity::Error,
            message: format!("mails can't be queued; what happens is told once they can: {error}"),
        });
    }
}

/// Damage between events, as something to be told.
fn missed(finding: &Finding) -> Fact {
    Fact {
        wall: sys::clock::wall(),
        subject: "holdfast".into(),
        kind: "events.missed".into(),
        severity: supervisor::Severity::Error,
        message: format!("not every event can be told by mail: {}", finding.message),
        cause: None,
        uptime: None,
        evidence: None,
        output: Vec::new(),
        planned: false,
        waits: false,
        helped: false,
    }
}

/// Adds what the services wrote last; of a victim that tells nothing.
fn quote(letter: &mut Letter, logs: &Logs) {
    let own = letter.entries.iter_mut().filter(|entry| entry.follows.is_none());
    for entry in own.take(QUOTED_MAX) {
        if let Some(path) = logs.of(&entry.subject)
            && let Ok(lines) = journal::logfile::tail(&path, QUOTED_LINES)
        {
            entry.quote(&lines);
        }
    }
}

/// From when on events are told: after a first start, those since mail is wanted.
pub(super) fn since(wanted_us: Option<i64>, resumed: bool) -> i64 {
    match (resumed, wanted_us) {
        (true, _) => i64::MIN,
        (false, Some(wanted)) => wanted,
        (false, None) => sys::clock::wall().as_micros(),
    }
}

#[cfg(test)]
mod tests;

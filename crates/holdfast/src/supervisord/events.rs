//! The loop of the events: reads the root's records, tells them as supervisord's events, and moves
//! between listeners and their pools.
//!
//! Why from the segment files and not from what the root pushes: what happened while this duty was
//! dead is told, too. The push only says that there is something to read.
//! Invariants: a record is offered once, in order; it is remembered as dealt with only when every
//! listener has dealt with it.

use super::house::House;
use super::listeners::Listeners;
use super::memory::Memory;
use super::output::{self, Outputs};
use super::pipes::Heard;
use base::Now;
use control::{EventRecord, Snapshot};
use journal::FindingKind;
use journal::segment::{Batch, Follower, Positions, SegmentError, load_cursor, save_cursor};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use supervisord::Translator;
use supervisord::event::{EventName, Payload, TICKS};
use tokio::sync::mpsc;

/// Records of one look.
const BATCH_MAX: usize = 256;

/// Without any nudge: writers that nobody announces.
const IDLE_LOOK: Duration = Duration::from_secs(30);

/// Pause after trouble with the disk or with the root.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

/// Between two writings of the cursor, which are synced.
const CURSOR_PAUSE: Duration = Duration::from_secs(30);

/// Looks at the output of a run that has ended: what is more than so many events is told later.
const LAST_WORDS_LOOKS: usize = 16;

/// Why outputs are followed at all.
const OUTPUT_EVENTS: [EventName; 4] = [
    EventName::ProcessLogStdout,
    EventName::ProcessLogStderr,
    EventName::ProcessCommunicationStdout,
    EventName::ProcessCommunicationStderr,
];

/// A duty that begins within this time of the daemon tells what happened from its start on.
const FRESH: Duration = Duration::from_secs(30);

/// How far we are, for whoever deletes segments.
pub(crate) fn cursor_path(state: &std::path::Path) -> PathBuf {
    state.join("supervisord.cursor")
}

fn memory_path(state: &std::path::Path) -> PathBuf {
    state.join("supervisord.json")
}

/// Nobody listens any more, so nothing is owed to anybody who will.
pub(crate) fn forget(state: &std::path::Path) {
    for path in [memory_path(state), cursor_path(state)] {
        let _ = std::fs::remove_file(path);
    }
}

/// Runs until the end.
pub(crate) async fn run(house: Arc<House>) {
    let paths = (memory_path(&house.paths.state), cursor_path(&house.paths.state));
    let started = loop {
        let begun = tokio::select! {
            begun = Loop::begin(Arc::clone(&house), paths.clone()) => begun,
            () = house.shutdown.cancelled() => return,
        };
        match begun {
            Ok(started) => break started,
            Err(error) => {
                tracing::warn!(error = %format!("{error:#}"), "cannot begin to read events");
                tokio::time::sleep(TROUBLE_PAUSE).await;
            }
        }
    };
    let (mut turning, hearing) = started;
    turning.turn(hearing).await;
    turning.end().await;
}

struct Loop {
    house: Arc<House>,
    listeners: Listeners,
    translator: Translator,
    follower: Option<Follower>,
    /// Records before this time are history; `None`: whatever the memory says.
    history_before_us: Option<i64>,
    /// Everything before this is dealt with.
    safe: Positions,
    cursor_path: PathBuf,
    cursor_after: Now,
    saved: Positions,
    /// The last multiple of each period that was told.
    ticked: [i64; TICKS.len()],
    outputs: Outputs,
    /// When to look at them; `None`: there are none.
    outputs_at: Option<Now>,
}

impl Loop {
    async fn begin(
        house: Arc<House>,
        (memory_path, cursor_path): (PathBuf, PathBuf),
    ) -> anyhow::Result<(Self, mpsc::Receiver<Heard>)> {
        let snapshot = house.snapshot().await?;
        let (memory_at, cursor_at) = (memory_path.clone(), cursor_path.clone());
        let events = house.paths.events();
        let (memory, follower) = tokio::task::spawn_blocking(move || {
            let memory = Memory::load(&memory_at);
            let cursor = load_cursor(&cursor_at).unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot read how far events were told");
                None
            });
            let follower = match cursor {
                Some(positions) => Follower::open(&events, positions)?,
                // What was not dealt with may stand anywhere.
                None if memory.settled.is_some() => Follower::open(&events, Positions::new())?,
                None => Follower::open_at_newest(&events)?,
            };
            Ok::<_, SegmentError>((memory, follower))
        })
        .await??;
        let history_before_us = memory.settled.is_none().then(|| history_before(&snapshot));
        let (listeners, hearing) = Listeners::new(Arc::clone(&house), memory_path, memory);
        let safe = follower.positions().clone();
        let now = wall_seconds();
        let mut turning = Self {
            house,
            listeners,
            translator: Translator::default(),
            follower: Some(follower),
            history_before_us,
            saved: Positions::new(),
            safe,
            cursor_path,
            cursor_after: Now::ZERO,
            ticked: TICKS.map(|(_, period)| floor(now, period)),
            outputs: Outputs::default(),
            outputs_at: None,
        };
        let config = turning.house.config();
        turning.listeners.configure(&config);
        turning.follow_outputs(&config, history_before_us.unwrap_or_else(wall_micros));
        turning.meet(&snapshot);
        turning.read().await;
        // What the records say nothing of is as it is seen.
        let views = snapshot.services.iter().flat_map(|service| &service.instances);
        turning.translator.begin(views);
        Ok((turning, hearing))
    }

    async fn turn(&mut self, mut hearing: mpsc::Receiver<Heard>) {
        let mut happened = self.house.nudge.listen();
        let mut look_at = sys::clock::now();
        loop {
            self.listeners.remember(false);
            self.save_cursor().await;
            let now = sys::clock::now();
            let wake =
                [self.listeners.next_wake(), self.next_tick(now), self.outputs_at, Some(look_at)];
            let wake = wake.into_iter().flatten().min().unwrap_or(look_at);
            tokio::select! {
                // Cancel safe: a nudge that is not seen here is seen in the next turn.
                changed = happened.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    look_at = self.look().await;
                }
                Some(heard) = hearing.recv() => self.listeners.heard(now, heard),
                () = tokio::time::sleep(now.until(wake)) => {
                    let now = sys::clock::now();
                    if look_at <= now {
                        look_at = self.look().await;
                    }
                    if self.outputs_at.is_some_and(|at| at <= now) {
                        let is_more = self.tell_outputs(None).await;
                        let pause = if is_more { Duration::ZERO } else { output::LOOK_PAUSE };
                        self.outputs_at = Some(sys::clock::now() + pause);
                    }
                    self.tell_ticks(now);
                    self.listeners.tick(now);
                }
                () = self.house.shutdown.cancelled() => return,
            }
        }
    }

    async fn end(&mut self) {
        self.cursor_after = Now::ZERO;
        self.save_cursor().await;
        self.listeners.remember(true);
    }

    /// Reads what there is; says when to look again.
    async fn look(&mut self) -> Now {
        let pause = if self.read().await { IDLE_LOOK } else { TROUBLE_PAUSE };
        sys::clock::now() + pause
    }

    /// Reads all new records. False: there was trouble.
    async fn read(&mut self) -> bool {
        loop {
            let Some(follower) = self.follower.take() else { return false };
            let polled = tokio::task::spawn_blocking(move || {
                let batch = follower.poll(BATCH_MAX);
                (follower, batch)
            });
            // Only a panic loses the follower; then this duty has nothing to read from any more.
            let Ok((mut follower, batch)) = polled.await else {
                self.house.shutdown.cancel();
                return false;
            };
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    tracing::warn!(%error, "cannot read events");
                    self.follower = Some(follower);
                    return false;
                }
            };
            for finding in &batch.findings {
                tracing::warn!(message = %finding.message, "events that listeners are not told");
                if finding.kind == FindingKind::SegmentMissing {
                    // Numbering may have begun anew: what comes now is new, whatever its number.
                    self.listeners.lose_place();
                }
            }
            self.take(&batch).await;
            follower.advance(&batch);
            if self.listeners.is_all_settled() {
                self.safe.clone_from(follower.positions());
            }
            self.follower = Some(follower);
            if batch.records.len() < BATCH_MAX {
                return true;
            }
        }
    }

    async fn take(&mut self, batch: &Batch) {
        for record in &batch.records {
            self.house.main_log().push(record, &self.house.zone);
            if record.source != "root" {
                continue;
            }
            let payloads = self.translator.translate(record);
            if !self.is_history(record) {
                self.tell_last_words(record).await;
                let now = sys::clock::now();
                let mark = record.source_seq;
                for payload in payloads {
                    self.listeners.offer(now, payload, Some(mark));
                }
                self.listeners.offered(mark);
                self.note(now, record).await;
            }
        }
    }

    fn is_history(&mut self, record: &EventRecord) -> bool {
        if let Some(before) = self.history_before_us
            && record.wall_us < before
        {
            self.listeners.offered(record.source_seq);
            return true;
        }
        self.listeners.is_settled(record.source_seq)
    }

    /// What a record means for us.
    async fn note(&mut self, now: Now, record: &EventRecord) {
        match record.kind.as_str() {
            "service.ready" | "service.adopted" if self.listeners.is_listener(&record.subject) => {
                if let Some(run) = record.data.get("run").and_then(serde_json::Value::as_u64) {
                    self.listeners.begin(now, &record.subject, run);
                }
            }
            "daemon.reloaded" => {
                if let Err(fault) = self.house.read_in_force().await {
                    tracing::warn!(%fault, "the new configuration is not known here");
                }
                let config = self.house.config();
                self.listeners.configure(&config);
                self.follow_outputs(&config, record.wall_us);
                // A service that has become a listener without a restart, or runs already.
                if let Ok(snapshot) = self.house.snapshot().await {
                    self.meet(&snapshot);
                }
            }
            _ => {}
        }
    }

    /// Follows what listeners want to be told of. What began after `since_us` is told from its start.
    fn follow_outputs(&mut self, config: &config::Config, since_us: i64) {
        let wanted = OUTPUT_EVENTS.iter().any(|event| self.listeners.wants(*event));
        let since = Duration::from_micros(u64::try_from(since_us).unwrap_or_default());
        if wanted {
            self.outputs.configure(config, &self.house.paths, SystemTime::UNIX_EPOCH + since);
        } else {
            self.outputs = Outputs::default();
        }
        self.outputs_at = (!self.outputs.is_empty()).then(sys::clock::now);
    }

    /// What a run wrote comes before its end, as far as it is in its log by now.
    async fn tell_last_words(&mut self, record: &EventRecord) {
        if record.kind != "service.exited" || !self.outputs.has(&record.subject) {
            return;
        }
        for _ in 0..LAST_WORDS_LOOKS {
            if !self.tell_outputs(Some(record)).await {
                break;
            }
        }
        let now = sys::clock::now();
        for payload in self.outputs.end(&record.subject) {
            self.listeners.offer(now, payload, None);
        }
    }

    /// Tells what was written since the last time: by one that has ended, or by all. True: there is
    /// more.
    async fn tell_outputs(&mut self, ended: Option<&EventRecord>) -> bool {
        let mut outputs = std::mem::take(&mut self.outputs);
        let only = ended.map(|record| record.subject.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let read = outputs.read(only.as_deref());
            (outputs, read)
        });
        // As with the follower: only a panic loses them.
        let Ok((outputs, reads)) = reading.await else {
            self.house.shutdown.cancel();
            return false;
        };
        self.outputs = outputs;
        if reads.is_empty() {
            return false;
        }
        let pids = match ended {
            Some(record) => {
                let pid = record.data.get("pid").and_then(serde_json::Value::as_u64);
                let pid = pid.and_then(|pid| u32::try_from(pid).ok());
                pid.map(|pid| (record.subject.clone(), pid)).into_iter().collect()
            }
            None => self.pids().await,
        };
        let now = sys::clock::now();
        for read in &reads {
            if 0 < read.skipped {
                self.listeners.skipped(now, read.instance(), read.skipped);
            }
            for payload in self.outputs.tell(read, pids.get(read.instance()).copied()) {
                self.listeners.offer(now, payload, None);
            }
        }
        reads.iter().any(output::Read::is_full)
    }

    /// Who runs as which process.
    async fn pids(&self) -> BTreeMap<String, u32> {
        let Ok(snapshot) = self.house.snapshot().await else { return BTreeMap::new() };
        let views = snapshot.services.iter().flat_map(|service| &service.instances);
        views.filter_map(|view| Some((view.name.clone(), view.pid?))).collect()
    }

    /// Begins to talk to the listeners that run and that nobody talks to.
    fn meet(&mut self, snapshot: &Snapshot) {
        let now = sys::clock::now();
        let linked = self.listeners.linked();
        for view in snapshot.services.iter().flat_map(|service| &service.instances) {
            let is_up = view.state == "running" && !linked.contains(&view.name);
            if let Some(run) = view.run
                && is_up
                && self.listeners.is_listener(&view.name)
            {
                self.listeners.resume(now, &view.name, run);
            }
        }
    }

    fn next_tick(&self, now: Now) -> Option<Now> {
        let seconds = wall_micros();
        let wanted = TICKS.iter().zip(&self.ticked);
        let due = wanted.filter(|((name, _), _)| self.listeners.wants(*name)).map(
            |((_, period), last)| {
                let at = (last + *period as i64).saturating_mul(1_000_000);
                Duration::from_micros(u64::try_from(at.saturating_sub(seconds)).unwrap_or(0))
            },
        );
        due.min().map(|due| now + due)
    }

    fn tell_ticks(&mut self, now: Now) {
        let seconds = wall_seconds();
        for (index, (tick, period)) in TICKS.into_iter().enumerate() {
            let when = floor(seconds, period);
            let last = std::mem::replace(&mut self.ticked[index], when);
            // A clock that was set back tells nothing twice.
            if last < when && self.listeners.wants(tick) {
                self.listeners.offer(now, Payload::Tick { tick, when }, None);
            }
        }
    }

    async fn save_cursor(&mut self) {
        let now = sys::clock::now();
        if now < self.cursor_after || self.saved == self.safe {
            return;
        }
        self.cursor_after = now + CURSOR_PAUSE;
        let (path, positions) = (self.cursor_path.clone(), self.safe.clone());
        let saved =
            tokio::task::spawn_blocking(move || save_cursor(&path, &positions).map(|()| positions));
        match saved.await {
            Ok(Ok(positions)) => self.saved = positions,
            Ok(Err(error)) => tracing::warn!(%error, "cannot write how far events were told"),
            Err(_) => {}
        }
    }
}

/// Before which time nothing is news for listeners that nobody has told anything yet.
fn history_before(snapshot: &Snapshot) -> i64 {
    let age = snapshot.taken_us.saturating_sub(snapshot.started_us);
    let fresh = i64::try_from(FRESH.as_micros()).unwrap_or(i64::MAX);
    if age <= fresh { snapshot.started_us } else { snapshot.taken_us }
}

fn wall_micros() -> i64 {
    sys::clock::wall().as_micros()
}

fn wall_seconds() -> i64 {
    wall_micros().div_euclid(1_000_000)
}

/// The last multiple of the period.
fn floor(seconds: i64, period: u64) -> i64 {
    let period = i64::try_from(period).unwrap_or(i64::MAX);
    seconds.div_euclid(period) * period
}

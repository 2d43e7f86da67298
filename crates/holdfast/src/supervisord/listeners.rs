//! The event listeners: a pool for each of them, and a conversation for each of their runs.
//!
//! Drives [`supervisord::Pool`]: carries out what it asks for, in order, after it is remembered.
//! Invariants: a letter is handed to the run that it is for or to nobody; what listeners miss is
//! counted, and said at most every [`SAY_PAUSE`].

use super::house::{House, event};
use super::memory::{Memory, TalkMemory};
use super::pipes::{self, Ends, Heard, LETTERS_MAX, Speaker};
use base::{InstanceId, Now, RunId};
use config::Config;
use control::{Notice, Request, ServiceAction, Severity};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use supervisord::event::{EventName, Payload};
use supervisord::{Pool, PoolOutput, TalkState};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// What listeners wrote and nobody has dealt with yet; then they wait.
const HEARD_MAX: usize = 64;

/// Between two words about dropped events of one listener.
const SAY_PAUSE: Duration = Duration::from_secs(10);

/// A listener of which nobody knows for sure where its conversation stands has this long to say a
/// word; then it is restarted, so that it begins anew.
const PATIENCE: Duration = Duration::from_mins(1);

/// All listeners.
pub(crate) struct Listeners {
    house: Arc<House>,
    memory_path: PathBuf,
    pools: BTreeMap<String, Entry>,
    /// The number of the next event.
    serial: u64,
    /// Records up to this number have been offered.
    offered: Option<u64>,
    heard: mpsc::Sender<Heard>,
    remembered: Memory,
    /// Output that was passed over, of whom, since the last word about it.
    skipped: BTreeMap<String, u64>,
    skipped_after: Now,
}

struct Entry {
    pool: Pool,
    links: BTreeMap<String, Link>,
    /// Dropped since the last word about it.
    unsaid: u64,
    say_after: Now,
}

struct Link {
    run: u64,
    letters: mpsc::Sender<Vec<u8>>,
    task: AbortHandle,
    /// By then it must have said something.
    patience: Option<Now>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listeners {
    /// Goes on where `memory` says. What comes from the listeners is received.
    pub(crate) fn new(
        house: Arc<House>,
        memory_path: PathBuf,
        memory: Memory,
    ) -> (Self, mpsc::Receiver<Heard>) {
        let (heard, hearing) = mpsc::channel(HEARD_MAX);
        let (serial, offered) = (memory.serial, memory.settled);
        let pools = BTreeMap::new();
        let new = Self {
            house,
            memory_path,
            pools,
            serial,
            offered,
            heard,
            remembered: memory,
            skipped: BTreeMap::new(),
            skipped_after: Now::ZERO,
        };
        (new, hearing)
    }

    /// Takes a configuration: pools come, go, and change what they want.
    pub(crate) fn configure(&mut self, config: &Config) {
        let wanted = config
            .services
            .values()
            .filter_map(|spec| Some((spec.name.to_string(), spec.listener.as_ref()?)));
        let wanted: BTreeMap<String, _> = wanted.collect();
        self.pools.retain(|name, _| wanted.contains_key(name));
        for (name, listener) in wanted {
            let entry = self.pools.entry(name.clone()).or_insert_with(|| Entry {
                pool: Pool::new(&name, &self.house.face.identifier),
                links: BTreeMap::new(),
                unsaid: 0,
                say_after: Now::ZERO,
            });
            let wants = listener.events.iter().filter_map(|event| EventName::parse(event));
            let mut out = Vec::new();
            entry.pool.configure(wants.collect(), listener.buffer as usize, &mut out);
            self.carry_out(&name, out);
        }
    }

    /// Whether an instance is one of a listener.
    pub(crate) fn is_listener(&self, instance: &str) -> bool {
        self.pools.contains_key(pool_of(instance))
    }

    /// A run of an instance goes on that another duty has talked to, or that began while nobody did.
    pub(crate) fn resume(&mut self, now: Now, instance: &str, run: u64) {
        let known = self.remembered.talks.get(instance).filter(|talk| talk.run == run);
        let state = known.map_or(TalkState::Acknowledged, TalkMemory::state);
        // It was written before an event was sent: only READY is never a word behind.
        let is_sure = self.remembered.clean || known.is_none() || state == TalkState::Ready;
        let patience = (!is_sure && state != TalkState::Unknown).then(|| now + PATIENCE);
        self.connect(now, instance, run, state, patience);
    }

    /// An instance has begun a run.
    pub(crate) fn begin(&mut self, now: Now, instance: &str, run: u64) {
        let link = self.pools.get(pool_of(instance)).and_then(|entry| entry.links.get(instance));
        if link.is_none_or(|link| link.run < run) {
            self.connect(now, instance, run, TalkState::Acknowledged, None);
        }
    }

    fn connect(
        &mut self,
        now: Now,
        instance: &str,
        run: u64,
        state: TalkState,
        patience: Option<Now>,
    ) {
        let name = pool_of(instance).to_owned();
        let Ok(id) = instance.parse::<InstanceId>() else { return };
        let Some(entry) = self.pools.get_mut(&name) else { return };
        let speaker = Speaker { instance: instance.to_owned(), run };
        let ends = Ends {
            events: self.house.paths.listener_in(&id, RunId(run)),
            answers: self.house.paths.listener_out(&id, RunId(run)),
        };
        let (letters, waiting) = mpsc::channel(LETTERS_MAX);
        let talk = pipes::talk(speaker, ends, waiting, self.heard.clone());
        let task = self.house.run(talk);
        entry.links.insert(instance.to_owned(), Link { run, letters, task, patience });
        let mut out = Vec::new();
        entry.pool.join(now, instance, run, state, &mut out);
        if state != TalkState::Unknown {
            self.forget_notice(instance);
        }
        self.carry_out(&name, out);
    }

    /// Something has happened, as told by record `mark`.
    pub(crate) fn offer(&mut self, now: Now, payload: Payload, mark: Option<u64>) {
        let payload = Arc::new(payload);
        let serial = self.serial;
        self.serial += 1;
        let names: Vec<String> = self.pools.keys().cloned().collect();
        for name in names {
            let mut out = Vec::new();
            if let Some(entry) = self.pools.get_mut(&name) {
                entry.pool.offer(now, serial, &payload, mark, &mut out);
            }
            self.carry_out(&name, out);
        }
    }

    /// All events of this record have been offered.
    pub(crate) fn offered(&mut self, mark: u64) {
        self.offered = Some(mark);
    }

    /// Nobody knows any more which records have been offered: the next ones have not.
    pub(crate) fn lose_place(&mut self) {
        self.offered = None;
    }

    /// Whether the events of this record were dealt with by an earlier duty.
    pub(crate) fn is_settled(&self, mark: u64) -> bool {
        self.offered.is_some_and(|offered| mark <= offered)
    }

    /// A listener wrote something, or is gone.
    pub(crate) fn heard(&mut self, now: Now, heard: Heard) {
        let (Heard::Said(speaker, _) | Heard::Gone(speaker, _)) = &heard;
        let (instance, run) = (speaker.instance.clone(), speaker.run);
        let name = pool_of(&instance).to_owned();
        let Some(entry) = self.pools.get_mut(&name) else { return };
        let mut out = Vec::new();
        match heard {
            Heard::Said(_, bytes) => {
                if let Some(link) = entry.links.get_mut(&instance).filter(|link| link.run == run) {
                    link.patience = None;
                }
                entry.pool.hear(now, &instance, run, &bytes, &mut out);
            }
            Heard::Gone(_, why) => {
                tracing::debug!(instance, run, why, "an event listener's pipes are closed");
                if entry.links.get(&instance).is_some_and(|link| link.run == run) {
                    entry.links.remove(&instance);
                    entry.pool.leave(now, &instance, &mut out);
                }
            }
        }
        self.carry_out(&name, out);
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Now) {
        self.say_skipped(now);
        let names: Vec<String> = self.pools.keys().cloned().collect();
        for name in names {
            let mut out = Vec::new();
            let mut restart = Vec::new();
            if let Some(entry) = self.pools.get_mut(&name) {
                entry.pool.tick(now, &mut out);
                for (instance, link) in &mut entry.links {
                    if link.patience.take_if(|until| *until <= now).is_some() {
                        restart.push(instance.clone());
                    }
                }
            }
            self.carry_out(&name, out);
            self.say_dropped(now, &name);
            for instance in &restart {
                self.restart(instance);
            }
        }
    }

    /// When [`Self::tick`] wants to be called.
    pub(crate) fn next_wake(&self) -> Option<Now> {
        let wakes = self.pools.values().flat_map(|entry| {
            let say = (0 < entry.unsaid).then_some(entry.say_after);
            let patience = entry.links.values().filter_map(|link| link.patience);
            patience.chain(entry.pool.next_wake()).chain(say)
        });
        let skipped = (!self.skipped.is_empty()).then_some(self.skipped_after);
        wakes.chain(skipped).min()
    }

    /// Whether any listener wants an event of this name.
    pub(crate) fn wants(&self, event: EventName) -> bool {
        self.pools.values().any(|entry| entry.pool.wants(event))
    }

    /// Whether everything that was offered is dealt with.
    pub(crate) fn is_all_settled(&self) -> bool {
        self.pools.values().all(|entry| entry.pool.unsettled().is_none())
    }

    /// Writes down what must not be forgotten, if it has changed.
    pub(crate) fn remember(&mut self, clean: bool) {
        let unsettled = self.pools.values().filter_map(|entry| entry.pool.unsettled()).min();
        let settled = match unsettled {
            Some(first) => Some(first.saturating_sub(1)),
            None => self.offered,
        };
        let members = self.pools.values().flat_map(|entry| entry.pool.members());
        let talks = members
            .map(|(instance, run, state)| (instance.to_owned(), TalkMemory::new(run, state)))
            .collect();
        let memory = Memory { settled, serial: self.serial, clean, talks };
        if memory == self.remembered {
            return;
        }
        // A few hundred bytes into the page cache: not worth a thread.
        if let Err(error) = memory.save(&self.memory_path) {
            tracing::warn!(%error, "cannot remember what listeners were told");
        }
        self.remembered = memory;
    }

    fn carry_out(&mut self, name: &str, outputs: Vec<PoolOutput>) {
        if outputs.iter().any(|output| matches!(output, PoolOutput::Send { .. })) {
            self.remember(false);
        }
        for output in outputs {
            match output {
                PoolOutput::Send { member, run, bytes } => self.send(name, &member, run, bytes),
                PoolOutput::Dropped(_) => {
                    if let Some(entry) = self.pools.get_mut(name) {
                        entry.unsaid += 1;
                    }
                }
                PoolOutput::Confused { member, said } => self.confused(&member, &said),
            }
        }
    }

    fn send(&mut self, name: &str, member: &str, run: u64, bytes: Vec<u8>) {
        let link = self.pools.get(name).and_then(|entry| entry.links.get(member));
        let Some(link) = link.filter(|link| link.run == run) else { return };
        if link.letters.try_send(bytes).is_err() {
            // Its conversation has ended: that it is gone comes next, and brings the event back.
            tracing::debug!(member, run, "an event could not be sent");
        }
    }

    fn confused(&self, instance: &str, said: &str) {
        let message = format!(
            "{instance} is no longer sent events: it said \"{said}\", which is not of the \
             event-listener protocol"
        );
        let help = format!(
            "whatever it prints has to go to standard error; then run `holdfast service restart \
             {instance}`"
        );
        let notice = Notice { code: notice_code(instance), message: message.clone(), help };
        let record = event(instance, "listener.confused", Severity::Warning, message);
        let house = Arc::clone(&self.house);
        self.house.run(async move {
            house.record(record).await;
            house.notice(notice.code.clone(), Some(notice)).await;
        });
    }

    fn forget_notice(&self, instance: &str) {
        let (house, code) = (Arc::clone(&self.house), notice_code(instance));
        self.house.run(async move { house.notice(code, None).await });
    }

    fn say_dropped(&mut self, now: Now, name: &str) {
        let Some(entry) = self.pools.get_mut(name) else { return };
        if entry.unsaid == 0 || now < entry.say_after {
            return;
        }
        let (dropped, all) = (std::mem::take(&mut entry.unsaid), entry.pool.dropped());
        entry.say_after = now + SAY_PAUSE;
        let message = format!(
            "{dropped} events for {name} made way for newer ones: it does not keep up, or does not \
             run; `buffer` of its `event_listener` sets how many wait"
        );
        let mut record = event(name, "listener.dropped", Severity::Warning, message);
        record.data.insert("dropped".into(), dropped.into());
        record.data.insert("dropped_in_all".into(), all.into());
        let house = Arc::clone(&self.house);
        self.house.run(async move { house.record(record).await });
    }

    /// Output of a service came faster than it can be told.
    pub(crate) fn skipped(&mut self, now: Now, instance: &str, bytes: u64) {
        *self.skipped.entry(instance.to_owned()).or_default() += bytes;
        self.say_skipped(now);
    }

    fn say_skipped(&mut self, now: Now) {
        if self.skipped.is_empty() || now < self.skipped_after {
            return;
        }
        self.skipped_after = now + SAY_PAUSE;
        for (instance, bytes) in std::mem::take(&mut self.skipped) {
            let message = format!(
                "listeners are not told {} of what {instance} wrote: it writes faster than events go",
                base::ByteSize(bytes)
            );
            let kind = "listener.output_skipped";
            let mut record = event(&instance, kind, Severity::Warning, message);
            record.data.insert("bytes".into(), bytes.into());
            let house = Arc::clone(&self.house);
            self.house.run(async move { house.record(record).await });
        }
    }

    fn restart(&self, instance: &str) {
        let message = format!(
            "{instance} is restarted: nobody knows whether it waits for an event, and it has not \
             said a word in {}",
            base::format_duration(PATIENCE)
        );
        let record = event(instance, "listener.restarted", Severity::Warning, message);
        let request =
            Request::Service { action: ServiceAction::Restart, targets: vec![instance.to_owned()] };
        let house = Arc::clone(&self.house);
        self.house.run(async move {
            house.record(record).await;
            if let Err(error) = house.ask(request).await {
                tracing::warn!(%error, "cannot restart a listener");
            }
        });
    }

    /// Instances that are talked to.
    pub(crate) fn linked(&self) -> BTreeSet<String> {
        self.pools.values().flat_map(|entry| entry.links.keys().cloned()).collect()
    }
}

fn pool_of(instance: &str) -> &str {
    instance.split_once(':').map_or(instance, |(service, _)| service)
}

fn notice_code(instance: &str) -> String {
    format!("supervisord-listener-{instance}")
}

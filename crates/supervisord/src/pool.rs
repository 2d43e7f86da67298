//! The instances of one event listener, and the events that wait for them.
//!
//! Why a pool: as in supervisord, each event goes to one instance of a listener, and comes again if
//! that one failed or died over it.
//! Invariants: at most `limit` events wait, with at most [`OUTPUT_BYTES_MAX`] of output; the oldest
//! makes way and is counted; one event is with
//! one listener at a time; an event that was taken from the queue is dealt with or back in front.
//! Source: the manual's pages "Events" and "[eventlistener:x] Section Settings".

use crate::event::{EventName, Payload};
use crate::talk::{Said, Talk, TalkState};
use base::Now;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// An event that a listener failed on comes again after this: a listener that always fails must
/// not keep a core busy.
pub const REDELIVER_PAUSE: Duration = Duration::from_secs(1);

/// Output that waits for one listener, in bytes: what a service writes must not fill our memory,
/// however many events the listener lets wait.
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// An event on its way to a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// Number of the event.
    pub serial: u64,
    /// Number of the event within this pool.
    pub pool_serial: u64,
    /// What happened.
    pub payload: Arc<Payload>,
    /// The number of the record that it was made from; `None` = of none, and lost when we die.
    pub mark: Option<u64>,
}

/// What is to be done, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PoolOutput {
    /// Write this to a listener.
    Send {
        /// Which instance.
        member: String,
        /// Its run.
        run: u64,
        /// Header and payload.
        bytes: Vec<u8>,
    },
    /// An event made way for a newer one.
    Dropped(Dropped),
    /// A listener said something that nobody understands: it gets nothing until its next run.
    Confused {
        /// Which instance.
        member: String,
        /// The beginning of what it said.
        said: String,
    },
}

/// An event that nobody will get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dropped {
    /// Its name.
    pub event: EventName,
    /// Its number.
    pub serial: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Member {
    run: u64,
    talk: Talk,
    works_on: Option<Envelope>,
}

/// One listener service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    name: String,
    server: String,
    wants: BTreeSet<EventName>,
    limit: usize,
    waiting: VecDeque<Envelope>,
    /// Bytes of output in all that waits.
    weight: usize,
    members: BTreeMap<String, Member>,
    next_serial: u64,
    /// Nothing is sent before this.
    pause: Option<Now>,
    dropped: u64,
}

impl Pool {
    /// A pool without members. `server` is supervisord's `identifier`.
    pub fn new(name: &str, server: &str) -> Self {
        // Both stand in a line of `key:value` pairs.
        let plain = |text: &str| text.replace(|c: char| c == ':' || c.is_whitespace(), "_");
        Self {
            name: plain(name),
            server: plain(server),
            wants: BTreeSet::new(),
            limit: 0,
            waiting: VecDeque::new(),
            weight: 0,
            members: BTreeMap::new(),
            next_serial: 0,
            pause: None,
            dropped: 0,
        }
    }

    /// What it subscribes to, and how many events wait at most. Events that wait already stay.
    pub fn configure(
        &mut self,
        wants: BTreeSet<EventName>,
        limit: usize,
        out: &mut Vec<PoolOutput>,
    ) {
        self.wants = wants;
        self.limit = limit;
        self.make_room(0, 0, out);
    }

    /// Whether it subscribes to this.
    pub fn wants(&self, event: EventName) -> bool {
        self.wants.iter().any(|wanted| wanted.covers(event))
    }

    /// An event has happened.
    pub fn offer(
        &mut self,
        now: Now,
        serial: u64,
        payload: &Arc<Payload>,
        mark: Option<u64>,
        out: &mut Vec<PoolOutput>,
    ) {
        if !self.wants(payload.name()) {
            return;
        }
        if let Payload::Tick { tick, .. } = &**payload {
            // A listener that is slow needs the time once, and must not lose an event for it.
            self.waiting.retain(|waits| waits.payload.name() != *tick);
        }
        let pool_serial = self.next_serial;
        self.next_serial += 1;
        let envelope = Envelope { serial, pool_serial, payload: Arc::clone(payload), mark };
        self.make_room(1, payload.weight(), out);
        if self.limit == 0 {
            self.drop_one(&envelope, out);
        } else {
            self.weight += payload.weight();
            self.waiting.push_back(envelope);
        }
        self.dispatch(now, out);
    }

    /// An instance has begun a run, or goes on with one that somebody else has talked to.
    pub fn join(
        &mut self,
        now: Now,
        member: &str,
        run: u64,
        state: TalkState,
        out: &mut Vec<PoolOutput>,
    ) {
        self.leave(now, member, out);
        let joined = Member { run, talk: Talk::resumed(state), works_on: None };
        self.members.insert(member.to_owned(), joined);
        self.dispatch(now, out);
    }

    /// An instance has ended. What it worked on goes to the next one.
    pub fn leave(&mut self, now: Now, member: &str, out: &mut Vec<PoolOutput>) {
        let Some(gone) = self.members.remove(member) else { return };
        self.take_back(gone.works_on, out);
        self.dispatch(now, out);
    }

    /// An instance has written something.
    pub fn hear(
        &mut self,
        now: Now,
        member: &str,
        run: u64,
        bytes: &[u8],
        out: &mut Vec<PoolOutput>,
    ) {
        let Some(speaker) = self.members.get_mut(member).filter(|found| found.run == run) else {
            return;
        };
        for said in speaker.talk.hear(bytes) {
            let Some(speaker) = self.members.get_mut(member) else { return };
            match said {
                Said::Ready => {}
                Said::Done => speaker.works_on = None,
                Said::Failed => {
                    let again = speaker.works_on.take();
                    self.take_back(again, out);
                    self.pause = Some(now + REDELIVER_PAUSE);
                }
                Said::Nonsense(said) => {
                    let again = speaker.works_on.take();
                    self.take_back(again, out);
                    out.push(PoolOutput::Confused { member: member.to_owned(), said });
                }
            }
        }
        self.dispatch(now, out);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now, out: &mut Vec<PoolOutput>) {
        self.dispatch(now, out);
    }

    /// When it wants to be called again.
    pub fn next_wake(&self) -> Option<Now> {
        self.pause.filter(|_| !self.waiting.is_empty())
    }

    /// The smallest number of a record whose events are not all dealt with.
    pub fn unsettled(&self) -> Option<u64> {
        let working = self.members.values().filter_map(|member| member.works_on.as_ref());
        working.chain(&self.waiting).filter_map(|envelope| envelope.mark).min()
    }

    /// Run and state of each instance.
    pub fn members(&self) -> impl Iterator<Item = (&str, u64, TalkState)> {
        self.members.iter().map(|(name, member)| (name.as_str(), member.run, member.talk.state()))
    }

    /// Events that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Events that made way.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn dispatch(&mut self, now: Now, out: &mut Vec<PoolOutput>) {
        if self.pause.is_some_and(|until| now < until) {
            return;
        }
        self.pause = None;
        let free = |member: &&mut Member| member.talk.state() == TalkState::Ready;
        for (name, member) in &mut self.members {
            let Some(member) = Some(member).filter(free) else { continue };
            let Some(envelope) = self.waiting.pop_front() else { return };
            self.weight -= envelope.payload.weight();
            let bytes = letter(&self.server, &self.name, &envelope);
            member.talk.sent();
            member.works_on = Some(envelope);
            out.push(PoolOutput::Send { member: name.clone(), run: member.run, bytes });
        }
    }

    fn take_back(&mut self, envelope: Option<Envelope>, out: &mut Vec<PoolOutput>) {
        let Some(envelope) = envelope else { return };
        let weight = envelope.payload.weight();
        if self.waiting.len() < self.limit && self.weight + weight <= OUTPUT_BYTES_MAX {
            self.weight += weight;
            self.waiting.push_front(envelope);
        } else {
            // It is the oldest of all.
            self.drop_one(&envelope, out);
        }
    }

    fn make_room(&mut self, places: usize, weight: usize, out: &mut Vec<PoolOutput>) {
        while self.limit < self.waiting.len() + places || OUTPUT_BYTES_MAX < self.weight + weight {
            let Some(oldest) = self.waiting.pop_front() else { return };
            self.weight -= oldest.payload.weight();
            self.drop_one(&oldest, out);
        }
    }

    fn drop_one(&mut self, envelope: &Envelope, out: &mut Vec<PoolOutput>) {
        self.dropped += 1;
        let event = envelope.payload.name();
        out.push(PoolOutput::Dropped(Dropped { event, serial: envelope.serial }));
    }
}

/// Header and payload. The length is in characters, as supervisord counts it: its listeners read
/// text.
fn letter(server: &str, pool: &str, envelope: &Envelope) -> Vec<u8> {
    let Envelope { serial, pool_serial, payload, .. } = envelope;
    let (name, text) = (payload.name().as_str(), payload.text());
    let length = text.chars().count();
    format!(
        "ver:3.0 server:{server} serial:{serial} pool:{pool} poolserial:{pool_serial} \
         eventname:{name} len:{length}\n{text}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests;

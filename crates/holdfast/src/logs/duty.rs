//! The logs duty's loop: one owner of all streams; waits, moves output, answers the root.

use super::LogsOptions;
use super::compress::{Compressor, Done};
use super::files;
use super::handover::Ownership;
use super::link::{Link, Peer};
use super::pipe::Peek;
use super::protocol::{FromLogs, ToLogs, UntoldLoss, WatchPolicy, Yielded};
use super::sink::{Loss, SinkEvent, TURN_BYTES};
use super::stream::{Channel, Stream, StreamKey};
use super::waits::{asked_to_yield, link_ready, ready_streams, sleep_until, watched};
use super::yielding::{Asker, Door};
use anyhow::Context;
use base::InstanceId;
use rustix::event::epoll;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The end waits at most this long for what is still in the pipes. Nothing is lost beyond it.
const LAST_DRAIN_MAX: Duration = Duration::from_secs(1);

/// How often an orphan looks whether anybody still writes.
const ORPHAN_LOOKS: u32 = 6;

/// Everything the loop owns.
struct Duty<'a> {
    options: &'a LogsOptions,
    /// `None`: the root is gone.
    link: Option<Link>,
    epoll: AsyncFd<OwnedFd>,
    streams: BTreeMap<u64, Stream>,
    numbers: BTreeMap<StreamKey, u64>,
    next_number: u64,
    drains: Vec<Drain>,
    /// Losses of the duty before us, until their stream is watched again.
    carried: BTreeMap<StreamKey, Loss>,
    compressor: Compressor,
    peek: Peek,
    scratch: Vec<u8>,
    orphan: Option<Orphan>,
}

/// Somebody waits until streams have reached their marks.
struct Drain {
    marks: Vec<(u64, u64)>,
    then: AfterDrain,
}

enum AfterDrain {
    Answer { token: u64 },
    Forget { instance: InstanceId },
}

/// The root is gone.
struct Orphan {
    last_writer: Instant,
    next_look: Instant,
}

enum End {
    Asked(&'static str),
    Yield(Asker),
}

pub(super) async fn run(
    link: OwnedFd,
    options: &LogsOptions,
    socket: &Path,
    ownership: Ownership,
) -> anyhow::Result<()> {
    let mut stop = signal(SignalKind::terminate())?;
    // A terminal's Ctrl-C and hang-up are meant for the root; our work goes on.
    let _ignored = [signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?];
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
    let mut duty = Duty {
        options,
        link: Some(Link::new(link).context("cannot use the link to the root")?),
        epoll: watched(epoll)?,
        streams: BTreeMap::new(),
        numbers: BTreeMap::new(),
        next_number: 0,
        drains: Vec::new(),
        carried: ownership.untold.iter().filter_map(carried).collect(),
        compressor: Compressor::start().context("cannot start the compressing thread")?,
        peek: Peek::new(TURN_BYTES).context("cannot make a pipe")?,
        scratch: vec![0; TURN_BYTES],
        orphan: None,
    };
    for notice in &ownership.notices {
        tracing::warn!("{notice}");
        duty.say(FromLogs::Notice { message: notice.clone() });
    }
    let mut door = match Door::open(socket) {
        Ok(door) => Some(door),
        Err(error) => {
            let path = socket.display();
            let message = format!("cannot listen on {path}: {error}; a successor will kill us");
            duty.say(FromLogs::Notice { message });
            None
        }
    };
    duty.say(FromLogs::Ready);
    let end = duty.serve(&mut stop, door.as_mut()).await;
    duty.drain_all().await;
    match end {
        End::Asked(why) => {
            tracing::info!(why, "logs duty ends");
            if let Some(door) = door {
                door.close();
            }
        }
        End::Yield(asker) => {
            tracing::info!(pid = asker.pid(), "logs duty yields to its successor");
            asker.answer(&duty.last_words()).await;
        }
    }
    // The lock was held until here.
    drop(ownership);
    Ok(())
}

impl Duty<'_> {
    async fn serve(&mut self, stop: &mut Signal, mut door: Option<&mut Door>) -> End {
        loop {
            self.finish_drains();
            self.feed_compressor();
            self.flush();
            let wake = self.next_wake();
            tokio::select! {
                ready = self.epoll.readable() => match ready {
                    Ok(mut guard) => {
                        let numbers = ready_streams(guard.get_inner());
                        if numbers.is_empty() {
                            guard.clear_ready();
                        }
                        for number in numbers {
                            self.turn(number);
                        }
                    }
                    Err(error) => tracing::error!(%error, "cannot wait for output"),
                },
                result = link_ready(self.link.as_ref()) => self.hear(result),
                done = self.compressor.next() => self.compressed(&done),
                asker = asked_to_yield(door.as_deref_mut()) => return End::Yield(asker),
                _ = stop.recv() => return End::Asked("SIGTERM"),
                () = sleep_until(wake) => {
                    if self.on_time() == Orphanage::Over {
                        return End::Asked("the root and all services are gone");
                    }
                }
            }
            // A flood keeps the pipes ready for ever; the root must be heard all the same.
            tokio::task::yield_now().await;
        }
    }

    /// One stream's turn. A pipe that can't be read is given up: waiting on it would spin.
    fn turn(&mut self, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let mut events = Vec::new();
        let result = stream.turn(&mut self.peek, &mut self.scratch, &mut events);
        self.tell(number, events);
        if let Err(error) = result {
            if let Some(instance) = self.instance_of(number) {
                let message = format!("cannot read its output: {error}");
                self.say(FromLogs::Failed { instance: instance.to_string(), message });
            }
            self.forget_stream(number);
        }
    }

    fn hear(&mut self, ready: std::io::Result<()>) {
        let mut messages = Vec::new();
        let peer = match (&mut self.link, ready) {
            (Some(link), Ok(())) => link.receive(&mut messages),
            (_, Err(_)) | (None, _) => Peer::Gone,
        };
        for message in messages {
            self.obey(message);
        }
        if peer == Peer::Gone {
            self.become_orphan();
        }
    }

    fn become_orphan(&mut self) {
        if self.link.take().is_some() {
            tracing::warn!("the root is gone; going on keeping the services' output");
            let now = Instant::now();
            let next_look = now + self.options.orphan_linger / ORPHAN_LOOKS;
            self.orphan = Some(Orphan { last_writer: now, next_look });
        }
    }

    fn obey(&mut self, message: ToLogs) {
        let name = match &message {
            ToLogs::Watch { instance, .. }
            | ToLogs::Unwatch { instance }
            | ToLogs::Drain { instance, .. } => instance.clone(),
        };
        // It becomes part of file names: nothing but a checked name gets further.
        let Ok(instance) = name.parse::<InstanceId>() else {
            let message = "this is no name of an instance".to_owned();
            return self.say(FromLogs::Failed { instance: name, message });
        };
        match message {
            ToLogs::Watch { policy, .. } => self.watch(&instance, &policy),
            ToLogs::Unwatch { .. } => {
                let marks = self.marks(&instance);
                self.drains.push(Drain { marks, then: AfterDrain::Forget { instance } });
            }
            ToLogs::Drain { token, .. } => {
                let marks = self.marks(&instance);
                self.drains.push(Drain { marks, then: AfterDrain::Answer { token } });
            }
        }
    }

    fn watch(&mut self, instance: &InstanceId, policy: &WatchPolicy) {
        // Wanted again: it must not be forgotten by an earlier order.
        self.drains.retain(
            |d| !matches!(&d.then, AfterDrain::Forget { instance: gone } if gone == instance),
        );
        self.watch_channel(instance, Channel::Output, policy);
        if policy.split_stderr {
            self.watch_channel(instance, Channel::Error, policy);
        }
        // Without the split a run that began before may still write there: kept until the end.
    }

    fn watch_channel(&mut self, instance: &InstanceId, channel: Channel, policy: &WatchPolicy) {
        let key = StreamKey { instance: instance.clone(), channel };
        let mut wanted = key.sink_policy(policy, &self.options.state_dir);
        if let Some(other) = self.other_writer(&key, &wanted.path) {
            let message = format!(
                "log file {} is already written by `{other}`: give each instance its own, for \
                 example with {{index}}; using {} instead",
                wanted.path.display(),
                key.default_log(&self.options.state_dir).display()
            );
            self.say(FromLogs::Failed { instance: instance.to_string(), message });
            wanted.path = key.default_log(&self.options.state_dir);
        }
        let mut events = Vec::new();
        if let Some(number) = self.numbers.get(&key).copied() {
            if let Some(stream) = self.streams.get_mut(&number)
                && *stream.sink.policy() != wanted
            {
                let untold = stream.sink.untold_loss().cloned();
                stream.sink = super::sink::Sink::open(wanted, untold, &mut events);
            }
            return self.tell(number, events);
        }
        let pipe = key.pipe_path(&self.options.state_dir);
        let carried = self.carried.remove(&key);
        let opened = Stream::open(&pipe, wanted, carried, &mut events)
            .and_then(|stream| Ok((self.register(&stream)?, stream)));
        match opened {
            Ok((number, stream)) => {
                self.streams.insert(number, stream);
                self.numbers.insert(key, number);
                self.tell(number, events);
            }
            Err(error) => {
                let message = format!("cannot read pipe {}: {error}", pipe.display());
                self.say(FromLogs::Failed { instance: instance.to_string(), message });
            }
        }
    }

    fn register(&mut self, stream: &Stream) -> std::io::Result<u64> {
        let number = self.next_number;
        self.next_number += 1;
        let data = epoll::EventData::new_u64(number);
        epoll::add(self.epoll.get_ref(), &stream.source, data, epoll::EventFlags::IN)?;
        Ok(number)
    }

    /// Two writers of one file would overwrite each other. Asked of every other stream, at each
    /// new one, so the paths are compared as bytes: by their parts it took seconds with thousands.
    fn other_writer(&self, key: &StreamKey, path: &Path) -> Option<InstanceId> {
        let clash = |(other, number): &(&StreamKey, &u64)| {
            *other != key
                && self
                    .streams
                    .get(number)
                    .is_some_and(|s| s.sink.path().as_os_str() == path.as_os_str())
        };
        self.numbers.iter().find(clash).map(|(other, _)| other.instance.clone())
    }

    fn marks(&self, instance: &InstanceId) -> Vec<(u64, u64)> {
        let own = self.numbers.iter().filter(|(key, _)| key.instance == *instance);
        own.filter_map(|(_, number)| {
            let stream = self.streams.get(number)?;
            Some((*number, stream.mark().ok()?))
        })
        .collect()
    }

    fn finish_drains(&mut self) {
        let reached = |drain: &Drain| {
            drain.marks.iter().all(|(number, mark)| {
                self.streams.get(number).is_none_or(|stream| stream.has_reached(*mark))
            })
        };
        let (done, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.drains).into_iter().partition(reached);
        self.drains = open;
        for drain in done {
            match drain.then {
                AfterDrain::Answer { token } => self.say(FromLogs::Drained { token }),
                AfterDrain::Forget { instance } => {
                    let own: Vec<u64> = self
                        .numbers
                        .iter()
                        .filter(|(key, _)| key.instance == instance)
                        .map(|(_, number)| *number)
                        .collect();
                    for number in own {
                        self.forget_stream(number);
                    }
                    self.say(FromLogs::Unwatched { instance: instance.to_string() });
                }
            }
        }
    }

    fn forget_stream(&mut self, number: u64) {
        if let Some(stream) = self.streams.remove(&number) {
            // Closing the pipe would do; but then a copy of the descriptor somewhere could keep
            // it registered.
            let _ = epoll::delete(self.epoll.get_ref(), &stream.source);
        }
        self.numbers.retain(|_, own| *own != number);
    }

    fn next_wake(&self) -> Option<Instant> {
        let sinks = self.streams.values().filter_map(|stream| stream.sink.next_wake());
        sinks.chain(self.orphan.iter().map(|orphan| orphan.next_look)).min()
    }

    fn on_time(&mut self) -> Orphanage {
        let now = Instant::now();
        let mut told = Vec::new();
        for (number, stream) in &mut self.streams {
            let mut events = Vec::new();
            stream.sink.on_time(now, &mut events);
            told.push((*number, events));
        }
        for (number, events) in told {
            self.tell(number, events);
        }
        self.look_for_writers(now)
    }

    fn look_for_writers(&mut self, now: Instant) -> Orphanage {
        let Some(orphan) = &mut self.orphan else { return Orphanage::GoesOn };
        if now < orphan.next_look {
            return Orphanage::GoesOn;
        }
        orphan.next_look = now + self.options.orphan_linger / ORPHAN_LOOKS;
        // What can't be told counts as a writer: staying costs little, leaving may cost output.
        let wanted = self.streams.values_mut().any(|s| s.source.has_writers().unwrap_or(true));
        if wanted {
            orphan.last_writer = now;
        }
        if self.options.orphan_linger <= now.saturating_duration_since(orphan.last_writer) {
            Orphanage::Over
        } else {
            Orphanage::GoesOn
        }
    }

    /// Keeps the compressing thread busy, one file at a time, each stream in turn.
    fn feed_compressor(&mut self) {
        if self.compressor.is_busy() {
            return;
        }
        for stream in self.streams.values_mut().filter(|s| s.sink.wants_compression) {
            let policy = stream.sink.policy();
            match files::newest_plain(&policy.path, policy.keep) {
                None => stream.sink.wants_compression = false,
                Some(plain) => match self.compressor.begin(&policy.path, &plain) {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::warn!(path = %plain.display(), %error, "cannot compress");
                        stream.sink.wants_compression = false;
                    }
                },
            }
        }
    }

    fn compressed(&mut self, done: &Done) {
        let stream = self.streams.values_mut().find(|s| s.sink.path() == done.log);
        let keep = stream.as_ref().map_or(u32::from(u16::MAX), |s| s.sink.policy().keep);
        let result = match &done.result {
            Ok(()) => files::adopt_compressed(&done.log, keep, done.inode, &done.target),
            Err(error) => Err(std::io::Error::new(error.kind(), error.to_string())),
        };
        if let Err(error) = result {
            // The plain file stays, and is as good; the next rotation tries again.
            tracing::warn!(path = %done.log.display(), %error, "cannot compress a rotated log");
            if let Some(stream) = stream {
                stream.sink.wants_compression = false;
            }
        }
    }

    /// Everything that is in the pipes now goes into the files, within [`LAST_DRAIN_MAX`]. What is
    /// still there afterwards stays in the pipes, for whoever comes next.
    async fn drain_all(&mut self) {
        let deadline = Instant::now() + LAST_DRAIN_MAX;
        let numbers: Vec<u64> = self.streams.keys().copied().collect();
        let mut open: Vec<(u64, u64)> =
            numbers.iter().filter_map(|n| Some((*n, self.streams.get(n)?.mark().ok()?))).collect();
        while !open.is_empty() && Instant::now() < deadline {
            for (number, _) in open.clone() {
                self.turn(number);
            }
            open.retain(|(number, mark)| {
                self.streams.get(number).is_some_and(|s| !s.has_reached(*mark))
            });
        }
        self.finish_drains();
        self.flush();
        // The root's last answers may need a moment; without a root there is none to wait for.
        tokio::task::yield_now().await;
    }

    fn last_words(&self) -> Yielded {
        let untold = self.numbers.iter().filter_map(|(key, number)| {
            let loss = self.streams.get(number)?.sink.untold_loss()?;
            Some(UntoldLoss {
                instance: key.instance.to_string(),
                stderr: key.channel == Channel::Error,
                bytes: loss.bytes,
                lines: loss.lines,
                reason: loss.reason.clone(),
            })
        });
        Yielded { untold: untold.collect() }
    }

    fn instance_of(&self, number: u64) -> Option<InstanceId> {
        let own = self.numbers.iter().find(|(_, own)| **own == number);
        own.map(|(key, _)| key.instance.clone())
    }

    fn tell(&mut self, number: u64, events: Vec<SinkEvent>) {
        if events.is_empty() {
            return;
        }
        let Some(instance) = self.instance_of(number) else { return };
        let instance = instance.to_string();
        for event in events {
            let instance = instance.clone();
            self.say(match event {
                SinkEvent::Failing { message } => FromLogs::Failed { instance, message },
                SinkEvent::Lost(Loss { bytes, lines, reason }) => {
                    FromLogs::Lost { instance, bytes, lines, reason }
                }
            });
        }
    }

    fn say(&mut self, message: FromLogs) {
        if let Some(link) = &mut self.link {
            link.send(&message);
        }
    }

    fn flush(&mut self) {
        if self.link.as_mut().is_some_and(|link| link.flush() == Peer::Gone) {
            self.become_orphan();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Orphanage {
    GoesOn,
    Over,
}

fn carried(loss: &UntoldLoss) -> Option<(StreamKey, Loss)> {
    let channel = if loss.stderr { Channel::Error } else { Channel::Output };
    let key = StreamKey { instance: loss.instance.parse().ok()?, channel };
    let reason = loss.reason.clone();
    Some((key, Loss { bytes: loss.bytes, lines: loss.lines, reason }))
}

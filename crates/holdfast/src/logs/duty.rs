//! The logs duty's loop: one owner of all streams; waits, moves output, answers the root.

use super::LogsOptions;
use super::compress::{Compressor, Done};
use super::files::{self, Unfinished};
use super::handover::Ownership;
use super::link::{Link, Peer};
use super::pipe::Peek;
use super::protocol::{FromLogs, ToLogs, UntoldLoss, WatchPolicy, Yielded};
use super::sink::{Loss, Sink, SinkEvent, SinkPolicy, TURN_BYTES};
use super::stream::{Channel, Stream, StreamKey};
use super::streams::Streams;
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

/// A stream that could not be opened is tried again after this long.
const OPEN_AGAIN: Duration = Duration::from_secs(2);

/// Streams that are asked in one turn of the loop whether they have a file to be compressed.
const COMPRESSION_LOOKS: usize = 16;

/// How often an orphan looks whether anybody still writes.
const ORPHAN_LOOKS: u32 = 6;

/// Everything the loop owns.
struct Duty<'a> {
    options: &'a LogsOptions,
    /// `None`: the root is gone.
    link: Option<Link>,
    epoll: AsyncFd<OwnedFd>,
    streams: Streams,
    /// Streams that could not be opened, until they can.
    unopened: BTreeMap<StreamKey, Unopened>,
    unfinished: Unfinished,
    drains: Vec<Drain>,
    /// Losses of the duty before us, until their stream is watched again.
    carried: BTreeMap<StreamKey, Loss>,
    compressor: Compressor,
    peek: Peek,
    scratch: Vec<u8>,
    orphan: Option<Orphan>,
}

/// A stream that is wanted, and could not be opened.
struct Unopened {
    policy: WatchPolicy,
    again: Instant,
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
        streams: Streams::default(),
        unopened: BTreeMap::new(),
        unfinished: Unfinished::default(),
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
        let Some(stream) = self.streams.get_mut(number) else { return };
        let mut events = Vec::new();
        let result = stream.turn(&mut self.peek, &mut self.scratch, &mut events);
        self.streams.seen(number);
        self.tell(number, events);
        if let Err(error) = result {
            let instance = self.streams.key_of(number).map(|key| key.instance.to_string());
            if let Some(instance) = instance {
                let message = format!("cannot read its output: {error}");
                self.say(FromLogs::Failed { instance, message });
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
        if let Some(number) = self.streams.number_of(&key) {
            let present = self.streams.get(number).map(|stream| &stream.sink);
            if let Some(present) = present.filter(|sink| *sink.policy() != wanted) {
                let untold = present.untold_loss().cloned();
                let sink = Sink::open(wanted, untold, &mut self.unfinished, &mut events);
                self.streams.set_sink(number, sink);
            }
            return self.tell(number, events);
        }
        let opened = self.open(&key, wanted, &mut events);
        let told = self.unopened.remove(&key).is_some();
        match opened {
            Ok(number) => self.tell(number, events),
            Err(error) => {
                if !told {
                    let pipe = key.pipe_path(&self.options.state_dir);
                    let message = format!(
                        "cannot read pipe {}: {error}; its output waits until that works",
                        pipe.display()
                    );
                    self.say(FromLogs::Failed { instance: instance.to_string(), message });
                }
                let again = Instant::now() + OPEN_AGAIN;
                self.unopened.insert(key, Unopened { policy: policy.clone(), again });
            }
        }
    }

    fn open(
        &mut self,
        key: &StreamKey,
        policy: SinkPolicy,
        events: &mut Vec<SinkEvent>,
    ) -> std::io::Result<u64> {
        let pipe = key.pipe_path(&self.options.state_dir);
        let carried = self.carried.get(key).cloned();
        let stream = Stream::open(&pipe, policy, carried, &mut self.unfinished, events)?;
        let number = self.streams.new_number();
        let data = epoll::EventData::new_u64(number);
        epoll::add(self.epoll.get_ref(), &stream.source, data, epoll::EventFlags::IN)?;
        self.carried.remove(key);
        self.streams.insert(number, key.clone(), stream);
        Ok(number)
    }

    /// Two writers of one file would overwrite each other.
    fn other_writer(&self, key: &StreamKey, path: &Path) -> Option<InstanceId> {
        let writer = self.streams.key_of(self.streams.writer_of(path)?)?;
        (writer != key).then(|| writer.instance.clone())
    }

    fn marks(&self, instance: &InstanceId) -> Vec<(u64, u64)> {
        let own = self.streams.of_instance(instance).into_iter();
        own.filter_map(|number| Some((number, self.streams.get(number)?.mark().ok()?))).collect()
    }

    fn finish_drains(&mut self) {
        let reached = |drain: &Drain| {
            drain.marks.iter().all(|(number, mark)| {
                self.streams.get(*number).is_none_or(|stream| stream.has_reached(*mark))
            })
        };
        let (done, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.drains).into_iter().partition(reached);
        self.drains = open;
        for drain in done {
            match drain.then {
                AfterDrain::Answer { token } => self.say(FromLogs::Drained { token }),
                AfterDrain::Forget { instance } => {
                    self.unopened.retain(|key, _| key.instance != instance);
                    for number in self.streams.of_instance(&instance) {
                        self.forget_stream(number);
                    }
                    self.say(FromLogs::Unwatched { instance: instance.to_string() });
                }
            }
        }
    }

    fn forget_stream(&mut self, number: u64) {
        if let Some(stream) = self.streams.remove(number) {
            // Closing the pipe would do; but then a copy of the descriptor somewhere could keep
            // it registered.
            let _ = epoll::delete(self.epoll.get_ref(), &stream.source);
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let idle = !self.compressor.is_busy() && self.streams.wants_compression();
        let compression = idle.then(Instant::now);
        let again = self.unopened.values().map(|unopened| unopened.again).min();
        let orphan = self.orphan.as_ref().map(|orphan| orphan.next_look);
        [self.streams.next_wake(), compression, again, orphan].into_iter().flatten().min()
    }

    fn on_time(&mut self) -> Orphanage {
        let now = Instant::now();
        for number in self.streams.due(now) {
            let mut events = Vec::new();
            if let Some(stream) = self.streams.get_mut(number) {
                stream.sink.on_time(now, &mut events);
            }
            self.streams.seen(number);
            self.tell(number, events);
        }
        let due = self.unopened.iter().filter(|(_, unopened)| unopened.again <= now);
        let due: Vec<_> = due.map(|(key, it)| (key.clone(), it.policy.clone())).collect();
        for (key, policy) in due {
            self.watch_channel(&key.instance, key.channel, &policy);
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
        if self.streams.any_has_writers() {
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
        for _ in 0..COMPRESSION_LOOKS {
            let Some(number) = self.streams.next_to_compress() else { return };
            let Some(stream) = self.streams.get_mut(number) else { return };
            let policy = stream.sink.policy();
            let begun = match files::newest_plain(&policy.path, policy.keep) {
                None => false,
                Some(plain) => match self.compressor.begin(&policy.path, &plain) {
                    Ok(()) => true,
                    Err(error) => {
                        tracing::warn!(path = %plain.display(), %error, "cannot compress");
                        false
                    }
                },
            };
            if begun {
                return;
            }
            stream.sink.wants_compression = false;
            self.streams.seen(number);
        }
    }

    fn compressed(&mut self, done: &Done) {
        let number = self.streams.writer_of(&done.log);
        let stream = number.and_then(|number| self.streams.get(number));
        let keep = stream.map_or(u32::from(u16::MAX), |stream| stream.sink.policy().keep);
        let result = match &done.result {
            Ok(()) => files::adopt_compressed(&done.log, keep, done.inode, &done.target),
            Err(error) => Err(std::io::Error::new(error.kind(), error.to_string())),
        };
        if let Err(error) = result {
            // The plain file stays, and is as good; the next rotation tries again.
            tracing::warn!(path = %done.log.display(), %error, "cannot compress a rotated log");
            if let Some(number) = number {
                if let Some(stream) = self.streams.get_mut(number) {
                    stream.sink.wants_compression = false;
                }
                self.streams.seen(number);
            }
        }
    }

    /// Everything that is in the pipes now goes into the files, within [`LAST_DRAIN_MAX`]. What is
    /// still there afterwards stays in the pipes, for whoever comes next.
    async fn drain_all(&mut self) {
        let deadline = Instant::now() + LAST_DRAIN_MAX;
        let numbers = self.streams.numbers().into_iter();
        let mut open: Vec<(u64, u64)> =
            numbers.filter_map(|n| Some((n, self.streams.get(n)?.mark().ok()?))).collect();
        while !open.is_empty() && Instant::now() < deadline {
            for (number, _) in open.clone() {
                self.turn(number);
            }
            open.retain(|(number, mark)| {
                self.streams.get(*number).is_some_and(|s| !s.has_reached(*mark))
            });
        }
        self.finish_drains();
        self.flush();
        // The root's last answers may need a moment; without a root there is none to wait for.
        tokio::task::yield_now().await;
    }

    fn last_words(&self) -> Yielded {
        let untold = self.streams.iter().filter_map(|(key, stream)| {
            let loss = stream.sink.untold_loss()?;
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

    fn tell(&mut self, number: u64, events: Vec<SinkEvent>) {
        if events.is_empty() {
            return;
        }
        let instance = self.streams.key_of(number).map(|key| key.instance.to_string());
        let Some(instance) = instance else { return };
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

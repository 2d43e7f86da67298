//! All streams, found by what people ask for: a number (as epoll knows them), a name, the file that
//! they write, a time.
//!
//! Why: there are thousands, and the loop turns for each line that one of them says. Nothing here
//! looks at all of them but what is done once.
//! Invariant: after [`Streams::seen`] the stream stands in each index as it is.

use super::sink::Sink;
use super::stream::{Channel, Stream, StreamKey};
use base::InstanceId;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::Instant;

/// A stream, and where it stands in the indexes.
#[derive(Debug)]
struct Entry {
    key: StreamKey,
    stream: Stream,
    wake: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Streams {
    entries: BTreeMap<u64, Box<Entry>>,
    numbers: BTreeMap<StreamKey, u64>,
    /// By the hash of the path: a path is long, and stands in the sink already.
    writers: BTreeMap<u64, u64>,
    wakes: BTreeSet<(Instant, u64)>,
    to_compress: BTreeSet<u64>,
    last_compressed: u64,
    next_number: u64,
}

impl Streams {
    /// A number that no stream has had.
    pub(super) fn new_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn insert(&mut self, number: u64, key: StreamKey, stream: Stream) {
        self.writers.insert(hash_of(stream.sink.path()), number);
        self.numbers.insert(key.clone(), number);
        self.entries.insert(number, Box::new(Entry { key, stream, wake: None }));
        self.seen(number);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Stream> {
        let entry = *self.entries.remove(&number)?;
        self.numbers.remove(&entry.key);
        self.forget_writer(number, entry.stream.sink.path());
        if let Some(wake) = entry.wake {
            self.wakes.remove(&(wake, number));
        }
        self.to_compress.remove(&number);
        Some(entry.stream)
    }

    pub(super) fn get(&self, number: u64) -> Option<&Stream> {
        self.entries.get(&number).map(|entry| &entry.stream)
    }

    /// To be followed by [`Streams::seen`].
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Stream> {
        self.entries.get_mut(&number).map(|entry| &mut entry.stream)
    }

    /// Something was done to a stream: brings the indexes up to date.
    pub(super) fn seen(&mut self, number: u64) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let wake = entry.stream.sink.next_wake();
        if wake != entry.wake {
            if let Some(before) = entry.wake {
                self.wakes.remove(&(before, number));
            }
            self.wakes.extend(wake.map(|wake| (wake, number)));
            entry.wake = wake;
        }
        match entry.stream.sink.wants_compression {
            true => self.to_compress.insert(number),
            false => self.to_compress.remove(&number),
        };
    }

    /// Another file, or other rules for it.
    pub(super) fn set_sink(&mut self, number: u64, sink: Sink) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let path = hash_of(sink.path());
        let before = std::mem::replace(&mut entry.stream.sink, sink);
        self.forget_writer(number, before.path());
        self.writers.insert(path, number);
        self.seen(number);
    }

    fn forget_writer(&mut self, number: u64, path: &Path) {
        let hash = hash_of(path);
        if self.writers.get(&hash) == Some(&number) {
            self.writers.remove(&hash);
        }
    }

    pub(super) fn number_of(&self, key: &StreamKey) -> Option<u64> {
        self.numbers.get(key).copied()
    }

    pub(super) fn key_of(&self, number: u64) -> Option<&StreamKey> {
        self.entries.get(&number).map(|entry| &entry.key)
    }

    /// The streams of one instance.
    pub(super) fn of_instance(&self, instance: &InstanceId) -> Vec<u64> {
        let key = |channel| StreamKey { instance: instance.clone(), channel };
        let both = [key(Channel::Output), key(Channel::Error)];
        both.iter().filter_map(|key| self.number_of(key)).collect()
    }

    /// Who writes this file.
    pub(super) fn writer_of(&self, path: &Path) -> Option<u64> {
        let number = *self.writers.get(&hash_of(path))?;
        let writes_it = |stream: &Stream| stream.sink.path().as_os_str() == path.as_os_str();
        self.get(number).is_some_and(writes_it).then_some(number)
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Those that wanted to be looked at by now.
    pub(super) fn due(&self, now: Instant) -> Vec<u64> {
        self.wakes.range(..=(now, u64::MAX)).map(|(_, number)| *number).collect()
    }

    /// A stream that may have something to be compressed; another one each time, if there is one.
    pub(super) fn next_to_compress(&mut self) -> Option<u64> {
        let after = self.to_compress.range(self.last_compressed.saturating_add(1)..).next();
        let number = *after.or_else(|| self.to_compress.first())?;
        self.last_compressed = number;
        Some(number)
    }

    pub(super) fn wants_compression(&self) -> bool {
        !self.to_compress.is_empty()
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.entries.keys().copied().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&StreamKey, &Stream)> {
        self.entries.values().map(|entry| (&entry.key, &entry.stream))
    }

    /// True if somebody besides us holds one of the pipes, or if that can't be told.
    pub(super) fn any_has_writers(&mut self) -> bool {
        let mut streams = self.entries.values_mut();
        streams.any(|entry| entry.stream.source.has_writers().unwrap_or(true))
    }
}

fn hash_of(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    // By its bytes: to look at a path part by part takes its time.
    path.as_os_str().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::files::Unfinished;
    use super::super::sink::SinkPolicy;
    use super::*;

    fn open(streams: &mut Streams, dir: &Path, name: &str, compress: bool) -> u64 {
        let key = StreamKey { instance: name.parse().unwrap(), channel: Channel::Output };
        let path = dir.join(format!("{name}.log"));
        let policy = SinkPolicy { path, size_max: 100, age_max: None, keep: 1, compress };
        let pipe = dir.join(format!("{name}.out"));
        let mut unfinished = Unfinished::default();
        let stream = Stream::open(&pipe, policy, None, &mut unfinished, &mut Vec::new()).unwrap();
        let number = streams.new_number();
        streams.insert(number, key, stream);
        number
    }

    #[test]
    fn a_stream_is_found_by_its_name_its_file_and_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let mut streams = Streams::default();
        let a = open(&mut streams, dir.path(), "a", false);
        let b = open(&mut streams, dir.path(), "b", false);
        assert_eq!(streams.of_instance(&"b".parse().unwrap()), [b]);
        assert_eq!(streams.writer_of(&dir.path().join("a.log")), Some(a));
        assert_eq!(streams.writer_of(&dir.path().join("c.log")), None);
        assert_eq!(streams.key_of(b).map(|key| key.instance.to_string()), Some("b".to_owned()));
        assert!(streams.remove(a).is_some() && streams.remove(a).is_none());
        assert_eq!(streams.writer_of(&dir.path().join("a.log")), None);
        assert_eq!((streams.numbers(), streams.next_wake()), (vec![b], None));
    }

    #[test]
    fn compression_goes_round() {
        let dir = tempfile::tempdir().unwrap();
        let mut streams = Streams::default();
        assert_eq!(streams.next_to_compress(), None);
        let all: Vec<u64> =
            ["a", "b", "c"].map(|name| open(&mut streams, dir.path(), name, true)).to_vec();
        let mut order: Vec<u64> = (0..4).filter_map(|_| streams.next_to_compress()).collect();
        assert_eq!(order.pop(), Some(all[0]));
        assert_eq!(order, all);
        streams.get_mut(all[1]).unwrap().sink.wants_compression = false;
        streams.seen(all[1]);
        assert_eq!(streams.next_to_compress(), Some(all[2]));
        assert!(streams.wants_compression());
    }
}

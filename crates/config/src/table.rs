//! A TOML table whose keys are asked for one by one; what nobody asked for is unknown.
//!
//! Why: each key is read by itself, so that one bad value hides no other, and the list of known
//! keys can't differ from the keys that are really read.
//! Invariants: every key of the table is either read or reported by [`Table::finish`].

use crate::diagnostic::{Fault, Faults, quoted};
use crate::source::{FileId, Spot};
use crate::suggest::did_you_mean;
use std::collections::{BTreeMap, BTreeSet};
use toml::de::{DeTable, DeValue};

/// A value, its place, and the key it stands behind (for messages).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) name: &'a str,
    pub(crate) spot: Spot,
    pub(crate) value: &'a DeValue<'a>,
    /// It is one item of a list behind the key.
    pub(crate) is_item: bool,
}

/// One key of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) key: Spot,
    pub(crate) node: Node<'a>,
}

/// A table being read.
#[derive(Clone, Debug)]
pub(crate) struct Table<'a> {
    /// How messages call it: `[service.web]`.
    pub(crate) title: String,
    /// Where its name stands.
    pub(crate) spot: Spot,
    pub(crate) entries: BTreeMap<&'a str, Entry<'a>>,
    /// Values for keys that are not set here.
    pub(crate) fallback: Option<&'a Table<'a>>,
    /// It only fills the gaps of others: it need not be complete, and makes no promises.
    pub(crate) is_partial: bool,
    asked: BTreeSet<&'static str>,
    faulty: BTreeSet<&'static str>,
}

impl<'a> Table<'a> {
    /// A table without keys.
    pub(crate) fn empty(title: impl Into<String>, spot: Spot) -> Self {
        let (entries, asked, faulty) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let (title, fallback, is_partial) = (title.into(), None, false);
        Self { title, spot, entries, fallback, is_partial, asked, faulty }
    }

    /// The keys of one TOML table.
    pub(crate) fn new(title: impl Into<String>, spot: Spot, table: &'a DeTable<'a>) -> Self {
        Self { entries: entries_of(spot.file, table).collect(), ..Self::empty(title, spot) }
    }

    /// Adds the same section of another file; a key that is in both is a fault.
    /// (token lists add up, see [`crate::api`]).
    pub(crate) fn merge(
        &mut self,
        more: BTreeMap<&'a str, Entry<'a>>,
        is_api: bool,
        faults: &mut Faults<'_>,
    ) {
        for (key, entry) in more {
            match self.entries.get(key) {
                Some(_) if is_api && key == "token" => {}
                None => {
                    self.entries.insert(key, entry);
                }
                Some(first) => faults.push(
                    Fault::error(
                        "duplicate-key",
                        format!("{} of {} is set in two files", quoted(key), self.title),
                    )
                    .at(entry.key, "set here again")
                    .also(first.key, "first set here")
                    .help("keep one of the two"),
                ),
            }
        }
    }

    /// The value of a key, here or in the fallback.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Node<'a>> {
        self.asked.insert(key);
        self.entry(key).map(|entry| entry.node)
    }

    fn entry(&self, key: &str) -> Option<Entry<'a>> {
        let own = self.entries.get(key).copied();
        own.or_else(|| self.fallback.and_then(|table| table.entries.get(key).copied()))
    }

    /// Whether the key is set in this table itself.
    pub(crate) fn has_own(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Where the key stands, or the table's name when it is not set.
    pub(crate) fn key_spot(&self, key: &str) -> Spot {
        self.entry(key).map_or(self.spot, |entry| entry.key)
    }

    /// Where the value stands, or the table's name when it is not set.
    pub(crate) fn value_spot(&self, key: &str) -> Spot {
        self.entry(key).map_or(self.spot, |entry| entry.node.spot)
    }

    /// Reads a key. Not set: `default`. Faulty: `default` too, and remembered as faulty, so that
    /// no follow-up fault is built on it ([`Self::sound`]).
    pub(crate) fn read<T>(
        &mut self,
        key: &'static str,
        default: T,
        faults: &mut Faults<'_>,
        reader: impl FnOnce(Node<'a>, &mut Faults<'_>) -> Option<T>,
    ) -> T {
        let Some(node) = self.take(key) else { return default };
        reader(node, faults).unwrap_or_else(|| {
            self.faulty.insert(key);
            default
        })
    }

    /// Reads a key that may be missing.
    pub(crate) fn read_option<T>(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
        reader: impl FnOnce(Node<'a>, &mut Faults<'_>) -> Option<T>,
    ) -> Option<T> {
        self.read(key, None, faults, |node, faults| reader(node, faults).map(Some))
    }

    /// True when none of the keys had a faulty value.
    pub(crate) fn sound(&self, keys: &[&str]) -> bool {
        keys.iter().all(|key| !self.faulty.contains(key))
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(&self, faults: &mut Faults<'_>) {
        for (key, entry) in &self.entries {
            if self.asked.contains(key) {
                continue;
            }
            let fault =
                Fault::error("unknown-key", format!("{} is no key of {}", quoted(key), self.title));
            let known = || self.asked.iter().copied();
            let hint = did_you_mean(key, known()).or_else(|| foreign(key, &self.asked));
            let help = hint.unwrap_or_else(|| {
                format!("known keys: {}", known().collect::<Vec<_>>().join(", "))
            });
            faults.push(fault.at(entry.key, "unknown key").help(help));
        }
    }
}

/// The keys of a TOML table with their places.
pub(crate) fn entries_of<'a>(
    file: FileId,
    table: &'a DeTable<'a>,
) -> impl Iterator<Item = (&'a str, Entry<'a>)> {
    table.iter().map(move |(key, value)| {
        let name: &'a str = key.get_ref();
        let node = Node {
            name,
            spot: Spot::new(file, value.span()),
            value: value.get_ref(),
            is_item: false,
        };
        (name, Entry { key: Spot::new(file, key.span()), node })
    })
}

/// What other supervisors call our keys.
fn foreign(key: &str, known: &BTreeSet<&'static str>) -> Option<String> {
    let ours = match key.to_ascii_lowercase().as_str() {
        "exec" | "cmd" | "execstart" | "exec_start" | "run" | "program" | "args" => "command",
        "environment" | "variables" => "env",
        "environmentfile" | "envfile" | "environment_file" => "env_file",
        "cwd" | "workdir" | "chdir" | "workingdirectory" | "working_directory" => "directory",
        "numprocs" | "replicas" | "processes" => "instances",
        "autorestart" | "respawn" => "restart",
        "type" => "kind",
        "depends" | "depends_on" | "need" | "needs" => "requires",
        "stopsignal" | "stopwaitsecs" | "kill_signal" | "stop_timeout" => "stop",
        "startsecs" | "timeoutstartsec" | "timeout_start" => "start_timeout",
        "stdout_logfile" | "stderr_logfile" | "logfile" | "output" => "log",
        "healthcheck" | "health" | "probe" => "ready",
        "memory_max" | "memorymax" | "cpu_quota" | "tasksmax" => "limits",
        "listen" | "listenstream" => "sockets",
        _ => return None,
    };
    known.contains(ours).then(|| format!("this is called `{ours}` here"))
}

//! A service of ours, as far as it is known, and what all of them share.

use super::ini::Place;
use std::time::Duration;
use toml::{Table, Value};

/// What one or several processes of supervisord become.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) place: Place,
    /// `[program:web]`.
    pub(crate) section: String,
    /// Lines above it, without `#`.
    pub(crate) remarks: Vec<String>,
    /// Without `after`.
    pub(crate) keys: Vec<(&'static str, Value)>,
    pub(crate) rank: Rank,
    pub(crate) autostart: bool,
    /// How long its stop may take.
    pub(crate) stop_time: Duration,
}

/// When it starts among the others: by group, then within the group.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Rank {
    pub(crate) group_priority: i64,
    pub(crate) group: String,
    pub(crate) priority: i64,
}

impl Service {
    /// Adds a key, unless its value is that of `[defaults]`.
    pub(crate) fn put(&mut self, key: &'static str, value: impl Into<Value>, defaults: &Table) {
        let value = value.into();
        if defaults.get(key) != Some(&value) {
            self.keys.push((key, value));
        }
    }
}

/// A table of what is there.
pub(crate) fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Seconds as we write them.
pub(crate) fn seconds(seconds: u64) -> String {
    base::format_duration(Duration::from_secs(seconds))
}

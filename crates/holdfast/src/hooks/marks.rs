//! Up to which event of each source a hook has been told.
//!
//! Invariant: the file is whole or not there (written beside, renamed). It is not synced after every
//! run: a power cut costs a repetition, never an event.

use control::EventRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// There is a handful of sources.
const BYTES_MAX: u64 = 64 * 1024;

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Marks {
    /// By source, the number of the last one.
    done: BTreeMap<String, u64>,
}

impl Marks {
    /// Reads them; `None` for a hook that has never been told anything. What can't be read is as if
    /// it were not there.
    pub(crate) fn load(path: &Path) -> Option<Self> {
        let text = match sys::regular::read_to_string(path, BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read how far a hook is");
                return None;
            }
        };
        serde_json::from_str(&text)
            .inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "cannot read how far a hook is");
            })
            .ok()
    }

    /// Writes them.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, serde_json::to_vec(self).map_err(io::Error::other)?)?;
        std::fs::rename(&fresh, path)
    }

    /// Whether it has been told of this one.
    pub(crate) fn has(&self, record: &EventRecord) -> bool {
        self.done.get(&record.source).is_some_and(|done| record.source_seq <= *done)
    }

    /// It has been told. Gives how many before it were never there to be told.
    pub(crate) fn mark(&mut self, record: &EventRecord) -> u64 {
        let before = self.done.insert(record.source.clone(), record.source_seq);
        before.map_or(0, |before| record.source_seq.saturating_sub(before + 1))
    }

    /// The place was lost: what comes next is new, whatever its number.
    pub(crate) fn lose(&mut self) {
        self.done.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(source: &str, source_seq: u64) -> EventRecord {
        EventRecord {
            seq: 0,
            source: source.into(),
            source_seq,
            wall_us: 0,
            mono_ns: 0,
            node: "n".into(),
            subject: "web".into(),
            kind: "service.ready".into(),
            severity: control::Severity::Info,
            message: String::new(),
            data: serde_json::Map::new(),
        }
    }

    #[test]
    fn marks_read_back_and_gaps_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pager.json");
        assert_eq!(Marks::load(&path), None);
        let mut marks = Marks::default();
        assert!(!marks.has(&record("root", 7)));
        assert_eq!(marks.mark(&record("root", 7)), 0, "nobody knows what was before");
        assert_eq!(marks.mark(&record("root", 8)), 0);
        assert_eq!(marks.mark(&record("root", 12)), 3);
        assert!(marks.has(&record("root", 12)) && !marks.has(&record("root", 13)));
        assert!(!marks.has(&record("console", 1)));
        marks.save(&path).unwrap();
        assert_eq!(Marks::load(&path), Some(marks.clone()));
        marks.lose();
        assert!(!marks.has(&record("root", 1)));
        std::fs::write(&path, "[").unwrap();
        assert_eq!(Marks::load(&path), None);
    }
}

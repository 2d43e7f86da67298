//! What has to survive the duty's death: up to which event everything is dealt with, and where each
//! listener's conversation stands.
//!
//! Why: a listener outlives the duty, and is not asked where it stands. Written before an event is
//! sent, so that what says READY can be believed; what says anything else may be a word behind,
//! unless the duty ended in order (`clean`).
//! Invariant: the file is whole or not there (written beside, renamed). It is not synced: a power cut
//! ends the listeners, too.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use supervisord::TalkState;

/// A daemon has 10,000 services at most, and some 60 bytes for each.
const BYTES_MAX: u64 = 1024 * 1024;

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Records of the root up to this number are dealt with; `None` = nobody has begun yet.
    pub(crate) settled: Option<u64>,
    /// The number of the next event.
    pub(crate) serial: u64,
    /// The duty has ended in order since this was written.
    pub(crate) clean: bool,
    /// By instance.
    pub(crate) talks: BTreeMap<String, TalkMemory>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct TalkMemory {
    pub(crate) run: u64,
    pub(crate) state: String,
}

impl TalkMemory {
    pub(crate) fn new(run: u64, state: TalkState) -> Self {
        Self { run, state: state.as_str().to_owned() }
    }

    pub(crate) fn state(&self) -> TalkState {
        let states = [TalkState::Ready, TalkState::Busy, TalkState::Unknown];
        let found = states.into_iter().find(|state| state.as_str() == self.state);
        found.unwrap_or(TalkState::Acknowledged)
    }
}

impl Memory {
    /// Reads it. What can't be read is as if it were not there.
    pub(crate) fn load(path: &Path) -> Self {
        let text = match sys::regular::read_to_string(path, BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read what listeners were told");
                return Self::default();
            }
        };
        serde_json::from_str(&text).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "cannot read what listeners were told");
            Self::default()
        })
    }

    /// Writes it.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, serde_json::to_vec(self).map_err(io::Error::other)?)?;
        std::fs::rename(&fresh, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_damage_is_as_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory");
        assert_eq!(Memory::load(&path), Memory::default());
        let states =
            [TalkState::Acknowledged, TalkState::Ready, TalkState::Busy, TalkState::Unknown];
        let talks = states.map(|state| (state.as_str().to_owned(), TalkMemory::new(7, state)));
        let memory =
            Memory { settled: Some(3), serial: 9, clean: true, talks: talks.into_iter().collect() };
        memory.save(&path).unwrap();
        assert_eq!(Memory::load(&path), memory);
        for state in states {
            assert_eq!(memory.talks[state.as_str()].state(), state);
        }
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Memory::load(&path), Memory::default());
    }
}

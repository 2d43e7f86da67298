//! What the root and the watch duty say to each other over their socket pair, framed by
//! `control::encode_frame`.
//!
//! ```text
//! root ── Configured, Watch, Unwatch, Counter, Gather, CountConnections ──► watch duty
//! root ◄─ Verdict, Pressure, Dependency, Gathered, Connections, Notice ──── watch duty
//! ```
//! Watching is a state, not an event: `Watch` for what is already watched changes it, so that to a
//! new duty the root simply says everything again. Each `Gather` and each `CountConnections` has
//! one answer; the root answers for a duty that has died.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use supervisor::Mode;
use supervisor::watch::{DependencyState, Verdict, VerdictState};

/// From the root.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum ToWatch {
    /// The effective configuration was written anew: read it before what follows.
    Configured,
    /// Watch this run from now on.
    Watch {
        /// Which run, and where its processes are.
        facts: RunFacts,
        /// `off`, `observe`, `enforce`: the most that is done about what is seen.
        mode: String,
        /// How long ago it became ready, milliseconds.
        age_ms: u64,
    },
    /// Watch it no longer.
    Unwatch {
        /// Whose.
        instance: String,
        /// Which run.
        run: u64,
    },
    /// The service said `X_COUNTER=n`.
    Counter {
        /// Whose.
        instance: String,
        /// Which run.
        run: u64,
        /// The number.
        value: u64,
    },
    /// Keep what can be known of this run. Answer: [`FromWatch::Gathered`], within the budget and a
    /// second.
    Gather {
        /// Which run, and where its processes are. It need not be watched.
        facts: RunFacts,
        /// Why, one sentence.
        cause: String,
        /// At most this long, milliseconds.
        budget_ms: u64,
    },
    /// Count the connections that this run has accepted. Answer: [`FromWatch::Connections`].
    CountConnections {
        /// Which run, and where its processes are. It need not be watched.
        facts: RunFacts,
    },
}

/// A run, and how its processes are found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RunFacts {
    /// `web`, `web:1`.
    pub(crate) instance: String,
    /// Its number.
    pub(crate) run: u64,
    /// Its main process.
    pub(crate) main: Option<u32>,
    /// Processes that are known to be its own, the main one included.
    pub(crate) known: Vec<u32>,
    /// Directories of its control group, and whether each is of version 2; empty without one.
    pub(crate) groups: Vec<(bool, PathBuf)>,
    /// What marks its processes in their environment.
    pub(crate) token: String,
    /// The port that it was given.
    pub(crate) port: Option<u16>,
    /// Since when it runs, nanoseconds since boot.
    pub(crate) since_ns: u64,
}

/// To the root.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum FromWatch {
    /// What a detector says, when it is news.
    Verdict {
        /// Of which instance.
        instance: String,
        /// Of which run.
        run: u64,
        /// What.
        verdict: VerdictSaid,
    },
    /// The machine starves, or the observer is in doubt, for this reason; `None` = it is over.
    Pressure {
        /// With numbers.
        reason: Option<String>,
    },
    /// How something stands that an instance depends on, when it is news.
    Dependency {
        /// Which instance.
        instance: String,
        /// The dependency's name.
        name: String,
        /// `up`, `slow`, `down`, `cannot_tell`.
        state: String,
        /// One sentence.
        message: String,
    },
    /// Answer to [`ToWatch::Gather`].
    Gathered {
        /// Of which instance.
        instance: String,
        /// Of which run.
        run: u64,
        /// The bundle's id, or why there is none.
        result: Result<String, String>,
    },
    /// Answer to [`ToWatch::CountConnections`].
    Connections {
        /// Of which instance.
        instance: String,
        /// Of which run.
        run: u64,
        /// How many are established; `None` = it can't be told.
        open: Option<u32>,
    },
    /// Something that does not work as one would expect.
    Notice {
        /// An instance, or `duty/watch`.
        subject: String,
        /// Cause and remedy.
        message: String,
    },
}

/// [`Verdict`] on the wire.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct VerdictSaid {
    pub(crate) detector: String,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) message: String,
    pub(crate) measured: Vec<(String, f64)>,
    pub(crate) since_ns: u64,
    pub(crate) exhausted_in_ms: Option<u64>,
    pub(crate) planned: bool,
    pub(crate) cannot_run: bool,
    pub(crate) relieves: bool,
    pub(crate) mode: String,
}

impl VerdictSaid {
    pub(crate) fn of(verdict: &Verdict) -> Self {
        // JSON has no word for what is no number.
        let finite = verdict.measured.iter().filter(|(_, value)| value.is_finite());
        Self {
            detector: verdict.detector.clone(),
            kind: verdict.kind.to_owned(),
            state: verdict.state.as_str().to_owned(),
            message: verdict.message.clone(),
            measured: finite.map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            since_ns: verdict.since.as_nanos(),
            exhausted_in_ms: verdict.exhausted_in.map(millis),
            planned: verdict.planned,
            cannot_run: verdict.cannot_run,
            relieves: verdict.relieves,
            mode: verdict.mode.as_str().to_owned(),
        }
    }

    /// What the core understands. `None`: words of another version of ours.
    pub(crate) fn to_core(&self) -> Option<Verdict> {
        let measured = self.measured.iter().map(|(name, value)| (name_of(name), *value));
        Some(Verdict {
            detector: self.detector.clone(),
            kind: name_of(&self.kind),
            state: verdict_state(&self.state)?,
            message: self.message.clone(),
            measured: measured.collect(),
            since: base::Now::from_nanos(self.since_ns),
            exhausted_in: self.exhausted_in_ms.map(Duration::from_millis),
            planned: self.planned,
            cannot_run: self.cannot_run,
            relieves: self.relieves,
            mode: mode(&self.mode)?,
        })
    }
}

/// A mode by its stable name.
pub(crate) fn mode(word: &str) -> Option<Mode> {
    [Mode::Off, Mode::Observe, Mode::Enforce].into_iter().find(|mode| mode.as_str() == word)
}

/// A state of a dependency by its stable name.
pub(crate) fn dependency_state(word: &str) -> Option<DependencyState> {
    use DependencyState::{CannotTell, Down, Slow, Up};
    [Up, Slow, Down, CannotTell].into_iter().find(|state| state.as_str() == word)
}

fn verdict_state(word: &str) -> Option<VerdictState> {
    use VerdictState::{CannotTell, Sick, Well};
    [Well, CannotTell, Sick].into_iter().find(|state| state.as_str() == word)
}

/// Milliseconds, as many as there can be.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Different names that are kept. The other end is our own program, which has some fifty.
const NAMES_MAX: usize = 512;

/// The core names its numbers by constants; here they come from another process of the same
/// program. Each is kept for ever, once.
fn name_of(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    if NAMES_MAX <= names.len() {
        return "other";
    }
    let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{decode_frame, encode_frame};

    #[test]
    fn a_verdict_is_the_same_at_the_other_end() {
        let mut verdict = Verdict {
            detector: "mem".into(),
            kind: "memory",
            state: VerdictState::Sick,
            message: "it grows".into(),
            measured: vec![("used_bytes", 1e9), ("slope", f64::NAN)],
            since: base::Now::from_nanos(7),
            exhausted_in: Some(Duration::from_mins(10)),
            planned: false,
            cannot_run: true,
            relieves: true,
            mode: Mode::Enforce,
        };
        let said = FromWatch::Verdict {
            instance: "web:1".into(),
            run: u64::MAX,
            verdict: VerdictSaid::of(&verdict),
        };
        let frame = encode_frame(&said).unwrap();
        let (read, _) = decode_frame::<FromWatch>(&frame).unwrap().unwrap();
        assert_eq!(read, said);
        let FromWatch::Verdict { verdict: read, .. } = read else { panic!("{read:?}") };
        verdict.measured.pop();
        assert_eq!(read.to_core(), Some(verdict));
        let unknown = VerdictSaid { mode: "bold".into(), ..read };
        assert_eq!(unknown.to_core(), None);
    }

    #[test]
    fn the_words_of_both_ends_agree() {
        for word in ["up", "slow", "down", "cannot_tell"] {
            assert_eq!(dependency_state(word).unwrap().as_str(), word);
        }
        for word in ["off", "observe", "enforce"] {
            assert_eq!(mode(word).unwrap().as_str(), word);
        }
        assert_eq!(mode(""), None);
        assert!(std::ptr::eq(name_of("a_name"), name_of("a_name")));
    }
}

//! Everything that can happen to the watcher, and everything it can ask for.
//!
//! Protocol with the driver: one input, then all outputs in order. Each question (`Sample`,
//! `LookAtHost`, `LookAtDisk`, `Probe`, `Count`, `AskDependency`) is answered by one later input,
//! within the timeout where it has one; the driver decides nothing. Questions that come out of one
//! input are due together: `LookAtHost` comes first, and is best answered first.
//! Invariants: each question is outstanding at most once; an answer about a run that is no longer
//! watched is ignored; with [`Mode::Off`] nothing is asked and no verdict exists.

use super::{DiskSample, HostSample, Sample};
use crate::{CounterSource, Dependency, DependencyTarget, HealthProbe, Mode, Tolerance};
use base::{Answer, InstanceId, Now, RunId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything that can happen.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// Watch this run from now on: it is ready. Told again with other settings, what did not
    /// change goes on where it was.
    Watch(Watch),
    /// This run is no longer to be watched: it was stopped, or is on its way out. Its verdicts
    /// are void.
    Unwatch {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
    },
    /// From now on at most this is done about what is seen of an instance, whatever stands in
    /// [`Tolerance::mode`]. With [`Mode::Off`] its verdicts are void.
    Mode {
        /// Which instance: all of its runs.
        instance: InstanceId,
        /// The mode.
        mode: Mode,
    },
    /// Answer to [`Output::Sample`].
    Sampled {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// What was seen, or why nothing could be.
        result: Result<Sample, String>,
    },
    /// Answer to [`Output::LookAtHost`].
    Host(HostSample),
    /// Answer to [`Output::LookAtDisk`].
    Disk {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Which detector.
        detector: String,
        /// What was seen, or why nothing could be.
        result: Result<DiskSample, String>,
    },
    /// Answer to [`Output::Probe`].
    Probed {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Which detector.
        detector: String,
        /// The answer; no answer within the timeout is a no.
        answer: Answer,
        /// How long it took.
        took: Duration,
    },
    /// Answer to [`Output::Count`]; or, for [`CounterSource::Notify`], the service said
    /// `X_COUNTER=n`, which nobody asks for.
    Counted {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Where the number comes from. All detectors that use it share it.
        source: CounterSource,
        /// The number, or why there is none.
        result: Result<u64, String>,
    },
    /// Answer to [`Output::AskDependency`].
    Depended {
        /// Which instance.
        instance: InstanceId,
        /// The name of the dependency.
        dependency: String,
        /// The answer; no answer within the timeout is a no.
        answer: Answer,
        /// How long it took.
        took: Duration,
    },
    /// Time has passed (`Watcher::next_wake`).
    Tick,
}

/// A run that is to be watched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watch {
    /// Which instance.
    pub instance: InstanceId,
    /// Which run.
    pub run: RunId,
    /// The most that is done about what is seen: [`Tolerance::mode`], unless the environment or an
    /// operator says otherwise.
    pub mode: Mode,
    /// What is tolerated. Templates in its texts are filled in.
    pub tolerance: Arc<Tolerance>,
    /// What the instance depends on, by name. Templates in its texts are filled in.
    pub depends: Arc<BTreeMap<String, Dependency>>,
    /// How long ago it became ready.
    pub age: Duration,
}

/// Everything that the watcher can ask for, or say.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Look at all processes of a run. Those that come out of one input can be taken in one go.
    Sample {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
    },
    /// Look at the machine.
    LookAtHost,
    /// Look at a file system.
    LookAtDisk {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Which detector.
        detector: String,
        /// A path on it.
        path: PathBuf,
    },
    /// Ask a run whether it is well.
    Probe {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Which detector.
        detector: String,
        /// What is asked.
        probe: HealthProbe,
        /// Give up after so long, and answer no.
        timeout: Duration,
    },
    /// Read a number that the program counts up. Never [`CounterSource::Notify`].
    Count {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// Where it is.
        source: CounterSource,
        /// Give up after so long.
        timeout: Duration,
    },
    /// Ask whether something that an instance depends on is there.
    AskDependency {
        /// Which instance.
        instance: InstanceId,
        /// The name of the dependency.
        dependency: String,
        /// What is asked.
        target: DependencyTarget,
        /// Give up after so long, and answer no.
        timeout: Duration,
    },
    /// What a detector says, when it is news: another state, or numbers that differ notably from
    /// what was said before (at most once in ten seconds).
    Verdict {
        /// Which instance.
        instance: InstanceId,
        /// Which run.
        run: RunId,
        /// What it says.
        verdict: Verdict,
    },
    /// The whole machine starves, or the observer itself is in doubt: nobody is to be replaced
    /// for what is seen now, but for verdicts that say [`Verdict::relieves`]. The sentence says
    /// why, with numbers. `None` = it is over.
    Pressure(Option<String>),
    /// How something stands that an instance depends on, when it is news. Comes before the
    /// verdict that it may explain.
    Dependency {
        /// Which instance.
        instance: InstanceId,
        /// The name of the dependency.
        name: String,
        /// How it stands.
        state: DependencyState,
        /// One sentence.
        message: String,
    },
}

/// What one detector says of one run.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    /// Its name in the configuration.
    pub detector: String,
    /// Its kind: [`crate::Rule::kind`].
    pub kind: &'static str,
    /// The verdict.
    pub state: VerdictState,
    /// One sentence with the numbers, the window and the threshold.
    pub message: String,
    /// The numbers by name; the unit is the last word of the name where there is one.
    pub measured: Vec<(&'static str, f64)>,
    /// In this state since.
    pub since: Now,
    /// Predicted time to exhaustion, if it goes on like this. Told before the state is `Sick`.
    pub exhausted_in: Option<Duration>,
    /// It is time for a replacement as part of normal life; nothing is wrong.
    pub planned: bool,
    /// No thread of the run can run (stopped, all asleep on locks, uninterruptible): asking it to
    /// end, or SIGTERM, is pointless.
    pub cannot_run: bool,
    /// Its replacement gives the machine back what the machine may lack (memory, swap, threads,
    /// disk): it is right even while the machine starves.
    pub relieves: bool,
    /// The most that is done about it: the smaller of the service's and the detector's mode.
    pub mode: Mode,
}

/// The three answers of a detector.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum VerdictState {
    /// Nothing is wrong.
    Well,
    /// It can't be told; the message says why. Never a reason to replace anything.
    CannotTell,
    /// It is sick; or, if [`Verdict::planned`], due.
    Sick,
}

impl VerdictState {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::CannotTell => "cannot_tell",
            Self::Sick => "sick",
        }
    }
}

/// How something stands that an instance depends on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DependencyState {
    /// It answers.
    Up,
    /// It answers, but takes longer than is good.
    Slow,
    /// It does not answer, or says no.
    Down,
    /// It could not be asked; the message says why.
    CannotTell,
}

impl DependencyState {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Slow => "slow",
            Self::Down => "down",
            Self::CannotTell => "cannot_tell",
        }
    }
}

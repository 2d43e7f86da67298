//! The state of one instance: what is wanted of it, what is there, and what comes next.
//!
//! Invariants: an instance has at most one present [`Run`], at most one successor of it, and others
//! only on their way out or in quarantine; a run ends only when its main process has ended and
//! nothing of its tree is left.

use crate::care::Care;
use crate::{Exit, Phase, Pid, RunRole, ServiceSpec, Wish};
use base::{InstanceId, Now, RunId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// One instance.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    /// What the configuration says now.
    pub(crate) spec: Arc<ServiceSpec>,
    pub(crate) wish: Wish,
    /// The wish is the configuration's: nobody has asked for anything yet.
    pub(crate) by_default: bool,
    /// Why the wish is what it is, for people.
    pub(crate) wish_reason: String,
    pub(crate) rest: Rest,
    /// The present one: what people and dependants see.
    pub(crate) run: Option<Run>,
    /// A successor on its way up, old ones on their way out, sick ones that are kept.
    pub(crate) others: Vec<Run>,
    /// What is known of its health, and what is done about it.
    pub(crate) care: Care,
    pub(crate) since: Now,
    pub(crate) restarts: u64,
    /// Failures in a row, for the back-off.
    pub(crate) row: u32,
    /// When it was restarted by policy, within the budget's window; later by the time of the
    /// starts that have failed since.
    pub(crate) recent: VecDeque<Now>,
    pub(crate) last_run: RunId,
    pub(crate) last_exit: Option<Exit>,
    /// How the last run ended, in words.
    pub(crate) last_end: String,
    pub(crate) status_text: String,
    /// Gone from the configuration: forgotten once it is down.
    pub(crate) removed: bool,
    /// A stop is wanted, and waits until those that depend on it are down.
    pub(crate) stop_waits: bool,
    pub(crate) wake: Option<Now>,
}

/// What an instance without a run does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Rest {
    /// Nothing; the wish says why.
    Idle,
    /// It waits for what it needs.
    Waiting {
        /// One sentence for each that it waits for.
        blockers: Vec<(InstanceId, String)>,
        /// Something it requires does not come by itself, and so neither does this one.
        stuck: bool,
    },
    /// The next try comes then.
    Backoff(Now),
}

/// A run of an instance, by name and number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct At {
    pub(crate) id: InstanceId,
    pub(crate) run: RunId,
}

/// What a run is to its instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// The one that people and dependants see.
    Present,
    /// On its way up beside the present one.
    Successor,
    /// Out of rotation, or soon: its connections end, then it is stopped.
    Leaving(Drain),
    /// Frozen, and kept for inspection.
    Quarantined {
        /// Until then.
        until: Now,
    },
}

/// Connections are given time to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Drain {
    /// It still has work until then, as its successor has: balancers must have seen that one
    /// first, or nobody would have work for a moment. `None`: it is out of rotation.
    pub(crate) shared: Option<Now>,
    /// Not before then: balancers must have seen that it is out of rotation.
    pub(crate) settled: Now,
    /// No later than then.
    pub(crate) until: Now,
    /// When they are counted again; `None`: asked, or not counted at all.
    pub(crate) again: Option<Now>,
    /// None is open any more, or they are not waited for.
    pub(crate) empty: bool,
}

/// A run that is ready is asked until it is warm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WarmUp {
    /// Which question comes next.
    pub(crate) number: usize,
    /// Admitted all the same by then.
    pub(crate) until: Now,
    /// When it is asked again; `None`: asked.
    pub(crate) again: Option<Now>,
}

/// One life of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) role: Role,
    /// Which set of ports it has: see `ServiceSpec::port_at`.
    pub(crate) slot: u16,
    /// It is ready, and not warm yet.
    pub(crate) warm_up: Option<WarmUp>,
    /// The spec it was started by; policies follow the configuration.
    pub(crate) spec: Arc<ServiceSpec>,
    /// The process that was started, while a forking service has not shown its real one.
    pub(crate) first: Option<Pid>,
    pub(crate) main: Option<Pid>,
    pub(crate) spawned: Now,
    pub(crate) ready_since: Option<Now>,
    /// In rotation since; `None`: not yet, or since before this daemon began.
    pub(crate) admitted: Option<Now>,
    pub(crate) stage: Stage,
    /// Since when it is on its way down.
    pub(crate) down_since: Option<Now>,
    /// Why it ends, once it does.
    pub(crate) end: Option<End>,
    pub(crate) watchdog: Option<Duration>,
    pub(crate) watchdog_due: Option<Now>,
    /// It reads its configuration again, and counts as ready again by then at the latest.
    pub(crate) reloading: Option<Now>,
    /// It has said `READY=1`, perhaps before anybody waited for it.
    pub(crate) said_ready: bool,
    /// An earlier daemon executed it, and may have heard what this one waits for.
    pub(crate) adopted: bool,
    /// Stop and reload commands that nobody waits for any more; their answers say nothing about
    /// the present step.
    pub(crate) stale_commands: u32,
    /// What is kept of it for whoever looks for the fault.
    pub(crate) evidence: Evidence,
    /// Nothing of it is scheduled: to ask it to end is pointless.
    pub(crate) cannot_run: bool,
}

/// Whether evidence of a run has been gathered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Evidence {
    NotAsked,
    /// An answer is awaited, until then at the latest.
    Asked(Now),
    /// The bundle's name, or why there is none.
    Done(Result<String, String>),
}

impl Evidence {
    /// The bundle's name, if there is one.
    pub(crate) fn bundle(&self) -> Option<String> {
        match self {
            Self::Done(Ok(name)) => Some(name.clone()),
            Self::NotAsked | Self::Asked(_) | Self::Done(Err(_)) => None,
        }
    }
}

impl Role {
    /// A run of this role in a sentence.
    pub(crate) fn who(&self, id: &InstanceId) -> String {
        match self {
            Self::Present => id.to_string(),
            Self::Successor => format!("the successor of {id}"),
            Self::Leaving(_) | Self::Quarantined { .. } => format!("the old run of {id}"),
        }
    }

    /// The same, for who must remember it.
    pub(crate) fn told(&self) -> RunRole {
        match self {
            Self::Present => RunRole::Present,
            Self::Successor => RunRole::Successor,
            Self::Leaving(_) => RunRole::Leaving,
            Self::Quarantined { until } => RunRole::Quarantined { until: *until },
        }
    }
}

impl Run {
    /// A run that begins: nothing is known of it yet.
    pub(crate) fn new(id: RunId, spec: Arc<ServiceSpec>, now: Now) -> Self {
        Self {
            id,
            role: Role::Present,
            slot: 0,
            warm_up: None,
            watchdog: spec.watchdog,
            spec,
            first: None,
            main: None,
            spawned: now,
            ready_since: None,
            admitted: None,
            stage: Stage::Spawning,
            down_since: None,
            end: None,
            watchdog_due: None,
            reloading: None,
            said_ready: false,
            adopted: false,
            stale_commands: 0,
            evidence: Evidence::NotAsked,
            cannot_run: false,
        }
    }

    /// When something is to be done about it although nothing happens.
    pub(crate) fn due(&self) -> Option<Now> {
        let stage = match &self.stage {
            Stage::Spawning => None,
            Stage::Starting { deadline, wait } => {
                let next = match wait {
                    StartWait::Main { again, .. } | StartWait::Probe { again, .. } => *again,
                    StartWait::Delay(until) => Some(*until),
                    StartWait::Fork | StartWait::Notify | StartWait::Exit => None,
                };
                Some(next.map_or(*deadline, |next| next.min(*deadline)))
            }
            Stage::Running => self.running_due(),
            Stage::Stopping { deadline, look, .. } => {
                Some(look.map_or(*deadline, |look| look.min(*deadline)))
            }
            Stage::Cleaning(cleaning) => cleaning.again,
        };
        match self.role {
            Role::Quarantined { until } if matches!(self.stage, Stage::Running) => Some(until),
            _ => stage,
        }
    }

    fn running_due(&self) -> Option<Now> {
        let drain = match &self.role {
            Role::Leaving(drain) => Some(drain.due()),
            Role::Present | Role::Successor | Role::Quarantined { .. } => None,
        };
        let warm = self.warm_up.map(|warm| warm.again.map_or(warm.until, |a| a.min(warm.until)));
        [self.watchdog_due, self.reloading, drain, warm].into_iter().flatten().min()
    }
}

impl Drain {
    /// Nothing is waited for.
    pub(crate) fn over(now: Now) -> Self {
        Self { shared: None, settled: now, until: now, again: None, empty: true }
    }

    pub(crate) fn due(&self) -> Now {
        if let Some(shared) = self.shared {
            return shared;
        }
        let next = if self.empty { Some(self.settled) } else { self.again };
        next.map_or(self.until, |next| next.min(self.until))
    }
}

/// Where a run is.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// A hand executes it.
    Spawning,
    /// Executed, not ready.
    Starting {
        /// A failed start by then.
        deadline: Now,
        /// What its readiness waits for.
        wait: StartWait,
    },
    /// Ready.
    Running,
    /// On the stop ladder.
    Stopping {
        /// Which rung.
        step: usize,
        /// The next rung by then.
        deadline: Now,
        /// When the tree is looked at again, where no main process is known; `None`: an answer is
        /// awaited, or the main process is known.
        look: Option<Now>,
        /// The rung is a command that has not ended yet.
        command: bool,
    },
    /// Its main process has ended (or the ladder has): the tree must become empty.
    Cleaning(Cleaning),
}

/// What a start waits for.
#[derive(Clone, Debug)]
pub(crate) enum StartWait {
    /// The first process to exit.
    Fork,
    /// The real process to be found; look again then, or an answer is awaited.
    Main {
        /// Why it was not found yet.
        why: String,
        /// `None`: asked.
        again: Option<Now>,
    },
    /// `READY=1`.
    Notify,
    /// A probe's yes.
    Probe {
        /// The last answer.
        why: String,
        /// `None`: asked.
        again: Option<Now>,
    },
    /// Time to pass.
    Delay(Now),
    /// Its end.
    Exit,
}

/// Getting rid of what is left.
#[derive(Clone, Debug)]
pub(crate) struct Cleaning {
    pub(crate) since: Now,
    /// SIGTERM was sent; SIGKILL from then on.
    pub(crate) grace: Option<Now>,
    pub(crate) killing: bool,
    /// The pause before the next look or kill.
    pub(crate) pause: Duration,
    /// `None`: an answer is awaited.
    pub(crate) again: Option<Now>,
    pub(crate) tree_empty: bool,
    /// It was said that something can't be killed.
    pub(crate) said_unkillable: bool,
    /// What was seen alive at the last look, in words.
    pub(crate) seen: String,
}

impl Cleaning {
    pub(crate) fn new(now: Now) -> Self {
        Self {
            since: now,
            grace: None,
            killing: false,
            pause: Duration::from_millis(5),
            again: None,
            tree_empty: false,
            said_unkillable: false,
            seen: String::new(),
        }
    }
}

/// Why a run ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// By itself.
    Own,
    /// It did not become ready in time.
    StartTimeout,
    /// It did not feed its watchdog.
    Watchdog,
    /// It is wanted down.
    Stop,
    /// It is to be started anew.
    Replace,
    /// A detector found it sick, or its time has come: its successor comes at once.
    Replaced,
}

impl Instance {
    pub(crate) fn new(id: InstanceId, spec: Arc<ServiceSpec>, now: Now) -> Self {
        let wish = if spec.autostart { Wish::Up } else { Wish::Down };
        Self {
            id,
            wish,
            by_default: true,
            wish_reason: if spec.autostart { "" } else { "it is not started automatically" }.into(),
            spec,
            rest: Rest::Idle,
            run: None,
            others: Vec::new(),
            care: Care::default(),
            since: now,
            restarts: 0,
            row: 0,
            recent: VecDeque::new(),
            last_run: RunId(0),
            last_exit: None,
            last_end: String::new(),
            status_text: String::new(),
            removed: false,
            stop_waits: false,
            wake: None,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match (&self.run, &self.rest, &self.wish) {
            (Some(run), _, _) => match run.stage {
                Stage::Spawning | Stage::Starting { .. } => Phase::Starting,
                Stage::Running => Phase::Running,
                Stage::Stopping { .. } | Stage::Cleaning(_) => Phase::Stopping,
            },
            (None, Rest::Backoff(_), _) => Phase::Backoff,
            (None, Rest::Waiting { .. }, _) | (None, Rest::Idle, Wish::Up) => Phase::Waiting,
            (None, Rest::Idle, Wish::Down) => Phase::Stopped,
            (None, Rest::Idle, Wish::Failed(_)) => Phase::Failed,
            (None, Rest::Idle, Wish::Finished) => Phase::Finished,
        }
    }

    /// When something is to be done about it although nothing happens.
    pub(crate) fn due(&self) -> Option<Now> {
        let present = match &self.run {
            Some(run) => run.due(),
            None => match self.rest {
                Rest::Backoff(until) => Some(until),
                Rest::Idle | Rest::Waiting { .. } => None,
            },
        };
        let others = self.others.iter().filter_map(Run::due);
        present.into_iter().chain(others).chain(self.care.due()).min()
    }

    /// A run by its number, present or not.
    pub(crate) fn run_at(&self, run: RunId) -> Option<&Run> {
        self.run.iter().chain(&self.others).find(|known| known.id == run)
    }

    /// The same, to be changed.
    pub(crate) fn run_at_mut(&mut self, run: RunId) -> Option<&mut Run> {
        self.run.iter_mut().chain(&mut self.others).find(|known| known.id == run)
    }

    /// Whether this is the present run.
    pub(crate) fn is_present(&self, run: RunId) -> bool {
        self.run.as_ref().is_some_and(|present| present.id == run)
    }

    /// A run of it may be alive.
    pub(crate) fn is_alive(&self) -> bool {
        self.run.is_some() || !self.others.is_empty()
    }

    /// The present run has ended: a stop that waits still holds for the other ones, if all are to be
    /// down. If not, it was to start the present one anew.
    pub(crate) fn keep_waiting(&mut self, is_to_be_down: bool) {
        self.stop_waits &= is_to_be_down && !self.others.is_empty();
    }
}

/// How a process ended, in words: `exited with code 1`.
pub(crate) fn exit_words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with code {code}"),
        Exit::Signal(signal) => match signal_name(signal) {
            Some(name) => format!("was killed by signal {signal} ({name})"),
            None => format!("was killed by signal {signal}"),
        },
        Exit::Unknown => "ended, nobody saw how".to_owned(),
    }
}

/// The names of the signals that end processes, without `SIG`. Source: signal(7), x86 and ARM.
pub(crate) fn signal_name(signal: i32) -> Option<&'static str> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    NAMES.get(usize::try_from(signal).ok()?.checked_sub(1)?).copied()
}

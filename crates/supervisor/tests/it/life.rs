//! The processes of the simulated world: one tree per run, with a will of its own.

use base::{Now, Rng};
use std::collections::BTreeMap;
use std::time::Duration;
use supervisor::{Exit, Kind, Pid};

/// All processes that one run ever forked and that are alive.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) alive: BTreeMap<Pid, Process>,
    /// When it says `READY=1`, or its probe begins to say yes.
    pub(crate) ready: Option<Now>,
    /// Whose ends the driver tells: the first process, and the main one that it has found.
    pub(crate) watched: Vec<Pid>,
    /// Nothing of it is scheduled; it ends by SIGKILL alone.
    pub(crate) frozen: bool,
}

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// When it ends by itself, and how.
    pub(crate) end: Option<(Now, Exit)>,
    /// How long it takes to end after SIGTERM; `None`: it does not listen.
    pub(crate) obeys: Option<Duration>,
    /// In uninterruptible sleep until then.
    pub(crate) stuck_until: Now,
    /// Killed: it ends as soon as it can.
    pub(crate) killed: bool,
    /// What it forks when it ends by itself, to live on without it.
    pub(crate) leaves: u8,
}

impl Process {
    /// What it does is drawn; a good one lives until it is asked to end.
    pub(crate) fn draw(rng: &mut Rng, now: Now, good: bool) -> Self {
        let one_in = |rng: &mut Rng, n: u64| rng.below(n) == 0;
        let mut process = Self {
            end: None,
            obeys: Some(Duration::from_millis(rng.below(300))),
            stuck_until: now,
            killed: false,
            leaves: 0,
        };
        if good {
            return process;
        }
        if !one_in(rng, 3) {
            let longest = if one_in(rng, 2) { 200 } else { 200_000 };
            let lives = Duration::from_millis(rng.below(longest));
            process.end = Some((now + lives, draw_exit(rng)));
        }
        if one_in(rng, 4) {
            process.obeys = None;
        }
        if one_in(rng, 12) {
            process.stuck_until = now + Duration::from_millis(rng.below(60_000));
        }
        if one_in(rng, 4) {
            process.leaves = 1 + rng.below(2) as u8;
        }
        process
    }

    /// When and how it ends if nothing else happens.
    pub(crate) fn due(&self) -> Option<(Now, Exit)> {
        match self.end {
            _ if self.killed => Some((self.stuck_until, Exit::Signal(9))),
            Some((at, exit)) => Some((at.max(self.stuck_until), exit)),
            None => None,
        }
    }

    pub(crate) fn signal(&mut self, now: Now, signal: i32) {
        if signal == 9 {
            self.killed = true;
        } else if let (15, Some(takes)) = (signal, self.obeys) {
            let at = now + takes;
            let sooner = self.end.is_none_or(|(end, _)| at < end);
            if sooner {
                self.end = Some((at, Exit::Signal(15)));
            }
        }
    }
}

fn draw_exit(rng: &mut Rng) -> Exit {
    match rng.below(5) {
        0 | 1 => Exit::Code(0),
        2 => Exit::Signal(11),
        _ => Exit::Code(1),
    }
}

impl Tree {
    /// What a spawn brings to life, by the service's kind.
    pub(crate) fn draw(rng: &mut Rng, now: Now, kind: &Kind, pid: Pid, good: bool) -> Self {
        let mut first = Process::draw(rng, now, good);
        let soon = now + Duration::from_millis(rng.below(400));
        match kind {
            Kind::Simple => {}
            Kind::Oneshot => {
                let exit = if good { Exit::Code(0) } else { draw_exit(rng) };
                if good || rng.below(8) != 0 {
                    first.end = Some((soon, exit));
                }
            }
            Kind::Forking { .. } => {
                let exit = if good { Exit::Code(0) } else { draw_exit(rng) };
                first.end = Some((soon, exit));
                first.leaves = if good { 1 } else { rng.below(3) as u8 };
            }
        }
        let readies = good || rng.below(5) != 0;
        let ready = readies.then(|| now + Duration::from_millis(rng.below(3_000)));
        Self { alive: BTreeMap::from([(pid, first)]), ready, watched: vec![pid], frozen: false }
    }

    /// The process that ends next.
    pub(crate) fn next_end(&self) -> Option<(Now, Pid, Exit)> {
        let ends = self.alive.iter().filter(|(_, process)| !self.frozen || process.killed);
        ends.filter_map(|(pid, process)| process.due().map(|(at, exit)| (at, *pid, exit)))
            .min_by_key(|(at, pid, _)| (*at, *pid))
    }
}

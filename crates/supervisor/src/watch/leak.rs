//! Something grows: sick at a limit, at a share of what there is, or when it will soon be
//! exhausted (H3, H7).
//!
//! A limit and a share are believed on the second look in a row: a process that starts another one
//! holds twice its memory for a moment.
//! Blame the right one: where "what there is" is what the machine has left, a run that holds little
//! of the machine is not sick, however little is left.

use super::finding::{Finding, Look};
use super::trend::{Phase, Trending};
use super::words::{bytes, time};
use super::{DiskSample, VerdictState};
use crate::{LeakResource, Trend};
use base::Now;
use std::time::Duration;

/// Looks in a row that see too much, until it is sick; and that see less, until it is well.
const LOOKS: u32 = 2;

/// Whoever holds less than this share of the machine's memory, in hundredths, is not blamed for
/// what the machine lacks.
const BLAMED_PERCENT: f64 = 10.0;

/// The detector.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Leak {
    resource: LeakResource,
    limit: Option<u64>,
    share_percent: Option<u32>,
    trending: Option<Trending>,
    /// Looks in a row that saw too much, since when; or, once it is sick, that saw less.
    too_much: Option<(u32, Now)>,
    enough: u32,
    /// What the last finding was made of, if the same reading leads to the same one again.
    calm: Option<Reading>,
}

/// One reading.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Reading {
    used: f64,
    /// What there is; `None` = no end is known.
    there_is: Option<f64>,
}

impl Leak {
    pub(super) fn new(
        resource: LeakResource,
        limit: Option<u64>,
        share_percent: Option<u32>,
        trend: Option<Trend>,
        interval: Duration,
    ) -> Self {
        let trending = trend.map(|trend| Trending::new(trend, interval));
        Self { resource, limit, share_percent, trending, too_much: None, enough: 0, calm: None }
    }

    pub(super) fn has_trend(&self) -> bool {
        self.trending.is_some()
    }

    /// `None`: the last finding stands. Most runs hold what they held, look after look, and a
    /// sentence about it costs more than the look.
    pub(super) fn sampled(&mut self, look: &Look<'_>, quiet: bool) -> Option<Finding> {
        match read(&self.resource, look) {
            Ok(reading) if self.calm == Some(reading) => {
                self.count(look.now, false);
                None
            }
            Ok(reading) => Some(self.judge(look.now, reading, quiet)),
            Err(why) => Some(self.unknown(why)),
        }
    }

    /// Another finding took the place of the last one.
    pub(super) fn unseen(&mut self) {
        self.calm = None;
    }

    pub(super) fn disk(
        &mut self,
        now: Now,
        result: Result<DiskSample, String>,
        quiet: bool,
    ) -> Finding {
        match result {
            Ok(disk) => {
                let there_is = (0 < disk.total).then_some(disk.total as f64);
                self.judge(now, Reading { used: disk.used as f64, there_is }, quiet)
            }
            Err(why) => self.unknown(why),
        }
    }

    fn unknown(&mut self, why: String) -> Finding {
        self.calm = None;
        match self.too_much {
            Some((LOOKS.., since)) => Finding::sick(why, since),
            _ => Finding::cannot_tell(why),
        }
    }

    fn judge(&mut self, now: Now, reading: Reading, quiet: bool) -> Finding {
        let limits = self.limits(reading);
        let bound = limits.iter().map(|(bound, _)| *bound).reduce(f64::min);
        let bound = bound.into_iter().chain(reading.there_is).reduce(f64::min);
        if let Some(trending) = &mut self.trending {
            trending.add(now, reading.used, bound, quiet);
        }
        let exceeded = limits.iter().find(|(bound, _)| *bound <= reading.used);
        self.count(now, exceeded.is_some());
        // A trend changes with time alone.
        let is_calm = self.trending.is_none() && self.too_much.is_none();
        self.calm = is_calm.then_some(reading);
        let (relieves, measured) = (self.relieves(), self.measured(reading, bound));
        let finding = match (self.too_much, exceeded) {
            (Some((LOOKS.., since)), Some((bound, why))) => {
                let message =
                    format!("{}: at least {} ({why})", self.text(reading), self.amount(*bound));
                Finding::sick(message, since)
            }
            (Some((LOOKS.., since)), None) => {
                Finding::sick(format!("{}: just below its limit", self.text(reading)), since)
            }
            _ => self.trend(now, reading, &limits),
        };
        let exhausted_in = self.exhausted_in(now);
        let signs = finding.signs.or(self.too_much.map(|(_, since)| since));
        Finding { exhausted_in, relieves, signs, ..finding }.measured(measured)
    }

    fn count(&mut self, now: Now, exceeded: bool) {
        self.too_much = match (self.too_much, exceeded) {
            (None, true) => Some((1, now)),
            (Some((looks, since)), true) => Some((looks.saturating_add(1), since)),
            (Some((LOOKS.., _)), false) if self.enough + 1 < LOOKS => self.too_much,
            (_, false) => None,
        };
        self.enough = if exceeded { 0 } else { (self.enough + 1).min(LOOKS) };
    }

    /// What it may hold, each with its reason.
    fn limits(&self, reading: Reading) -> Vec<(f64, String)> {
        let mut limits = Vec::new();
        limits.extend(self.limit.map(|limit| (limit as f64, "its limit".to_owned())));
        if let (Some(percent), Some(there_is)) = (self.share_percent, reading.there_is) {
            let of = format!("{percent}% of {}", self.amount(there_is));
            limits.push((there_is * f64::from(percent) / 100.0, of));
        }
        limits
    }

    /// What the trend says, while no limit is exceeded.
    fn trend(&self, now: Now, reading: Reading, limits: &[(f64, String)]) -> Finding {
        let limits: Vec<_> = limits.iter().map(|(bound, _)| self.amount(*bound)).collect();
        let limit = match limits.as_slice() {
            [] => String::new(),
            some => format!(" (limit {})", some.join(", ")),
        };
        let text = format!("{}{limit}", self.text(reading));
        let Some(trending) = &self.trending else { return Finding::well(text) };
        if let Some(why) = trending.impossible() {
            let state =
                if limits.is_empty() { VerdictState::CannotTell } else { VerdictState::Well };
            return Finding { state, ..Finding::well(format!("{text}; {why}")) };
        }
        let growth = self.growth(now, trending);
        let text = format!("{text}; {growth}");
        match trending.phase() {
            Phase::Steady => Finding::well(text),
            Phase::Foretold { since, until } => {
                let wait = time(now.until(until));
                let text = format!("{text}; a quiet moment is waited for, at most {wait}");
                Finding::well(text).signs(Some(since))
            }
            Phase::Sick { since, .. } => Finding::sick(text, since),
        }
    }

    fn growth(&self, now: Now, trending: &Trending) -> String {
        if let Some(history) = trending.too_young() {
            return format!("{} of {} were seen", time(history), time(trending.window()));
        }
        let Some(forecast) = trending.forecast() else {
            return format!("no steady growth over {}", time(trending.window()));
        };
        let (rate, span) = (self.amount(forecast.per_minute), time(forecast.span));
        match forecast.exhausted {
            Some(end) => {
                let left = time(now.until(end));
                format!("{rate} more each minute over {span}, exhausted in {left}")
            }
            None => format!("{rate} more each minute over {span}, and no end near"),
        }
    }

    fn exhausted_in(&self, now: Now) -> Option<Duration> {
        let forecast = self.trending.as_ref()?.forecast()?;
        forecast.exhausted.map(|end| now.until(end))
    }

    fn measured(&self, reading: Reading, bound: Option<f64>) -> Vec<(&'static str, f64)> {
        let [used, limit, growth] = if self.in_bytes() {
            ["used_bytes", "bound_bytes", "growth_per_minute_bytes"]
        } else {
            ["used", "bound", "growth_per_minute"]
        };
        let mut measured = vec![(used, reading.used)];
        measured.extend(bound.map(|bound| (limit, bound)));
        let forecast = self.trending.as_ref().and_then(Trending::forecast);
        measured.extend(forecast.map(|forecast| (growth, forecast.per_minute)));
        measured
    }

    fn text(&self, reading: Reading) -> String {
        let amount = self.amount(reading.used);
        match self.resource {
            LeakResource::Memory => format!("{amount} of memory"),
            LeakResource::Swap => format!("{amount} swapped out"),
            LeakResource::Descriptors => format!("{amount} descriptors open in one process"),
            LeakResource::Threads => format!("{amount} threads and zombies"),
            LeakResource::CloseWait => format!("{amount} connections in CLOSE_WAIT"),
            LeakResource::Disk(ref path) => format!("{amount} used below {}", path.display()),
        }
    }

    fn amount(&self, amount: f64) -> String {
        match self.in_bytes() {
            true => bytes(amount),
            false if amount.fract().abs() < 0.05 => format!("{amount:.0}"),
            false => format!("{amount:.1}"),
        }
    }

    fn in_bytes(&self) -> bool {
        match self.resource {
            LeakResource::Memory | LeakResource::Swap | LeakResource::Disk(_) => true,
            LeakResource::Descriptors | LeakResource::Threads | LeakResource::CloseWait => false,
        }
    }

    fn relieves(&self) -> bool {
        match self.resource {
            LeakResource::Memory
            | LeakResource::Swap
            | LeakResource::Threads
            | LeakResource::Disk(_) => true,
            LeakResource::Descriptors | LeakResource::CloseWait => false,
        }
    }
}

/// What a look says of a resource.
fn read(resource: &LeakResource, look: &Look<'_>) -> Result<Reading, String> {
    let sample = look.sample;
    let known = |number: Option<u64>, what: &str| {
        number.map(|number| number as f64).ok_or_else(|| format!("{what} can't be read"))
    };
    match resource {
        LeakResource::Memory => {
            let used = known(sample.memory, "its memory")?;
            let left = look.host.map(|host| (host.memory_available, host.memory_total));
            Ok(Reading { used, there_is: least(sample.memory_limit, shared(used, left)) })
        }
        LeakResource::Swap => {
            let used = known(sample.swap, "its swap")?;
            let left = look.host.map(|host| (host.swap_free, host.swap_total));
            Ok(Reading { used, there_is: shared(used, left) })
        }
        LeakResource::Descriptors => {
            let used = known(sample.descriptors.map(|(open, _)| open), "its open descriptors")?;
            Ok(Reading { used, there_is: sample.descriptors.map(|(_, limit)| limit as f64) })
        }
        LeakResource::Threads => {
            let machine = look.host.map(|host| host.threads_max as f64);
            let there_is = least(sample.threads_limit, machine);
            // A child that nobody collects has a place in the table of processes, as a thread has.
            let used = f64::from(sample.threads.saturating_add(sample.zombies));
            Ok(Reading { used, there_is })
        }
        LeakResource::CloseWait => {
            let close_wait = sample.sockets.map(|sockets| u64::from(sockets.close_wait));
            // Each of them holds a descriptor.
            let there_is = sample.descriptors.map(|(_, limit)| limit as f64);
            Ok(Reading { used: known(close_wait, "its connections")?, there_is })
        }
        LeakResource::Disk(_) => Err("the disk is looked at apart".to_owned()),
    }
}

/// What a run could have if it took all that the machine has left; `None` if it holds so little
/// that what is left says nothing about it.
fn shared(used: f64, left_of: Option<(u64, u64)>) -> Option<f64> {
    let (left, total) = left_of?;
    let total = total as f64;
    (0.0 < total && total * BLAMED_PERCENT / 100.0 <= used).then_some(used + left as f64)
}

fn least(limit: Option<u64>, other: Option<f64>) -> Option<f64> {
    limit.map(|limit| limit as f64).into_iter().chain(other).reduce(f64::min)
}

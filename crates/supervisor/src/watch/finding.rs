//! What a detector gets to see, and what it says about it.

use super::words::time;
use super::{HostSample, Sample, VerdictState};
use base::Now;
use std::time::Duration;

/// What one detector sees at one moment. It becomes a [`super::Verdict`] once nothing speaks
/// against it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Finding {
    pub(super) state: VerdictState,
    pub(super) message: String,
    pub(super) measured: Vec<(&'static str, f64)>,
    pub(super) exhausted_in: Option<Duration>,
    pub(super) cannot_run: bool,
    pub(super) relieves: bool,
    /// Since when there are signs of a sickness, be it certain or not: reason enough to look
    /// closer, and at what the service depends on.
    pub(super) signs: Option<Now>,
}

impl Finding {
    fn new(state: VerdictState, message: String) -> Self {
        Self {
            state,
            message,
            measured: Vec::new(),
            exhausted_in: None,
            cannot_run: false,
            relieves: false,
            signs: None,
        }
    }

    pub(super) fn well(message: impl Into<String>) -> Self {
        Self::new(VerdictState::Well, message.into())
    }

    pub(super) fn cannot_tell(message: impl Into<String>) -> Self {
        Self::new(VerdictState::CannotTell, message.into())
    }

    /// Sick, with signs since then.
    pub(super) fn sick(message: impl Into<String>, signs: Now) -> Self {
        Self { signs: Some(signs), ..Self::new(VerdictState::Sick, message.into()) }
    }

    pub(super) fn measured(mut self, measured: Vec<(&'static str, f64)>) -> Self {
        self.measured = measured;
        self
    }

    pub(super) fn signs(mut self, since: Option<Now>) -> Self {
        self.signs = since;
        self
    }
}

/// One look at a run, with everything that a detector may know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look<'a> {
    pub(super) now: Now,
    pub(super) sample: &'a Sample,
    /// The look before, and how long ago it was. `None` for the first one, and after a gap in
    /// which anything may have happened.
    pub(super) before: Option<(Duration, &'a Sample)>,
    pub(super) host: Option<&'a HostSample>,
    pub(super) patience: Patience,
}

impl Look<'_> {
    /// Hundredths of one core that were used since the look before.
    pub(super) fn core_percent(&self) -> Option<f64> {
        let (gap, before) = self.before?;
        let used = self.sample.cpu.saturating_sub(before.cpu);
        (!gap.is_zero()).then(|| 100.0 * used.as_secs_f64() / gap.as_secs_f64())
    }
}

/// How much evidence is asked for, the machine being as it is (H26).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum Patience {
    /// As configured.
    #[default]
    Normal,
    /// The machine, or the run, gets less than it wants: slowness proves little.
    Long,
    /// It starves: slowness proves nothing.
    Endless,
}

/// With [`Patience::Long`], so many times the configured evidence is asked for.
const LONG: u32 = 3;

impl Patience {
    /// How many are asked for instead of `number`; `None` = no number is enough.
    pub(super) fn times(self, number: u32) -> Option<u32> {
        match self {
            Self::Normal => Some(number),
            Self::Long => Some(number.saturating_mul(LONG)),
            Self::Endless => None,
        }
    }

    /// How long is asked for instead of `time`; `None` = nothing is enough.
    pub(super) fn lasting(self, time: Duration) -> Option<Duration> {
        Some(time.saturating_mul(self.times(1)?))
    }
}

/// Evidence that has to last until it is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lasting {
    lasting: Duration,
    /// Sick, by evidence since then.
    sick: Option<Now>,
}

impl Lasting {
    pub(super) fn new(lasting: Duration) -> Self {
        Self { lasting, sick: None }
    }

    /// The opposite was seen.
    pub(super) fn ends(&mut self) {
        self.sick = None;
    }

    /// The evidence is there, without a break since `since`. What was sick stays so until the
    /// opposite is seen: a look that proves nothing heals nobody.
    pub(super) fn goes_on(&mut self, look: &Look<'_>, since: Now) -> Held {
        let so_far = look.now.since(since);
        let needed = look.patience.lasting(self.lasting);
        if self.sick.is_none() && needed.is_some_and(|needed| needed <= so_far) {
            self.sick = Some(since);
        }
        Held { since, so_far, needed: needed.unwrap_or(self.lasting), sick: self.sick }
    }

    /// This look proves nothing: it is as sick or well as before.
    pub(super) fn unknown(&self, message: impl Into<String>) -> Finding {
        match self.sick {
            Some(since) => Finding::sick(message, since),
            None => Finding::well(message),
        }
    }
}

/// How long evidence has lasted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Held {
    since: Now,
    pub(super) so_far: Duration,
    needed: Duration,
    sick: Option<Now>,
}

impl Held {
    /// `for 8s of 10s`.
    pub(super) fn sentence(&self) -> String {
        format!("for {} of {}", time(self.so_far), time(self.needed))
    }

    pub(super) fn is_sick(&self) -> bool {
        self.sick.is_some()
    }

    /// Sick or not yet; with signs once a quarter of the time has passed, so that what comes and
    /// goes in a busy service is none.
    pub(super) fn finding(&self, message: String) -> Finding {
        if let Some(since) = self.sick {
            return Finding::sick(message, since);
        }
        let signs = !self.so_far.is_zero() && self.needed / 4 <= self.so_far;
        Finding::well(message).signs(signs.then_some(self.since))
    }
}

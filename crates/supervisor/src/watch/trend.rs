//! Foretells when something will be exhausted that grows (H3), and picks the moment.
//!
//! Two rules keep it from crying wolf, besides those of `growth`:
//!
//! - The window is the time in which a healthy program gives back what it took. Nothing is said
//!   before a whole window was seen, and nothing that comes down within it is growth.
//! - It never looks further ahead than a quarter of the span over which it saw steady growth: one,
//!   two, four or eight windows.
//!
//! Once exhaustion is nearer than `ahead`, it waits for a quiet moment, for at most half of the
//! time that is left, and only then says that the run is sick.

use super::growth::Growth;
use super::series::{SLICES, Series, Slice};
use crate::Trend;
use base::Now;
use std::collections::VecDeque;
use std::time::Duration;

/// Looks that a window must hold: below that, no slope is certain.
const LOOKS_MIN: u32 = 16;

/// Windows that are looked back over. A leak that comes in lumps is steady only over the longer
/// ones.
const SPANS: [usize; 4] = [1, 2, 4, 8];

/// What there is may change with each look (what the machine has left); the middle of so many
/// counts.
const BOUNDS: usize = 5;

/// Growth must lead so far beyond the level from which it once came down, as a share of how far it
/// came down: the next breath may be deeper.
const BREATH_SHARE: f64 = 0.3;

/// A prediction is shown if it lies within so many windows.
const SHOWN_WINDOWS: u32 = 24;

/// A run that was sick is well again once this many slices in a row (a quarter of the window) saw
/// no growth that would exhaust anything within twice `ahead`.
const CALM_SLICES: u32 = (SLICES / 4) as u32;

/// Follows one number of one run.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Trending {
    trend: Trend,
    interval: Duration,
    series: Series,
    bounds: VecDeque<f64>,
    /// What each of [`SPANS`] foretells.
    forecasts: [Option<Forecast>; SPANS.len()],
    forecast: Option<Forecast>,
    phase: Phase,
}

/// What will be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Forecast {
    /// Growth a minute.
    pub(super) per_minute: f64,
    /// Seen over this time.
    pub(super) span: Duration,
    /// Exhausted then; `None` = never, or so late that nothing can be said.
    pub(super) exhausted: Option<Now>,
    /// Near enough, and certain enough, to act.
    near: bool,
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Nothing is foretold, or it is far away.
    Steady,
    /// Foretold; waits for a quiet moment, at most until then.
    Foretold {
        /// When it was foretold.
        since: Now,
        /// The end of the waiting.
        until: Now,
    },
    /// It is time.
    Sick {
        /// When it was foretold.
        since: Now,
        /// Slices in a row that saw no reason any more.
        calm: u32,
    },
}

impl Trending {
    pub(super) fn new(trend: Trend, interval: Duration) -> Self {
        let series = Series::new(trend.window, interval, SPANS[SPANS.len() - 1]);
        let (bounds, forecasts, phase) = (VecDeque::new(), [None; SPANS.len()], Phase::Steady);
        Self { trend, interval, series, bounds, forecasts, forecast: None, phase }
    }

    /// Why no trend can ever be seen.
    pub(super) fn impossible(&self) -> Option<String> {
        let looks = self.trend.window.as_nanos() / self.interval.as_nanos().max(1);
        (looks < u128::from(LOOKS_MIN)).then(|| {
            let window = super::words::time(self.trend.window);
            format!("a window of {window} holds {looks} looks; a trend needs {LOOKS_MIN}")
        })
    }

    /// One more reading; exhaustion means that it reaches `bound`.
    pub(super) fn add(&mut self, now: Now, value: f64, bound: Option<f64>, quiet: bool) {
        if let Some(bound) = bound {
            self.bounds.push_back(bound);
            if BOUNDS < self.bounds.len() {
                self.bounds.pop_front();
            }
        }
        if self.series.add(now, value) {
            self.look_ahead(now);
            self.slice_complete();
        }
        self.turn(now, quiet);
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn forecast(&self) -> Option<Forecast> {
        self.forecast
    }

    /// How much is missing of the history that is needed; `None` = nothing.
    pub(super) fn too_young(&self) -> Option<Duration> {
        let history = self.series.history();
        let window = self.series.width() * self.in_window() as u32;
        (history < window).then_some(history)
    }

    pub(super) fn window(&self) -> Duration {
        self.trend.window
    }

    fn in_window(&self) -> usize {
        let slices = self.trend.window.as_nanos() / self.series.width().as_nanos();
        (slices as usize / 4 * 4).clamp(4, SLICES)
    }

    /// The middle of the last bounds.
    fn bound(&self) -> Option<f64> {
        let mut bounds: Vec<f64> = self.bounds.iter().copied().collect();
        bounds.sort_by(f64::total_cmp);
        bounds.get(bounds.len() / 2).copied()
    }

    /// Takes the exhaustion that the shortest span foretells that is long enough; else what the
    /// shortest one says that sees growth. A longer span is looked at when one of its slices, which
    /// are longer too, has become complete.
    fn look_ahead(&mut self, now: Now) {
        for (at, windows) in SPANS.into_iter().enumerate() {
            if self.series.seen().is_multiple_of(windows as u64) {
                self.forecasts[at] = self.forecast_over(now, windows);
            }
        }
        let seen = || self.forecasts.into_iter().flatten();
        self.forecast = seen().find(|forecast| forecast.near).or_else(|| seen().next());
    }

    fn forecast_over(&self, now: Now, windows: usize) -> Option<Forecast> {
        let slices = self.merged(windows)?;
        let growth = Growth::over(&slices)?;
        let before = self.series.before(self.in_window() * windows);
        let known = before.map(|before| before.highest + BREATH_SHARE * before.fall);
        if known.is_some_and(|known| growth.level <= known) {
            return None;
        }
        let slice = self.series.width() * windows as u32;
        let span = slice * slices.len() as u32;
        let shown = self.trend.window * SHOWN_WINDOWS;
        let left = self
            .bound()
            .and_then(|bound| growth.reaches(bound))
            .map(|slices| slices * slice.as_secs_f64())
            .filter(|seconds| *seconds <= shown.as_secs_f64())
            .map(Duration::from_secs_f64);
        Some(Forecast {
            per_minute: growth.slope() * 60.0 / slice.as_secs_f64(),
            span,
            exhausted: left.map(|left| now + left),
            near: left.is_some_and(|left| left <= self.trend.ahead.min(span / 4)),
        })
    }

    /// The last so many windows, in as many slices as one window has.
    fn merged(&self, windows: usize) -> Option<Vec<Option<Slice>>> {
        let slices: Vec<_> = self.series.last(self.in_window() * windows)?.collect();
        let merge = |a: Slice, b: Slice| Slice { low: a.low.min(b.low), high: a.high.max(b.high) };
        let merged = slices.chunks(windows);
        Some(merged.map(|some| some.iter().flatten().copied().reduce(merge)).collect())
    }

    /// Counts the calm of a sick run.
    fn slice_complete(&mut self) {
        let Phase::Sick { since, calm } = self.phase else { return };
        let still = self.forecast.is_some_and(|forecast| forecast.exhausted.is_some());
        let calm = if still { 0 } else { calm + 1 };
        self.phase = if calm < CALM_SLICES { Phase::Sick { since, calm } } else { Phase::Steady };
    }

    fn turn(&mut self, now: Now, quiet: bool) {
        let near = self.forecast.filter(|forecast| forecast.near);
        self.phase = match (self.phase, near) {
            (Phase::Steady, Some(forecast)) => {
                let left = forecast.exhausted.map_or(Duration::ZERO, |end| now.until(end));
                Phase::Foretold { since: now, until: now + left / 2 }
            }
            (Phase::Foretold { .. }, None) => Phase::Steady,
            (phase, _) => phase,
        };
        if let Phase::Foretold { since, until } = self.phase
            && (quiet || until <= now)
        {
            self.phase = Phase::Sick { since, calm: 0 };
        }
    }
}

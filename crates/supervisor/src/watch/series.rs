//! What one number was over time, in bounded memory: the lowest and the highest of each slice of
//! time, and, of what is too old for that, the level from which it once came down.
//!
//! Why lows: a program that breathes (garbage collection, caches, requests) goes up and down above
//! what it really holds. What it holds is what is left when it has breathed out: the valleys.
//! Invariants: at most [`SLICES_MAX`] slices and [`AGES_MAX`] older levels, whatever comes in.

use base::Now;
use std::collections::VecDeque;
use std::time::Duration;

/// Slices of the window of a trend: eight in each quarter of it.
pub(super) const SLICES: usize = 32;

/// Slices that are kept: the trend may look back over eight windows.
pub(super) const SLICES_MAX: usize = 8 * SLICES;

/// The first quarter of the window is the start of the program: what it held then is no level that
/// it came down from. Not more, or the first breath of a slow one would be forgotten.
const START: u64 = SLICES as u64 / 4;

/// Older levels that are kept, each of an hour (or of a window, if that is longer): what breathes
/// once a day is known the next day.
const AGES_MAX: usize = 32;

/// A level is kept at least for this time.
const AGE_MIN: Duration = Duration::from_hours(1);

/// The lowest and the highest of a slice of time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Slice {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// The number over time.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Series {
    width: Duration,
    /// Number of slices that are kept.
    kept: usize,
    /// Since the clock began: number of the slice that is being filled.
    open: Option<(u64, Slice)>,
    /// Complete, the youngest last. `None`: nothing was seen in it.
    complete: VecDeque<Option<Slice>>,
    /// Slices that were ever completed: those of the beginning are the start of the program.
    seen: u64,
    /// By age, the youngest last.
    ages: VecDeque<Age>,
}

/// The lows of an hour or more.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Age {
    number: u64,
    highest: f64,
    lowest: f64,
}

/// Where the lows have been before, and came down from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Before {
    /// The highest of them.
    pub(super) highest: f64,
    /// How far they fell from there, at any time since.
    pub(super) fall: f64,
}

impl Series {
    /// For trends over `window`, sampled each `interval`, that look back over `windows` of them.
    pub(super) fn new(window: Duration, interval: Duration, windows: usize) -> Self {
        let width = (window / SLICES as u32).max(interval).max(Duration::from_millis(1));
        let in_window = (window.as_nanos() / width.as_nanos()) as usize;
        let kept = in_window.saturating_mul(windows).clamp(1, SLICES_MAX);
        let (complete, ages) = (VecDeque::new(), VecDeque::new());
        Self { width, kept, open: None, complete, seen: 0, ages }
    }

    pub(super) fn width(&self) -> Duration {
        self.width
    }

    /// True if a slice has become complete by it.
    pub(super) fn add(&mut self, now: Now, value: f64) -> bool {
        let number = (u128::from(now.as_nanos()) / self.width.as_nanos()) as u64;
        let fresh = Slice { low: value, high: value };
        let Some((open, slice)) = &mut self.open else {
            self.open = Some((number, fresh));
            return false;
        };
        if number <= *open {
            slice.low = slice.low.min(value);
            slice.high = slice.high.max(value);
            return false;
        }
        let (done, slice) = (*open, *slice);
        self.open = Some((number, fresh));
        self.close(done, Some(slice));
        // A longer gap leaves nothing to be kept anyway.
        let missing = (number - done - 1).min(self.kept as u64);
        for gap in 0..missing {
            self.close(done + 1 + gap, None);
        }
        true
    }

    fn close(&mut self, number: u64, slice: Option<Slice>) {
        self.seen += 1;
        self.complete.push_back(slice);
        if self.complete.len() <= self.kept {
            return;
        }
        if let Some(Some(old)) = self.complete.pop_front()
            && START < self.seen - self.kept as u64
        {
            self.remember(number.saturating_sub(self.kept as u64), old.low);
        }
    }

    fn remember(&mut self, number: u64, low: f64) {
        let age = AGE_MIN.max(self.width * SLICES as u32);
        let per_age = (age.as_nanos() / self.width.as_nanos()).max(1) as u64;
        let number = number / per_age;
        match self.ages.back_mut() {
            Some(age) if age.number == number => {
                age.highest = age.highest.max(low);
                age.lowest = age.lowest.min(low);
            }
            _ => self.ages.push_back(Age { number, highest: low, lowest: low }),
        }
        while self.ages.front().is_some_and(|age| age.number + (AGES_MAX as u64) <= number) {
            self.ages.pop_front();
        }
    }

    /// The last `number` complete slices, oldest first; `None` if there are not so many.
    pub(super) fn last(&self, number: usize) -> Option<impl Iterator<Item = Option<Slice>>> {
        let skipped = self.complete.len().checked_sub(number)?;
        Some(self.complete.iter().skip(skipped).copied())
    }

    /// Slices that were ever completed.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// How much history there is.
    pub(super) fn history(&self) -> Duration {
        self.width.saturating_mul(self.complete.len() as u32)
    }

    /// Where the lows were before the last `number` slices; the start of the program does not
    /// count, in which many hold more than they ever will again.
    pub(super) fn before(&self, number: usize) -> Option<Before> {
        let older = self.complete.len().saturating_sub(number);
        let evicted = self.seen.saturating_sub(self.complete.len() as u64);
        let start = START.saturating_sub(evicted) as usize;
        let mut before: Option<Before> = None;
        for age in &self.ages {
            before = Some(Before::rise(before, age.highest).fall(age.lowest));
        }
        for (at, slice) in self.complete.iter().enumerate().skip(start) {
            let Some(slice) = slice else { continue };
            if at < older {
                before = Some(Before::rise(before, slice.low));
            }
            before = before.map(|before| before.fall(slice.low));
        }
        before
    }
}

impl Before {
    fn rise(before: Option<Self>, low: f64) -> Self {
        match before {
            Some(before) if low <= before.highest => before,
            _ => Self { highest: low, fall: 0.0 },
        }
    }

    fn fall(self, low: f64) -> Self {
        Self { fall: self.fall.max(self.highest - low), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_keep_their_lows_and_highs_and_gaps_stay_gaps() {
        let second = Duration::from_secs(1);
        let mut it = Series::new(32 * second, Duration::from_millis(500), 1);
        for (millis, value) in [(0, 5.0), (500, 3.0), (999, 4.0), (1_000, 7.0), (4_000, 1.0)] {
            it.add(Now::from_millis(millis), value);
        }
        let slice = |low, high| Some(Slice { low, high });
        let seen: Vec<_> = it.last(4).unwrap().collect();
        assert_eq!(seen, [slice(3.0, 5.0), slice(7.0, 7.0), None, None]);
        assert!(it.last(5).is_none());
    }

    #[test]
    fn it_knows_how_high_it_was_and_how_far_it_fell_but_for_its_start() {
        let minute = Duration::from_mins(1);
        let mut it = Series::new(32 * minute, minute, 4);
        let mut now = Now::ZERO;
        let mut hold = |it: &mut Series, level: f64, minutes: u32| {
            for _ in 0..minutes {
                it.add(now, level);
                now = now + minute;
            }
        };
        hold(&mut it, 900.0, 8);
        hold(&mut it, 300.0, 34);
        assert_eq!(it.before(0), Some(Before { highest: 300.0, fall: 0.0 }));
        hold(&mut it, 500.0, 10);
        hold(&mut it, 200.0, 10);
        assert_eq!(it.before(5), Some(Before { highest: 500.0, fall: 300.0 }));
        assert_eq!(it.before(25), Some(Before { highest: 300.0, fall: 100.0 }));
        hold(&mut it, 400.0, 200);
        assert_eq!(it.before(5), Some(Before { highest: 500.0, fall: 300.0 }), "out of the ages");
    }

    #[test]
    fn memory_is_bounded_and_old_levels_are_forgotten_after_a_day() {
        let minute = Duration::from_mins(1);
        let mut it = Series::new(32 * minute, minute, 20);
        let mut now = Now::ZERO;
        for level in [10.0; 32].into_iter().chain([900.0; 2]) {
            it.add(now, level);
            now = now + minute;
        }
        for _ in 0..(20 * 60) {
            now = now + minute;
            it.add(now, 10.0);
        }
        assert_eq!(
            it.before(0),
            Some(Before { highest: 900.0, fall: 890.0 }),
            "twenty hours later"
        );
        for _ in 0..(60 * 60) {
            now = now + minute;
            it.add(now, 10.0);
        }
        assert_eq!(it.before(0), Some(Before { highest: 10.0, fall: 0.0 }), "three days later");
        assert_eq!(it.complete.len(), SLICES_MAX);
        assert!(it.ages.len() <= AGES_MAX);
    }
}

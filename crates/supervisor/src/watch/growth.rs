//! Does it grow, steadily, and when will it be exhausted? Pure arithmetic over one span of time.
//!
//! Growth is believed only if all of this holds for the lows of the span:
//!
//! 1. Its level rises from each quarter to the next, by at least [`STEP_SHARE`] of the mean step:
//!    neither a step to a new plateau nor a single jump is growth.
//! 2. The slope's lower confidence bound is above zero: noise is not growth.
//! 3. The last quarter is higher than anything before the span ([`super::series`] knows): a wave
//!    that only comes back is not growth.
//!
//! The prediction does not draw a straight line through growth that slows down: a cache that fills
//! takes less in each quarter. Successive steps that shrink by a ratio add up to a finite sum (the
//! geometric series; Aitken's extrapolation), and what lies beyond that sum is never reached. It
//! starts from the highest of the last quarter: the peaks hit the limit first.
//!
//! Source: H. Theil 1950, P. K. Sen 1968 (median of pairwise slopes, and its confidence interval
//! from Kendall's statistic).

use super::series::Slice;

/// Each of the three steps between quarters is at least this share of the mean step.
const STEP_SHARE: f64 = 0.6;

/// Within the span, the lows never fall by more than this share of the growth.
const FALL_SHARE: f64 = 0.25;

/// Nor do they rise by more than this share of it at once: a few steps are not growth.
const JUMP_SHARE: f64 = 0.2;

/// A last step of less than this share of the first one: growth slows down.
const SLOWS_DOWN: f64 = 0.7;

/// Standard deviations of Kendall's statistic. Twice what independent values would need for one
/// error in a hundred (2.58): successive lows are not independent.
const CONFIDENCE: f64 = 5.16;

/// Slices with a value that each quarter must have.
const FILLED_MIN: usize = 2;

/// Steady growth.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Growth {
    /// Median of the pairwise slopes, per slice.
    slope: f64,
    /// Slices of a quarter.
    quarter: f64,
    /// Steps from the first to the second and from the third to the last quarter.
    first_step: f64,
    last_step: f64,
    /// Level of the last quarter: what it holds when it has breathed out.
    pub(super) level: f64,
    /// The highest of the last quarter.
    pub(super) high: f64,
}

impl Growth {
    /// Growth over the span that these slices cover, oldest first.
    pub(super) fn over(slices: &[Option<Slice>]) -> Option<Self> {
        let quarter = slices.len() / 4;
        if quarter == 0 {
            return None;
        }
        let mut levels = [0.0; 4];
        for (level, slices) in levels.iter_mut().zip(slices.chunks(quarter)) {
            *level = low_level(slices)?;
        }
        let [first, second, third, level] = levels;
        let mean = (level - first) / 3.0;
        let steps = [second - first, third - second, level - third];
        if mean <= 0.0 || steps.iter().any(|step| *step < STEP_SHARE * mean) {
            return None;
        }
        let grown = 4.0 * mean;
        if FALL_SHARE * grown < deepest_fall(slices) || JUMP_SHARE * grown < highest_jump(slices) {
            return None;
        }
        let slope = slope(slices)?.min(latest(slices, quarter)).min(latest(slices, quarter / 2));
        if slope <= 0.0 {
            return None;
        }
        let last = slices.iter().rev().take(quarter).flatten();
        let high = last.map(|slice| slice.high).reduce(f64::max)?;
        let quarter = quarter as f64;
        Some(Self { slope, quarter, first_step: steps[0], last_step: steps[2], level, high })
    }

    /// Per slice.
    pub(super) fn slope(&self) -> f64 {
        self.slope
    }

    /// In how many slices the highest will be at `bound`; `None` = never, as it slows down.
    pub(super) fn reaches(&self, bound: f64) -> Option<f64> {
        let gap = bound - self.high;
        if gap <= 0.0 {
            return Some(0.0);
        }
        if SLOWS_DOWN * self.first_step <= self.last_step {
            return Some(gap / self.slope);
        }
        let ratio = (self.last_step / self.first_step).sqrt();
        let left = 1.0 - gap * (1.0 - ratio) / (self.last_step * ratio);
        (0.0 < left).then(|| left.ln() / ratio.ln() * self.quarter)
    }
}

/// The lower quartile of the lows: a single dip does not count, nor does what lies above.
fn low_level(slices: &[Option<Slice>]) -> Option<f64> {
    let mut lows: Vec<f64> = slices.iter().flatten().map(|slice| slice.low).collect();
    if lows.len() < FILLED_MIN || lows.len() * 2 < slices.len() {
        return None;
    }
    lows.sort_by(f64::total_cmp);
    lows.get(lows.len() / 4).copied()
}

/// How far the lows came down from the highest before.
fn deepest_fall(slices: &[Option<Slice>]) -> f64 {
    let lows = slices.iter().flatten().map(|slice| slice.low);
    let fall =
        |(highest, deepest): (f64, f64), low: f64| (highest.max(low), deepest.max(highest - low));
    lows.fold((f64::NEG_INFINITY, 0.0), fall).1
}

/// How far the lows rose from one slice to the next that has any.
fn highest_jump(slices: &[Option<Slice>]) -> f64 {
    let lows = slices.iter().flatten().map(|slice| slice.low);
    let later = slices.iter().flatten().skip(1).map(|slice| slice.low);
    lows.zip(later).map(|(low, later)| later - low).fold(0.0, f64::max)
}

/// The steepest that the last so many slices may reasonably be called: the upper quintile of their
/// slopes. Where it breathes much, that says little, and limits nothing.
fn latest(slices: &[Option<Slice>], number: usize) -> f64 {
    let mut slopes = slopes(slices.get(slices.len() - number..).unwrap_or(&[]));
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() * 4 / 5).copied().unwrap_or(f64::INFINITY)
}

/// The slopes between all pairs.
fn slopes(slices: &[Option<Slice>]) -> Vec<f64> {
    let lows: Vec<(f64, f64)> = slices
        .iter()
        .enumerate()
        .filter_map(|(at, slice)| slice.map(|slice| (at as f64, slice.low)))
        .collect();
    let mut slopes = Vec::with_capacity(lows.len() * lows.len().saturating_sub(1) / 2);
    for (index, (at, low)) in lows.iter().enumerate() {
        let later = lows.get(index + 1..).unwrap_or(&[]);
        slopes.extend(later.iter().map(|(later, higher)| (higher - low) / (later - at)));
    }
    slopes
}

/// The median of the slopes between all pairs, if growth is certain.
fn slope(slices: &[Option<Slice>]) -> Option<f64> {
    let filled = slices.iter().flatten().count();
    let mut slopes = slopes(slices);
    let number = filled as f64;
    let deviation = (number * (number - 1.0) * (2.0 * number + 5.0) / 18.0).sqrt();
    let rank = (slopes.len() as f64 - CONFIDENCE * deviation) / 2.0;
    if rank < 0.0 {
        return None;
    }
    let middle = slopes.len() / 2;
    let (below, median, _) = slopes.select_nth_unstable_by(middle, f64::total_cmp);
    let median = *median;
    let (_, lower, _) = below.select_nth_unstable_by(rank as usize, f64::total_cmp);
    (0.0 < *lower).then_some(median)
}

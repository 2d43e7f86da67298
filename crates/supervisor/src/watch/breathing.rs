//! Generated series of programs that breathe and never leak, and how often a trend fires for them.
//!
//! Each series is drawn from a seed, with a limit that lies a drawn share above the highest that it
//! ever reaches, in the time that is played or in as much again. What was measured is told in
//! docs/detectors.md; an optimised build plays fifty times as many:
//! `cargo test --release -p supervisor breathing -- --nocapture`.

use super::trend::{Phase, Trending};
use crate::Trend;
use base::{Now, Rng};
use std::f64::consts::TAU;
use std::time::Duration;

/// Series of each kind.
const SERIES: u64 = if cfg!(debug_assertions) { 40 } else { 2_000 };

const INTERVAL: Duration = Duration::from_secs(30);
/// Minutes of the window.
const WINDOW: f64 = 60.0;
const AHEAD: Duration = Duration::from_mins(30);

/// The limit above the peak: as tight as it makes sense, and as it should be.
const TIGHT: (f64, f64) = (0.02, 0.1);
const CLOSE: (f64, f64) = (0.1, 0.25);
const USUAL: (f64, f64) = (0.25, 1.0);

/// Numbers of one seed.
struct Draw(Rng);

impl Draw {
    fn unit(&mut self) -> f64 {
        self.0.below(1 << 32) as f64 / (1_u64 << 32) as f64
    }

    fn from(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Spread evenly over the orders of magnitude.
    fn scale(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.unit())
    }

    /// Nearly normal, with a deviation of 1.
    fn noise(&mut self) -> f64 {
        2.0 * ((0..3).map(|_| self.unit()).sum::<f64>() - 1.5)
    }
}

/// Bytes by the minute; may draw.
type Series = Box<dyn FnMut(&mut Draw, f64) -> f64>;

/// How often a trend fires for series of one family over so many hours.
fn fired(family: fn(&mut Draw) -> Series, hours: u32, headroom: (f64, f64)) -> Vec<u64> {
    (0..SERIES).filter(|seed| fires(family, hours, headroom, *seed)).collect()
}

fn fires(family: fn(&mut Draw) -> Series, hours: u32, headroom: (f64, f64), seed: u64) -> bool {
    let mut draw = Draw(Rng::new(seed));
    let mut value = family(&mut draw);
    let looks = (f64::from(hours) * 3_600.0 / INTERVAL.as_secs_f64()) as u32;
    let minute = |look: u32| f64::from(look) * INTERVAL.as_secs_f64() / 60.0;
    let values: Vec<f64> =
        (0..2 * looks).map(|look| value(&mut draw, minute(look)).max(1.0)).collect();
    let peak = values.iter().copied().fold(0.0, f64::max);
    let limit = peak * (1.0 + draw.scale(headroom.0, headroom.1));
    let trend = Trend { window: Duration::from_secs_f64(WINDOW * 60.0), ahead: AHEAD };
    let mut trending = Trending::new(trend, INTERVAL);
    let mut now = Now::from_millis(1_000_000);
    values.into_iter().take(looks as usize).any(|value| {
        now = now + INTERVAL;
        // Each moment is a quiet one: nothing delays what is foretold.
        trending.add(now, value, Some(limit), true);
        matches!(trending.phase(), Phase::Sick { .. })
    })
}

/// None of the family fires, however tight its limit.
fn never_fires(family: fn(&mut Draw) -> Series, hours: u32) {
    for headroom in [TIGHT, CLOSE, USUAL] {
        let seeds = fired(family, hours, headroom);
        println!("limit {headroom:?} above the peak: {} of {SERIES}", seeds.len());
        assert!(seeds.is_empty(), "seeds {seeds:?}");
    }
}

/// None of the family fires if the limit is where it should be; a few may if it is close.
fn fires_at_most(family: fn(&mut Draw) -> Series, hours: u32, percent: [u64; 3]) {
    for (headroom, percent) in [TIGHT, CLOSE, USUAL].into_iter().zip(percent) {
        let seeds = fired(family, hours, headroom);
        println!("limit {headroom:?} above the peak: {} of {SERIES}", seeds.len());
        // With few series, one more is luck; but none is none.
        let most = if percent == 0 { 0 } else { SERIES * percent / 100 + 1 };
        assert!(seeds.len() as u64 <= most, "{headroom:?}: seeds {seeds:?}");
    }
}

fn sawtooth(draw: &mut Draw, period: f64) -> Series {
    let (base, height, noise) =
        (draw.scale(20.0, 2_000.0), draw.scale(0.02, 3.0), draw.from(0.0, 0.1));
    let mut begin = 0.0;
    let mut length = period;
    Box::new(move |draw, t| {
        if length < t - begin {
            begin = t;
            length = period * draw.from(0.7, 1.3);
        }
        base * (1.0 + height * ((t - begin) / period + noise * draw.noise()))
    })
}

fn wave(draw: &mut Draw, period: f64) -> Series {
    let (base, height, noise) =
        (draw.scale(20.0, 2_000.0), draw.scale(0.02, 0.9), draw.from(0.0, 0.1));
    let phase = draw.unit();
    Box::new(move |draw, t| {
        base * (1.0 + height * ((TAU * (t / period + phase)).sin() + noise * draw.noise()))
    })
}

fn plain_noise(draw: &mut Draw) -> Series {
    let (base, height) = (draw.scale(20.0, 2_000.0), draw.scale(0.001, 0.2));
    Box::new(move |draw, _| base * (1.0 + height * draw.noise()))
}

fn bursts(draw: &mut Draw) -> Series {
    let base = draw.scale(20.0, 2_000.0);
    let (often, long) = (draw.scale(2.0, 60.0), draw.scale(0.5, 10.0));
    let mut running: Vec<(f64, f64)> = Vec::new();
    Box::new(move |draw, t| {
        if draw.unit() < 0.5 / often {
            let length = -long * draw.unit().max(1e-9).ln();
            running.push((t + length, base * draw.from(0.05, 0.5)));
        }
        running.retain(|(end, _)| t < *end);
        base + running.iter().map(|(_, held)| held).sum::<f64>() + base * 0.002 * draw.noise()
    })
}

fn steps(draw: &mut Draw) -> Series {
    let (mut level, noise) = (draw.scale(20.0, 2_000.0), draw.scale(0.001, 0.05));
    let often = draw.scale(60.0, 720.0);
    Box::new(move |draw, t| {
        if 0.0 < t && draw.unit() < 0.5 / often {
            level *= draw.from(0.6, 1.8);
        }
        level * (1.0 + noise * draw.noise())
    })
}

fn warm_up(draw: &mut Draw) -> Series {
    let (base, full, noise) =
        (draw.scale(5.0, 500.0), draw.scale(50.0, 4_000.0), draw.scale(0.000_1, 0.02));
    let tau = draw.scale(1.0, 480.0);
    Box::new(move |draw, t| base + full * (1.0 - (-t / tau).exp()) + full * noise * draw.noise())
}

fn slow_warm_up(draw: &mut Draw) -> Series {
    let (base, full, noise) =
        (draw.scale(5.0, 500.0), draw.scale(50.0, 4_000.0), draw.scale(0.000_1, 0.02));
    let tau = draw.scale(1.0, 120.0);
    Box::new(move |draw, t| base + full * (t / (t + tau)) + full * noise * draw.noise())
}

fn wandering(draw: &mut Draw) -> Series {
    let (base, spread) = (draw.scale(20.0, 2_000.0), draw.scale(0.01, 0.2));
    let stay = (-0.5 / draw.scale(1.0, WINDOW / 4.0)).exp();
    let mut away = draw.noise();
    Box::new(move |draw, _| {
        away = stay * away + (1.0 - stay * stay).sqrt() * draw.noise();
        base * (1.0 + spread * away).max(0.1)
    })
}

fn day(draw: &mut Draw) -> Series {
    let mut slow = wave(draw, 1_440.0);
    let mut twice = wave(draw, 720.0);
    let period = draw.scale(0.5, 20.0);
    let mut collector = sawtooth(draw, period);
    Box::new(move |draw, t| slow(draw, t) + 0.3 * twice(draw, t) + 0.3 * collector(draw, t))
}

#[test]
fn h3_a_sawtooth_that_gives_back_within_the_window_never_fires() {
    // Single teeth are up to 1.3 times as long as the period says.
    never_fires(
        |draw| {
            let period = draw.scale(2.5, WINDOW / 1.3);
            sawtooth(draw, period)
        },
        8,
    );
}

#[test]
fn h3_a_wave_that_comes_down_within_the_window_never_fires() {
    never_fires(
        |draw| {
            let period = draw.scale(2.5, WINDOW);
            wave(draw, period)
        },
        8,
    );
}

#[test]
fn h3_noise_bursts_and_what_wanders_about_a_level_never_fire() {
    never_fires(plain_noise, 8);
    never_fires(bursts, 8);
    never_fires(wandering, 8);
}

#[test]
fn h3_steps_to_a_new_plateau_never_fire() {
    never_fires(steps, 12);
}

#[test]
fn h3_caches_that_fill_never_fire() {
    never_fires(warm_up, 12);
    never_fires(slow_warm_up, 12);
}

#[test]
fn h3_what_breathes_once_a_day_fires_only_if_its_limit_is_tight() {
    fires_at_most(day, 50, [3, 0, 0]);
}

#[test]
fn h3_waves_slower_than_the_window_fire_only_if_their_limit_is_close() {
    fires_at_most(
        |draw| {
            let period = draw.scale(WINDOW, 4.0 * WINDOW);
            wave(draw, period)
        },
        12,
        [20, 3, 0],
    );
    fires_at_most(
        |draw| {
            let period = draw.scale(4.0 * WINDOW, 24.0 * WINDOW);
            wave(draw, period)
        },
        30,
        [20, 3, 0],
    );
}

#[test]
fn h3_sawtooths_slower_than_the_window_fire_only_if_their_limit_is_tight() {
    fires_at_most(
        |draw| {
            let period = draw.scale(WINDOW, 4.0 * WINDOW);
            sawtooth(draw, period)
        },
        12,
        [3, 0, 0],
    );
}

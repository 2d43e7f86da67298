//! Medians and ranges of what was measured in turns.

/// What both sides took, round by round: less is better.
#[derive(Default)]
pub(crate) struct Pair {
    pub(crate) ours: Vec<f64>,
    pub(crate) libtdb: Vec<f64>,
}

impl Pair {
    /// How many times as fast as libtdb we were in each round. What else the machine did meanwhile
    /// has mostly hit both sides of a round.
    pub(crate) fn ratios(&self) -> Vec<f64> {
        self.ours.iter().zip(&self.libtdb).map(|(ours, libtdb)| libtdb / ours).collect()
    }
}

pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median and the range, each figure written by `unit`.
pub(crate) fn spread(figures: &[f64], unit: impl Fn(f64) -> String) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} ({}–{})", unit(median(figures)), unit(least), unit(most))
}

/// Nanoseconds with the unit that suits them.
pub(crate) fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 10_000.0 => return format!("{ns:.0} ns"),
        ns if ns < 10_000_000.0 => (ns / 1e3, "µs"),
        ns => (ns / 1e6, "ms"),
    };
    if value < 100.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

pub(crate) fn times(ratio: f64) -> String {
    format!("{ratio:.2}×")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(spread(&[3.0, 1.0, 2.0], times), "2.00× (1.00×–3.00×)");
        assert_eq!(
            [950.0, 12_345.0, 1_234_567.0, 5e7, 5e8].map(time),
            ["950 ns", "12.3 µs", "1235 µs", "50.0 ms", "500 ms"]
        );
        let pair = Pair { ours: vec![1.0, 2.0], libtdb: vec![3.0, 3.0] };
        assert_eq!(pair.ratios(), [3.0, 1.5]);
    }
}

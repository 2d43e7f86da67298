//! Seeded pseudo-random numbers for jitter and simulation. Not for secrets.
//!
//! Source: the SplitMix64 generator (Steele, Lea, Flood 2014).

/// A small generator: the same seed gives the same sequence, on every machine.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Begins the sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 if `limit` is 0. The bias is below 2⁻³² for limits below 2³².
    pub fn below(&mut self, limit: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(limit);
        (wide >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_within_its_limit() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        for limit in [0_u64, 1, 10, u64::MAX] {
            let drawn = a.below(limit);
            assert_eq!(drawn, b.below(limit));
            assert!(drawn < limit.max(1));
        }
    }
}

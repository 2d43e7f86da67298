//! Keys and values, and the numbers they come from: the same ones as in the program for libtdb.

use std::error::Error;

/// A generator of numbers (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D).checked_rem(limit).unwrap_or(0)
    }
}

/// The key of a number.
pub(crate) fn key(number: u64) -> [u8; 16] {
    let words = [number, number.wrapping_mul(0x9E37_79B9_7F4A_7C15)];
    let mut key = [0; 16];
    let (halves, _) = key.as_chunks_mut::<8>();
    for (half, word) in halves.iter_mut().zip(words) {
        *half = word.to_ne_bytes();
    }
    key
}

/// Values of one length, each other than the one before.
pub(crate) struct Values {
    bytes: Vec<u8>,
    number: u64,
}

impl Values {
    pub(crate) fn new(length: u64) -> Self {
        Self { bytes: vec![0; length as usize], number: 1 << 32 }
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        self.number += 1;
        if let Some(first) = self.bytes.first_chunk_mut() {
            *first = self.number.to_ne_bytes();
        }
        &self.bytes
    }
}

/// Counts in a value.
pub(crate) fn count(value: &mut [u8]) -> Result<(), Box<dyn Error>> {
    let first = value.first_chunk_mut::<8>().ok_or("a value is too short")?;
    *first = (u64::from_ne_bytes(*first) + 1).to_ne_bytes();
    Ok(())
}

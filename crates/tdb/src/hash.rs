//! The two hash functions that spread keys over chains.
//!
//! Invariant: the result depends on the bytes alone, never on the byte order of host or file.
//! Source: the TDB specification, section 5, with its test vectors.

/// Which function a file uses; its header says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HashKind {
    /// The one of files without further wishes.
    #[default]
    Default,
    /// Bob Jenkins' lookup3, which libtdb calls the *incompatible* hash.
    Jenkins,
}

impl HashKind {
    /// The hash of a key.
    pub fn of(self, key: &[u8]) -> u32 {
        match self {
            Self::Default => default_hash(key),
            Self::Jenkins => jenkins_hash(key),
        }
    }
}

fn default_hash(key: &[u8]) -> u32 {
    let seed = 0x238F_13AF_u32.wrapping_mul(key.len() as u32);
    let mut shift = 0;
    let mut value = seed;
    for &byte in key {
        value = value.wrapping_add(u32::from(byte) << shift);
        // The shift is five times the position, modulo 24; counting avoids the division.
        shift = (shift + 5) % 24;
    }
    value.wrapping_mul(1_103_515_243).wrapping_add(12_345)
}

/// The lookup3 hash of little-endian words without a seed; ctdb makes database ids with it.
pub fn jenkins_hash(key: &[u8]) -> u32 {
    let start = 0xDEAD_BEEF_u32.wrapping_add(key.len() as u32);
    let mut state = [start; 3];
    let mut rest = key;
    while let Some((block, after)) = rest.split_first_chunk::<12>()
        && !after.is_empty()
    {
        add(&mut state, block);
        mix(&mut state);
        rest = after;
    }
    if rest.is_empty() {
        return state[2];
    }
    let mut last = [0; 12];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    add(&mut state, &last);
    finish(state)
}

fn add(state: &mut [u32; 3], block: &[u8; 12]) {
    let (words, _) = block.as_chunks::<4>();
    for (word, bytes) in state.iter_mut().zip(words) {
        *word = word.wrapping_add(u32::from_le_bytes(*bytes));
    }
}

fn mix(state: &mut [u32; 3]) {
    let [mut a, mut b, mut c] = *state;
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    *state = [a, b, c];
}

fn finish([mut a, mut b, mut c]: [u32; 3]) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_hashes_give_the_values_of_the_specification() {
        let falling: Vec<u8> = (0..33_u32).map(|i| 0xFF_u32.wrapping_sub(7 * i) as u8).collect();
        let vectors: &[(&[u8], u32, u32)] = &[
            (b"", 0x0000_3039, 0xDEAD_BEEF),
            (b"a", 0x094A_72E9, 0x58D6_8708),
            (b"ab", 0xE3B1_9DCE, 0xFBB3_A8DF),
            (b"abc", 0xC225_ADF3, 0x0E39_7631),
            (b"abcd", 0x3032_3A18, 0xB5F4_889C),
            (b"abcdefgh", 0x4381_EB30, 0x2995_C3BE),
            (b"abcdefghijk", 0xC623_AA83, 0x5F61_EDF8),
            (b"abcdefghijkl", 0xB7D4_C8A8, 0x4012_F87B),
            (b"abcdefghijklm", 0xCB34_44CD, 0x9281_28F9),
            (b"The quick brown fox jumps over the lazy dog", 0x3918_BDAF, 0x64A2_CD46),
            (&falling, 0x2C2B_0BBC, 0xE2DB_FD20),
            (b"TDB file\n\0", 0xF67D_9F0D, 0xD7B6_94E5),
            (&[0x99, 0x19, 0x01, 0x26], 0x3AFE_F920, 0x76B9_440E),
            (&[0x26, 0x01, 0x19, 0x99], 0x566F_1E0F, 0x123C_1283),
        ];
        for (key, default, jenkins) in vectors {
            assert_eq!(HashKind::Default.of(key), *default, "default hash of {key:?}");
            assert_eq!(HashKind::Jenkins.of(key), *jenkins, "jenkins hash of {key:?}");
        }
    }
}

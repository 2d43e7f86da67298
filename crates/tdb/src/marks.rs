//! A set of record offsets, one bit for each place where a record can begin.
//!
//! Why: a check has to remember every record it met, of files with millions; a bit for four bytes of
//! file is a known and small price.
//! Invariant: offsets that are no multiple of 4 or lie beyond the size are in no set.

/// A set of offsets below a size.
#[derive(Debug)]
pub(crate) struct Marks {
    words: Vec<u64>,
}

impl Marks {
    pub(crate) fn new(size: u64) -> Self {
        Self { words: vec![0; (size / 256 + 1) as usize] }
    }

    /// Adds an offset; false if it was there already, or can be in no set.
    pub(crate) fn insert(&mut self, offset: u64) -> bool {
        let Some((word, bit)) = self.place(offset) else { return false };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Takes an offset out; false if it was not there.
    pub(crate) fn remove(&mut self, offset: u64) -> bool {
        let Some((word, bit)) = self.place(offset) else { return false };
        let was_there = *word & bit != 0;
        *word &= !bit;
        was_there
    }

    /// The smallest offset of the set that is not below this one.
    pub(crate) fn first_from(&self, offset: u64) -> Option<u64> {
        let index = usize::try_from(offset.div_ceil(4)).ok()?;
        let first = self.words.get(index / 64)? & (u64::MAX << (index % 64));
        let rest = self.words.iter().enumerate().skip(index / 64 + 1);
        std::iter::once((index / 64, first))
            .chain(rest.map(|(at, word)| (at, *word)))
            .find(|(_, word)| *word != 0)
            .map(|(at, word)| 4 * (64 * at as u64 + u64::from(word.trailing_zeros())))
    }

    fn place(&mut self, offset: u64) -> Option<(&mut u64, u64)> {
        if !offset.is_multiple_of(4) {
            return None;
        }
        let index = usize::try_from(offset / 4).ok()?;
        self.words.get_mut(index / 64).map(|word| (word, 1 << (index % 64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_offsets_knows_what_it_was_given_once() {
        let mut marks = Marks::new(8192);
        assert!(marks.insert(200) && marks.insert(8188));
        assert!(!marks.insert(200), "already there");
        assert!(!marks.insert(202), "no record begins there");
        assert!(!marks.insert(1 << 40), "beyond the size");
        assert_eq!(marks.first_from(0), Some(200));
        assert_eq!(marks.first_from(201), Some(8188));
        assert!(marks.remove(200) && !marks.remove(200));
        assert_eq!(marks.first_from(0), Some(8188));
        assert_eq!(marks.first_from(8192), None);
    }
}

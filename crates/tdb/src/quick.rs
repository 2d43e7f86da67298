//! The usual search of a chain: all of it mapped, and nothing wrong.
//!
//! Why besides the careful walk: that one asks at every number whether it is there, whether the file
//! became longer, how it is read, and whether the list goes in circles. Here it is asked once, and a
//! fetch takes 0.85 of the time.
//! Invariants: whatever is not as usual is not judged here: the answer is `None`, and the careful walk
//! finds out what it is. What is answered is what the careful walk would have answered. A chain that
//! goes in circles is left after [`STEPS_MAX`].
//! Source: the TDB specification, sections 3.2 and 10.

use crate::engine::{Engine, Found, Placed, Survey};
use crate::header::{ByteOrder, List, Shape};
use crate::os::map::{LINE_BYTES, Map};
use crate::record::{RECORD_BYTES, Record, TAILER_BYTES, magic};
use crate::space::Space;
use std::ops::ControlFlow::{self, Break, Continue};

/// A chain with more records than this is followed carefully, from its beginning.
const STEPS_MAX: u64 = 100_000;

impl Engine {
    /// As [`Engine::find_or_count`].
    pub(crate) fn quick_find(&self, key: &[u8], hash: u32) -> Option<Found> {
        let (mut dead, mut found) = (0, None);
        self.quick_walk(hash, |map, placed, _| {
            if placed.record.magic == magic::DEAD {
                dead += 1;
            } else if is_of(map, placed, key, hash)? {
                found = Some(placed);
                return Some(Break(()));
            }
            Some(Continue(()))
        })?;
        Some(found.map_or(Found::Nowhere { dead }, Found::Here))
    }

    /// As [`Engine::survey`], of a key that has one value at most.
    pub(crate) fn quick_survey(&self, key: &[u8], hash: u32) -> Option<Survey> {
        let mut survey = Survey::default();
        self.quick_walk(hash, |map, placed, slot| {
            if placed.record.magic == magic::DEAD {
                survey.dead += 1;
            } else if is_of(map, placed, key, hash)? {
                if survey.newest.is_some() {
                    return None;
                }
                survey.newest = Some((placed, slot));
            }
            Some(Continue(()))
        })?;
        Some(survey)
    }

    /// As [`Engine::fitting_dead`], which is `best` only if the answer is not `None`.
    pub(crate) fn quick_fitting_dead(
        &self,
        hash: u32,
        room: u64,
        best: &mut Option<Placed>,
    ) -> Option<()> {
        self.quick_walk(hash, |_, placed, _| {
            *best = tighter(*best, placed, room);
            Some(Continue(()))
        })
    }

    /// Follows the chain of a hash to its end, or until `visit` has seen enough; `visit` is told where
    /// the offset of each record stands. `None` as soon as something is not as usual, or `visit` finds
    /// it so.
    #[inline]
    fn quick_walk(
        &self,
        hash: u32,
        mut visit: impl FnMut(&Map, Placed, u64) -> Option<ControlFlow<()>>,
    ) -> Option<()> {
        let Space::File(file) = &self.space else { return None };
        if self.shape.order != ByteOrder::NATIVE {
            return None;
        }
        let map = file.mapping();
        let map = map.as_ref()?;
        let mut slot = List::Chain(self.shape.chain(hash)).head();
        let [mut next] = map.load_words(slot)?;
        for _ in 0..=self.records_max().min(STEPS_MAX) {
            if next == 0 {
                return Some(());
            }
            // Key and data stand behind the header, mostly not in the same line of the cache.
            map.prefetch(u64::from(next) + LINE_BYTES);
            map.prefetch(u64::from(next) + 2 * LINE_BYTES);
            let placed = chained_at(map, self.shape, next.into())?;
            if visit(map, placed, slot)?.is_break() {
                return Some(());
            }
            (slot, next) = (placed.offset, placed.record.next);
        }
        None
    }
}

/// The one of two records in which a value that needs this room fits best, if that is a deleted one
/// with so much; the one that was met before, if they are alike.
#[inline]
pub(crate) fn tighter(best: Option<Placed>, placed: Placed, room: u64) -> Option<Placed> {
    let Record { magic, rec_len, .. } = placed.record;
    let fits = magic == magic::DEAD && room <= u64::from(rec_len);
    let is_tighter = fits && best.is_none_or(|best| rec_len < best.record.rec_len);
    if is_tighter { Some(placed) } else { best }
}

/// As [`Engine::chained_at`].
#[inline]
fn chained_at(map: &Map, shape: Shape, offset: u64) -> Option<Placed> {
    let words = if shape.data_start() <= offset { map.load_words(offset) } else { None };
    let record = Record::of(words?);
    let is_sound = record.is_chained()
        && record.rec_len.is_multiple_of(4)
        && TAILER_BYTES <= u64::from(record.rec_len)
        && record.payload() <= u64::from(record.rec_len)
        && offset + record.total() <= map.len();
    is_sound.then_some(Placed { offset, record })
}

/// As [`Engine::is_of`].
#[inline]
fn is_of(map: &Map, placed: Placed, key: &[u8], hash: u32) -> Option<bool> {
    let Record { magic, hash: own, key_len, .. } = placed.record;
    if magic != magic::USED || own != hash || key_len as usize != key.len() {
        return Some(false);
    }
    map.equals(placed.offset + RECORD_BYTES, key)
}

#[cfg(test)]
mod tests {
    use crate::{Database, Options, Store};
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;

    /// What is asked of chains, in both ways; the answers are the same, or only the careful way has
    /// one. Returns how often the quick way had none.
    fn compare(database: &Database, keys: &[[u8; 4]]) -> usize {
        let engine = &database.engine;
        let mut without = 0;
        for key in keys {
            let hash = engine.shape.hash.of(key);
            let (found, survey) = (engine.quick_find(key, hash), engine.quick_survey(key, hash));
            let mut fitting = None;
            let is_fitting = engine.quick_fitting_dead(hash, 40, &mut fitting).is_some();
            for is_none in [found.is_none(), survey.is_none(), !is_fitting] {
                without += usize::from(is_none);
            }
            if let Some(found) = found {
                assert_eq!(found, engine.careful_find(key, hash).unwrap());
            }
            if let Some(survey) = survey {
                assert_eq!(survey, engine.careful_survey(key, hash).unwrap());
            }
            if is_fitting {
                assert_eq!(fitting, engine.careful_fitting_dead(hash, 40).unwrap());
            }
        }
        without
    }

    proptest! {
        #[test]
        fn what_the_quick_way_answers_the_careful_way_answers(
            changes in prop::collection::vec((0..24_u8, 0..60_usize, any::<bool>()), 1..80),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let options = Options::new().volatile().hash_size(3).create(crate::Create::Missing);
            let mut database = options.open(file.path()).unwrap();
            let keys: Vec<[u8; 4]> = (0..26).map(|number| [b'k', number, 0, 1]).collect();
            for (number, length, is_stored) in changes {
                let key = &keys[usize::from(number)];
                if is_stored {
                    database.store(key, &vec![number; length], Store::Replace).unwrap();
                } else {
                    let _there_or_not = database.delete(key);
                }
            }
            prop_assert_eq!(compare(&database, &keys), 0, "a sound file has no need of care");
            let size = database.engine.space.size();
            for (place, byte) in damage {
                let at = 168 + place.index(size as usize - 168) as u64;
                file.as_file().write_all_at(&[byte], at).unwrap();
            }
            compare(&database, &keys);
        }
    }

    #[test]
    fn two_values_of_one_key_and_circles_are_left_to_the_careful_way() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let options = Options::new().create(crate::Create::Missing).hash_size(1);
        let mut database = options.open(file.path()).unwrap();
        database.store(b"a", b"1", Store::Replace).unwrap();
        let engine = &database.engine;
        let hash = engine.shape.hash.of(b"a");
        engine.store_new(b"a", b"2").unwrap();
        assert!(engine.quick_survey(b"a", hash).is_none());
        let survey = engine.survey(b"a", hash).unwrap();
        assert_eq!((survey.newest.is_some(), survey.others.len()), (true, 1));
        let (newest, _) = survey.newest.unwrap();
        engine.write_number(newest.offset, newest.offset).unwrap();
        let other = engine.shape.hash.of(b"b");
        assert!(engine.quick_find(b"b", other).is_none());
        assert!(engine.find_or_count(b"b", other).is_err());
    }
}

//! How much longer a database becomes when a record finds no room.
//!
//! Why: growing costs a system call and everybody's mapping, so a file grows by room for a hundred
//! such records, but a large one by no more than a tenth.
//! Invariants: the new size is a multiple of the page size unless it is the largest there is; all
//! processes that share a file decide alike, since the file's layout follows from it.
//! Source: the TDB specification, section 12.1.

use crate::space::DATA_BYTES_MAX;

/// Records from this size on are large: room is made for two instead of a hundred.
const LARGE_RECORD_BYTES: u64 = 100 * 1024;
/// Files from this size on are large: they grow by a tenth instead of a quarter.
const LARGE_FILE_BYTES: u64 = 100 * 1024 * 1024;

/// The size of a data space of `size` bytes after it became longer by at least `wanted`; `None` if
/// no offset could address it.
pub(crate) fn grown(size: u64, wanted: u64, page: u64) -> Option<u64> {
    if DATA_BYTES_MAX.saturating_sub(size) < wanted {
        return None;
    }
    let room = if LARGE_RECORD_BYTES < wanted { wanted * 2 } else { wanted * 100 };
    // Fractions of numbers below 2^32 are exact enough in integers: they are cut off either way.
    let share = if LARGE_FILE_BYTES < size { size * 11 / 10 } else { size * 5 / 4 };
    let new = (size + room).max(share);
    let whole = new.checked_next_multiple_of(page.max(1))?;
    if DATA_BYTES_MAX < new + page {
        // The last page that offsets reach is not whole.
        return Some(DATA_BYTES_MAX / page.max(1) * page.max(1))
            .filter(|last| size + wanted <= *last);
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_those_of_the_examples() {
        // A first small record in an empty file of 7 chains; a recovery area in one of a page.
        assert_eq!(grown(200, 38, 4096), Some(4096));
        assert_eq!(grown(4096, 4108, 4096), Some(417_792));
    }

    proptest! {
        #[test]
        fn a_grown_space_has_room_and_can_be_addressed(size in 0_u64..=DATA_BYTES_MAX, wanted in 1_u64..=DATA_BYTES_MAX) {
            match grown(size, wanted, 4096) {
                Some(new) => {
                    prop_assert!(size + wanted <= new && new <= DATA_BYTES_MAX);
                    prop_assert_eq!(new % 4096, 0);
                }
                None => prop_assert!(DATA_BYTES_MAX / 4096 * 4096 < size + wanted),
            }
        }
    }
}

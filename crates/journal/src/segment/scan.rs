//! Walks over the bytes of a segment: records, damage between them, and how it ends.
//!
//! Why: after damage the records behind it are still good. A record's length field ends in a zero
//! byte (records are shorter than 16 MiB) and JSON holds no zero byte, so that looking for the
//! next record byte by byte finds a real one or none.

use control::{EventRecord, decode_record};

/// What stands at one place of a segment.
#[derive(PartialEq, Debug)]
pub(super) enum Piece {
    /// A whole record and its length in bytes.
    Record(Box<EventRecord>, usize),
    /// So many bytes are no record; a whole record follows them.
    Damage(usize),
    /// The rest is the beginning of a record (or nothing): torn, or still being written.
    Unfinished,
    /// The rest is not even the beginning of a record.
    Junk,
}

/// Looks at the beginning of `bytes`, which reach to the end of what there is.
pub(super) fn next_piece(bytes: &[u8]) -> Piece {
    match decode_record(bytes) {
        Ok(Some((event, used))) => Piece::Record(Box::new(event), used),
        Ok(None) => match next_record(bytes) {
            Some(skipped) => Piece::Damage(skipped),
            None => Piece::Unfinished,
        },
        Err(_) => match next_record(bytes) {
            Some(skipped) => Piece::Damage(skipped),
            None => Piece::Junk,
        },
    }
}

/// Where the next whole record begins, beyond the first byte.
fn next_record(bytes: &[u8]) -> Option<usize> {
    (1..bytes.len()).find(|&at| {
        // Cheap test first: a checksum over everything at every byte would take seconds.
        let plausible = bytes.get(at + 3) == Some(&0) && bytes.get(at + 8) == Some(&b'{');
        plausible && matches!(decode_record(&bytes[at..]), Ok(Some(_)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::event;
    use super::*;
    use control::encode_record;

    #[test]
    fn records_behind_damage_are_found() {
        let one = encode_record(&event(1)).unwrap();
        let two = encode_record(&event(2)).unwrap();
        for spoiled in 0..one.len() {
            let mut bytes = [one.clone(), two.clone()].concat();
            bytes[spoiled] ^= 0x41;
            assert_eq!(next_piece(&bytes), Piece::Damage(one.len()), "byte {spoiled}");
            assert!(
                matches!(next_piece(&bytes[one.len()..]), Piece::Record(e, _) if *e == event(2))
            );
        }
    }

    #[test]
    fn a_torn_end_is_told_from_junk() {
        let one = encode_record(&event(1)).unwrap();
        for cut in 0..one.len() {
            assert_eq!(next_piece(&one[..cut]), Piece::Unfinished, "cut at {cut}");
        }
        assert_eq!(next_piece(&[0; 100]), Piece::Junk);
        assert_eq!(next_piece(b"not a record at all"), Piece::Junk);
    }
}

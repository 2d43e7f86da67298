//! Decides where a log file ends and the next one begins. Pure.
//!
//! Invariants: a cut is at a line end, but for a line longer than [`LINE_BYTES_MAX`]; a file is
//! larger than its limit by less than its last line; every byte goes into exactly one file.

use std::time::Duration;

/// A longer line may be split by a rotation: a service that never ends a line must not fill the disk.
pub(crate) const LINE_BYTES_MAX: u64 = 64 * 1024;

/// How the present file stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileState {
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Where its last byte leaves us.
    pub(crate) end: LineEnd,
}

/// Whether the next byte begins a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LineEnd {
    /// It does.
    AtLineStart,
    /// It goes on with a line that is in the file already.
    WithinLine,
}

/// What to do with a piece of output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    /// So many of its bytes still go into the present file.
    pub(crate) take: usize,
    /// Then begin the next one.
    pub(crate) then: Then,
}

/// What follows a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    /// The file goes on.
    Continue,
    /// The file is rotated.
    Rotate,
}

/// True when the file must be rotated at the next line end because of its age.
pub(crate) fn is_too_old(file_age: Duration, age_max: Option<Duration>, size: u64) -> bool {
    0 < size && age_max.is_some_and(|max| max <= file_age)
}

/// Where to cut `chunk`, the next output, given the largest size of a file. `limit` 0 asks for a
/// rotation at the next line end.
pub(crate) fn cut(file: FileState, limit: u64, chunk: &[u8]) -> Cut {
    let room = limit.saturating_sub(file.size);
    if chunk.len() as u64 <= room {
        return Cut { take: chunk.len(), then: Then::Continue };
    }
    let within = &chunk[..room as usize];
    if let Some(end) = within.iter().rposition(|b| *b == b'\n') {
        return Cut { take: end + 1, then: Then::Rotate };
    }
    if file.end == LineEnd::AtLineStart && 0 < file.size {
        return Cut { take: 0, then: Then::Rotate };
    }
    // The line does not fit into the limit: it is kept whole, up to its own limit.
    if let Some(end) = chunk.iter().position(|b| *b == b'\n') {
        return Cut { take: end + 1, then: Then::Rotate };
    }
    let beyond = (file.size + chunk.len() as u64).saturating_sub(limit);
    let then = if LINE_BYTES_MAX < beyond { Then::Rotate } else { Then::Continue };
    Cut { take: chunk.len(), then }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(size: u64, end: LineEnd, limit: u64, chunk: &[u8], take: usize, then: Then) {
        let got = cut(FileState { size, end }, limit, chunk);
        assert_eq!(got, Cut { take, then }, "size {size}, limit {limit}, {chunk:?}");
    }

    #[test]
    fn files_end_where_lines_end() {
        use LineEnd::{AtLineStart, WithinLine};
        check(0, AtLineStart, 10, b"ab\ncd\n", 6, Then::Continue);
        check(5, AtLineStart, 10, b"ab\ncd\n", 3, Then::Rotate);
        check(9, AtLineStart, 10, b"ab\ncd\n", 0, Then::Rotate);
        check(9, WithinLine, 10, b"ab\ncd\n", 3, Then::Rotate);
        // A line longer than the limit gets a file of its own.
        check(0, AtLineStart, 2, b"abcdef\ng", 7, Then::Rotate);
        check(0, AtLineStart, 2, b"abcdef", 6, Then::Continue);
        // A line without end is split in the end.
        check(LINE_BYTES_MAX, WithinLine, 2, b"abc", 3, Then::Rotate);
        // Too old: rotate as soon as the line is over.
        check(5, AtLineStart, 0, b"x\n", 0, Then::Rotate);
        check(5, WithinLine, 0, b"x\ny\n", 2, Then::Rotate);
    }

    #[test]
    fn age_only_counts_for_files_that_hold_something() {
        let hour = Duration::from_hours(1);
        assert!(is_too_old(hour, Some(hour), 1));
        assert!(!is_too_old(hour, Some(hour), 0));
        assert!(!is_too_old(hour, None, 1));
    }

    proptest! {
        #[test]
        fn every_byte_goes_into_one_file_and_only_long_lines_are_large_or_split(
            lines in proptest::collection::vec(0..40_usize, 0..60),
            limit in 1..100_u64,
            chunk_size in 1..50_usize,
        ) {
            let output: Vec<u8> = lines
                .iter()
                .flat_map(|n| [vec![b'x'; *n], vec![b'\n']].concat())
                .collect();
            let mut files: Vec<Vec<u8>> = vec![Vec::new()];
            let mut rest = &output[..];
            let mut steps = 0;
            while !rest.is_empty() {
                steps += 1;
                prop_assert!(steps < 10_000, "no progress");
                let chunk = &rest[..rest.len().min(chunk_size)];
                let file = files.last_mut().unwrap();
                let end = match file.last() {
                    None | Some(b'\n') => LineEnd::AtLineStart,
                    Some(_) => LineEnd::WithinLine,
                };
                let cut = cut(FileState { size: file.len() as u64, end }, limit, chunk);
                file.extend_from_slice(&chunk[..cut.take]);
                rest = &rest[cut.take..];
                if cut.then == Then::Rotate {
                    files.push(Vec::new());
                }
            }
            prop_assert_eq!(files.concat(), output);
            for file in files {
                prop_assert!(matches!(file.last(), None | Some(b'\n')), "split line");
                let last = file.split_inclusive(|b| *b == b'\n').next_back().map_or(0, <[u8]>::len);
                prop_assert!((file.len() - last) as u64 <= limit, "too large");
            }
        }
    }
}

//! The positions of one more reader of the segments, in a file of its own.
//!
//! Why: segments are deleted once they are in the journal. Whoever else reads them says here how
//! far they are, so that nothing is deleted under their eyes.
//! Invariants: the file is whole or not there (written beside, synced, renamed); what it says is
//! never ahead of what its owner has safely taken.

use super::{Position, Positions, SegmentError};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// A cursor names a handful of sources; a longer file is none.
const CURSOR_BYTES_MAX: u64 = 64 * 1024;

/// Reads a cursor; `None` if there is no such file.
pub fn load_cursor(path: &Path) -> Result<Option<Positions>, SegmentError> {
    let fail = |source| SegmentError::io("read the cursor", path)(source);
    let length = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
        Ok(metadata) => metadata.len(),
    };
    if CURSOR_BYTES_MAX < length {
        return Err(fail(io::Error::new(ErrorKind::InvalidData, "it is too long for a cursor")));
    }
    let text = fs::read_to_string(path).map_err(fail)?;
    text.lines()
        .map(parse_line)
        .collect::<Option<Positions>>()
        .map(Some)
        .ok_or_else(|| fail(io::Error::new(ErrorKind::InvalidData, "it is no cursor")))
}

/// Writes a cursor so that it survives a power cut.
pub fn save_cursor(path: &Path, positions: &Positions) -> Result<(), SegmentError> {
    let fresh = path.with_extension("new");
    let mut lines = String::new();
    for (source, at) in positions {
        lines.push_str(&format_line(source, *at));
    }
    let write = || {
        let mut file = File::create(&fresh)?;
        file.write_all(lines.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().map_err(SegmentError::io("write the cursor", path))
}

fn format_line(source: &str, at: Position) -> String {
    format!("{source} {} {}\n", at.segment, at.offset)
}

fn parse_line(line: &str) -> Option<(String, Position)> {
    let mut words = line.split(' ');
    let source = words.next().filter(|source| super::check_source(source).is_ok())?;
    let (segment, offset) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then(|| (source.to_owned(), Position { segment, offset }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_damage_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        assert_eq!(load_cursor(&path).unwrap(), None);
        let positions = Positions::from([
            ("root".into(), Position { segment: 3, offset: 4096 }),
            ("console".into(), Position { segment: 1, offset: 0 }),
        ]);
        save_cursor(&path, &positions).unwrap();
        assert_eq!(load_cursor(&path).unwrap(), Some(positions));
        for damage in ["root", "root x 1\n", "../root 1 1\n", "root 1 2 3\n"] {
            fs::write(&path, damage).unwrap();
            assert!(load_cursor(&path).is_err(), "{damage:?}");
        }
    }
}

//! Counts the lines that are written to a file, across its rotation (H6).
//!
//! ```text
//! access.log      the file now: read from where the last count ended
//! access.log.1    was it before: its writer may go on for a while, so it is read on as well
//! ```
//! A file that is copied and emptied instead is noticed by its length: lines that are written
//! between two counts can then be missed, as they are by whoever copies it.
//! Invariants: the count never falls; at most [`READ_BYTES_MAX`] are read for one count, the rest at
//! the next; only regular files are opened.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Read for one count: more than a busy server writes in a second.
const READ_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A rotated file is read on until nothing was written to it for so long.
const FORMER_KEPT: Duration = Duration::from_mins(1);

const BLOCK_BYTES: usize = 128 * 1024;

/// `O_NONBLOCK | O_NOCTTY`: nothing that is no file may hang us or become our terminal.
const OPEN_FLAGS: i32 = 0o4000 | 0o400;

/// The lines of one file.
#[derive(Debug)]
pub(in crate::watch) struct LineCounter {
    path: PathBuf,
    has_begun: bool,
    now: Option<Open>,
    former: Option<Open>,
    lines: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    identity: (u64, u64),
    offset: u64,
    grew: Instant,
}

impl LineCounter {
    /// Counts nothing yet; touches nothing.
    pub(in crate::watch) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), has_begun: false, now: None, former: None, lines: 0 }
    }

    /// Counts what is written from now on. The second time, it does nothing.
    pub(in crate::watch) fn begin(&mut self) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        self.now = Open::of(&self.path).ok();
        if let Some(open) = &mut self.now {
            open.offset = open.file.metadata().map_or(0, |found| found.size());
        }
    }

    /// How many there are by now, or why that can't be told.
    pub(in crate::watch) fn count(&mut self) -> Result<u64, String> {
        self.begin();
        let shown = self.path.display().to_string();
        let failed = |error: io::Error| format!("cannot count the lines of {shown}: {error}");
        let mut left = READ_BYTES_MAX;
        for open in [&mut self.former, &mut self.now].into_iter().flatten() {
            self.lines += open.read(&mut left).map_err(failed)?;
        }
        self.former.take_if(|former| FORMER_KEPT < former.grew.elapsed());
        let there = std::fs::metadata(&self.path).map_err(failed)?;
        let identity = (there.dev(), there.ino());
        if self.now.as_ref().is_none_or(|open| open.identity != identity) {
            let mut next = Open::of(&self.path).map_err(failed)?;
            self.lines += next.read(&mut left).map_err(failed)?;
            self.former = self.now.replace(next);
        }
        Ok(self.lines)
    }
}

impl Open {
    fn of(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).custom_flags(OPEN_FLAGS).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let identity = (found.dev(), found.ino());
        Ok(Self { file, identity, offset: 0, grew: Instant::now() })
    }

    /// The line ends since the last time.
    fn read(&mut self, left: &mut u64) -> io::Result<u64> {
        let length = self.file.metadata()?.size();
        if length < self.offset {
            // Copied away and emptied: what was written between the two is lost to everybody.
            self.offset = 0;
        }
        let mut block = vec![0; BLOCK_BYTES];
        let mut lines = 0;
        while 0 < *left && self.offset < length {
            let read = self.file.read_at(&mut block, self.offset)?;
            if read == 0 {
                break;
            }
            let new = block.get(..read).unwrap_or(&[]);
            lines += (new.split(|byte| *byte == b'\n').count() - 1) as u64;
            self.offset += read as u64;
            *left = left.saturating_sub(read as u64);
            self.grew = Instant::now();
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn h6_lines_are_counted_exactly_across_rotations() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        std::fs::write(&path, "before\nbefore\n").unwrap();
        let mut counter = LineCounter::new(&path);
        counter.begin();
        let append = || File::options().append(true).create(true).open(&path).unwrap();
        assert_eq!(counter.count(), Ok(0));
        let mut writer = append();
        writer.write_all(b"1\n2\nhalf").unwrap();
        assert_eq!(counter.count(), Ok(2));
        writer.write_all(b" of it\n").unwrap();
        // Renamed; the writer has not noticed yet, and goes on.
        std::fs::rename(&path, directory.path().join("access.log.1")).unwrap();
        let mut next = append();
        next.write_all(b"4\n").unwrap();
        assert_eq!(counter.count(), Ok(4));
        writer.write_all(b"5\n").unwrap();
        next.write_all(b"6\n").unwrap();
        assert_eq!(counter.count(), Ok(6));
        // Copied and emptied.
        next.set_len(0).unwrap();
        next.write_all(b"7\n").unwrap();
        assert_eq!(counter.count(), Ok(7));
    }

    #[test]
    fn h6_a_file_that_is_not_there_or_none_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut counter = LineCounter::new(&path);
        assert!(counter.count().unwrap_err().contains("No such file"));
        std::fs::write(&path, "1\n2\n").unwrap();
        assert_eq!(counter.count(), Ok(2), "all of it was written since");
        std::fs::remove_file(&path).unwrap();
        assert!(counter.count().is_err());
        let mut pipe = LineCounter::new(Path::new("/dev/zero"));
        assert!(pipe.count().unwrap_err().contains("no regular file"));
    }
}

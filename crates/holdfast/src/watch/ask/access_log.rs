//! Counts the lines that are written to a file, across its rotation and across our own end (H6).
//!
//! ```text
//! access.log      the file now: read from where the last count ended
//! access.log.1    was it before: its writer may go on for a while, so it is read on as well
//! counts/…        a mark: up to where which file was counted, for the next one of us
//! ```
//! A file that is copied and emptied instead is noticed by its length: lines that are written
//! between two counts can then be missed, as they are by whoever copies it.
//! Invariants: the count never falls; at most [`READ_BYTES_MAX`] are read for one count, the rest at
//! the next; only regular files are opened; a mark is replaced as a whole.

use journal::logfile::rotated_path;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Read for one count: more than a busy server writes in a second.
const READ_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A rotated file is read on until nothing was written to it for so long.
const FORMER_KEPT: Duration = Duration::from_mins(1);

/// Four numbers.
const MARK_BYTES_MAX: u64 = 256;

const BLOCK_BYTES: usize = 128 * 1024;

/// `O_NONBLOCK | O_NOCTTY`: nothing that is no file may hang us or become our terminal.
const OPEN_FLAGS: i32 = 0o4000 | 0o400;

/// The lines of one file.
#[derive(Debug)]
pub(in crate::watch) struct LineCounter {
    path: PathBuf,
    /// Where it is marked how far was counted.
    mark: PathBuf,
    has_begun: bool,
    is_over: bool,
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
    pub(in crate::watch) fn new(path: &Path, mark: PathBuf) -> Self {
        let path = path.to_owned();
        let (has_begun, is_over) = (false, false);
        Self { path, mark, has_begun, is_over, now: None, former: None, lines: 0 }
    }

    /// Counts what is written from now on, or goes on where the one before us was. The second
    /// time, it does nothing.
    pub(in crate::watch) fn begin(&mut self) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        match Mark::read(&self.mark) {
            Some(mark) => self.go_on(&mark),
            None => {
                self.now = Open::of(&self.path).ok();
                if let Some(open) = &mut self.now {
                    open.offset = open.file.metadata().map_or(0, |found| found.size());
                }
            }
        }
        self.keep_mark();
    }

    /// How many there are by now, or why that can't be told.
    pub(in crate::watch) fn count(&mut self) -> Result<u64, String> {
        self.begin();
        let before = self.lines;
        let counted = self.read();
        if before < self.lines {
            self.keep_mark();
        }
        let shown = self.path.display();
        counted.map_err(|error| format!("cannot count the lines of {shown}: {error}"))?;
        Ok(self.lines)
    }

    /// The run is over. A count that is still under way leaves no mark any more.
    pub(in crate::watch) fn forget(&mut self) {
        self.is_over = true;
        let _ = fs::remove_file(&self.mark);
    }

    fn read(&mut self) -> io::Result<()> {
        let mut left = READ_BYTES_MAX;
        for open in [&mut self.former, &mut self.now].into_iter().flatten() {
            self.lines += open.read(&mut left)?;
        }
        self.former.take_if(|former| FORMER_KEPT < former.grew.elapsed());
        let there = fs::metadata(&self.path)?;
        let identity = (there.dev(), there.ino());
        if self.now.as_ref().is_none_or(|open| open.identity != identity) {
            let mut next = Open::of(&self.path)?;
            self.lines += next.read(&mut left)?;
            self.former = self.now.replace(next);
        }
        Ok(())
    }

    fn go_on(&mut self, mark: &Mark) {
        self.lines = mark.lines;
        let at_mark = |path: &Path| {
            let open = Open::of(path).ok().filter(|open| open.identity == mark.identity)?;
            Some(Open { offset: mark.offset, ..open })
        };
        self.now = at_mark(&self.path);
        if self.now.is_none() {
            // Rotated meanwhile: the rest of the old one, and all of the new one.
            self.former = at_mark(&rotated_path(&self.path, 1));
            self.now = Open::of(&self.path).ok();
        }
    }

    /// A mark that can't be written costs the next one of us the count; the next count tries again.
    fn keep_mark(&self) {
        let Some(open) = self.now.as_ref().filter(|_| !self.is_over) else { return };
        let mark = Mark { identity: open.identity, offset: open.offset, lines: self.lines };
        if let Err(error) = mark.write(&self.mark) {
            tracing::debug!(%error, "how far was counted can't be marked");
        }
    }
}

/// Up to where a file was counted, and how many lines there were by then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mark {
    identity: (u64, u64),
    offset: u64,
    lines: u64,
}

impl Mark {
    fn read(path: &Path) -> Option<Self> {
        let text = sys::regular::read_to_string(path, MARK_BYTES_MAX).ok()?;
        let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        Some(Self { identity: (next()?, next()?), offset: next()?, lines: next()? })
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        if let Some(directory) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let (device, inode) = self.identity;
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        fs::write(&fresh, format!("{device} {inode} {} {}\n", self.offset, self.lines))?;
        fs::rename(fresh, path)
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
        let mark = directory.path().join("counts/web.1.0");
        let mut counter = LineCounter::new(&path, mark);
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
        let mut counter = LineCounter::new(&path, directory.path().join("mark"));
        assert!(counter.count().unwrap_err().contains("No such file"));
        std::fs::write(&path, "1\n2\n").unwrap();
        assert_eq!(counter.count(), Ok(2), "all of it was written since");
        std::fs::remove_file(&path).unwrap();
        assert!(counter.count().is_err());
        let mut pipe = LineCounter::new(Path::new("/dev/zero"), directory.path().join("m"));
        assert!(pipe.count().unwrap_err().contains("no regular file"));
    }

    #[test]
    fn h6_who_counts_may_die_and_the_count_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mark = directory.path().join("counts/web.1.0");
        let append = |lines: &str| {
            let mut file = File::options().append(true).create(true).open(&path).unwrap();
            file.write_all(lines.as_bytes()).unwrap();
        };
        append("before\n");
        let counter = || LineCounter::new(&path, mark.clone());
        let mut first = counter();
        first.begin();
        append("1\n2\n");
        assert_eq!(first.count(), Ok(2));
        drop(first);
        append("3\n");
        assert_eq!(counter().count(), Ok(3));
        // Rotated while nobody looks.
        append("4\n");
        fs::rename(&path, rotated_path(&path, 1)).unwrap();
        append("5\n6\n");
        assert_eq!(counter().count(), Ok(6));
        assert_eq!(counter().count(), Ok(6), "each line once");
        fs::write(&mark, "nonsense").unwrap();
        assert_eq!(counter().count(), Ok(0), "as if nobody had counted");
        let mut last = counter();
        assert_eq!(last.count(), Ok(0));
        last.forget();
        append("7\n");
        assert_eq!(last.count(), Ok(1));
        assert!(!mark.exists(), "its run is over");
    }
}

//! Names and renames of log files: `web.log`, `web.log.1`, `web.log.2.gz`, ….
//!
//! Invariants: number 1 is the newest; a file is only ever removed when it is beyond the number
//! kept, or when its compressed twin is complete. Dying between two renames leaves a gap in the
//! numbers, never a missing or a doubled file.

use super::rotation::{FileState, LineEnd};
use journal::logfile::{compressed_path, rotated_path};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// How far beyond the kept number we look for files that an earlier policy left.
const STALE_NUMBERS_MAX: u32 = 1_000;

/// Files of a directory that are looked at for unfinished compressions.
const LISTED_MAX: usize = 1_000_000;

/// A log file, open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) inode: u64,
    pub(super) device: u64,
    /// When its first byte was written, as far as that is known.
    pub(super) began: Instant,
    /// Its file system can take bytes directly from a pipe.
    pub(super) splices: bool,
}

impl Opened {
    fn new(file: File) -> io::Result<Self> {
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("it is no regular file; name another path"));
        }
        let born =
            meta.created().or_else(|_| meta.modified()).unwrap_or_else(|_| SystemTime::now());
        let age = SystemTime::now().duration_since(born).unwrap_or_default();
        let now = Instant::now();
        let began = now.checked_sub(age).unwrap_or(now);
        Ok(Self { file, inode: meta.ino(), device: meta.dev(), began, splices: true })
    }

    /// Size and line end, as they are now.
    pub(super) fn state(&self) -> io::Result<FileState> {
        let size = self.file.metadata()?.len();
        Ok(FileState { size, end: self.line_end(size)? })
    }

    pub(super) fn line_end(&self, size: u64) -> io::Result<LineEnd> {
        let Some(last) = size.checked_sub(1) else { return Ok(LineEnd::AtLineStart) };
        let mut byte = [0];
        let read = self.file.read_at(&mut byte, last)?;
        let within = read == 1 && byte[0] != b'\n';
        Ok(if within { LineEnd::WithinLine } else { LineEnd::AtLineStart })
    }
}

/// Opens the log file at `path`, new or as it is. A symbolic link is refused: whoever may write the
/// directory could point it at any file.
pub(super) fn open(path: &Path) -> io::Result<Opened> {
    open_with(path, OFlags::CREATE).map_err(|error| explain(path, error))
}

fn open_with(path: &Path, how: OFlags) -> io::Result<Opened> {
    // Not O_APPEND: the kernel refuses to splice into such a file. We are its only writer.
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | how;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    let opened = rustix::fs::open(path, flags, mode)?;
    Opened::new(File::from(opened))
}

fn explain(path: &Path, error: io::Error) -> io::Error {
    let parent = path.parent().unwrap_or(path);
    match rustix::io::Errno::from_io_error(&error) {
        Some(rustix::io::Errno::LOOP) => {
            io::Error::other("it is a symbolic link; name the file that it points to")
        }
        Some(rustix::io::Errno::NOENT) if !parent.exists() => {
            io::Error::other(format!("directory {} does not exist; make it", parent.display()))
        }
        _ => error,
    }
}

/// Moves every file one number up, drops what is beyond `keep`, and opens a new one. After an error
/// `path` is the same file as before.
pub(super) fn rotate(path: &Path, keep: u32) -> io::Result<Opened> {
    if keep == 0 {
        let opened = open_with(path, OFlags::empty())?;
        opened.file.set_len(0)?;
        return Ok(opened);
    }
    for number in (1..=keep).rev() {
        for name in [rotated_path, compressed_path] {
            let from = name(path, number);
            let moved = if number == keep {
                std::fs::remove_file(&from)
            } else {
                std::fs::rename(&from, name(path, number + 1))
            };
            ignore_missing(moved)?;
        }
    }
    let aside = rotated_path(path, 1);
    std::fs::rename(path, &aside)?;
    open_with(path, OFlags::CREATE | OFlags::EXCL).inspect_err(|_| {
        // Back, so that the open file keeps its name. If even that fails the next look at the path
        // finds out.
        let _ = std::fs::rename(&aside, path);
    })
}

/// Compressions that an earlier process did not finish, by directory. Each directory is listed once:
/// for each of thousands of logs in one it would take seconds.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    directories: BTreeMap<PathBuf, Vec<String>>,
}

impl Unfinished {
    /// Removes those of this log. Failures don't matter: it is only space.
    pub(super) fn remove(&mut self, log: &Path) {
        let (Some(dir), Some(name)) = (log.parent(), log.file_name()) else { return };
        if !self.directories.contains_key(dir) {
            self.directories.insert(dir.to_owned(), unfinished_in(dir));
        }
        let prefix = format!("{}.gz-", name.to_string_lossy());
        for file in self.directories.get(dir).into_iter().flatten() {
            if file.starts_with(&prefix) {
                let _ = std::fs::remove_file(dir.join(file));
            }
        }
    }
}

fn unfinished_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().take(LISTED_MAX).flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.contains(".gz-") && name.strip_suffix(".tmp").is_some()).collect()
}

/// Clears up after an earlier process or policy: files that are there both plain and compressed,
/// files beyond the kept number. Failures don't matter: it is only space.
pub(super) fn tidy(path: &Path, keep: u32) {
    for number in 1..=keep.min(STALE_NUMBERS_MAX) {
        if compressed_path(path, number).exists() {
            let _ = std::fs::remove_file(rotated_path(path, number));
        }
    }
    for number in keep.saturating_add(1)..=keep.saturating_add(STALE_NUMBERS_MAX) {
        let plain = std::fs::remove_file(rotated_path(path, number));
        let compressed = std::fs::remove_file(compressed_path(path, number));
        if plain.is_err() && compressed.is_err() {
            break;
        }
    }
}

/// The newest rotated file that is not compressed yet.
pub(super) fn newest_plain(path: &Path, keep: u32) -> Option<PathBuf> {
    (1..=keep).map(|number| rotated_path(path, number)).find(|plain| plain.exists())
}

/// Where a file is compressed to, before its number is known.
pub(super) fn unfinished_path(path: &Path, inode: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".gz-{inode}.tmp"));
    name.into()
}

/// Puts a finished compression in the place of its source, whose number may have changed while it
/// was made; if the source has been dropped meanwhile, so is this.
pub(super) fn adopt_compressed(
    path: &Path,
    keep: u32,
    inode: u64,
    finished: &Path,
) -> io::Result<()> {
    let place = (1..=keep).find(|number| {
        std::fs::metadata(rotated_path(path, *number)).is_ok_and(|meta| meta.ino() == inode)
    });
    let Some(number) = place else { return ignore_missing(std::fs::remove_file(finished)) };
    std::fs::rename(finished, compressed_path(path, number))?;
    std::fs::remove_file(rotated_path(path, number))
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unfinished_compressions_of_the_log_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["web.log.gz-7.tmp", "db.log.gz-8.tmp", "web.log", "web.log.2.gz", "web.tmp"];
        for name in names {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let left = || {
            let there = names.into_iter().filter(|name| dir.path().join(name).exists());
            there.collect::<Vec<_>>()
        };
        let mut unfinished = Unfinished::default();
        unfinished.remove(&dir.path().join("web.log"));
        assert_eq!(left(), ["db.log.gz-8.tmp", "web.log", "web.log.2.gz", "web.tmp"]);
        unfinished.remove(&dir.path().join("db.log"));
        assert_eq!(left(), ["web.log", "web.log.2.gz", "web.tmp"]);
        // Where there is no directory, there is nothing to do.
        unfinished.remove(Path::new("/no/such/directory/web.log"));
    }
}

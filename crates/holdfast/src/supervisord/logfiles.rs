//! Reading and emptying the services' log files, by bytes as supervisord does it.
//!
//! Why only the current file: that is what supervisord's offsets are about; rotated ones are shown by
//! `holdfast logs`.
//! Invariants: the paths come from the root, never from a client; one answer has at most
//! [`READ_BYTES_MAX`] bytes, whatever was asked for. All of it may block.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use supervisord::Reading;

/// Bytes of one answer.
pub(crate) const READ_BYTES_MAX: u64 = 1024 * 1024;

/// A piece of a log file; nothing of one that is not there yet.
pub(crate) fn read(path: &Path, reading: Reading) -> io::Result<String> {
    let Some((file, size)) = open(path)? else { return Ok(String::new()) };
    let (from, length) = match reading {
        Reading::Last(bytes) => {
            let bytes = bytes.min(READ_BYTES_MAX).min(size);
            (size - bytes, bytes)
        }
        Reading::From { offset, length } => {
            let rest = size.saturating_sub(offset);
            (offset, length.unwrap_or(u64::MAX).min(rest).min(READ_BYTES_MAX))
        }
    };
    read_at(&file, from, length)
}

/// The last bytes of a log file behind `offset`, the file's length, and whether there was more than
/// `length`.
pub(crate) fn tail(path: &Path, offset: u64, length: u64) -> io::Result<(String, u64, bool)> {
    let Some((file, size)) = open(path)? else { return Ok((String::new(), 0, false)) };
    let length = length.min(READ_BYTES_MAX);
    let overflow = offset.saturating_add(length) < size;
    let from = if overflow { size - length } else { offset.min(size) };
    Ok((read_at(&file, from, (size - from).min(length))?, size, overflow))
}

/// Empties a log file. The keeper of the logs goes on at its new beginning.
pub(crate) fn empty(path: &Path) -> io::Result<()> {
    match File::options().write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(file) if file.metadata()?.is_file() => file.set_len(0),
        Ok(_) => Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file")),
    }
}

fn open(path: &Path) -> io::Result<Option<(File, u64)>> {
    let there = match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        there => there?,
    };
    // A pipe or a device would be waited for.
    if !there.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok(Some((file, size)))
}

fn read_at(file: &File, from: u64, length: u64) -> io::Result<String> {
    let mut bytes = vec![0; length as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As supervisor 4.2.5 answers for a file of 335 bytes, and one of ten.
    #[test]
    fn offsets_and_overflow_are_supervisords() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert_eq!(tail(&path, 0, 5).unwrap(), (String::new(), 0, false));
        assert_eq!(read(&path, Reading::Last(5)).unwrap(), "");
        std::fs::write(&path, "tick\n".repeat(67)).unwrap();
        assert_eq!(tail(&path, 0, 50).unwrap(), ("tick\n".repeat(10), 335, true));
        assert_eq!(tail(&path, 1_000_000, 50).unwrap(), (String::new(), 335, false));
        assert_eq!(tail(&path, 5, 5).unwrap(), ("tick\n".into(), 335, true));
        assert_eq!(tail(&path, 330, 50).unwrap(), ("tick\n".into(), 335, false));
        let from = |offset, length| read(&path, Reading::From { offset, length }).unwrap();
        assert_eq!(from(0, Some(6)), "tick\nt");
        assert_eq!(from(333, None), "k\n");
        assert_eq!(from(1_000_000_000, Some(5)), "");
        assert_eq!(from(u64::MAX, Some(u64::MAX)), "");
        assert_eq!(read(&path, Reading::Last(7)).unwrap(), "k\ntick\n");
        assert_eq!(read(&path, Reading::Last(u64::MAX)).unwrap().len(), 335);
        empty(&path).unwrap();
        assert_eq!(tail(&path, 0, 5).unwrap(), (String::new(), 0, false));
    }

    #[test]
    fn one_answer_is_bounded_and_strange_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        File::create(&path).unwrap().set_len(3 * READ_BYTES_MAX).unwrap();
        let all = read(&path, Reading::From { offset: 0, length: None }).unwrap();
        assert_eq!(all.len() as u64, READ_BYTES_MAX);
        assert!(read(dir.path(), Reading::Last(1)).is_err());
        assert!(empty(dir.path()).is_err());
        assert!(empty(&dir.path().join("nothing")).is_ok());
    }
}

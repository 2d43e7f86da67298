//! Reading small files that others write: a named pipe must not hang us, and an endless file must
//! not fill our memory.
//!
//! Why: a pid file lies where the service may write, so a service without privileges can put there
//! whatever it likes, also a link to /dev/zero.
//! Source: open(2) `O_NONBLOCK`, fifo(7).

use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The whole text of a regular file of at most `bytes_max` bytes. Any other kind of file is refused
/// without waiting for it. Blocks no longer than its disk does.
pub fn read_to_string(path: &Path, bytes_max: u64) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut text = String::new();
    // One more than allowed: the length that the file claims need not be what can be read.
    file.take(bytes_max.saturating_add(1)).read_to_string(&mut text)?;
    if bytes_max < text.len() as u64 {
        let why = format!("it has more than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_regular_files_are_read_and_nothing_hangs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        std::fs::write(&path, "42\n").unwrap();
        assert_eq!(read_to_string(&path, 3).unwrap(), "42\n");
        assert!(read_to_string(&path, 2).unwrap_err().to_string().contains("more than 2 bytes"));
        let pipe = directory.path().join("pipe");
        crate::fifo::ensure(&pipe).unwrap();
        for endless in [pipe.as_path(), Path::new("/dev/zero"), directory.path()] {
            let why = read_to_string(endless, 100).unwrap_err().to_string();
            assert!(why.contains("no regular file"), "{why}");
        }
    }
}

//! Named pipes through which services write their output.
//!
//! Why: a pipe that has a name survives both its reader and its writer, so output is kept while
//! holdfast itself is replaced or killed. The service's end is open for reading, too, so that it
//! never gets SIGPIPE while nobody reads.
//! Source: fifo(7), fcntl(2) `F_SETPIPE_SZ`.

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::io::Errno;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// What a service may write while nobody reads, before it has to wait. The most that a process
/// without privileges may ask for by default (/proc/sys/fs/pipe-max-size).
pub const PIPE_BYTES: usize = 1024 * 1024;

/// Makes a named pipe with mode 0600, or takes the one that is there. Refuses any other file.
pub fn ensure(path: &Path) -> io::Result<()> {
    match mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => {
            let found = std::fs::symlink_metadata(path)?;
            if !found.file_type().is_fifo() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!("{} is there and is no named pipe; remove it", path.display()),
                ));
            }
            if found.permissions().mode() & 0o777 != 0o600 {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// The end that a service writes to: blocking, and never without a reader.
pub fn open_for_service(path: &Path) -> io::Result<OwnedFd> {
    open_fifo(path, OFlags::RDWR)
}

/// The end that is read: never blocks.
pub fn open_for_reading(path: &Path) -> io::Result<OwnedFd> {
    open_fifo(path, OFlags::RDONLY | OFlags::NONBLOCK)
}

/// The end that is written to for a service to read: never blocks, and needs somebody who has the
/// pipe open for reading.
pub fn open_for_writing(path: &Path) -> io::Result<OwnedFd> {
    open_fifo(path, OFlags::WRONLY | OFlags::NONBLOCK)
}

/// Asks for [`PIPE_BYTES`] of room, takes half as often as it must; gives what there is now.
pub fn enlarge(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut wanted = PIPE_BYTES;
    let has = rustix::pipe::fcntl_getpipe_size(fd)?;
    while has < wanted {
        match rustix::pipe::fcntl_setpipe_size(fd, wanted) {
            Ok(size) => return Ok(size),
            Err(Errno::PERM) => wanted /= 2,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(has)
}

fn open_fifo(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let fd = open(path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
    let found = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Fifo {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is no named pipe; remove it", path.display()),
        ));
    }
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    #[test]
    fn output_waits_in_the_pipe_while_nobody_reads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web:1.out");
        ensure(&path).unwrap();
        ensure(&path).unwrap();
        let mut service = File::from(open_for_service(&path).unwrap());
        assert!(PIPE_BYTES <= enlarge(std::os::fd::AsFd::as_fd(&service)).unwrap());
        // A reader comes, goes, and comes again: the writer notices nothing and no byte is lost.
        drop(open_for_reading(&path).unwrap());
        service.write_all(b"kept\n").unwrap();
        let mut reader = File::from(open_for_reading(&path).unwrap());
        let mut seen = [0; 16];
        assert_eq!(reader.read(&mut seen).unwrap(), 5);
        let empty = reader.read(&mut seen).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn another_kind_of_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        std::fs::write(&path, "precious").unwrap();
        assert!(ensure(&path).unwrap_err().to_string().contains("no named pipe; remove it"));
        assert!(open_for_service(&path).is_err());
        assert!(open_for_reading(&path).is_err());
        assert!(open_for_writing(&path).is_err());
    }
}

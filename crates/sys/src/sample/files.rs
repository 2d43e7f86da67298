//! Reading small files of /proc into a buffer that is used again.

use rustix::fs::{AtFlags, Mode, OFlags, open, openat, statat};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A hold on the directory of a process in /proc. The process may end; another one that gets its
/// number is never taken for it.
pub(super) fn open_process(pid: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(format!("/proc/{pid}"), flags, Mode::empty())?)
}

/// Opens a file below a directory for reading.
pub(super) fn open_below(directory: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    Ok(openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The beginning of a file below a directory, as far as the buffer goes.
pub(super) fn read_below<'b>(
    directory: BorrowedFd<'_>,
    name: &str,
    buffer: &'b mut [u8],
) -> io::Result<&'b [u8]> {
    let file = open_below(directory, name)?;
    read_again(file.as_fd(), buffer)
}

/// The beginning of an open file, made anew by the kernel.
pub(super) fn read_again<'b>(file: BorrowedFd<'_>, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let length = rustix::io::pread(file, &mut *buffer, 0)?;
    Ok(buffer.get(..length).unwrap_or(&[]))
}

/// The inode number that a link below a directory leads to.
pub(super) fn inode_below(directory: BorrowedFd<'_>, name: &str) -> io::Result<u64> {
    Ok(statat(directory, name, AtFlags::empty())?.st_ino)
}

/// The number in a text, with blanks around it.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// The number behind `key` at the beginning of a line, as in `VmSwap:     12 kB`.
pub(super) fn keyed(text: &[u8], key: &str) -> Option<u64> {
    let lines = text.split(|byte| *byte == b'\n');
    let line = lines.into_iter().find_map(|line| line.strip_prefix(key.as_bytes()))?;
    let digits = line.split(|byte| !byte.is_ascii_digit()).find(|digits| !digits.is_empty())?;
    number(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_behind_their_key_at_the_beginning_of_a_line() {
        let text = b"Pss_Anon:  9 kB\nPss:          44873 kB\nSwapPss:  3 kB\n";
        assert_eq!(keyed(text, "Pss:"), Some(44_873));
        assert_eq!(keyed(text, "Swap:"), None);
        assert_eq!(keyed(b"cpu \n", "cpu "), None);
        assert_eq!(number(b" 12\n"), Some(12));
    }

    #[test]
    fn a_process_that_is_gone_is_an_error_and_its_number_no_way_to_another_one() {
        assert!(open_process(u32::MAX).is_err());
        let own = open_process(std::process::id()).unwrap();
        let mut buffer = [0; 2048];
        assert!(read_below(own.as_fd(), "stat", &mut buffer).unwrap().contains(&b')'));
        assert!(read_below(own.as_fd(), "no-such-file", &mut buffer).is_err());
    }
}

//! A group that is asked again and again, with its files kept open: the kernel need not look up the
//! same long path, open and close for every few bytes.
//!
//! Invariant: a group that was removed answers with an error, and never for a later one of the
//! same name.
//! Source: the kernel's Documentation/admin-guide/cgroup-v2.rst; seq_read(9).

use super::Group;
use super::group::members_below;
use rustix::fs::{AtFlags, Mode, OFlags, open, openat, statat};
use rustix::io::{Errno, pread};
use std::io;
use std::os::fd::OwnedFd;

/// A read that gives less than this gives everything: the kernel fills a page before it returns.
const SHORT_BYTES: usize = 2048;

/// Longest list of members that is read. A group with more has gone mad.
const LIST_BYTES_MAX: usize = 4 << 20;

/// A group of version 2 whose files are open.
#[derive(Debug)]
pub struct OpenGroup {
    directory: OwnedFd,
    procs: OwnedFd,
    events: OwnedFd,
}

impl Group {
    /// `None`: it can't be opened, or it is tracked by version 1, which answers a file that is kept
    /// open with the list that it made at an earlier read.
    pub fn open(&self) -> Option<OpenGroup> {
        if !self.tracks_by_v2() {
            return None;
        }
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let directory = open(self.path(), flags, Mode::empty()).ok()?;
        let file =
            |name| openat(&directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
        let (procs, events) = (file("cgroup.procs")?, file("cgroup.events")?);
        Some(OpenGroup { directory, procs, events })
    }
}

impl OpenGroup {
    /// How many descriptors it holds.
    pub const DESCRIPTORS: usize = 3;

    /// As [`Group::members`] of the group that was opened.
    pub fn members(&self, group: &Group, buffer: &mut [u8]) -> io::Result<Vec<u32>> {
        let mut members = Vec::new();
        read_pids(|bytes, from| pread(&self.procs, bytes, from), buffer, &mut members)?;
        // A directory has two links and one more for each directory in it.
        if statat(&self.directory, "", AtFlags::EMPTY_PATH)?.st_nlink != 2 {
            members_below(group.path(), &mut members);
        }
        Ok(members)
    }

    /// As [`Group::is_frozen`] of the group that was opened.
    pub fn is_frozen(&self, group: &Group, buffer: &mut [u8]) -> bool {
        let length = pread(&self.events, &mut *buffer, 0).unwrap_or(0);
        let text = buffer.get(..length).unwrap_or(&[]);
        let tracked = text.split(|byte| *byte == b'\n').any(|line| line == b"frozen 1");
        tracked || group.is_frozen_elsewhere()
    }
}

/// Reads numbers, one a line, in as many pieces as they come.
fn read_pids(
    mut read: impl FnMut(&mut [u8], u64) -> Result<usize, Errno>,
    buffer: &mut [u8],
    pids: &mut Vec<u32>,
) -> io::Result<()> {
    let (mut from, mut number) = (0, None);
    loop {
        let length = read(buffer, from as u64)?;
        for byte in buffer.get(..length).unwrap_or(&[]) {
            match byte {
                b'0'..=b'9' => {
                    let digit = u32::from(byte - b'0');
                    let before: u32 = number.unwrap_or(0);
                    number = Some(before.saturating_mul(10).saturating_add(digit));
                }
                _ => pids.extend(number.take()),
            }
        }
        from += length;
        if length < SHORT_BYTES.min(buffer.len()) || LIST_BYTES_MAX <= from {
            pids.extend(number);
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pids_in(text: &str, piece: usize) -> Vec<u32> {
        let (mut buffer, mut pids) = ([0; 4096], Vec::new());
        let read = |bytes: &mut [u8], from: u64| {
            let rest = &text.as_bytes()[usize::try_from(from).unwrap()..];
            let length = rest.len().min(piece).min(bytes.len());
            bytes[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        };
        read_pids(read, &mut buffer, &mut pids).unwrap();
        pids
    }

    #[test]
    fn h4_a_list_is_whole_however_it_is_cut_into_pieces() {
        assert_eq!(pids_in("", 4096), []);
        assert_eq!(pids_in("7\n42\n", 4096), [7, 42]);
        let many: Vec<u32> = (1..5_000).collect();
        let text = many.iter().map(u32::to_string).collect::<Vec<_>>().join("\n") + "\n";
        for piece in [4096, 4093, 2048] {
            assert_eq!(pids_in(&text, piece), many, "pieces of {piece}");
        }
        assert_eq!(pids_in("99999999999\n", 4096), [u32::MAX]);
    }
}

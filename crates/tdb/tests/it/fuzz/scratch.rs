//! A file without a name, in memory: thousands of them a second, and none is left behind.

use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// What a file may grow to by a few changes: each may make room for a hundred records of its size. More
/// is a list that leads nowhere.
const BYTES_MAX: u64 = 256 << 20;

pub(crate) struct Scratch(File);

impl Scratch {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let file = File::from(memfd_create("tdb", MemfdFlags::CLOEXEC).unwrap());
        file.write_all_at(bytes, 0).unwrap();
        Self(file)
    }

    /// Opens anew each time, so each opener has locks of its own.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size() as usize];
        self.0.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// Puts back what stood at this place of the first bytes.
    pub(crate) fn put(&self, offset: u64, bytes: &[u8]) {
        self.0.write_all_at(bytes, offset).unwrap();
    }

    pub(crate) fn size(&self) -> u64 {
        let size = self.0.metadata().unwrap().len();
        assert!(size < BYTES_MAX, "the file has grown to {size} bytes");
        size
    }
}

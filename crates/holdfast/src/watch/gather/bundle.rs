//! Writes one evidence bundle: a directory that appears under its name when it is done.
//!
//! Invariants: directories have mode 0700 and files 0600; the index is there from the beginning,
//! with room for its final text, so that a full disk can't take it away; what can't be written is
//! said in it, and costs nothing else.

use control::{EvidenceFile, EvidenceIndex, EvidenceMissing};
use journal::evidence::{BundleId, Evidence, INDEX};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;

/// Room that is taken on the disk for the index before anything else.
const INDEX_ROOM: usize = 64 * 1024;

/// A bundle that is being written.
pub(super) struct Bundle {
    directory: PathBuf,
    last: PathBuf,
    index_file: File,
    pub(super) index: EvidenceIndex,
}

impl Bundle {
    /// Begins one.
    pub(super) fn begin(
        evidence: &Evidence,
        id: &BundleId,
        index: EvidenceIndex,
    ) -> io::Result<Self> {
        let directory = evidence.partial(id);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let index_file = create(&directory.join(INDEX)).inspect_err(|_| {
            // Without an index it is no bundle.
            let _ = std::fs::remove_dir_all(&directory);
        })?;
        let mut bundle = Self { directory, last: evidence.directory(id), index_file, index };
        if let Err(error) = bundle.write_index(INDEX_ROOM) {
            let _ = std::fs::remove_dir_all(&bundle.directory);
            return Err(error);
        }
        Ok(bundle)
    }

    /// The path of a file of it, for those who write it themselves.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Adds a file. An empty one is not worth a file.
    pub(super) fn add(&mut self, name: &str, about: &str, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let path = self.path(name);
        let written = create(&path).and_then(|mut file| file.write_all(bytes));
        match written {
            Ok(()) => self.note(name, about, bytes.len() as u64),
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                self.miss(name, &format!("it can't be written: {error}"), help_for(&error));
            }
        }
    }

    /// Notes a file that is there.
    pub(super) fn note(&mut self, name: &str, about: &str, bytes: u64) {
        let file = EvidenceFile { name: name.to_owned(), bytes, about: about.to_owned() };
        self.index.files.push(file);
    }

    /// Notes what is not there, or not all of it.
    pub(super) fn miss(&mut self, name: &str, why: &str, help: &str) {
        let missing =
            EvidenceMissing { name: name.to_owned(), why: why.to_owned(), help: help.to_owned() };
        if !self.index.missing.contains(&missing) {
            self.index.missing.push(missing);
        }
    }

    /// Gives it its name.
    pub(super) fn finish(mut self) -> io::Result<EvidenceIndex> {
        self.index.complete = self.index.missing.is_empty();
        // What was written of it at the beginning is still true, if less.
        let written = self.write_index(0);
        if let Some(parent) = self.last.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        std::fs::rename(&self.directory, &self.last)?;
        written?;
        Ok(self.index)
    }

    /// Overwrites the index in place; blanks behind it take the room that it may need later.
    fn write_index(&mut self, room: usize) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(&self.index)?;
        text.push(b'\n');
        let length = text.len() as u64;
        text.resize(text.len().max(room), b' ');
        self.index_file.write_all_at(&text, 0)?;
        if room == 0 {
            self.index_file.set_len(length)?;
        }
        Ok(())
    }
}

fn create(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn help_for(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on the disk of the state directory"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn h15_a_bundle_appears_whole_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let evidence = Evidence::of_state(directory.path());
        let id = BundleId::new("web:1", "20261124T102233.123Z-17").unwrap();
        let index = EvidenceIndex { cause: "it hung".into(), ..EvidenceIndex::default() };
        let mut bundle = Bundle::begin(&evidence, &id, index).unwrap();
        assert_eq!(evidence.list(None).unwrap(), []);
        // Whoever dies now leaves this behind.
        let text = std::fs::read(bundle.path(INDEX)).unwrap();
        assert_eq!(text.len(), INDEX_ROOM);
        let early: EvidenceIndex = serde_json::from_slice(&text).unwrap();
        assert_eq!((early.cause.as_str(), early.complete), ("it hung", false));

        bundle.add("threads.txt", "its threads", b"1 2 3");
        bundle.add("empty.txt", "nothing", b"");
        std::fs::create_dir(bundle.path("maps.txt")).unwrap();
        bundle.add("maps.txt", "its maps", b"x");
        bundle.miss("core", "not wanted", "");
        bundle.miss("core", "not wanted", "");
        let index = bundle.finish().unwrap();
        assert_eq!(index.files.len(), 1);
        assert_eq!(index.missing.len(), 2, "{:?}", index.missing);
        assert_eq!(evidence.index(&id).unwrap(), index);
        let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let place = evidence.directory(&id);
        assert_eq!((mode(place.clone()), mode(place.join("threads.txt"))), (0o700, 0o600));
        assert_eq!(mode(place.join(INDEX)), 0o600);
        let second = Bundle::begin(&evidence, &id, EvidenceIndex::default()).unwrap();
        assert!(second.finish().is_err(), "an id is used once");
    }
}

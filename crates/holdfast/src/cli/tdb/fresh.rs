//! A file that is written beside the place it is meant for, and gets there whole or not at all.
//!
//! Invariants: nobody but its owner may read it until it is whole; a file that fails is removed; what
//! stands in the place is replaced in one step, or stays; when it is in its place, it is on disk.
//! Source: rename(2), renameat2(2), fsync(2) of the Linux manual pages.

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use tdb::{Create, Database, Error, Options};

/// What happens to a file that is in the place already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Existing {
    /// It stays, and the new one fails.
    Stays,
    /// It is replaced.
    IsReplaced,
}

/// A new file.
#[derive(Debug)]
pub(super) struct Fresh {
    file: File,
    path: PathBuf,
    place: PathBuf,
    is_placed: bool,
}

impl Fresh {
    /// Makes an empty file beside the place it is meant for.
    pub(super) fn beside(place: &Path) -> io::Result<Self> {
        let name = place.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let mut name = name.to_os_string();
        name.push(format!(".{}.tmp", std::process::id()));
        let path = place.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { file, path, place: place.to_path_buf(), is_placed: false })
    }

    /// Makes an empty database of it. Nobody else knows of the file, so nothing is locked, and it
    /// reaches the disk once, at the end.
    pub(super) fn database(&self, options: &Options) -> Result<Database, Error> {
        options.clone().create(Create::Missing).unlocked().unsynced().open(&self.path)
    }

    /// Opens it as somebody who looks for it would.
    pub(super) fn read_again(&self) -> Result<Database, Error> {
        Database::open_read_only(&self.path)
    }

    /// Gives it the owner and the permissions of another file; where the owner can't be the same, it
    /// stays for ours alone.
    pub(super) fn resemble(&self, other: &Metadata) -> io::Result<()> {
        if fchown(&self.file, Some(other.uid()), Some(other.gid())).is_err() {
            return Ok(());
        }
        self.file.set_permissions(Permissions::from_mode(other.mode() & 0o777))
    }

    /// Puts it in its place.
    pub(super) fn put(mut self, existing: Existing) -> io::Result<()> {
        self.file.sync_all()?;
        match existing {
            Existing::IsReplaced => fs::rename(&self.path, &self.place)?,
            Existing::Stays => {
                match renameat_with(CWD, &self.path, CWD, &self.place, RenameFlags::NOREPLACE) {
                    // Not every file system can: a second name does not replace anything either.
                    Err(Errno::INVAL | Errno::NOSYS) => {
                        fs::hard_link(&self.path, &self.place)?;
                        fs::remove_file(&self.path)?;
                    }
                    other => other?,
                }
            }
        }
        self.is_placed = true;
        sync_folder(folder(&self.place))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.is_placed {
            // What can't be removed either has a name that tells what it is.
            let _left = fs::remove_file(&self.path);
        }
    }
}

/// The folder that a file is in.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes sure that the names in a folder are on disk.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_given_up_leaves_nothing_and_what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("new.tdb");
        let fresh = Fresh::beside(&place).unwrap();
        assert_eq!(names(folder.path()), [format!("new.tdb.{}.tmp", std::process::id())]);
        drop(fresh);
        assert!(names(folder.path()).is_empty());

        fs::write(&place, "old").unwrap();
        let why = Fresh::beside(&place).unwrap().put(Existing::Stays).unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&place).unwrap(), b"old");
        Fresh::beside(&place).unwrap().put(Existing::IsReplaced).unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"");
        assert_eq!(names(folder.path()), ["new.tdb"]);
        assert_eq!(fs::metadata(&place).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_others_may_read_is_theirs_only_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (place, like) = (folder.path().join("new"), folder.path().join("like"));
        fs::write(&like, "").unwrap();
        fs::set_permissions(&like, Permissions::from_mode(0o4640)).unwrap();
        let fresh = Fresh::beside(&place).unwrap();
        fresh.resemble(&fs::metadata(&like).unwrap()).unwrap();
        fresh.put(Existing::Stays).unwrap();
        assert_eq!(fs::metadata(&place).unwrap().mode() & 0o7777, 0o640);
    }
}

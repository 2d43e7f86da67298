//! The sign that a file is in use: one lock for all handles of this process.
//!
//! Why not one for each handle: the kernel keeps the locks of a file in one list, and goes through it
//! for every lock that anybody takes or gives back, one after the other. With a sign for each of 64
//! threads all of them get half as much done.
//! Invariants: as long as a handle that shows the sign is open, this process holds it; it is taken
//! before the right to open is given back, so that nobody finds the file without it; who made it
//! may close the file before the others do: the sign keeps the open file, and nothing else of it.
//! Source: the TDB specification, sections 6.2 and 7; fcntl(2), "Open file description locks".

use crate::error::Fault;
use crate::locks::{Kind, Locks, Wait, byte};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What is locked, shared, by who has the file open and shows it.
pub(crate) const IN_USE: (u64, u64) = (byte::ACTIVE, 1);

/// The process, and the device and number of the file. A forked process has the memory of its parent,
/// but perhaps not its open files.
type Of = (u32, u64, u64);

/// All signs of this process.
static SIGNS: Mutex<BTreeMap<Of, Weak<Sign>>> = Mutex::new(BTreeMap::new());

/// The sign, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Sign {
    of: Of,
    /// The open file that holds it. It is given back when the last of these goes, and with it the lock.
    _file: Arc<File>,
}

impl Sign {
    /// Shows that a file is in use. `locks` are those of this open file, which may have the same bytes
    /// for themselves alone until now; the caller has the right to open.
    pub(crate) fn show(file: &Arc<File>, locks: &Locks) -> Result<Arc<Self>, Fault> {
        let source = |source| Fault::Io { action: "look at the file", offset: 0, source };
        let metadata = file.metadata().map_err(source)?;
        let of = (std::process::id(), metadata.dev(), metadata.ino());
        if let Some(sign) = signs().get(&of).and_then(Weak::upgrade) {
            return Ok(sign);
        }
        // Nobody else of this process can be doing the same: he would have the right to open.
        let what = "the sign that the file is in use";
        locks.take(IN_USE, Kind::Shared, &locks.patience(Wait::Yes), what)?;
        let sign = Arc::new(Self { of, _file: Arc::clone(file) });
        signs().insert(of, Arc::downgrade(&sign));
        Ok(sign)
    }
}

fn signs() -> MutexGuard<'static, BTreeMap<Of, Weak<Sign>>> {
    SIGNS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Sign {
    fn drop(&mut self) {
        let mut signs = signs();
        // Another may have taken its place meanwhile.
        if signs.get(&self.of).is_some_and(|sign| sign.strong_count() == 0) {
            signs.remove(&self.of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::range;
    use crate::os::testing::wait_for;
    use crate::{Create, Options};

    #[test]
    fn the_sign_stays_until_the_last_handle_goes_and_is_one_lock_for_all() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let options = Options::new().create(Create::Missing);
        let mut first = options.open(file.path()).unwrap();
        let metadata = file.as_file().metadata().unwrap();
        let (dev, ino) = (metadata.dev(), metadata.ino());
        let of_file = format!(":{ino} ");
        let held = || std::fs::read_to_string("/proc/locks").unwrap().matches(&of_file).count();
        let held_by_one = held();
        assert_ne!(held_by_one, 0);
        let others: Vec<_> = (0..8).map(|_| options.open(file.path()).unwrap()).collect();
        assert_eq!(held(), held_by_one);
        // Somebody of another process.
        let stranger = file.reopen().unwrap();
        let is_unused = || range::probe(&stranger, Kind::Exclusive, IN_USE.0, IN_USE.1).unwrap();
        let rest = |from| range::probe(&stranger, Kind::Exclusive, from, 0).unwrap();
        // A guard that nobody will drop.
        std::mem::forget(first.lock(b"key").unwrap());
        assert!(!is_unused() && !rest(5));
        drop(first);
        assert!(!is_unused() && rest(5), "the sign has stayed, and nothing else");
        drop(others);
        // A process that another test starts has copies of all open files, until it executes its program.
        wait_for("nobody has it", is_unused);
        assert!(!signs().contains_key(&(std::process::id(), dev, ino)), "no memory is kept for it");
        drop(options.open(file.path()).unwrap());
    }

    #[test]
    fn who_closes_an_idle_handle_gives_up_nothing_that_a_forked_process_holds() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let options = Options::new().create(Create::Missing);
        let (idle, other) =
            (options.open(file.path()).unwrap(), options.open(file.path()).unwrap());
        // What the forked one locks is not in this one's books, but locked through the same open file.
        assert!(idle.engine.locks.try_take((200, 1), Kind::Exclusive).unwrap());
        let stranger = file.reopen().unwrap();
        let is_locked = || !range::probe(&stranger, Kind::Exclusive, 200, 1).unwrap();
        drop(idle);
        assert!(is_locked());
        drop(other);
        wait_for("the last one has gone", || !is_locked());
    }

    #[test]
    fn who_empties_a_file_as_the_first_does_so_only_if_nobody_of_this_process_has_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let options = Options::new().create(Create::Missing).clear_if_first(true);
        let mut first = options.open(file.path()).unwrap();
        first.store(b"key", b"value", crate::Store::Replace).unwrap();
        let second = options.open(file.path()).unwrap();
        drop(first);
        let third = options.open(file.path()).unwrap();
        assert!(second.exists(b"key").unwrap() && third.exists(b"key").unwrap());
        drop((second, third));
        let stranger = file.reopen().unwrap();
        wait_for("nobody has it", || {
            range::probe(&stranger, Kind::Exclusive, IN_USE.0, IN_USE.1).unwrap()
        });
        assert!(!options.open(file.path()).unwrap().exists(b"key").unwrap());
    }
}

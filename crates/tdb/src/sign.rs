//! The sign that a file is in use: one lock for all handles of this process.
//!
//! Why not one for each handle: the kernel keeps the locks of a file in one list, and goes through it
//! for every lock that anybody takes or gives back, one after the other. With a sign for each of 64
//! threads all of them get half as much done.
//! Why through an open file of its own, where that can be had: a handle that has nothing locked but a
//! list gives back everything there is, for which the kernel needs no memory: a seventh of the time.
//! Invariants: as long as a handle that shows the sign is open, this process holds it; it is taken
//! before the right to open is given back, so that nobody finds the file without it; who made it
//! may close the file before the others do: the sign keeps its open file, and nothing else of it.
//! Source: the TDB specification, sections 6.2 and 7; fcntl(2), "Open file description locks".

use crate::error::Fault;
use crate::locks::{Kind, Locks, Wait, byte};
use crate::os::range;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
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
    _file: Holder,
}

/// Through which open file the lock is held.
#[derive(Debug)]
enum Holder {
    Own {
        _file: File,
    },
    /// That of the first handle: the file can't be opened once more.
    Shared {
        _file: Arc<File>,
    },
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
        let own = open_again(file).filter(|own| {
            own.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (of.1, of.2))
                && range::try_lock(own, Kind::Shared, IN_USE.0, IN_USE.1).unwrap_or(false)
        });
        let holder = match own {
            Some(own) => {
                locks.give_up(IN_USE);
                Holder::Own { _file: own }
            }
            None => Holder::Shared { _file: Arc::clone(file) },
        };
        let sign = Arc::new(Self { of, _file: holder });
        signs().insert(of, Arc::downgrade(&sign));
        Ok(sign)
    }
}

/// The same file, wherever it is by now, as an open file of its own. `None` where the kernel's list of
/// open files is not to be had, or the file may not be opened a second time.
fn open_again(file: &File) -> Option<File> {
    #[cfg(test)]
    if testing::without_proc() {
        return None;
    }
    let path = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
    // What stands there may be no file of ours, where threads do not share their descriptors: nothing
    // that would have to be waited for is opened.
    File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).ok()
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
mod testing {
    use std::cell::Cell;

    thread_local! {
        static WITHOUT_PROC: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn without_proc() -> bool {
        WITHOUT_PROC.get()
    }

    /// Does something as on a machine on which no file can be opened a second time.
    pub(super) fn as_without_proc<T>(act: impl FnOnce() -> T) -> T {
        WITHOUT_PROC.set(true);
        let done = act();
        WITHOUT_PROC.set(false);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::wait_for;
    use crate::{Create, Options};

    #[test]
    fn the_sign_stays_until_the_last_handle_goes_and_is_one_lock_for_all() {
        sign_for_all();
        testing::as_without_proc(sign_for_all);
    }

    fn sign_for_all() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let options = Options::new().create(Create::Missing);
        let mut first = options.open(file.path()).unwrap();
        let metadata = file.as_file().metadata().unwrap();
        let (dev, ino) = (metadata.dev(), metadata.ino());
        let of_file = format!(":{ino} ");
        let held = || std::fs::read_to_string("/proc/locks").unwrap().matches(&of_file).count();
        // The kernel tells its locks page by page, so one that moves meanwhile may be left out.
        wait_for("one lock", || held() == 1);
        let others: Vec<_> = (0..8).map(|_| options.open(file.path()).unwrap()).collect();
        wait_for("no more than one lock", || held() == 1);
        // Somebody of another process.
        let stranger = file.reopen().unwrap();
        let is_unused = || range::probe(&stranger, Kind::Exclusive, IN_USE.0, IN_USE.1).unwrap();
        let rest = |from| range::probe(&stranger, Kind::Exclusive, from, 0).unwrap();
        first.store(b"key", b"value", crate::Store::Replace).unwrap();
        assert!(!is_unused() && rest(5), "what was locked for the change has gone, and no more");
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
        let forked = idle.engine.locks.file();
        assert!(idle.engine.locks.try_take((200, 1), Kind::Exclusive).unwrap());
        let stranger = file.reopen().unwrap();
        let is_locked = || !range::probe(&stranger, Kind::Exclusive, 200, 1).unwrap();
        drop(idle);
        assert!(is_locked());
        drop((other, forked));
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

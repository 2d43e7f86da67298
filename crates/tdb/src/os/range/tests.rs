//! Locks of open files against each other, and against the classic ones that libtdb takes.
//!
//! Source: the TDB specification, section 21.

use super::*;
use crate::os::testing::{Peer, has_python};
use std::path::Path;

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

#[test]
fn two_that_opened_the_file_keep_each_other_out() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let (one, two) = (open(path.path()), open(path.path()));
    assert!(try_lock(&one, Kind::Exclusive, 8, 1).unwrap());
    for kind in [Kind::Shared, Kind::Exclusive] {
        assert!(!try_lock(&two, kind, 8, 1).unwrap());
        assert!(!probe(&two, kind, 8, 1).unwrap());
        assert!(!probe(&two, kind, 0, 0).unwrap());
        assert!(probe(&one, kind, 8, 1).unwrap(), "one's own is in nobody's way");
    }
    // The bytes beside it are free, and to have asked has taken nothing.
    assert!(try_lock(&two, Kind::Exclusive, 7, 1).unwrap());
    assert!(try_lock(&two, Kind::Exclusive, 9, 0).unwrap());
    assert!(!probe(&one, Kind::Shared, u64::from(u32::MAX), 1).unwrap(), "0 is to the end");
    unlock(&two, 0, 0).unwrap();
    assert!(probe(&one, Kind::Exclusive, 0, 0).unwrap());

    unlock(&one, 8, 1).unwrap();
    assert!(try_lock(&two, Kind::Exclusive, 8, 1).unwrap());
}

#[test]
fn shared_ones_are_shared_and_change_their_kind_in_place() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let (one, two) = (open(path.path()), open(path.path()));
    assert!(try_lock(&one, Kind::Shared, 168, 100).unwrap());
    assert!(try_lock(&two, Kind::Shared, 168, 100).unwrap());
    assert!(!try_lock(&one, Kind::Exclusive, 168, 100).unwrap());
    assert!(!probe(&one, Kind::Exclusive, 200, 1).unwrap());
    unlock(&two, 168, 100).unwrap();
    assert!(try_lock(&one, Kind::Exclusive, 168, 100).unwrap());
    assert!(!try_lock(&two, Kind::Shared, 168, 1).unwrap());
    // Back to shared, and a hole in the middle.
    assert!(try_lock(&one, Kind::Shared, 168, 100).unwrap());
    unlock(&one, 180, 1).unwrap();
    assert!(try_lock(&two, Kind::Shared, 168, 100).unwrap());
    assert!(try_lock(&two, Kind::Exclusive, 180, 1).unwrap());
}

#[test]
fn copies_of_a_descriptor_share_their_locks_and_the_last_one_drops_them() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let (one, two) = (open(path.path()), open(path.path()));
    let copy = one.try_clone().unwrap();
    assert!(try_lock(&one, Kind::Exclusive, 4, 1).unwrap());
    assert!(try_lock(&copy, Kind::Exclusive, 4, 1).unwrap());
    drop(one);
    assert!(!try_lock(&two, Kind::Shared, 4, 1).unwrap());
    // Somebody else who closes the file takes nothing away, as it would a classic lock.
    drop(open(path.path()));
    assert!(!try_lock(&two, Kind::Shared, 4, 1).unwrap());
    drop(copy);
    assert!(try_lock(&two, Kind::Exclusive, 4, 1).unwrap());
}

#[test]
fn what_cannot_be_locked_is_said() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let file = open(path.path());
    let beyond = u64::MAX - 1;
    let error = try_lock(&file, Kind::Shared, beyond, 1).unwrap_err();
    assert!(error.to_string().contains("0xfffffffffffffffe"), "{error}");
    assert!(unlock(&file, 0, beyond).is_err());
    assert!(probe(&file, Kind::Shared, i64::MAX.unsigned_abs(), 2).is_err());
    let reader = File::open(path.path()).unwrap();
    assert!(try_lock(&reader, Kind::Shared, 0, 1).unwrap());
    let error = try_lock(&reader, Kind::Exclusive, 0, 1).unwrap_err();
    assert!(error.to_string().contains("open for writing"), "{error}");
}

/// One byte with a classic lock, as libtdb takes it.
const CLASSIC: &str = r"
import fcntl, sys
file = open(sys.argv[1], 'r+b')
kinds = {'shared': fcntl.LOCK_SH, 'exclusive': fcntl.LOCK_EX, 'unlock': fcntl.LOCK_UN}
for line in sys.stdin:
    kind, offset = line.split()
    try:
        fcntl.lockf(file, kinds[kind] | (fcntl.LOCK_NB if kind != 'unlock' else 0), 1, int(offset))
        print('done')
    except OSError as error:
        print('busy' if error.errno in (11, 13) else error)
";

#[test]
fn classic_locks_of_another_process_stand_against_ours_and_ours_against_them() {
    if !has_python() {
        return;
    }
    let path = tempfile::NamedTempFile::new().unwrap();
    let file = open(path.path());
    let mut peer = Peer::start(CLASSIC, &[path.path()]);
    assert_eq!(peer.ask("exclusive 8"), "done");
    assert!(!try_lock(&file, Kind::Shared, 8, 1).unwrap());
    assert!(!try_lock(&file, Kind::Exclusive, 0, 0).unwrap());
    assert!(!probe(&file, Kind::Exclusive, 8, 1).unwrap());
    assert!(try_lock(&file, Kind::Exclusive, 9, 1).unwrap());
    assert_eq!(peer.ask("shared 9"), "busy");
    assert_eq!(peer.ask("unlock 8"), "done");
    assert!(try_lock(&file, Kind::Shared, 8, 1).unwrap());
    assert_eq!(peer.ask("exclusive 8"), "busy");
    assert_eq!(peer.ask("shared 8"), "done");
    assert!(!try_lock(&file, Kind::Exclusive, 8, 1).unwrap());
    unlock(&file, 8, 1).unwrap();
    assert_eq!(peer.ask("exclusive 8"), "done");
    // A dead one holds nothing.
    peer.kill();
    assert!(try_lock(&file, Kind::Exclusive, 0, 0).unwrap());
}

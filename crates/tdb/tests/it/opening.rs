//! What opening may overwrite and what not, and whom it waits for.
//!
//! Source: the TDB specification, sections 6.2, 6.3, 15.9, 22.4 and 22.9.

use crate::peer::{Libtdb, Open, flag};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tdb::{Create, Fault, Options, Store};

/// Says to a process of its own where to make a file on a disk that is too small.
const SMALL_DISK: &str = "HOLDFAST_TDB_SMALL_DISK";

fn how(flags: u32) -> Open {
    Open { hash_size: 5, flags, read_only: false }
}

#[test]
fn what_is_no_tdb_file_is_not_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter");
    for bytes in [vec![b'x'; 5000], vec![0; 5000], b"TDB".to_vec()] {
        std::fs::write(&path, &bytes).unwrap();
        for create in [Create::Never, Create::Missing] {
            let options = Options::new().create(create).clear_if_first(true);
            let error = options.open(&path).unwrap_err();
            assert!(matches!(error.fault(), Fault::NotTdb { .. }), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }
    // But one that was one is, whatever it says further on.
    std::fs::write(&path, [b"TDB file\n\0".as_slice(), &[7; 500]].concat()).unwrap();
    let mut emptied = Options::new().clear_if_first(true).open(&path).unwrap();
    emptied.store(b"key", b"value", Store::Insert).unwrap();
    assert!(emptied.check().unwrap().is_clean());
}

/// A damaged number of chains makes it look like a file that was left too short.
#[test]
fn a_damaged_header_costs_no_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tdb");
    for mutexes in [false, true] {
        let _ = std::fs::remove_file(&path);
        let options = Options::new().create(Create::Missing);
        let options = if mutexes { options.mutexes() } else { options };
        options.open(&path).unwrap().store(b"key", &[7; 9000], Store::Insert).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for chains in [0x2000_0000_u32, 400_000, 1000] {
            bytes[36..40].copy_from_slice(&chains.to_le_bytes());
            std::fs::write(&path, &bytes).unwrap();
            // With few more, what are heads and what are records can't be told; nothing is lost.
            let _opened = options.open(&path);
            let after = std::fs::read(&path).unwrap();
            assert_eq!(after.len(), bytes.len(), "{chains} {mutexes}");
            let place = |bytes: &[u8]| bytes.windows(9000).position(|nine| nine == [7; 9000]);
            assert_eq!(place(&after), place(&bytes), "{chains} {mutexes}");
        }
    }
}

#[test]
fn a_file_whose_maker_was_killed_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tdb");
    for mutexes in [false, true] {
        let _ = std::fs::remove_file(&path);
        let options = Options::new().create(Create::Missing).hash_size(1000);
        let options = if mutexes { options.mutexes() } else { options };
        drop(options.open(&path).unwrap());
        let whole = std::fs::read(&path).unwrap();
        let base = whole.len() - (168 + 4 * 1001);
        for length in [168, 172, base, base + 100, base + 168, base + 2000, whole.len() - 1] {
            let length = length.max(168);
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = Options::new().open(&path).unwrap_err();
            assert!(matches!(error.fault(), Fault::NotTdb { .. }), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), whole[..length]);
            let mut again = options.open(&path).unwrap();
            again.store(b"key", b"value", Store::Insert).unwrap();
            assert!(again.check().unwrap().is_clean());
            drop(again);
            // A part of a file that was more than that is not.
            if base + 168 < length {
                let mut part = whole[..length].to_vec();
                part[length - 1] = 1;
                std::fs::write(&path, &part).unwrap();
                options.open(&path).unwrap_err();
                assert_eq!(std::fs::read(&path).unwrap(), part);
            }
        }
    }
}

/// Not a test by itself: makes a file where there is no room for it.
#[test]
fn small_disk() {
    let Ok(folder) = std::env::var(SMALL_DISK) else { return };
    for (name, mutexes) in [("a.tdb", true), ("b.tdb", false)] {
        let path = Path::new(&folder).join(name);
        let options = Options::new().create(Create::Missing).hash_size(10_000);
        let options = if mutexes { options.mutexes() } else { options };
        let error = options.open(&path).unwrap_err();
        let Fault::Io { source, .. } = error.fault() else { panic!("{error}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{source}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0, "nothing is kept");
        // There is room for a smaller one.
        drop(options.hash_size(10).open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn who_finds_no_room_for_a_new_file_is_told_and_lives() {
    let folder = tempfile::tempdir().unwrap();
    let may_mount = Command::new("unshare").args(["--mount", "true"]).output();
    if !may_mount.is_ok_and(|tried| tried.status.success()) {
        eprintln!("skipped: a mount namespace of one's own is not allowed here");
        return;
    }
    let mut command = Command::new("unshare");
    let mount = "mount -t tmpfs -o size=16k tmpfs \"$0\" && exec \"$@\"";
    command.args(["--mount", "sh", "-c", mount]).arg(folder.path());
    command.arg(std::env::current_exe().unwrap()).args(["opening::small_disk", "--exact"]);
    let ended = command.env(SMALL_DISK, folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success() && said.contains("1 passed"), "{ended:?}");
}

/// Section 22.4: of those of libtdb that were not asked to empty the file, only the first shows that it
/// has it open.
#[test]
fn mutexes_that_others_hold_are_not_made_anew_when_the_first_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tdb");
    let Some(first) = Libtdb::open(&path, how(flag::MUTEXES)) else { return };
    let mut second = Libtdb::open(&path, how(flag::MUTEXES)).unwrap();
    second.at("chain_lock", b"key").unwrap();
    first.kill();
    let mut ours = Options::new().open(&path).unwrap();
    assert!(ours.try_lock(b"key").unwrap().is_none());
    second.at("chain_unlock", b"key").unwrap();
    assert!(ours.try_lock(b"key").unwrap().is_some());
}

/// As they are found after the machine was started anew: locked, and nobody was told.
#[test]
fn mutexes_of_those_who_are_long_gone_are_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tdb");
    let options = Options::new().create(Create::Missing).mutexes().hash_size(1);
    drop(options.open(&path).unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    let chain = 216 + 40;
    bytes[chain..chain + 4].copy_from_slice(&1_u32.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let mut ours = options.wait(Duration::ZERO).open(&path).unwrap();
    ours.store(b"key", b"value", Store::Insert).unwrap();
}

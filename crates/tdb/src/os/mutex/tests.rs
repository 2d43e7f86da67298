//! Mutexes in files: against threads, dead threads, libtdb's processes, dead processes, and files
//! that say anything at all.

use super::*;
use crate::os::testing::{Peer, has_libtdb, soon, wait_for};
use proptest::prelude::*;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const PAGE: u64 = 4096;
const HASH_SIZE: u32 = 7;

/// An area that was just made, in a file.
fn area() -> (File, Arc<MutexArea>) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(area_bytes(HASH_SIZE, page_size())).unwrap();
    let area = MutexArea::map(&file, HASH_SIZE).unwrap();
    area.initialise().unwrap();
    (file, Arc::new(area))
}

fn number_at(file: &File, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, offset).unwrap();
    u32::from_ne_bytes(bytes)
}

fn set_number(file: &File, offset: u64, number: u32) {
    file.write_all_at(&number.to_ne_bytes(), offset).unwrap();
}

/// What another thread is told.
fn elsewhere(area: &Arc<MutexArea>, which: Which, wait: Wait) -> Locked {
    let area = Arc::clone(area);
    let ask = move || {
        let locked = area.lock(which, wait).unwrap();
        if locked != Locked::Busy {
            area.unlock(which).unwrap();
        }
        locked
    };
    std::thread::spawn(ask).join().unwrap()
}

#[test]
fn areas_are_as_large_as_those_of_libtdb() {
    let known = [(7, 4096), (131, 8192), (1000, 40_960), (10_000, 401_408), (100_001, 4_001_792)];
    for (hash_size, bytes) in known {
        assert_eq!(area_bytes(hash_size, PAGE), bytes, "{hash_size} chains");
    }
    assert_eq!((ALL_AT, STATE_AT, FREE_AT), (168, 208, 216));
    assert_eq!(Which::Chain(0).offset(), 256);
    // 40 × 2³² bytes and a page: nothing wraps.
    assert_eq!(area_bytes(u32::MAX, PAGE), 40 * (1 << 32) + PAGE);
}

#[test]
fn a_new_area_is_byte_for_byte_as_libtdb_makes_it() {
    let (file, _area) = area();
    let mut bytes = vec![0; area_bytes(HASH_SIZE, page_size()) as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let mut expected = vec![0; bytes.len()];
    for which in [Which::AllRecord, Which::Free].into_iter().chain((0..7).map(Which::Chain)) {
        expected[(which.offset() + KIND_AT) as usize] = 0x92;
    }
    expected[STATE_AT as usize] = 2;
    assert!(bytes == expected);
}

#[test]
fn a_locked_mutex_is_busy_for_others_and_an_error_for_its_holder() {
    let (_file, area) = area();
    let chain = Which::Chain(3);
    assert_eq!(area.lock(chain, Wait::No).unwrap(), Locked::Yes);
    assert_eq!(elsewhere(&area, chain, Wait::No), Locked::Busy);
    let deadline = Instant::now() + Duration::from_millis(5);
    assert_eq!(elsewhere(&area, chain, Wait::Until(deadline)), Locked::Busy);
    assert!(deadline <= Instant::now());
    assert_eq!(elsewhere(&area, Which::Chain(4), Wait::No), Locked::Yes);
    for wait in [Wait::No, soon()] {
        let error = area.lock(chain, wait).unwrap_err().to_string();
        assert!(error.contains("mutex of chain 3 is held by this very thread"), "{error}");
    }
    let other = Arc::clone(&area);
    let error = std::thread::spawn(move || other.unlock(chain).unwrap_err()).join().unwrap();
    assert!(error.to_string().contains("is not held by this thread"), "{error}");
    area.unlock(chain).unwrap();
    assert_eq!(elsewhere(&area, chain, Wait::No), Locked::Yes);
    assert!(area.unlock(chain).is_err());
    assert!(area.lock(Which::Chain(7), Wait::No).is_err(), "there is no such chain");
}

#[test]
fn who_waits_gets_it_when_it_is_given_back() {
    let (file, area) = area();
    assert_eq!(area.lock(Which::Free, Wait::No).unwrap(), Locked::Yes);
    let other = Arc::clone(&area);
    let waiter = std::thread::spawn(move || {
        let locked = other.lock(Which::Free, soon()).unwrap();
        other.unlock(Which::Free).unwrap();
        locked
    });
    // The C library notes that somebody waits.
    wait_for("a waiter", || number_at(&file, FREE_AT) & 0x8000_0000 != 0);
    area.unlock(Which::Free).unwrap();
    assert_eq!(waiter.join().unwrap(), Locked::Yes);
}

#[test]
fn a_thread_that_ends_with_a_mutex_is_found_dead_and_the_mutex_goes_on() {
    let (_file, area) = area();
    let other = Arc::clone(&area);
    let holder = move || {
        assert_eq!(other.lock(Which::AllRecord, Wait::No).unwrap(), Locked::Yes);
        other.set_state(State::Exclusive);
    };
    std::thread::spawn(holder).join().unwrap();
    assert_eq!(area.lock(Which::AllRecord, soon()).unwrap(), Locked::OwnerDied);
    // What it said is still there: that is the next one's to take back.
    assert_eq!(area.state(), State::Exclusive);
    area.set_state(State::Unlocked);
    area.unlock(Which::AllRecord).unwrap();
    assert_eq!(elsewhere(&area, Which::AllRecord, Wait::No), Locked::Yes);
}

#[test]
fn an_area_of_which_a_mutex_could_not_be_given_back_stays_mapped() {
    let (_file, area) = area();
    assert_eq!(area.lock(Which::Free, Wait::No).unwrap(), Locked::Yes);
    let address = area.place(Which::Free).unwrap().addr();
    let other = Arc::clone(&area);
    // It belongs to this thread, whose list still leads there.
    std::thread::spawn(move || other.unlock(Which::Free).unwrap_err()).join().unwrap();
    drop(area);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps.lines().any(|line| {
        let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-')).unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        (number(range.0)..number(range.1)).contains(&address)
    });
    assert!(mapped, "{address:#x} in\n{maps}");
}

#[test]
fn mutexes_are_made_anew() {
    let (_file, area) = area();
    area.set_state(State::Shared);
    area.initialise().unwrap();
    assert_eq!(area.state(), State::Unlocked);
}

#[test]
fn a_file_that_is_too_short_or_may_not_be_written_is_refused() {
    let path = tempfile::NamedTempFile::new().unwrap();
    path.as_file().set_len(4095).unwrap();
    let error = MutexArea::map(path.as_file(), HASH_SIZE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
    path.as_file().set_len(4096).unwrap();
    MutexArea::map(path.as_file(), HASH_SIZE).unwrap();
    assert!(MutexArea::map(path.as_file(), u32::MAX).is_err());
    assert!(MutexArea::map(&File::open(path.path()).unwrap(), HASH_SIZE).is_err());
}

#[test]
fn words_that_no_sound_file_has_are_refused_or_busy() {
    let (file, area) = area();
    let at = Which::Chain(2).offset();
    // Of another kind: one that inherits priorities, one that ends the process, one of garbage.
    for kind in [0, 0x20, 0x40, 0xFFFF_FFFF, 0x92 | 0x100] {
        set_number(&file, at + KIND_AT, kind);
        let error = area.lock(Which::Chain(2), Wait::No).unwrap_err();
        assert!(error.to_string().contains(&format!("is {kind:#x}, expected 0x92")), "{error}");
        assert!(area.unlock(Which::Chain(2)).is_err());
    }
    set_number(&file, at + KIND_AT, KIND);
    // Held by a thread that there is not, with and without others that wait.
    for word in [0x3FFF_FFFE, 0xBFFF_FFFE, 1] {
        set_number(&file, at, word);
        assert_eq!(area.lock(Which::Chain(2), Wait::No).unwrap(), Locked::Busy);
        let deadline = Wait::Until(Instant::now() + Duration::from_millis(2));
        assert_eq!(area.lock(Which::Chain(2), deadline).unwrap(), Locked::Busy);
    }
    // Held by us, as the file says.
    let me = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
    set_number(&file, at, me);
    assert!(area.lock(Which::Chain(2), soon()).unwrap_err().to_string().contains("very thread"));
    // Given up for ever: the C library notes that in place of the holder.
    set_number(&file, at, 0);
    set_number(&file, at + 8, 0x7FFF_FFFE);
    let error = area.lock(Which::Chain(2), soon()).unwrap_err();
    assert!(error.to_string().contains("close the file everywhere"), "{error}");
    // The others are as they were, and a number that means nothing keeps everybody out.
    assert_eq!(elsewhere(&area, Which::Chain(1), Wait::No), Locked::Yes);
    file.write_all_at(&0x7777_u16.to_ne_bytes(), STATE_AT).unwrap();
    assert_eq!(area.state(), State::Exclusive);
    for state in [State::Shared, State::Exclusive, State::Unlocked] {
        area.set_state(state);
        assert_eq!(area.state(), state);
    }
}

proptest! {
    /// But for its kind, a mutex may hold anything.
    #[test]
    fn a_mutex_of_any_content_is_ours_busy_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 40),
        word in prop_oneof![Just(0_u32), Just(0x4000_0000), Just(0xC000_0001), any::<u32>()],
        owner in prop_oneof![Just(0_u32), Just(0x7FFF_FFFF), Just(0x7FFF_FFFE), any::<u32>()],
    ) {
        let (file, area) = area();
        file.write_all_at(&bytes, FREE_AT).unwrap();
        set_number(&file, FREE_AT, word);
        set_number(&file, FREE_AT + 8, owner);
        set_number(&file, FREE_AT + KIND_AT, KIND);
        if area.lock(Which::Free, Wait::No).is_ok_and(|locked| locked != Locked::Busy) {
            area.unlock(Which::Free).unwrap();
            prop_assert_eq!(elsewhere(&area, Which::Free, Wait::No), Locked::Yes);
        }
    }
}

/// A libtdb process with a mutex file of seven chains: 4096 = mutexes, 1 = cleared by the first.
const LIBTDB: &str = r"
import os, sys, tdb
db = tdb.open(sys.argv[1], 7, 4096 | 1, os.O_RDWR | os.O_CREAT, 0o600)
print('open')
for line in sys.stdin:
    word = line.strip()
    if word == 'lock':
        db.lock_all()
    elif word == 'unlock':
        db.unlock_all()
    else:
        db.store(word.encode(), b'value')
    print('done')
";

#[test]
fn libtdb_keeps_us_out_and_is_found_dead_when_it_was_killed() {
    if !has_libtdb() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mutex.tdb");
    let mut peer = Peer::start(LIBTDB, &[&path]);
    assert_eq!(peer.hear(), "open");
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let area = MutexArea::map(&file, 7).unwrap();
    assert_eq!(area.state(), State::Unlocked);
    assert_eq!(peer.ask("lock"), "done");
    assert_eq!(area.state(), State::Exclusive);
    assert_eq!(area.lock(Which::AllRecord, Wait::No).unwrap(), Locked::Busy);
    assert_eq!(peer.ask("unlock"), "done");
    assert_eq!(area.lock(Which::AllRecord, Wait::No).unwrap(), Locked::Yes);
    area.unlock(Which::AllRecord).unwrap();

    assert_eq!(peer.ask("lock"), "done");
    peer.kill();
    assert_eq!(area.lock(Which::AllRecord, soon()).unwrap(), Locked::OwnerDied);
    assert_eq!(area.state(), State::Exclusive);
    area.set_state(State::Unlocked);
    area.unlock(Which::AllRecord).unwrap();
    for which in [Which::Free, Which::Chain(0), Which::Chain(6)] {
        assert_eq!(area.lock(which, Wait::No).unwrap(), Locked::Yes);
        area.unlock(which).unwrap();
    }
}

#[test]
fn libtdb_waits_for_us_and_finds_a_thread_of_ours_dead() {
    if !has_libtdb() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mutex.tdb");
    let mut peer = Peer::start(LIBTDB, &[&path]);
    assert_eq!(peer.hear(), "open");
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let area = Arc::new(MutexArea::map(&file, 7).unwrap());
    // It stores a new key, for which it needs the free list.
    assert_eq!(area.lock(Which::Free, Wait::No).unwrap(), Locked::Yes);
    peer.say("first");
    wait_for("a waiter", || number_at(&file, FREE_AT) & 0x8000_0000 != 0);
    area.unlock(Which::Free).unwrap();
    assert_eq!(peer.hear(), "done");

    let other = Arc::clone(&area);
    let holder = move || assert_eq!(other.lock(Which::Free, Wait::No).unwrap(), Locked::Yes);
    std::thread::spawn(holder).join().unwrap();
    assert_eq!(peer.ask("second"), "done");
    assert_eq!(area.lock(Which::Free, soon()).unwrap(), Locked::Yes);
    area.unlock(Which::Free).unwrap();
}

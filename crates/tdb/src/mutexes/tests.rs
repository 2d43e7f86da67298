//! The protocol: step by step against mutexes that are written down, and against real ones in a file
//! with threads and processes of libtdb.

use super::*;
use crate::os::mutex::area_bytes;
use crate::os::page::page_size;
use crate::os::range;
use crate::os::testing::{Peer, has_libtdb, soon, wait_for};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// Mutexes of two chains that write down what is done to them.
#[derive(Debug)]
struct Script {
    steps: RefCell<Vec<String>>,
    state: Cell<State>,
    /// What the next locks of a mutex are answered; ours if nothing stands here.
    answers: RefCell<BTreeMap<Which, Vec<Locked>>>,
}

impl Script {
    fn new(state: State) -> Self {
        Self { steps: RefCell::default(), state: Cell::new(state), answers: RefCell::default() }
    }

    fn answer(self, which: Which, locked: &[Locked]) -> Self {
        let answers = locked.iter().rev().copied().collect();
        self.answers.borrow_mut().insert(which, answers);
        self
    }

    fn step(&self, step: String) {
        self.steps.borrow_mut().push(step);
    }

    /// What was done since the last time this was asked.
    fn take(&self) -> String {
        self.steps.take().join(" ")
    }
}

fn name(which: Which) -> String {
    match which {
        Which::AllRecord => "all".to_owned(),
        Which::Free => "free".to_owned(),
        Which::Chain(chain) => chain.to_string(),
    }
}

impl Primitives for &Script {
    fn lock(&self, which: Which, _: Wait) -> io::Result<Locked> {
        let locked = self.answers.borrow_mut().get_mut(&which).and_then(Vec::pop);
        let locked = locked.unwrap_or(Locked::Yes);
        self.step(match locked {
            Locked::Yes => format!("+{}", name(which)),
            Locked::OwnerDied => format!("†{}", name(which)),
            Locked::Busy => format!("?{}", name(which)),
        });
        Ok(locked)
    }

    fn unlock(&self, which: Which) -> io::Result<()> {
        self.step(format!("-{}", name(which)));
        Ok(())
    }

    fn state(&self) -> State {
        self.state.get()
    }

    fn set_state(&self, state: State) {
        self.state.set(state);
        self.step(format!("{state:?}"));
    }

    fn hash_size(&self) -> u32 {
        2
    }
}

const DEAD: &[Locked] = &[Locked::OwnerDied];
const BUSY: &[Locked] = &[Locked::Busy];

#[test]
fn a_chain_is_had_while_nobody_has_all_or_shared_beside_shared() {
    let cases = [
        (State::Unlocked, Kind::Shared, "+1"),
        (State::Unlocked, Kind::Exclusive, "+1"),
        (State::Shared, Kind::Shared, "+1"),
        // What is said when nobody holds the mutex of all was said by a dead one.
        (State::Shared, Kind::Exclusive, "+1 -1 +all Unlocked -all +1"),
        (State::Exclusive, Kind::Shared, "+1 -1 +all Unlocked -all +1"),
        (State::Exclusive, Kind::Exclusive, "+1 -1 +all Unlocked -all +1"),
    ];
    for (state, kind, steps) in cases {
        let script = Script::new(state);
        let mut mutexes = Mutexes::new(&script);
        let locked = mutexes.chain_lock(kind, 1, &mut Wait::No).unwrap();
        assert_eq!(script.take(), steps, "{state:?} {kind:?}");
        let died = steps.contains("Unlocked");
        assert_eq!(locked, if died { Locked::OwnerDied } else { Locked::Yes });
        mutexes.chain_unlock(1).unwrap();
        assert_eq!(script.take(), "-1");
        assert!(mutexes.chain_unlock(1).is_err());
    }
}

#[test]
fn a_chain_waits_where_the_holder_of_all_is_waited_for() {
    let script = Script::new(State::Exclusive).answer(Which::AllRecord, BUSY);
    let mut mutexes = Mutexes::new(&script);
    assert_eq!(mutexes.chain_lock(Kind::Shared, 0, &mut Wait::No).unwrap(), Locked::Busy);
    assert_eq!(script.take(), "+0 -0 ?all");
    // Of a dead holder the word is taken back.
    let script = Script::new(State::Exclusive).answer(Which::AllRecord, DEAD);
    let mut mutexes = Mutexes::new(&script);
    assert_eq!(mutexes.chain_lock(Kind::Shared, 0, &mut Wait::No).unwrap(), Locked::OwnerDied);
    assert_eq!(script.take(), "+0 -0 †all Unlocked -all +0");
    let script = Script::new(State::Unlocked).answer(Which::Chain(0), DEAD);
    let mut mutexes = Mutexes::new(&script);
    assert_eq!(mutexes.chain_lock(Kind::Shared, 0, &mut Wait::No).unwrap(), Locked::OwnerDied);
}

#[test]
fn a_second_chain_and_the_free_list_ask_nobody() {
    let script = Script::new(State::Unlocked);
    let mut mutexes = Mutexes::new(&script);
    assert_eq!(mutexes.chain_lock(Kind::Exclusive, 0, &mut Wait::No).unwrap(), Locked::Yes);
    // Somebody wants all now, and waits for the chain that we have.
    script.state.set(State::Exclusive);
    assert_eq!(mutexes.chain_lock(Kind::Exclusive, 1, &mut Wait::No).unwrap(), Locked::Yes);
    assert_eq!(mutexes.free_lock(&mut Wait::No).unwrap(), Locked::Yes);
    assert_eq!(script.take(), "+0 +1 +free");
    assert!(mutexes.free_lock(&mut Wait::No).is_err());
    assert!(mutexes.chain_lock(Kind::Shared, 1, &mut Wait::No).is_err(), "it has that one");
    let rest = |_| Ok(true);
    assert!(mutexes.all_lock(Kind::Shared, &mut Wait::No, rest).is_err(), "it has a chain");
    mutexes.free_unlock().unwrap();
    assert!(mutexes.free_unlock().is_err());
    assert_eq!(script.take(), "-free");
    drop(mutexes);
    assert_eq!(script.take(), "-0 -1");
}

#[test]
fn all_records_are_had_when_every_chain_was_passed_through_and_the_rest_is_ours() {
    let script = Script::new(State::Unlocked);
    let mut mutexes = Mutexes::new(&script);
    let mut rest = |kind| {
        script.step(format!("rest {kind:?}"));
        Ok(true)
    };
    assert_eq!(mutexes.all_lock(Kind::Shared, &mut Wait::No, &mut rest).unwrap(), Locked::Yes);
    assert_eq!(script.take(), "+all Shared +0 -0 +1 -1 rest Shared");
    assert!(mutexes.all_lock(Kind::Shared, &mut Wait::No, &mut rest).is_err());
    assert!(mutexes.chain_lock(Kind::Shared, 0, &mut Wait::No).is_err());
    assert_eq!(mutexes.all_upgrade(&mut Wait::No, &mut rest).unwrap(), Locked::Yes);
    assert_eq!(script.take(), "rest Exclusive Exclusive +0 -0 +1 -1");
    assert_eq!(mutexes.all_upgrade(&mut Wait::No, &mut rest).unwrap(), Locked::Yes);
    assert_eq!(script.take(), "", "there is nothing more to have");
    let release = || {
        script.step("no rest".to_owned());
        Ok(())
    };
    mutexes.all_unlock(release).unwrap();
    assert_eq!(script.take(), "Unlocked -all no rest");
    assert!(mutexes.all_unlock(|| Ok(())).is_err());
    assert!(mutexes.all_upgrade(&mut Wait::No, |_| Ok(true)).is_err());

    assert_eq!(
        mutexes.all_lock(Kind::Exclusive, &mut Wait::No, |_| Ok(true)).unwrap(),
        Locked::Yes
    );
    script.take();
    drop(mutexes);
    assert_eq!(script.take(), "Unlocked -all");
}

#[test]
fn whoever_cannot_have_all_has_nothing_and_lets_others_go_on() {
    // A chain is held; then the rest is; then it can't be asked for.
    let script = Script::new(State::Unlocked).answer(Which::Chain(1), BUSY);
    let mut mutexes = Mutexes::new(&script);
    let locked = mutexes.all_lock(Kind::Exclusive, &mut Wait::No, |_| Ok(true)).unwrap();
    assert_eq!(locked, Locked::Busy);
    assert_eq!(script.take(), "+all Exclusive +0 -0 ?1 Unlocked -all");
    let locked = mutexes.all_lock(Kind::Exclusive, &mut Wait::No, |_| Ok(false)).unwrap();
    assert_eq!(locked, Locked::Busy);
    assert_eq!(script.take(), "+all Exclusive +0 -0 +1 -1 Unlocked -all");
    let failing = |_| Err(io::Error::from_raw_os_error(libc::ENOLCK));
    assert!(mutexes.all_lock(Kind::Exclusive, &mut Wait::No, failing).is_err());
    assert_eq!(script.take(), "+all Exclusive +0 -0 +1 -1 Unlocked -all");
    assert_eq!(mutexes.chain_lock(Kind::Exclusive, 0, &mut Wait::No).unwrap(), Locked::Yes);
    mutexes.chain_unlock(0).unwrap();

    // Others go on between two tries, and it is had in the end.
    script.take();
    let mut tries = 0;
    let rest = |_| {
        tries += 1;
        Ok(tries == 3)
    };
    assert_eq!(mutexes.all_lock(Kind::Exclusive, &mut soon(), rest).unwrap(), Locked::Yes);
    let once = "+all Exclusive +0 -0 +1 -1";
    assert_eq!(script.take(), [once, once, once].join(" Unlocked -all "));
}

#[test]
fn an_upgrade_that_is_not_granted_leaves_what_there_was() {
    let script = Script::new(State::Unlocked);
    let mut mutexes = Mutexes::new(&script);
    assert_eq!(mutexes.all_lock(Kind::Shared, &mut Wait::No, |_| Ok(true)).unwrap(), Locked::Yes);
    script.take();
    // Somebody stands on a record: he is told nothing, so that he can go on.
    assert_eq!(mutexes.all_upgrade(&mut Wait::No, |_| Ok(false)).unwrap(), Locked::Busy);
    assert!(mutexes.all_upgrade(&mut Wait::No, |_| Err(io::Error::other("no"))).is_err());
    assert_eq!(script.take(), "");
    let mut tries = 0;
    let rest = |_| {
        tries += 1;
        Ok(tries == 2)
    };
    assert_eq!(mutexes.all_upgrade(&mut soon(), rest).unwrap(), Locked::Yes);
    assert_eq!(script.take(), "Exclusive +0 -0 +1 -1");
}

#[test]
fn a_word_of_a_dead_holder_of_all_is_taken_back_by_the_next() {
    let script = Script::new(State::Exclusive).answer(Which::AllRecord, DEAD);
    let mut mutexes = Mutexes::new(&script);
    assert_eq!(
        mutexes.all_lock(Kind::Shared, &mut Wait::No, |_| Ok(true)).unwrap(),
        Locked::OwnerDied
    );
    assert_eq!(script.take(), "†all Unlocked Shared +0 -0 +1 -1");
    // Also a holder of a chain that died is told to whoever passes through.
    let script = Script::new(State::Unlocked).answer(Which::Chain(0), DEAD);
    let mut mutexes = Mutexes::new(&script);
    assert_eq!(
        mutexes.all_lock(Kind::Shared, &mut Wait::No, |_| Ok(true)).unwrap(),
        Locked::OwnerDied
    );
}

const HASH_SIZE: u32 = 7;

fn area_of(file: &File) -> Arc<MutexArea> {
    Arc::new(MutexArea::map(file, HASH_SIZE).unwrap())
}

#[test]
fn threads_that_take_chains_and_all_records_never_meet() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 300;
    let file = tempfile::tempfile().unwrap();
    file.set_len(area_bytes(HASH_SIZE, page_size())).unwrap();
    let area = area_of(&file);
    area.initialise().unwrap();
    // What each lock protects: how many are inside, all counted for everybody who has all.
    let inside: Vec<std::sync::atomic::AtomicI64> = (0..HASH_SIZE).map(|_| 0.into()).collect();
    let order = std::sync::atomic::Ordering::SeqCst;
    let alone = |chain: usize| {
        assert_eq!(inside[chain].fetch_add(1, order), 0, "chain {chain}");
    };
    let leave = |chain: usize| {
        inside[chain].fetch_sub(1, order);
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (area, alone, leave) = (Arc::clone(&area), &alone, &leave);
            scope.spawn(move || {
                let mut mutexes = Mutexes::new(area);
                for round in 0..ROUNDS {
                    let chain = (thread * 3 + round) % HASH_SIZE as usize;
                    if (thread + round).is_multiple_of(10) {
                        let all = mutexes.all_lock(Kind::Exclusive, &mut soon(), |_| Ok(true));
                        assert_eq!(all.unwrap(), Locked::Yes);
                        (0..HASH_SIZE as usize).for_each(alone);
                        (0..HASH_SIZE as usize).for_each(leave);
                        mutexes.all_unlock(|| Ok(())).unwrap();
                    } else {
                        let one = mutexes.chain_lock(Kind::Exclusive, chain as u32, &mut soon());
                        assert_eq!(one.unwrap(), Locked::Yes);
                        alone(chain);
                        leave(chain);
                        mutexes.chain_unlock(chain as u32).unwrap();
                    }
                }
            });
        }
    });
}

/// A libtdb process with a mutex file: cleared by the first, with mutexes.
const LIBTDB: &str = r"
import os, sys, tdb
db = tdb.open(sys.argv[1], 7, 4096 | 1, os.O_RDWR | os.O_CREAT, 0o600)
print('open')
for line in sys.stdin:
    word, *rest = line.split()
    if word == 'lock':
        db.lock_all()
    elif word == 'unlock':
        db.unlock_all()
    elif word == 'first':
        cursor = db.firstkey()
    elif word == 'walk':
        while cursor is not None:
            cursor = db.nextkey(cursor)
    else:
        for number in range(int(rest[0])):
            db.store(b'key%d' % number, word.encode())
    print('done')
";

fn libtdb(folder: &Path) -> (Peer, File) {
    let path = folder.join("mutex.tdb");
    let mut peer = Peer::start(LIBTDB, &[&path]);
    assert_eq!(peer.hear(), "open");
    (peer, File::options().read(true).write(true).open(&path).unwrap())
}

/// The lock of the file behind the list heads, tried once.
fn rest_of(file: &File) -> impl FnMut(Kind) -> io::Result<bool> {
    let start = 168 + 4 * u64::from(HASH_SIZE);
    move |kind| range::try_lock(file, kind, start, 0)
}

#[test]
fn all_records_are_ours_or_libtdbs_and_a_killed_one_gives_them_up() {
    if !has_libtdb() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut peer, file) = libtdb(folder.path());
    let mut mutexes = Mutexes::new(area_of(&file));
    assert_eq!(peer.ask("lock"), "done");
    let locked = mutexes.all_lock(Kind::Shared, &mut Wait::No, rest_of(&file)).unwrap();
    assert_eq!(locked, Locked::Busy);
    assert_eq!(mutexes.chain_lock(Kind::Shared, 3, &mut Wait::No).unwrap(), Locked::Busy);
    assert_eq!(peer.ask("unlock"), "done");

    // Now it waits for us: for the mutex of all records, once it has met our word.
    assert_eq!(
        mutexes.all_lock(Kind::Exclusive, &mut soon(), rest_of(&file)).unwrap(),
        Locked::Yes
    );
    peer.say("store 1");
    let waits = || {
        let mut word = [0; 4];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut word, 168).unwrap();
        u32::from_ne_bytes(word) & 0x8000_0000 != 0
    };
    wait_for("libtdb to wait", waits);
    mutexes.all_unlock(|| range::unlock(&file, 168, 0)).unwrap();
    assert_eq!(peer.hear(), "done");

    assert_eq!(peer.ask("lock"), "done");
    peer.kill();
    let locked = mutexes.chain_lock(Kind::Exclusive, 3, &mut soon()).unwrap();
    assert_eq!(locked, Locked::OwnerDied);
    mutexes.chain_unlock(3).unwrap();
    assert_eq!(
        mutexes.all_lock(Kind::Exclusive, &mut soon(), rest_of(&file)).unwrap(),
        Locked::Yes
    );
    mutexes.all_unlock(|| range::unlock(&file, 168, 0)).unwrap();
}

/// Two processes of libtdb hang for ever here (section 22.1 of the specification).
#[test]
fn a_traverser_of_libtdb_goes_on_while_we_want_all_records() {
    if !has_libtdb() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut peer, file) = libtdb(folder.path());
    let area = area_of(&file);
    assert_eq!(peer.ask("store 50"), "done");
    assert_eq!(peer.ask("first"), "done");
    // It stands on a record now, whose lock keeps us from having all.
    let mut mutexes = Mutexes::new(Arc::clone(&area));
    let locked = mutexes.all_lock(Kind::Exclusive, &mut Wait::No, rest_of(&file)).unwrap();
    assert_eq!(locked, Locked::Busy);
    let mut tries = 0;
    let mut rest = rest_of(&file);
    let locked = mutexes.all_lock(Kind::Exclusive, &mut soon(), |kind| {
        tries += 1;
        // It begins to walk when all is said to be ours, and has to meet that word.
        if tries == 1 {
            peer.say("walk");
        }
        rest(kind)
    });
    assert_eq!(locked.unwrap(), Locked::Yes);
    assert_eq!(peer.hear(), "done");
    mutexes.all_unlock(|| range::unlock(&file, 168, 0)).unwrap();
    assert_eq!(area.state(), State::Unlocked);
}

//! What the disk holds after each step, and after a step that did not come to its end.

use super::*;
use base::WallTime;
use supervisor::report::Purpose;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("mail")
    }

    fn open(&self) -> (Spool, Opened) {
        Spool::open(&self.dir(), &self.dir().join("cursor")).unwrap()
    }
}

fn letter(subject: &str) -> Letter {
    let mut letter = Letter::empty(Purpose::Incident);
    letter.tally.count(subject, "service.x", WallTime::from_micros(1));
    letter
}

fn to(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn positions(offset: u64) -> Positions {
    [("root".to_owned(), Position { segment: 1, offset })].into()
}

fn commit(spool: &mut Spool, offset: u64, letters: &[Letter]) -> Vec<Mail> {
    let mut kept = Kept::default();
    kept.waiting.tally.count("waits", "service.x", WallTime::from_micros(offset as i64));
    spool.commit(&positions(offset), &kept, letters, &to(&["a", "b"])).unwrap()
}

fn numbers(opened: &Opened) -> Vec<u64> {
    opened.mails.iter().map(|mail| mail.number).collect()
}

#[test]
fn what_was_committed_is_there_after_any_death() {
    let place = Place::new();
    let (mut spool, opened) = place.open();
    assert!(opened.positions.is_none(), "a first start begins with what happens now");
    commit(&mut spool, 10, &[letter("one"), letter("two")]);
    commit(&mut spool, 20, &[]);
    drop(spool);
    let (mut spool, opened) = place.open();
    assert_eq!((numbers(&opened), opened.positions.clone()), (vec![1, 2], Some(positions(20))));
    assert_eq!(opened.kept.waiting.tally.total().unwrap().first, WallTime::from_micros(20));
    assert_eq!(opened.mails[1].letter(), letter("two"));
    // A number is never used twice, also when nothing waits any more.
    for number in [1, 2] {
        spool.settle(number, &to(&[]), &BTreeMap::new()).unwrap();
    }
    drop(spool);
    let (mut spool, opened) = place.open();
    assert!(opened.mails.is_empty());
    assert_eq!(commit(&mut spool, 30, &[letter("three")])[0].number, 3);
}

/// Each place at which a commit can be cut off: what the state names is finished, what it does
/// not name never was.
#[test]
fn h9_a_commit_that_is_cut_off_is_all_or_nothing() {
    let place = Place::new();
    let (mut spool, _) = place.open();
    commit(&mut spool, 10, &[letter("one")]);
    let before = fs::read(place.dir().join("state.json")).unwrap();
    commit(&mut spool, 20, &[letter("two")]);
    let after = fs::read(place.dir().join("state.json")).unwrap();
    drop(spool);
    let mail = fs::read(place.dir().join("2.mail")).unwrap();
    let lay = |state: &[u8], fresh: Option<&[u8]>, published: bool| {
        let _ = fs::remove_file(place.dir().join("2.mail"));
        fs::write(place.dir().join("state.json"), state).unwrap();
        if let Some(fresh) = fresh {
            fs::write(place.dir().join("2.new"), fresh).unwrap();
        }
        if published {
            fs::write(place.dir().join("2.mail"), &mail).unwrap();
        }
        let (_, opened) = place.open();
        assert!(list(&place.dir(), &["new"]).unwrap().is_empty());
        (numbers(&opened), opened.positions.unwrap())
    };
    assert_eq!(lay(&before, None, false), (vec![1], positions(10)));
    assert_eq!(lay(&before, Some(&mail[..40]), false), (vec![1], positions(10)));
    assert_eq!(lay(&before, Some(&mail), false), (vec![1], positions(10)));
    fs::write(place.dir().join("state.new"), &after[..100]).unwrap();
    assert_eq!(lay(&before, Some(&mail), false), (vec![1], positions(10)));
    assert_eq!(lay(&after, Some(&mail), false), (vec![1, 2], positions(20)));
    assert_eq!(lay(&after, None, true), (vec![1, 2], positions(20)));
    // Delivered right after it was published.
    assert_eq!(lay(&after, None, false), (vec![1], positions(20)));
}

#[test]
fn a_merge_that_is_cut_off_is_finished() {
    let place = Place::new();
    let (mut spool, _) = place.open();
    commit(&mut spool, 10, &[letter("one"), letter("two"), letter("three")]);
    let kept = fs::read(place.dir().join("1.mail")).unwrap();
    let merged = spool.merge(&[1, 2]).unwrap();
    assert_eq!((merged.number, merged.letter().tally.events()), (4, 2));
    assert_eq!(spool.totals(), (0, 2));
    drop(spool);
    fs::write(place.dir().join("1.mail"), kept).unwrap();
    let (_, opened) = place.open();
    assert_eq!(numbers(&opened), [3, 4]);
}

#[test]
fn recipients_leave_one_by_one_and_refusals_are_kept_within_bounds() {
    let place = Place::new();
    let (mut spool, _) = place.open();
    let refused = BTreeMap::from([("b".to_owned(), "550 no".to_owned())]);
    for old in 0..REFUSED_MAX {
        let name = format!("refused/{:020}-{old}.mail", 0);
        fs::write(place.dir().join(name), "old").unwrap();
    }
    for round in 0..5 {
        let mail = &commit(&mut spool, round, &[letter("one")])[0];
        spool.settle(mail.number, &to(&["a"]), &refused).unwrap();
        assert_eq!(spool.load(mail.number).unwrap().to, to(&["a"]));
        spool.settle(mail.number, &to(&[]), &BTreeMap::new()).unwrap();
    }
    let files = fs::read_dir(place.dir().join("refused")).unwrap().count();
    let (waiting, kept) = look(&place.dir()).unwrap();
    assert_eq!((waiting.len(), kept.len(), files), (0, 5, REFUSED_MAX));
    assert_eq!(kept[0].refused, refused);
    assert_eq!(spool.totals().0, 5);
    drop(spool);
    assert_eq!(place.open().0.totals().0, 5);
}

#[test]
fn damage_is_set_aside_and_said_and_mail_goes_on() {
    let place = Place::new();
    let (mut spool, _) = place.open();
    commit(&mut spool, 10, &[letter("one"), letter("two")]);
    drop(spool);
    fs::write(place.dir().join("1.mail"), "no mail").unwrap();
    let (_, opened) = place.open();
    assert_eq!((numbers(&opened), opened.complaints.len()), (vec![2], 1));
    fs::write(place.dir().join("state.json"), "no state").unwrap();
    let (mut spool, opened) = place.open();
    assert!(opened.complaints[0].contains("state.json.bad"), "{:?}", opened.complaints);
    assert_eq!((numbers(&opened), opened.positions), (vec![2], None));
    assert_eq!(commit(&mut spool, 20, &[letter("three")])[0].number, 3);
}

#[test]
fn mail_that_was_turned_off_meanwhile_begins_anew_but_keeps_what_waits() {
    let place = Place::new();
    let (mut spool, _) = place.open();
    commit(&mut spool, 10, &[letter("one")]);
    fs::remove_file(place.dir().join("cursor")).unwrap();
    let (_, opened) = place.open();
    assert_eq!((numbers(&opened), opened.positions), (vec![1], None));
}

#[test]
fn nobody_else_may_read_what_services_wrote() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let (mut spool, _) = place.open();
    commit(&mut spool, 10, &[letter("one")]);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(place.dir()), 0o700);
    assert_eq!(mode(place.dir().join("1.mail")), 0o600);
    assert_eq!(mode(place.dir().join("state.json")), 0o600);
}

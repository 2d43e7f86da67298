//! `holdfast tdb …` where it writes: by the real command, beside the real tools of tdb-tools, both ways.

use crate::peers::peer;
use crate::support::wait_for;
use crate::tdb::{golden, holdfast, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tdb::{Create, Database, Options, Store};
use tempfile::TempDir;

fn holdfast_reading(input: &[u8], action: &str, file: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.args(["tdb", action]).arg(file).args(more).env("NO_COLOR", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that refuses does not read to the end.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn exit(output: &Output) -> Option<i32> {
    output.status.code()
}

fn assert_done(output: &Output) {
    assert_eq!(exit(output), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[track_caller]
fn assert_refused(output: &Output, code: i32, expect: &str) {
    assert_eq!(exit(output), Some(code), "{output:?}");
    assert!(text(&output.stderr).contains(expect), "{expect}: {output:?}");
}

fn records(file: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut records = BTreeMap::new();
    let database = Database::open_read_only(file).unwrap();
    database
        .traverse(|key, data| {
            assert_eq!(records.insert(key.to_vec(), data.to_vec()), None);
            ControlFlow::Continue(())
        })
        .unwrap();
    records
}

/// Both checks find a file sound; theirs where it is installed.
#[track_caller]
fn assert_sound(file: &Path) {
    assert_eq!(exit(&holdfast("check", file, &[])), Some(0));
    let Some(tdbtool) = peer("tdbtool", &[]) else { return };
    let said = Command::new(tdbtool).arg(file).arg("check").output().unwrap();
    let expect = format!("Database integrity is OK and has {} records.", records(file).len());
    assert!(text(&said.stdout).contains(&expect), "{said:?}");
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A copy of a golden file in a folder of its own.
fn golden_copy(name: &str) -> Option<(TempDir, std::path::PathBuf)> {
    let from = golden(name)?;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.tdb");
    fs::copy(from, &file).unwrap();
    Some((folder, file))
}

fn new_file(folder: &TempDir) -> std::path::PathBuf {
    let file = folder.path().join("a.tdb");
    assert_done(&holdfast("set", &file, &["alpha", "one", "--create", "--hash-size", "7"]));
    file
}

#[test]
fn what_is_set_is_read_by_tdbdump_and_what_tdbtool_stores_by_us() {
    let folder = tempfile::tempdir().unwrap();
    let file = new_file(&folder);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_done(&holdfast("set", &file, &["a\\00\\5C", "\\FF\"end", "--insert"]));
    let raw: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    assert_done(&holdfast_reading(&raw, "set", &file, &["big", "--raw-from", "-"]));
    fs::write(folder.path().join("value"), b"x\n").unwrap();
    let from = folder.path().join("value").display().to_string();
    assert_done(&holdfast("set", &file, &["alpha", "--raw-from", &from, "--modify"]));
    assert_sound(&file);
    let set = records(&file);
    assert_eq!(set.len(), 3);
    assert_eq!(set[&b"a\0\\"[..]], b"\xFF\"end");
    assert_eq!(set[&b"big"[..]], raw);
    assert_eq!(set[&b"alpha"[..]], b"x\n");

    let (Some(tdbdump), Some(tdbtool)) = (peer("tdbdump", &[]), peer("tdbtool", &[])) else {
        return;
    };
    let theirs = Command::new(&tdbdump).arg(&file).output().unwrap();
    let expect = "key(3) = \"a\\00\\5C\"\ndata(5) = \"\\FF\\22end\"\n";
    assert!(text(&theirs.stdout).contains(expect), "{theirs:?}");
    let stored = Command::new(&tdbtool).arg(&file).args(["store", "alpha", "theirs"]).output();
    assert!(stored.unwrap().status.success());
    assert_eq!(text(&holdfast("get", &file, &["alpha"]).stdout), "theirs\n");
    assert_done(&holdfast("del", &file, &["a\\00\\5C"]));
    let theirs = Command::new(&tdbdump).arg(&file).output().unwrap();
    assert!(!text(&theirs.stdout).contains("key(3) = \"a"), "{theirs:?}");
}

#[test]
fn what_cannot_be_set_or_deleted_is_told_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = new_file(&folder);
    let before = fs::read(&file).unwrap();
    let set = |more: &[&str]| holdfast("set", &file, more);
    assert_refused(&set(&["alpha", "two", "--insert"]), 1, "has a value already");
    assert_refused(&set(&["beta", "two", "--modify"]), 1, "no record has the key `beta`");
    assert_refused(&holdfast("del", &file, &["beta"]), 1, "no record has the key `beta`");
    assert_refused(&set(&["al\\4", "two"]), 2, "the key `al\\4` has a `\\`");
    assert_refused(&set(&["alpha", "tw\\zz"]), 2, "the value `tw\\zz` has a `\\`");
    assert_refused(&holdfast("del", &file, &["al\\4"]), 2, "write a `\\` as `\\5C`");
    assert_refused(&set(&["alpha"]), 2, "<VALUE>");
    assert_refused(&set(&["alpha", "two", "--hash-size", "9"]), 2, "add --create");
    assert_refused(&set(&["alpha", "two", "--insert", "--modify"]), 2, "cannot be used with");
    assert_refused(&set(&["alpha", "--raw-from", "/nonexistent"]), 3, "cannot read the value");
    assert_eq!(fs::read(&file).unwrap(), before);

    let missing = folder.path().join("missing.tdb");
    assert_refused(&holdfast("set", &missing, &["a", "b"]), 3, "`--create` makes a file");
    assert_refused(&holdfast("del", &missing, &["a"]), 3, "No such file");
    let nowhere = Path::new("/nonexistent/a.tdb");
    assert_refused(&holdfast("set", nowhere, &["a", "b", "--create"]), 3, "in a folder that is");
    let letter = folder.path().join("letter");
    fs::write(&letter, "Dear Sir").unwrap();
    assert_refused(&holdfast("set", &letter, &["a", "b", "--create"]), 1, "not a TDB file");
    for action in ["repack", "recover"] {
        assert_refused(&holdfast(action, &letter, &[]), 1, "not a TDB file");
    }
    assert_eq!(fs::read(&letter).unwrap(), b"Dear Sir");
    assert_eq!(names(&folder), ["a.tdb", "letter"]);
}

#[test]
fn who_keeps_the_file_locked_is_waited_for_only_so_long() {
    let folder = tempfile::tempdir().unwrap();
    let file = new_file(&folder);
    let mut other = Options::new().open(&file).unwrap();
    let held = other.lock(b"alpha").unwrap();
    let to = folder.path().join("b.tdb").display().to_string();
    let busy = |action: &str, more: &[&str]| {
        let output = holdfast(action, &file, &[more, &["--wait", "30ms"]].concat());
        assert_refused(&output, 3, "is held by others; gave up after");
        assert!(text(&output.stderr).contains("--wait 1m"), "{output:?}");
    };
    busy("set", &["alpha", "two"]);
    busy("del", &["alpha"]);
    busy("repack", &[]);
    busy("backup", &[&to]);
    assert_eq!(names(&folder), ["a.tdb"]);
    assert_done(&holdfast("backup", &file, &[&to, "--unlocked"]));
    assert_eq!(records(Path::new(&to)), records(&file));
    drop(held);

    // Whoever waits gets it when it is given back.
    let held = other.lock_all().unwrap();
    let mut waiting = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    let waiting = waiting.args(["tdb", "set", "--wait", "1m"]).arg(&file).args(["alpha", "two"]);
    let waiting = waiting.stdout(Stdio::null()).spawn().unwrap();
    drop(held);
    assert_done(&waiting.wait_with_output().unwrap());
    assert_eq!(records(&file)[&b"alpha"[..]], b"two");
}

#[test]
fn a_transaction_of_libtdb_keeps_us_out() {
    let Some(tdbtool) = peer("tdbtool", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = new_file(&folder);
    let mut child = Command::new(tdbtool)
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"transaction_start\nstore alpha theirs\n").unwrap();
    let mut ours = Options::new().wait(Duration::ZERO).open(&file).unwrap();
    wait_for("it is in a transaction", || match ours.try_transaction() {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_refused(&holdfast("set", &file, &["alpha", "two", "--wait", "30ms"]), 3, "held by");
    // A copy can be made of what was there before.
    let to = folder.path().join("b.tdb");
    assert_done(&holdfast("backup", &file, &[to.to_str().unwrap()]));
    assert_eq!(records(&to)[&b"alpha"[..]], b"one");
    stdin.write_all(b"transaction_commit\nquit\n").unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_done(&holdfast("set", &file, &["beta", "ours", "--insert"]));
    assert_eq!(records(&file)[&b"alpha"[..]], b"theirs");
    assert_sound(&file);
}

#[test]
fn a_file_that_counts_its_changes_goes_on_counting() {
    let Some((_folder, file)) = golden_copy("jenkins-seqnum.tdb") else { return };
    let count = || Database::open_read_only(&file).unwrap().header().unwrap().sequence;
    let before = count();
    assert_done(&holdfast("set", &file, &["new", "value"]));
    assert_done(&holdfast("del", &file, &["new"]));
    assert_eq!(count(), before + 2);
    let other = tempfile::tempdir().unwrap();
    let file = new_file(&other);
    assert_done(&holdfast("set", &file, &["new", "value"]));
    assert_eq!(Database::open_read_only(&file).unwrap().header().unwrap().sequence, 0);
}

#[test]
fn a_file_with_mutexes_is_changed_as_any_other() {
    let Some((_folder, file)) = golden_copy("mutex.tdb") else { return };
    let before = records(&file);
    assert_done(&holdfast("set", &file, &["new", "value"]));
    assert_eq!(records(&file).len(), before.len() + 1);
    assert_done(&holdfast("del", &file, &["new"]));
    assert_done(&holdfast("repack", &file, &[]));
    assert_eq!(records(&file), before);
    assert_sound(&file);
}

#[test]
fn a_backup_has_the_records_the_shape_and_the_permissions_of_the_file() {
    let names_of =
        ["plain", "bigendian-jenkins", "dead", "deleted", "empty-h7", "recovery-idle", "mutex"];
    for name in names_of {
        let Some((folder, file)) = golden_copy(&format!("{name}.tdb")) else { return };
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let to = folder.path().join("b.tdb");
        let done = holdfast("backup", &file, &[to.to_str().unwrap()]);
        assert_done(&done);
        let expected = records(&file);
        let count = format!("is a sound copy with {} record", expected.len());
        assert!(text(&done.stdout).contains(&count), "{done:?}");
        assert_eq!(records(&to), expected, "{name}");
        assert_sound(&to);
        let header = |file: &Path| Database::open_read_only(file).unwrap().header().unwrap();
        let (ours, theirs) = (header(&to), header(&file));
        assert_eq!(
            (ours.hash, ours.hash_size, ours.order),
            (theirs.hash, theirs.hash_size, theirs.order)
        );
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(names(&folder), ["a.tdb", "b.tdb"]);
        if let Some(tdbbackup) = peer("tdbbackup", &[]) {
            let made = Command::new(tdbbackup).arg(&to).output().unwrap();
            assert!(made.status.success(), "{made:?}");
            assert_eq!(records(&folder.path().join("b.tdb.bak")), expected, "{name}");
        }
    }
}

#[test]
fn a_good_backup_is_never_replaced_by_a_bad_one_nor_something_else_by_a_backup() {
    let folder = tempfile::tempdir().unwrap();
    let file = new_file(&folder);
    let to = folder.path().join("b.tdb");
    let to_text = to.to_str().unwrap();
    assert_done(&holdfast("backup", &file, &[to_text]));
    let good = fs::read(&to).unwrap();
    assert_done(&holdfast("set", &file, &["beta", "two"]));
    assert_refused(&holdfast("backup", &file, &[to_text]), 1, "--replace");
    assert_eq!(fs::read(&to).unwrap(), good);

    // The head of a chain is lost: all that is read is sound, and yet not all is there.
    let bytes = fs::read(&file).unwrap();
    let mut damaged = bytes.clone();
    damaged[172..172 + 4 * 7].fill(0);
    fs::write(&file, &damaged).unwrap();
    for action in ["repack", "backup"] {
        let more: &[&str] = if action == "backup" { &[to_text, "--replace"] } else { &[] };
        assert_refused(&holdfast(action, &file, more), 1, "is damaged");
    }
    assert_eq!(fs::read(&file).unwrap(), damaged);
    assert_eq!(fs::read(&to).unwrap(), good);
    fs::write(&file, &bytes).unwrap();
    let json = holdfast("backup", &file, &[to_text, "--replace", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&json.stdout).unwrap()["records"], 2);
    assert_eq!(records(&to), records(&file));

    let letter = folder.path().join("letter");
    fs::write(&letter, "Dear Sir").unwrap();
    let letter_text = letter.to_str().unwrap();
    assert_refused(&holdfast("backup", &file, &[letter_text, "--replace"]), 1, "not a TDB file");
    assert_eq!(fs::read(&letter).unwrap(), b"Dear Sir");
    let same = file.to_str().unwrap();
    assert_refused(&holdfast("backup", &file, &[same, "--replace"]), 2, "is the file itself");
    let dir = folder.path().to_str().unwrap();
    assert_refused(&holdfast("backup", &file, &[dir]), 2, "is no file");
    let nowhere = holdfast("backup", &file, &["/nonexistent/b.tdb"]);
    assert_refused(&nowhere, 1, "in a folder that is there");
    let unwritable = holdfast("backup", &file, &["/proc/b.tdb"]);
    assert_refused(&unwritable, 1, "cannot write /proc/b.tdb");
    assert_eq!(names(&folder), ["a.tdb", "b.tdb", "letter"]);
}

#[test]
fn a_backup_is_one_moment_of_a_file_that_changes_all_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.tdb");
    let mut writer =
        Options::new().create(Create::New).hash_size(3).unsynced().open(&file).unwrap();
    let keys: Vec<String> = (0..40).map(|number| format!("account {number}")).collect();
    for key in &keys {
        writer.store(key.as_bytes(), b"100", Store::Insert).unwrap();
    }
    let ended = AtomicBool::new(false);
    let places: Vec<_> = (0..8).map(|number| folder.path().join(format!("{number}.tdb"))).collect();
    let mut copies = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let amount = |database: &Database, key: &str| -> i64 {
                let value = database.fetch(key.as_bytes()).unwrap().unwrap();
                text(&value).parse().unwrap()
            };
            for round in 0.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let (from, to) = (&keys[round * 7 % 40], &keys[(round * 3 + 1) % 40]);
                if from == to {
                    continue;
                }
                let mut transaction = writer.transaction().unwrap();
                let (less, more) = (amount(&transaction, from) - 1, amount(&transaction, to) + 1);
                let store = |database: &mut Database, key: &str, value: i64| {
                    let value = value.to_string();
                    database.store(key.as_bytes(), value.as_bytes(), Store::Modify).unwrap();
                };
                store(&mut transaction, from, less);
                store(&mut transaction, to, more);
                transaction.commit().unwrap();
            }
        });
        // Nothing may end the test here while the other thread goes on.
        for to in &places {
            copies.push(holdfast("backup", &file, &[to.to_str().unwrap(), "--wait", "1m"]));
        }
        ended.store(true, Ordering::Relaxed);
    });
    for (to, copy) in places.iter().zip(&copies) {
        assert_done(copy);
        let amounts = records(to);
        let sum: i64 = amounts.values().map(|value| text(value).parse::<i64>().unwrap()).sum();
        assert_eq!((amounts.len(), sum), (40, 4000));
    }
    assert_ne!(records(&places[0]), records(&places[7]), "the file changed meanwhile");
}

#[test]
fn dumps_go_both_ways_between_tdb_tools_and_us() {
    let Some(tdbdump) = peer("tdbdump", &[]) else { return };
    let Some(tdbrestore) = peer("tdbrestore", &[]) else { return };
    for name in ["plain", "bigendian-jenkins", "dead", "empty-jenkins-h131"] {
        let Some((folder, file)) = golden_copy(&format!("{name}.tdb")) else { return };
        let expected = records(&file);
        let theirs = Command::new(&tdbdump).arg(&file).output().unwrap().stdout;
        let made = folder.path().join("ours.tdb");
        let done = holdfast_reading(&theirs, "restore", &made, &["--hash-size", "5", "--jenkins"]);
        assert_done(&done);
        assert_eq!(records(&made), expected, "{name}");
        assert_sound(&made);
        assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o600);

        let dump = folder.path().join("dump");
        fs::write(&dump, holdfast("dump", &file, &[]).stdout).unwrap();
        let back = folder.path().join("theirs.tdb");
        let restored = Command::new(&tdbrestore)
            .arg(&back)
            .stdin(fs::File::open(&dump).unwrap())
            .output()
            .unwrap();
        assert!(restored.status.success(), "{name}: {restored:?}");
        assert_eq!(records(&back), expected, "{name}");
        let again = folder.path().join("again.tdb");
        let json = holdfast("restore", &again, &["--from", dump.to_str().unwrap(), "--json"]);
        let json: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(json["records"], expected.len());
        assert_eq!(records(&again), expected);
        assert_eq!(names(&folder), ["a.tdb", "again.tdb", "dump", "ours.tdb", "theirs.tdb"]);
    }
}

#[test]
fn a_broken_dump_leaves_no_file_and_a_file_that_is_there_stays() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made.tdb");
    let good = "{\nkey(1) = \"a\"\ndata(1) = \"b\"\n}\n";
    for (broken, expect) in [
        ("TDB file\n", "line 5 of the dump: expected `{`"),
        ("{\nkey(2) = \"a\"\ndata(0) = \"\"\n}\n", "line 6 of the dump: the text has 1 of the 2"),
        ("{\nkey(0) = \"a\"\ndata(0) = \"\"\n}\n", "line 6 of the dump: the text has more than"),
        ("{\nkey(9999999999) = \"a\"\n", "line 6 of the dump: a record can't have so many"),
        ("{\nkey(4000000000) = \"a", "it ends within a record"),
        ("{\nkey(1) = \"\\0g\"\n", "line 6 of the dump: a `\\` without"),
        ("{\nkey(1) = \"c\"\ndata(1) = \"d\"\n", "line 8 of the dump: it ends within a record"),
        (good, "line 6 of the dump: the key has a value already"),
    ] {
        let output = holdfast_reading(format!("{good}{broken}").as_bytes(), "restore", &made, &[]);
        assert_refused(&output, 1, expect);
        assert!(names(&folder).is_empty(), "{broken}");
    }
    let output = holdfast("restore", &made, &["--from", "/nonexistent"]);
    assert_refused(&output, 3, "cannot read /nonexistent");
    let nowhere = Path::new("/nonexistent/a.tdb");
    assert_refused(&holdfast("restore", nowhere, &[]), 1, "in a folder that is there");

    fs::write(&made, "Dear Sir").unwrap();
    let output = holdfast_reading(good.as_bytes(), "restore", &made, &[]);
    assert_refused(&output, 1, "is there already");
    assert_eq!(fs::read(&made).unwrap(), b"Dear Sir");
    assert_eq!(names(&folder), ["made.tdb"]);
}

#[test]
fn a_repack_frees_what_nothing_refers_to() {
    let Some((_folder, file)) = golden_copy("dead-space.tdb") else { return };
    let expected = records(&file);
    let check = holdfast("check", &file, &[]);
    assert!(text(&check.stdout).contains("`tdb repack` frees them"), "{check:?}");
    let done = holdfast("repack", &file, &[]);
    assert_done(&done);
    assert!(text(&done.stdout).contains("bytes are free"), "{done:?}");
    assert_eq!(records(&file), expected);
    assert!(!text(&holdfast("check", &file, &[]).stdout).contains("nothing refers"));
    assert_sound(&file);

    let Some((_folder, file)) = golden_copy("orphan-record.tdb") else { return };
    let expected = records(&file);
    assert_refused(&holdfast("repack", &file, &[]), 1, "is damaged");
    assert_done(&holdfast("repack", &file, &["--drop-lost"]));
    assert_eq!(records(&file), expected);
    assert_sound(&file);
    // What can't be read at all is not given up so.
    let Some((_folder, file)) = golden_copy("corrupt-next-oob.tdb") else { return };
    let before = fs::read(&file).unwrap();
    assert_refused(&holdfast("repack", &file, &["--drop-lost"]), 1, "offset 0x1ff8");
    assert_eq!(fs::read(&file).unwrap(), before);
}

/// A process that was killed after it stored a new value has not deleted the old one yet.
#[test]
fn of_two_values_of_a_key_the_newer_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.tdb");
    assert_done(&holdfast("set", &file, &["k1", "older", "--create", "--hash-size", "1"]));
    assert_done(&holdfast("set", &file, &["k2", "newer"]));
    let mut bytes = fs::read(&file).unwrap();
    let find = |key: &[u8]| bytes.windows(key.len()).position(|part| part == key).unwrap();
    let (older, newer) = (find(b"k1older"), find(b"k2newer"));
    // The hash of a key stands eight bytes in front of it.
    bytes.copy_within(older - 8..older - 4, newer - 8);
    bytes.copy_within(older..older + 2, newer);
    fs::write(&file, &bytes).unwrap();
    // Those that are there, and those that are handed on.
    let count = |file: &Path| {
        let database = Database::open_read_only(file).unwrap();
        let handed_on = database.traverse(|_, _| ControlFlow::Continue(())).unwrap();
        (database.stats().unwrap().keys.count, handed_on)
    };
    assert_eq!(count(&file), (2, 1));

    let to = folder.path().join("b.tdb");
    assert_done(&holdfast("backup", &file, &[to.to_str().unwrap()]));
    assert_done(&holdfast("repack", &file, &[]));
    for file in [&to, &file] {
        assert_eq!(count(file), (1, 1));
        assert_eq!(text(&holdfast("get", file, &["k1"]).stdout), "newer\n");
        assert_sound(file);
    }
}

#[test]
fn an_interrupted_transaction_is_undone_by_recover() {
    for name in ["recovery-prepared", "recovery-partial", "recovery-grown-partial"] {
        let Some((_folder, file)) = golden_copy(&format!("{name}.tdb")) else { return };
        assert_refused(&holdfast("dump", &file, &[]), 1, "holdfast tdb recover FILE");
        let done = holdfast("recover", &file, &[]);
        assert_done(&done);
        assert!(text(&done.stdout).contains("no interrupted transaction any more"), "{done:?}");
        assert_sound(&file);
        let bytes = fs::read(&file).unwrap();
        let again = holdfast("recover", &file, &["--json"]);
        let again: Value = serde_json::from_slice(&again.stdout).unwrap();
        assert_eq!(again["pending"], false);
        assert_eq!(fs::read(&file).unwrap(), bytes, "nothing to undo");
    }
}

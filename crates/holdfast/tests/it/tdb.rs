//! `holdfast tdb …` by the real command, beside the real tdbdump.
//!
//! The files that libtdb wrote lie beside this repository; where it stands alone, the tests are
//! skipped and say so.

use crate::peers::peer;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) fn golden(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec/tdb-golden");
    if folder.is_dir() {
        return Some(folder.join(name));
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec");
    assert!(!beside.is_dir(), "{} is not in its place", folder.display());
    eprintln!("skipped: {} is not there", folder.display());
    None
}

pub(crate) fn holdfast(action: &str, file: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.args(["tdb", action]).arg(file).args(more).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_dump_is_what_tdbdump_prints_byte_for_byte() {
    let Some(tdbdump) = peer("tdbdump", &[]) else { return };
    for name in ["plain.tdb", "bigendian-jenkins.tdb", "mutex.tdb", "dead.tdb", "empty-h7.tdb"] {
        let Some(file) = golden(name) else { return };
        let theirs = Command::new(&tdbdump).arg(&file).output().unwrap();
        let ours = holdfast("dump", &file, &[]);
        assert_eq!((ours.status.code(), theirs.status.code()), (Some(0), Some(0)), "{name}");
        assert_eq!(text(&ours.stdout), text(&theirs.stdout), "{name}");
    }
    // Theirs exits with 1 whenever it rescues, and complains of what it finds on standard error.
    let Some(damaged) = golden("corrupt-next-oob.tdb") else { return };
    let theirs = Command::new(&tdbdump).arg("-e").arg(&damaged).output().unwrap();
    let ours = holdfast("dump", &damaged, &["--rescue"]);
    assert_eq!(ours.status.code(), Some(0));
    assert!(ours.stdout.starts_with(b"{\nkey(0)"));
    assert_eq!(text(&ours.stdout), text(&theirs.stdout));
}

#[test]
fn a_check_says_that_a_file_is_sound_or_everything_that_is_wrong_with_it() {
    let Some(plain) = golden("plain.tdb") else { return };
    let sound = holdfast("check", &plain, &[]);
    assert_eq!(sound.status.code(), Some(0));
    assert!(text(&sound.stdout).contains("is sound and has 17 records"), "{sound:?}");

    let Some(damaged) = golden("corrupt-tailer.tdb") else { return };
    let told = holdfast("check", &damaged, &[]);
    assert_eq!(told.status.code(), Some(1));
    assert!(text(&told.stdout).contains("tailer is"), "{told:?}");
    assert!(text(&told.stderr).contains("tdb dump --rescue"), "{told:?}");

    let json = holdfast("check", &damaged, &["--json"]);
    assert_eq!(json.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["clean"], &json["live"]), (&false.into(), &17.into()));
    assert_eq!(json["findings"].as_array().unwrap().len(), 1);
}

#[test]
fn a_value_is_found_by_its_key_whatever_the_bytes() {
    let Some(plain) = golden("plain.tdb") else { return };
    let value = |key: &str| text(&holdfast("get", &plain, &[key]).stdout);
    assert_eq!(value("alpha"), "one\n");
    assert_eq!(value("gamma\\00"), "nul-terminated key\n");
    assert_eq!(value("quote\"back\\5Cslash"), "tab\\09nl\\0A\\22\\5C\n");
    let raw = holdfast("get", &plain, &["quote\"back\\5cslash", "--raw"]);
    assert_eq!(raw.stdout, b"tab\tnl\n\"\\");

    let absent = holdfast("get", &plain, &["gamma"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(text(&absent.stderr).contains("no record has the key `gamma`"), "{absent:?}");
    assert_eq!(holdfast("get", &plain, &["a\\b"]).status.code(), Some(2));
}

#[test]
fn a_file_is_counted_and_what_is_none_is_refused() {
    let Some(deleted) = golden("deleted.tdb") else { return };
    let stat = holdfast("stat", &deleted, &["--json"]);
    let stat: Value = serde_json::from_slice(&stat.stdout).unwrap();
    assert_eq!((&stat["size"], &stat["keys"]["count"]), (&8192.into(), &11.into()));
    assert_eq!((&stat["free"]["count"], &stat["hash"]), (&6.into(), &"default".into()));
    assert!(text(&holdfast("stat", &deleted, &[]).stdout).contains("free records"));

    let other = holdfast("stat", Path::new(env!("CARGO_MANIFEST_PATH")), &[]);
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("not a TDB file"), "{other:?}");
    let missing = holdfast("stat", Path::new("/nonexistent/a.tdb"), &[]);
    assert_eq!(missing.status.code(), Some(3));
    let Some(pending) = golden("recovery-prepared.tdb") else { return };
    let refused = holdfast("dump", &pending, &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("holdfast tdb recover FILE"), "{refused:?}");
}

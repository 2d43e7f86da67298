//! The demo as a person sees it: every fault is recovered, and nothing is left behind, whether it
//! ends by itself or by Ctrl-C.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

fn demo(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.args(["demo", "--for", "1s"]).env("TMPDIR", temporary).stdin(Stdio::null());
    command
}

/// Processes whose environment names the directory; there must be none.
fn processes_of(directory: &Path) -> Vec<String> {
    let needle = directory.to_str().unwrap().as_bytes();
    let mentions = |file: &Path| {
        let bytes = std::fs::read(file).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle)
    };
    let own = std::process::id().to_string();
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    all.filter(|path| path.file_name().is_some_and(|name| *name != *own))
        .filter(|path| mentions(&path.join("environ")) || mentions(&path.join("cmdline")))
        .map(|path| path.display().to_string())
        .collect()
}

fn assert_nothing_is_left(temporary: &Path) {
    assert_eq!(std::fs::read_dir(temporary).unwrap().count(), 0, "files are left behind");
    assert_eq!(processes_of(temporary), Vec::<String>::new(), "processes are left behind");
}

#[test]
fn every_fault_of_the_demo_is_recovered_and_nothing_is_left_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let output = demo(temporary.path()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("11 of 11 faults recovered"), "{told}");
    assert!(told.contains(" 0 refused"), "{told}");
    assert_nothing_is_left(temporary.path());
}

#[test]
fn ctrl_c_ends_the_demo_in_order() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = demo(temporary.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("⚡")), "no fault was begun");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let rest: Vec<String> = lines.collect();
    assert!(rest.iter().any(|line| line.contains("nothing is left behind")), "{rest:?}");
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:?}");
    assert_nothing_is_left(temporary.path());
}

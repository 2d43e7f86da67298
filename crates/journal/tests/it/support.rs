//! Events, directories, and this test binary started again as another process.

use base::ByteSize;
use control::{EventRecord, Severity};
use journal::Retention;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

const NAMESPACE: &str = "HOLDFAST_TEST_NAMESPACE";

pub(crate) fn event(source_seq: u64) -> EventRecord {
    EventRecord {
        seq: 0,
        source: "root".into(),
        source_seq,
        wall_us: 1_000_000 * source_seq as i64,
        mono_ns: source_seq,
        node: "n1".into(),
        subject: "web".into(),
        kind: "service.exited".into(),
        severity: Severity::Info,
        message: format!("event {source_seq}"),
        data: serde_json::Map::new(),
    }
}

pub(crate) fn events(numbers: impl IntoIterator<Item = u64>) -> Vec<EventRecord> {
    numbers.into_iter().map(event).collect()
}

pub(crate) fn keep_all() -> Retention {
    Retention { age_max: Duration::MAX, size_max: ByteSize(u64::MAX) }
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Starts one test of this binary in a process of its own, with a variable set.
pub(crate) fn start_again(test: &str, variable: &str, value: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(variable, value)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// True in a mount namespace of the test's own; elsewhere runs the test there and returns false.
/// Without the right to make one the test can't be done, and says so.
pub(crate) fn in_mount_namespace(test: &str) -> bool {
    if std::env::var_os(NAMESPACE).is_some() {
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("{test}: left out, it needs root to mount a small file system");
        return false;
    }
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(NAMESPACE, "1")
        .status()
        .unwrap();
    assert!(status.success());
    false
}

/// What was mounted, until this goes. Its folder can be removed only then.
pub(crate) struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let ended = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(ended.is_ok_and(|ended| ended.success()) || std::thread::panicking());
    }
}

#[must_use]
pub(crate) fn mount_tmpfs(at: &Path, size: &str) -> Mounted {
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
        .arg(at)
        .status()
        .unwrap();
    assert!(mounted.success());
    Mounted(at.to_owned())
}

/// Nothing below it can be written any more, not even by root.
pub(crate) fn mount_read_only(at: &Path) {
    for options in [&["--bind"][..], &["-o", "remount,bind,ro"]] {
        let from = (options == ["--bind"]).then_some(at);
        let status = Command::new("mount").args(options).args(from).arg(at).status().unwrap();
        assert!(status.success(), "mount {options:?}");
    }
}

pub(crate) fn unmount(at: &Path) {
    assert!(Command::new("umount").arg(at).status().unwrap().success());
}

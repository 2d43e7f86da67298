//! The bench for the logs duty: directories, the duty as a process, writers with numbered lines.

use crate::logs::protocol::{FromLogs, ToLogs, WatchPolicy};
use crate::logs::{LogsOptions, run, run_with};
use control::{decode_frame, encode_frame};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub(crate) const SIGHUP: i32 = 1;
pub(crate) const SIGINT: i32 = 2;
pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGSTOP: i32 = 19;

/// No wait is longer; a passing test never gets near it.
const DEADLINE: Duration = Duration::from_mins(2);

const STATE: &str = "HOLDFAST_TEST_LOGS_STATE";
const LINGER: &str = "HOLDFAST_TEST_LOGS_LINGER_MS";
const NAMESPACE: &str = "HOLDFAST_TEST_NAMESPACE";

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// One state directory.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["fifo", "logs"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.path("logs").join(name)
    }
}

pub(crate) fn policy(size_max: u64) -> WatchPolicy {
    WatchPolicy {
        path: None,
        size_max,
        age_max_ms: None,
        keep: 10,
        compress: false,
        split_stderr: false,
    }
}

/// In the process that was started as the duty: runs it. In any other: does nothing.
pub(crate) fn be_the_duty_if_asked() {
    let Some(state) = std::env::var_os(STATE) else { return };
    let link = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let state = PathBuf::from(state);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match std::env::var(LINGER) {
        Err(_) => run(&runtime, link, &state, &state).unwrap(),
        Ok(linger) => {
            let orphan_linger = Duration::from_millis(linger.parse().unwrap());
            let run_dir = state.clone();
            let options = LogsOptions { state_dir: state, run_dir, orphan_linger };
            run_with(&runtime, link, &options).unwrap();
        }
    }
}

/// The duty; killed when dropped.
pub(crate) struct DutyProcess {
    child: Child,
    link: Option<UnixStream>,
    inbox: Vec<u8>,
    heard: Vec<FromLogs>,
}

impl DutyProcess {
    pub(crate) fn start(bench: &Bench) -> Self {
        Self::start_with(bench, None)
    }

    /// With another time that an orphan stays.
    pub(crate) fn start_with(bench: &Bench, linger: Option<Duration>) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(DEADLINE)).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["duty_process", "--exact", "--nocapture"])
            .env(STATE, bench.dir.path())
            .envs(linger.map(|linger| (LINGER, linger.as_millis().to_string())))
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut duty = Self { child, link: Some(ours), inbox: Vec::new(), heard: Vec::new() };
        duty.expect("it is ready", |m| *m == FromLogs::Ready);
        duty
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn send(&mut self, message: &ToLogs) {
        let frame = encode_frame(message).unwrap();
        self.link.as_mut().unwrap().write_all(&frame).unwrap();
    }

    /// Waits for a message; those before it are kept for [`Self::notices`] and the like.
    pub(crate) fn expect(&mut self, what: &str, wanted: impl Fn(&FromLogs) -> bool) -> FromLogs {
        let before = self.heard.iter().position(&wanted);
        if let Some(at) = before {
            return self.heard.remove(at);
        }
        loop {
            if let Some((message, used)) = decode_frame::<FromLogs>(&self.inbox).unwrap() {
                self.inbox.drain(..used);
                if wanted(&message) {
                    return message;
                }
                self.heard.push(message);
                continue;
            }
            let mut block = [0; 4096];
            let read = self.link.as_mut().unwrap().read(&mut block).unwrap_or(0);
            assert!(0 < read, "waited in vain: {what}; heard {:?}", self.heard);
            self.inbox.extend_from_slice(&block[..read]);
        }
    }

    pub(crate) fn drain(&mut self, instance: &str, token: u64) {
        self.send(&ToLogs::Drain { instance: instance.into(), token });
        self.expect("drained", |m| *m == FromLogs::Drained { token });
    }

    pub(crate) fn notices(&self) -> Vec<String> {
        let notice = |m: &FromLogs| match m {
            FromLogs::Notice { message } => Some(message.clone()),
            _ => None,
        };
        self.heard.iter().filter_map(notice).collect()
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        let failure = |m: &FromLogs| match m {
            FromLogs::Failed { message, .. } => Some(message.clone()),
            _ => None,
        };
        self.heard.iter().filter_map(failure).collect()
    }

    /// As if the root had died.
    pub(crate) fn close_link(&mut self) {
        self.link = None;
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, number: i32) {
        let process = sys::pidfd::open(self.child.id()).unwrap();
        sys::pidfd::send_signal(process.as_fd(), number).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_until("it ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }
}

impl Drop for DutyProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service's end of a pipe.
pub(crate) struct Writer {
    pipe: File,
    bytes: u64,
}

impl Writer {
    pub(crate) fn open(bench: &Bench, pipe: &str) -> Self {
        let path = bench.path("fifo").join(pipe);
        sys::fifo::ensure(&path).unwrap();
        Self { pipe: File::from(sys::fifo::open_for_service(&path).unwrap()), bytes: 0 }
    }

    pub(crate) fn line(&mut self, number: u64) {
        self.text(&line_of(number));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.pipe.write_all(text.as_bytes()).unwrap();
        self.bytes += text.len() as u64;
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// All lines have the same length.
pub(crate) fn line_of(number: u64) -> String {
    format!("{number:012} {}\n", "x".repeat(50))
}

/// Writes numbered lines as fast as they are taken, until told to stop. Returns how many.
pub(crate) fn flood(bench: &Bench, pipe: &str, stop: impl Fn() -> bool) -> u64 {
    let mut writer = Writer::open(bench, pipe);
    let mut number = 0;
    while !stop() {
        // Many lines at a time, as a buffering service does; so lines are torn over pipe buffers.
        let block: String = (number..number + 500).map(line_of).collect();
        writer.pipe.write_all(block.as_bytes()).unwrap();
        number += 500;
    }
    number
}

/// The log and its rotated files as lines, oldest first.
pub(crate) fn kept_lines(log: &Path) -> Vec<String> {
    let mut files = Vec::new();
    // A sudden death between two renames leaves a gap in the numbers, so all are looked at.
    let entries = std::fs::read_dir(log.parent().unwrap()).unwrap().count() as u32;
    for number in 1..=entries + 100 {
        let plain = journal::logfile::rotated_path(log, number);
        let compressed = journal::logfile::compressed_path(log, number);
        let mut text = String::new();
        if let Ok(read) = std::fs::read_to_string(&plain) {
            text = read;
        } else if let Ok(file) = File::open(&compressed) {
            flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        }
        files.push(text);
    }
    files.reverse();
    files.push(std::fs::read_to_string(log).unwrap_or_default());
    assert!(files.iter().all(|f| f.is_empty() || f.ends_with('\n')), "a file ends within a line");
    files.iter().flat_map(|file| file.lines().map(str::to_owned)).collect()
}

/// Lines 0 to `count` are there, in order, each once.
pub(crate) fn assert_lines(log: &Path, count: u64) {
    let lines = kept_lines(log);
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(format!("{line}\n"), line_of(number as u64), "line {number} of {count}");
    }
    assert_eq!(lines.len() as u64, count);
}

/// Context switches of all threads, by themselves and by force.
pub(crate) fn total_switches(pid: u32) -> u64 {
    let mut total = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        total += counts
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum::<u64>();
    }
    total
}

/// Nanoseconds that each thread of a process has had a processor, by its name.
pub(crate) fn busy(pid: u32) -> Vec<(String, u64)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let one = |task: std::fs::DirEntry| {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let times = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let busy = times.split_whitespace().next().and_then(|word| word.parse().ok());
        (name.trim().to_owned(), busy.unwrap_or(0))
    };
    tasks.map(one).collect()
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

/// A mounted file system, for as long as this lives: its folder could not be removed.
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

//! What the tests of this room need: conditions to wait for, and Python processes that use the same
//! file, because a lock is only proved by somebody else.
//!
//! Invariants: every wait has a deadline; a process that was started is killed with its handle.

use super::mutex::Wait;
use crate::mutexes::Waiting;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// Long enough for a busy machine to start a process.
const PATIENCE: Duration = Duration::from_mins(1);
/// The interpreter of the distribution, for which its packages are built.
const PYTHON: &str = "/usr/bin/python3";
const PYTHON_PACKAGES: &str = "/usr/lib/python3/dist-packages";

/// Lines that nobody has asked for yet.
const LINES_MAX: usize = 16;

/// Pauses between two tries.
const PAUSE: Duration = Duration::from_micros(100);

/// As long as a test waits for anything.
pub(crate) fn soon() -> Wait {
    Wait::Until(Instant::now() + PATIENCE)
}

/// In stretches so short that a test meets their ends.
impl Waiting for Wait {
    fn stretch(&mut self) -> Wait {
        let now = Instant::now();
        match *self {
            Wait::Until(deadline) if now < deadline => Wait::Until(deadline.min(now + PAUSE)),
            Wait::No | Wait::Until(_) => Wait::No,
        }
    }

    fn pause(&mut self) -> bool {
        let goes_on = self.stretch() != Wait::No;
        if goes_on {
            std::thread::park_timeout(PAUSE);
        }
        goes_on
    }
}

/// Waits for a condition.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let mut wait = soon();
    while !condition() {
        assert!(wait.pause(), "waited in vain for {what}");
    }
}

/// Whether there is Python; if not, that is said.
pub(crate) fn has_python() -> bool {
    is_here("python3", std::path::Path::new(PYTHON).exists())
}

/// Whether libtdb can be used from Python; if not, that is said.
pub(crate) fn has_libtdb() -> bool {
    let names = std::fs::read_dir(PYTHON_PACKAGES).into_iter().flatten().flatten();
    let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    has_python() && is_here("python3-tdb", names.any(|name| name.starts_with("tdb.cpython-")))
}

fn is_here(package: &str, here: bool) -> bool {
    if !here {
        let required = std::env::var("HOLDFAST_PEERS").is_ok_and(|value| value == "require");
        assert!(!required, "{package} is not installed; `cargo xtask test` names the package");
        eprintln!("skipped: {package} is not installed");
    }
    here
}

/// A Python program that is spoken with by lines.
pub(crate) struct Peer {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Peer {
    /// Starts a script with these arguments.
    pub(crate) fn start<S: AsRef<OsStr>>(script: &str, arguments: &[S]) -> Self {
        let mut command = Command::new(PYTHON);
        command.args(["-u", "-c", script]).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = sync_channel(LINES_MAX);
        // It ends with the child, whose output ends then.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, input, lines }
    }

    /// Says a line.
    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// The next line it says.
    pub(crate) fn hear(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    /// Says a line, and hears one.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear()
    }

    /// Kills it; what it held is nobody's when this returns.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.end();
    }
}

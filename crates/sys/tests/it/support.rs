//! What the tests share: plans, waiting for a condition, reaping, and being somebody else.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use sys::child::{Exit, reap_all};
use sys::spawn::{SpawnPlan, Spawned, Stdin, spawn};

/// Longest wait for anything. Only a failing test ever waits this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for a condition by asking again and again.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// How a child ended. The only place that reaps.
pub(crate) fn wait(pid: u32) -> Exit {
    static REAPED: Mutex<BTreeMap<u32, Exit>> = Mutex::new(BTreeMap::new());
    wait_for(&format!("the end of {pid}"), || {
        let mut reaped = REAPED.lock().unwrap_or_else(PoisonError::into_inner);
        reaped.extend(reap_all());
        reaped.remove(&pid)
    })
}

/// The lowest plan: as us, no output, an environment with PATH only.
pub(crate) fn plan<'fd>(argv: &[&str], output: BorrowedFd<'fd>) -> SpawnPlan<'fd> {
    static PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
    let program = sys::command::resolve(argv[0], PATH, Path::new("/")).unwrap();
    SpawnPlan {
        program,
        argv: argv.iter().map(Into::into).collect(),
        env: vec![("PATH".into(), PATH.into())],
        directory: "/".into(),
        identity: None,
        umask: 0o022,
        nice: 0,
        io_priority: None,
        oom_score_adjust: None,
        rlimits: Vec::new(),
        cgroup: None,
        stdin: Stdin::Null,
        stdout: output,
        stderr: output,
        pass_fds: Vec::new(),
        listen: None,
        new_session: true,
        no_new_privileges: false,
        parent_death_signal: None,
    }
}

/// A place for output.
pub(crate) struct Output {
    directory: tempfile::TempDir,
    file: File,
}

impl Output {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("out")).unwrap();
        Self { directory, file }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("out")).unwrap()
    }

    /// The first line that is complete.
    pub(crate) fn line(&self, what: &str) -> String {
        wait_for(what, || self.text().split_once('\n').map(|(line, _)| line.to_owned()))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Runs a command to its end.
pub(crate) fn run(argv: &[&str], change: impl FnOnce(&mut SpawnPlan<'_>)) -> (Exit, String) {
    let output = Output::new();
    let mut plan = plan(argv, output.fd());
    change(&mut plan);
    let spawned = spawn(&plan).unwrap();
    let exit = wait(spawned.pid);
    (exit, output.text())
}

/// Ends a child that a test has started, and waits for it.
pub(crate) fn kill(spawned: &Spawned) -> Exit {
    sys::pidfd::send_signal(spawned.pidfd.as_fd(), libc::SIGKILL).unwrap();
    wait(spawned.pid)
}

/// A script whose child ends as `ending` says once [`open_gate`] is called, and is then reaped by
/// nobody: its parent has become a program that knows of no child. The child's pid is printed.
pub(crate) fn unreaped_child(gate: &Path, ending: &str) -> String {
    let gate = gate.display();
    format!("mkfifo {gate}; sh -c 'read x < {gate}; {ending}' & echo $!; exec sleep 1000")
}

/// Waits until `parent` is that program, then lets the child end.
pub(crate) fn open_gate(gate: &Path, parent: u32) {
    wait_for("the other program", || {
        sys::proc_fs::command_line(parent).filter(|line| line == "sleep 1000")
    });
    std::fs::write(gate, "go\n").unwrap();
}

/// Orphans of the tests come to us, once and for all.
pub(crate) fn be_subreaper() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| sys::child::become_subreaper().unwrap());
}

/// True as root; otherwise says why the test ends.
pub(crate) fn is_root(test: &str) -> bool {
    let root = sys::users::effective_uid() == 0;
    if !root {
        println!("{test} needs root: skipped");
    }
    root
}

/// Variable that makes the test binary act as a helper process instead of running tests.
pub(crate) const HELPER: &str = "SYS_TEST_HELPER";

/// The plan for this very binary as a helper.
pub(crate) fn helper_plan<'fd>(
    name: &str,
    argument: &str,
    output: BorrowedFd<'fd>,
) -> SpawnPlan<'fd> {
    let exe = std::env::current_exe().unwrap();
    let mut plan = plan(&[exe.to_str().unwrap()], output);
    plan.env.push((HELPER.into(), name.into()));
    plan.env.push(("SYS_TEST_ARGUMENT".into(), argument.into()));
    plan
}

/// Runs before `main`, while there is a single thread: helpers must be able to fork.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    let Ok(name) = std::env::var(HELPER) else { return };
    let argument = std::env::var("SYS_TEST_ARGUMENT").unwrap_or_default();
    let code = match name.as_str() {
        "daemon" => crate::daemon::helper(&argument),
        "pid-file" => crate::daemon::pid_file_helper(&argument),
        "exec" => crate::spawning::exec_helper(&argument),
        "notify" => crate::daemon::notify_helper(),
        "headless" => crate::trees::headless_helper(),
        "sample" => crate::samples::sample_helper(&argument),
        _ => 99,
    };
    std::process::exit(code);
}

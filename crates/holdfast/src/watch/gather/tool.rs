//! Runs a tool that looks at a sick process, with a deadline that holds.
//!
//! Invariants: it is killed with its process group at its deadline, and with all that it started when
//! the duty dies before; at most `bytes_max` of its
//! output are kept; it never reads from the network (debuginfod is switched off for it).

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sys::child::Exit;
use sys::spawn::{SpawnPlan, Stdin, spawn};
use sys::tree::TOKEN_VARIABLE;
use sys::users::Identity;

/// Where tools are looked for.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A killed tool may take so long to end.
const ENDING_MAX: Duration = Duration::from_millis(500);

const SIGKILL: i32 = 9;

/// The number of the `RLIMIT_FSIZE` limit.
const FILE_SIZE: u32 = 1;

/// What has come of a tool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ran {
    /// What it wrote, on standard output and standard error.
    pub(super) output: Vec<u8>,
    /// There was more.
    pub(super) cut: bool,
    /// `None`: it did not end in time, and was killed.
    pub(super) exit: Option<Exit>,
}

/// The file of a program, if it is installed; also looked for in these directories first.
pub(super) fn find(name: &str, first: &[PathBuf]) -> Option<PathBuf> {
    let own = first
        .iter()
        .find_map(|directory| sys::command::resolve(&format!("./{name}"), PATH, directory).ok());
    own.or_else(|| sys::command::resolve(name, PATH, Path::new("/")).ok())
}

/// What is run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    program: PathBuf,
    argv: Vec<String>,
    /// With whose rights; `None`: ours.
    pub(super) identity: Option<Identity>,
    /// The longest file that it may write.
    pub(super) file_bytes_max: Option<u64>,
}

impl Plan {
    pub(super) fn new(program: PathBuf, argv: Vec<String>) -> Self {
        Self { program, argv, identity: None, file_bytes_max: None }
    }
}

/// Runs it. An error: it could not be started.
pub(super) fn run(what: &Plan, deadline: Instant, bytes_max: usize) -> Result<Ran, String> {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| format!("cannot make a pipe: {error}"))?;
    fcntl_setfl(&ours, OFlags::NONBLOCK).map_err(|error| error.to_string())?;
    let env = [("PATH", PATH), ("LC_ALL", "C"), ("HOME", "/"), ("DEBUGINFOD_URLS", "")];
    let env = env.iter().map(|(key, value)| (OsString::from(key), OsString::from(value)));
    // So that what it started is ours as well: should we die, the root ends it before it starts the
    // next duty.
    let token = std::env::var_os(TOKEN_VARIABLE).map(|token| (TOKEN_VARIABLE.into(), token));
    let plan = SpawnPlan {
        program: what.program.clone(),
        argv: what.argv.iter().map(OsString::from).collect(),
        env: env.chain(token).collect(),
        directory: "/".into(),
        identity: what.identity.clone(),
        umask: 0o077,
        nice: 0,
        io_priority: None,
        oom_score_adjust: Some(0),
        rlimits: what.file_bytes_max.map(|bytes| (FILE_SIZE, bytes, bytes)).into_iter().collect(),
        cgroup: None,
        stdin: Stdin::Null,
        stdout: theirs.as_fd(),
        stderr: theirs.as_fd(),
        pass_fds: Vec::new(),
        listen: None,
        new_session: true,
        no_new_privileges: true,
        // This very thread waits for it.
        parent_death_signal: Some(SIGKILL),
    };
    let spawned = spawn(&plan).map_err(|error| error.to_string())?;
    drop(plan);
    drop(theirs);
    let mut ran = Ran { output: Vec::new(), cut: false, exit: None };
    ran.exit = attend(&ours, &spawned.pidfd, deadline, bytes_max, &mut ran);
    if ran.exit.is_none() {
        // Not reaped yet, so that the number of its group can be nobody else's.
        sys::process::kill_group(spawned.pid, SIGKILL);
        attend(&ours, &spawned.pidfd, Instant::now() + ENDING_MAX, bytes_max, &mut ran);
    }
    Ok(ran)
}

/// Reads what it writes until it has ended, or the deadline.
fn attend(
    pipe: &OwnedFd,
    pidfd: &OwnedFd,
    deadline: Instant,
    bytes_max: usize,
    ran: &mut Ran,
) -> Option<Exit> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let (input, end) = (PollFd::new(pipe, PollFlags::IN), PollFd::new(pidfd, PollFlags::IN));
        // Interrupted by a signal, it is asked again. A pipe that everybody has left is ready for
        // ever, so that only the end is waited for.
        let is_open = drain(pipe, bytes_max, ran);
        let mut both = [end, input];
        let waited_for = if is_open { 2 } else { 1 };
        if let Some(waited_for) = both.get_mut(..waited_for) {
            let _ = poll(waited_for, Some(&timeout));
        }
        match sys::child::reap(pidfd.as_fd()) {
            Ok(Some(exit)) => {
                drain(pipe, bytes_max, ran);
                return Some(exit);
            }
            Ok(None) if left.is_zero() => return None,
            Ok(None) => {}
            Err(_) => return Some(Exit::Unknown),
        }
    }
}

/// Takes what is there; `false` once nobody can write any more.
fn drain(pipe: &OwnedFd, bytes_max: usize, ran: &mut Ran) -> bool {
    let mut block = [0; 16 * 1024];
    loop {
        match rustix::io::read(pipe, &mut block) {
            Ok(0) => return false,
            Ok(read) => {
                let room = bytes_max.saturating_sub(ran.output.len()).min(read);
                ran.output.extend_from_slice(block.get(..room).unwrap_or(&[]));
                ran.cut |= room < read;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return true,
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, allowed: Duration, bytes_max: usize) -> Ran {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        let plan = Plan::new(find("sh", &[]).unwrap(), argv);
        run(&plan, Instant::now() + allowed, bytes_max).unwrap()
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn h15_a_tool_is_read_to_its_end_and_no_further_than_allowed() {
        let ran = sh("echo out; echo err >&2; exit 3", LONG, 100);
        assert_eq!((ran.output.as_slice(), ran.cut), (&b"out\nerr\n"[..], false));
        assert_eq!(ran.exit, Some(Exit::Code(3)));
        let ran = sh("head -c 1000000 /dev/zero; exit 0", LONG, 1000);
        assert_eq!((ran.output.len(), ran.cut, ran.exit), (1000, true, Some(Exit::Code(0))));
    }

    #[test]
    fn h15_a_tool_that_hangs_is_killed_with_what_it_started() {
        let ran = sh("echo begun; sleep 1000 & echo $!; wait", Duration::from_millis(300), 100);
        assert_eq!(ran.exit, None);
        let text = String::from_utf8(ran.output).unwrap();
        let Some(child) = text.lines().nth(1).and_then(|line| line.parse().ok()) else { return };
        let deadline = Instant::now() + LONG;
        while sys::proc_fs::stat(child).is_ok_and(|stat| stat.is_alive()) {
            assert!(Instant::now() < deadline, "its child lives on");
            std::thread::park_timeout(Duration::from_millis(2));
        }
        // One that has closed its output and hangs is no busy loop and no trap either.
        let ran = sh("exec >/dev/null 2>&1; sleep 1000", Duration::from_millis(100), 100);
        assert_eq!(ran.exit, None);
    }

    #[test]
    fn a_tool_is_found_beside_the_program_first() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("sh");
        std::fs::write(&own, "x").unwrap();
        let beside = [directory.path().to_owned()];
        assert_eq!(find("sh", &beside), find("sh", &[]), "it can't be executed");
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).unwrap();
        let found = find("sh", &beside).unwrap();
        assert_eq!(found.canonicalize().unwrap(), own.canonicalize().unwrap());
        assert_eq!(find("no-such-tool", &beside), None);
    }
}

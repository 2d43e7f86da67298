//! Our own process: limits, signals, and becoming another program.
//!
//! Invariant (C5): what is raised here for ourselves is taken back for every program that we
//! execute; `spawn` asks `original_nofile_limit`.
//! Source: getrlimit(2), execve(2), signal(7).

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

pub use crate::inherit::inherited_fds;

/// Variables that are a message to us and to nobody else.
const OWN_VARIABLES: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "HOLDFAST_FDS",
];

/// The limit on open descriptors as we found it: soft, hard. `u64::MAX` stands for none.
static ORIGINAL_NOFILE: OnceLock<(u64, u64)> = OnceLock::new();

/// Ends with our parent: this signal comes when the thread that started us ends. 0 undoes it.
pub fn set_parent_death_signal(signal: i32) {
    // SAFETY: this prctl takes a plain number and touches no memory; a wrong number is refused.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) };
}

/// Raises our soft limit on open descriptors to the hard one; gives both as they are now.
/// What we execute gets the former one again.
pub fn raise_nofile_limit() -> (u64, u64) {
    let (soft, hard) = nofile_limit();
    ORIGINAL_NOFILE.get_or_init(|| (soft, hard));
    set_nofile_limit(hard, hard);
    nofile_limit()
}

/// The limit that programs started by us get unless they ask for another one; `None` if ours was
/// never raised.
pub(crate) fn original_nofile_limit() -> Option<(u64, u64)> {
    ORIGINAL_NOFILE.get().copied()
}

/// Becomes another program with the same pid and the same children. Returns only on failure.
///
/// Of our descriptors only 0 to 2, those of `keep` (under their present numbers) and whatever was
/// open without CLOEXEC go along. `args` begins with the name of the program; `env` is complete.
pub fn exec_in_place(
    program: &Path,
    args: &[OsString],
    keep: &[BorrowedFd<'_>],
    env: &[(OsString, OsString)],
) -> io::Error {
    let texts = CString::new(program.as_os_str().as_bytes()).and_then(|program| {
        let args: Result<Vec<_>, _> = args.iter().map(|arg| CString::new(arg.as_bytes())).collect();
        let pair = |(key, value): &(OsString, OsString)| {
            CString::new([key.as_bytes(), b"=", value.as_bytes()].concat())
        };
        let env: Result<Vec<_>, _> = env.iter().map(pair).collect();
        Ok((program, args?, env?))
    });
    let Ok((program, args, env)) = texts else {
        return io::Error::new(io::ErrorKind::InvalidInput, "an argument contains a zero byte");
    };
    let (argv, envp) = (pointers(&args), pointers(&env));
    for fd in keep {
        set_cloexec(*fd, false);
    }
    let raised = nofile_limit();
    if let Some((soft, hard)) = original_nofile_limit() {
        set_nofile_limit(soft, hard);
    }
    let former_mask = set_signal_mask(0);
    // SAFETY: both arrays end with a null pointer and, like the texts, live through the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    let error = io::Error::last_os_error();
    // It did not work: we go on as before.
    set_signal_mask(former_mask);
    set_nofile_limit(raised.0, raised.1);
    for fd in keep {
        set_cloexec(*fd, true);
    }
    error
}

/// Sends a signal to a process by its number. Only for a pid that we know to be taken by a process
/// of ours; anything else belongs to `pidfd`. Failures are ignored: the process is gone.
pub fn kill(pid: u32, signal: i32) {
    if let Some(pid) = i32::try_from(pid).ok().filter(|pid| 0 < *pid) {
        // SAFETY: kill takes plain numbers; a positive pid means one single process.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Sends a signal to the process group that a process leads. Only for a leader that we started
/// and have not reaped: its number can't be anybody else's.
pub fn kill_group(leader: u32, signal: i32) {
    if let Some(leader) = i32::try_from(leader).ok().filter(|leader| 1 < *leader) {
        // SAFETY: killpg takes plain numbers; a group above 1 is not everybody.
        unsafe { libc::killpg(leader, signal) };
    }
}

/// True if a process with this pid exists (it may have ended and not be reaped).
pub fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| {
        !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
    })
}

/// A peer that closes its end is an error of the write, not our death.
pub fn ignore_sigpipe() {
    // SAFETY: ignoring a signal runs no code of ours in a handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Our environment without the variables that are a message to ourselves (C5).
pub fn environment_snapshot_clean() -> Vec<(OsString, OsString)> {
    let own = |key: &OsString| OWN_VARIABLES.iter().any(|own| key == own);
    std::env::vars_os().filter(|(key, _)| !own(key)).collect()
}

/// Names of signals, in the order of their numbers on every Linux that we support.
const SIGNALS: [(i32, &str); 31] = [
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGTRAP, "SIGTRAP"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGPIPE, "SIGPIPE"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGSTKFLT, "SIGSTKFLT"),
    (libc::SIGCHLD, "SIGCHLD"),
    (libc::SIGCONT, "SIGCONT"),
    (libc::SIGSTOP, "SIGSTOP"),
    (libc::SIGTSTP, "SIGTSTP"),
    (libc::SIGTTIN, "SIGTTIN"),
    (libc::SIGTTOU, "SIGTTOU"),
    (libc::SIGURG, "SIGURG"),
    (libc::SIGXCPU, "SIGXCPU"),
    (libc::SIGXFSZ, "SIGXFSZ"),
    (libc::SIGVTALRM, "SIGVTALRM"),
    (libc::SIGPROF, "SIGPROF"),
    (libc::SIGWINCH, "SIGWINCH"),
    (libc::SIGIO, "SIGIO"),
    (libc::SIGPWR, "SIGPWR"),
    (libc::SIGSYS, "SIGSYS"),
];

/// The name of a signal: `SIGTERM`; `SIGRT` for every real-time one.
pub fn signal_name(signal: i32) -> &'static str {
    let found = SIGNALS.iter().find(|(number, _)| *number == signal);
    match found {
        Some((_, name)) => name,
        None if (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&signal) => "SIGRT",
        None => "unknown signal",
    }
}

/// The number of `TERM`, `SIGTERM`, `15`, `SIGRTMIN+3`, in any case of letters.
pub fn signal_number(text: &str) -> Option<i32> {
    let text = text.trim().to_ascii_uppercase();
    let last = libc::SIGRTMAX();
    if let Ok(number) = text.parse::<i32>() {
        return (1..=last).contains(&number).then_some(number);
    }
    let bare = text.strip_prefix("SIG").unwrap_or(&text);
    if let Some(offset) = bare.strip_prefix("RTMIN") {
        let offset =
            if offset.is_empty() { Some(0) } else { offset.strip_prefix('+')?.parse().ok() };
        let number = offset.filter(|offset| (0..=last).contains(offset))? + libc::SIGRTMIN();
        return (number <= last).then_some(number);
    }
    let found = SIGNALS.iter().find(|(_, name)| name.strip_prefix("SIG") == Some(bare));
    found.map(|(number, _)| *number)
}

/// While this lives, the thread that made it takes no signals that are sent to the process, nor do
/// threads that it starts: those never take any.
#[derive(Debug)]
pub struct SignalsLeftToOthers {
    former: u64,
}

/// Leaves signals to others, for now: see [`SignalsLeftToOthers`]. The kernel wakes a thread for
/// each signal, and for the end of a child it prefers the one that made it.
pub fn leave_signals_to_others() -> SignalsLeftToOthers {
    // What a thread causes by a fault of its own must reach it.
    let own = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGSYS,
    ];
    let own = own.iter().fold(0_u64, |mask, signal| mask | 1 << (signal - 1));
    SignalsLeftToOthers { former: set_signal_mask(!own) }
}

impl Drop for SignalsLeftToOthers {
    fn drop(&mut self) {
        set_signal_mask(self.former);
    }
}

/// Sets the mask of this thread to exactly these bits, also for the signals that the C library
/// keeps for itself; gives the former one.
pub(crate) fn set_signal_mask(mask: u64) -> u64 {
    let mut former = 0_u64;
    // SAFETY: both point to the eight bytes that the kernel's signal set has, as told in the last
    // argument.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut former,
            size_of::<u64>(),
        );
    }
    former
}

/// Pointers to texts, ended by a null one, as execve(2) wants them.
pub(crate) fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

fn nofile_limit() -> (u64, u64) {
    let limit = getrlimit(Resource::Nofile);
    (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
}

fn set_nofile_limit(soft: u64, hard: u64) {
    let bound = |value: u64| (value != u64::MAX).then_some(value);
    // Refused only if somebody lowered the hard limit meanwhile: then the present one stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: bound(soft), maximum: bound(hard) });
}

fn set_cloexec(fd: BorrowedFd<'_>, wanted: bool) {
    let flags = if wanted { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: the descriptor is open as long as it is borrowed, and the argument is a number.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, flags) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_read_back_as_they_are_named() {
        for (number, name) in SIGNALS {
            assert_eq!(signal_name(number), name);
            assert_eq!(signal_number(name), Some(number));
            assert_eq!(signal_number(&name[3..].to_ascii_lowercase()), Some(number));
            assert_eq!(signal_number(&number.to_string()), Some(number));
        }
        assert_eq!(signal_number("SIGRTMIN+3"), Some(libc::SIGRTMIN() + 3));
        assert_eq!(signal_name(libc::SIGRTMIN()), "SIGRT");
        for bad in ["", "0", "-9", "65", "SIG", "NOPE", "RTMIN+99", "RTMIN+", "99999999999"] {
            assert_eq!(signal_number(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_failed_exec_leaves_us_as_we_were() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let keep = std::os::fd::AsFd::as_fd(&file);
        let before = set_signal_mask(0);
        set_signal_mask(1 << 11);
        let error = exec_in_place(Path::new("/nonexistent"), &["x".into()], &[keep], &[]);
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        assert_eq!(set_signal_mask(before), 1 << 11);
        // SAFETY: asks for the flags of a descriptor that is open.
        let flags = unsafe { libc::fcntl(keep.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags, libc::FD_CLOEXEC);
    }
}

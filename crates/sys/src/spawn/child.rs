//! What the new process does between clone(2) and execve(2).
//!
//! It runs in the daemon's memory, beside the daemon's other threads, so: no allocation, no lock,
//! no panic, no library call that could do any of these; only system calls on what lies prepared.
//! The error number that the calls leave behind is that of the waiting parent thread, which does not
//! look at it before it is through.
//!
//! | step | why here |
//! |---|---|
//! | signals to default | no handler of ours may ever run in the child |
//! | session, cgroup | before anything can fork or count |
//! | oom score, scheduler, nice, io | may need privileges that the identity lacks |
//! | descriptors | before limits could forbid to copy them |
//! | limits | may need privileges |
//! | groups, group, user | from here on as the service's user |
//! | umask, death signal, no new privileges, directory | the change of user resets the second |
//! | empty signal mask, exec | last, so that a signal finds default dispositions |

use super::error::{Failure, SpawnStage};
use crate::users::Identity;
use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

/// `LISTEN_PID=`, ten digits, and the zero byte.
pub(super) const LISTEN_PID_BYTES: usize = 22;

/// What it looks like before the child writes its number.
pub(super) const LISTEN_PID_TEMPLATE: [u8; LISTEN_PID_BYTES] = *b"LISTEN_PID=0000000000\0";

/// Where the digits begin.
const LISTEN_PID_PREFIX: usize = 11;

/// The exit code of a child that could not execute; nobody sees it but [`super::reap`].
const FAILED: i32 = 127;

/// The highest signal number of Linux.
const SIGNAL_MAX: i32 = 64;

/// The eight bytes of a signal set, as the kernel counts them.
const SIGNAL_SET_BYTES: usize = 8;

/// Everything the child needs, laid out by the parent.
pub(super) struct Prepared<'plan> {
    pub(super) program: *const libc::c_char,
    pub(super) argv: *const *const libc::c_char,
    pub(super) envp: *const *const libc::c_char,
    /// Room of [`LISTEN_PID_BYTES`].
    pub(super) listen_pid: *mut u8,
    pub(super) directory: *const libc::c_char,
    pub(super) cgroup_procs: &'plan [CString],
    /// They become 0, 1, 2, …
    pub(super) fds: &'plan [RawFd],
    /// As long as `fds`: where each of them lies meanwhile.
    pub(super) moved: UnsafeCell<Vec<RawFd>>,
    pub(super) rlimits: &'plan [(u32, libc::rlimit64)],
    pub(super) identity: Option<&'plan Identity>,
    pub(super) umask: u32,
    pub(super) nice: i32,
    pub(super) io_priority: Option<(u8, u8)>,
    pub(super) oom_score_adjust: i32,
    pub(super) new_session: bool,
    pub(super) no_new_privileges: bool,
    pub(super) parent_death_signal: Option<i32>,
    pub(super) parent: u32,
    pub(super) report: Report,
}

/// The child's word to its parent, in the memory that both see.
pub(super) struct Report {
    stage: Cell<SpawnStage>,
    errno: Cell<i32>,
}

impl Default for Report {
    fn default() -> Self {
        Self { stage: Cell::new(SpawnStage::Clone), errno: Cell::new(0) }
    }
}

impl Report {
    /// What failed, if the child said so.
    pub(super) fn failure(&self) -> Option<Failure> {
        // SAFETY: a plain read of our own field; volatile, as another process has written it.
        let errno = unsafe { self.errno.as_ptr().read_volatile() };
        (errno != 0).then(|| Failure::new(self.stage(), errno))
    }

    /// How far the child came.
    pub(super) fn stage(&self) -> SpawnStage {
        // SAFETY: as above; only whole values of the type are ever written.
        unsafe { self.stage.as_ptr().read_volatile() }
    }

    fn begin(&self, stage: SpawnStage) {
        // SAFETY: the parent does not touch the field while the child lives in its memory.
        unsafe { self.stage.as_ptr().write_volatile(stage) };
    }

    fn fail(&self, errno: i32) {
        // SAFETY: as above.
        unsafe { self.errno.as_ptr().write_volatile(errno) };
    }
}

/// The number of the last failed call of this thread.
pub(super) fn errno() -> i32 {
    // SAFETY: the C library's pointer to the thread's own error number is always valid.
    unsafe { *libc::__errno_location() }
}

/// The child's whole life in our program.
pub(super) extern "C" fn run(argument: *mut libc::c_void) -> i32 {
    // SAFETY: the parent passes a pointer to its `Prepared`, and waits until we are through.
    let prepared = unsafe { &*argument.cast::<Prepared<'_>>() };
    if let Err(Refused(errno)) = run_steps(prepared) {
        // 0 would be taken for success.
        prepared.report.fail(if errno == 0 { libc::EIO } else { errno });
    }
    // SAFETY: ends this process without running anything of the daemon's on the way.
    unsafe { libc::_exit(FAILED) }
}

/// The error number of a step that failed.
struct Refused(i32);

fn run_steps(plan: &Prepared<'_>) -> Result<(), Refused> {
    reset_signals();
    plan.report.begin(SpawnStage::Session);
    if plan.new_session {
        call(libc::SYS_setsid, [0; 4])?;
    }
    plan.report.begin(SpawnStage::Cgroup);
    for path in plan.cgroup_procs {
        write_file(path, b"0")?;
    }
    set_priorities(plan)?;
    plan.report.begin(SpawnStage::Descriptors);
    place_descriptors(plan)?;
    for (which, limit) in plan.rlimits {
        plan.report.begin(SpawnStage::Rlimit(*which));
        let limit = std::ptr::from_ref(limit) as i64;
        call(libc::SYS_prlimit64, [0, i64::from(*which), limit, 0])?;
    }
    switch_identity(plan)?;
    call(libc::SYS_umask, [i64::from(plan.umask), 0, 0, 0])?;
    watch_parent(plan)?;
    plan.report.begin(SpawnStage::NoNewPrivileges);
    if plan.no_new_privileges {
        call(libc::SYS_prctl, [i64::from(libc::PR_SET_NO_NEW_PRIVS), 1, 0, 0])?;
    }
    plan.report.begin(SpawnStage::Directory);
    call(libc::SYS_chdir, [plan.directory as i64, 0, 0, 0])?;
    write_listen_pid(plan)?;
    plan.report.begin(SpawnStage::Exec);
    let empty: u64 = 0;
    let set = std::ptr::from_ref(&empty) as i64;
    let bytes = SIGNAL_SET_BYTES as i64;
    call(libc::SYS_rt_sigprocmask, [i64::from(libc::SIG_SETMASK), set, 0, bytes])?;
    call(libc::SYS_execve, [plan.program as i64, plan.argv as i64, plan.envp as i64, 0])?;
    Ok(())
}

/// One system call; pointers travel as numbers.
fn call(number: libc::c_long, with: [i64; 4]) -> Result<i64, Refused> {
    // SAFETY: each caller above passes what that call expects, and pointers to prepared memory that
    // lives until the child is through.
    // The last two are zero for all of them; prctl(2) refuses anything else.
    let result = unsafe { libc::syscall(number, with[0], with[1], with[2], with[3], 0_i64, 0_i64) };
    if result < 0 { Err(Refused(errno())) } else { Ok(result) }
}

/// execve(2) resets handlers but leaves ignored signals ignored, so each is set here. Those of the
/// C library, too, which its own functions refuse to touch.
fn reset_signals() {
    // Handler `SIG_DFL`, no flags, no restorer, empty mask: all zeroes in every layout.
    let default = [0_u64; 4];
    let mut signal = 1;
    while signal <= SIGNAL_MAX {
        let action = std::ptr::from_ref(&default) as i64;
        // SIGKILL and SIGSTOP refuse; they can't be ignored either.
        let _ = call(libc::SYS_rt_sigaction, [signal.into(), action, 0, SIGNAL_SET_BYTES as i64]);
        signal += 1;
    }
}

/// What is as it is by default must not fail for want of a privilege; what was asked for must.
fn set_priorities(plan: &Prepared<'_>) -> Result<(), Refused> {
    plan.report.begin(SpawnStage::OomScore);
    let mut digits = [0_u8; 12];
    let text = signed_digits(plan.oom_score_adjust, &mut digits);
    let written = write_file(c"/proc/self/oom_score_adj", text);
    tolerate(written, plan.oom_score_adjust == 0)?;

    plan.report.begin(SpawnStage::Scheduler);
    let parameter: libc::c_int = 0;
    let parameter = std::ptr::from_ref(&parameter) as i64;
    let normal = [0, i64::from(libc::SCHED_OTHER), parameter, 0];
    tolerate(call(libc::SYS_sched_setscheduler, normal).map(drop), true)?;

    plan.report.begin(SpawnStage::Nice);
    let own = i64::from(libc::PRIO_PROCESS);
    let niced = call(libc::SYS_setpriority, [own, 0, plan.nice.into(), 0]);
    tolerate(niced.map(drop), plan.nice == 0)?;

    plan.report.begin(SpawnStage::IoPriority);
    let (class, level) = plan.io_priority.unwrap_or((0, 0));
    let value = i64::from(class) << 13 | i64::from(level);
    let own = 1;
    tolerate(call(libc::SYS_ioprio_set, [own, 0, value, 0]).map(drop), class == 0)
}

fn tolerate(result: Result<(), Refused>, may_fail: bool) -> Result<(), Refused> {
    if may_fail { Ok(()) } else { result }
}

/// First everything that lies in the range to be filled is copied above it, then each is put in its
/// place, then the rest is closed.
fn place_descriptors(plan: &Prepared<'_>) -> Result<(), Refused> {
    let count = plan.fds.len() as i64;
    // SAFETY: the parent gives this vector to the child alone, and waits meanwhile.
    let moved = unsafe { &mut *plan.moved.get() };
    for fd in moved.iter_mut() {
        if i64::from(*fd) < count {
            let copy = [i64::from(*fd), i64::from(libc::F_DUPFD_CLOEXEC), count, 0];
            *fd = i32::try_from(call(libc::SYS_fcntl, copy)?).unwrap_or(-1);
        }
    }
    for (target, fd) in (0..).zip(moved.iter()) {
        // The copy has no CLOEXEC; the two are never the same number.
        call(libc::SYS_dup3, [i64::from(*fd), target, 0, 0])?;
    }
    call(libc::SYS_close_range, [count, i64::from(u32::MAX), 0, 0])?;
    Ok(())
}

fn switch_identity(plan: &Prepared<'_>) -> Result<(), Refused> {
    let Some(identity) = plan.identity else { return Ok(()) };
    plan.report.begin(SpawnStage::Groups);
    let groups = identity.groups.as_ptr() as i64;
    call(libc::SYS_setgroups, [identity.groups.len() as i64, groups, 0, 0])?;
    plan.report.begin(SpawnStage::Group);
    let gid = i64::from(identity.gid);
    call(libc::SYS_setresgid, [gid, gid, gid, 0])?;
    plan.report.begin(SpawnStage::User);
    let uid = i64::from(identity.uid);
    call(libc::SYS_setresuid, [uid, uid, uid, 0])?;
    Ok(())
}

/// Asks for the signal, then looks whether the parent is still there to cause it.
fn watch_parent(plan: &Prepared<'_>) -> Result<(), Refused> {
    let Some(signal) = plan.parent_death_signal else { return Ok(()) };
    plan.report.begin(SpawnStage::ParentDeathSignal);
    call(libc::SYS_prctl, [i64::from(libc::PR_SET_PDEATHSIG), signal.into(), 0, 0])?;
    if call(libc::SYS_getppid, [0; 4])? != i64::from(plan.parent) {
        return Err(Refused(libc::ESRCH));
    }
    Ok(())
}

fn write_file(path: &CStr, text: &[u8]) -> Result<(), Refused> {
    let flags = i64::from(libc::O_WRONLY | libc::O_CLOEXEC);
    let fd = call(libc::SYS_openat, [libc::AT_FDCWD.into(), path.as_ptr() as i64, flags, 0])?;
    let written = call(libc::SYS_write, [fd, text.as_ptr() as i64, text.len() as i64, 0]);
    let _ = call(libc::SYS_close, [fd, 0, 0, 0]);
    written.map(drop)
}

/// The program must find its own pid there, or it ignores the descriptors (sd_listen_fds(3)).
fn write_listen_pid(plan: &Prepared<'_>) -> Result<(), Refused> {
    let mut digits = [0_u8; 12];
    let pid = i32::try_from(call(libc::SYS_getpid, [0; 4])?).unwrap_or(0);
    let text = signed_digits(pid, &mut digits);
    for (at, byte) in (LISTEN_PID_PREFIX..LISTEN_PID_BYTES).zip(text.iter().chain([&0])) {
        // SAFETY: the room has LISTEN_PID_BYTES, and only the child writes into it now.
        unsafe { plan.listen_pid.add(at).write(*byte) };
    }
    Ok(())
}

/// The decimal digits of a number; formatting of the standard library is not for this process.
fn signed_digits(number: i32, room: &mut [u8; 12]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut at = room.len();
    loop {
        at = at.saturating_sub(1);
        if let Some(place) = room.get_mut(at) {
            *place = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at = at.saturating_sub(1);
        if let Some(place) = room.get_mut(at) {
            *place = b'-';
        }
    }
    room.get(at..).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_written_as_the_library_writes_them() {
        for number in [0, 1, 9, 10, -1, -1000, 4_194_304, i32::MAX, i32::MIN] {
            let mut room = [0; 12];
            assert_eq!(signed_digits(number, &mut room), number.to_string().as_bytes());
        }
    }
}

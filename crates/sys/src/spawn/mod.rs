//! Executing a program: fast, complete, and with nothing of ours in it.
//!
//! Why not fork(2): it copies page tables, so its cost grows with the daemon (C7), and the copy runs
//! in a process whose other threads have vanished. Here clone(2) with `CLONE_VM | CLONE_VFORK` lends
//! our memory to the child until it has executed its program; the calling thread waits meanwhile.
//!
//! Invariants: the child allocates nothing, takes no lock and makes raw system calls only
//! (`child.rs`); it sees of ours only what the plan names (C5); a spawn that fails leaves no process
//! and no zombie, and is never seen by [`crate::child::reap_all`].
//! Source: clone(2), vfork(2), execve(2), sd_listen_fds(3).

mod child;
mod error;

pub use error::{SpawnError, SpawnStage};

use crate::process::{original_nofile_limit, pointers, set_signal_mask};
use crate::users::{self, Identity};
use child::{Prepared, Report};
use error::Failure;
use std::cell::UnsafeCell;
use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The child's stack until it executes: it calls a few shallow functions and execve(2).
const STACK_BYTES: usize = 64 * 1024;

/// Most descriptors that can be passed to one program.
pub const PASS_FDS_MAX: usize = 256;

/// The number of the `RLIMIT_NOFILE` limit.
const NOFILE: u32 = 7;

/// Where the program reads from.
#[derive(Debug)]
pub enum Stdin {
    /// Nothing: /dev/null.
    Null,
    /// This descriptor.
    Fd(OwnedFd),
}

/// Everything about a program to be executed.
#[derive(Debug)]
pub struct SpawnPlan<'fd> {
    /// The file; absolute, or relative to `directory`. Already found by [`crate::command::resolve`].
    pub program: PathBuf,
    /// Its arguments, beginning with its own name.
    pub argv: Vec<OsString>,
    /// Its whole environment: nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Where it runs. Entered with the rights of `identity`.
    pub directory: PathBuf,
    /// Whom it runs as; `None`: as we do.
    pub identity: Option<Identity>,
    /// File mode bits that it can't give by default.
    pub umask: u32,
    /// -20 (urgent) to 19.
    pub nice: i32,
    /// Class (1 real-time, 2 best effort, 3 idle) and level (0 to 7) of ioprio_set(2).
    pub io_priority: Option<(u8, u8)>,
    /// -1000 (never killed when memory runs out) to 1000; `None` is 0.
    pub oom_score_adjust: Option<i32>,
    /// `RLIMIT_` number, soft limit, hard limit; `u64::MAX` is none.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// Files into which the child writes its pid, as `0`, before it drops privileges.
    pub cgroup_procs: Vec<PathBuf>,
    /// Descriptor 0.
    pub stdin: Stdin,
    /// Descriptor 1.
    pub stdout: BorrowedFd<'fd>,
    /// Descriptor 2.
    pub stderr: BorrowedFd<'fd>,
    /// Become 3, 4, … in this order, at most [`PASS_FDS_MAX`]. All others are closed.
    pub pass_fds: Vec<BorrowedFd<'fd>>,
    /// Names of the first of `pass_fds`, told to the program by the LISTEN_FDS protocol.
    pub listen: Option<Vec<String>>,
    /// A session and process group of its own, without a terminal.
    pub new_session: bool,
    /// It can never gain privileges, as by a set-user-ID file.
    pub no_new_privileges: bool,
    /// It gets this signal when the thread that spawned it ends.
    pub parent_death_signal: Option<i32>,
}

/// A program that has been executed.
#[derive(Debug)]
pub struct Spawned {
    /// Its process.
    pub pid: u32,
    /// A hold on it.
    pub pidfd: OwnedFd,
}

/// Executes the program. Returns after execve(2) has succeeded or anything has failed.
///
/// May block as long as opening the program and entering its directory does.
pub fn spawn(plan: &SpawnPlan<'_>) -> Result<Spawned, SpawnError> {
    let failed = |failure: Failure| SpawnError::new(plan, failure);
    let texts = Texts::of(plan).map_err(failed)?;
    let null = match &plan.stdin {
        Stdin::Null => Some(open_null().map_err(failed)?),
        Stdin::Fd(_) => None,
    };
    let stdin = match (&plan.stdin, &null) {
        (Stdin::Fd(fd), _) | (Stdin::Null, Some(fd)) => fd.as_raw_fd(),
        (Stdin::Null, None) => return Err(failed(Failure::new(SpawnStage::Prepare, libc::EBADF))),
    };
    let standard = [stdin, plan.stdout.as_raw_fd(), plan.stderr.as_raw_fd()];
    let mut fds: Vec<RawFd> = standard.to_vec();
    fds.extend(plan.pass_fds.iter().map(AsRawFd::as_raw_fd));
    let stack = Stack::new().map_err(failed)?;

    let prepared = Prepared {
        program: texts.program.as_ptr(),
        argv: texts.argv.as_ptr(),
        envp: texts.envp.as_ptr(),
        listen_pid: texts.listen_pid.get().cast(),
        directory: texts.directory.as_ptr(),
        cgroup_procs: &texts.cgroup_procs,
        fds: &fds,
        // Written only by the child, to step out of the way of the numbers it has to fill.
        moved: UnsafeCell::new(fds.clone()),
        rlimits: &rlimits(plan),
        identity: plan.identity.as_ref().filter(|identity| switches(identity)),
        umask: plan.umask,
        nice: plan.nice,
        io_priority: plan.io_priority,
        oom_score_adjust: plan.oom_score_adjust.unwrap_or(0),
        new_session: plan.new_session,
        no_new_privileges: plan.no_new_privileges,
        parent_death_signal: plan.parent_death_signal,
        parent: std::process::id(),
        report: Report::default(),
    };
    let spawned = clone_child(&prepared, &stack).map_err(failed)?;
    match prepared.report.failure() {
        None if !died_before_exec(&spawned) => {
            crate::tree::remember_spawned(&plan.env);
            Ok(spawned)
        }
        None => Err(failed(Failure::new(prepared.report.stage(), libc::EINTR))),
        Some(failure) => {
            reap(&spawned);
            Err(failed(failure))
        }
    }
}

/// Lends our memory to a new process until it has executed or ended.
fn clone_child(prepared: &Prepared<'_>, stack: &Stack) -> Result<Spawned, Failure> {
    let mut pidfd: RawFd = -1;
    // No signal at the child's end until it has executed its program (which sets it to SIGCHLD):
    // a child that fails before is reaped here and by nobody else.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;
    // While the child runs in our memory, no handler of ours may run in it.
    let former = set_signal_mask(u64::MAX);
    // SAFETY: `child::run` gets a pointer to `prepared`, which outlives the child's use of it, as
    // this thread does not go on before the child has executed or ended (CLONE_VFORK). The child
    // has a stack of its own and keeps to async-signal-safe system calls. CLONE_PIDFD writes one
    // descriptor to `pidfd`.
    let pid = unsafe {
        libc::clone(
            child::run,
            stack.top(),
            flags,
            std::ptr::from_ref(prepared).cast_mut().cast(),
            &raw mut pidfd,
        )
    };
    let errno = child::errno();
    set_signal_mask(former);
    match u32::try_from(pid) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(pid) => Ok(Spawned { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
        Err(_) => Err(Failure::new(SpawnStage::Clone, errno)),
    }
}

/// True, and reaped, if the child was killed before it could execute or report. Only a child that
/// has not executed yet is found by `__WCLONE`, see above.
fn died_before_exec(spawned: &Spawned) -> bool {
    let id = spawned.pidfd.as_raw_fd().unsigned_abs();
    let options = libc::WEXITED | libc::WNOHANG | libc::__WCLONE;
    matches!(crate::child::wait_for(libc::P_PIDFD, id, options), Ok(Some(_)))
}

fn reap(spawned: &Spawned) {
    let id = spawned.pidfd.as_raw_fd().unsigned_abs();
    // It has ended already, or is about to: its last act was to report.
    let _ = crate::child::wait_for(libc::P_PIDFD, id, libc::WEXITED | libc::__WCLONE);
}

/// Without privileges, "as the user that we are" is nothing that needs a switch, and must not fail.
fn switches(identity: &Identity) -> bool {
    let here = (users::effective_uid(), rustix::process::getegid().as_raw());
    here.0 == 0 || here != (identity.uid, identity.gid)
}

/// The plan's limits, and ours on descriptors as it was before we raised it (C5).
fn rlimits(plan: &SpawnPlan<'_>) -> Vec<(u32, libc::rlimit64)> {
    let asked = plan.rlimits.iter().copied();
    let named = plan.rlimits.iter().any(|(which, ..)| *which == NOFILE);
    let ours = original_nofile_limit().filter(|_| !named);
    asked
        .chain(ours.map(|(soft, hard)| (NOFILE, soft, hard)))
        .map(|(which, soft, hard)| (which, libc::rlimit64 { rlim_cur: soft, rlim_max: hard }))
        .collect()
}

fn open_null() -> Result<OwnedFd, Failure> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())
        .map_err(|error| Failure::new(SpawnStage::Prepare, error.raw_os_error()))
}

/// All texts that the child needs, in the form that system calls want.
struct Texts {
    program: CString,
    directory: CString,
    cgroup_procs: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    /// `LISTEN_PID=` and room for the number, which only the child knows.
    listen_pid: Box<UnsafeCell<[u8; child::LISTEN_PID_BYTES]>>,
    /// What `argv` and `envp` point to.
    _owned: [Vec<CString>; 2],
}

impl Texts {
    fn of(plan: &SpawnPlan<'_>) -> Result<Self, Failure> {
        let invalid = |_| Failure::new(SpawnStage::Prepare, libc::EINVAL);
        if PASS_FDS_MAX < plan.pass_fds.len() {
            return Err(Failure::new(SpawnStage::Prepare, libc::EMFILE));
        }
        let text = |bytes: &[u8]| CString::new(bytes).map_err(invalid);
        let argv: Vec<CString> =
            plan.argv.iter().map(|word| text(word.as_bytes())).collect::<Result<_, _>>()?;
        let mut env = Vec::with_capacity(plan.env.len() + 3);
        for (key, value) in &plan.env {
            env.push(text(&[key.as_bytes(), b"=", value.as_bytes()].concat())?);
        }
        if let Some(names) = &plan.listen {
            env.push(text(format!("LISTEN_FDS={}", names.len()).as_bytes())?);
            env.push(text(format!("LISTEN_FDNAMES={}", names.join(":")).as_bytes())?);
        }
        let cgroup_procs = plan.cgroup_procs.iter().map(|path| text(path.as_os_str().as_bytes()));
        let listen_pid = Box::new(UnsafeCell::new(child::LISTEN_PID_TEMPLATE));
        let argv_pointers = pointers(&argv);
        let mut envp = pointers(&env);
        if plan.listen.is_some() {
            // The last pointer is the null that ends the list.
            envp.insert(env.len(), listen_pid.get().cast_const().cast());
        }
        Ok(Self {
            program: text(plan.program.as_os_str().as_bytes())?,
            directory: text(plan.directory.as_os_str().as_bytes())?,
            cgroup_procs: cgroup_procs.collect::<Result<_, _>>()?,
            argv: argv_pointers,
            envp,
            listen_pid,
            _owned: [argv, env],
        })
    }
}

/// A stack for the child, with a page below it that no one may touch: an overflow ends the child
/// instead of writing into our memory.
struct Stack {
    base: *mut libc::c_void,
    bytes: usize,
}

impl Stack {
    fn new() -> Result<Self, Failure> {
        let guard = usize::try_from(crate::proc_fs::page_size()).unwrap_or(65_536);
        let bytes = STACK_BYTES + guard;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new private mapping wherever the kernel likes; nothing of ours is replaced.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(Failure::new(SpawnStage::Clone, child::errno()));
        }
        let stack = Self { base, bytes };
        // SAFETY: the first page of the mapping that we have just made, which nobody uses yet.
        if unsafe { libc::mprotect(base, guard, libc::PROT_NONE) } != 0 {
            return Err(Failure::new(SpawnStage::Clone, child::errno()));
        }
        Ok(stack)
    }

    /// Stacks grow downwards. Both page sizes and the stack's are multiples of 16, as the ABI wants.
    fn top(&self) -> *mut libc::c_void {
        self.base.wrapping_byte_add(self.bytes)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping; the child that used it has executed or ended.
        unsafe { libc::munmap(self.base, self.bytes) };
    }
}

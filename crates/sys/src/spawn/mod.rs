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
mod clone;
mod error;

pub use error::{SpawnError, SpawnStage};

use crate::cgroup;
use crate::process::{original_nofile_limit, pointers};
use crate::users::{self, Identity};
use child::{Prepared, Report};
use error::Failure;
use std::cell::UnsafeCell;
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Most descriptors that can be passed to one program.
pub const PASS_FDS_MAX: usize = 256;

/// Stands for: it was killed before it executed.
const KILLED: i32 = libc::EINTR;

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
    /// The control group that it is born in, or enters before it drops privileges.
    pub cgroup: Option<cgroup::Entry>,
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
    let stack = clone::Stack::new().map_err(failed)?;
    let rlimits = rlimits(plan);
    let prepared = |cgroup_procs| Prepared {
        program: texts.program.as_ptr(),
        argv: texts.argv.as_ptr(),
        envp: texts.envp.as_ptr(),
        listen_pid: texts.listen_pid.get().cast(),
        directory: texts.directory.as_ptr(),
        cgroup_procs,
        fds: &fds,
        // Written only by the child, to step out of the way of the numbers it has to fill.
        moved: UnsafeCell::new(fds.clone()),
        rlimits: &rlimits,
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
    let birthplace = plan.cgroup.as_ref().and_then(|entry| entry.birthplace.as_ref());
    let born = match (birthplace, texts.cgroup_procs.split_first()) {
        (Some(group), Some((_, others))) => {
            let prepared = prepared(others);
            let spawned = clone::inside(&prepared, &stack, group.as_fd());
            spawned.map(|spawned| outcome(&prepared, spawned))
        }
        _ => None,
    };
    let result = match born {
        Some(Err(failure)) if failure.errno == KILLED => {
            clone::stay_outside();
            None
        }
        born => born,
    };
    let spawned = match result {
        Some(result) => result,
        None => {
            let prepared = prepared(&texts.cgroup_procs);
            let spawned = clone::outside(&prepared, &stack);
            spawned.and_then(|spawned| outcome(&prepared, spawned))
        }
    };
    let spawned = spawned.map_err(failed)?;
    crate::tree::remember_spawned(&plan.env);
    Ok(spawned)
}

/// What has become of a child that has executed or ended.
fn outcome(prepared: &Prepared<'_>, spawned: Spawned) -> Result<Spawned, Failure> {
    match prepared.report.failure() {
        None if !died_before_exec(&spawned) => Ok(spawned),
        None => Err(Failure::new(prepared.report.stage(), KILLED)),
        Some(failure) => {
            // Its last act was to report.
            let _ = reap(&spawned);
            Err(failure)
        }
    }
}

/// True, and reaped, if the child was killed before it could execute or report.
///
/// Only a child that has not executed is found by `__WCLONE`, see [`clone`]; it let go of our memory
/// because it ends, so the wait is for a moment. For one that has executed there is nothing to wait
/// for. (With `WNOHANG` one that is about to end would be taken for one that runs.)
fn died_before_exec(spawned: &Spawned) -> bool {
    matches!(reap(spawned), Ok(Some(_)))
}

/// Waits for the end of a child that has not executed: it has come already, or is about to.
fn reap(spawned: &Spawned) -> std::io::Result<Option<(u32, crate::child::Exit)>> {
    let id = spawned.pidfd.as_raw_fd().unsigned_abs();
    crate::child::wait_for(libc::P_PIDFD, id, libc::WEXITED | libc::__WCLONE)
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
        let files = plan.cgroup.iter().flat_map(|entry| &entry.files);
        let cgroup_procs = files.map(|path| text(path.as_os_str().as_bytes()));
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

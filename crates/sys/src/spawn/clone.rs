//! Making the process: by clone3(2) as a member of its control group, or by clone(2) outside of it.
//!
//! Why: moving a process into a group waits for every processor (some 6 ms, because the kernel stops
//! forks everywhere meanwhile); to be born in it costs nothing. It needs version 2 of control groups
//! and Linux 5.7.
//! Invariant: neither call returns before the child has executed or ended (`CLONE_VFORK`).
//! Source: clone(2), cgroups(7); the kernel's system call conventions, syscall(2).

use super::Spawned;
use super::child::{self, Prepared, errno};
use super::error::{Failure, SpawnStage};
use crate::process::set_signal_mask;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The child's stack until it executes: it calls a few shallow functions and execve(2).
const STACK_BYTES: usize = 64 * 1024;

/// No signal at the child's end until it has executed its program (which sets it to SIGCHLD): a
/// child that fails before is reaped by us and by nobody else.
const FLAGS: i32 = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;

/// `CLONE_INTO_CGROUP` of linux/sched.h, for clone3(2) only.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// This kernel, or a filter of system calls, has refused clone3(2) or its flag for good, or kills
/// whoever is born in a group.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// The argument of clone3(2), as linux/sched.h lays it out up to version 2 of the structure.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Lends our memory to a new process until it has executed or ended. The process is outside of
/// any group but ours.
pub(super) fn outside(prepared: &Prepared<'_>, stack: &Stack) -> Result<Spawned, Failure> {
    let mut pidfd: RawFd = -1;
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
            FLAGS,
            std::ptr::from_ref(prepared).cast_mut().cast(),
            &raw mut pidfd,
        )
    };
    let errno = errno();
    set_signal_mask(former);
    match u32::try_from(pid) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(pid) => Ok(Spawned { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
        Err(_) => Err(Failure::new(SpawnStage::Clone, errno)),
    }
}

/// The same, and the process is born in a group. `None`: that can't be done here, and no process
/// was made.
pub(super) fn inside(
    prepared: &Prepared<'_>,
    stack: &Stack,
    group: BorrowedFd<'_>,
) -> Option<Spawned> {
    if REFUSED.load(Ordering::Relaxed) {
        return None;
    }
    let mut pidfd: RawFd = -1;
    let arguments = CloneArgs {
        flags: u64::from(FLAGS.unsigned_abs()) | INTO_CGROUP,
        pidfd: (&raw mut pidfd).addr() as u64,
        stack: stack.base.addr() as u64,
        stack_size: stack.bytes as u64,
        cgroup: u64::try_from(group.as_raw_fd()).ok()?,
        ..CloneArgs::default()
    };
    let former = set_signal_mask(u64::MAX);
    // SAFETY: as in `outside`; `arguments` describes a stack that nobody else uses, and a place for
    // one descriptor that outlives the call.
    let pid = unsafe { clone3(&arguments, std::ptr::from_ref(prepared).cast_mut().cast()) };
    set_signal_mask(former);
    match u32::try_from(pid) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(pid) => Some(Spawned { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
        Err(_) => {
            let number = i32::try_from(-pid).unwrap_or(libc::EIO);
            // What is wrong with this group or this moment may be right the next time.
            let for_good = [libc::ENOSYS, libc::E2BIG, libc::EINVAL, libc::EPERM];
            if for_good.contains(&number) {
                REFUSED.store(true, Ordering::Relaxed);
            }
            None
        }
    }
}

/// From now on nobody is born in a group. Called when one was killed before it could execute:
/// Linux 6.18 kills it where our own group was ever killed through `cgroup.kill`, or its group was
/// (the kernel compares the counts of kills of the two). Groups are new for each run; ours may not
/// be.
pub(super) fn stay_outside() {
    REFUSED.store(true, Ordering::Relaxed);
}

/// The system call, after which the child runs [`child::run`] on its stack. The C library has no
/// function for it: a child with a stack of its own can't return to where its parent was called.
///
/// Gives the pid, or the negative error number.
///
/// # Safety
/// `arguments` describes a stack that is the child's alone and asks for `CLONE_VM | CLONE_VFORK`;
/// `argument` is what `child::run` expects.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(arguments: &CloneArgs, argument: *mut libc::c_void) -> i64 {
    let result: i64;
    // SAFETY: the caller's promises; the parent goes on behind the label with the registers that
    // the kernel keeps, all others are named. The child never comes back.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {argument}",
            "call {entry}",
            "ud2",
            "2:",
            argument = in(reg) argument,
            entry = in(reg) child::run as extern "C" fn(*mut libc::c_void) -> i32,
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") std::ptr::from_ref(arguments),
            in("rsi") size_of::<CloneArgs>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// See above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(arguments: &CloneArgs, argument: *mut libc::c_void) -> i64 {
    let result: i64;
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, {argument}",
            "blr {entry}",
            "brk 1",
            "2:",
            argument = in(reg) argument,
            entry = in(reg) child::run as extern "C" fn(*mut libc::c_void) -> i32,
            in("x8") libc::SYS_clone3,
            inlateout("x0") std::ptr::from_ref(arguments) => result,
            in("x1") size_of::<CloneArgs>(),
        );
    }
    result
}

/// On other processors the process is always made outside.
///
/// # Safety
/// None is needed: nothing is done.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone3(_arguments: &CloneArgs, _argument: *mut libc::c_void) -> i64 {
    -i64::from(libc::ENOSYS)
}

/// A stack for the child, with a page below it that no one may touch: an overflow ends the child
/// instead of writing into our memory.
pub(super) struct Stack {
    base: *mut libc::c_void,
    bytes: usize,
}

impl Stack {
    pub(super) fn new() -> Result<Self, Failure> {
        let guard = usize::try_from(crate::proc_fs::page_size()).unwrap_or(65_536);
        let bytes = STACK_BYTES + guard;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new private mapping wherever the kernel likes; nothing of ours is replaced.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(Failure::new(SpawnStage::Clone, errno()));
        }
        let stack = Self { base, bytes };
        // SAFETY: the first page of the mapping that we have just made, which nobody uses yet.
        if unsafe { libc::mprotect(base, guard, libc::PROT_NONE) } != 0 {
            return Err(Failure::new(SpawnStage::Clone, errno()));
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

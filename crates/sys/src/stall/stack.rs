//! The stack of another thread of this process.
//!
//! One capture at a time. The handler and the asking thread agree by [`STATE`] on who may touch the
//! buffer, so a signal that arrives after we have given up does nothing:
//! `IDLE → ARMED (asker) → WRITING (handler) → DONE (handler) → IDLE (asker)`.

use crate::clock;
use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Frames that are noted down.
const FRAMES_MAX: usize = 64;

/// How long a thread may take to answer the signal. One that runs or sleeps interruptibly answers
/// in microseconds; one that does not will not.
const ANSWER_WITHIN: Duration = Duration::from_millis(200);

/// While the handler waits for its turn on a busy machine, the asker looks this often.
const LOOK_EVERY: Duration = Duration::from_millis(1);

const IDLE: u32 = 0;
const ARMED: u32 = 1;
const WRITING: u32 = 2;
const DONE: u32 = 3;

static STATE: AtomicU32 = AtomicU32::new(IDLE);
static WANTED: AtomicI32 = AtomicI32::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static FRAMES: [AtomicUsize; FRAMES_MAX] = [const { AtomicUsize::new(0) }; FRAMES_MAX];
static CAPTURE: Mutex<()> = Mutex::new(());

/// A real-time signal that neither the C library nor anything of ours uses.
fn signal() -> i32 {
    libc::SIGRTMIN() + 5
}

/// Sets up the handler, and walks one stack so that the unwinder has done all that it does only the
/// first time (and may allocate for) before it runs in a handler.
pub(super) fn prepare() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        backtrace::trace(|_| true);
        // SAFETY: sigaction is plain data, for which all zeroes is a valid value.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let handler: extern "C" fn(libc::c_int) = on_signal;
        action.sa_sigaction = handler as libc::sighandler_t;
        // Calls that can be restarted are; the watched loop should not notice.
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        // SAFETY: the handler keeps to atomics and the unwinder, see there.
        match unsafe { libc::sigaction(signal(), &raw const action, std::ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)),
        }
    });
    (*installed).map_err(io::Error::from_raw_os_error)
}

/// Names of the functions that a thread of this process is in, innermost first. Empty if it does
/// not answer.
pub(super) fn of_thread(tid: i32) -> Vec<String> {
    let _one_at_a_time = CAPTURE.lock().unwrap_or_else(PoisonError::into_inner);
    WANTED.store(tid, Ordering::SeqCst);
    COUNT.store(0, Ordering::SeqCst);
    STATE.store(ARMED, Ordering::SeqCst);
    let pid = std::process::id();
    // SAFETY: plain numbers; the signal goes to a thread of this process, which has a handler for it.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal()) };
    let deadline = clock::now() + ANSWER_WITHIN;
    while sent == 0 && STATE.load(Ordering::SeqCst) != DONE {
        if deadline <= clock::now()
            && STATE.compare_exchange(ARMED, IDLE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            return Vec::new();
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    let count = COUNT.load(Ordering::SeqCst).min(FRAMES_MAX);
    let frames = FRAMES.iter().take(count).map(|frame| frame.load(Ordering::SeqCst));
    // The outermost frame of a thread has the return address 0.
    let frames: Vec<usize> = frames.filter(|address| *address != 0).collect();
    STATE.store(IDLE, Ordering::SeqCst);
    name_frames(&frames)
}

/// Runs in the watched thread, between any two of its instructions.
extern "C" fn on_signal(_signal: libc::c_int) {
    // SAFETY: gettid has no arguments and can't fail.
    let own = unsafe { libc::syscall(libc::SYS_gettid) };
    if own != i64::from(WANTED.load(Ordering::SeqCst))
        || STATE.compare_exchange(ARMED, WRITING, Ordering::SeqCst, Ordering::SeqCst).is_err()
    {
        return;
    }
    // The system calls above and below leave an error number behind that the interrupted code may
    // be about to read.
    // SAFETY: the C library's pointer to the thread's own error number is always valid.
    let errno = unsafe { *libc::__errno_location() };
    let mut at = 0;
    // SAFETY: "unsynchronized" means that only one thread may trace at a time: the capture lock and
    // the ARMED state see to that, and nobody else in this process traces without the crate's lock
    // while a loop is watched. The unwinder takes no lock of its own but the loader's, which this
    // thread may take twice.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            if let Some(place) = FRAMES.get(at) {
                place.store(frame.ip() as usize, Ordering::Relaxed);
                at += 1;
            }
            at < FRAMES_MAX
        });
        *libc::__errno_location() = errno;
    }
    COUNT.store(at, Ordering::SeqCst);
    STATE.store(DONE, Ordering::SeqCst);
}

fn name_frames(frames: &[usize]) -> Vec<String> {
    let mut names = Vec::new();
    for (number, address) in frames.iter().enumerate() {
        // A return address points behind the call, which may be in the next line or function.
        let address = if number == 0 { *address } else { address.saturating_sub(1) };
        let mut found = false;
        backtrace::resolve(address as *mut _, |symbol| {
            found = true;
            names.push(name_symbol(symbol, address));
        });
        if !found {
            names.push(format!("{address:#x}"));
        }
    }
    // Debugging information takes tens of megabytes, for something that is needed once a year.
    backtrace::clear_symbol_cache();
    // SAFETY: gives free memory back to the kernel; takes a plain number and is thread-safe.
    unsafe { libc::malloc_trim(0) };
    // Everything up to our handler, and the frame of the signal itself, is the measuring device.
    let handler = names.iter().rposition(|name| name.contains("stall::stack::on_signal"));
    let skip = handler.map_or(0, |handler| handler + 2);
    names.into_iter().skip(skip).collect()
}

fn name_symbol(symbol: &backtrace::Symbol, address: usize) -> String {
    let Some(name) = symbol.name() else { return format!("{address:#x}") };
    match (symbol.filename(), symbol.lineno()) {
        (Some(file), Some(line)) => {
            let file = file.file_name().unwrap_or_default().to_string_lossy();
            format!("{name:#} ({file}:{line})")
        }
        _ => format!("{name:#}"),
    }
}

//! The mutexes in front of the data of a mutex file, and the number that says who has all of them.
//!
//! Why the C library's own: a mutex whose holder dies must say so to the next one. For that, each
//! thread keeps a list of the mutexes it holds where the kernel can find it, and that list is the C
//! library's. It also decides what the bytes of a mutex mean, so a file can only be shared by
//! programs with the same C library (glibc) on machines of the same word and page size.
//!
//! ```text
//! 0      header                    168 bytes
//! 168    mutex of all records
//! ..     who has all of them       2 bytes: 2 = nobody, 0 = shared, 1 = exclusive
//! ..     mutex of the free list
//! ..     mutex of chain 0, 1, …    up to the next whole page
//! ```
//!
//! Invariants: the mapping never moves, and is not unmapped while a mutex of it is held, because the
//! lists hold addresses; a mutex is unlocked by the thread that locked it; no wait is without a
//! deadline; no mutex is touched that does not say it is one of this kind.
//!
//! **A hostile file.** The bytes of a mutex are bytes of the file. The C library asks its kind first
//! of all, and for some kinds it ends the process when the rest does not fit, or changes the
//! priority of the thread; so the kind is checked here before every call. Any other content makes
//! the mutex busy until the deadline, owned by a dead one, or refused. What remains can't be
//! defended against: whoever may write to the file *while we hold a mutex* can change the two
//! pointers in it that the C library follows when it is unlocked, or its kind between our look and
//! its own; and a file that is truncated ends the process (see [`super::map`]). Who can't trust all
//! writers of a file must not use its mutexes.
//! Source: pthread_mutexattr_setrobust(3), pthread_mutex_consistent(3), set_robust_list(2); the TDB
//! specification, section 15.

use super::map::Map;
use super::page::page_size;
use libc::{c_int, pthread_mutex_t};
use std::fs::File;
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit, offset_of};
use std::sync::atomic::{AtomicBool, AtomicI16, Ordering};
use std::time::{Duration, Instant};

/// Whether this build can share mutexes with libtdb's processes: with glibc on 64-bit machines.
pub(crate) const SUPPORTED: bool = cfg!(all(target_env = "gnu", target_pointer_width = "64"));

/// How the area begins, laid out as the C compiler does it.
#[repr(C)]
struct Prefix {
    header: [u32; 42],
    all: pthread_mutex_t,
    state: i16,
    free: pthread_mutex_t,
}

const ALL_AT: u64 = offset_of!(Prefix, all) as u64;
const STATE_AT: u64 = offset_of!(Prefix, state) as u64;
const FREE_AT: u64 = offset_of!(Prefix, free) as u64;
const MUTEX_BYTES: u64 = size_of::<pthread_mutex_t>() as u64;

/// Where a mutex says of which kind it is.
const KIND_AT: u64 = 16;
/// Error-checking (2), robust (0x10), shared between processes (0x80).
const KIND: u32 = 0x92;

/// Bytes of the area of a file with this many chains, on a machine with pages of this size.
pub(crate) fn area_bytes(hash_size: u32, page: u64) -> u64 {
    let bytes = size_of::<Prefix>() as u64 + MUTEX_BYTES * u64::from(hash_size);
    bytes.next_multiple_of(page.max(1))
}

/// Which mutex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Which {
    /// Who has it has all records.
    AllRecord,
    /// Of the free list.
    Free,
    /// Of a hash chain.
    Chain(u32),
}

impl Which {
    fn offset(self) -> u64 {
        match self {
            Self::AllRecord => ALL_AT,
            Self::Free => FREE_AT,
            Self::Chain(chain) => FREE_AT + MUTEX_BYTES * (u64::from(chain) + 1),
        }
    }
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AllRecord => write!(f, "the mutex of all records"),
            Self::Free => write!(f, "the mutex of the free list"),
            Self::Chain(chain) => write!(f, "the mutex of chain {chain}"),
        }
    }
}

/// What to do when a mutex is held by another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// Say so.
    No,
    /// Wait for it until then.
    Until(Instant),
}

impl Wait {
    fn left(self) -> Duration {
        match self {
            Self::No => Duration::ZERO,
            Self::Until(deadline) => deadline.saturating_duration_since(Instant::now()),
        }
    }
}

/// What became of a wish for a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Locked {
    /// It is ours.
    Yes,
    /// It is ours, and who had it before died with it: what it protects may be half done.
    OwnerDied,
    /// It is not ours: another had it, all the time that we waited.
    Busy,
}

/// Who has all records, as it stands in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Unlocked,
    Shared,
    Exclusive,
}

impl State {
    fn number(self) -> i16 {
        let number = match self {
            Self::Unlocked => libc::F_UNLCK,
            Self::Shared => libc::F_RDLCK,
            Self::Exclusive => libc::F_WRLCK,
        };
        number as i16
    }

    /// A number that means nothing keeps everybody out, until somebody has the mutex of all records
    /// and sees that nobody else can have it.
    fn of(number: i16) -> Self {
        let all = [Self::Unlocked, Self::Shared];
        all.into_iter().find(|state| state.number() == number).unwrap_or(Self::Exclusive)
    }
}

/// The mapped mutexes of one file. One per file and process is enough for all threads: to have it
/// twice is not wrong, but a thread that holds a mutex through one is refused it through the other.
#[derive(Debug)]
pub(crate) struct MutexArea {
    map: ManuallyDrop<Map>,
    hash_size: u32,
    /// A mutex could not be given back, so the kernel may still know its address.
    kept: AtomicBool,
}

impl MutexArea {
    /// Maps the area of a file with this many chains.
    ///
    /// # Errors
    /// If the file is too short for it or not open for writing, or if this program is built with a
    /// C library whose mutexes are not libtdb's.
    pub(crate) fn map(file: &File, hash_size: u32) -> io::Result<Self> {
        if !SUPPORTED {
            let words = "mutexes in files need a program built for glibc on a 64-bit machine";
            return Err(io::Error::new(io::ErrorKind::Unsupported, words));
        }
        let map = Map::new(file, 0, area_bytes(hash_size, page_size()))?;
        Ok(Self { map: ManuallyDrop::new(map), hash_size, kept: AtomicBool::new(false) })
    }

    /// How many chains it has mutexes for.
    pub(crate) fn hash_size(&self) -> u32 {
        self.hash_size
    }

    /// Makes all mutexes anew, unlocked. Only for somebody who knows that nobody else has the file
    /// open, and holds none himself: who holds one of them loses it without being told.
    pub(crate) fn initialise(&self) -> io::Result<()> {
        let attributes = Attributes::new()?;
        let all = [Which::AllRecord, Which::Free].into_iter();
        for which in all.chain((0..self.hash_size).map(Which::Chain)) {
            let mutex = self.place(which)?;
            // SAFETY: mapped, aligned, and held by none of our threads; the attributes live.
            told(unsafe { libc::pthread_mutex_init(mutex, &raw const attributes.0) })?;
        }
        self.set_state(State::Unlocked);
        Ok(())
    }

    /// Locks a mutex for this thread.
    ///
    /// # Errors
    /// If this thread has it already, if what stands in the file is no mutex, or if it can never be
    /// locked again.
    pub(crate) fn lock(&self, which: Which, wait: Wait) -> io::Result<Locked> {
        let mutex = self.mutex(which)?;
        // SAFETY: mapped, aligned, and of the kind that was checked.
        let mut code = unsafe { libc::pthread_mutex_trylock(mutex) };
        if code == libc::EBUSY && !wait.left().is_zero() {
            code = lock_until(mutex, wait);
        }
        match code {
            0 => Ok(Locked::Yes),
            libc::EOWNERDEAD => self.make_consistent(which, mutex),
            libc::EBUSY | libc::ETIMEDOUT => Ok(Locked::Busy),
            libc::EDEADLK => Err(refused(which, "is held by this very thread", code)),
            libc::ENOTRECOVERABLE => Err(refused(
                which,
                "was given up by one that found its holder dead: close the file everywhere, so \
                 that the next one to open it makes its mutexes anew",
                code,
            )),
            _ => Err(refused(which, "can't be locked", code)),
        }
    }

    /// Gives a mutex back, by the thread that has it.
    ///
    /// # Errors
    /// If this thread does not have it, or the file no longer says that it has.
    pub(crate) fn unlock(&self, which: Which) -> io::Result<()> {
        let mutex = self.mutex(which)?;
        // SAFETY: mapped, aligned, and of the kind that was checked, which refuses a thread that
        // does not have it. Where its list leads is as sound as the writers of the file.
        let code = unsafe { libc::pthread_mutex_unlock(mutex) };
        if code != 0 {
            self.kept.store(true, Ordering::SeqCst);
            return Err(refused(which, "is not held by this thread", code));
        }
        Ok(())
    }

    /// Who has all records.
    pub(crate) fn state(&self) -> State {
        self.state_word().map_or(State::Exclusive, |word| State::of(word.load(Ordering::SeqCst)))
    }

    /// Says who has all records; for whoever has the mutex of all records.
    pub(crate) fn set_state(&self, state: State) {
        if let Some(word) = self.state_word() {
            word.store(state.number(), Ordering::SeqCst);
        }
    }

    fn make_consistent(&self, which: Which, mutex: *mut pthread_mutex_t) -> io::Result<Locked> {
        // SAFETY: mapped, aligned, and locked by this thread.
        let code = unsafe { libc::pthread_mutex_consistent(mutex) };
        if code == 0 {
            return Ok(Locked::OwnerDied);
        }
        // The file says two things at once. Nobody can have it soundly any more.
        self.unlock(which)?;
        Err(refused(which, "is of a dead holder, and of none", code))
    }

    /// The mutex, if the file has one of the right kind there.
    #[inline]
    fn mutex(&self, which: Which) -> io::Result<*mut pthread_mutex_t> {
        let mutex = self.place(which)?;
        let kind = self.map.load_u32(which.offset() + KIND_AT);
        if kind == Some(KIND) { Ok(mutex) } else { Err(damaged(which, kind.unwrap_or_default())) }
    }

    #[inline]
    fn place(&self, which: Which) -> io::Result<*mut pthread_mutex_t> {
        let known = !matches!(which, Which::Chain(chain) if self.hash_size <= chain);
        let place = self.map.place(which.offset(), MUTEX_BYTES as usize).filter(|_| known);
        place.map(<*mut u8>::cast).ok_or_else(|| self.unknown(which))
    }

    #[cold]
    fn unknown(&self, which: Which) -> io::Error {
        let words = format!("there is no {which}: the file has {} chains", self.hash_size);
        io::Error::new(io::ErrorKind::InvalidInput, words)
    }

    fn state_word(&self) -> Option<&AtomicI16> {
        let place = self.map.place(STATE_AT, size_of::<i16>())?;
        // SAFETY: mapped as long as we live, aligned, and only ever accessed as an atomic number.
        Some(unsafe { AtomicI16::from_ptr(place.cast()) })
    }
}

impl Drop for MutexArea {
    fn drop(&mut self) {
        // Whoever locks gives back before this. The C library and the kernel follow the addresses of
        // what is held; what could not be given back costs the address space, not the process.
        if !self.kept.load(Ordering::SeqCst) {
            // SAFETY: this is the end of `self`, nothing comes after.
            unsafe { ManuallyDrop::drop(&mut self.map) };
        }
    }
}

/// Attributes of a mutex of [`KIND`].
struct Attributes(libc::pthread_mutexattr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: room for the attributes, which the call fills.
        told(unsafe { libc::pthread_mutexattr_init(raw.as_mut_ptr()) })?;
        // SAFETY: filled, as the call has just said.
        let mut attributes = Self(unsafe { raw.assume_init() });
        let raw = &raw mut attributes.0;
        // SAFETY: attributes that were made, and numbers.
        unsafe {
            told(libc::pthread_mutexattr_settype(raw, libc::PTHREAD_MUTEX_ERRORCHECK))?;
            told(libc::pthread_mutexattr_setpshared(raw, libc::PTHREAD_PROCESS_SHARED))?;
            told(libc::pthread_mutexattr_setrobust(raw, libc::PTHREAD_MUTEX_ROBUST))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: attributes that were made; nobody uses them any more.
        unsafe { libc::pthread_mutexattr_destroy(&raw mut self.0) };
    }
}

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// As `pthread_mutex_timedlock`, with a clock that nobody sets back (glibc 2.30).
    fn pthread_mutex_clocklock(
        mutex: *mut pthread_mutex_t,
        clock: libc::clockid_t,
        deadline: *const libc::timespec,
    ) -> c_int;
}

/// Waits for a mutex whose kind was checked, until the time is over; gives what the C library says.
fn lock_until(mutex: *mut pthread_mutex_t, wait: Wait) -> c_int {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let left = wait.left();
    let nanoseconds = now.tv_nsec + i64::from(left.subsec_nanos());
    let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
    let seconds = now.tv_sec.saturating_add(seconds).saturating_add(nanoseconds / 1_000_000_000);
    let deadline = libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds % 1_000_000_000 };
    #[cfg(target_env = "gnu")]
    // SAFETY: mapped, aligned and of the right kind, as the caller has seen to; the deadline lives.
    let code =
        unsafe { pthread_mutex_clocklock(mutex, libc::CLOCK_MONOTONIC, &raw const deadline) };
    #[cfg(not(target_env = "gnu"))]
    let code = {
        let _ = (mutex, deadline);
        libc::ENOTSUP
    };
    code
}

fn told(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

#[cold]
fn damaged(which: Which, found: u32) -> io::Error {
    let offset = which.offset() + KIND_AT;
    let words = format!(
        "{which} is damaged: its kind at file offset {offset:#x} is {found:#x}, expected {KIND:#x}"
    );
    io::Error::new(io::ErrorKind::InvalidData, words)
}

#[cold]
fn refused(which: Which, why: &str, code: c_int) -> io::Error {
    let source = io::Error::from_raw_os_error(code);
    io::Error::new(source.kind(), format!("{which} {why} ({source})"))
}

#[cfg(test)]
mod tests;

//! Linux, as the daemon needs it: processes and their trees, cgroups, pidfds, pipes, sockets, locks,
//! users, /proc, samples of services, the double fork, and the watch over our own loops.
//!
//! **Never**: decides anything about a service; no async runtime; no state but what the kernel keeps
//! (two small exceptions say so: the descriptor limit of [`process`] and the runs of [`tree`]).
//! **Stands on**: `base`, `rustix` where it has a safe call, `libc` where it has none.
//! Every call is a plain function and may block; the caller picks the thread.

#![expect(
    unsafe_code,
    reason = "clone(2), signal handlers, ioctl(2) and ancillary data have no safe interface; each \
              block says why it is sound"
)]

pub mod clock;

pub mod child;
pub mod pidfd;
pub mod spawn;

pub mod command;
pub mod users;

pub mod cgroup;
pub mod inspect;
pub mod proc_fs;
pub mod sample;
pub mod tree;

pub mod fifo;
pub mod lock;
pub mod socket;

pub mod daemon;
mod inherit;
pub mod memory;
pub mod notify;
pub mod process;
pub mod regular;
pub mod stall;

// User ids, limits and signal sets are passed to raw system calls in their 64-bit form.
const _: () = assert!(size_of::<usize>() == 8, "only 64-bit Linux is supported");

//! The supervision core: decides what is started, watched, stopped and restarted, and when.
//!
//! A plain state machine: [`Supervisor::handle`] takes the time and one [`Input`], and says in
//! [`Output`]s what the driver must do. `next_wake` says when it wants to be called again.
//!
//! **Never**: does I/O, reads a clock, draws from a global random source, starts a thread, or
//! knows how Linux starts a process.
//! **Stands on**: `base` alone.

mod io;
mod spec;

pub use io::*;
pub use spec::*;

//! The supervision core: decides what is started, watched, stopped and restarted, and when.
//!
//! A plain state machine: [`Supervisor::handle`] takes the time and one [`Input`], and says in
//! [`Output`]s what the driver must do. [`Supervisor::next_wake`] says when it wants to be called
//! again. Start reading at `io` (what can happen), then `machine` (how it is taken), then `start`,
//! `stop` and `ending` (the life of one run).
//!
//! **Never**: does I/O, reads a clock, draws from a global random source, starts a thread, or
//! knows how Linux starts a process.
//! **Stands on**: `base` alone.

mod event;
mod io;
mod snapshot;
mod spec;
mod tolerance;

pub mod report;
pub mod watch;

mod instance;
mod machine;

mod admit;
mod adopting;
mod blame;
mod care;
mod ending;
mod hindrance;
mod observe;
mod order;
mod reload;
mod replace;
mod start;
mod stop;
mod takeover;
mod why;

mod notify;

pub use event::*;
pub use io::*;
pub use machine::Supervisor;
pub use notify::{STATUS_CHARS_MAX, parse_counter, parse_notify};
pub use snapshot::*;
pub use spec::*;
pub use tolerance::*;

//! Trials: a real daemon in a directory of its own, services with a fault to order, a constant
//! load, and a judgement of what came of it.
//!
//! Why: the catalogue of faults (H25) is proved by `cargo xtask faults` for the documentation and
//! by ordinary tests for every change; both run the same trials, or one of them lies.
//!
//! **Never**: is part of the product; waits for luck (each wait is for an event, with a deadline);
//! leaves a process, a mount or a file behind.
//! **Stands on**: `control`, so that a daemon is asked as the command line asks it, and events
//! carry the time at which the daemon saw them.

mod catalogue;
mod cgroups;
mod client;
mod clock;
mod haproxy;
mod house;
mod judge;
mod load;
mod outside;
mod program;
mod row;
mod run;
mod soak;
mod starvation;
mod table;
mod wrk;

pub use catalogue::{CATALOGUE, Fault, find};
pub use cgroups::remove as remove_cgroups;
pub use clock::At;
pub use haproxy::HaProxy;
pub use house::{House, Process, Setting, is_alive, signal};
pub use load::{Answered, Load, Tally, ask};
pub use outside::Outside;
pub use program::Programs;
pub use row::{Evidence, Mode, Row};
pub use run::{missing, run};
pub use soak::{Overlap, Soak, behind_a_socket, behind_haproxy, free_row};
pub use starvation::{Starvation, starve};
pub use table::{page, text};
pub use wrk::{Report, Wrk};

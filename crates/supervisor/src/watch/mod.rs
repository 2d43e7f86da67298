//! Recognising sickness: samples and answers in, verdicts with their numbers out.
//!
//! Why a machine of its own beside [`crate::Supervisor`]: it runs in another process (the watch
//! duty), where looking can't hold up the restart of a service that died. What is done about a
//! verdict is decided by the supervisor alone.

mod io;
mod sample;

pub use io::*;
pub use sample::*;

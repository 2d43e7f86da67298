//! Recognising sickness: samples and answers in, verdicts with their numbers out.
//!
//! Why a machine of its own beside [`crate::Supervisor`]: it runs in another process (the watch
//! duty), where looking can't hold up the restart of a service that died. What is done about a
//! verdict is decided by the supervisor alone.
//!
//! Start reading at `io`. A [`Watcher`] has instances, an instance has runs and dependencies, a
//! run has detectors; each detector turns what it sees into a *finding*, and the instance makes a
//! verdict of it once nothing else is to blame.

mod io;
mod sample;

mod watcher;

mod doubt;
mod host;

mod instance;

mod depend;

mod run;

mod detector;

mod finding;
mod question;
mod words;

mod answering;

mod backlog;
mod deadlock;
mod livelock;
mod standstill;
mod uninterruptible;

mod growth;
mod leak;
mod quiet;
mod series;
mod trend;

mod planned;

#[cfg(test)]
mod breathing;

pub use io::*;
pub use sample::*;
pub use watcher::Watcher;

//! Words shared by every room: identities, time, sizes, limits, back-off, three-valued answers and
//! seeded randomness.
//!
//! **Never**: reads a clock, opens a file, starts a thread, or knows what a service is for.
//! **Stands on**: the standard library and `thiserror` only, so that every core may use it.

mod answer;
mod backoff;
mod bounded;
mod human;
mod id;
mod rng;
mod time;

pub use answer::Answer;
pub use backoff::Backoff;
pub use bounded::{BoundedQueue, Full, Rejected};
pub use human::{ByteSize, ParseHumanError, format_duration, parse_duration};
pub use id::{InstanceId, NAME_BYTES_MAX, NameError, RunId, ServiceName};
pub use rng::Rng;
pub use time::{Now, WallTime};

//! What people are told of events: which become a mail at once, which wait for a digest, what is
//! told together, and in which order mails leave (H9, H26, H28).
//!
//! ```text
//! events ─► Reporter ─► Letter ─(made durable by the driver)─► Outbox ─► deliver, put off, merge
//! ```
//! Two plain state machines, driven like the supervision core: one input, then all outputs in
//! order; time is an argument. What a letter looks like as text, where it is kept and how it
//! travels is the driver's.
//! Invariants: an event that is to be told is counted in exactly one letter; a letter is bounded
//! whatever happens, and what does not fit as text is still counted.

mod entry;
mod fact;
mod letter;
mod outbox;
mod register;
mod reporter;
mod role;
mod tally;

pub use entry::{Entry, Step};
pub use fact::Fact;
pub use letter::{Letter, Purpose};
pub use outbox::{Attempt, Outbox, OutboxInput, OutboxOutput, Waiting};
pub use register::{Register, Workaround};
pub use reporter::{Kept, Policy, Relations, ReportInput, Reporter};
pub use tally::{Count, Tally};

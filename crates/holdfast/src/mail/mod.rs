//! The mail duty: a process of its own that tells people what happened.
//!
//! ```text
//! segment files ─► collector (thread): Reporter ─► spool on disk ─► courier: Outbox ─► SMTP server
//! ```
//! Why a process of its own: a mail server that hangs, or a name service, costs nobody else
//! anything.
//!
//! Invariants:
//! - The cursor moves on only together with the mail that tells of what was read; a mail leaves the
//!   disk only after the server has answered for it. So nothing is lost by our death, and at most
//!   the one mail under way arrives twice, with the same Message-ID.
//! - Neither the root nor a service waits for us.
//! - No wake-ups while nothing happens, but for one look a minute.

mod collector;
mod courier;
mod duty;
mod facts;
pub(crate) mod message;
mod note;
mod secrets;
pub(crate) mod smtp;
pub(crate) mod spool;
pub(crate) mod status;
mod stored;
pub(crate) mod text;
mod wire;

pub(crate) use courier::Post;
pub(crate) use duty::{Setup, post, serve};
pub(crate) use facts::differs;

//! The console as a whole: real sockets, real SQLite, real curl; only the root is played by the
//! test, over the real protocol.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

mod access;
mod actions;
mod doors;
mod events;
mod house;
mod look;
mod root;

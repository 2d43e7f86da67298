//! The console as a whole: real sockets, real SQLite, real curl; only the root is played by the
//! test, over the real protocol.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test ends at the first surprise, and says so when it is skipped"
)]

mod access;
mod actions;
mod browser;
mod chromium;
mod doors;
mod events;
mod evidence;
mod health;
mod house;
mod look;
mod pictures;
mod rich;
mod root;

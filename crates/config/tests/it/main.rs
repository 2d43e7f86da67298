//! Configurations as people write them: what is read, what is refused, and in which words.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends when it can't go on")]

mod bad;
mod change;
mod files;
mod good;
mod import;
mod random;
mod support;

//! The supervision core as its driver sees it: what it answers to what happens, decision by
//! decision, and in a simulated world where everything goes wrong in random order.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends when it can't go on")]

mod bench;
mod specs;

mod adopting;
mod commands;
mod ending;
mod forking;
mod observing;
mod ordering;
mod reloading;
mod replacing;
mod sentences;
mod shutdown;
mod starting;
mod stopping;
mod watching;

mod check;
mod life;
mod random;
mod world;
mod year;

mod watch_answers;
mod watch_bench;
mod watch_hangs;
mod watch_leaks;
mod watch_planned;

//! The Linux room against the real kernel: real processes, groups, sockets and signals.
//!
//! All tests share one process, so children are reaped in one place (`support::wait`), and nothing
//! here uses `std::process`. Where root is needed and is not there, a test says so and ends.

#![expect(unsafe_code, reason = "tests set up what holdfast must survive: masks, handlers, limits")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of this binary is tests; what is skipped is said on standard output"
)]

mod cgroups;
mod daemon;
mod hygiene;
mod inspecting;
mod pidfds;
mod samples;
mod sockets;
mod spawning;
mod stalls;
mod support;
mod trees;

//! The daemon as a user has it: the real binary, real services, one temporary directory each.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test ends at the first surprise, and says so when it is skipped"
)]

mod adoption;
mod api;
mod bad_input;
mod balancer;
mod bare;
mod blame;
mod cli;
mod console_page;
mod crowd;
mod daemon;
mod demo;
mod evidence;
mod faults;
mod frozen;
mod full_disk;
mod hooks;
mod hostile;
mod import;
mod journal;
mod lifecycle;
mod limits;
mod mail;
mod mail_workarounds;
mod ordering;
mod peers;
mod planned;
mod real_parts;
mod reload;
mod sacrificial;
mod sockets;
mod soft_limit;
mod superlance;
mod supervisord;
mod supervisord_doors;
mod supervisord_listeners;
mod supervisord_output;
mod support;
mod tdb;
mod tdb_writing;
mod tolerance;
mod watchdog;
mod watching;

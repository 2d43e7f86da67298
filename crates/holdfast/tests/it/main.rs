//! The daemon as a user has it: the real binary, real services, one temporary directory each.

mod adoption;
mod bad_input;
mod cli;
mod daemon;
mod demo;
mod lifecycle;
mod peers;
mod reload;
mod sockets;
mod support;

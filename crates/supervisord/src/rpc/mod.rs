//! XML-RPC: method calls in, responses out, and the other way round for tests and tools.
//!
//! Source: the specification at <http://xmlrpc.com/spec.md>; `<nil/>` and `<i8>` as Python's
//! `xmlrpc.client` and Apache's library write them.

mod read;
mod value;
mod write;

pub use read::{CallError, DEPTH_MAX, VALUES_MAX, read_call, read_response};
pub use value::Value;
pub use write::{write_call, write_fault, write_response};

/// Longest request. The longest sensible one is a `system.multicall` of some thousand calls.
pub const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A method call as it came.
#[derive(Clone, PartialEq, Debug)]
pub struct MethodCall {
    /// `supervisor.startProcess`.
    pub method: String,
    /// In order.
    pub params: Vec<Value>,
}

#[cfg(test)]
mod tests;

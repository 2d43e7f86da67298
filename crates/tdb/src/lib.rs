//! TDB files in Rust: the record files that Samba's processes, ctdb and their tools share.
//!
//! A TDB file is a hash table on disk. Any number of processes read and write it at the same time;
//! each record is a key and a value, both plain bytes. This crate reads every kind of file that
//! libtdb 1.4 writes: both hash functions, both byte orders, with and without mutexes, with
//! deleted records, recovery areas and sequence numbers.
//!
//! ```no_run
//! let database = tdb::Database::open_read_only("/var/lib/samba/registry.tdb")?;
//! if let Some(value) = database.fetch(b"HKLM\0")? {
//!     println!("{} bytes", value.len());
//! }
//! let report = database.check()?;
//! for finding in &report.findings {
//!     eprintln!("{finding}");
//! }
//! # Ok::<(), tdb::Error>(())
//! ```
//!
//! No byte of a file is believed. A damaged file gives an [`Error`] with the offset and what should
//! have stood there; a list that goes in circles ends; no length is believed before it was compared
//! with the size of the file. [`Database::check`] tells everything that is wrong,
//! [`Database::rescue`] saves what a chain no longer reaches.
//!
//! **Never**: trusts a byte of a file, follows a list for longer than the file could have records,
//! maps a file that others may truncate, writes where it was opened to read.
//!
//! **Stands on**: the standard library, `thiserror`, and `rustix` and `libc` for what the kernel and the
//! C library alone can do; it knows nothing of the rest of Holdfast.

pub mod dump;

mod check;
mod database;
mod engine;
mod error;
mod hash;
mod header;
mod marks;
#[cfg_attr(not(test), expect(dead_code, reason = "what writes to files begins to use it next"))]
mod mutexes;
#[cfg_attr(not(test), expect(dead_code, reason = "what writes to files begins to use it next"))]
mod os;
mod record;
mod rescue;
mod space;
mod stats;

pub use check::{FINDINGS_MAX, Report};
pub use database::{Database, Pair};
pub use error::{Error, Fault};
pub use hash::{HashKind, jenkins_hash};
pub use header::{ByteOrder, HEADER_BYTES, Header};
pub use rescue::Rescued;
pub use stats::{Stats, Tally};

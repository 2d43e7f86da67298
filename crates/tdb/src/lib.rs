//! TDB files in Rust: the record files that Samba's processes, ctdb and their tools share.
//!
//! A TDB file is a hash table on disk. Any number of processes read and write it at the same time;
//! each record is a key and a value, both plain bytes. This crate reads every kind of file that
//! libtdb 1.4 writes: both hash functions, both byte orders, with and without mutexes, with
//! deleted records, recovery areas and sequence numbers. It writes them too, in the same places byte
//! for byte, together with libtdb's processes: the same locks, the same transactions.
//!
//! ```no_run
//! let mut database = tdb::Options::new().create(tdb::Create::Missing).open("state.tdb")?;
//! let mut leader = database.lock(b"leader")?;
//! if leader.fetch(b"leader")?.is_none() {
//!     leader.store(b"leader", b"node 3", tdb::Store::Insert)?;
//! }
//! # Ok::<(), tdb::Error>(())
//! ```
//!
//! A handle that only reads takes no lock and never waits:
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
//! [`Database::rescue`] saves what a chain no longer reaches. [`Transaction`]s are all or nothing,
//! whenever the process is killed. A single change of a record that stays where it is, is not: that
//! is what transactions are for; but a record is never lost by one.
//!
//! Locks belong to the handle, not to the process, and every wait for one has a deadline and can be
//! called off from another thread. So each thread opens the file for itself. A forked process has
//! copies of the handles of its parent, and with them its parent's locks: neither keeps the other out,
//! and what one gives back the other has lost. It opens the file anew, and leaves those alone.
//!
//! **Never**: trusts a byte of a file, follows a list for longer than the file could have records,
//! waits without a deadline, writes where it was opened to read, overwrites what is no TDB file.
//!
//! **Stands on**: the standard library, `thiserror`, and `rustix` and `libc` for what the kernel and the
//! C library alone can do; it knows nothing of the rest of Holdfast.

pub mod dump;

mod change;
mod check;
mod database;
#[cfg(test)]
mod death;
#[cfg(test)]
mod death_tests;
mod engine;
mod error;
mod file;
mod free;
mod growth;
mod hash;
mod header;
mod leftover;
mod locks;
mod marks;
mod mutexes;
mod open;
mod os;
mod overlay;
mod patience;
mod quick;
mod record;
mod recovery;
mod rescue;
mod sign;
mod space;
mod stats;
mod store;
mod transaction;
mod value;

pub use change::{AllLock, ChainLock, Prepared, Transaction};
pub use check::{FINDINGS_MAX, Report};
pub use database::{Database, Pair};
pub use error::{Error, Fault};
pub use hash::{HashKind, jenkins_hash};
pub use header::{ByteOrder, HEADER_BYTES, Header};
pub use open::{Create, Options};
pub use patience::Canceller;
pub use rescue::Rescued;
pub use stats::{Stats, Tally};
pub use store::Store;
pub use value::Value;

//! Events and history: how a fact gets from the process that saw it onto disk, and from there into
//! a database that can be asked.
//!
//! ```text
//! root: Recorder ──► events/root-1.seg ──► Follower ──► Journal (SQLite) ──► API, CLI
//!       (thread)     append-only, checked    (console duty)   numbered, pruned
//! ```
//! The root needs no database: it appends to segment files, and whoever dies next, what was
//! written is there. The console duty moves it into the journal exactly once.
//! [`logfile`] reads the services' own output files, and [`evidence`] what was kept of sick ones,
//! for the command line and the console.
//!
//! **Never**: decides what is worth an event, or listens on anything.
//! **Stands on**: `base`, `control`, SQLite, flate2 for rotated logs.

pub mod evidence;
mod finding;
pub mod logfile;
mod recorder;
pub mod segment;
mod store;

pub use finding::{Finding, FindingKind};
pub use recorder::{BACKLOG_BYTES_MAX, BACKLOG_EVENTS_MAX, Recorder, Unwritten, WrittenCallback};
pub use store::{Journal, JournalError, Order, QUERY_LIMIT_MAX, Query, Retention};

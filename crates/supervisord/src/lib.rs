//! supervisord's faces as pure code: the XML-RPC of `supervisorctl`, what it says of a process, and
//! the protocol of its event listeners.
//!
//! Nothing here opens anything or knows the time. The duty `supervisord` of the program drives it:
//!
//! ```text
//! XML ──► rpc::read_call ──► Call::of ──► (the duty acts) ──► Value, RpcFault ──► XML
//! control::Snapshot ──► ProcessInfo ──► Value
//! control::EventRecord ──► Translator ──► Payload ──► Pool ──► envelopes, READY, RESULT
//! ```
//! Facts are from the manual of supervisor 4 (<http://supervisord.org/api.html>, `events.html`), and
//! from dialogues of its own programs that were recorded on loopback (`tests/golden`).
//!
//! **Never**: opens a socket or a file, reads a clock. **Stands on**: `base`, `control`, quick-xml,
//! base64, jiff (local dates, as supervisord writes them).

pub mod rpc;

mod call;
mod fault;
mod method;

mod info;
mod name;

pub mod event;
pub mod output;
mod pool;
mod talk;
mod translate;

pub use call::{Args, Call, Channel, Reading};
pub use fault::{Code, RpcFault};
pub use info::{Logs, ProcessInfo, ProcessState, SUPERVISOR_RUNNING, group_result};
pub use method::{METHODS, Method, Param, method};
pub use name::{ProcessName, Wanted, wanted};
pub use pool::{Dropped, Envelope, OUTPUT_BYTES_MAX, Pool, PoolOutput, REDELIVER_PAUSE};
pub use talk::{LISTENER_LINE_BYTES_MAX, Said, Talk, TalkState};
pub use translate::{REMOTE_KIND, Translator};

/// What `getAPIVersion` answers: clients refuse to work with any other.
pub const API_VERSION: &str = "3.0";

/// Which supervisor's interface this is.
pub const SUPERVISOR_VERSION: &str = "4.3.0";

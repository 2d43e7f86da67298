//! What Holdfast's own processes say to each other, and what they write for each other: requests
//! and replies, snapshots, event records, and the frames that carry them.
//!
//! Wire types are versioned and apart from the cores' types, so that a newer root can talk to an
//! older command line (P10). They double as the JSON of the HTTP API and of `--json`.
//!
//! **Never**: opens a socket or a file. **Stands on**: `base`, serde.

mod event;
mod evidence;
mod frame;
mod mail;
mod record;
mod request;
mod view;

pub use event::{EventRecord, Severity};
pub use evidence::{EVIDENCE_VERSION, EvidenceEntry, EvidenceFile, EvidenceIndex, EvidenceMissing};
pub use frame::{FRAME_BYTES_MAX, FrameError, decode_frame, encode_frame};
pub use mail::{MailTryView, MailView};
pub use record::{RECORD_BYTES_MAX, RecordError, decode_record, encode_record};
pub use request::{
    Caller, Envelope, ErrorCode, Fault, PROTOCOL_VERSION, Reply, Request, Role, ServiceAction,
};
pub use view::{
    DependencyView, DutyView, HealthView, InstanceView, Notice, QuarantineView, ReplacingView,
    RunView, ServiceView, Snapshot, VerdictView, WhyLink, WhyView, WorkaroundView,
};

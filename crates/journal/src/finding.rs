//! What was found wrong with stored history, and what was done about it: never silent, never fatal.

use std::path::PathBuf;

/// What kind of damage it was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FindingKind {
    /// The database could not be used: it was set aside and a new one begun.
    JournalReplaced,
    /// The end of a segment was an unfinished record, as a crash leaves it: cut off.
    SegmentTorn,
    /// Bytes in a segment are no records: skipped. What they said is lost.
    SegmentDamaged,
    /// Segments were deleted before they had been read.
    SegmentMissing,
}

/// One thing that was found, in words. The caller records it as an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// For programs.
    pub kind: FindingKind,
    /// For people: what was found, what was done, where the remains are.
    pub message: String,
    /// The file it is about.
    pub path: PathBuf,
}

impl Finding {
    /// The kind of the event that reports it: `journal.replaced`, `segment.torn`, ….
    pub const fn event_kind(&self) -> &'static str {
        match self.kind {
            FindingKind::JournalReplaced => "journal.replaced",
            FindingKind::SegmentTorn => "segment.torn",
            FindingKind::SegmentDamaged => "segment.damaged",
            FindingKind::SegmentMissing => "segment.missing",
        }
    }
}

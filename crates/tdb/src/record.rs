//! One record: 24 bytes of header, key, data, slack, and a last number that repeats its length.
//!
//! Invariant: nothing of a record is believed before it was compared with the size; all sums are made
//! in 64 bits, so that none can wrap.
//! Source: the TDB specification, sections 3.2 and 19.

use crate::error::Fault;
use crate::header::{ByteOrder, Shape};

/// Bytes of a record's header.
pub(crate) const RECORD_BYTES: u64 = 24;
/// The smallest record: a header and the number at its end.
pub(crate) const RECORD_BYTES_MIN: u64 = RECORD_BYTES + TAILER_BYTES;
/// Bytes of the number at a record's end.
pub(crate) const TAILER_BYTES: u64 = 4;

/// Where in a record's header its length stands.
pub(crate) const LENGTH_AT: u64 = 4;
/// Where in a record's header it stands what it is.
pub(crate) const MAGIC_AT: u64 = 20;

/// What a record is; the number at byte 20 of its header.
pub(crate) mod magic {
    pub(crate) const USED: u32 = 0x2601_1999;
    pub(crate) const FREE: u32 = !USED;
    pub(crate) const DEAD: u32 = 0xFEE1_DEAD;
    pub(crate) const RECOVERY: u32 = 0xF53B_C0E7;
    /// A recovery area without work, or fresh space.
    pub(crate) const IDLE: u32 = 0;
    /// Fresh space that was filled by hand.
    pub(crate) const PAD: u32 = 0x4242_4242;
}

/// The header of a record, as it stands in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    pub(crate) next: u32,
    pub(crate) rec_len: u32,
    pub(crate) key_len: u32,
    pub(crate) data_len: u32,
    pub(crate) hash: u32,
    pub(crate) magic: u32,
}

impl Record {
    pub(crate) fn parse(bytes: &[u8; RECORD_BYTES as usize], order: ByteOrder) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        let mut numbers = words.iter().map(|word| order.number(*word));
        Self::of(std::array::from_fn(|_| numbers.next().unwrap_or(0)))
    }

    /// The fields stand in this order, each four bytes.
    pub(crate) fn of([next, rec_len, key_len, data_len, hash, magic]: [u32; 6]) -> Self {
        Self { next, rec_len, key_len, data_len, hash, magic }
    }

    /// The header as it is to stand in the file.
    pub(crate) fn encode(self, order: ByteOrder) -> [u8; RECORD_BYTES as usize] {
        let numbers = [self.next, self.rec_len, self.key_len, self.data_len, self.hash, self.magic];
        let mut bytes = [0; RECORD_BYTES as usize];
        let (words, _) = bytes.as_chunks_mut::<4>();
        for (word, number) in words.iter_mut().zip(numbers) {
            *word = order.bytes(number);
        }
        bytes
    }

    /// A record of fresh space, that is on no list and holds nothing.
    pub(crate) fn fresh(rec_len: u32, magic: u32) -> Self {
        Self { next: 0, rec_len, key_len: 0, data_len: 0, hash: 0, magic }
    }

    /// Bytes of the whole record, its header included.
    pub(crate) fn total(self) -> u64 {
        RECORD_BYTES + u64::from(self.rec_len)
    }

    /// Bytes of key and data.
    pub(crate) fn payload(self) -> u64 {
        u64::from(self.key_len) + u64::from(self.data_len)
    }

    /// True for records that are on a hash chain.
    pub(crate) fn is_chained(self) -> bool {
        matches!(self.magic, magic::USED | magic::DEAD)
    }

    /// Fails unless the record lies inside the data space and its length is one that occurs.
    pub(crate) fn bounded(self, offset: u64, size: u64) -> Result<Self, Fault> {
        if !self.rec_len.is_multiple_of(4) || u64::from(self.rec_len) < TAILER_BYTES {
            let expected = "a multiple of 4, at least 4";
            return Err(Fault::corrupt(offset, "rec_len", expected, self.rec_len));
        }
        if size < offset + self.total() {
            return Err(Fault::OutOfBounds { offset, length: self.total(), size });
        }
        Ok(self)
    }

    /// Fails unless key and data fit the record. Readers tolerate what lies over the tailer.
    pub(crate) fn readable(self, offset: u64) -> Result<Self, Fault> {
        if self.payload() <= u64::from(self.rec_len) {
            return Ok(self);
        }
        let expected = "no more than rec_len";
        Err(Fault::corrupt(offset, "key_len + data_len", expected, self.payload()))
    }
}

/// Fails unless a record may begin here: behind the list heads, aligned, with room for a header.
pub(crate) fn begins(offset: u64, shape: Shape, size: u64) -> Result<(), Fault> {
    if offset < shape.data_start() {
        return Err(Fault::corrupt(offset, "record offset", "behind the list heads", offset));
    }
    if !offset.is_multiple_of(4) {
        return Err(Fault::corrupt(offset, "record offset", "a multiple of 4", offset));
    }
    if size < offset + RECORD_BYTES {
        return Err(Fault::OutOfBounds { offset, length: RECORD_BYTES, size });
    }
    Ok(())
}

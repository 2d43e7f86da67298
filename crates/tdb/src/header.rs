//! The first 168 bytes of a file: whether it is a TDB file, and how the rest of it is to be read.
//!
//! Invariants: a [`Header`] that was parsed has at least one chain, known features and a hash that
//! this crate has; the list heads that it announces are checked against the size by [`Shape::fits`].
//! Source: the TDB specification, sections 2, 4 and 6.2.

use crate::error::Fault;
use crate::hash::HashKind;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 168;
/// What a file begins with, with the byte that ends it; what follows up to byte 32 is ignored.
pub(crate) const WORDS: &[u8; 10] = b"TDB file\n\0";
const VERSION: u32 = 0x2601_196D;
/// The number of a used record, whose hash tells which hash function made the file.
const HASHED_NUMBER: u32 = 0x2601_1999;
/// Values of the field `rwlocks`.
const RWLOCKS_HASH: u32 = 0x0BAD_1A51;
const RWLOCKS_FEATURES: u32 = 0x0BAD_1A52;
/// The only feature there is: mutexes in front of the data.
const FEATURE_MUTEX: u32 = 1;
/// More chains would need more list heads than 4 GiB have room for.
const HASH_SIZE_MAX: u32 = 0x3FFF_FFFF;
/// The mutexes take whole pages of at least this.
const MUTEX_AREA_STEP: u32 = 4096;

/// Where fields stand.
pub(crate) mod at {
    pub(crate) const VERSION: usize = 32;
    pub(crate) const HASH_SIZE: usize = 36;
    pub(crate) const RWLOCKS: usize = 40;
    pub(crate) const RECOVERY_START: usize = 44;
    pub(crate) const SEQUENCE: usize = 48;
    pub(crate) const MAGIC1: usize = 52;
    pub(crate) const MAGIC2: usize = 56;
    pub(crate) const FEATURES: usize = 60;
    pub(crate) const MUTEX_SIZE: usize = 64;
}

/// The byte order of the numbers of a file; keys and data have none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteOrder {
    /// The least significant byte first.
    Little,
    /// The most significant byte first.
    Big,
}

impl ByteOrder {
    /// The order of this machine.
    pub const NATIVE: Self = if cfg!(target_endian = "big") { Self::Big } else { Self::Little };

    /// Reads a number.
    pub fn number(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    /// Writes a number.
    pub fn bytes(self, number: u32) -> [u8; 4] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }
}

/// What the header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// How all numbers of the file are written.
    pub order: ByteOrder,
    /// Number of hash chains, at least 1.
    pub hash_size: u32,
    /// Which hash function the keys are spread by.
    pub hash: HashKind,
    /// Size of the mutex area in front of the data, 0 for files without one.
    pub mutex_size: u32,
    /// Where the recovery area is; 0 = there never was one.
    pub recovery_start: u32,
    /// Counts changes, if whoever changes the file was asked to count.
    pub sequence: u32,
}

impl Header {
    /// Reads the first bytes of a file.
    ///
    /// # Errors
    /// [`Fault::NotTdb`] for bytes that are something else, [`Fault::Header`] for a version, a hash
    /// or a feature that this crate does not know.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Fault> {
        if !bytes.starts_with(WORDS) {
            return Err(Fault::NotTdb { expected: "the words `TDB file` at the beginning" });
        }
        let order = order_of(bytes)?;
        let field = |offset| field(bytes, offset, order);
        let rwlocks = field(at::RWLOCKS);
        if ![0, RWLOCKS_HASH, RWLOCKS_FEATURES].contains(&rwlocks) {
            return Err(wrong("rwlocks", at::RWLOCKS, "0, 0xbad1a51 or 0xbad1a52", rwlocks));
        }
        let hash_size = field(at::HASH_SIZE);
        if !(1..=HASH_SIZE_MAX).contains(&hash_size) {
            return Err(wrong("hash_size", at::HASH_SIZE, "1 to 0x3fffffff chains", hash_size));
        }
        Ok(Self {
            order,
            hash_size,
            hash: hash_of(field(at::MAGIC1), field(at::MAGIC2), order)?,
            mutex_size: mutex_size(rwlocks, field(at::FEATURES), field(at::MUTEX_SIZE))?,
            recovery_start: field(at::RECOVERY_START),
            sequence: field(at::SEQUENCE),
        })
    }

    /// The header of a new database.
    ///
    /// # Errors
    /// If it were to have no chain, or more than fit a file.
    pub fn new(hash_size: u32, hash: HashKind, order: ByteOrder) -> Result<Self, Fault> {
        if !(1..=HASH_SIZE_MAX).contains(&hash_size) {
            return Err(wrong("hash_size", at::HASH_SIZE, "1 to 0x3fffffff chains", hash_size));
        }
        Ok(Self { order, hash_size, hash, mutex_size: 0, recovery_start: 0, sequence: 0 })
    }

    /// The header as the first bytes of a file.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let rwlocks = match (self.mutex_size, self.hash) {
            (0, HashKind::Default) => 0,
            (0, HashKind::Jenkins) => RWLOCKS_HASH,
            _ => RWLOCKS_FEATURES,
        };
        let numbers = [
            (at::VERSION, VERSION),
            (at::HASH_SIZE, self.hash_size),
            (at::RWLOCKS, rwlocks),
            (at::RECOVERY_START, self.recovery_start),
            (at::SEQUENCE, self.sequence),
            (at::MAGIC1, self.hash.of(WORDS)),
            (at::MAGIC2, self.hash.of(&self.order.bytes(HASHED_NUMBER))),
            (at::FEATURES, if self.mutex_size == 0 { 0 } else { FEATURE_MUTEX }),
            (at::MUTEX_SIZE, self.mutex_size),
        ];
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |offset: usize, from: &[u8]| {
            let place = bytes.get_mut(offset..).and_then(|rest| rest.get_mut(..from.len()));
            if let Some(place) = place {
                place.copy_from_slice(from);
            }
        };
        put(0, WORDS);
        for (offset, number) in numbers {
            put(offset, &self.order.bytes(number));
        }
        bytes
    }

    /// What never changes while a file is open.
    pub(crate) fn shape(&self) -> Shape {
        Shape { order: self.order, hash: self.hash, hash_size: self.hash_size }
    }
}

fn wrong(field: &'static str, offset: usize, expected: &'static str, found: u32) -> Fault {
    Fault::Header { field, offset: offset as u64, expected, found: found.into() }
}

/// The number at an offset; an offset beyond the header reads as 0, which no caller asks for.
fn field(bytes: &[u8; HEADER_BYTES], offset: usize, order: ByteOrder) -> u32 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |raw| order.number(*raw))
}

fn order_of(bytes: &[u8; HEADER_BYTES]) -> Result<ByteOrder, Fault> {
    let orders = [ByteOrder::Little, ByteOrder::Big];
    orders.into_iter().find(|order| field(bytes, at::VERSION, *order) == VERSION).ok_or_else(|| {
        let found = field(bytes, at::VERSION, ByteOrder::NATIVE);
        wrong("version", at::VERSION, "0x2601196d in either byte order", found)
    })
}

/// Both numbers that were hashed when the file was made; both 0 = older than this check.
fn hash_of(magic1: u32, magic2: u32, order: ByteOrder) -> Result<HashKind, Fault> {
    if magic1 == 0 && magic2 == 0 {
        return Ok(HashKind::Default);
    }
    let made_by = |hash: &HashKind| {
        (magic1, magic2) == (hash.of(WORDS), hash.of(&order.bytes(HASHED_NUMBER)))
    };
    [HashKind::Default, HashKind::Jenkins].into_iter().find(made_by).ok_or_else(|| {
        wrong("magic1_hash", at::MAGIC1, "what one of the two built-in hashes gives", magic1)
    })
}

fn mutex_size(rwlocks: u32, features: u32, mutex_size: u32) -> Result<u32, Fault> {
    if rwlocks != RWLOCKS_FEATURES {
        return Ok(0);
    }
    if features & !FEATURE_MUTEX != 0 {
        return Err(wrong(
            "feature_flags",
            at::FEATURES,
            "no feature but mutexes (bit 0)",
            features,
        ));
    }
    if features == 0 {
        return Ok(0);
    }
    // Whether it is the size that this machine's mutexes have is asked by whoever locks them.
    if mutex_size == 0 || !mutex_size.is_multiple_of(MUTEX_AREA_STEP) {
        return Err(wrong("mutex_size", at::MUTEX_SIZE, "whole pages of 4096 bytes", mutex_size));
    }
    Ok(mutex_size)
}

/// A list that records are on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum List {
    /// The records that may be used again.
    Free,
    /// The records whose hash, modulo the number of chains, is this.
    Chain(u32),
}

impl List {
    /// Where its head stands.
    pub(crate) fn head(self) -> u64 {
        match self {
            Self::Free => HEADER_BYTES as u64,
            Self::Chain(chain) => HEADER_BYTES as u64 + 4 + 4 * u64::from(chain),
        }
    }
}

/// What never changes while a file is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    pub(crate) order: ByteOrder,
    pub(crate) hash: HashKind,
    /// Never 0.
    pub(crate) hash_size: u32,
}

impl Shape {
    /// Where the records begin.
    pub(crate) fn data_start(self) -> u64 {
        HEADER_BYTES as u64 + 4 * (u64::from(self.hash_size) + 1)
    }

    /// The chain of a key with this hash.
    pub(crate) fn chain(self, hash: u32) -> u32 {
        // A shape has at least one chain; `checked_rem` only spares a panic that cannot be.
        hash.checked_rem(self.hash_size).unwrap_or(0)
    }

    /// Fails if the list heads do not fit the file.
    pub(crate) fn fits(self, size: u64) -> Result<(), Fault> {
        if self.data_start() <= size {
            return Ok(());
        }
        let expected = "so many chains that their heads fit the file";
        Err(wrong("hash_size", at::HASH_SIZE, expected, self.hash_size))
    }
}

//! Reading lists and records: heads, chains, keys, values.
//!
//! Invariants: no walk follows a list for longer than the file has records, and a list that comes
//! back to itself is found out before anything of it is handed on; no length of the file is believed
//! before it was compared with the size.
//! Source: the TDB specification, sections 3, 10 and 19.

use crate::error::Fault;
use crate::header::{HEADER_BYTES, Header, List, Shape, at};
use crate::locks::Locks;
use crate::os::page::page_size;
use crate::record::{RECORD_BYTES, RECORD_BYTES_MIN, Record, begins, magic};
use crate::space::Space;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// A database that is open: its bytes, and how to read them.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) space: Space,
    pub(crate) shape: Shape,
    pub(crate) settings: Settings,
    pub(crate) locks: Locks,
    /// What files grow by.
    pub(crate) page: u64,
    /// Memory that records are put together in.
    pub(crate) scratch: RefCell<Vec<u8>>,
}

/// What a handle was asked to do beyond reading and writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Settings {
    /// Deleted records that may stay on each chain, to be used again without the free list.
    pub(crate) max_dead: u32,
    /// Count changes in the header.
    pub(crate) sequence: bool,
    /// Wait for the disk where a transaction has to be safe from power loss.
    pub(crate) sync: bool,
}

/// A record and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Placed {
    pub(crate) offset: u64,
    pub(crate) record: Record,
}

/// What a search for a key came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    Here(Placed),
    Nowhere { dead: u32 },
}

/// What a chain holds of one key, and of nobody.
#[derive(PartialEq, Eq, Debug, Default)]
pub(crate) struct Survey {
    /// The record of the key, and where its offset stands.
    pub(crate) newest: Option<(Placed, u64)>,
    /// What the same key has behind it, left by somebody who was killed.
    pub(crate) others: Vec<Placed>,
    /// Deleted records.
    pub(crate) dead: u32,
}

/// What was met on chains so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Met {
    records: u64,
    /// Of keys and data.
    bytes: u64,
}

/// Records of a damaged file may lie over each other, and claim the square of what the file holds.
/// Of keys and of data no more than so many times the file's size is read. In a sound file they fit
/// in once; the rest is for one that changes while it is read.
pub(crate) const OVERLAP_MAX: u64 = 4;

impl Engine {
    /// Fails if the header announces what the bytes do not hold.
    pub(crate) fn new(
        space: Space,
        shape: Shape,
        settings: Settings,
        locks: Locks,
    ) -> Result<Self, Fault> {
        shape.fits(space.size())?;
        let (page, scratch) = (page_size(), RefCell::default());
        Ok(Self { space, shape, settings, locks, page, scratch })
    }

    /// The header as it stands now, which is in mutex files the one behind the mutexes.
    pub(crate) fn header(&self) -> Result<Header, Fault> {
        let mut bytes = [0; HEADER_BYTES];
        self.space.read(0, &mut bytes)?;
        Header::parse(&bytes)
    }

    #[inline]
    pub(crate) fn number(&self, offset: u64) -> Result<u32, Fault> {
        self.space.words(offset, self.shape.order).map(|[number]| number)
    }

    /// Writes a number; all numbers of a file are offsets, lengths and counts of 32 bits.
    pub(crate) fn write_number(&self, offset: u64, number: u64) -> Result<(), Fault> {
        let number = u32::try_from(number)
            .map_err(|_| Fault::Full { size: self.space.size(), wanted: number })?;
        self.space.write(offset, &self.shape.order.bytes(number))
    }

    pub(crate) fn write_record(&self, offset: u64, record: Record) -> Result<(), Fault> {
        self.space.write(offset, &record.encode(self.shape.order))
    }

    pub(crate) fn bytes(&self, offset: u64, length: u32) -> Result<Vec<u8>, Fault> {
        self.space.bytes(offset, length)
    }

    pub(crate) fn recovery_start(&self) -> Result<u64, Fault> {
        self.number(at::RECOVERY_START as u64).map(u64::from)
    }

    /// Fails if an interrupted transaction waits to be undone.
    pub(crate) fn no_recovery_pending(&self) -> Result<(), Fault> {
        let offset = self.recovery_start()?;
        if offset != 0 && self.header_at(offset)?.magic == magic::RECOVERY {
            return Err(Fault::RecoveryPending { offset });
        }
        Ok(())
    }

    /// What stands where a record begins, believed as far as that it lies inside the file.
    pub(crate) fn header_at(&self, offset: u64) -> Result<Record, Fault> {
        let words = self.space.words(offset, self.shape.order)?;
        begins(offset, self.shape, self.space.size())?;
        Ok(Record::of(words))
    }

    /// A record of a hash chain, whose key and data may be read.
    pub(crate) fn chained_at(&self, offset: u64) -> Result<Placed, Fault> {
        let record = self.header_at(offset)?;
        if !record.is_chained() {
            let expected = "the number of a used or a dead record";
            return Err(Fault::corrupt(offset, "magic", expected, record.magic));
        }
        self.space.within(offset, record.total())?;
        let record = record.bounded(offset, self.space.size())?.readable(offset)?;
        Ok(Placed { offset, record })
    }

    /// A record of the free list.
    pub(crate) fn free_at(&self, offset: u64) -> Result<Placed, Fault> {
        self.free_of(offset, self.header_at(offset)?)
    }

    /// As [`Engine::free_at`], of a header that was just read there.
    pub(crate) fn free_of(&self, offset: u64, record: Record) -> Result<Placed, Fault> {
        if record.magic != magic::FREE {
            let expected = "the number of a free record";
            return Err(Fault::corrupt(offset, "magic", expected, record.magic));
        }
        self.space.within(offset, record.total())?;
        Ok(Placed { offset, record: record.bounded(offset, self.space.size())? })
    }

    /// A record of a list, by the kind of the list.
    pub(crate) fn listed_at(&self, list: List, offset: u64) -> Result<Placed, Fault> {
        match list {
            List::Free => self.free_at(offset),
            List::Chain(_) => self.chained_at(offset),
        }
    }

    /// More records than this fit into no file of this size; who meets more was led in circles, or
    /// from one chain into another.
    pub(crate) fn records_max(&self) -> u64 {
        self.space.size() / RECORD_BYTES_MIN + 1
    }

    /// Follows a list from its head.
    pub(crate) fn walk(&self, list: List) -> Walk<'_> {
        let limit = self.records_max();
        let slot = list.head();
        Walk { engine: self, list, slot, steps: 0, limit, anchor: 0, anchored_for: 1, ended: false }
    }

    /// Fails if all chains up to this one have more records than the file has room for.
    pub(crate) fn plausible(&self, records: u64, chain: u32) -> Result<(), Fault> {
        if records <= self.records_max() {
            return Ok(());
        }
        let head = List::Chain(chain).head();
        Err(Fault::corrupt(head, "chains", "no more records than fit the file", records))
    }

    /// All records of a list, once it is known that the list ends.
    pub(crate) fn list(&self, list: List) -> Result<Vec<Placed>, Fault> {
        self.walk(list).collect()
    }

    /// The live records of a chain, once it is known that the file has room for what they claim to
    /// hold, together with what was `met` before them.
    pub(crate) fn live(&self, chain: u32, met: &mut Met) -> Result<Vec<Placed>, Fault> {
        let mut records = self.list(List::Chain(chain))?;
        met.records += records.len() as u64;
        self.plausible(met.records, chain)?;
        records.retain(|placed| placed.record.magic == magic::USED);
        met.bytes += records.iter().map(|placed| placed.record.payload()).sum::<u64>();
        if self.space.size().saturating_mul(OVERLAP_MAX) < met.bytes {
            let (head, expected) = (List::Chain(chain).head(), "no more bytes than the file has");
            return Err(Fault::corrupt(head, "chains", expected, met.bytes));
        }
        Ok(records)
    }

    /// Parts live records of a chain into those that hold the value of their key, and those that stand
    /// behind one of the same key: replaced, but left by somebody who was killed before he could
    /// delete them.
    pub(crate) fn part(&self, live: Vec<Placed>) -> Result<(Vec<Placed>, Vec<Placed>), Fault> {
        let mut hashes: Vec<u32> = live.iter().map(|placed| placed.record.hash).collect();
        hashes.sort_unstable();
        if hashes.windows(2).all(|pair| pair.first() != pair.last()) {
            return Ok((live, Vec::new()));
        }
        let (mut newest, mut replaced) = (Vec::new(), Vec::new());
        let mut keys = BTreeSet::new();
        for placed in live {
            let is_first = keys.insert(self.key(placed)?);
            if is_first { &mut newest } else { &mut replaced }.push(placed);
        }
        Ok((newest, replaced))
    }

    pub(crate) fn key(&self, placed: Placed) -> Result<Vec<u8>, Fault> {
        self.bytes(placed.offset + RECORD_BYTES, placed.record.key_len)
    }

    pub(crate) fn data(&self, placed: Placed) -> Result<Vec<u8>, Fault> {
        let offset = placed.offset + RECORD_BYTES + u64::from(placed.record.key_len);
        self.bytes(offset, placed.record.data_len)
    }

    /// As [`Engine::data`], into memory that was used before.
    pub(crate) fn data_into(&self, placed: Placed, into: &mut Vec<u8>) -> Result<(), Fault> {
        let offset = placed.offset + RECORD_BYTES + u64::from(placed.record.key_len);
        // Before memory is reserved for it: a length of a damaged file may be anything.
        self.space.within(offset, placed.record.data_len.into())?;
        into.resize(placed.record.data_len as usize, 0);
        self.space.read(offset, into)
    }

    /// The chain that a key belongs to.
    pub(crate) fn chain_of(&self, key: &[u8]) -> List {
        List::Chain(self.shape.chain(self.shape.hash.of(key)))
    }

    /// The record of a key that has this hash.
    pub(crate) fn find(&self, key: &[u8], hash: u32) -> Result<Option<Placed>, Fault> {
        match self.find_or_count(key, hash)? {
            Found::Here(placed) => Ok(Some(placed)),
            Found::Nowhere { .. } => Ok(None),
        }
    }

    /// As [`Engine::find`], and how many deleted records the chain has, which is only known where the
    /// whole of it was looked at: where nothing was found.
    pub(crate) fn find_or_count(&self, key: &[u8], hash: u32) -> Result<Found, Fault> {
        match self.quick_find(key, hash) {
            Some(found) => Ok(found),
            None => self.careful_find(key, hash),
        }
    }

    pub(crate) fn careful_find(&self, key: &[u8], hash: u32) -> Result<Found, Fault> {
        let mut dead = 0;
        for placed in self.walk(List::Chain(self.shape.chain(hash))) {
            let placed = placed?;
            if placed.record.magic == magic::DEAD {
                dead += 1;
            } else if self.is_of(placed, key, hash)? {
                return Ok(Found::Here(placed));
            }
        }
        Ok(Found::Nowhere { dead })
    }

    /// Looks at a whole chain for what has to be known to delete the value of a key.
    pub(crate) fn survey(&self, key: &[u8], hash: u32) -> Result<Survey, Fault> {
        match self.quick_survey(key, hash) {
            Some(survey) => Ok(survey),
            None => self.careful_survey(key, hash),
        }
    }

    pub(crate) fn careful_survey(&self, key: &[u8], hash: u32) -> Result<Survey, Fault> {
        let chain = List::Chain(self.shape.chain(hash));
        let mut survey = Survey::default();
        let mut slot = chain.head();
        for placed in self.walk(chain) {
            let placed = placed?;
            if placed.record.magic == magic::DEAD {
                survey.dead += 1;
            } else if self.is_of(placed, key, hash)? {
                match survey.newest {
                    None => survey.newest = Some((placed, slot)),
                    Some(_) => survey.others.push(placed),
                }
            }
            slot = placed.offset;
        }
        Ok(survey)
    }

    /// Whether a record of a chain holds a value of this key.
    pub(crate) fn is_of(&self, placed: Placed, key: &[u8], hash: u32) -> Result<bool, Fault> {
        let Record { magic, hash: own, key_len, .. } = placed.record;
        let may_be = magic == magic::USED && own == hash && key_len as usize == key.len();
        Ok(may_be && self.space.equals(placed.offset + RECORD_BYTES, key)?)
    }
}

/// Follows a list; yields each record once, or the fault that ends the list.
pub(crate) struct Walk<'a> {
    engine: &'a Engine,
    list: List,
    /// Where the offset of the next record stands.
    slot: u64,
    steps: u64,
    limit: u64,
    /// A record that was passed; who meets it again goes in circles (Brent's way of telling).
    anchor: u64,
    anchored_for: u64,
    ended: bool,
}

impl Walk<'_> {
    fn step(&mut self) -> Result<Option<Placed>, Fault> {
        let offset = u64::from(self.engine.number(self.slot)?);
        if offset == 0 {
            return Ok(None);
        }
        self.steps += 1;
        let circles = offset == self.anchor || offset == self.slot || self.limit < self.steps;
        if circles {
            let expected = "an offset that was not met before";
            return Err(Fault::corrupt(self.slot, "next", expected, offset));
        }
        if self.steps == self.anchored_for {
            self.anchor = offset;
            self.anchored_for *= 2;
        }
        let placed = self.engine.listed_at(self.list, offset)?;
        // The first field of a record is the offset of the next one.
        self.slot = offset;
        Ok(Some(placed))
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Placed, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step();
        self.ended = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

//! What a database consists of: counts and sizes of what is in it.
//!
//! Invariant: a sound file is counted whole; a damaged one gives the fault that ends the walk.
//! Source: the TDB specification, section 17.5.

use crate::engine::Engine;
use crate::error::Fault;
use crate::hash::HashKind;
use crate::header::{ByteOrder, List};
use crate::record::{Record, magic};

/// Count, least, most and sum of lengths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// The smallest; 0 if there is none.
    pub min: u64,
    /// The largest.
    pub max: u64,
    /// All together.
    pub sum: u64,
}

impl Tally {
    fn add(&mut self, value: u64) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// The mean, rounded down; 0 if there is none.
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(0)
    }
}

/// What a database consists of. All sizes are in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Size of the data space: the file without its mutexes.
    pub size: u64,
    /// Byte order of the file's numbers.
    pub order: ByteOrder,
    /// Its hash function.
    pub hash: HashKind,
    /// Size of the mutex area in front of the data, 0 without one.
    pub mutex_size: u32,
    /// The sequence number.
    pub sequence: u32,
    /// Keys of live records.
    pub keys: Tally,
    /// Data of live records.
    pub data: Tally,
    /// What live records have more than they need.
    pub padding: Tally,
    /// Dead records, with their headers.
    pub dead: Tally,
    /// Free records, with their headers.
    pub free: Tally,
    /// Live and dead records on each chain.
    pub chains: Tally,
    /// Size of the recovery area, 0 without one.
    pub recovery: u64,
    /// Space that nothing refers to.
    pub dead_space: u64,
}

impl Engine {
    /// Counts what is there.
    pub(crate) fn stats(&self) -> Result<Stats, Fault> {
        let size = self.space.refresh()?;
        let header = self.header()?;
        let mut stats = Stats {
            size,
            order: header.order,
            hash: header.hash,
            mutex_size: header.mutex_size,
            sequence: header.sequence,
            keys: Tally::default(),
            data: Tally::default(),
            padding: Tally::default(),
            dead: Tally::default(),
            free: Tally::default(),
            chains: Tally::default(),
            recovery: 0,
            dead_space: 0,
        };
        let recovery = u64::from(header.recovery_start);
        if recovery != 0 {
            stats.recovery = self.header_at(recovery)?.bounded(recovery, size)?.total();
        }
        for placed in self.walk(List::Free) {
            stats.free.add(placed?.record.total());
        }
        let mut used = 0;
        for chain in 0..self.shape.hash_size {
            let mut length = 0;
            for placed in self.walk(List::Chain(chain)) {
                length += 1;
                used += stats.chained(placed?.record);
            }
            stats.chains.add(length);
            self.plausible(stats.chains.sum, chain)?;
        }
        let known = self.shape.data_start() + stats.recovery + stats.free.sum + used;
        stats.dead_space = size.saturating_sub(known);
        Ok(stats)
    }
}

impl Stats {
    /// Counts a record of a chain; returns its size.
    fn chained(&mut self, record: Record) -> u64 {
        if record.magic == magic::DEAD {
            self.dead.add(record.total());
        } else {
            self.keys.add(record.key_len.into());
            self.data.add(record.data_len.into());
            self.padding.add(u64::from(record.rec_len) - record.payload());
        }
        record.total()
    }
}

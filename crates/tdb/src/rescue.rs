//! What can be saved of a damaged database.
//!
//! Every place where a record could begin is looked at. What looks like a record in use is a
//! candidate; candidates that a chain still reaches are the truth, and where no chain reaches any
//! candidate of a key, those that do not lie in free space are the best there is.
//!
//! Invariants: no byte is believed, and no fault ends the search; the work has a bound, whatever the
//! lengths in the file say: what would exceed it is counted and left out.
//! Source: the TDB specification, section 17.2.

use crate::database::Pair;
use crate::engine::{Engine, OVERLAP_MAX, Placed};
use crate::error::Fault;
use crate::header::List;
use crate::record::{RECORD_BYTES, Record, begins, magic};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes that are read at once.
const WINDOW_BYTES: u32 = 64 * 1024;

/// What a rescue found.
#[derive(Debug, Default)]
pub struct Rescued {
    /// Key and data, by length of the key, then by the key; a key may come more than once.
    pub records: Vec<Pair>,
    /// Candidates that were left out because their keys add up to many times the file.
    pub skipped: u64,
}

/// A record that may be one.
#[derive(Clone, Copy)]
struct Candidate {
    placed: Placed,
    on_chain: bool,
}

/// Bytes that may still be read.
struct Budget(u64);

impl Budget {
    fn spend(&mut self, bytes: u32) -> bool {
        let left = self.0.checked_sub(bytes.into());
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// Stretches of the file, none of which touches another, in ascending order.
struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Of stretches that may overlap, as those of a damaged file can.
    fn new(mut all: Vec<(u64, u64)>) -> Self {
        all.sort_unstable();
        let mut apart: Vec<(u64, u64)> = Vec::new();
        for (from, to) in all {
            match apart.last_mut() {
                Some((_, end)) if from <= *end => *end = to.max(*end),
                _ => apart.push((from, to)),
            }
        }
        Self(apart)
    }

    fn contains(&self, offset: u64) -> bool {
        let after = self.0.partition_point(|(from, _)| *from <= offset);
        let last = after.checked_sub(1).and_then(|index| self.0.get(index));
        last.is_some_and(|(_, to)| offset < *to)
    }
}

impl Engine {
    /// Saves what can be saved; fails only where the size cannot be looked up.
    pub(crate) fn rescue(&self) -> Result<Rescued, Fault> {
        let size = self.space.refresh()?;
        let mut rescued = Rescued::default();
        let on_chains = self.reached();
        let free = self.free_space(size);
        // By the length of the key, then by its bytes.
        let mut groups: BTreeMap<(usize, Vec<u8>), Vec<Candidate>> = BTreeMap::new();
        let mut budget = Budget(size.saturating_mul(OVERLAP_MAX));
        self.scan(size, &mut |placed| {
            if !budget.spend(placed.record.key_len) {
                rescued.skipped += 1;
                return;
            }
            let Ok(key) = self.key(placed) else { return };
            let on_chain = on_chains.contains(&placed.offset);
            let is_free = free.contains(placed.offset);
            if self.shape.hash.of(&key) == placed.record.hash && (on_chain || !is_free) {
                let group = groups.entry((key.len(), key)).or_default();
                group.push(Candidate { placed, on_chain });
            }
        });
        budget = Budget(size.saturating_mul(OVERLAP_MAX));
        for ((_, key), group) in groups {
            let any_on_chain = group.iter().any(|candidate| candidate.on_chain);
            let best = group.iter().filter(|candidate| candidate.on_chain == any_on_chain);
            for candidate in best {
                if !budget.spend(candidate.placed.record.data_len) {
                    rescued.skipped += 1;
                } else if let Ok(data) = self.data(candidate.placed) {
                    rescued.records.push((key.clone(), data));
                }
            }
        }
        Ok(rescued)
    }

    /// Live records that chains reach, as far as each can be followed.
    fn reached(&self) -> BTreeSet<u64> {
        (0..self.shape.hash_size)
            .flat_map(|chain| self.walk(List::Chain(chain)).map_while(Result::ok))
            .take(self.records_max() as usize)
            .filter(|placed| placed.record.magic == magic::USED)
            .map(|placed| placed.offset)
            .collect()
    }

    /// Free records and the recovery area, as far as they can be found.
    fn free_space(&self, size: u64) -> Ranges {
        let free = self.walk(List::Free).map_while(Result::ok);
        let mut spaces: Vec<(u64, u64)> =
            free.map(|at| (at.offset, at.offset + at.record.total())).collect();
        if let Ok(offset) = self.recovery_start()
            && offset != 0
            && let Ok(record) = self.header_at(offset)
            && matches!(record.magic, magic::IDLE | magic::RECOVERY)
            && record.bounded(offset, size).is_ok()
        {
            spaces.push((offset, offset + record.total()));
        }
        Ranges::new(spaces)
    }

    /// Hands on everything that looks like a record in use.
    fn scan(&self, size: u64, found: &mut dyn FnMut(Placed)) {
        let mut from = self.shape.data_start();
        while from + RECORD_BYTES <= size {
            let length = u64::from(WINDOW_BYTES).min(size - from) as u32;
            let Ok(window) = self.bytes(from, length) else { return };
            let mut looked = 0;
            for (index, bytes) in window.windows(RECORD_BYTES as usize).enumerate().step_by(4) {
                looked = index as u64 + 4;
                let Some(bytes) = bytes.first_chunk() else { continue };
                let record = Record::parse(bytes, self.shape.order);
                let placed = Placed { offset: from + index as u64, record };
                if self.is_candidate(placed, size) {
                    found(placed);
                }
            }
            from += looked.max(4);
        }
    }

    fn is_candidate(&self, Placed { offset, record }: Placed, size: u64) -> bool {
        record.magic == magic::USED
            && record.rec_len.is_multiple_of(4)
            && record.payload() <= u64::from(record.rec_len)
            && offset + RECORD_BYTES + record.payload() <= size
            && (record.next == 0 || begins(record.next.into(), self.shape, size).is_ok())
    }
}

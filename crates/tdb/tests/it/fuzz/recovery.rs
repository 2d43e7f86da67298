//! A file with an interrupted transaction, made so that the fuzzer need not find out first what one
//! looks like: a sound file, and behind it a recovery area with pieces of any kind.
//!
//! What has to be true: a transaction that can't be undone leaves every byte as it was; one that was
//! undone is no longer there to be undone; and undoing it once more, as after a kill in the middle,
//! comes to the same.

use super::read::ask;
use super::scratch::Scratch;
use tdb::{ByteOrder, Database, HEADER_BYTES, HashKind, Header, Options};

const USED: u32 = 0x2601_1999;
const COUNTS: u32 = 0xF53B_C0E7;
const RECORD_BYTES: usize = 24;

/// What decides, byte by byte; zeros when there are no more.
struct Dice<'a>(&'a [u8]);

impl<'a> Dice<'a> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// One bit each: what is not as a writer would do it.
mod odd {
    pub(super) const BIG_ENDIAN: u8 = 1;
    pub(super) const JENKINS: u8 = 2;
    pub(super) const OLD_SIZE: u8 = 4;
    pub(super) const DATA_LEN: u8 = 8;
    pub(super) const REC_LEN: u8 = 16;
    pub(super) const START: u8 = 32;
    pub(super) const TAIL: u8 = 64;
    pub(super) const UNMAPPED: u8 = 128;
}

/// The file, and where its area is.
struct Torn {
    bytes: Vec<u8>,
    order: ByteOrder,
    area: usize,
    area_end: usize,
    /// The pieces put back the head of the free list as a whole, or leave it alone and what lies
    /// behind the old end too: so does each writer.
    repeatable: bool,
}

fn torn(dice: &mut Dice<'_>, odd: u8) -> Torn {
    let order = if odd & odd::BIG_ENDIAN == 0 { ByteOrder::Little } else { ByteOrder::Big };
    let hash = if odd & odd::JENKINS == 0 { HashKind::Default } else { HashKind::Jenkins };
    let hash_size = 1 + u32::from(dice.byte() % 4);
    let start = HEADER_BYTES + 4 * (hash_size as usize + 1);
    let old_size = start + 28 + 4 * usize::from(dice.byte());
    let area = old_size + 4 * usize::from(dice.byte() % 16);
    let behind = 4 * usize::from(dice.byte() % 16);

    let mut header = Header::new(hash_size, hash, order).unwrap();
    header.recovery_start = if odd & odd::START == 0 { area as u32 } else { dice.number() };
    let mut bytes = header.encode().to_vec();
    bytes.resize(area, 0);
    let mut put = |at: usize, number: u32| {
        bytes[at..at + 4].copy_from_slice(&order.bytes(number));
    };
    // All that was there is one free record.
    let free = (old_size - start) as u32;
    put(HEADER_BYTES, start as u32);
    put(start + 4, free - RECORD_BYTES as u32);
    put(start + 20, !USED);
    put(old_size - 4, free);

    let told_old_size = if odd & odd::OLD_SIZE == 0 { old_size as u32 } else { dice.number() };
    let told_data_len = (odd & odd::DATA_LEN != 0).then(|| dice.number());
    let told_rec_len = (odd & odd::REC_LEN != 0).then(|| dice.number());
    let slack = 4 * usize::from(dice.byte() % 8);
    let (blob, pieces) = blob(dice, order, area, odd);
    let head = HEADER_BYTES as u64;
    let meets = |from: u64, to: u64| pieces.iter().any(|piece| piece.0 < to && from < piece.1);
    let whole_head = pieces.iter().any(|piece| piece.0 <= head && head + 4 <= piece.1);
    let repeatable = whole_head || !meets(head, head + 4) && !meets(told_old_size.into(), u64::MAX);
    let rec_len = (blob.len() + slack).next_multiple_of(4);
    let data_len = told_data_len.unwrap_or(blob.len() as u32);
    let told_rec_len = told_rec_len.unwrap_or(rec_len as u32);
    for number in [0, told_rec_len, told_old_size, data_len, 0, COUNTS] {
        bytes.extend(order.bytes(number));
    }
    bytes.extend(blob);
    let area_end = area + RECORD_BYTES + rec_len;
    bytes.resize(area_end + behind, 0);
    Torn { bytes, order, area, area_end, repeatable }
}

/// The pieces: where each belongs, and what stood there; and from where to where each reaches.
fn blob(dice: &mut Dice<'_>, order: ByteOrder, area: usize, odd: u8) -> (Vec<u8>, Vec<(u64, u64)>) {
    let (mut blob, mut pieces) = (Vec::new(), Vec::new());
    while !dice.0.is_empty() {
        let kind = dice.byte();
        let offset = match kind % 4 {
            0 => 4 * u32::from(dice.byte()),
            1 => HEADER_BYTES as u32 + 4 * u32::from(dice.byte() % 8),
            2 => (area as u32).wrapping_add_signed(4 * i32::from(dice.byte() as i8)),
            _ => dice.number(),
        };
        let bytes = dice.bytes(usize::from(kind / 4));
        blob.extend(order.bytes(offset));
        blob.extend(order.bytes(bytes.len() as u32));
        blob.extend(bytes);
        pieces.push((u64::from(offset), u64::from(offset) + bytes.len() as u64));
    }
    if odd & odd::TAIL == 0 {
        blob.extend([0; 4]);
    }
    (blob, pieces)
}

pub(crate) fn recovery(input: &[u8]) {
    let mut dice = Dice(input);
    let odd = dice.byte();
    let torn = torn(&mut dice, odd);
    let file = Scratch::new(&torn.bytes);
    let mut options = Options::new().unsynced();
    if odd & odd::UNMAPPED != 0 {
        options = options.unmapped();
    }
    let Ok(database) = options.open(file.path()) else {
        assert!(file.bytes() == torn.bytes, "what can't be undone is left as it was");
        return;
    };
    let after = file.bytes();
    assert_eq!(after.len(), torn.bytes.len());
    let _copy = Database::from_bytes(after.clone()).map(|copy| ask(&copy));
    drop(database);
    let same = |from: usize, to: usize| after[from..to] == torn.bytes[from..to];
    // What is put back over the area itself, or the place that leads to it, is not a writer's doing.
    if same(0, HEADER_BYTES)
        && same(torn.area, torn.area + 20)
        && same(torn.area + 24, torn.area_end)
        && odd & odd::START == 0
        && torn.repeatable
    {
        Database::open_read_only(file.path()).unwrap();
        let mut torn_again = after.clone();
        torn_again[torn.area + 20..torn.area + 24].copy_from_slice(&torn.order.bytes(COUNTS));
        let again = Scratch::new(&torn_again);
        drop(options.open(again.path()).unwrap());
        assert!(again.bytes() == after, "undoing it once more comes to the same");
    }
}

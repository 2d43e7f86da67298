//! Records of an append-only segment file: `length (4) · crc32 of the body (4) · body`, numbers
//! little-endian, the body one [`EventRecord`] as JSON.
//!
//! Why: a writer may die between any two bytes. A reader must tell a whole record from a torn one,
//! take all whole ones, and never more.

use crate::EventRecord;

/// Longest record body: a message and its details. More is refused by the writer.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;

const HEADER_BYTES: usize = 8;

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The header claims more than [`RECORD_BYTES_MAX`], or nothing.
    #[error("a record of {0} bytes, 1 to {RECORD_BYTES_MAX} are allowed")]
    Length(usize),
    /// The body is not what was written.
    #[error("a record whose checksum is {found:08x}, but {expected:08x} was written")]
    Checksum {
        /// Computed from the body.
        found: u32,
        /// Written in the header.
        expected: u32,
    },
    /// The body has the right checksum and is still no event record.
    #[error("a record that can't be read")]
    Body(#[from] serde_json::Error),
}

/// Writes one record.
pub fn encode_record(event: &EventRecord) -> Result<Vec<u8>, RecordError> {
    let mut bytes = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut bytes, event)?;
    let body = bytes.len() - HEADER_BYTES;
    if RECORD_BYTES_MAX < body {
        return Err(RecordError::Length(body));
    }
    let checksum = crc32fast::hash(&bytes[HEADER_BYTES..]);
    bytes[..4].copy_from_slice(&(body as u32).to_le_bytes());
    bytes[4..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

/// Reads the first record of `bytes`: the event and how many bytes it took; `None` while it is
/// incomplete.
pub fn decode_record(bytes: &[u8]) -> Result<Option<(EventRecord, usize)>, RecordError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let header = u64::from_le_bytes(*header);
    let (length, expected) = (header as u32 as usize, (header >> 32) as u32);
    if length == 0 || RECORD_BYTES_MAX < length {
        return Err(RecordError::Length(length));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let found = crc32fast::hash(body);
    if found != expected {
        return Err(RecordError::Checksum { found, expected });
    }
    Ok(Some((serde_json::from_slice(body)?, HEADER_BYTES + length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity;
    use proptest::prelude::*;

    fn event() -> EventRecord {
        EventRecord {
            seq: 0,
            source: "root".into(),
            source_seq: 3,
            wall_us: 1,
            mono_ns: 2,
            node: "n".into(),
            subject: "web".into(),
            kind: "service.ready".into(),
            severity: Severity::Info,
            message: "web is ready".into(),
            data: serde_json::Map::new(),
        }
    }

    #[test]
    fn a_torn_record_is_never_taken_for_a_whole_one() {
        let bytes = encode_record(&event()).unwrap();
        for cut in 0..bytes.len() {
            assert!(decode_record(&bytes[..cut]).unwrap().is_none());
        }
        let (read, used) = decode_record(&bytes).unwrap().unwrap();
        assert_eq!((read, used), (event(), bytes.len()));
    }

    #[test]
    fn d6_the_layout_is_the_same_on_every_machine() {
        let bytes = encode_record(&event()).unwrap();
        let body = "{\"seq\":0,\"source\":\"root\",\"source_seq\":3,\"wall_us\":1,\"mono_ns\":2,\
                    \"node\":\"n\",\"subject\":\"web\",\"kind\":\"service.ready\",\
                    \"severity\":\"info\",\"message\":\"web is ready\"}";
        // Length and checksum, each of four bytes, the lowest first.
        let header = [157, 0, 0, 0, 64, 77, 132, 229];
        assert_eq!(bytes[8..], *body.as_bytes());
        assert_eq!(bytes[..8], header);
    }

    proptest! {
        #[test]
        fn d6_any_bytes_are_answered_and_nothing_beyond_them_is_read(
            mut bytes: Vec<u8>,
            length in 0..64_u32,
        ) {
            let _ = decode_record(&bytes);
            // A length that fits is rare among random bytes: given one, and the checksum to it.
            if let Some((header, body)) = bytes.split_first_chunk_mut::<HEADER_BYTES>() {
                let length = length.min(body.len() as u32);
                header[..4].copy_from_slice(&length.to_le_bytes());
                let checksum = crc32fast::hash(&body[..length as usize]);
                header[4..].copy_from_slice(&checksum.to_le_bytes());
            }
            if let Ok(Some((_, used))) = decode_record(&bytes) {
                prop_assert!(used <= bytes.len());
            }
        }

        #[test]
        fn a_flipped_bit_is_noticed(at in 0..10_000_usize, bit in 0..8_u8) {
            let mut bytes = encode_record(&event()).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let read = decode_record(&bytes);
            prop_assert!(!matches!(read, Ok(Some(_))), "{:?}", read);
        }
    }
}

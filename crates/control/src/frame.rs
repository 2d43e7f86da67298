//! Frames on a stream socket: four bytes of length (little-endian), then that much JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest frame. A snapshot of 1,000 instances takes about 600 KiB; 64 MiB is far beyond any
/// real one, and small enough to refuse an absurd length before it is allocated.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

const HEADER_BYTES: usize = 4;

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The header claims more than [`FRAME_BYTES_MAX`].
    #[error("a frame of {0} bytes, at most {FRAME_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// The body is not the JSON that was expected.
    #[error("a frame that can't be read")]
    Body(#[from] serde_json::Error),
}

/// Writes one message as a frame.
pub fn encode_frame<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut frame, message)?;
    let body = frame.len() - HEADER_BYTES;
    match u32::try_from(body) {
        Ok(length) if body <= FRAME_BYTES_MAX => {
            frame[..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
            Ok(frame)
        }
        _ => Err(FrameError::TooLong(body)),
    }
}

/// Reads the first frame of `bytes`: the message and how many bytes it took; `None` while it is
/// incomplete.
pub fn decode_frame<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<(T, usize)>, FrameError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*header) as usize;
    if FRAME_BYTES_MAX < length {
        return Err(FrameError::TooLong(length));
    }
    match rest.get(..length) {
        None => Ok(None),
        Some(body) => Ok(Some((serde_json::from_slice(body)?, HEADER_BYTES + length))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Envelope, Request, ServiceAction};
    use proptest::prelude::*;

    #[test]
    fn a_frame_reads_back_whole_and_waits_while_incomplete() {
        let action = ServiceAction::Signal(15);
        let body = Request::Service { action, targets: vec!["web".into()] };
        let sent = Envelope { id: 7, body };
        let frame = encode_frame(&sent).unwrap();
        for cut in 0..frame.len() {
            assert!(decode_frame::<Envelope<Request>>(&frame[..cut]).unwrap().is_none());
        }
        let (got, used) = decode_frame::<Envelope<Request>>(&frame).unwrap().unwrap();
        assert_eq!((got, used), (sent, frame.len()));
    }

    #[test]
    fn d6_the_layout_is_the_same_on_every_machine() {
        let frame = encode_frame(&"x".repeat(300)).unwrap();
        // Four bytes, the lowest first: 302 with the quotation marks.
        assert_eq!(frame[..4], [0x2E, 1, 0, 0]);
        assert_eq!(frame[4..8], *b"\"xxx");
        assert_eq!(frame.len(), 306);
    }

    #[test]
    fn an_absurd_length_is_refused_before_anything_is_allocated() {
        let refused = decode_frame::<Request>(&[0xFF; 8]);
        assert!(matches!(refused, Err(FrameError::TooLong(0xFFFF_FFFF))));
    }

    proptest! {
        #[test]
        fn d6_any_bytes_are_answered_without_a_panic(mut bytes: Vec<u8>) {
            let _ = decode_frame::<Envelope<Request>>(&bytes);
            // A length that fits is rare among random bytes.
            if let Some((header, body)) = bytes.split_first_chunk_mut::<HEADER_BYTES>() {
                *header = (body.len() as u32).to_le_bytes();
                let _ = decode_frame::<Envelope<Request>>(&bytes);
            }
        }
    }
}

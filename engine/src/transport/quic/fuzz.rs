//! What the decoders of this module promise; `crate::fuzzing` lists them.

use bytes::Bytes;

use super::config::CONNECTIONS_MAX;
use super::data::{PREFIX_BYTES, lengths as message_lengths, prefix};
use super::frames::FrameCutter;
use super::preamble::{Preamble, check_head, welcome};
use crate::base::limits::{FRAME_BYTES_MAX, LEASE_BYTES};
use crate::transport::CARRIER_HEADER_BYTES_MAX;

pub(crate) fn preamble(data: &[u8]) -> bool {
    let welcomed = data.first_chunk().filter(|head| check_head(**head).is_ok());
    if let Some(head) = welcomed {
        assert_eq!(welcome(), &head[..]);
    }
    let Ok(bytes) = data.try_into() else { return welcomed.is_some() };
    let Ok(preamble) = Preamble::decode(bytes) else { return false };
    assert_eq!(preamble.encode(), *bytes);
    assert!(preamble.index < preamble.count && usize::from(preamble.count) <= CONNECTIONS_MAX);
    true
}

pub(crate) fn preamble_seeds() -> Vec<Vec<u8>> {
    let preamble = |index, count| Preamble { index, count, token: [7; 16] }.encode().to_vec();
    vec![preamble(0, 1), preamble(15, 16), welcome().to_vec()]
}

/// How many bytes arrive at a time, u8, then the stream.
pub(crate) fn frames(data: &[u8]) -> bool {
    let Some((&step, stream)) = data.split_first() else { return false };
    let at_once = cut([stream].into_iter());
    assert_eq!(cut(stream.chunks(1 + usize::from(step))), at_once);
    let (frames, ended_well) = at_once;
    let mut again = Vec::new();
    for frame in &frames {
        assert!(frame.len() <= FRAME_BYTES_MAX);
        again.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        again.extend_from_slice(frame);
    }
    assert!(stream.starts_with(&again));
    assert!(!ended_well || again.len() == stream.len());
    !frames.is_empty()
}

/// The frames of a stream that arrives in these parts, and whether it ended after a whole one.
fn cut<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, bool) {
    let mut cutter = FrameCutter::default();
    let mut frames = Vec::new();
    for part in parts {
        cutter.push(part);
        loop {
            match cutter.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, false),
            }
        }
    }
    (frames, cutter.is_empty())
}

pub(crate) fn frames_seeds() -> Vec<Vec<u8>> {
    vec![b"\x00\x03\0\0\0abc\0\0\0\0\x01\0\0\0x".to_vec(), b"\xff\x08\0\0\0complete".to_vec()]
}

pub(crate) fn lengths(data: &[u8]) -> bool {
    let Ok(bytes) = data.try_into() else { return false };
    let Ok((header_bytes, content_bytes)) = message_lengths(bytes) else { return false };
    assert!(header_bytes <= CARRIER_HEADER_BYTES_MAX && content_bytes <= LEASE_BYTES);
    assert_eq!(prefix(header_bytes, content_bytes), bytes);
    true
}

pub(crate) fn lengths_seeds() -> Vec<Vec<u8>> {
    let seed = |header, content| -> [u8; PREFIX_BYTES] { prefix(header, content) };
    vec![seed(14, 1 << 20).to_vec(), seed(CARRIER_HEADER_BYTES_MAX, LEASE_BYTES).to_vec()]
}

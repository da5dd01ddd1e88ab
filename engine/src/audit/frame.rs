//! How records lie in a file: frames, each with the digest of the one before.
//!
//! ```text
//! segment: magic 8 | log 16 | number of its first record u64 LE | digest of the frame before 32 |
//!          frame  frame  ...
//! frame:   length u32 LE | digest of the frame before 32 | record (length bytes) | sum 8
//! digest of a frame: BLAKE3(0 || length || digest of the frame before || record)
//! sum:     the first 8 bytes of the frame's own digest
//! ```
//!
//! The digest of a frame is also its leaf in the Merkle tree, so each record is hashed once.

use super::codec::RECORD_BYTES_MAX;
use super::merkle::LEAF;
use super::names::LogId;
use crate::base::{Digest, RelPath};

const MAGIC: &[u8; 8] = b"PWAUDIT1";
/// Bytes of a segment before its first frame.
pub(super) const SEGMENT_HEAD_BYTES: usize = 64;
/// Bytes before a frame's record.
pub(super) const FRAME_HEAD_BYTES: usize = 4 + Digest::BYTES;
const SUM_BYTES: usize = 8;
/// Bytes that a frame takes beside its record.
pub const FRAME_BYTES: usize = FRAME_HEAD_BYTES + SUM_BYTES;

/// The head of a segment whose first record has the number `first`.
pub(super) fn segment_head(log: LogId, first: u64, chain: Digest) -> [u8; SEGMENT_HEAD_BYTES] {
    let mut out = [0; SEGMENT_HEAD_BYTES];
    out[..8].copy_from_slice(MAGIC);
    out[8..24].copy_from_slice(&log.0);
    out[24..32].copy_from_slice(&first.to_le_bytes());
    out[32..].copy_from_slice(&chain.0);
    out
}

/// The name of a segment: the number of its first record, in 20 digits, so that names order as
/// numbers do.
pub(super) fn segment_name(dir: &RelPath, first: u64) -> RelPath {
    dir.join(format!("{first:020}.log").as_bytes()).unwrap_or_default()
}

/// The number of the first record of the segment with this name; `None` for other names.
pub(super) fn segment_first(name: &[u8]) -> Option<u64> {
    let digits = name.strip_suffix(b".log").filter(|digits| digits.len() == 20)?;
    let text =
        std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit))?;
    text.parse().ok()
}

/// Digest of a frame, given the bytes before its sum.
fn digest(body: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[LEAF]).update(body);
    Digest(*hasher.finalize().as_bytes())
}

/// Appends a frame to `out`; gives its digest.
pub(super) fn push(out: &mut Vec<u8>, chain: Digest, record: &[u8]) -> Digest {
    let start = out.len();
    out.extend_from_slice(&(record.len() as u32).to_le_bytes());
    out.extend_from_slice(&chain.0);
    out.extend_from_slice(record);
    let digest = digest(&out[start..]);
    out.extend_from_slice(&digest.0[..SUM_BYTES]);
    digest
}

/// What some bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// A frame, whole.
    Frame(Frame<'a>),
    /// More bytes are needed, this many in all.
    Short(usize),
    /// Not a frame: torn or damaged.
    Damaged,
}

/// A frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// The digest of the frame before, as this one has it.
    pub chain: Digest,
    /// The record.
    pub record: &'a [u8],
    /// The frame's own digest.
    pub digest: Digest,
    /// Its bytes in all.
    pub bytes: usize,
}

/// Looks at the frame that `bytes` begins with.
pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return Parsed::Short(FRAME_BYTES);
    };
    let len = u32::from_le_bytes(*length) as usize;
    if len > RECORD_BYTES_MAX {
        return Parsed::Damaged;
    }
    let body = FRAME_HEAD_BYTES + len;
    let Some(whole) = bytes.get(..body + SUM_BYTES) else {
        return Parsed::Short(body + SUM_BYTES);
    };
    let digest = digest(&whole[..body]);
    if whole[body..] != digest.0[..SUM_BYTES] {
        return Parsed::Damaged;
    }
    let mut chain = Digest::default();
    chain.0.copy_from_slice(&rest[..Digest::BYTES]);
    let record = &whole[FRAME_HEAD_BYTES..body];
    Parsed::Frame(Frame { chain, record, digest, bytes: body + SUM_BYTES })
}

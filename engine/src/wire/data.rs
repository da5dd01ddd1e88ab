//! The header of a data message: which pieces of which run its content is.
//!
//! ```text
//! run u64 LE | ranges u16 LE | ranges x (first u16 LE, count u16 LE) | encoding 4 B | length u32 LE
//!     | object u32 LE | extents x (offset u64 LE, length u32 LE)
//! ```
//!
//! Ranges are in rising order and do not touch; the content is the pieces' bytes back to back.
//! Encoding and length are there only where that content is encoded; the length is the decoded one.
//! Object and extents are there only where it is a difference: they are what it is a difference to.

use bytes::{BufMut, Bytes, BytesMut};

use super::DecodeError;
use crate::base::Seq;
use crate::base::limits::{OBJECT_BYTES_MAX, RUN_PIECES_MAX};
use crate::encode::{CONTENT_BYTES_MAX, Encoding};

/// Bytes of the fields that encoded content has.
const CODED_BYTES: usize = Encoding::BYTES + 4;
/// Most extents of a basis that one message is a difference to.
pub(crate) const BASIS_EXTENTS_MAX: usize = 64;
/// Bytes of one of them.
const EXTENT_BYTES: usize = 8 + 4;
/// The offset of bytes that the basis has nothing for: they are a difference to zeros.
const NOWHERE: u64 = u64::MAX;

/// Consecutive pieces of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceRange {
    /// Index of the first piece.
    pub first: u16,
    /// Number of pieces, at least one.
    pub count: u16,
}

/// How the content of a data message is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coded {
    /// The encoding, never raw.
    pub encoding: Encoding,
    /// Bytes of the decoded content, at most [`CONTENT_BYTES_MAX`].
    pub len: u32,
}

impl Coded {
    /// Whether the content is a difference to something.
    pub const fn is_difference(self) -> bool {
        matches!(self.encoding, Encoding::Delta(_) | Encoding::Blocks)
    }

    /// Whether the header says what it is a difference to.
    pub const fn has_basis(self) -> bool {
        matches!(self.encoding, Encoding::Delta(_))
    }
}

/// Bytes of a basis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BasisExtent {
    /// First byte; `None` for zeros.
    pub offset: Option<u64>,
    /// Number of bytes, at least one.
    pub len: u32,
}

/// What the content of a data message is a difference to: bytes of the basis of an object, as long
/// together as the decoded content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    /// The object whose basis it is.
    pub object: Seq,
    /// The bytes, one after the other, in 1 to 64 extents.
    pub extents: Vec<BasisExtent>,
}

/// Which pieces a data message holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataHeader {
    /// The run.
    pub run: u64,
    /// The pieces, rising.
    pub ranges: Vec<PieceRange>,
    /// How they are encoded; `None` if they are there as they are.
    pub coded: Option<Coded>,
    /// What they are a difference to, if that is the encoding.
    pub basis: Option<Basis>,
}

impl DataHeader {
    /// A header for the pieces of `run` whose bit is set.
    pub fn of(run: u64, wanted: impl IntoIterator<Item = bool>) -> Self {
        let mut ranges: Vec<PieceRange> = Vec::new();
        for (i, _) in wanted.into_iter().enumerate().filter(|(_, bit)| *bit) {
            let i = i as u16;
            match ranges.last_mut() {
                Some(last) if last.first + last.count == i => last.count += 1,
                _ => ranges.push(PieceRange { first: i, count: 1 }),
            }
        }
        Self { run, ranges, coded: None, basis: None }
    }

    /// Indices of the pieces.
    pub fn pieces(&self) -> impl Iterator<Item = usize> + '_ {
        self.ranges.iter().flat_map(|r| {
            let first = usize::from(r.first);
            first..first + usize::from(r.count)
        })
    }

    /// The header's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(10 + 4 * self.ranges.len() + CODED_BYTES);
        out.put_u64_le(self.run);
        out.put_u16_le(self.ranges.len() as u16);
        for range in &self.ranges {
            out.put_u16_le(range.first);
            out.put_u16_le(range.count);
        }
        if let Some(Coded { encoding, len }) = self.coded {
            out.put_slice(&encoding.to_bytes());
            out.put_u32_le(len);
        }
        if let Some(Basis { object, extents }) = &self.basis {
            out.put_u32_le(*object);
            for extent in extents {
                out.put_u64_le(extent.offset.unwrap_or(NOWHERE));
                out.put_u32_le(extent.len);
            }
        }
        out.freeze()
    }

    /// Decodes a header; ranges must rise and stay below the limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let field = DecodeError::Field { field: "data header" };
        let Some((head, rest)) = bytes.split_at_checked(10) else { return Err(field) };
        let mut run = [0; 8];
        run.copy_from_slice(&head[..8]);
        let count = usize::from(u16::from_le_bytes([head[8], head[9]]));
        let Some((rest, coded)) = rest.split_at_checked(count * 4) else { return Err(field) };
        if count > RUN_PIECES_MAX {
            return Err(field);
        }
        let (coded, basis) = match coded.split_first_chunk::<CODED_BYTES>() {
            None if coded.is_empty() => (None, None),
            None => return Err(field),
            Some((coded, basis)) => {
                let coded = decode_coded(*coded)?;
                (Some(coded), decode_basis(coded, basis)?)
            }
        };
        let mut ranges = Vec::with_capacity(count);
        let mut below = 0;
        for raw in rest.chunks_exact(4) {
            let range = PieceRange {
                first: u16::from_le_bytes([raw[0], raw[1]]),
                count: u16::from_le_bytes([raw[2], raw[3]]),
            };
            let end = usize::from(range.first) + usize::from(range.count);
            if range.count == 0 || usize::from(range.first) < below || end > RUN_PIECES_MAX {
                return Err(field);
            }
            below = end + 1;
            ranges.push(range);
        }
        Ok(Self { run: u64::from_le_bytes(run), ranges, coded, basis })
    }
}

fn decode_coded(bytes: [u8; CODED_BYTES]) -> Result<Coded, DecodeError> {
    let [encoding @ .., a, b, c, d] = bytes;
    let len = u32::from_le_bytes([a, b, c, d]);
    match Encoding::from_bytes(encoding) {
        Ok(encoding) if encoding != Encoding::Raw && len as usize <= CONTENT_BYTES_MAX => {
            Ok(Coded { encoding, len })
        }
        _ => Err(DecodeError::Field { field: "content encoding" }),
    }
}

/// A difference has a basis as long as its content, and nothing else has one.
fn decode_basis(coded: Coded, bytes: &[u8]) -> Result<Option<Basis>, DecodeError> {
    if !coded.has_basis() {
        let field = DecodeError::Field { field: "data header" };
        return if bytes.is_empty() { Ok(None) } else { Err(field) };
    }
    let field = DecodeError::Field { field: "basis" };
    let Some((object, bytes)) = bytes.split_first_chunk() else { return Err(field) };
    let (extents, rest) = bytes.as_chunks::<EXTENT_BYTES>();
    if !rest.is_empty() || !(1..=BASIS_EXTENTS_MAX).contains(&extents.len()) {
        return Err(field);
    }
    let mut total = 0;
    let mut decoded = Vec::with_capacity(extents.len());
    for [offset @ .., a, b, c, d] in extents {
        let (offset, len) = (u64::from_le_bytes(*offset), u32::from_le_bytes([*a, *b, *c, *d]));
        let end = offset.saturating_add(len.into());
        if len == 0 || (offset != NOWHERE && end > OBJECT_BYTES_MAX) {
            return Err(field);
        }
        total += u64::from(len);
        decoded.push(BasisExtent { offset: (offset != NOWHERE).then_some(offset), len });
    }
    if total != u64::from(coded.len) {
        return Err(field);
    }
    Ok(Some(Basis { object: u32::from_le_bytes(*object), extents: decoded }))
}

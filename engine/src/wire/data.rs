//! The header of a data message: which pieces of which run its content is.
//!
//! ```text
//! run u64 LE | ranges u16 LE | ranges x (first u16 LE, count u16 LE) | encoding 4 B | length u32 LE
//! ```
//!
//! Ranges are in rising order and do not touch; the content is the pieces' bytes back to back. The
//! last two fields are there only where that content is encoded; the length is the decoded one.

use bytes::{BufMut, Bytes, BytesMut};

use super::DecodeError;
use crate::base::limits::RUN_PIECES_MAX;
use crate::encode::{CONTENT_BYTES_MAX, Encoding};

/// Bytes of the fields that encoded content has.
const CODED_BYTES: usize = Encoding::BYTES + 4;

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

/// Which pieces a data message holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataHeader {
    /// The run.
    pub run: u64,
    /// The pieces, rising.
    pub ranges: Vec<PieceRange>,
    /// How they are encoded; `None` if they are there as they are.
    pub coded: Option<Coded>,
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
        Self { run, ranges, coded: None }
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
        let coded = match coded {
            [] => None,
            [a, b, c, d, len @ ..] => Some(Self::decode_coded([*a, *b, *c, *d], len)?),
            _ => return Err(field),
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
        Ok(Self { run: u64::from_le_bytes(run), ranges, coded })
    }

    fn decode_coded(encoding: [u8; Encoding::BYTES], len: &[u8]) -> Result<Coded, DecodeError> {
        let field = DecodeError::Field { field: "content encoding" };
        let len = len.try_into().map(u32::from_le_bytes).map_err(|_| field.clone())?;
        match Encoding::from_bytes(encoding) {
            Ok(encoding) if encoding != Encoding::Raw && len as usize <= CONTENT_BYTES_MAX => {
                Ok(Coded { encoding, len })
            }
            _ => Err(field),
        }
    }
}

//! Lists of items of a fixed width, back to back in one field: little endian, in this order.

use bytes::Bytes;

use super::DecodeError;
use super::frame::{BasisFile, End, Known, PIECES_MAX, Piece, Verdict};
use crate::base::limits::{CHUNK_BYTES_MAX, ENTRIES_PER_FRAME_MAX, OBJECT_BYTES_MAX};
use crate::base::{Digest, Stamp};
use crate::manifest::Object;

/// Bytes of a packed piece: seq, round, offset, length (all LE) and digest.
const PIECE_BYTES: usize = 4 + 4 + 8 + 4 + 32;
/// Bytes of a packed end: seq, round, cutter, length, digest.
const END_BYTES: usize = 4 + 4 + 4 + 8 + 32;
/// Bytes of a packed verdict: seq, known (0 need, 1 have), cutter, length, digest.
const VERDICT_BYTES: usize = 4 + 4 + 4 + 8 + 32;
/// Bytes of a packed basis: seq, length, stamp.
const BASIS_BYTES: usize = 4 + 8 + 16;
fn packed<T>(items: &[T], bytes: usize, put: impl Fn(&T, &mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(items.len() * bytes);
    for item in items {
        put(item, &mut out);
    }
    out.into()
}

fn unpacked<T>(
    field: &'static str,
    raw: &[u8],
    bytes: usize,
    limit: u64,
    take: impl Fn(&mut Fields<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    if !raw.len().is_multiple_of(bytes) {
        return Err(DecodeError::Field { field });
    }
    bounded(field, (raw.len() / bytes) as u64, limit)?;
    raw.chunks_exact(bytes).map(|item| take(&mut Fields(item))).collect()
}

/// Fixed-width fields of a packed item, whose length was checked before.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        if let Some((head, rest)) = self.0.split_at_checked(N) {
            out.copy_from_slice(head);
            self.0 = rest;
        }
        out
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn object(&mut self) -> Result<Object, DecodeError> {
        let cutter = self.u32();
        let len = bounded("object length", self.u64(), OBJECT_BYTES_MAX)?;
        Ok(Object { digest: Digest(self.take()), len, cutter })
    }
}

pub(super) fn bounded(what: &'static str, value: u64, limit: u64) -> Result<u64, DecodeError> {
    if value > limit { Err(DecodeError::Limit { what, value, limit }) } else { Ok(value) }
}

fn put_object(object: &Object, out: &mut Vec<u8>) {
    out.extend_from_slice(&object.cutter.to_le_bytes());
    out.extend_from_slice(&object.len.to_le_bytes());
    out.extend_from_slice(&object.digest.0);
}

fn put_piece(piece: &Piece, out: &mut Vec<u8>) {
    out.extend_from_slice(&piece.seq.to_le_bytes());
    out.extend_from_slice(&piece.round.to_le_bytes());
    out.extend_from_slice(&piece.offset.to_le_bytes());
    out.extend_from_slice(&piece.len.to_le_bytes());
    out.extend_from_slice(&piece.digest.0);
}

fn take_piece(fields: &mut Fields<'_>) -> Result<Piece, DecodeError> {
    let (seq, round) = (fields.u32(), fields.u32());
    let offset = bounded("piece offset", fields.u64(), OBJECT_BYTES_MAX)?;
    let len = fields.u32();
    bounded("piece length", len.into(), CHUNK_BYTES_MAX as u64)?;
    if len == 0 {
        return Err(DecodeError::Field { field: "piece length" });
    }
    Ok(Piece { seq, round, offset, len, digest: Digest(fields.take()) })
}

fn put_end(end: &End, out: &mut Vec<u8>) {
    out.extend_from_slice(&end.seq.to_le_bytes());
    out.extend_from_slice(&end.round.to_le_bytes());
    put_object(&end.object, out);
}

fn put_verdict(verdict: &Verdict, out: &mut Vec<u8>) {
    let none = Object { digest: Digest::default(), len: 0, cutter: 0 };
    let (known, object) = match &verdict.known {
        Known::Need => (0u32, &none),
        Known::Have(object) => (1, object),
    };
    out.extend_from_slice(&verdict.seq.to_le_bytes());
    out.extend_from_slice(&known.to_le_bytes());
    put_object(object, out);
}

fn put_basis(basis: &BasisFile, out: &mut Vec<u8>) {
    out.extend_from_slice(&basis.seq.to_le_bytes());
    out.extend_from_slice(&basis.len.to_le_bytes());
    out.extend_from_slice(&basis.stamp.0);
}

pub(super) fn put_pieces(pieces: &[Piece]) -> Bytes {
    packed(pieces, PIECE_BYTES, put_piece)
}

pub(super) fn put_ends(ends: &[End]) -> Bytes {
    packed(ends, END_BYTES, put_end)
}

pub(super) fn put_verdicts(verdicts: &[Verdict]) -> Bytes {
    packed(verdicts, VERDICT_BYTES, put_verdict)
}

pub(super) fn put_bases(bases: &[BasisFile]) -> Bytes {
    packed(bases, BASIS_BYTES, put_basis)
}

pub(super) fn pieces(raw: &[u8]) -> Result<Vec<Piece>, DecodeError> {
    unpacked("pieces", raw, PIECE_BYTES, PIECES_MAX, take_piece)
}

pub(super) fn ends(raw: &[u8]) -> Result<Vec<End>, DecodeError> {
    unpacked("ends", raw, END_BYTES, PIECES_MAX, |f| {
        Ok(End { seq: f.u32(), round: f.u32(), object: f.object()? })
    })
}

pub(super) fn verdicts(raw: &[u8]) -> Result<Vec<Verdict>, DecodeError> {
    unpacked("verdicts", raw, VERDICT_BYTES, ENTRIES_PER_FRAME_MAX as u64, |f| {
        let (seq, known, object) = (f.u32(), f.u32(), f.object()?);
        match known {
            0 => Ok(Verdict { seq, known: Known::Need }),
            1 => Ok(Verdict { seq, known: Known::Have(object) }),
            _ => Err(DecodeError::Field { field: "verdict" }),
        }
    })
}

pub(super) fn bases(raw: &[u8]) -> Result<Vec<BasisFile>, DecodeError> {
    unpacked("bases", raw, BASIS_BYTES, ENTRIES_PER_FRAME_MAX as u64, |f| {
        let (seq, len) = (f.u32(), bounded("object length", f.u64(), OBJECT_BYTES_MAX)?);
        Ok(BasisFile { seq, len, stamp: Stamp(f.take()) })
    })
}

//! Content of a source that waits to be sent.

use std::collections::HashMap;

use bytes::Bytes;

use crate::base::{Extent, RelPath, Seq};
use crate::wire::{DataHeader, Piece};

/// Content that is held for a run, and where each piece ends in it.
pub(super) struct Held {
    pub(super) bytes: Bytes,
    pub(super) ends: Vec<usize>,
    /// Object, offset and length of each piece.
    places: Vec<(Seq, u64, u32)>,
    /// What each piece is of which object; only where that is recorded.
    pub(super) origins: Vec<(RelPath, Extent)>,
    /// Sums of blocks that the target has beside what it found of the run.
    pub(super) near: Option<Bytes>,
}

/// Paths of the objects of a run, where they are recorded.
pub(super) type Paths = HashMap<Seq, RelPath>;

impl Held {
    pub(super) fn new(bytes: Bytes, pieces: &[Piece], paths: &Paths) -> Self {
        let mut at = 0;
        let ends = pieces
            .iter()
            .map(|piece| {
                at += piece.len as usize;
                at
            })
            .collect();
        let extent = |piece: &Piece| Extent { offset: piece.offset, len: piece.len.into() };
        let origins = pieces
            .iter()
            .filter_map(|piece| Some((paths.get(&piece.seq)?.clone(), extent(piece))))
            .collect();
        let place = |piece: &Piece| (piece.seq, piece.offset, piece.len);
        Self { bytes, ends, places: pieces.iter().map(place).collect(), origins, near: None }
    }

    /// Object, offset and length of each piece of a message.
    pub(super) fn places(&self, header: &DataHeader) -> Vec<(Seq, u64, u32)> {
        header.pieces().filter_map(|piece| self.places.get(piece).copied()).collect()
    }

    /// What a message holds of which object.
    pub(super) fn extents(&self, header: &DataHeader) -> Vec<(RelPath, Extent)> {
        header.pieces().filter_map(|piece| self.origins.get(piece).cloned()).collect()
    }

    /// The pieces of a message, neighbours joined.
    pub(super) fn slices(&self, header: &DataHeader) -> Vec<Bytes> {
        let end = |i: usize| i.checked_sub(1).and_then(|i| self.ends.get(i)).copied().unwrap_or(0);
        header
            .ranges
            .iter()
            .map(|r| {
                let first = usize::from(r.first);
                self.bytes.slice(end(first)..end(first + usize::from(r.count)))
            })
            .collect()
    }
}

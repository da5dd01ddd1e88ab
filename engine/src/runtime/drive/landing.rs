//! Where content lands in a lease: aligned in memory as it will be in its file, so that it can be
//! written from there without a copy.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::limits::RUNS_MAX;
use crate::buf::{LEASE_ALIGN, Lease};
use crate::wire::{DataHeader, Piece};

/// Runs that are remembered: those that a source of the same limits may hold, twice.
const RUNS_KEPT: usize = 2 * RUNS_MAX;

/// Places of pieces in their run, and their offsets modulo the alignment.
type Aligns = Vec<(u16, u16)>;

/// Alignments of the pieces that content may come for, 4 bytes a piece. Clones share them. What is
/// not known lands at an aligned address, and most of it is then written through the page cache.
#[derive(Clone, Default)]
pub(super) struct Landing(Arc<Mutex<VecDeque<(u64, Aligns)>>>);

impl Landing {
    /// Takes in pieces of a run, with their places in it.
    pub(super) fn note(&self, run: u64, pieces: &[(usize, Piece)]) {
        let align = |piece: &Piece| (piece.offset % LEASE_ALIGN as u64) as u16;
        let aligns = pieces.iter().map(|(index, piece)| (*index as u16, align(piece))).collect();
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.len() == RUNS_KEPT {
            runs.pop_front();
        }
        runs.push_back((run, aligns));
    }

    /// Aligns a lease for a message: as its first piece is in its file, and so are all that follow
    /// it without a gap.
    pub(super) fn align(&self, lease: &mut Lease, header: &DataHeader) {
        let first = header.pieces().next();
        let runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            runs.iter().rev().filter(|(run, _)| *run == header.run).find_map(|(_, aligns)| {
                aligns.iter().find(|(index, _)| Some(usize::from(*index)) == first)
            });
        lease.align_to(known.map_or(0, |(_, align)| u64::from(*align)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Digest, Seq};
    use crate::buf::Slab;

    fn piece(offset: u64) -> Piece {
        Piece { seq: Seq::default(), round: 0, offset, len: 1, digest: Digest([0; 32]) }
    }

    fn landed(landing: &Landing, run: u64, wanted: &[bool]) -> usize {
        let mut lease = Slab::new(0).try_lease().unwrap();
        landing.align(&mut lease, &DataHeader::of(run, wanted.iter().copied()));
        lease.as_ptr() as usize % LEASE_ALIGN
    }

    #[test]
    fn content_lands_as_its_first_piece_lies_in_the_file() {
        let landing = Landing::default();
        landing.note(7, &[(0, piece(5)), (2, piece(3 * 4096 + 77))]);
        assert_eq!(landed(&landing, 7, &[true, false, true]), 5);
        assert_eq!(landed(&landing, 7, &[false, false, true]), 77);
        assert_eq!(landed(&landing, 7, &[false, true]), 0, "not known");
        assert_eq!(landed(&landing, 8, &[true]), 0, "not known");
        assert_eq!(landed(&landing, 7, &[]), 0, "nothing");
    }

    #[test]
    fn a_peer_that_offers_without_end_is_remembered_in_bounded_memory() {
        let landing = Landing::default();
        for run in 0..10_000 {
            landing.note(run, &[(0, piece(run))]);
        }
        assert_eq!(landing.0.lock().unwrap().len(), RUNS_KEPT);
        assert_eq!(landed(&landing, 9_999, &[true]), 9_999 % 4096);
        assert_eq!(landed(&landing, 0, &[true]), 0);
    }
}

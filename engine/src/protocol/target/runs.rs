//! Open runs: the state of every piece, and the credit that they take.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::base::limits::RUNS_MAX;
use crate::base::{Digest, Seq};
use crate::wire::Piece;

/// Runs that a target numbers itself have this bit.
pub(crate) const OWN_RUN: u64 = 1 << 63;
/// Most runs of the source that may be open at once.
pub(super) const OPEN_RUNS_MAX: usize = 8 * RUNS_MAX;
/// Most runs that are answered and still open, before further answers wait.
pub(super) const ANSWERED_RUNS_MAX: usize = 4 * RUNS_MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceState {
    Resolving,
    /// Missing, and not yet wanted for want of credit.
    Queued,
    Wanted,
    Placing,
    /// The same chunk is under way for another piece.
    Waiting,
    Closed,
}

pub(super) struct Run {
    pub(super) pieces: Vec<Piece>,
    pub(super) states: Vec<PieceState>,
    /// It is in line for its answer, or answered.
    pub(super) queued: bool,
    /// The source knows which pieces are wanted. It is told exactly once.
    pub(super) answered: bool,
    /// In a plan: the pieces that are missing. They are shown as wanted, and are not waited for.
    pub(super) planned: BTreeSet<usize>,
}

impl Run {
    pub(super) fn is_over(&self) -> bool {
        self.answered && self.states.iter().all(|s| *s == PieceState::Closed)
    }
}

/// Open runs and the credit that their pieces take.
pub(super) struct Runs {
    pub(super) open: BTreeMap<u64, Run>,
    pub(super) next_own: u64,
    /// Runs whose answer waits for credit.
    pub(super) queue: VecDeque<u64>,
    pub(super) credit_bytes: u64,
    pub(super) outstanding: u64,
    /// Chunks that are wanted, or placed and not yet committed, and who else waits for them.
    pub(super) under_way: HashMap<Digest, Vec<(u64, usize)>>,
    /// Runs of our own that the source was told of and did not bring yet, and their objects. What
    /// it finds when it reads again may be that the object changed or failed.
    pub(super) owed: BTreeMap<u64, Seq>,
    pub(super) wrong: u32,
}

impl Runs {
    pub(super) fn new(credit_bytes: u64) -> Self {
        Self {
            open: BTreeMap::new(),
            next_own: OWN_RUN,
            queue: VecDeque::new(),
            credit_bytes,
            outstanding: 0,
            under_way: HashMap::new(),
            owed: BTreeMap::new(),
            wrong: 0,
        }
    }

    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Credit comes back.
    pub(super) fn release(&mut self, bytes: u64) {
        self.outstanding = self.outstanding.saturating_sub(bytes);
    }

    /// A committed chunk can be found in the index from now on.
    pub(super) fn landed(&mut self, digest: &Digest) -> Vec<(u64, usize)> {
        self.under_way.remove(digest).unwrap_or_default()
    }

    /// Closes every piece of an object that failed or starts over; returns the chunks that were
    /// under way for it, since others may wait for them, and the bytes that came and are being
    /// placed.
    pub(super) fn close_object(&mut self, seq: Seq) -> (Vec<Digest>, u64) {
        let (mut released, mut placing) = (0, 0);
        let mut orphans = Vec::new();
        for run in self.open.values_mut() {
            for (piece, state) in run.pieces.iter().zip(&mut run.states) {
                if piece.seq == seq {
                    if matches!(state, PieceState::Wanted | PieceState::Placing) {
                        released += u64::from(piece.len);
                    }
                    if *state == PieceState::Placing {
                        placing += u64::from(piece.len);
                    }
                    if matches!(
                        state,
                        PieceState::Queued | PieceState::Wanted | PieceState::Placing
                    ) {
                        orphans.push(piece.digest);
                    }
                    *state = PieceState::Closed;
                }
            }
        }
        self.release(released);
        self.open.retain(|_, run| !run.is_over());
        (orphans, placing)
    }

    /// The source will not bring anything more of an object that was asked for before.
    pub(super) fn forgive(&mut self, seq: Seq) {
        self.owed.retain(|_, owed| *owed != seq);
    }

    /// Whether a part of an object that was asked for again is still to come.
    pub(super) fn owes(&self, seq: Seq) -> bool {
        self.owed.values().any(|owed| *owed == seq)
    }

    pub(super) fn close(&mut self, run: u64, index: usize) {
        let Some(open) = self.open.get_mut(&run) else { return };
        open.states[index] = PieceState::Closed;
        if open.is_over() {
            self.open.remove(&run);
        }
    }
}

//! Pieces: from the offer to the written bytes.

use std::collections::BTreeSet;

use super::runs::{ANSWERED_RUNS_MAX, OPEN_RUNS_MAX, OWN_RUN, PieceState, Run};
use super::{Failure, Finding, PlacePiece, PlaceResult, State, Stop, Target, TargetAction};
use crate::base::Seq;
use crate::base::limits::{CHUNK_TRIES_MAX, LEASE_BYTES, RUN_PIECES_MAX};
use crate::manifest::ChunkRef;
use crate::wire::{Bitmap, DataHeader, End, Frame, Piece};

impl Target {
    pub(super) fn offer(&mut self, run: u64, pieces: Vec<Piece>, ends: Vec<End>) {
        if run & OWN_RUN != 0 || self.runs.open.contains_key(&run) {
            return self.violation(format!("run {run} is offered twice"));
        }
        if self.runs.open.range(..OWN_RUN).count() >= OPEN_RUNS_MAX {
            return self.violation(format!("more than {OPEN_RUNS_MAX} runs are open"));
        }
        let mut states = Vec::with_capacity(pieces.len());
        let mut look = Vec::with_capacity(pieces.len());
        for (index, piece) in pieces.iter().enumerate() {
            match self.accept_piece(piece) {
                Err(detail) => return self.violation(detail),
                Ok(true) => {
                    states.push(PieceState::Resolving);
                    look.push((index, *piece));
                }
                Ok(false) => states.push(PieceState::Closed),
            }
        }
        if !pieces.is_empty() {
            let queued = look.is_empty();
            self.runs.open.insert(
                run,
                Run { pieces, states, queued, answered: false, planned: BTreeSet::new() },
            );
            if queued {
                self.runs.queue.push_back(run);
            } else {
                self.out.push_back(TargetAction::Resolve { run, pieces: look });
            }
        }
        for end in ends {
            self.end_object(end);
        }
    }

    /// Whether an offered piece is live; stale ones are passed over, wrong ones are an error.
    fn accept_piece(&mut self, piece: &Piece) -> Result<bool, String> {
        let Piece { seq, round, offset, len, digest } = *piece;
        if seq < self.window.base() {
            return Ok(false);
        }
        let Some(slot) = self.window.slot_mut(seq) else {
            return Err(format!("a piece of object {seq}, which is unknown"));
        };
        if slot.state == State::Failed || round < slot.round {
            return Ok(false);
        }
        let chunk = ChunkRef { offset, len, digest };
        if slot.state != State::Open || round > slot.round || slot.ended.is_some() {
            return Err(format!("a piece of object {seq} out of turn"));
        }
        if chunk.end() > slot.entry.len() || !slot.hasher.push(&chunk) {
            return Err(format!("a piece of object {seq} that overlaps or passes its end"));
        }
        slot.chunks.push(chunk);
        slot.unplaced += 1;
        Ok(true)
    }

    fn end_object(&mut self, end: End) {
        let Some(slot) = self.window.slot_mut(end.seq) else {
            if end.seq >= self.window.base() {
                self.violation(format!("the end of object {}, which is unknown", end.seq));
            }
            return;
        };
        if slot.state == State::Failed || end.round < slot.round {
            return;
        }
        let fits = slot.state == State::Open
            && end.round == slot.round
            && slot.ended.is_none()
            && end.object.len == slot.entry.len()
            && slot.hasher.finish(end.object.len) == end.object.digest;
        if !fits {
            return self.violation(format!("object {} does not end as offered", end.seq));
        }
        slot.ended = Some(end.object);
        self.finish_if_complete(end.seq);
    }

    pub(super) fn resolved(&mut self, run: u64, found: Vec<(usize, Result<Finding, Failure>)>) {
        let plan = self.is_plan();
        for (index, finding) in found {
            let Some(open) = self.runs.open.get_mut(&run) else { break };
            if open.states[index] != PieceState::Resolving {
                continue;
            }
            let piece = open.pieces[index];
            match finding {
                Ok(Finding::Missing) if plan => {
                    open.planned.insert(index);
                    self.have(run, index, &piece, Finding::Missing);
                }
                Ok(Finding::Missing) => self.missing(run, index, piece),
                Ok(finding) => self.have(run, index, &piece, finding),
                Err(failure) => self.fail(piece.seq, failure, true),
            }
        }
        // Pieces that waited for a chunk are looked for again while their run is in line.
        if let Some(open) = self.runs.open.get_mut(&run)
            && !std::mem::replace(&mut open.queued, true)
        {
            self.runs.queue.push_back(run);
        }
    }

    fn have(&mut self, run: u64, index: usize, piece: &Piece, finding: Finding) {
        self.runs.close(run, index);
        self.count(piece.seq, piece.len, finding);
        // What the journal has is durable; what was copied is not yet.
        if finding == Finding::Deduplicated && !self.is_plan() {
            self.commits.add(piece, false, self.now);
        }
        self.piece_is_placed(piece);
    }

    /// A piece is nowhere here: it is wanted, unless the same chunk is already under way.
    fn missing(&mut self, run: u64, index: usize, piece: Piece) {
        let waiting = self.runs.under_way.get_mut(&piece.digest);
        let Some(open) = self.runs.open.get_mut(&run) else { return };
        if let Some(waiting) = waiting {
            waiting.push((run, index));
            open.states[index] = PieceState::Waiting;
        } else if open.answered {
            // It waited for a chunk that did not come after all.
            self.runs.close(run, index);
            self.ask_again(vec![piece]);
        } else {
            self.runs.under_way.insert(piece.digest, Vec::new());
            open.states[index] = PieceState::Queued;
        }
    }

    /// Answers runs as far as the credit goes. One answer is always under way, so that a run
    /// larger than the credit moves too.
    pub(super) fn grant(&mut self) {
        while let Some(&run) = self.runs.queue.front() {
            let own = run & OWN_RUN != 0;
            let answered = self.runs.open.range(..OWN_RUN).filter(|(_, r)| r.answered).count();
            if !own && answered >= ANSWERED_RUNS_MAX {
                return;
            }
            let Some(open) = self.runs.open.get_mut(&run) else {
                self.runs.queue.pop_front();
                continue;
            };
            let queued = |s: &PieceState| *s == PieceState::Queued;
            let pieces = open.pieces.iter().zip(&open.states);
            let bytes: u64 = pieces.filter(|(_, s)| queued(s)).map(|(p, _)| u64::from(p.len)).sum();
            let credit = self.runs.credit_bytes;
            if bytes > 0 && self.runs.outstanding > 0 && self.runs.outstanding + bytes > credit {
                return;
            }
            self.runs.queue.pop_front();
            self.runs.outstanding += bytes;
            let shown = |(index, state)| queued(state) || open.planned.contains(&index);
            let wanted = Bitmap::of(open.states.iter().enumerate().map(shown));
            open.states.iter_mut().filter(|s| queued(s)).for_each(|s| *s = PieceState::Wanted);
            open.answered = true;
            let frame = if own {
                Frame::Again { run, pieces: open.pieces.clone() }
            } else {
                Frame::Want { run, wanted }
            };
            let seq = open.pieces.first().map_or(0, |piece| piece.seq);
            if open.is_over() {
                self.runs.open.remove(&run);
                if own {
                    continue;
                }
            }
            if own {
                self.runs.owed.insert(run, seq);
            }
            self.out.push_back(TargetAction::Send(frame));
        }
    }

    /// Asks for pieces of one object once more, under a run of our own.
    fn ask_again(&mut self, pieces: Vec<Piece>) {
        let run = self.runs.next_own;
        self.runs.next_own += 1;
        for piece in &pieces {
            self.runs.under_way.entry(piece.digest).or_default();
        }
        let states = vec![PieceState::Queued; pieces.len()];
        self.runs.open.insert(
            run,
            Run { pieces, states, queued: true, answered: false, planned: BTreeSet::new() },
        );
        self.runs.queue.push_front(run);
    }

    /// Asks for all of an object's chunks once more, in runs that fit a lease.
    pub(super) fn ask_all_again(&mut self, seq: Seq, round: u32, chunks: &[ChunkRef]) {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut bytes = 0;
        for &ChunkRef { offset, len, digest } in chunks {
            if bytes + len as usize > LEASE_BYTES || pieces.len() >= RUN_PIECES_MAX {
                self.ask_again(std::mem::take(&mut pieces));
                bytes = 0;
            }
            bytes += len as usize;
            pieces.push(Piece { seq, round, offset, len, digest });
        }
        if !pieces.is_empty() {
            self.ask_again(pieces);
        }
    }

    pub(super) fn data(&mut self, ticket: u64, header: &DataHeader, bytes: usize) {
        self.take_data(ticket, header, bytes);
        if let Some(seq) = self.runs.owed.remove(&header.run) {
            self.finish_if_complete(seq);
        }
    }

    fn take_data(&mut self, ticket: u64, header: &DataHeader, bytes: usize) {
        let Some(open) = self.runs.open.get_mut(&header.run) else {
            // Sent twice, or for objects that failed meanwhile.
            self.numbers.discarded += bytes as u64;
            self.out.push_back(TargetAction::Drop { ticket });
            return;
        };
        let mut pieces = Vec::new();
        let mut total = 0;
        for index in header.pieces() {
            let Some(&piece) = open.pieces.get(index) else {
                return self.bad_data(ticket, header.run);
            };
            total += piece.len as usize;
            let skip = open.states[index] != PieceState::Wanted;
            pieces.push(PlacePiece { index, piece, skip });
        }
        if total != bytes {
            return self.bad_data(ticket, header.run);
        }
        for place in &pieces {
            if place.skip {
                self.numbers.discarded += u64::from(place.piece.len);
            } else {
                open.states[place.index] = PieceState::Placing;
            }
        }
        if pieces.iter().all(|p| p.skip) {
            self.out.push_back(TargetAction::Drop { ticket });
        } else {
            self.out.push_back(TargetAction::Place { ticket, run: header.run, pieces });
        }
    }

    fn bad_data(&mut self, ticket: u64, run: u64) {
        self.out.push_back(TargetAction::Drop { ticket });
        self.violation(format!("content of run {run} does not have the length of its pieces"));
    }

    pub(super) fn placed(&mut self, run: u64, results: Vec<(usize, PlaceResult)>) {
        for (index, result) in results {
            let Some(open) = self.runs.open.get(&run) else { return };
            let piece = open.pieces[index];
            if open.states[index] != PieceState::Placing {
                // Of an object that failed or started over: counted when that happened.
                continue;
            }
            match result {
                PlaceResult::Placed => {
                    self.runs.close(run, index);
                    self.count(piece.seq, piece.len, Finding::Missing);
                    self.commits.add(&piece, true, self.now);
                    self.piece_is_placed(&piece);
                }
                PlaceResult::Wrong => self.wrong(run, index, piece, 1),
                // Once: what is asked for again is no difference.
                PlaceResult::WrongBasis => {
                    self.wrong(run, index, piece, u32::from(run & OWN_RUN != 0));
                }
                PlaceResult::Failed(failure) => self.fail(piece.seq, failure, true),
            }
        }
    }

    fn wrong(&mut self, run: u64, index: usize, piece: Piece, counts: u32) {
        self.numbers.discarded += u64::from(piece.len);
        self.runs.release(piece.len.into());
        self.runs.close(run, index);
        self.runs.wrong += counts;
        if self.runs.wrong >= CHUNK_TRIES_MAX {
            let detail = format!(
                "chunks arrived {CHUNK_TRIES_MAX} times with another content than their digest says"
            );
            return self.stop(Stop::Violation(Failure::new("wrong-content", detail)));
        }
        self.ask_again(vec![piece]);
    }

    pub(super) fn resolve_anew(&mut self, waiting: Vec<(u64, usize)>) {
        for (run, index) in waiting {
            let Some(open) = self.runs.open.get_mut(&run) else { continue };
            if open.states[index] == PieceState::Waiting {
                open.states[index] = PieceState::Resolving;
                let pieces = vec![(index, open.pieces[index])];
                self.out.push_back(TargetAction::Resolve { run, pieces });
            }
        }
    }

    fn count(&mut self, seq: Seq, len: u32, finding: Finding) {
        let Some(slot) = self.window.slot_mut(seq) else { return };
        let pick = |n: &mut crate::wire::Numbers| match finding {
            Finding::Missing => n.sent += u64::from(len),
            Finding::Deduplicated => n.deduplicated += u64::from(len),
            Finding::Resumed => n.resumed += u64::from(len),
        };
        pick(&mut slot.counts);
        pick(&mut self.numbers);
    }

    fn piece_is_placed(&mut self, piece: &Piece) {
        let Some(slot) = self.window.slot_mut(piece.seq) else { return };
        slot.unplaced = slot.unplaced.saturating_sub(1);
        self.finish_if_complete(piece.seq);
    }
}

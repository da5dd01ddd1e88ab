//! Commits: what was placed becomes durable, in batches, one batch at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{CommitJob, CommitObject, Slot, State, Target, TargetAction};
use crate::base::limits::{COMMIT_BYTES, COMMIT_MS, OBJECT_TRIES_MAX};
use crate::base::{Digest, Instant, Seq};
use crate::manifest::ChunkRef;
use crate::protocol::Failure;
use crate::wire::Piece;

/// Finished files that force a commit, so that many tiny files do not wait for its time.
const COMMIT_FILES: usize = 2048;

/// Placed chunks of one object that no commit has taken yet.
#[derive(Default)]
struct Placed {
    chunks: Vec<ChunkRef>,
    /// How many of their bytes were sent, and so hold credit.
    sent: u64,
}

/// What a commit under way holds.
#[derive(Default)]
struct UnderWay {
    sent: u64,
    digests: Vec<Digest>,
}

#[derive(Default)]
pub(super) struct Commits {
    placed: BTreeMap<Seq, Placed>,
    finishing: BTreeSet<Seq>,
    bytes: u64,
    since: Option<Instant>,
    under_way: Option<UnderWay>,
}

impl Commits {
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.under_way.is_some() { None } else { self.since.map(|t| t.plus_ms(COMMIT_MS)) }
    }

    pub(super) fn add(&mut self, piece: &Piece, sent: bool, now: Instant) {
        let Piece { seq, offset, len, digest, .. } = *piece;
        let placed = self.placed.entry(seq).or_default();
        placed.chunks.push(ChunkRef { offset, len, digest });
        placed.sent += if sent { u64::from(len) } else { 0 };
        self.bytes += u64::from(len);
        self.since.get_or_insert(now);
    }

    fn finish(&mut self, seq: Seq, now: Instant) {
        self.finishing.insert(seq);
        self.since.get_or_insert(now);
    }

    /// Forgets an object; returns the credit that its placed chunks held, and their digests.
    pub(super) fn forget(&mut self, seq: Seq) -> (u64, Vec<Digest>) {
        self.finishing.remove(&seq);
        let Some(placed) = self.placed.remove(&seq) else { return (0, Vec::new()) };
        self.bytes -= placed.chunks.iter().map(|c| u64::from(c.len)).sum::<u64>();
        (placed.sent, placed.chunks.iter().map(|c| c.digest).collect())
    }

    fn due(&self, now: Instant, nothing_else_comes: bool) -> bool {
        let Some(since) = self.since else { return false };
        self.under_way.is_none()
            && (self.bytes >= COMMIT_BYTES
                || self.finishing.len() >= COMMIT_FILES
                || nothing_else_comes
                || now >= since.plus_ms(COMMIT_MS))
    }
}

impl Target {
    pub(super) fn commit_if_due(&mut self, now: Instant) {
        let nothing_else_comes = self.entries_done.is_some() && self.open_files == 0;
        if !self.commits.due(now, nothing_else_comes) {
            return;
        }
        self.commits.since = None;
        self.commits.bytes = 0;
        let mut placed = std::mem::take(&mut self.commits.placed);
        let finishing = std::mem::take(&mut self.commits.finishing);
        for seq in &finishing {
            placed.entry(*seq).or_default();
        }
        let mut under_way = UnderWay::default();
        let mut objects = Vec::with_capacity(placed.len());
        for (seq, Placed { chunks, sent }) in placed {
            under_way.sent += sent;
            under_way.digests.extend(chunks.iter().map(|c| c.digest));
            let Some(slot) = self.window.slot(seq) else { continue };
            let finish = match (finishing.contains(&seq), slot.ended, &slot.list) {
                (true, Some(object), Some(list)) => Some((object, Arc::clone(list))),
                _ => None,
            };
            let (round, entry) = (slot.round, slot.entry.clone());
            objects.push(CommitObject { seq, round, entry, chunks, finish });
        }
        if objects.is_empty() {
            self.runs.release(under_way.sent);
            return;
        }
        self.commits.under_way = Some(under_way);
        self.out.push_back(TargetAction::Commit(CommitJob { objects }));
    }

    /// All pieces of an object are placed: it waits for its last commit.
    pub(super) fn finish_if_complete(&mut self, seq: Seq) {
        let plan = self.is_plan();
        if self.runs.owes(seq) {
            return;
        }
        let Some(slot) = self.window.slot_mut(seq) else { return };
        let (State::Open, Some(object), 0) = (slot.state, slot.ended, slot.unplaced) else {
            return;
        };
        slot.list = Some(Arc::new(std::mem::take(&mut slot.chunks)));
        self.open_files -= 1;
        if plan {
            slot.state = State::Done(object);
            self.file_is_done(seq);
        } else {
            slot.state = State::Closing;
            self.commits.finish(seq, self.now);
        }
    }

    /// The bytes of holes were never sent: they count as there already.
    fn file_is_done(&mut self, seq: Seq) {
        let Some(slot) = self.window.slot_mut(seq) else { return };
        let counts = &mut slot.counts;
        let moved = counts.sent + counts.deduplicated + counts.resumed;
        let holes = slot.entry.len().saturating_sub(moved);
        counts.deduplicated += holes;
        self.numbers.deduplicated += holes;
        self.numbers.files += 1;
    }

    pub(super) fn committed(&mut self, objects: Vec<(Seq, u32, Result<(), Failure>)>) {
        let Some(UnderWay { sent, digests }) = self.commits.under_way.take() else { return };
        if !self.planted.lost_credit {
            self.runs.release(sent);
        }
        for (seq, round, result) in objects {
            let Some(slot) = self.window.slot_mut(seq) else { continue };
            if slot.round != round || slot.state == State::Failed {
                continue;
            }
            match result {
                Ok(()) => {
                    if let (State::Closing, Some(object)) = (slot.state, slot.ended)
                        && !self.commits.finishing.contains(&seq)
                    {
                        slot.state = State::Done(object);
                        self.file_is_done(seq);
                    }
                }
                Err(failure) => self.write_anew(seq, failure),
            }
        }
        for digest in digests {
            let waiting = self.runs.landed(&digest);
            self.resolve_anew(waiting);
        }
    }

    /// A sync failed, and what it covered may be gone: the object is written to a new file.
    fn write_anew(&mut self, seq: Seq, failure: Failure) {
        let Some(slot) = self.window.slot_mut(seq) else { return };
        slot.tries += 1;
        if slot.tries >= OBJECT_TRIES_MAX {
            return self.fail(seq, failure, true);
        }
        self.forget_content(seq);
        let Some(Slot { entry, round, state, chunks, list, unplaced, .. }) =
            self.window.slot_mut(seq)
        else {
            return;
        };
        if *state == State::Closing {
            *state = State::Open;
            self.open_files += 1;
        }
        if let Some(list) = list.take() {
            *chunks = Arc::unwrap_or_clone(list);
        }
        *unplaced = chunks.len() as u32;
        let (round, entry, chunks) = (*round, entry.clone(), chunks.clone());
        self.out.push_back(TargetAction::Reset { seq, round, entry });
        self.ask_all_again(seq, round, &chunks);
        self.finish_if_complete(seq);
    }
}

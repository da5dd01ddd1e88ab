//! What is read and sent once more: pieces that the target asks for again, and objects that changed.

use super::{Changed, Source, SourceAction, State};
use crate::base::Seq;
use crate::base::limits::OBJECT_TRIES_MAX;
use crate::protocol::Failure;
use crate::wire::{DataHeader, Frame, Piece};

impl Source {
    /// All pieces of one `Again` are of one object, so a stale request is stale as a whole: the
    /// target hears of the restart or failure and forgets it.
    pub(super) fn again(&mut self, run: u64, pieces: Vec<Piece>) {
        let Some(&Piece { seq, round, .. }) = pieces.first() else {
            return self.violation("an empty request");
        };
        if pieces.iter().any(|p| (p.seq, p.round) != (seq, round)) {
            return self.violation("a request that mixes objects");
        }
        if let Some(slot) = self.window.slot(seq)
            && slot.round == round
            && slot.state != State::Failed
        {
            let entry = slot.entry.clone();
            self.rereads.insert(run, pieces.len());
            self.out.push_back(SourceAction::ReadAgain { run, pieces, entry });
        }
    }

    /// What was asked for again was read, or is no longer what it was.
    pub(super) fn read_again(
        &mut self,
        run: u64,
        changed: Option<Changed>,
        failed: Option<(Seq, Failure)>,
    ) {
        if changed.is_none() && failed.is_none() {
            let pieces = self.rereads.remove(&run).unwrap_or(0);
            let header = DataHeader::of(run, std::iter::repeat_n(true, pieces));
            return self.out.push_back(SourceAction::SendData(header));
        }
        self.rereads.remove(&run);
        if let Some(change) = changed {
            self.changed(change);
        }
        if let Some((seq, failure)) = failed {
            self.fail(seq, failure, true);
        }
    }

    /// An object changed while it was read.
    pub(super) fn changed(&mut self, change: Changed) {
        let Some(slot) = self.window.slot(change.seq) else { return };
        if slot.round != change.round || slot.state == State::Failed {
            return;
        }
        if slot.round + 1 >= OBJECT_TRIES_MAX {
            let detail = format!("it changed while it was read, {OBJECT_TRIES_MAX} times");
            return self.fail(change.seq, Failure::new("source-changed", detail), true);
        }
        self.restart(change);
    }

    fn restart(&mut self, change: Changed) {
        let Changed { seq, entry, .. } = change;
        let Some(slot) = self.window.slot_mut(seq) else { return };
        self.bytes_total = (self.bytes_total + entry.len()).saturating_sub(slot.entry.len());
        slot.entry = entry.clone();
        self.out.push_back(SourceAction::Close { seq, round: slot.round });
        slot.round += 1;
        self.unread += usize::from(matches!(slot.state, State::Known(_)));
        slot.state = State::Queued;
        self.root_sent = None;
        let round = slot.round;
        self.out.push_back(SourceAction::Send(Frame::Restart { seq, round, entry }));
        self.to_read.wants_again(seq);
    }
}

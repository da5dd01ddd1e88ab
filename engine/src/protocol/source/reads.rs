//! Which objects are read next.

use std::collections::{BTreeSet, HashMap};

use super::{ReadJob, Slot, State};
use crate::base::Seq;
use crate::base::limits::{LEASE_BYTES, SMALL_FILE_BYTES};
use crate::protocol::settle::Window;

/// Most files in one run; each file of [`SMALL_FILE_BYTES`] and less has at most 1 piece per 4 KiB and one
/// more, so a run stays within its bound on pieces.
const PACK_FILES_MAX: usize = 480;
/// Large objects that are read side by side.
const LARGE_MAX: usize = 2;

/// The objects that are to be read, and those that are.
pub(super) struct Reads {
    pack_files_max: usize,
    small: BTreeSet<Seq>,
    large: BTreeSet<Seq>,
    /// Large objects that are being read, and whether a read is under way now.
    active: HashMap<Seq, bool>,
}

impl Default for Reads {
    fn default() -> Self {
        let (small, large) = (BTreeSet::new(), BTreeSet::new());
        Self { pack_files_max: PACK_FILES_MAX, small, large, active: HashMap::new() }
    }
}

impl Reads {
    /// The same with at most `files` in a run.
    pub(super) fn packing(self, files: usize) -> Self {
        Self { pack_files_max: files.clamp(1, PACK_FILES_MAX), ..self }
    }

    /// An object of `len` bytes is to be read.
    pub(super) fn wants(&mut self, seq: Seq, len: u64) {
        let queue = if len <= SMALL_FILE_BYTES { &mut self.small } else { &mut self.large };
        queue.insert(seq);
    }

    /// An object is to be read from its beginning again: on its own, since what changes once may well
    /// change again.
    pub(super) fn wants_again(&mut self, seq: Seq) {
        self.active.remove(&seq);
        self.large.insert(seq);
    }

    /// There is more to be read of a large object.
    pub(super) fn goes_on(&mut self, seq: Seq) {
        self.active.insert(seq, false);
    }

    /// An object was read to its end.
    pub(super) fn ended(&mut self, seq: Seq) {
        self.active.remove(&seq);
    }

    /// Nothing of an object is to be read any more.
    pub(super) fn forget(&mut self, seq: Seq) {
        self.small.remove(&seq);
        self.large.remove(&seq);
        self.active.remove(&seq);
    }

    /// The read that helps the front of the window most.
    pub(super) fn next(&mut self, window: &mut Window<Slot>) -> Option<ReadJob> {
        let going = self.active.iter().filter(|(_, busy)| !**busy).map(|(seq, _)| *seq).min();
        let fresh = (self.active.len() < LARGE_MAX).then(|| self.large.first().copied()).flatten();
        let small = self.small.first().copied();
        let seq = [going, fresh, small].into_iter().flatten().min()?;
        if Some(seq) == small && Some(seq) != going && Some(seq) != fresh {
            return Some(self.pack(window));
        }
        self.large.remove(&seq);
        self.small.remove(&seq);
        self.active.insert(seq, true);
        let slot = window.slot_mut(seq)?;
        slot.state = State::Reading;
        Some(ReadJob::Next(seq, slot.round, slot.entry.clone()))
    }

    fn pack(&mut self, window: &mut Window<Slot>) -> ReadJob {
        let mut files = Vec::new();
        let mut bytes = 0;
        while let Some(&seq) = self.small.first() {
            let Some(slot) = window.slot_mut(seq) else {
                self.small.remove(&seq);
                continue;
            };
            bytes += slot.entry.len();
            if files.len() >= self.pack_files_max || bytes > LEASE_BYTES as u64 {
                break;
            }
            slot.state = State::Reading;
            files.push((seq, slot.round, slot.entry.clone()));
            self.small.remove(&seq);
        }
        ReadJob::Pack(files)
    }
}

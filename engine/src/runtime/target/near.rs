//! What probably holds most of what is missing: bytes of a file beside those where the neighbours of a
//! missing piece were found. The source learns sums of their blocks, and content may come as copies of
//! them. Digests are compared behind it, so a file that changed meanwhile costs bytes, never correctness.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::TargetStore;
use super::basis::Bases;
use crate::base::limits::RUNS_MAX;
use crate::base::{RelPath, Seq};
use crate::encode::{BLOCK_BYTES, NEAR_BYTES_MAX, sum_blocks};
use crate::wire::Piece;

/// Pieces above this many bytes are blocks of tensors, which change everywhere or not at all.
const PIECE_BYTES_MAX: u32 = 256 << 10;
/// How many bytes are looked at beyond as many as are missing.
const SLACK_BYTES: u64 = 32 << 10;
/// Runs that are remembered: those that a source of the same limits may hold, twice.
const RUNS_KEPT: usize = 2 * RUNS_MAX;

/// Where a piece was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    /// Its place in the run.
    pub(super) index: usize,
    pub(super) path: RelPath,
    pub(super) offset: u64,
}

/// Bytes of a file, whole blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Region {
    path: RelPath,
    offset: u64,
    len: usize,
}

/// Regions whose sums were told.
#[derive(Default)]
pub(super) struct Nears {
    /// By run.
    told: Mutex<VecDeque<(u64, Vec<Region>)>>,
    /// What the source itself brought to this target path before.
    brought: OnceLock<Option<Bases>>,
}

impl Nears {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, Vec<Region>)>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, run: u64, regions: Vec<Region>) {
        let mut kept = self.lock();
        if kept.len() == RUNS_KEPT {
            kept.pop_front();
        }
        kept.push_back((run, regions));
    }

    /// Regions of a run, once: its content comes in one message.
    fn take(&self, run: u64) -> Option<Vec<Region>> {
        let mut kept = self.lock();
        let at = kept.iter().position(|(known, _)| *known == run)?;
        kept.remove(at).map(|(_, regions)| regions)
    }
}

/// Missing pieces that follow each other in an object, and what lies around them.
#[derive(Default)]
struct Gap<'a> {
    seq: Seq,
    /// Where the last piece ends in the object.
    end: u64,
    bytes: u64,
    /// Where the bytes before it were found, and where they end there.
    before: Option<(&'a RelPath, u64)>,
}

impl Gap<'_> {
    /// Where to look for it, given where the bytes behind it were found.
    fn region(&self, behind: Option<(&RelPath, u64)>) -> Option<Region> {
        let most = self.bytes + SLACK_BYTES;
        let (path, from, to) = match (self.before, behind) {
            _ if self.bytes == 0 => return None,
            (None, None) => return None,
            (Some((path, from)), Some((there, to)))
                if path == there && (from..=from + 2 * most).contains(&to) =>
            {
                (path, from, to)
            }
            (Some((path, from)), _) => (path, from, from + most),
            (None, Some((path, to))) => (path, to.saturating_sub(most), to),
        };
        let len = (to - from) as usize / BLOCK_BYTES * BLOCK_BYTES;
        (len > 0).then(|| Region { path: path.clone(), offset: from, len })
    }
}

/// Where to look for the missing ones among the pieces of a run, some of which were found; both in order.
fn regions(pieces: &[(usize, Piece)], spots: &[Spot]) -> Vec<Region> {
    let mut regions = Vec::new();
    let (mut gap, mut spots) = (Gap::default(), spots.iter().peekable());
    for (index, piece) in pieces {
        let spot = spots.next_if(|spot| spot.index == *index);
        if (gap.seq, gap.end) != (piece.seq, piece.offset) {
            regions.extend(gap.region(None));
            gap = Gap { seq: piece.seq, ..Gap::default() };
        }
        gap.end = piece.offset + u64::from(piece.len);
        if let Some(Spot { path, offset, .. }) = spot {
            regions.extend(gap.region(Some((path, *offset))));
            gap.bytes = 0;
            gap.before = Some((path, offset + u64::from(piece.len)));
        } else if piece.len <= PIECE_BYTES_MAX {
            gap.bytes += u64::from(piece.len);
        } else {
            regions.extend(gap.region(None));
            (gap.bytes, gap.before) = (0, None);
        }
    }
    regions.extend(gap.region(None));
    regions
}

impl TargetStore {
    /// Sums of the blocks beside what was found of a run. Reads them, and remembers where they are.
    pub(super) fn sum_near(&self, run: u64, pieces: &[(usize, Piece)], spots: &[Spot]) -> Vec<u8> {
        let (mut sums, mut bytes) = (Vec::new(), Vec::new());
        let mut told = Vec::new();
        let mut room = NEAR_BYTES_MAX;
        for mut region in regions(pieces, spots) {
            if !self.may_sum(&region.path) {
                continue;
            }
            region.len = region.len.min(room);
            bytes.resize(region.len, 0);
            let file = self.tree.open(&region.path);
            let Ok(read) = file.and_then(|file| file.read_at(&mut bytes, region.offset)) else {
                continue;
            };
            region.len = read / BLOCK_BYTES * BLOCK_BYTES;
            sum_blocks(&bytes[..region.len], &mut sums);
            room -= region.len;
            told.push(region);
        }
        if !sums.is_empty() {
            self.nears.keep(run, told);
        }
        sums
    }

    /// Whether the source may learn sums of a file of which it may learn that it holds a chunk. Between
    /// sites it must have brought that file itself: sums tell of bytes that it need not know.
    fn may_sum(&self, path: &RelPath) -> bool {
        let find = || Bases::find(&*self.tree, &self.target, &self.options.source);
        let brought = || self.nears.brought.get_or_init(find).as_ref();
        !self.is_told_less() || brought().is_some_and(|brought| brought.has(&*self.tree, path))
    }

    /// Reads the blocks whose sums were told of a run; `false` if none were, or they are not there.
    pub fn read_near(&self, run: u64, out: &mut Vec<u8>) -> bool {
        let Some(regions) = self.nears.take(run) else { return false };
        out.resize(regions.iter().map(|region| region.len).sum(), 0);
        let mut rest = &mut out[..];
        for Region { path, offset, len } in regions {
            let Some((part, behind)) = rest.split_at_mut_checked(len) else { return false };
            let read = self.tree.open(&path).and_then(|file| file.read_at(part, offset));
            if !matches!(read, Ok(read) if read == len) {
                return false;
            }
            rest = behind;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Digest;

    const KIB: u64 = 1 << 10;

    /// Pieces of 16 KiB of one object, found where `spots` says: a file and an offset in KiB.
    fn looked_at(found: &[Option<(&str, u64)>]) -> Vec<(String, u64, u64)> {
        let piece = |i: usize| {
            let offset = i as u64 * 16 * KIB;
            Piece { seq: 3, round: 0, offset, len: 16 << 10, digest: Digest([0; 32]) }
        };
        let pieces: Vec<_> = (0..found.len()).map(|i| (i, piece(i))).collect();
        let spot = |(index, found): (usize, &Option<(&str, u64)>)| {
            let (path, kib) = (*found)?;
            let path = RelPath::from_typed(path.as_bytes()).ok()?;
            Some(Spot { index, path, offset: kib * KIB })
        };
        let spots: Vec<_> = found.iter().enumerate().filter_map(spot).collect();
        let tell = |region: Region| {
            (region.path.to_string(), region.offset / KIB, region.len as u64 / KIB)
        };
        regions(&pieces, &spots).into_iter().map(tell).collect()
    }

    #[test]
    fn what_is_missing_is_looked_for_between_its_neighbours_or_beside_one() {
        let region = |path: &str, from, len| (path.to_owned(), from, len);
        // Between the two; a little more or less may be there than is missing.
        let both = [Some(("a", 100)), None, Some(("a", 140))];
        assert_eq!(looked_at(&both), [region("a", 116, 24)]);
        let (first, last) = ([None, Some(("a", 100))], [Some(("a", 100)), None, None]);
        assert_eq!(looked_at(&first), [region("a", 52, 48)]);
        assert_eq!(looked_at(&last), [region("a", 116, 64)]);
        assert_eq!(looked_at(&[None, Some(("a", 7))]), [region("a", 0, 7)]);
        // Nothing lies between them, or too much, or they are in two files.
        assert_eq!(looked_at(&[Some(("a", 0)), None, Some(("a", 16))]), []);
        let far = [Some(("a", 0)), None, Some(("a", 900))];
        assert_eq!(looked_at(&far), [region("a", 16, 48)]);
        let two = [Some(("a", 0)), None, Some(("b", 40))];
        assert_eq!(looked_at(&two), [region("a", 16, 48)]);
        assert_eq!(looked_at(&[None, None]), []);
        assert_eq!(looked_at(&[Some(("a", 0)), Some(("a", 16))]), []);
    }
}

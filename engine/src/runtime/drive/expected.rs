//! What of which object a target has asked for and not got, where what arrives is recorded.

use std::collections::{BTreeMap, HashMap};

use crate::base::limits::RUNS_MAX;
use crate::base::{Extent, RelPath, Seq};
use crate::manifest::Entry;
use crate::wire::{Bitmap, DataHeader, Frame, Piece};

/// Offered runs that are remembered: those that a source of the same limits may hold, and more than a
/// target leaves open.
const OFFERED_MAX: usize = 16 * RUNS_MAX;

/// Content that may come, by run; a source notes what it sends in the same units.
#[derive(Default)]
pub(super) struct Expected {
    /// Whether it is recorded; otherwise nothing is kept here.
    recorded: bool,
    /// Paths of entries that are not settled.
    paths: BTreeMap<Seq, RelPath>,
    /// Pieces of runs that were not answered: object, offset, length.
    offered: BTreeMap<u64, Vec<(Seq, Extent)>>,
    /// What was asked for, by object and place in the run.
    wanted: HashMap<u64, Vec<Wanted>>,
}

/// Neighbouring pieces of one object.
struct Wanted {
    seq: Seq,
    path: RelPath,
    pieces: Vec<(usize, Extent)>,
}

fn extent(piece: &Piece) -> Extent {
    Extent { offset: piece.offset, len: piece.len.into() }
}

impl Expected {
    pub(super) fn new(recorded: bool) -> Self {
        Self { recorded, ..Self::default() }
    }

    /// Entries were announced, the first with this number.
    pub(super) fn announced(&mut self, first: Seq, entries: &[Entry]) {
        if !self.recorded {
            return;
        }
        self.paths.extend((first..).zip(entries.iter().map(|entry| entry.path.clone())));
    }

    /// A frame came from the source: it may offer content.
    pub(super) fn heard(&mut self, frame: &Frame) {
        if let Frame::Offer { run, pieces, .. } = frame
            && self.recorded
        {
            self.offered(*run, pieces);
        }
    }

    fn offered(&mut self, run: u64, pieces: &[Piece]) {
        self.offered.insert(run, pieces.iter().map(|piece| (piece.seq, extent(piece))).collect());
        if self.offered.len() > OFFERED_MAX {
            self.offered.pop_first();
        }
    }

    /// A frame goes to the source: it may ask for content.
    pub(super) fn asked(&mut self, frame: &Frame) {
        if !self.recorded {
            return;
        }
        let (run, pieces) = match frame {
            Frame::Want { run, wanted } => (*run, self.wanted(*run, wanted)),
            Frame::Again { run, pieces } => {
                let pieces = pieces.iter().map(|piece| (piece.seq, extent(piece)));
                (*run, self.named(pieces.enumerate()))
            }
            _ => return,
        };
        if !pieces.is_empty() {
            self.wanted.insert(run, pieces);
        }
    }

    fn wanted(&mut self, run: u64, wanted: &Bitmap) -> Vec<Wanted> {
        let offered = self.offered.remove(&run).unwrap_or_default();
        self.named(offered.into_iter().enumerate().filter(|(index, _)| wanted.bit(*index)))
    }

    fn named(&self, pieces: impl Iterator<Item = (usize, (Seq, Extent))>) -> Vec<Wanted> {
        let mut named: Vec<Wanted> = Vec::new();
        for (index, (seq, extent)) in pieces {
            match named.last_mut().filter(|last| last.seq == seq) {
                Some(last) => last.pieces.push((index, extent)),
                None => named.extend(self.paths.get(&seq).map(|path| Wanted {
                    seq,
                    path: path.clone(),
                    pieces: vec![(index, extent)],
                })),
            }
        }
        named
    }

    /// Content arrived: what it is, and nothing if it came twice. Pieces that follow each other are one.
    pub(super) fn arrived(&mut self, header: &DataHeader) -> Vec<(RelPath, Extent)> {
        let wanted = self.wanted.remove(&header.run).unwrap_or_default();
        let mut held = header.pieces().peekable();
        let mut arrived = Vec::with_capacity(wanted.len());
        for Wanted { path, pieces, .. } in wanted {
            let mut open: Option<Extent> = None;
            for (index, extent) in pieces {
                while held.next_if(|piece| *piece < index).is_some() {}
                if held.next_if_eq(&index).is_none() {
                    continue;
                }
                match &mut open {
                    Some(last) if last.end() == Some(extent.offset) => last.len += extent.len,
                    _ => arrived.extend(open.replace(extent).map(|done| (path.clone(), done))),
                }
            }
            arrived.extend(open.map(|last| (path, last)));
        }
        arrived
    }

    /// Whether everything that was asked for has arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Objects up to this one are settled; gives the path of the last.
    pub(super) fn settled(&mut self, last: Seq) -> Option<RelPath> {
        let rest = self.paths.split_off(&(last + 1));
        std::mem::replace(&mut self.paths, rest).pop_last().map(|(_, path)| path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Digest, FileTime};
    use crate::manifest::EntryKind;

    fn entry(name: &str) -> Entry {
        let path = RelPath::from_typed(name.as_bytes()).unwrap();
        let mtime = FileTime { secs: 0, nanos: 0 };
        Entry { path, kind: EntryKind::Dir, mode: 0, mtime }
    }

    fn piece(seq: Seq, offset: u64) -> Piece {
        Piece { seq, round: 0, offset, len: 10, digest: Digest([0; 32]) }
    }

    fn names(arrived: &[(RelPath, Extent)]) -> Vec<(String, u64)> {
        arrived.iter().map(|(path, extent)| (path.to_string(), extent.offset)).collect()
    }

    #[test]
    fn what_was_asked_for_arrives_once_and_by_its_name() {
        let mut expected = Expected::new(true);
        expected.announced(5, &[entry("a"), entry("b")]);
        expected.offered(1, &[piece(5, 0), piece(6, 0), piece(6, 10)]);
        let wanted = Bitmap::of([true, false, true].into_iter());
        expected.asked(&Frame::Want { run: 1, wanted });
        expected.asked(&Frame::Again { run: 1 << 63, pieces: vec![piece(5, 30)] });
        assert!(!expected.is_empty());
        let header = DataHeader::of(1, [true, false, true]);
        // It is known by its name also when its object is done by then.
        assert_eq!(expected.settled(6).map(|path| path.to_string()).as_deref(), Some("b"));
        let found = names(&expected.arrived(&header));
        assert_eq!(found, [("a".to_owned(), 0), ("b".to_owned(), 10)]);
        assert!(expected.arrived(&header).is_empty(), "it came twice");
        let again = expected.arrived(&DataHeader::of(1 << 63, [true]));
        assert_eq!(names(&again), [("a".to_owned(), 30)]);
        assert!(expected.is_empty());
    }

    #[test]
    fn pieces_that_follow_each_other_are_one_extent() {
        let mut expected = Expected::new(true);
        expected.announced(5, &[entry("a"), entry("b")]);
        let pieces = [piece(5, 0), piece(5, 10), piece(5, 30), piece(6, 0), piece(6, 10)];
        expected.offered(1, &pieces);
        let wanted = Bitmap::of([true; 5].into_iter());
        expected.asked(&Frame::Want { run: 1, wanted });
        // The first of b is not in the message.
        let found = expected.arrived(&DataHeader::of(1, [true, true, true, false, true]));
        let found = found.iter().map(|(path, it)| (path.to_string(), it.offset, it.len));
        let expected = [("a", 0, 20), ("a", 30, 10), ("b", 10, 10)];
        assert!(found.eq(expected.map(|(path, offset, len)| (path.to_owned(), offset, len))));
    }

    #[test]
    fn a_source_that_offers_without_end_is_remembered_in_bounded_memory() {
        let mut expected = Expected::new(true);
        for run in 0..10_000 {
            expected.offered(run, &[piece(0, 0)]);
        }
        assert_eq!(expected.offered.len(), OFFERED_MAX);
    }
}

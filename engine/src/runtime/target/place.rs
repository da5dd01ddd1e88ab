//! Verifying and writing pieces: from a data message, or from what is here already.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::TargetStore;
use super::near::Spot;
use crate::base::{RelPath, Seq};
use crate::index::Place;
use crate::journal::Inode;
use crate::metrics::Stage;
use crate::protocol::{Failure, Finding, PlacePiece, PlaceResult};
use crate::runtime::effort::Effort;
use crate::runtime::labels::Around;
use crate::runtime::{Trouble, trouble};
use crate::storage::File;
use crate::wire::Piece;

/// Bytes whose digest was compared: the only thing that may be written to a staged file.
struct Verified<'a>(&'a [u8]);

impl<'a> Verified<'a> {
    fn check(piece: &Piece, bytes: &'a [u8]) -> Option<Self> {
        let right =
            bytes.len() == piece.len as usize && *blake3::hash(bytes).as_bytes() == piece.digest.0;
        right.then_some(Self(bytes))
    }

    fn write(&self, file: &dyn File, offset: u64) -> std::io::Result<()> {
        file.write_at(self.0, offset)
    }
}

/// For each piece, by its place in the run, where it was found or why its object fails.
pub(super) type Found = Vec<(usize, Result<Finding, Failure>)>;

/// Neighbouring pieces of one object that are written in one go.
struct Stretch {
    seq: Seq,
    round: u32,
    offset: u64,
    bytes: Range<usize>,
    /// Places in the result list.
    results: Range<usize>,
}

impl TargetStore {
    /// Verifies the content of a data message piece by piece, and writes what is right.
    pub fn place(
        &self,
        pieces: &[PlacePiece],
        content: &[u8],
    ) -> Result<Vec<(usize, PlaceResult)>, Failure> {
        let mut results: Vec<(usize, PlaceResult)> = Vec::with_capacity(pieces.len());
        let mut stretches: Vec<Stretch> = Vec::new();
        let mut at = 0;
        let verifying = Effort::work(&self.stages, Stage::Verify);
        for PlacePiece { index, piece, skip } in pieces {
            let range = at..at + piece.len as usize;
            at = range.end;
            if *skip {
                continue;
            }
            let bytes = content.get(range.clone()).unwrap_or_default();
            let right = Verified::check(piece, bytes).is_some();
            if !right && !self.options.planted.no_digest_check {
                results.push((*index, PlaceResult::Wrong));
                continue;
            }
            let place = results.len();
            results.push((*index, PlaceResult::Placed));
            match stretches.last_mut() {
                Some(last)
                    if (last.seq, last.round) == (piece.seq, piece.round)
                        && last.bytes.end == range.start
                        && last.results.end == place
                        && last.offset + last.bytes.len() as u64 == piece.offset =>
                {
                    last.bytes.end = range.end;
                    last.results.end = place + 1;
                }
                _ => stretches.push(Stretch {
                    seq: piece.seq,
                    round: piece.round,
                    offset: piece.offset,
                    bytes: range,
                    results: place..place + 1,
                }),
            }
        }
        verifying.done(at);
        let writing = Effort::work(&self.stages, Stage::Write);
        for stretch in stretches {
            match self.write_stretch(&stretch, content) {
                Ok(()) => {}
                Err(Trouble::Node(failure)) => return Err(failure),
                Err(Trouble::Object(failure)) => {
                    for (_, result) in &mut results[stretch.results] {
                        *result = PlaceResult::Failed(failure.clone());
                    }
                }
            }
        }
        writing.done(at);
        Ok(results)
    }

    fn write_stretch(&self, stretch: &Stretch, content: &[u8]) -> Result<(), Trouble> {
        // An object that is gone or started over takes the bytes with it; the machine knows.
        let Some((file, entry)) = self.staged_file(stretch.seq, stretch.round)? else {
            return Ok(());
        };
        // Every byte of the stretch was verified, piece by piece.
        let bytes = Verified(content.get(stretch.bytes.clone()).unwrap_or_default());
        let failed = |e| trouble("write", &entry.path, &e);
        bytes.write(&*file, stretch.offset).map_err(failed)?;
        if stretch.offset == 0 && stretch.bytes.len() as u64 == entry.len() {
            // A small file came whole: finish it while it is open.
            self.label_file(&*file).map_err(failed)?;
            file.set_meta(entry.mode, entry.mtime).map_err(failed)?;
            let inode = Inode::from(&file.meta().map_err(failed)?);
            self.close(stretch.seq, &file, inode);
        }
        Ok(())
    }

    /// Looks for pieces here; what is found is verified and written to its object.
    pub fn resolve(&self, pieces: &[(usize, Piece)]) -> Result<Found, Failure> {
        self.resolve_run(None, pieces).map(|(found, _)| found)
    }

    /// As [`resolve`](Self::resolve). With a run, and where the source takes them, it returns the sums of
    /// blocks beside what was found, too.
    pub fn resolve_run(
        &self,
        run: Option<u64>,
        pieces: &[(usize, Piece)],
    ) -> Result<(Found, Vec<u8>), Failure> {
        self.may_answer()?;
        let _finding = Effort::work(&self.stages, Stage::Find);
        let mut found = Vec::with_capacity(pieces.len());
        let mut unknown = Vec::new();
        let mut scratch = Vec::new();
        for (index, piece) in pieces {
            match self.resume_piece(piece, &mut scratch) {
                Ok(true) => found.push((*index, Ok(Finding::Resumed))),
                Ok(false) => unknown.push((*index, *piece)),
                Err(Trouble::Node(failure)) => return Err(failure),
                Err(Trouble::Object(failure)) => found.push((*index, Err(failure))),
            }
        }
        let digests: Vec<_> = unknown.iter().map(|(_, piece)| piece.digest).collect();
        let places = self.index.find(&digests).unwrap_or_default();
        let (mut open, mut spots) = (Candidates::default(), Vec::new());
        for (i, (index, piece)) in unknown.iter().enumerate() {
            let places = places.get(i).map_or(&[][..], Vec::as_slice);
            let result = self.copy_piece(piece, places, &mut open, &mut scratch);
            match result {
                Ok(Some(place)) => {
                    found.push((*index, Ok(Finding::Deduplicated)));
                    let (path, offset) = (place.path.clone(), place.offset);
                    spots.push(Spot { index: *index, path, offset });
                }
                Ok(None) => found.push((*index, Ok(Finding::Missing))),
                Err(Trouble::Node(failure)) => return Err(failure),
                Err(Trouble::Object(failure)) => found.push((*index, Err(failure))),
            }
        }
        let run = run.filter(|_| self.options.near && !self.options.plan && !spots.is_empty());
        let sums = run.map(|run| self.sum_near(run, &unknown, &spots));
        Ok((found, sums.unwrap_or_default()))
    }

    /// Whether an earlier run made the piece durable in its own staged file; it is read again.
    fn resume_piece(&self, piece: &Piece, scratch: &mut Vec<u8>) -> Result<bool, Trouble> {
        let journaled = self.inner().staged.get(&piece.seq).is_some_and(|staged| {
            staged.round == piece.round
                && staged.partial.get(&piece.offset) == Some(&(piece.len, piece.digest))
        });
        if !journaled {
            return Ok(false);
        }
        if self.options.plan {
            return Ok(true);
        }
        let Some((file, _)) = self.staged_file(piece.seq, piece.round)? else { return Ok(false) };
        Ok(read_verified(&*file, piece, piece.offset, scratch).is_some())
    }

    fn candidate(&self, path: &RelPath, around: &mut Around) -> Candidate {
        if !self.may_tell(path, around) {
            return Candidate::Hidden;
        }
        if self.options.plan {
            return Candidate::Told;
        }
        self.tree.open(path).map_or(Candidate::Gone, Candidate::Open)
    }

    /// Copies a piece from the first place that proves to hold it, and returns that.
    fn copy_piece<'a>(
        &self,
        piece: &Piece,
        places: &'a [Place],
        Candidates { open, around }: &mut Candidates,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<&'a Place>, Trouble> {
        for place in places.iter().filter(|place| place.len == piece.len) {
            if !open.contains_key(&place.path) && open.len() >= 64 {
                open.clear();
            }
            let candidate = open
                .entry(place.path.clone())
                .or_insert_with(|| self.candidate(&place.path, around));
            let file = match candidate {
                Candidate::Hidden => continue,
                Candidate::Told => return Ok(Some(place)),
                Candidate::Gone => None,
                Candidate::Open(file) => Some(file),
            };
            let bytes = file.and_then(|file| read_verified(&**file, piece, place.offset, scratch));
            let Some(bytes) = bytes else {
                let _ = self.index.forget(&piece.digest, place);
                continue;
            };
            let Some((file, entry)) = self.staged_file(piece.seq, piece.round)? else {
                return Ok(None);
            };
            bytes.write(&*file, piece.offset).map_err(|e| trouble("write", &entry.path, &e))?;
            return Ok(Some(place));
        }
        Ok(None)
    }
}

/// Files that may hold pieces of a run.
#[derive(Default)]
struct Candidates {
    open: HashMap<RelPath, Candidate>,
    around: Around,
}

/// A file that may hold a piece.
enum Candidate {
    /// The peer must not learn of it.
    Hidden,
    /// Nothing is read for a plan.
    Told,
    Gone,
    Open(Arc<dyn File>),
}

/// Reads `piece` at `offset` of `file`, and returns it if it is what its digest says.
fn read_verified<'a>(
    file: &dyn File,
    piece: &Piece,
    offset: u64,
    scratch: &'a mut Vec<u8>,
) -> Option<Verified<'a>> {
    scratch.resize(piece.len as usize, 0);
    let read = file.read_at(scratch, offset).ok()?;
    Verified::check(piece, scratch.get(..read)?)
}

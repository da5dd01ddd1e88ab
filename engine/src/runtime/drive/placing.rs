//! What a target does with pieces: looks for them, and writes those that arrived.

use super::FrameQueue;
use super::target::Content;
use crate::audit::kill;
use crate::protocol::{Failure, PlacePiece, PlaceResult, TargetInput};
use crate::runtime::target::TargetStore;
use crate::transport::Link;
use crate::wire::{Frame, Piece};

/// Looks for pieces of a run; tells sums of blocks beside what was found through `near`.
pub(super) fn resolve(
    store: &TargetStore,
    (run, pieces): (u64, &[(usize, Piece)]),
    near: Option<&FrameQueue>,
) -> TargetInput {
    match store.resolve_run(near.map(|_| run), pieces) {
        Ok((found, sums)) => {
            // It goes ahead of the answer, which the machine gives.
            if let Some(near) = near.filter(|_| !sums.is_empty()) {
                near.send(&Frame::Near { run, sums: sums.into() });
            }
            TargetInput::Resolved { run, found }
        }
        Err(failure) => TargetInput::Broken(failure),
    }
}

/// Places content, and tells the link which path altered it.
pub(super) fn place<L: Link>(
    store: &TargetStore,
    link: &L,
    pieces: &[PlacePiece],
    content: &Content,
) -> Result<Vec<(usize, PlaceResult)>, Failure> {
    kill::step("place-before");
    let mut results = store.place(pieces, &content.lease[..content.bytes])?;
    kill::step("place-after");
    let wrong = || results.iter().any(|(_, result)| *result == PlaceResult::Wrong);
    if content.difference {
        for (_, result) in results.iter_mut().filter(|(_, result)| *result == PlaceResult::Wrong) {
            *result = PlaceResult::WrongBasis;
        }
    } else if let Some(path) = content.path.filter(|_| wrong()) {
        link.blame(path);
    }
    Ok(results)
}

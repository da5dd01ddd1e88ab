//! What the peer may learn of what is here already.
//!
//! A target tells by what it does not want what it has. Where its peer is across the border that is an
//! answer about data which the peer may not read. So there a chunk is found only in what the peer may
//! read, and in what this transfer got from it; any other chunk is wanted as if it were nowhere.

use std::sync::Arc;

use super::TargetStore;
use crate::base::RelPath;
use crate::border::{Sight, Way};
use crate::protocol::Failure;
use crate::runtime::labels::Around;
use crate::runtime::{denial, fatal, is_own};
use crate::storage;

/// What the peer may see of this tree.
pub(super) struct Told {
    sight: Sight,
    way: Arc<Way>,
    /// Labels of the directories above the tree.
    above: Vec<Vec<u8>>,
    /// What is staged came from this peer.
    staged: bool,
}

impl TargetStore {
    /// From now on the peer of `way` is told of nothing that it may not read; once, before anything is
    /// asked. `above` are the labels of the directories above the tree. What another source left in the
    /// staging area is removed, since it has no label yet. Inside a site nothing is hidden.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn tell_only(&self, way: &Arc<Way>, above: Vec<Vec<u8>>) -> Result<(), Failure> {
        let Some(sight) = way.sight() else { return Ok(()) };
        let remove = self.foreign && !self.options.plan;
        if remove {
            let staged = &self.layout.tree;
            storage::remove_all(&*self.tree, staged)
                .and_then(|()| self.tree.sync_dir(&self.layout.staging))
                .map_err(|e| fatal("remove", staged, &e))?;
        }
        let (way, staged) = (Arc::clone(way), remove || !self.foreign);
        let told = Told { sight, way, above, staged };
        let _ = self.told.set(told);
        Ok(())
    }

    /// Whether the peer may have answers at all, by policy, roles and class as they are now.
    pub(super) fn may_answer(&self) -> Result<(), Failure> {
        self.told.get().map_or(Ok(()), |told| told.way.check().map_err(|e| denial(&e)))
    }

    /// Whether there is anything that the peer may not learn.
    pub(super) fn is_told_less(&self) -> bool {
        self.told.get().is_some()
    }

    /// Whether the peer may learn that a chunk lies in this file.
    pub(super) fn may_tell(&self, path: &RelPath, around: &mut Around) -> bool {
        let Some(told) = self.told.get() else { return true };
        if path.strip(&self.layout.tree).is_some() {
            return told.staged;
        }
        !is_own(path) && around.shows(&told.sight, (&*self.tree, &told.above), path)
    }
}

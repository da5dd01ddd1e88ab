//! Where the sources of a transfer lie.

use std::sync::Arc;

use crate::base::RelPath;
use crate::storage::Tree;

/// One source of a transfer: a file or directory, and where it lies in the snapshot.
#[derive(Clone)]
pub struct SourceRoot {
    /// The tree that it is in.
    pub tree: Arc<dyn Tree>,
    /// Where in the tree.
    pub path: RelPath,
    /// Where in the snapshot; the root if the snapshot is this one source.
    pub place: RelPath,
    /// What lies around it.
    pub around: Around,
}

/// What lies around the tree of a source and counts for its class.
#[derive(Clone, Default)]
pub struct Around {
    /// Labels of the directories above the tree.
    pub above: Vec<Vec<u8>>,
    /// The tree with the manifests of what was published there, and where the source is in it;
    /// `None` if it is the source's own.
    pub base: Option<(Arc<dyn Tree>, RelPath)>,
}

//! Where the sources of a transfer lie.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::RelPath;
use crate::storage::{self, Tree};

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
    /// The directories above the tree.
    pub above: Above,
    /// The tree with the manifests of what was published there, and where the source is in it;
    /// `None` if it is the source's own.
    pub base: Option<(Arc<dyn Tree>, RelPath)>,
}

/// The directories above a tree of this machine: their labels count for all that is in it.
#[derive(Debug, Clone, Default)]
pub struct Above(Option<PathBuf>);

impl Above {
    /// Those above the directory `top`.
    pub fn of(top: &Path) -> Self {
        Self(Some(top.to_owned()))
    }

    /// Their labels, as they are now.
    ///
    /// # Errors
    /// One cannot be read: nothing is known of the class then.
    pub fn labels(&self) -> io::Result<Vec<Vec<u8>>> {
        let above = self.0.iter().flat_map(|top| top.ancestors().skip(1));
        above.map(storage::label_of).filter_map(Result::transpose).collect()
    }
}

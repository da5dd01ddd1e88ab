//! Where a log lies, and whose turn it is.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::base::RelPath;
use crate::storage::{OsTree, Tree};

/// The directory of a log.
#[derive(Clone)]
pub struct LogFolder {
    pub(super) tree: Arc<dyn Tree>,
    pub(super) dir: RelPath,
    /// The file that is locked while the log is read or appended to.
    lock: Option<Arc<fs::File>>,
}

impl LogFolder {
    /// The log in the directory `path`, which is made (mode 0700) if it is missing. Several
    /// processes may append to it: each takes the lock on the file `lock` there for its turn.
    ///
    /// # Errors
    /// Those of making and opening the directory and the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        // Its name must outlast the first record in it, whoever made it.
        fs::File::open(path.parent().unwrap_or(path))?.sync_all()?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(path.join("lock"))?;
        let tree: Arc<dyn Tree> = Arc::new(OsTree::open(path)?);
        Ok(Self { tree, dir: RelPath::root(), lock: Some(Arc::new(lock)) })
    }

    /// The log in `dir` of some tree, which no other process has.
    pub fn on(tree: Arc<dyn Tree>, dir: RelPath) -> Self {
        Self { tree, dir, lock: None }
    }

    /// Waits for the turn of this process, or in it of this opening of the folder.
    pub(super) fn hold(&self) -> io::Result<Held<'_>> {
        if let Some(lock) = &self.lock {
            lock.lock()?;
        }
        Ok(Held(self.lock.as_deref()))
    }
}

/// The turn, until it is dropped.
pub(super) struct Held<'a>(Option<&'a fs::File>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Closing the file would let go too; an error here leaves others waiting until then.
        let _ = self.0.map(fs::File::unlock);
    }
}

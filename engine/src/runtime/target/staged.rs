//! Staged files: opened when their first bytes come, closed when they are finished.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError};

use super::TargetStore;
use super::visible::open_up;
use crate::base::{Digest, RelPath, Seq};
use crate::journal::Inode;
use crate::manifest::Entry;
use crate::runtime::{Trouble, trouble};
use crate::storage::{self, File, Kind};

/// A staged file that is open, and the object that it is to become.
type OpenObject = (Arc<dyn File>, Entry);

/// One object that is not settled.
pub(super) struct Staged {
    pub(super) round: u32,
    pub(super) entry: Entry,
    /// Chunks that an earlier run made durable in the staged file, by offset.
    pub(super) partial: HashMap<u64, (u32, Digest)>,
    /// The staged file is ours: made or taken over in this session.
    begun: bool,
    file: Option<Arc<dyn File>>,
    /// Length, mode and times are set.
    pub(super) finished: Option<Inode>,
    /// A sync failed that covered what was written, so that it may be gone.
    pub(super) lost: bool,
}

impl Staged {
    pub(super) fn new(round: u32, entry: Entry, partial: HashMap<u64, (u32, Digest)>) -> Self {
        Self { round, entry, partial, begun: false, file: None, finished: None, lost: false }
    }
}

impl TargetStore {
    /// Forgets the staged file of an object; its next bytes go to a new one.
    pub fn reset(&self, seq: Seq, round: u32, entry: &Entry) {
        let mut inner = self.inner();
        inner.staged.insert(seq, Box::new(Staged::new(round, entry.clone(), HashMap::new())));
    }

    /// The staged file of an object, opened or made. `None` if the object is settled or was
    /// started over meanwhile.
    pub(super) fn staged_file(&self, seq: Seq, round: u32) -> Result<Option<OpenObject>, Trouble> {
        // Whoever comes second for one object waits for its file; others go on meanwhile.
        let stripe = &self.making[seq as usize % self.making.len()];
        let _making = stripe.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.inner();
        let Some(staged) = inner.staged.get_mut(&seq).filter(|s| s.round == round) else {
            return Ok(None);
        };
        let entry = staged.entry.clone();
        if let Some(file) = &staged.file {
            return Ok(Some((Arc::clone(file), entry)));
        }
        let path = self.staged_path(&entry.path).map_err(Trouble::Object)?;
        let take_over = staged.begun || !staged.partial.is_empty();
        // From here on a failed sync may cover its name.
        staged.begun = true;
        drop(inner);
        let taken = if take_over { self.tree.open_rw(&path).ok() } else { None };
        let made = taken.is_none();
        let file = match taken {
            Some(file) => file,
            None => self.make(&path).map_err(|e| trouble("create", &path, &e))?,
        };
        let mut inner = self.inner();
        if made {
            inner.dirty_dirs.extend(path.parent());
        }
        // One that was started over meanwhile finds the file in its way, and makes another.
        if let Some(staged) = inner.staged.get_mut(&seq).filter(|s| s.round == round) {
            if made {
                staged.partial.clear();
            }
            staged.file = Some(Arc::clone(&file));
        }
        Ok(Some((file, entry)))
    }

    /// Makes a new staged file; what an earlier run left in its way goes.
    fn make(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        match self.tree.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                storage::remove_all(&*self.tree, path)?;
                return self.tree.create(path);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::PermissionDenied => {}
                _ => return Err(error),
            },
            made => return made,
        }
        self.make_dirs(&path.parent().unwrap_or_default())?;
        match self.tree.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                storage::remove_all(&*self.tree, path)?;
                self.tree.create(path)
            }
            made => made,
        }
    }

    /// Makes the staging directories down to `path`, in place of files that are in the way. An
    /// interrupted publication may have left them without permission to write.
    fn make_dirs(&self, path: &RelPath) -> io::Result<()> {
        if self.tree.meta(path).is_err()
            && let Some(parent) = path.parent()
        {
            self.make_dirs(&parent)?;
        }
        match self.tree.meta(path) {
            Ok(meta) if meta.kind == Kind::Dir => return open_up(&*self.tree, path, &meta),
            Ok(_) => self.tree.unlink(path)?,
            Err(_) => {}
        }
        match self.tree.mkdir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Lets go of an object's open file, which has its length, mode and times. Nothing happens if
    /// the object was started over meanwhile and has another one.
    pub(super) fn close(&self, seq: Seq, file: &Arc<dyn File>, inode: Inode) {
        if let Some(staged) = self.inner().staged.get_mut(&seq)
            && staged.file.as_ref().is_some_and(|open| Arc::ptr_eq(open, file))
        {
            staged.file = None;
            staged.finished = Some(inode);
        }
    }

    /// A sync failed that may have covered any file: what was written so far does not count.
    pub(super) fn lose_all(&self) {
        self.inner().staged.values_mut().for_each(|staged| staged.lost |= staged.begun);
    }
}

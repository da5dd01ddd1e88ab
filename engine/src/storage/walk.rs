//! Walking a tree in canonical order, telling of everything that is left out.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::{Kind, Meta, Tree};
use crate::base::{PathError, RelPath};

/// One thing that a walk came upon. Paths are those of the tree that is walked.
#[derive(Debug)]
pub enum WalkItem {
    /// A regular file, directory or symbolic link.
    Entry {
        /// Where it is.
        path: RelPath,
        /// What `lstat` told.
        meta: Meta,
        /// The text of a symbolic link, which stays inside the walked directory.
        link: Option<Vec<u8>>,
    },
    /// Something that is left out, with all below it.
    Skipped {
        /// Where it is.
        path: RelPath,
        /// Why.
        reason: SkipReason,
    },
    /// Something that could not be looked at; `NotFound` if it vanished after its name was read.
    Failed {
        /// Where it is.
        path: RelPath,
        /// What went wrong.
        error: io::Error,
    },
}

/// Why a walk leaves something out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// A FIFO, socket or device.
    #[error("a {0} has no content to move")]
    Special(Kind),
    /// A directory on which another file system is mounted.
    #[error("another file system is mounted here")]
    MountPoint,
    /// A symbolic link that is absolute, has `..` after a name, or climbs above the walked
    /// directory.
    #[error("the symbolic link may lead out of the tree")]
    LinkLeavesTree,
    /// An entry of this directory whose path cannot be expressed.
    #[error("an entry of this directory cannot be named: {0}")]
    Unnameable(PathError),
}

/// A walk over a directory in the order of [`RelPath`]: names sorted by their bytes, a directory
/// right before what is below it. The directory itself is not an item.
///
/// Symbolic links are never followed, so there are no loops; mount points are never crossed.
/// Only the sorted names of the directories on the current path are held. Directories are read
/// when the walk gets to them.
pub struct Walk {
    tree: Arc<dyn Tree>,
    top: RelPath,
    top_meta: Meta,
    leave_out: BTreeSet<Vec<u8>>,
    open: Vec<Level>,
    /// A directory that was handed out and is to be read next.
    enter: Option<RelPath>,
}

/// A directory on the current path and its names that are still to come, the next one last.
struct Level {
    dir: RelPath,
    names: Vec<(Vec<u8>, Option<Kind>)>,
}

impl Walk {
    /// A walk over the directory `top`. Names in `leave_out` are passed over in silence.
    ///
    /// # Errors
    /// Those of looking at `top`, and `NotADirectory`.
    pub fn new(
        tree: Arc<dyn Tree>,
        top: RelPath,
        leave_out: BTreeSet<Vec<u8>>,
    ) -> io::Result<Self> {
        let top_meta = tree.meta(&top)?;
        if top_meta.kind != Kind::Dir {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let enter = Some(top.clone());
        Ok(Self { tree, top, top_meta, leave_out, open: Vec::new(), enter })
    }

    /// What `lstat` told of the walked directory itself.
    pub fn top_meta(&self) -> &Meta {
        &self.top_meta
    }

    fn read_dir(&mut self, dir: RelPath) -> Option<WalkItem> {
        let mut names = match self.tree.list(&dir) {
            Ok(names) => names,
            Err(error) => return Some(WalkItem::Failed { path: dir, error }),
        };
        names.retain(|(name, _)| !self.leave_out.contains(name));
        names.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        self.open.push(Level { dir, names });
        None
    }

    fn look(&mut self, path: RelPath, listed: Option<Kind>) -> WalkItem {
        // The listing already says what these are; they need no further look.
        if let Some(kind @ (Kind::Fifo | Kind::Socket | Kind::Device)) = listed {
            return WalkItem::Skipped { path, reason: SkipReason::Special(kind) };
        }
        let meta = match self.tree.meta(&path) {
            Ok(meta) => meta,
            Err(error) => return WalkItem::Failed { path, error },
        };
        match meta.kind {
            Kind::File => WalkItem::Entry { path, meta, link: None },
            // The device of a file may differ from its directory's without any mount: overlayfs.
            Kind::Dir if meta.dev != self.top_meta.dev => {
                WalkItem::Skipped { path, reason: SkipReason::MountPoint }
            }
            Kind::Dir => {
                self.enter = Some(path.clone());
                WalkItem::Entry { path, meta, link: None }
            }
            Kind::Symlink => self.look_at_link(path, meta),
            kind => WalkItem::Skipped { path, reason: SkipReason::Special(kind) },
        }
    }

    fn look_at_link(&self, path: RelPath, meta: Meta) -> WalkItem {
        let text = match self.tree.read_link(&path) {
            Ok(text) => text,
            Err(error) => return WalkItem::Failed { path, error },
        };
        match path.strip(&self.top) {
            Some(below) if below.link_stays_below(&text) => {
                WalkItem::Entry { path, meta, link: Some(text) }
            }
            _ => WalkItem::Skipped { path, reason: SkipReason::LinkLeavesTree },
        }
    }
}

impl Iterator for Walk {
    type Item = WalkItem;

    fn next(&mut self) -> Option<WalkItem> {
        if let Some(dir) = self.enter.take()
            && let Some(failed) = self.read_dir(dir)
        {
            return Some(failed);
        }
        loop {
            let level = self.open.last_mut()?;
            let Some((name, kind)) = level.names.pop() else {
                self.open.pop();
                continue;
            };
            return Some(match level.dir.join(&name) {
                Ok(path) => self.look(path, kind),
                Err(error) => WalkItem::Skipped {
                    path: level.dir.clone(),
                    reason: SkipReason::Unnameable(error),
                },
            });
        }
    }
}

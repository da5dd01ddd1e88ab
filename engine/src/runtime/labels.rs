//! Labels that count for a path: its own and those of the directories above it.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use crate::base::{Class, RelPath};
use crate::border::{Border, Label, Sight};
use crate::runtime::noted;
use crate::storage::{Kind, Tree, Walk, WalkItem};

/// Adds the labels from the top of the tree down to `path`; whether there are any. What is not there
/// has those of what is above it.
///
/// # Errors
/// A label cannot be read: nothing is known of the class then.
pub(crate) fn labels_down_to(
    tree: &dyn Tree,
    path: &RelPath,
    found: &mut BTreeSet<Label>,
) -> io::Result<bool> {
    let (mut covered, mut at) = (false, Some(path.clone()));
    while let Some(path) = at {
        covered |= add_own(tree, &path, found)?;
        at = path.parent();
    }
    Ok(covered)
}

/// Adds the label of what is at `path`; whether it has one.
fn add_own(tree: &dyn Tree, path: &RelPath, found: &mut BTreeSet<Label>) -> io::Result<bool> {
    match tree.label(path) {
        Err(error) if is_absent(&error) => Ok(false),
        Ok(None) => Ok(false),
        label => {
            found.insert(label?);
            Ok(true)
        }
    }
}

/// Whether an error says that nothing is there.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Directories whose labels are remembered at most.
const DIRS_MAX: usize = 1024;

/// The labels that count in directories, those of what was published there included; each is looked at
/// once. It is to live for one question of a peer, not longer: labels change.
#[derive(Default)]
pub(crate) struct Around {
    /// The labels, and whether any of them is at the directories themselves.
    dirs: HashMap<RelPath, (BTreeSet<Label>, bool)>,
}

impl Around {
    fn at(&mut self, tree: &dyn Tree, path: &RelPath) -> io::Result<(BTreeSet<Label>, bool)> {
        let (mut found, mut covered) = match path.parent() {
            Some(dir) => self.dir(tree, dir)?,
            None => Default::default(),
        };
        covered |= add_own(tree, path, &mut found)?;
        noted::at(tree, path, &mut found)?;
        Ok((found, covered))
    }

    fn dir(&mut self, tree: &dyn Tree, dir: RelPath) -> io::Result<(BTreeSet<Label>, bool)> {
        if let Some(known) = self.dirs.get(&dir) {
            return Ok(known.clone());
        }
        let looked = self.at(tree, &dir)?;
        if self.dirs.len() >= DIRS_MAX {
            self.dirs.clear();
        }
        self.dirs.insert(dir, looked.clone());
        Ok(looked)
    }

    /// Whether a peer may see what is at `path`, in a tree that lies below directories with the labels
    /// `above`. What cannot be looked at is not seen.
    pub(crate) fn shows(
        &mut self,
        sight: &Sight,
        (tree, above): (&dyn Tree, &[Vec<u8>]),
        path: &RelPath,
    ) -> bool {
        let Ok((mut found, covered)) = self.at(tree, path) else { return false };
        if !covered && above.is_empty() {
            found.insert(None);
        }
        found.extend(above.iter().cloned().map(Some));
        sight.sees(&path.parent().unwrap_or_default(), found)
    }
}

/// What gets the label, beside what has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// What has a lower one.
    Lower,
    /// What has a higher one.
    Higher,
}

/// Gives the label to everything at and below `top` that has none, or one that is lower or higher, and
/// makes that durable: a label that was recorded must not be lost with the power. Returns how many got it.
///
/// # Errors
/// A label cannot be read or set, with its path; what got one before has it.
pub(crate) fn label_below(
    border: &Border,
    (tree, top): (&Arc<dyn Tree>, &RelPath),
    class: &Class,
    which: Which,
) -> Result<u64, (RelPath, io::Error)> {
    let mut count = 0;
    let mut set = |path: &RelPath| {
        let failed = |error| (path.clone(), error);
        let stays = tree.label(path).map_err(failed)?.is_some_and(|label| {
            border.class([Some(label)]).is_ok_and(|it| match which {
                Which::Lower => border.join(class, &it) == it,
                Which::Higher => border.join(class, &it) == *class,
            })
        });
        if !stays {
            tree.set_label(path, class.as_str().as_bytes()).map_err(failed)?;
            count += 1;
        }
        Ok(())
    };
    set(top)?;
    let failed = |error| (top.clone(), error);
    if tree.meta(top).map_err(failed)?.kind == Kind::Dir {
        for item in Walk::new(Arc::clone(tree), top.clone(), BTreeSet::new()).map_err(failed)? {
            match item {
                WalkItem::Entry { path, meta, .. } if meta.kind != Kind::Symlink => set(&path)?,
                WalkItem::Failed { path, error } => return Err((path, error)),
                _ => {}
            }
        }
    }
    if count > 0 {
        tree.sync_all().map_err(failed)?;
    }
    Ok(count)
}

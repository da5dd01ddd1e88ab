//! Labels that count for a path: its own and those of the directories above it.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use crate::base::{Class, RelPath};
use crate::border::{Border, Label, Sight};
use crate::runtime::noted;
use crate::storage::{Kind, Tree, Walk, WalkItem, lacks_descriptors};

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
            found.insert(label.map_err(|error| named(path, error))?);
            Ok(true)
        }
    }
}

/// Whether an error says that nothing is there.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// An error of a label that cannot be read, with its path; but for one that says what is absent or that
/// no descriptor is left, which is told by what it is.
pub(crate) fn named(path: &RelPath, error: io::Error) -> io::Error {
    if is_absent(&error) || lacks_descriptors(&error) {
        return error;
    }
    io::Error::new(error.kind(), format!("{path}: {error}"))
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
pub(crate) enum Which<'a> {
    /// What has a lower one.
    Lower,
    /// What has a higher one, but not what is above this class: it was raised meanwhile.
    HigherUpTo(&'a Class),
}

impl Which<'_> {
    /// Whether what has this label keeps it.
    fn keeps(self, border: &Border, label: Vec<u8>, class: &Class) -> bool {
        let Ok(its) = border.class([Some(label)]) else { return self != Self::Lower };
        let is_up_to = |class: &Class| border.join(class, &its) == *class;
        match self {
            Self::Lower => border.join(class, &its) == its,
            Self::HigherUpTo(most) => is_up_to(class) || !is_up_to(most),
        }
    }
}

/// Gives the label to everything at and below `top` that has none, or one that is lower or higher, and
/// makes that durable: a label that was recorded must not be lost with the power. Calls `begun` once the
/// top has it. Returns how many got it.
///
/// # Errors
/// A label cannot be read or set, with its path; all others have it.
pub(crate) fn label_below(
    border: &Border,
    (tree, top): (&Arc<dyn Tree>, &RelPath),
    (class, which): (&Class, Which<'_>),
    begun: impl FnOnce(),
) -> Result<u64, (RelPath, io::Error)> {
    let (mut count, mut failed) = (0, None);
    let mut set = |path: &RelPath| -> io::Result<()> {
        if !tree.label(path)?.is_some_and(|label| which.keeps(border, label, class)) {
            tree.set_label(path, class.as_str().as_bytes())?;
            count += 1;
        }
        Ok(())
    };
    let at_top = |error| (top.clone(), error);
    set(top).map_err(at_top)?;
    begun();
    if tree.meta(top).map_err(at_top)?.kind == Kind::Dir {
        for item in Walk::new(Arc::clone(tree), top.clone(), BTreeSet::new()).map_err(at_top)? {
            let (path, done) = match item {
                WalkItem::Entry { path, meta, .. } if meta.kind != Kind::Symlink => {
                    let done = set(&path);
                    (path, done)
                }
                WalkItem::Failed { path, error } => (path, Err(error)),
                _ => continue,
            };
            match done {
                // What vanished needs none.
                Err(error) if !is_absent(&error) => drop(failed.get_or_insert((path, error))),
                _ => {}
            }
        }
    }
    if count > 0 {
        tree.sync_all().map_err(at_top)?;
    }
    failed.map_or(Ok(count), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::border::testing::border;
    use crate::storage::MemoryTree;

    #[test]
    fn what_was_raised_while_a_class_is_lowered_keeps_its_label() {
        let (_dir, _home, border) = border();
        let (tree, top) = (MemoryTree::new(1), RelPath::from_typed(b"d").unwrap());
        let below = |name: &str| top.join(name.as_bytes()).unwrap();
        tree.mkdir(&top).unwrap();
        for name in ["none", "same", "raised", "no class"] {
            tree.create(&below(name)).unwrap();
        }
        tree.set_label(&below("same"), b"internal").unwrap();
        tree.set_label(&below("no class"), b"nonsense").unwrap();
        let class = |name: &str| name.parse::<Class>().unwrap();
        let shared: Arc<dyn Tree> = Arc::new(tree.clone());
        let raise = || tree.set_label(&below("raised"), b"restricted").unwrap();
        let which = Which::HigherUpTo(&class("internal"));
        let lowered = label_below(&border, (&shared, &top), (&class("public"), which), raise);
        assert_eq!(lowered.unwrap(), 3, "the top and two below it");
        let label = |at: &RelPath| tree.label(at).unwrap().map(|it| String::from_utf8(it).unwrap());
        let labels = ["none", "same", "raised", "no class"].map(|name| label(&below(name)));
        let labels = labels.each_ref().map(|it| it.as_deref().unwrap_or_default());
        assert_eq!(labels, ["public", "public", "restricted", "nonsense"]);
        // Raising gives a class to what has none that is known.
        let which = Which::Lower;
        label_below(&border, (&shared, &top), (&class("internal"), which), || {}).unwrap();
        assert_eq!(label(&below("no class")).as_deref(), Some("internal"));
        assert_eq!(label(&below("raised")).as_deref(), Some("restricted"));
    }
}

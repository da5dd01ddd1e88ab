//! Labels that count for a path: its own and those of the directories above it.

use std::collections::BTreeSet;
use std::io;

use crate::base::RelPath;
use crate::border::{Label, Sight};
use crate::runtime::noted;
use crate::storage::Tree;

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
        let label = match tree.label(&path) {
            Err(error) if is_absent(&error) => None,
            label => label?,
        };
        if let Some(label) = label {
            covered = true;
            found.insert(Some(label));
        }
        at = path.parent();
    }
    Ok(covered)
}

/// Whether an error says that nothing is there.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether a peer may see what is at `path`, in a tree that lies below directories with the labels
/// `above`. What cannot be looked at is not seen.
pub(crate) fn sees(sight: &Sight, tree: &dyn Tree, path: &RelPath, above: &[Vec<u8>]) -> bool {
    let mut found: BTreeSet<Label> = above.iter().cloned().map(Some).collect();
    let dir = path.parent().unwrap_or_default();
    let Ok(covered) = labels_down_to(tree, path, &mut found) else { return false };
    if !covered && above.is_empty() {
        found.insert(None);
    }
    noted::down_to(tree, path, &mut found).is_ok() && sight.sees(&dir, found)
}

//! Labels of what is to be sent.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::Arc;

use super::{Around, SourceFiles, SourceRoot};
use crate::base::RelPath;
use crate::border::Label;
use crate::runtime::labels::labels_down_to;
use crate::runtime::{OWN_DIR, noted};
use crate::storage::{Kind, Walk, WalkItem};

impl SourceFiles {
    /// The labels that count for the sources: of each file its own and those of the directories above
    /// it, and of snapshots that were published there, `None` for a file without any. Without `deep`,
    /// what is below the sources is not looked at.
    ///
    /// # Errors
    /// A label cannot be read: nothing is known of the class then.
    pub fn labels(&self, deep: bool) -> io::Result<BTreeSet<Label>> {
        let mut all = BTreeSet::new();
        for root in &self.roots {
            let Around { above, base } = &root.around;
            let mut found: BTreeSet<Label> = above.iter().cloned().map(Some).collect();
            let covered = !above.is_empty() | labels_down_to(&*root.tree, &root.path, &mut found)?;
            if deep && root.tree.meta(&root.path)?.kind == Kind::Dir {
                labels_below(root, covered, &mut found)?;
            }
            // What has no label has the default class. Where nothing is, what a manifest says of it is no
            // reason to call it less than that.
            if found.is_empty() {
                found.insert(None);
            }
            let (tree, path) =
                base.as_ref().map_or((&root.tree, &root.path), |(tree, path)| (tree, path));
            noted::down_to(&**tree, path, &mut found)?;
            if deep {
                noted::below(&**tree, path, &mut found)?;
            }
            all.extend(found);
        }
        Ok(all)
    }
}

fn labels_below(root: &SourceRoot, covered: bool, found: &mut BTreeSet<Label>) -> io::Result<()> {
    // Directories with a label of their own or above them.
    let mut labelled: HashSet<RelPath> = HashSet::new();
    if covered {
        labelled.insert(root.path.clone());
    }
    for item in
        Walk::new(Arc::clone(&root.tree), root.path.clone(), BTreeSet::from([OWN_DIR.to_vec()]))?
    {
        let WalkItem::Entry { path, meta, .. } = item else { continue };
        // A symbolic link has no label of its own.
        let label = if meta.kind == Kind::Symlink { None } else { root.tree.label(&path)? };
        let covered = label.is_some() || path.parent().is_some_and(|dir| labelled.contains(&dir));
        if let Some(label) = label {
            found.insert(Some(label));
        }
        match meta.kind {
            Kind::Dir if covered => drop(labelled.insert(path)),
            Kind::Dir => {}
            _ if covered => {}
            _ => drop(found.insert(None)),
        }
    }
    Ok(())
}

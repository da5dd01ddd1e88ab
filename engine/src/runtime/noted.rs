//! Classes that manifests keep. Where the top of a snapshot has no label, on a file system without
//! attributes, or because a copy or a tool took it away, what is there has the class of the manifest if
//! that is higher than what it has without: a manifest lowers nothing, since something else may lie in
//! the snapshot's place by now.

use std::collections::BTreeSet;
use std::io;

use crate::base::RelPath;
use crate::border::Label;
use crate::manifest::ManifestHead;
use crate::runtime::manifest_file::read_head;
use crate::runtime::target::{Layout, manifests_path};
use crate::storage::Tree;

/// Adds the classes of what was published at the path and above it; whether there are any.
pub(crate) fn down_to(
    tree: &dyn Tree,
    path: &RelPath,
    found: &mut BTreeSet<Label>,
) -> io::Result<bool> {
    let (mut any, mut at) = (false, Some(path.clone()));
    while let Some(path) = at {
        any |= self::at(tree, &path, found)?;
        at = path.parent();
    }
    Ok(any)
}

/// Adds the class of what was published at the path itself; whether there is one.
pub(crate) fn at(tree: &dyn Tree, path: &RelPath, found: &mut BTreeSet<Label>) -> io::Result<bool> {
    add(tree, head(tree, &Layout::of(path).published)?, found)
}

/// Adds the classes of what was published below the path.
pub(crate) fn below(
    tree: &dyn Tree,
    path: &RelPath,
    found: &mut BTreeSet<Label>,
) -> io::Result<()> {
    let manifests = manifests_path();
    let names = match tree.list(&manifests) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    for (name, _) in names {
        let Ok(manifest) = manifests.join(&name) else { continue };
        let head = head(tree, &manifest)?;
        let is_below = |head: &ManifestHead| head.target.strip(path).is_some();
        add(tree, head.filter(is_below), found)?;
    }
    Ok(())
}

/// What a manifest says first; one that is missing or damaged says nothing.
fn head(tree: &dyn Tree, manifest: &RelPath) -> io::Result<Option<ManifestHead>> {
    match read_head(tree, manifest) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::warn!(%manifest, "a damaged manifest says no class; labels count alone");
            Ok(None)
        }
        head => head,
    }
}

fn add(
    tree: &dyn Tree,
    head: Option<ManifestHead>,
    found: &mut BTreeSet<Label>,
) -> io::Result<bool> {
    let Some((target, class)) = head.and_then(|head| Some((head.target, head.class?))) else {
        return Ok(false);
    };
    let label = match tree.label(&target) {
        // What is not there any more has no class.
        Err(error) if super::labels::is_absent(&error) => return Ok(false),
        label => label?,
    };
    // A label that is there may have been raised since, or lowered by two.
    if label.is_none() {
        found.insert(Some(class.as_str().as_bytes().to_vec()));
    }
    Ok(label.is_none())
}

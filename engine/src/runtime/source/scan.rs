//! Scanning sources: entries in canonical order, and remarks about what is not moved.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Remark, Remarks, SourceRoot, entry_of};
use crate::base::RelPath;
use crate::manifest::{Entry, EntryKind};
use crate::protocol::Failure;
use crate::runtime::{OWN_DIR, fatal};
use crate::storage::{Kind, Walk, WalkItem, lacks_descriptors};

/// Entries that were left out or could not be scanned, with the reason, are remembered up to here.
const REMARKS_MAX: usize = 1000;

#[derive(Default)]
pub(super) struct Scan {
    /// The directory that holds several sources, which is an entry of its own.
    top: Option<Entry>,
    /// Sources that are not scanned yet.
    roots: VecDeque<SourceRoot>,
    /// The source that is being scanned.
    walk: Option<(Walk, SourceRoot)>,
    pub(super) remarks: Remarks,
}

/// The directory that holds several sources: as new as the newest of them.
fn top_of(roots: &[SourceRoot]) -> Entry {
    let times = roots.iter().filter_map(|root| root.tree.meta(&root.path).ok());
    let mtime = times.map(|meta| meta.mtime).max().unwrap_or_default();
    Entry { path: RelPath::root(), kind: EntryKind::Dir, mode: 0o755, mtime }
}

impl Scan {
    /// A scan of these sources.
    pub(super) fn new(roots: &[SourceRoot]) -> Self {
        let several = roots.iter().all(|root| !root.place.is_root());
        let top = several.then(|| top_of(roots));
        Self { top, roots: roots.iter().cloned().collect(), ..Self::default() }
    }

    /// The next entry.
    pub(super) fn next(&mut self) -> Option<Result<Entry, Failure>> {
        if let Some(top) = self.top.take() {
            return Some(Ok(top));
        }
        loop {
            if let Some((walk, root)) = &mut self.walk {
                let Some(item) = walk.next() else {
                    self.walk = None;
                    continue;
                };
                if let WalkItem::Failed { path, error } = &item
                    && lacks_descriptors(error)
                {
                    return Some(Err(fatal("look at", path, error)));
                }
                let (top, place) = (root.path.clone(), root.place.clone());
                if let Some(entry) = self.item(item, &top, &place) {
                    return Some(Ok(entry));
                }
                continue;
            }
            let root = self.roots.pop_front()?;
            match self.begin(root) {
                Ok(Some(entry)) => return Some(Ok(entry)),
                Ok(None) => {}
                Err(failure) => return Some(Err(failure)),
            }
        }
    }

    /// Begins a source; gives its own entry.
    fn begin(&mut self, root: SourceRoot) -> Result<Option<Entry>, Failure> {
        let failed = |e| fatal("look at the source", &root.path, &e);
        let meta = root.tree.meta(&root.path).map_err(failed)?;
        match meta.kind {
            Kind::File => Ok(Some(entry_of(root.place, &meta, None))),
            Kind::Dir => {
                let own = BTreeSet::from([OWN_DIR.to_vec()]);
                let tree = Arc::clone(&root.tree);
                let walk = Walk::new(tree, root.path.clone(), own).map_err(failed)?;
                let entry = entry_of(root.place.clone(), &meta, None);
                self.walk = Some((walk, root));
                Ok(Some(entry))
            }
            kind => {
                self.skip(root.path.to_string(), format!("a {kind} has no content to move"));
                Ok(None)
            }
        }
    }

    fn item(&mut self, item: WalkItem, top: &RelPath, place: &RelPath) -> Option<Entry> {
        match item {
            WalkItem::Entry { path, meta, link } => {
                let placed = path.strip(top).and_then(|below| place.join_path(&below).ok());
                match placed {
                    Some(placed) => Some(entry_of(placed, &meta, link)),
                    None => {
                        self.skip(path.to_string(), "its path is too deep".to_owned());
                        None
                    }
                }
            }
            WalkItem::Skipped { path, reason } => {
                self.skip(path.to_string(), reason.to_string());
                None
            }
            WalkItem::Failed { path, error } => {
                self.remarks.failed_total += 1;
                if self.remarks.failed.len() < REMARKS_MAX {
                    let (path, reason) = (path.to_string(), error.to_string());
                    self.remarks.failed.push(Remark { path, reason });
                }
                None
            }
        }
    }

    fn skip(&mut self, path: String, reason: String) {
        self.remarks.skipped_total += 1;
        if self.remarks.skipped.len() < REMARKS_MAX {
            self.remarks.skipped.push(Remark { path, reason });
        }
    }
}

//! Parts that wait too long for the others are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;

use super::{PARTS_KEPT_S, areas, forget, names_in, parts_path};
use crate::base::RelPath;
use crate::index::Index;
use crate::journal::Journal;
use crate::runtime::target::{Layout, clean_up, staging_path};
use crate::storage::{self, Tree};

/// Removes parts that nothing was added to for [`PARTS_KEPT_S`] before `now_s`, seconds since 1970, and what
/// is staged of such; how many areas that were. `lock` takes the right to write to a path: one that
/// cannot be had leaves its area alone.
pub fn expire(
    tree: &dyn Tree,
    index: &Index,
    now_s: i64,
    lock: impl Fn(&RelPath) -> io::Result<Option<File>>,
) -> io::Result<usize> {
    let mut found: BTreeMap<RelPath, Waiting> = BTreeMap::new();
    for area in areas(tree)? {
        let waiting = found.entry(area.clone()).or_default();
        let top = area.join(b"tree").map_err(io::Error::other)?;
        waiting.changed(tree, &area);
        waiting.changed(tree, &top);
        for name in names_in(tree, &top)? {
            let held = top.join(&name).map_err(io::Error::other)?;
            waiting.changed(tree, &Layout::of(&held).published);
            waiting.held.insert(held);
        }
    }
    for key in names_in(tree, &staging_path())? {
        let journal = staging_path().join(&key).and_then(|dir| dir.join(b"journal"));
        let Ok(Ok(Some((_, replay)))) = journal.map(|path| Journal::replay(tree, &path)) else {
            continue;
        };
        let held = replay.head.target;
        let area = held.strip(&parts_path()).and_then(|_| held.parent()?.parent());
        if let Some(area) = area {
            let waiting = found.entry(area).or_default();
            waiting.changed(tree, &Layout::of(&held).journal);
            waiting.held.insert(held);
        }
    }
    found.retain(|_, waiting| now_s - waiting.since_s > PARTS_KEPT_S);
    let mut gone = 0;
    for (area, waiting) in found {
        let locks: io::Result<Vec<Option<File>>> = waiting.held.iter().map(&lock).collect();
        if locks?.iter().all(Option::is_some) {
            for held in &waiting.held {
                forget(tree, index, held)?;
                clean_up(tree, &Layout::of(held))?;
            }
            storage::remove_all(tree, &area)?;
            gone += 1;
        }
    }
    Ok(gone)
}

/// Parts of one area.
#[derive(Default)]
struct Waiting {
    /// When something was last added, in seconds since 1970.
    since_s: i64,
    held: BTreeSet<RelPath>,
}

impl Waiting {
    fn changed(&mut self, tree: &dyn Tree, path: &RelPath) {
        let at = tree.meta(path).map_or(0, |meta| meta.mtime.secs);
        self.since_s = self.since_s.max(at);
    }
}

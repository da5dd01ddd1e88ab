//! Publishing: everything durable, one journal record, then names change. And rolling forward.
//!
//! A snapshot for a path where nothing is appears by one rename. Where a tree is already, each
//! object replaces its predecessor by one rename; whoever looks sees old or new objects, never a
//! part of one. A crash after the journal record is rolled forward from the manifest alone.

use std::io;

use super::visible::{Moved, Publish};
use super::{Layout, TargetStore, key_of, manifests_path, parts, staging_path};
use crate::base::{Digest, RelPath};
use crate::index::Index;
use crate::journal::{Head, Journal, Record};
use crate::metrics::Stage;
use crate::protocol::Failure;
use crate::runtime::effort::Effort;
use crate::runtime::fatal;
use crate::runtime::manifest_file::ManifestReader;
use crate::storage::{self, Tree};

impl TargetStore {
    /// Makes the settled snapshot visible.
    pub fn publish(&self, root: Digest, entries: u64) -> Result<(), Failure> {
        let _syncing = Effort::work(&self.stages, Stage::Sync);
        let mut ledger = self.ledger();
        let Some(manifest) = ledger.manifest.as_mut() else { return Ok(()) };
        if self.is_published_already(entries) {
            ledger.journal = None;
            ledger.manifest = None;
            drop(ledger);
            return self.end();
        }
        manifest.finish(root, entries).map_err(|e| fatal("write", &self.layout.manifest, &e))?;
        let publish = Publish { tree: &*self.tree, layout: &self.layout, target: &self.target };
        publish.refuse_what_is_in_the_way()?;
        let there = present(&*self.tree, &self.target);
        let whole = !there.map_err(|e| fatal("look at", &self.target, &e))?;
        publish.complete_staging(self.has_leftovers(), whole)?;
        self.label_staged(whole)?;
        if !self.options.planted.publish_before_sync && !self.options.planted.no_dir_sync {
            let synced = self.tree.sync_all();
            synced.map_err(|e| fatal("make durable", &self.layout.staging, &e))?;
        }
        let journal = ledger.journal.as_mut();
        if let Some(journal) = journal {
            let record = Record::Publishing { root, entries };
            journal.append(&[record]).map_err(|e| super::journal_failure(&e))?;
        }
        publish.make_visible(&self.index, false)?;
        let _ = self.index.flush();
        ledger.journal = None;
        ledger.manifest = None;
        drop(ledger);
        self.end()
    }

    /// Nothing of the transfer is left; a part may have been the last one.
    fn end(&self) -> Result<(), Failure> {
        clean_up(&*self.tree, &self.layout)
            .map_err(|e| fatal("remove", &self.layout.staging, &e))?;
        let Some(part) = &self.options.part else { return Ok(()) };
        let (transfer_id, source) = (self.transfer_id, self.options.source.clone());
        let head = Head { transfer_id, target: self.target.clone(), source };
        part.seal(&*self.tree, &self.index, &head).map(drop)
    }

    /// Something may be staged that is not in the manifest: of an earlier run, or of an object
    /// that failed.
    fn has_leftovers(&self) -> bool {
        let inner = self.inner();
        self.resumed || !inner.staged.is_empty() || inner.finished != inner.settled
    }

    /// Every entry is just as the old manifest has it, and no other was there.
    fn is_published_already(&self, entries: u64) -> bool {
        let inner = self.inner();
        !inner.changed
            && inner.old.as_ref().is_some_and(|old| old.at_end() && old.entries == entries)
    }
}

/// Removes a transfer's staging area.
pub fn clean_up(tree: &dyn Tree, layout: &Layout) -> io::Result<()> {
    storage::remove_all(tree, &layout.staging)
}

/// What was found half done at a start.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Target paths whose publication was rolled forward.
    pub rolled: Vec<RelPath>,
    /// What could not be finished, and why. Each stays as it is; all others can be used.
    pub failed: Vec<(RelPath, Failure)>,
}

impl Recovered {
    /// Takes in what came of `path`.
    pub(super) fn took(&mut self, path: &RelPath, done: Result<Option<RelPath>, Failure>) {
        match done {
            Ok(rolled) => self.rolled.extend(rolled),
            Err(failure) => self.failed.push((path.clone(), failure)),
        }
    }
}

/// Rolls forward every publish that a crash interrupted. `lock` takes the right to write to the path of a
/// key: one that cannot be had has a writer that does the rest itself.
///
/// # Errors
/// Those of listing the areas.
pub fn recover_all<L>(
    tree: &dyn Tree,
    index: &Index,
    lock: impl Fn(&[u8]) -> io::Result<Option<L>>,
) -> Result<Recovered, Failure> {
    let mut recovered = Recovered::default();
    parts::recover_all(tree, index, &lock, &mut recovered)?;
    let staging = staging_path();
    let names = match tree.list(&staging) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(recovered),
        other => other.map_err(|e| fatal("list", &staging, &e))?,
    };
    for (name, _) in names {
        let Ok(area) = staging.join(&name) else { continue };
        let _held = match lock(&name) {
            Ok(Some(held)) => held,
            Ok(None) => continue,
            Err(error) => {
                recovered.took(&area, Err(fatal("lock", &area, &error)));
                continue;
            }
        };
        let Ok(path) = area.join(b"journal") else { continue };
        let Ok(Some((_, replay))) = Journal::replay(tree, &path) else { continue };
        let target = replay.head.target;
        if replay.publishing.is_some() && name == key_of(&target).as_bytes() {
            let done = recover(tree, index, &target).map(|()| Some(target.clone()));
            recovered.took(&target, done);
        }
    }
    Ok(recovered)
}

/// Rolls a half-done publish of `target` forward, if there is one.
pub(super) fn recover(tree: &dyn Tree, index: &Index, target: &RelPath) -> Result<(), Failure> {
    let layout = Layout::of(target);
    let found = Journal::replay(tree, &layout.journal);
    let found = found.map_err(|e| super::journal_failure(&e))?;
    let Some((_, replay)) = found else { return Ok(()) };
    if replay.head.target != *target {
        return Ok(());
    }
    if roll_forward(tree, index, (&layout, target), replay.publishing)? {
        clean_up(tree, &layout).map_err(|e| fatal("remove", &layout.staging, &e))?;
    }
    Ok(())
}

/// Does what is left of a publish that was recorded; whether there was one, so that only the staging area
/// is to be removed.
pub(super) fn roll_forward(
    tree: &dyn Tree,
    index: &Index,
    (layout, target): (&Layout, &RelPath),
    recorded: Option<(Digest, u64)>,
) -> Result<bool, Failure> {
    let Some((root, entries)) = recorded else { return Ok(false) };
    // Whoever wrote the record may have died before it was durable; names must not change before it.
    let kept = tree.open(&layout.journal).and_then(|journal| journal.sync());
    kept.map_err(|e| fatal("make durable", &layout.journal, &e))?;
    // Without its manifest the last rename was done: only the cleaning is left.
    let staged = present(tree, &layout.manifest);
    if staged.map_err(|e| fatal("look at", &layout.manifest, &e))? {
        let publish = Publish { tree, layout, target };
        if !publish.manifest_is(root, entries)? {
            // Nothing can be rolled forward by a manifest that was damaged since. Without the
            // record it is a transfer like any other: what is staged is announced and checked anew.
            return tree
                .unlink(&layout.journal)
                .and_then(|()| tree.sync_dir(&layout.staging))
                .map_err(|e| fatal("remove", &layout.journal, &e))
                .map(|()| false);
        }
        publish.make_visible(index, true)?;
        index_published(tree, index, target);
    } else {
        // Whoever did the last rename may have died before it, or its time, was durable.
        renew_manifest(tree, &layout.published)
            .map_err(|e| fatal("publish", &layout.published, &e))?;
    }
    Ok(true)
}

/// Makes a published manifest durable. Its own time of change says since when it holds, so that has
/// to be durable too.
pub(super) fn keep_manifest(tree: &dyn Tree, published: &RelPath) -> io::Result<()> {
    tree.open(published)?.sync()?;
    tree.sync_dir(&manifests_path())
}

/// Makes a published manifest durable that holds from now on.
pub(in crate::runtime) fn renew_manifest(tree: &dyn Tree, published: &RelPath) -> io::Result<()> {
    let meta = match tree.meta(published) {
        // Removed by hand; it is only missed by whoever looks for it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    tree.set_meta(published, meta.mode, meta.mtime)?;
    keep_manifest(tree, published)
}

/// Adds what a published manifest says to the index; a cache, so failures only cost finding less.
pub fn index_published(tree: &dyn Tree, index: &Index, target: &RelPath) {
    let path = Layout::of(target).published;
    let Ok(Some(mut reader)) = ManifestReader::open(tree, &path) else { return };
    let mut all = Moved::to(index, target);
    while let Ok(Some(listed)) = reader.read() {
        all.add(&listed);
    }
    all.flush();
}

/// Whether there is anything at `path`; where that cannot be told it is an error, and never a no.
pub(super) fn present(tree: &dyn Tree, path: &RelPath) -> io::Result<bool> {
    match tree.meta(path) {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(false),
            _ => Err(error),
        },
    }
}

//! Publishing: everything durable, one journal record, then names change. And rolling forward.
//!
//! A snapshot for a path where nothing is appears by one rename. Where a tree is already, each
//! object replaces its predecessor by one rename; whoever looks sees old or new objects, never a
//! part of one. A crash after the journal record is rolled forward from the manifest alone.

use std::io;

use super::commit::{IndexList, index_chunks};
use super::{Layout, TargetStore, below, key_of, manifests_path, staging_path, sync_ancestors};
use crate::base::{Digest, RelPath};
use crate::index::{BaseId, FileChunks, Index};
use crate::journal::{Journal, Record};
use crate::manifest::{Entry, EntryKind};
use crate::protocol::Failure;
use crate::runtime::fatal;
use crate::runtime::manifest_file::{DirStack, Listed, ManifestEnd, ManifestReader};
use crate::storage::{self, Kind, Meta, Tree};

impl TargetStore {
    /// Makes the settled snapshot visible.
    pub fn publish(&self, root: Digest, entries: u64) -> Result<(), Failure> {
        let mut ledger = self.ledger();
        let Some(manifest) = ledger.manifest.as_mut() else { return Ok(()) };
        if self.is_published_already(entries) {
            ledger.journal = None;
            ledger.manifest = None;
            return clean_up(&*self.tree, &self.layout)
                .map_err(|e| fatal("remove", &self.layout.staging, &e));
        }
        manifest.finish(root, entries).map_err(|e| fatal("write", &self.layout.manifest, &e))?;
        let publish = Publish { tree: &*self.tree, layout: &self.layout, target: &self.target };
        publish.refuse_what_is_in_the_way()?;
        let there = present(&*self.tree, &self.target);
        let whole = !there.map_err(|e| fatal("look at", &self.target, &e))?;
        publish.complete_staging(self.has_leftovers(), whole)?;
        if !self.options.planted.publish_before_sync && !self.options.planted.no_dir_sync {
            let synced = self.tree.sync_all();
            synced.map_err(|e| fatal("make durable", &self.layout.staging, &e))?;
        }
        let journal = ledger.journal.as_mut();
        if let Some(journal) = journal {
            let record = Record::Publishing { root, entries };
            journal.append(&[record]).map_err(|e| super::journal_failure(&e))?;
        }
        publish.make_visible(&self.index)?;
        let _ = self.index.flush();
        ledger.journal = None;
        ledger.manifest = None;
        drop(ledger);
        clean_up(&*self.tree, &self.layout).map_err(|e| fatal("remove", &self.layout.staging, &e))
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

/// Rolls forward every publish that a crash interrupted; returns the target paths.
pub fn recover_all(tree: &dyn Tree, index: &Index) -> Result<Vec<RelPath>, Failure> {
    let staging = staging_path();
    let names = match tree.list(&staging) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| fatal("list", &staging, &e))?,
    };
    let mut rolled = Vec::new();
    for (name, _) in names {
        let Ok(path) = staging.join(&name).and_then(|dir| dir.join(b"journal")) else { continue };
        let Ok(Some((_, replay))) = Journal::replay(tree, &path) else { continue };
        let target = replay.head.target;
        if replay.publishing.is_some() && name == key_of(&target).as_bytes() {
            recover(tree, index, &target)?;
            rolled.push(target);
        }
    }
    Ok(rolled)
}

/// Rolls a half-done publish of `target` forward, if there is one.
pub(super) fn recover(tree: &dyn Tree, index: &Index, target: &RelPath) -> Result<(), Failure> {
    let layout = Layout::of(target);
    let found = Journal::replay(tree, &layout.journal);
    let found = found.map_err(|e| Failure::new("journal", e.to_string()))?;
    let Some((_, replay)) = found else { return Ok(()) };
    let Some((root, entries)) = replay.publishing else { return Ok(()) };
    if replay.head.target != *target {
        return Ok(());
    }
    // Without its manifest the last rename was done: only the cleaning is left.
    let staged = present(tree, &layout.manifest);
    if staged.map_err(|e| fatal("look at", &layout.manifest, &e))? {
        let publish = Publish { tree, layout: &layout, target };
        if !publish.manifest_is(root, entries)? {
            // Nothing can be rolled forward by a manifest that was damaged since. Without the
            // record it is a transfer like any other: what is staged is announced and checked anew.
            return tree
                .unlink(&layout.journal)
                .and_then(|()| tree.sync_dir(&layout.staging))
                .map_err(|e| fatal("remove", &layout.journal, &e));
        }
        publish.make_visible(index)?;
        index_published(tree, index, target);
    } else {
        // Whoever did the last rename may have died before it, or its time, was durable.
        renew_manifest(tree, &layout.published)
            .map_err(|e| fatal("publish", &layout.published, &e))?;
    }
    clean_up(tree, &layout).map_err(|e| fatal("remove", &layout.staging, &e))
}

/// Makes a published manifest durable. Its own time of change says since when it holds, so that has
/// to be durable too.
fn keep_manifest(tree: &dyn Tree, published: &RelPath) -> io::Result<()> {
    tree.open(published)?.sync()?;
    tree.sync_dir(&manifests_path())
}

/// Makes a published manifest durable that holds from now on.
fn renew_manifest(tree: &dyn Tree, published: &RelPath) -> io::Result<()> {
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

/// The objects of a staging area on their way to a base that was there before. The index is a
/// cache, so failures only cost finding less.
struct Moved<'a> {
    index: &'a Index,
    to: Option<BaseId>,
    files: Vec<(RelPath, IndexList)>,
    chunks: usize,
}

impl<'a> Moved<'a> {
    /// Chunks that go to the index at a time.
    const CHUNKS: usize = 8192;

    fn to(index: &'a Index, target: &RelPath) -> Self {
        Self { index, to: index.add_base(target).ok(), files: Vec::new(), chunks: 0 }
    }

    fn add(&mut self, listed: &Listed) {
        if !listed.chunks.is_empty() {
            self.chunks += listed.chunks.len();
            self.files.push((listed.entry.path.clone(), index_chunks(&listed.chunks)));
        }
        if self.chunks >= Self::CHUNKS {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let files = std::mem::take(&mut self.files);
        let files: Vec<FileChunks<'_>> =
            files.iter().map(|(path, chunks)| FileChunks { path: path.clone(), chunks }).collect();
        self.chunks = 0;
        let Some(to) = self.to else { return };
        let _ = self.index.insert(to, &files);
    }
}

struct Publish<'a> {
    tree: &'a dyn Tree,
    layout: &'a Layout,
    target: &'a RelPath,
}

impl Publish<'_> {
    fn manifest(&self) -> Result<ManifestReader, Failure> {
        let path = &self.layout.manifest;
        let reader = ManifestReader::open(self.tree, path).map_err(|e| fatal("read", path, &e))?;
        reader.ok_or_else(|| Failure::new("manifest", "the staged manifest is gone"))
    }

    /// Whether the staged manifest is whole, and the one of this snapshot.
    fn manifest_is(&self, root: Digest, entries: u64) -> Result<bool, Failure> {
        let read = || -> io::Result<Option<ManifestEnd>> {
            let opened = ManifestReader::open(self.tree, &self.layout.manifest)?;
            let Some(mut reader) = opened else { return Ok(None) };
            while reader.read()?.is_some() {}
            Ok(reader.end())
        };
        match read() {
            Ok(end) => Ok(end == Some(ManifestEnd { root, entries })),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(false),
            Err(error) => Err(fatal("read", &self.layout.manifest, &error)),
        }
    }

    /// Calls `each` for every entry in order, and `leave` for every directory that is left.
    fn walk(
        &self,
        mut each: impl FnMut(&Listed) -> Result<(), Failure>,
        mut leave: impl FnMut(&Entry) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut reader = self.manifest()?;
        let mut dirs = DirStack::default();
        let damaged = |e| fatal("read", &self.layout.manifest, &e);
        while let Some(listed) = reader.read().map_err(damaged)? {
            let entry = &listed.entry;
            dirs.leave(&entry.path).iter().try_for_each(&mut leave)?;
            each(&listed)?;
            if entry.kind == EntryKind::Dir {
                dirs.enter(entry);
            }
        }
        dirs.leave_all().try_for_each(|dir| leave(&dir))
    }

    /// A directory that is not empty is never replaced by a file or link.
    fn refuse_what_is_in_the_way(&self) -> Result<(), Failure> {
        self.refuse_a_file_above()?;
        let there = present(self.tree, self.target);
        if !there.map_err(|e| fatal("look at", self.target, &e))? {
            return Ok(());
        }
        self.walk(
            |Listed { entry, .. }| {
                let path = below(self.target, &entry.path)?;
                let in_the_way = entry.kind != EntryKind::Dir && self.is_full_dir(&path)?;
                if in_the_way {
                    let detail = format!("{path} is a directory and would become a file");
                    return Err(Failure::new("in-the-way", detail));
                }
                Ok(())
            },
            |_| Ok(()),
        )
    }

    /// Nor is a file or link on the way to the target path, or at it if it needs to be a directory:
    /// found out later, it would stop the snapshot half-way.
    fn refuse_a_file_above(&self) -> Result<(), Failure> {
        let first = self.manifest()?.read();
        let first = first.map_err(|e| fatal("read", &self.layout.manifest, &e))?;
        let has_top = first.is_none_or(|listed| listed.entry.path.is_root());
        let mut dir = if has_top { self.target.parent() } else { Some(self.target.clone()) };
        while let Some(path) = dir {
            match self.tree.meta(&path) {
                Ok(meta) if meta.kind != Kind::Dir => {
                    let detail = format!("{path} is a {} and would become a directory", meta.kind);
                    return Err(Failure::new("in-the-way", detail));
                }
                Ok(_) => return Ok(()),
                Err(_) => present(self.tree, &path).map_err(|e| fatal("look at", &path, &e))?,
            };
            dir = path.parent();
        }
        Ok(())
    }

    /// Whether `path` is a directory with something in it.
    fn is_full_dir(&self, path: &RelPath) -> Result<bool, Failure> {
        let failed = |e| fatal("look at", path, &e);
        match self.tree.meta(path) {
            Ok(meta) if meta.kind == Kind::Dir => {
                Ok(!self.tree.list(path).map_err(failed)?.is_empty())
            }
            Ok(_) => Ok(false),
            Err(_) => present(self.tree, path).map_err(failed),
        }
    }

    /// Makes directories and links in the staging area, and removes `leftovers` of objects that are
    /// not in the snapshot.
    ///
    /// Modes and times of directories are set here if the snapshot appears as a `whole`: but for
    /// the top, which could not be renamed once it is read-only.
    fn complete_staging(&self, leftovers: bool, whole: bool) -> Result<(), Failure> {
        if leftovers {
            self.prune()?;
        }
        let top = &self.layout.tree;
        self.walk(
            |Listed { entry, .. }| {
                let path = below(top, &entry.path)?;
                let made = match &entry.kind {
                    EntryKind::File { .. } => Ok(()),
                    EntryKind::Dir => make_dir(self.tree, &path),
                    EntryKind::Symlink(text) => make_link(self.tree, text, &path),
                };
                made.map_err(|e| fatal("create", &path, &e))?;
                if matches!(entry.kind, EntryKind::Symlink(_)) {
                    let set = self.tree.set_meta(&path, entry.mode, entry.mtime);
                    set.map_err(|e| fatal("set the times of", &path, &e))?;
                }
                Ok(())
            },
            |dir| {
                if !whole || dir.path.is_root() {
                    return Ok(());
                }
                let path = below(top, &dir.path)?;
                let set = self.tree.set_meta(&path, dir.mode, dir.mtime);
                set.map_err(|e| fatal("set the times of", &path, &e))
            },
        )
    }

    /// Removes staged names that the manifest does not have. Both orders are canonical.
    fn prune(&self) -> Result<(), Failure> {
        let mut reader = self.manifest()?;
        let damaged = |e| fatal("read", &self.layout.manifest, &e);
        let mut next = reader.read().map_err(damaged)?;
        let mut todo = vec![RelPath::root()];
        while let Some(path) = todo.pop() {
            while next.as_ref().is_some_and(|l| l.entry.path < path) {
                next = reader.read().map_err(damaged)?;
            }
            let staged = below(&self.layout.tree, &path)?;
            let failed = |e| fatal("prune", &staged, &e);
            if !present(self.tree, &staged).map_err(failed)? {
                continue;
            }
            let meta = self.tree.meta(&staged).map_err(failed)?;
            let listed = next.as_ref().map(|l| &l.entry).filter(|e| e.path == path);
            let keep = match listed.map(|e| &e.kind) {
                Some(EntryKind::Dir) => meta.kind == Kind::Dir,
                Some(EntryKind::File { .. }) => meta.kind == Kind::File,
                Some(EntryKind::Symlink(_)) => false,
                // The snapshot's top need not be an entry of its own.
                None => path.is_root() && meta.kind == Kind::Dir,
            };
            if !keep {
                storage::remove_all(self.tree, &staged).map_err(failed)?;
            } else if meta.kind == Kind::Dir {
                open_up(self.tree, &staged, &meta).map_err(failed)?;
                let mut below_it: Vec<RelPath> = Vec::new();
                for (name, _) in self.tree.list(&staged).map_err(failed)? {
                    below_it.extend(path.join(&name).ok());
                }
                below_it.sort_unstable_by(|a, b| b.cmp(a));
                todo.append(&mut below_it);
            }
        }
        Ok(())
    }

    /// Renames the staged snapshot, or its objects, to where they are seen.
    fn make_visible(&self, index: &Index) -> Result<(), Failure> {
        let renaming = |e| fatal("publish", self.target, &e);
        let target_dir = self.target.parent().unwrap_or_default();
        let staged = present(self.tree, &self.layout.tree).map_err(renaming)?;
        let renamed = if self.target.is_root() || !staged {
            Err(io::ErrorKind::AlreadyExists.into())
        } else {
            make_parents(self.tree, &target_dir)
                .and_then(|()| self.tree.rename(&self.layout.tree, self.target, false))
        };
        match renamed {
            Ok(()) => {
                self.set_top_meta()?;
                sync_ancestors(self.tree, self.target).map_err(renaming)?;
                let base = index.add_base(&self.layout.tree);
                let _ = base.and_then(|base| index.move_base(base, self.target));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mut moved = Moved::to(index, self.target);
                self.merge(&mut moved)?;
                moved.flush();
                let base = index.add_base(&self.layout.tree);
                let _ = base.and_then(|base| index.drop_base(base));
                self.tree.sync_all().map_err(renaming)?;
            }
            Err(error) => return Err(renaming(error)),
        }
        let Layout { manifest, published, .. } = self.layout;
        self.tree
            .rename(manifest, published, true)
            .and_then(|()| keep_manifest(self.tree, published))
            .map_err(|e| fatal("publish", published, &e))
    }

    fn set_top_meta(&self) -> Result<(), Failure> {
        let first = self.manifest()?.read();
        let first = first.map_err(|e| fatal("read", &self.layout.manifest, &e))?;
        match first.map(|listed| listed.entry) {
            Some(top) if top.path.is_root() && top.kind == EntryKind::Dir => self
                .tree
                .set_meta(self.target, top.mode, top.mtime)
                .and_then(|()| self.tree.sync_dir(self.target))
                .map_err(|e| fatal("set the times of", self.target, &e)),
            _ => Ok(()),
        }
    }

    /// Replaces object by object. Done over, it does only what is left.
    fn merge(&self, moved: &mut Moved<'_>) -> Result<(), Failure> {
        self.walk(
            |listed| {
                let entry = &listed.entry;
                let from = below(&self.layout.tree, &entry.path)?;
                let to = below(self.target, &entry.path)?;
                let done = match &entry.kind {
                    EntryKind::Dir => make_dir(self.tree, &to)
                        .and_then(|()| self.open_staged(&from))
                        .map(|()| false),
                    _ => self.move_object(&from, &to),
                };
                if done.map_err(|e| fatal("publish", &to, &e))? {
                    moved.add(listed);
                }
                Ok(())
            },
            |dir| {
                let path = below(self.target, &dir.path)?;
                let set = self.tree.set_meta(&path, dir.mode, dir.mtime);
                set.map_err(|e| fatal("set the times of", &path, &e))
            },
        )
    }

    fn open_staged(&self, dir: &RelPath) -> io::Result<()> {
        match self.tree.meta(dir) {
            Ok(meta) if meta.kind == Kind::Dir => open_up(self.tree, dir, &meta),
            _ => Ok(()),
        }
    }

    /// Whether there was something left to move.
    fn move_object(&self, from: &RelPath, to: &RelPath) -> io::Result<bool> {
        if !present(self.tree, from)? {
            // Moved before, or published earlier and unchanged.
            return Ok(false);
        }
        if self.tree.meta(to).is_ok_and(|meta| meta.kind == Kind::Dir) {
            self.tree.rmdir(to)?;
        }
        self.tree.rename(from, to, true).map(|()| true)
    }
}

/// Makes the directories down to `path` that are missing, for everyone to look into.
fn make_parents(tree: &dyn Tree, path: &RelPath) -> io::Result<()> {
    if present(tree, path)? {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_parents(tree, &parent)?;
    }
    tree.mkdir(path)?;
    let mtime = tree.meta(path)?.mtime;
    tree.set_meta(path, 0o755, mtime)
}

/// Lets the owner work in a directory; its own mode is set when it is left.
pub(super) fn open_up(tree: &dyn Tree, path: &RelPath, meta: &Meta) -> io::Result<()> {
    if meta.mode & 0o700 == 0o700 {
        return Ok(());
    }
    tree.set_meta(path, meta.mode | 0o700, meta.mtime)
}

/// Makes a directory; a file or link in its place goes.
fn make_dir(tree: &dyn Tree, path: &RelPath) -> io::Result<()> {
    match tree.meta(path) {
        Ok(meta) if meta.kind == Kind::Dir => return open_up(tree, path, &meta),
        Ok(_) => tree.unlink(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    storage::mkdir_all(tree, path)
}

fn make_link(tree: &dyn Tree, text: &[u8], path: &RelPath) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        storage::mkdir_all(tree, &parent)?;
    }
    storage::remove_all(tree, path)?;
    tree.symlink(text, path)
}

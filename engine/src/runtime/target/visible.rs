//! Making a staged snapshot visible: by one rename, or object by object.

use std::io;

use super::commit::{IndexList, index_chunks};
use super::nested::Outdated;
use super::publish::{keep_manifest, present};
use super::replaced::Replaced;
use super::{Layout, below, sync_ancestors};
use crate::base::{Digest, RelPath};
use crate::index::{BaseId, FileChunks, Index};
use crate::manifest::{Entry, EntryKind};
use crate::protocol::Failure;
use crate::runtime::fatal;
use crate::runtime::manifest_file::{DirStack, Listed, ManifestEnd, ManifestReader};
use crate::storage::{self, Kind, Meta, Tree};

/// The objects of a staging area on their way to a base that was there before. The index is a
/// cache, so failures only cost finding less.
pub(super) struct Moved<'a> {
    index: &'a Index,
    to: Option<BaseId>,
    files: Vec<(RelPath, IndexList)>,
    chunks: usize,
}

impl<'a> Moved<'a> {
    /// Chunks that go to the index at a time.
    const CHUNKS: usize = 8192;

    pub(super) fn to(index: &'a Index, target: &RelPath) -> Self {
        Self { index, to: index.add_base(target).ok(), files: Vec::new(), chunks: 0 }
    }

    pub(super) fn add(&mut self, listed: &Listed) {
        if !listed.chunks.is_empty() {
            self.chunks += listed.chunks.len();
            self.files.push((listed.entry.path.clone(), index_chunks(&listed.chunks)));
        }
        if self.chunks >= Self::CHUNKS {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        let files = std::mem::take(&mut self.files);
        let files: Vec<FileChunks<'_>> =
            files.iter().map(|(path, chunks)| FileChunks { path: path.clone(), chunks }).collect();
        self.chunks = 0;
        let Some(to) = self.to else { return };
        let _ = self.index.insert(to, &files);
    }
}

pub(super) struct Publish<'a> {
    pub(super) tree: &'a dyn Tree,
    pub(super) layout: &'a Layout,
    pub(super) target: &'a RelPath,
}

impl Publish<'_> {
    pub(super) fn manifest(&self) -> Result<ManifestReader, Failure> {
        let path = &self.layout.manifest;
        let reader = ManifestReader::open(self.tree, path).map_err(|e| fatal("read", path, &e))?;
        reader.ok_or_else(|| Failure::new("manifest", "the staged manifest is gone"))
    }

    /// Whether the staged manifest is whole, and the one of this snapshot.
    pub(super) fn manifest_is(&self, root: Digest, entries: u64) -> Result<bool, Failure> {
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
    pub(super) fn walk(
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

    /// Makes directories and links in the staging area, and removes `leftovers` of objects that are
    /// not in the snapshot.
    ///
    /// Modes and times of directories are set here if the snapshot appears as a `whole`: but for
    /// the top, which could not be renamed once it is read-only.
    pub(super) fn complete_staging(&self, leftovers: bool, whole: bool) -> Result<(), Failure> {
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

    /// Renames the staged snapshot, or its objects, to where they are seen. What fails is done later, `again`.
    pub(super) fn make_visible(&self, index: &Index, again: bool) -> Result<(), Failure> {
        self.show(index, again).map_err(|Failure { code, detail }| {
            let rest =
                "some of it may be seen already, the rest follows with the next transfer there";
            Failure::new(&code, format!("{detail} (while {} was published: {rest})", self.target))
        })
    }

    fn show(&self, index: &Index, again: bool) -> Result<(), Failure> {
        let renaming = |e| fatal("publish", self.target, &e);
        let mut replaced = Replaced::default();
        let mut outdated = Outdated::by(self)?;
        if again || !present(self.tree, self.target).map_err(renaming)? {
            outdated.all()?;
        }
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
                self.merge(&mut moved, &mut replaced, &mut outdated)?;
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
    fn merge(
        &self,
        moved: &mut Moved<'_>,
        replaced: &mut Replaced,
        outdated: &mut Outdated<'_>,
    ) -> Result<(), Failure> {
        self.walk(
            |listed| {
                let entry = &listed.entry;
                let from = below(&self.layout.tree, &entry.path)?;
                let to = below(self.target, &entry.path)?;
                if !outdated.is_none() && self.differs(&entry.kind, &from, &to) {
                    outdated.replaced(&to)?;
                }
                let done = match &entry.kind {
                    EntryKind::Dir => make_dir(self.tree, &to)
                        .and_then(|()| self.open_staged(&from))
                        .map(|()| false),
                    _ => self.move_object(&from, &to, replaced),
                };
                if done.map_err(|e| fatal("publish", &to, &e))? {
                    moved.add(listed);
                }
                Ok(())
            },
            |dir| {
                let path = below(self.target, &dir.path)?;
                let set = self.tree.set_meta(&path, dir.mode, dir.mtime);
                let set = unless_foreign(self.tree, &path, set);
                set.map_err(|e| fatal("set the times of", &path, &e))
            },
        )
    }

    /// Whether something else will be at `to` than is there now.
    fn differs(&self, kind: &EntryKind, from: &RelPath, to: &RelPath) -> bool {
        match kind {
            EntryKind::File { .. } => !matches!(present(self.tree, from), Ok(false)),
            EntryKind::Dir => !self.tree.meta(to).is_ok_and(|meta| meta.kind == Kind::Dir),
            EntryKind::Symlink(text) => !self.tree.read_link(to).is_ok_and(|now| now == *text),
        }
    }

    fn open_staged(&self, dir: &RelPath) -> io::Result<()> {
        match self.tree.meta(dir) {
            Ok(meta) if meta.kind == Kind::Dir => open_up(self.tree, dir, &meta),
            _ => Ok(()),
        }
    }

    /// Whether there was something left to move.
    fn move_object(
        &self,
        from: &RelPath,
        to: &RelPath,
        replaced: &mut Replaced,
    ) -> io::Result<bool> {
        if !present(self.tree, from)? {
            // Moved before, or published earlier and unchanged.
            return Ok(false);
        }
        match self.tree.meta(to) {
            Ok(meta) if meta.kind == Kind::Dir => self.tree.rmdir(to)?,
            Ok(meta) => replaced.hold(self.tree, to, &meta),
            Err(_) => {}
        }
        self.tree.rename(from, to, true).map(|()| true)
    }
}

/// Makes the directories down to `path` that are missing, for everyone to look into. Others may do the
/// same at the same time.
pub(super) fn make_parents(tree: &dyn Tree, path: &RelPath) -> io::Result<()> {
    if present(tree, path)? {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_parents(tree, &parent)?;
    }
    match tree.mkdir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
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

/// Passes over that mode or times of a directory cannot be set because it is somebody else's.
fn unless_foreign(tree: &dyn Tree, path: &RelPath, set: io::Result<()>) -> io::Result<()> {
    match set {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !tree.owns(path)? => {
            tracing::warn!(%path, %error, "mode and times of a directory of another user stay");
            Ok(())
        }
        set => set,
    }
}

/// Makes a directory; a file or link in its place goes.
fn make_dir(tree: &dyn Tree, path: &RelPath) -> io::Result<()> {
    match tree.meta(path) {
        Ok(meta) if meta.kind == Kind::Dir => {
            return unless_foreign(tree, path, open_up(tree, path, &meta));
        }
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

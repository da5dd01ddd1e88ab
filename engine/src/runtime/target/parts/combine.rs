//! The manifest of a snapshot, put together from those of its parts.

use std::io;

use super::Part;
use crate::base::{Class, Digest, FileTime, RelPath};
use crate::manifest::{ChunkRef, Entry, EntryKind, Object, RootHasher};
use crate::protocol::Failure;
use crate::runtime::fatal;
use crate::runtime::manifest_file::{ManifestReader, ManifestWriter};
use crate::runtime::target::Layout;
use crate::storage::Tree;

impl Part {
    /// Writes the manifest of all parts together; its root and entries.
    pub(super) fn combine(
        &self,
        tree: &dyn Tree,
        layout: &Layout,
        names: &[Vec<u8>],
        source: &str,
    ) -> Result<(Digest, u64), Failure> {
        let write = || {
            let mut all = Combined::begin(tree, layout, &self.whole, source)?;
            if let Some(class) = self.class(tree, &layout.tree, names)? {
                all.out.class(class);
            }
            all.dir(RelPath::root(), tree.meta(&layout.tree)?.mtime)?;
            for name in names {
                let held = layout.tree.join(name).map_err(io::Error::other)?;
                all.add(tree, name, &held)?;
            }
            let (root, entries) = (all.root.finish(), all.root.entries());
            all.out.finish(root, entries)?;
            Ok((root, entries))
        };
        write().map_err(|e: io::Error| fatal("write", &layout.manifest, &e))
    }

    /// The highest class of all parts, if it is not just the default one.
    fn class(
        &self,
        tree: &dyn Tree,
        top: &RelPath,
        names: &[Vec<u8>],
    ) -> io::Result<Option<Class>> {
        let mut classes = Vec::new();
        for name in names {
            let held = top.join(name).map_err(io::Error::other)?;
            let head = ManifestReader::open(tree, &Layout::of(&held).published)?;
            classes.push(head.and_then(|head| head.class().cloned()));
        }
        let Some(border) = &self.around.border else {
            return Ok(classes.into_iter().flatten().next());
        };
        if classes.iter().all(Option::is_none) {
            return Ok(None);
        }
        let named =
            classes.into_iter().map(|class| class.unwrap_or_else(|| border.default_class()));
        Ok(named.reduce(|one, other| border.join(&one, &other)))
    }
}

/// A manifest of several.
struct Combined {
    out: ManifestWriter,
    root: RootHasher,
}

impl Combined {
    fn begin(tree: &dyn Tree, layout: &Layout, whole: &RelPath, source: &str) -> io::Result<Self> {
        let out = ManifestWriter::create(tree, &layout.manifest, source, whole)?;
        Ok(Self { out, root: RootHasher::default() })
    }

    fn push(
        &mut self,
        entry: &Entry,
        object: Option<Object>,
        chunks: &[ChunkRef],
    ) -> io::Result<()> {
        self.root.push(entry, object.map(|object| object.digest));
        self.out.push(entry, object, chunks)
    }

    fn dir(&mut self, path: RelPath, mtime: FileTime) -> io::Result<()> {
        self.push(&Entry { path, kind: EntryKind::Dir, mode: 0o755, mtime }, None, &[])
    }

    /// Adds the part that is held at `held`, under its name.
    fn add(&mut self, tree: &dyn Tree, name: &[u8], held: &RelPath) -> io::Result<()> {
        let reader = ManifestReader::open(tree, &Layout::of(held).published)?;
        let mut reader = reader.ok_or(io::ErrorKind::NotFound)?;
        let top = RelPath::from_bytes(name).map_err(io::Error::other)?;
        let mut first = true;
        while let Some(listed) = reader.read()? {
            // Several sources have no common top.
            if std::mem::take(&mut first) && !listed.entry.path.is_root() {
                self.dir(top.clone(), tree.meta(held)?.mtime)?;
            }
            let path = top.join_path(&listed.entry.path).map_err(io::Error::other)?;
            self.push(&Entry { path, ..listed.entry }, listed.object, &listed.chunks)?;
        }
        Ok(())
    }
}

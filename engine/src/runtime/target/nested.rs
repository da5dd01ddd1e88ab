//! Manifests of what was published below a target path. The nearest manifest at or above a path is the one
//! that describes it, so one that a snapshot makes untrue goes before the first name changes.

use std::collections::HashSet;
use std::io;

use super::parts::names_in;
use super::visible::Publish;
use super::{key_of, manifests_path};
use crate::base::{Class, Digest, RelPath};
use crate::manifest::RootHasher;
use crate::protocol::Failure;
use crate::runtime::fatal;
use crate::runtime::manifest_file::{ManifestReader, ManifestWriter, read_head};
use crate::storage::Tree;

/// The manifests that may lie below a target path.
pub struct Nested {
    /// All manifests but the path's own, by their keys.
    keys: HashSet<Vec<u8>>,
}

impl Nested {
    /// Lists what manifests there are.
    pub fn below(tree: &dyn Tree, target: &RelPath) -> io::Result<Self> {
        let mut keys: HashSet<Vec<u8>> = names_in(tree, &manifests_path())?.into_iter().collect();
        keys.remove(key_of(target).as_bytes());
        Ok(Self { keys })
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The manifest of the path itself, if it has one that describes anything.
    pub fn at(&self, tree: &dyn Tree, path: &RelPath) -> io::Result<Option<ManifestReader>> {
        if self.is_empty() || !self.keys.contains(key_of(path).as_bytes()) {
            return Ok(None);
        }
        describing(tree, path)
    }
}

/// The manifest of the path itself, unless it only keeps a class.
pub fn describing(tree: &dyn Tree, path: &RelPath) -> io::Result<Option<ManifestReader>> {
    let published = super::Layout::of(path).published;
    let Some(mut reader) = ManifestReader::open(tree, &published)? else { return Ok(None) };
    // One that describes something has an entry at least.
    if matches!(reader.read(), Ok(None)) {
        return Ok(None);
    }
    ManifestReader::open(tree, &published)
}

/// Takes manifests away that a snapshot makes untrue.
pub(super) struct Outdated<'a> {
    publish: &'a Publish<'a>,
    class: Option<Class>,
    nested: Nested,
    /// The directory that was looked at last, with all above it.
    seen: Option<RelPath>,
}

impl<'a> Outdated<'a> {
    pub(super) fn by(publish: &'a Publish<'a>) -> Result<Self, Failure> {
        let (tree, target) = (publish.tree, publish.target);
        let failed = |e| fatal("read", &manifests_path(), &e);
        let nested = Nested::below(tree, target).map_err(failed)?;
        let head = read_head(tree, &publish.layout.manifest).map_err(failed)?;
        Ok(Self { publish, class: head.and_then(|head| head.class), nested, seen: None })
    }

    pub(super) fn is_none(&self) -> bool {
        self.nested.is_empty()
    }

    /// Everything that the snapshot has is replaced, or may have been.
    pub(super) fn all(&mut self) -> Result<(), Failure> {
        if self.is_none() {
            return Ok(());
        }
        let publish = self.publish;
        publish.walk(
            |listed| self.replaced(&super::below(publish.target, &listed.entry.path)?),
            |_| Ok(()),
        )
    }

    /// What is at `to` is about to be replaced: manifests of it, and of directories between it and the
    /// target path, are true no more.
    pub(super) fn replaced(&mut self, to: &RelPath) -> Result<(), Failure> {
        if self.is_none() || to == self.publish.target {
            return Ok(());
        }
        self.forget(to)?;
        let dir = to.parent();
        if self.seen == dir {
            return Ok(());
        }
        let mut above = dir.clone();
        while let Some(path) = above.filter(|path| path != self.publish.target) {
            self.forget(&path)?;
            above = path.parent();
        }
        self.seen = dir;
        Ok(())
    }

    fn forget(&mut self, path: &RelPath) -> Result<(), Failure> {
        let key = key_of(path);
        if !self.nested.keys.remove(key.as_bytes()) {
            return Ok(());
        }
        let published = super::Layout::of(path).published;
        self.take_away(path, &published).map_err(|e| fatal("replace", &published, &e))
    }

    /// Removes a manifest. One of another class than the snapshot's goes on to say it, and no more: files
    /// that are not in the snapshot may count on it.
    fn take_away(&self, path: &RelPath, published: &RelPath) -> io::Result<()> {
        let tree = self.publish.tree;
        let head = match read_head(tree, published) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            head => head?,
        };
        let kept = head.filter(|head| head.class.is_some() && head.class != self.class);
        let Some((head, class)) = kept.and_then(|head| Some((head.clone(), head.class?))) else {
            return tree.unlink(published);
        };
        let staged = self.publish.layout.staging.join(b"class").map_err(io::Error::other)?;
        let mut writer = ManifestWriter::create(tree, &staged, &head.source, path)?;
        writer.class(class);
        writer.finish(nothing(), 0)?;
        tree.rename(&staged, published, true)
    }
}

/// The root digest of no entries.
fn nothing() -> Digest {
    RootHasher::default().finish()
}

//! What is known of an announced file before a byte of it moves.

use std::io;

use super::{Origin, StoreOptions, TargetStore, below, same_inode};
use crate::base::{Class, FileTime, RelPath, Seq};
use crate::manifest::{Entry, EntryKind};
use crate::protocol::Checked;
use crate::runtime::manifest_file::{Listed, ManifestReader};
use crate::storage::{self, Kind, Tree};

use super::staged::Staged;

/// The manifest of what is published at the target path, read along with the announced entries:
/// both are in canonical order, so one pass and no memory is enough.
pub(super) struct OldManifest {
    reader: ManifestReader,
    next: Option<Listed>,
    /// When the manifest became visible: a file that changed later is not what it says.
    since: FileTime,
    /// Stamps mean something only from the node that made them.
    same_source: bool,
    pub(super) entries: u64,
}

impl OldManifest {
    /// Opens it; a missing or damaged manifest only means that nothing is known.
    pub(super) fn open(tree: &dyn Tree, path: &RelPath, options: &StoreOptions) -> Option<Self> {
        let mut reader = ManifestReader::open(tree, path).ok()??;
        let since = reader.file().meta().ok()?.ctime;
        let same_source = reader.source() == options.source;
        let next = reader.read().ok()?;
        Some(Self { reader, next, since, same_source, entries: 0 })
    }

    fn at(&mut self, path: &RelPath) -> io::Result<Option<Listed>> {
        while let Some(listed) = self.next.take_if(|l| l.entry.path <= *path) {
            self.next = self.reader.read()?;
            self.entries += 1;
            if listed.entry.path == *path {
                return Ok(Some(listed));
            }
        }
        Ok(None)
    }

    /// Whether it says that the snapshot is of this class.
    pub(super) fn is_of(&self, class: &Class) -> bool {
        self.reader.class() == Some(class)
    }

    /// Whether everything in it was passed over.
    pub(super) fn at_end(&self) -> bool {
        self.next.is_none()
    }
}

impl TargetStore {
    /// Answers for the files among `entries`, the first of which has the number `first`.
    pub fn check(&self, first: Seq, entries: &[Entry]) -> Vec<(Seq, Checked)> {
        let mut answers = Vec::with_capacity(entries.len());
        for (seq, entry) in (first..).zip(entries) {
            let old = self.old_entry(&entry.path);
            if !entry.is_file() {
                let known = old.is_some_and(|old| old.entry == *entry);
                if !known || !self.is_there(entry) {
                    self.inner().changed = true;
                }
                continue;
            }
            let checked = self
                .resumed(seq, entry)
                .or_else(|| self.published(seq, entry, old))
                .unwrap_or(Checked::Need);
            if !matches!(checked, Checked::Published(_)) {
                self.inner().changed = true;
            }
            if checked == Checked::Need {
                let mut inner = self.inner();
                let partial = inner.replay.take_partial(&entry.path, entry.stamp());
                let chunks = partial.map(|p| p.chunks).unwrap_or_default();
                inner.staged.insert(seq, Staged::new(0, entry.clone(), chunks));
            }
            answers.push((seq, checked));
        }
        answers
    }

    /// Whether a directory or link is at the target just as announced.
    fn is_there(&self, entry: &Entry) -> bool {
        let Ok(path) = below(&self.target, &entry.path) else { return false };
        let Ok(meta) = self.tree.meta(&path) else { return false };
        let same = match &entry.kind {
            EntryKind::Dir => meta.kind == Kind::Dir && meta.mode & 0o777 == entry.mode,
            EntryKind::Symlink(text) => {
                meta.kind == Kind::Symlink
                    && self.tree.read_link(&path).is_ok_and(|there| there == *text)
            }
            EntryKind::File { .. } => false,
        };
        same && meta.mtime == entry.mtime
    }

    fn old_entry(&self, path: &RelPath) -> Option<Listed> {
        let mut inner = self.inner();
        match inner.old.as_mut()?.at(path) {
            Ok(listed) => listed,
            Err(_) => {
                inner.old = None;
                None
            }
        }
    }

    /// An earlier run has finished it, and its staged file was not touched since.
    fn resumed(&self, seq: Seq, entry: &Entry) -> Option<Checked> {
        if self.options.checksum {
            return None;
        }
        let position = self.inner().replay.done_at(&entry.path)?;
        let done = self.ledger().journal.as_ref()?.done(position).ok()?;
        let path = self.staged_path(&entry.path).ok()?;
        if done.entry != *entry || !same_inode(&*self.tree, &path, &done.inode) {
            return None;
        }
        self.inner().origins.insert(seq, Origin::Journal(position));
        Some(Checked::Resumed(done.object))
    }

    /// It is published, from the same unchanged source file, and was not touched here since.
    fn published(&self, seq: Seq, entry: &Entry, old: Option<Listed>) -> Option<Checked> {
        let old = old?;
        let (same_source, since) = {
            let inner = self.inner();
            let manifest = inner.old.as_ref()?;
            (manifest.same_source, manifest.since)
        };
        if self.options.checksum || !same_source || old.entry != *entry {
            return None;
        }
        let object = old.object?;
        let meta = self.tree.meta(&below(&self.target, &entry.path).ok()?).ok()?;
        let untouched = meta.kind == Kind::File
            && meta.len == entry.len()
            && meta.mtime == entry.mtime
            && meta.mode & 0o777 == entry.mode
            && meta.ctime <= since;
        if !untouched {
            return None;
        }
        if self.resumed && !self.options.plan {
            // An earlier run may have begun another version, from another source for example.
            storage::remove_all(&*self.tree, &self.staged_path(&entry.path).ok()?).ok()?;
        }
        self.inner().origins.insert(seq, Origin::Old(old.chunks));
        Some(Checked::Published(object))
    }
}

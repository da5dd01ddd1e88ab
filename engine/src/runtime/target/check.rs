//! What is known of an announced file before a byte of it moves.

use std::io;

use bytes::Bytes;

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
    next: Option<Old>,
    /// When the manifest became visible: a file that changed later is not what it says.
    since: FileTime,
    /// Stamps mean something only from the node that made them.
    same_source: bool,
    pub(super) entries: u64,
}

/// What it says of an entry.
pub(super) struct Old {
    listed: Listed,
    /// The records that say so.
    records: Option<Bytes>,
    /// When that became visible, if stamps mean something.
    since: Option<FileTime>,
}

impl OldManifest {
    /// Opens it; a missing or damaged manifest only means that nothing is known.
    pub(super) fn open(tree: &dyn Tree, path: &RelPath, options: &StoreOptions) -> Option<Self> {
        let reader = ManifestReader::open(tree, path).ok()??;
        let since = reader.file().meta().ok()?.ctime;
        let same_source = reader.source() == options.source;
        let mut old = Self { reader, next: None, since, same_source, entries: 0 };
        old.next = old.read().ok()?;
        Some(old)
    }

    fn read(&mut self) -> io::Result<Option<Old>> {
        let Some(listed) = self.reader.read()? else { return Ok(None) };
        let since = self.same_source.then_some(self.since);
        Ok(Some(Old { listed, records: self.reader.records(), since }))
    }

    fn at(&mut self, path: &RelPath) -> io::Result<Option<Old>> {
        while let Some(old) = self.next.take_if(|old| old.listed.entry.path <= *path) {
            self.next = self.read()?;
            self.entries += 1;
            if old.listed.entry.path == *path {
                return Ok(Some(old));
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
        let mut origins = Vec::with_capacity(entries.len());
        for (seq, entry) in (first..).zip(entries) {
            let old = self.old_entry(&entry.path);
            if !entry.is_file() {
                let known = old.is_some_and(|old| old.listed.entry == *entry);
                if !known || !self.is_there(entry) {
                    self.inner().changed = true;
                }
                continue;
            }
            let known = self.resumed(entry).or_else(|| self.published(entry, old));
            let (checked, origin) = known.unzip();
            let checked = checked.unwrap_or(Checked::Need);
            origins.extend(origin.map(|origin| (seq, origin)));
            if !matches!(checked, Checked::Published(_)) {
                self.inner().changed = true;
            }
            if checked == Checked::Need {
                let mut inner = self.inner();
                let partial = inner.replay.take_partial(&entry.path, entry.stamp());
                let chunks = partial.map(|p| p.chunks).unwrap_or_default();
                inner.staged.insert(seq, Box::new(Staged::new(0, entry.clone(), chunks)));
            }
            answers.push((seq, checked));
        }
        self.inner().origins.extend(origins);
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

    fn old_entry(&self, path: &RelPath) -> Option<Old> {
        let mut inner = self.inner();
        match inner.old.as_mut()?.at(path) {
            Ok(old) => old,
            Err(_) => {
                inner.old = None;
                None
            }
        }
    }

    /// An earlier run has finished it, and its staged file was not touched since.
    fn resumed(&self, entry: &Entry) -> Option<(Checked, Origin)> {
        if self.options.checksum || !self.resumed {
            return None;
        }
        let position = self.inner().replay.done_at(&entry.path)?;
        let done = self.ledger().journal.as_ref()?.done(position).ok()?;
        let path = self.staged_path(&entry.path).ok()?;
        if done.entry != *entry || !same_inode(&*self.tree, &path, &done.inode) {
            return None;
        }
        Some((Checked::Resumed(done.object), Origin::Journal(position)))
    }

    /// It is published, from the same unchanged source file, and was not touched here since.
    fn published(&self, entry: &Entry, old: Option<Old>) -> Option<(Checked, Origin)> {
        let Old { listed: old, records, since } = old?;
        let since = since?;
        if self.options.checksum || old.entry != *entry {
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
        let origin = records.map_or(Origin::Old(old.chunks), Origin::Records);
        Some((Checked::Published(object), origin))
    }
}

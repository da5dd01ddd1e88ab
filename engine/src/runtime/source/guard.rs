//! What the border is asked before anything of a source is told or sent.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::SourceFiles;
use crate::base::RelPath;
use crate::border::{Label, Way};
use crate::manifest::{Entry, EntryKind};
use crate::protocol::Failure;
use crate::runtime::labels::labels_down_to;
use crate::runtime::{denial, fatal};
use crate::storage::{File, Tree};

impl SourceFiles {
    /// Tells `way` of the label of each file that is read, and of all of them whenever labels are
    /// changed; once.
    pub fn guard(self: &Arc<Self>, way: &Arc<Way>) {
        let (files, deep) = (Arc::downgrade(self), way.crosses());
        way.watch(move || files.upgrade().map_or(Ok(BTreeSet::new()), |it| it.labels(deep)));
        let _ = self.way.set(Arc::clone(way));
    }

    /// Whether a directory may be told of, and what is below it: one that was moved here after the labels
    /// were read has another class. Files are looked at when they are opened.
    pub(super) fn may_be_told(&self, entry: &Entry) -> Result<(), Failure> {
        let Some(way) = self.way.get().filter(|way| way.crosses()) else { return Ok(()) };
        let place = self.locate(&entry.path).filter(|_| entry.kind == EntryKind::Dir);
        let Some((tree, path)) = place else { return Ok(()) };
        match tree.label(&path).and_then(|label| self.counts(way, &entry.path, label)) {
            Ok(None) => Ok(()),
            Ok(Some(label)) => way.found(label).map_err(|denied| denial(&denied)),
            // It is gone, and so is what was below it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(fatal("look at", &path, &error)),
        }
    }

    /// Opens the file of an entry, `path` in `tree`, if it may be read for this transfer.
    pub(super) fn open_to_send(
        &self,
        entry: &RelPath,
        (tree, path): (&dyn Tree, &RelPath),
    ) -> io::Result<Result<Arc<dyn File>, Failure>> {
        let file = tree.open(path)?;
        Ok(self.may_be_sent(entry, &*file)?.map(|()| file))
    }

    /// Whether more may be told of what is here: names, lengths and digests leave before content does,
    /// and where the peer has all of it, no content does. Asked for each lot of entries and each run.
    pub(super) fn may_go_on(&self) -> Result<(), Failure> {
        match self.way.get() {
            Some(way) if way.crosses() => way.check().map_err(|denied| denial(&denied)),
            _ => Ok(()),
        }
    }

    /// Whether the file of an entry may be sent, by its label as it is now.
    pub(super) fn may_be_sent(
        &self,
        entry: &RelPath,
        file: &dyn File,
    ) -> io::Result<Result<(), Failure>> {
        let Some(way) = self.way.get() else { return Ok(Ok(())) };
        Ok(match self.counts(way, entry, file.label()?)? {
            None => Ok(()),
            Some(label) => way.found(label).map_err(|denied| denial(&denied)),
        })
    }

    /// Whether what was read of these entries may be sent, by the labels of the directories that they are in
    /// now. It is asked after they were opened: what was moved there meanwhile shows.
    pub(super) fn may_leave<'a>(
        &self,
        entries: impl Iterator<Item = &'a RelPath>,
    ) -> Result<(), Failure> {
        let Some(way) = self.way.get() else { return Ok(()) };
        let (mut looked, mut labels) = (BTreeSet::new(), BTreeSet::new());
        for entry in entries {
            let Some((root, path)) = self.root_of(entry) else { continue };
            let Some(dir) = path.parent().filter(|dir| looked.insert(dir.clone())) else {
                continue;
            };
            let failed = |error| fatal("look at", &dir, &error);
            labels_down_to(&*root.tree, &dir, &mut labels).map_err(failed)?;
            let above = root.around.above.labels().map_err(failed)?;
            labels.extend(above.into_iter().map(Some));
        }
        labels.into_iter().try_for_each(|label| way.found(label)).map_err(|denied| denial(&denied))
    }

    /// Whether what has this label, if any, may be told of as much as what is sent.
    pub(super) fn is_covered(&self, label: Label) -> bool {
        let (Some(way), true) = (self.way.get(), label.is_some()) else { return true };
        let (border, class) = (way.border(), way.class());
        border.class([label]).is_ok_and(|its| border.join(&its, &class) == class)
    }

    /// The label that counts for an entry that has `label` itself; `None` if that of a directory above
    /// it does. What came where no label is after the labels were read has the default class.
    fn counts(
        &self,
        way: &Way,
        entry: &RelPath,
        label: Option<Vec<u8>>,
    ) -> io::Result<Option<Label>> {
        if label.is_some() {
            return Ok(Some(label));
        }
        if !way.is_below_default() {
            return Ok(None);
        }
        let Some((root, path)) = self.root_of(entry) else { return Ok(Some(None)) };
        let covered = !root.around.above.labels()?.is_empty()
            || labels_down_to(&*root.tree, &path, &mut BTreeSet::new())?;
        Ok((!covered).then_some(None))
    }
}

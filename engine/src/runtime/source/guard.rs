//! What the border is asked before anything of a source is told or sent.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::SourceFiles;
use crate::base::RelPath;
use crate::border::Way;
use crate::manifest::{Entry, EntryKind};
use crate::protocol::Failure;
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
        match tree.label(&path) {
            Ok(None) => Ok(()),
            Ok(label) => way.found(label).map_err(|denied| denial(&denied)),
            // It is gone, and so is what was below it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(fatal("look at", &path, &error)),
        }
    }

    /// Opens a file that may be read for this transfer.
    pub(super) fn open_to_send(
        &self,
        tree: &dyn Tree,
        path: &RelPath,
    ) -> io::Result<Result<Arc<dyn File>, Failure>> {
        let file = tree.open(path)?;
        Ok(self.may_be_sent(&*file)?.map(|()| file))
    }

    /// Whether more may be told of what is here: names, lengths and digests leave before content does,
    /// and where the peer has all of it, no content does. Asked for each lot of entries and each run.
    pub(super) fn may_go_on(&self) -> Result<(), Failure> {
        match self.way.get() {
            Some(way) if way.crosses() => way.check().map_err(|denied| denial(&denied)),
            _ => Ok(()),
        }
    }

    /// Whether a file may be sent, by its label as it is now.
    pub(super) fn may_be_sent(&self, file: &dyn File) -> io::Result<Result<(), Failure>> {
        let Some(way) = self.way.get() else { return Ok(Ok(())) };
        Ok(match file.label()? {
            None => Ok(()),
            label => way.found(label).map_err(|denied| denial(&denied)),
        })
    }
}

//! Labels of what is received: the class stays with the files.

use std::io;

use super::{Layout, TargetStore};
use crate::base::{Class, RelPath};
use crate::protocol::Failure;
use crate::runtime::fatal;
use crate::runtime::manifest_file::read_head;
use crate::storage::{File, Kind, Tree};

/// The label that everything of a transfer gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLabel {
    /// The name of the class.
    pub class: String,
    /// Without it the class would be taken for a lower one: where a label cannot be written, nothing
    /// is. A file system that keeps none is no such place: the manifest has the class.
    pub must: bool,
}

impl KeptLabel {
    fn result(&self, set: io::Result<()>) -> io::Result<()> {
        match set {
            Err(error) if self.must && !keeps_none(&error) => Err(io::Error::new(
                error.kind(),
                format!("no label can be kept there, and {} needs one: {error}", self.class),
            )),
            _ => Ok(()),
        }
    }
}

/// The class in the manifest of what is published at the path; one that is damaged says none.
pub fn noted_class(tree: &dyn Tree, path: &RelPath) -> Option<Class> {
    read_head(tree, &Layout::of(path).published).ok().flatten()?.class
}

/// Whether the file system has no attributes.
fn keeps_none(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::NOTSUP)
}

impl TargetStore {
    /// Everything that is written from now on gets this label, and the manifest the class; once.
    pub fn label(&self, label: KeptLabel) {
        let class = label.class.parse::<Class>().ok();
        if self.label.set(label).is_ok()
            && let Some(class) = class
        {
            let mut inner = self.inner();
            // A manifest of another class is another manifest, though nothing else changed.
            inner.changed |= inner.old.as_ref().is_some_and(|old| !old.is_of(&class));
            drop(inner);
            if let Some(manifest) = &mut self.ledger().manifest {
                manifest.class(class);
            }
        }
    }

    /// Labels a staged file, before its times are set.
    pub(super) fn label_file(&self, file: &dyn File) -> io::Result<()> {
        let Some(label) = self.label.get() else { return Ok(()) };
        label.result(file.set_label(label.class.as_bytes()))
    }

    /// Labels the top of the snapshot, if it is a directory: where it is staged, or where it is.
    pub(super) fn label_top(&self, whole: bool) -> Result<(), Failure> {
        let Some(label) = self.label.get() else { return Ok(()) };
        let top = if whole { &self.layout.tree } else { &self.target };
        let set = self.tree.meta(top).and_then(|meta| match meta.kind {
            Kind::Dir => label.result(self.tree.set_label(top, label.class.as_bytes())),
            _ => Ok(()),
        });
        set.map_err(|e| fatal("label", &self.target, &e))
    }
}

//! Labels of what is received: the class stays with the files.

use std::io;

use super::TargetStore;
use crate::protocol::Failure;
use crate::runtime::fatal;
use crate::storage::{File, Kind};

/// The label that everything of a transfer gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLabel {
    /// The name of the class.
    pub class: String,
    /// Without it the class would be taken for a lower one: where no label can be kept, nothing is.
    pub must: bool,
}

impl KeptLabel {
    fn result(&self, set: io::Result<()>) -> io::Result<()> {
        match set {
            Err(error) if self.must => Err(io::Error::new(
                error.kind(),
                format!("no label can be kept there, and {} needs one: {error}", self.class),
            )),
            _ => Ok(()),
        }
    }
}

impl TargetStore {
    /// Everything that is written from now on gets this label; once.
    pub fn label(&self, label: KeptLabel) {
        let _ = self.label.set(label);
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

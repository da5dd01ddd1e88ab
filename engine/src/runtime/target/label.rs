//! Labels of what is received: the class stays with the files.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use super::{Layout, TargetStore};
use crate::base::{Class, RelPath};
use crate::border::{Denied, Label, Way};
use crate::protocol::Failure;
use crate::runtime::labels::{is_absent, labels_down_to};
use crate::runtime::manifest_file::read_head;
use crate::runtime::{OWN_DIR, fatal, noted};
use crate::storage::{File, Kind, Tree, Walk, WalkItem};

/// The label that everything of a transfer gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptLabel {
    /// The name of the class.
    class: String,
    /// Without it the class would be taken for a lower one: where no label can be kept, nothing is.
    must: bool,
    /// The manifest has the class, too, so that a file system that keeps no labels will do.
    noted: bool,
    /// Something may be staged that has another label: of an earlier session, or of before the class rose.
    anew: bool,
}

impl KeptLabel {
    fn result(&self, set: io::Result<()>) -> io::Result<()> {
        match set {
            Err(error) if self.must && !(self.noted && keeps_none(&error)) => Err(io::Error::new(
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
    /// Everything that is written from now on gets the class of what comes on `way`, or that of what is
    /// at the target path, if that is higher: the label at its top counts for all that is there, so it must
    /// not lower what has the default class by having none.
    ///
    /// # Errors
    /// What is there has a label that is no class, or none that can be read.
    pub fn keep_class(&self, way: &Way) -> Result<(), Denied> {
        let border = way.border();
        let there = self.labels_there();
        let (there, labelled) = there
            .map_err(|error| Denied::unread(&format!("the labels of {}", self.target), &error))?;
        let class = match there {
            Some(labels) => border.join(&way.class(), &border.class(labels)?),
            None => way.class(),
        };
        let default = border.default_class();
        if class != default || labelled {
            let must = border.join(&default, &class) != default;
            self.keep(&class, must);
        }
        self.classed.store(true, Relaxed);
        Ok(())
    }

    /// Everything that is written from now on gets the label of this class, and the manifest the class,
    /// if it has no entry yet.
    pub(super) fn keep(&self, class: &Class, must: bool) {
        let anew = self.resumed || self.classed.load(Relaxed);
        if self.label().is_some_and(|label| label.class == class.as_str()) {
            return;
        }
        let mut inner = self.inner();
        // A manifest of another class is another manifest, though nothing else changed.
        inner.changed |= inner.old.as_ref().is_some_and(|old| !old.is_of(class));
        drop(inner);
        let noted = self.ledger().manifest.as_mut().is_some_and(|it| it.class(class.clone()));
        let mut label = self.label.lock().unwrap_or_else(PoisonError::into_inner);
        *label = Some(KeptLabel { class: class.to_string(), must, noted, anew });
    }

    /// The labels that count for what is at the target path, if anything is there, or where a part of a
    /// snapshot will be, up to the root of the file system: whoever pushes from there reads as far up. And
    /// whether there are any.
    fn labels_there(&self) -> io::Result<(Option<BTreeSet<Label>>, bool)> {
        let above = self.options.above.labels()?;
        let (mut labels, mut labelled) = self.labels_at(&self.target, &above)?;
        if let Some(part) = &self.options.part {
            let (more, any) = self.labels_at(part.path(), &above)?;
            labelled |= any;
            labels = match (labels, more) {
                (Some(one), Some(other)) => Some(&one | &other),
                (one, other) => one.or(other),
            };
        }
        Ok((labels, labelled))
    }

    fn labels_at(
        &self,
        path: &RelPath,
        above: &[Vec<u8>],
    ) -> io::Result<(Option<BTreeSet<Label>>, bool)> {
        let empty = match self.tree.meta(path) {
            Err(error) if is_absent(&error) => true,
            Err(error) => return Err(error),
            Ok(meta) if meta.kind == Kind::Dir => {
                let own = |(name, _): &(Vec<u8>, _)| name == OWN_DIR;
                self.tree.list(path)?.iter().all(own)
            }
            Ok(_) => false,
        };
        let mut labels: BTreeSet<Label> = above.iter().cloned().map(Some).collect();
        let labelled = !labels.is_empty() | labels_down_to(&*self.tree, path, &mut labels)?;
        if !labelled && !empty {
            labels.insert(None);
        }
        let labelled = labelled | noted::down_to(&*self.tree, path, &mut labels)?;
        Ok(((labelled || !empty).then_some(labels), labelled))
    }

    /// The source tells that what it sends is of a higher class: that is decided here too, and kept.
    ///
    /// # Errors
    /// It may not come, or is no class here.
    pub fn take_class(&self, way: &Way, class: &Class) -> Result<(), Denied> {
        way.found(Some(class.as_str().as_bytes().to_vec()))?;
        self.keep_class(way)
    }

    fn label(&self) -> Option<KeptLabel> {
        self.label.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Labels a staged file, before its times are set.
    pub(super) fn label_file(&self, file: &dyn File) -> io::Result<()> {
        let Some(label) = self.label() else { return Ok(()) };
        label.result(file.set_label(label.class.as_bytes()))
    }

    /// Labels the top of the snapshot where it is staged, and where it is, if it is a directory that
    /// stays there; and all that is staged, if the class may be higher by now than when that was written.
    pub(super) fn label_staged(&self, whole: bool) -> Result<(), Failure> {
        let Some(label) = self.label() else { return Ok(()) };
        if label.anew {
            self.label_again(&label).map_err(|(path, e)| fatal("label", &path, &e))?;
        }
        let (staged, there) = (&self.layout.tree, &self.target);
        for top in [Some(staged), Some(there).filter(|_| !whole)].into_iter().flatten() {
            let set = match self.tree.meta(top).map(|meta| meta.kind) {
                Ok(Kind::Dir) => label.result(self.tree.set_label(top, label.class.as_bytes())),
                Ok(Kind::File) if top == staged => {
                    label.result(self.tree.set_label(top, label.class.as_bytes()))
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
            set.map_err(|e| fatal("label", &self.target, &e))?;
        }
        Ok(())
    }

    /// Labels everything that is staged.
    fn label_again(&self, label: &KeptLabel) -> Result<(), (RelPath, io::Error)> {
        let top = &self.layout.tree;
        let walk = match Walk::new(Arc::clone(&self.tree), top.clone(), BTreeSet::new()) {
            // A single file, or nothing: the top is labelled anyway.
            Err(error) if is_absent(&error) => return Ok(()),
            walk => walk.map_err(|error| (top.clone(), error))?,
        };
        for item in walk {
            let (path, set) = match item {
                WalkItem::Entry { path, meta, .. } if meta.kind != Kind::Symlink => {
                    let set = self.tree.set_label(&path, label.class.as_bytes());
                    (path, label.result(set))
                }
                WalkItem::Failed { path, error } => (path, Err(error)),
                _ => continue,
            };
            set.map_err(|error| (path, error))?;
        }
        Ok(())
    }
}

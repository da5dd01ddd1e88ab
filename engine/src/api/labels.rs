//! Labels of files and directories here: what class they have, and raising it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::engine::{Engine, canonical};
use super::sources::Sources;
use super::{Error, Exit, NodeAddress, Remote, crossing};
use crate::base::{Class, RelPath, TransferId};
use crate::border::Border;
use crate::runtime::labels::{Which, label_below};
use crate::storage::{OsTree, Tree};

impl Engine {
    /// The class of a file or directory of this machine: the highest of what is labelled above, at
    /// and below it, and the default for files without a label. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or has a label that is no class.
    pub fn class_of(&self, path: &Path) -> Result<Class, Error> {
        let node = NodeAddress::Address(([127, 0, 0, 1], 0).into());
        let remote = Remote { node, path: RelPath::root(), into: true };
        let sources = Sources::prepare(&[path.to_owned()], &remote, self.0.method(), false)?;
        let labels = sources.files.labels(true).map_err(|e| {
            let message = format!("the labels of {} cannot be read: {e}", path.display());
            Error::new("label", Exit::Failed, message)
        })?;
        self.border()?.class(labels).map_err(|denied| crossing::denial(&denied))
    }

    /// Raises the class of a file or directory of this machine and all below it; returns how many
    /// got the label. It is decided by the policy, and recorded. Blocks.
    ///
    /// # Errors
    /// The class would be lowered, the policy denies it, or a label cannot be written.
    pub fn raise_class(&self, path: &Path, class: &Class) -> Result<u64, Error> {
        let border = self.border()?;
        let _alone = border.turn_to_label().map_err(|error| {
            let message = format!("the turn to change labels cannot be had: {error}");
            Error::new("home", Exit::Failed, message).hint("the state directory must be writable")
        })?;
        let now = self.class_of(path)?;
        if border.join(&now, class) != *class {
            let message = format!("{} is {now}: {class} would lower its class", path.display());
            return Err(Error::new("lowers", Exit::Refused, message).hint(
                "a class is lowered by two identities: --lower proposes it; what crosses is also a \
                 matter of border.default_class and of the policy",
            ));
        }
        let path = canonical(path)?;
        let relabelled = border.relabel(TransferId(0), (&dataset(&path)?, &now), class, None);
        relabelled.map_err(|denied| crossing::denial(&denied))?;
        label_all(&border, &path, (class, Which::Lower))
    }
}

/// The name of a path of this machine as a dataset.
pub(super) fn dataset(path: &Path) -> Result<RelPath, Error> {
    let dataset = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes();
    RelPath::from_typed(dataset).map_err(|e| Error::new("usage", Exit::Usage, e.to_string()))
}

/// Gives the label to everything at and below a path that has none, or one that is lower or higher;
/// it is durable then. Transfers that run look again as soon as the path itself has it, and at the end.
pub(super) fn label_all(
    border: &Border,
    path: &Path,
    (class, which): (&Class, Which<'_>),
) -> Result<u64, Error> {
    let failed = |(path, error): (RelPath, std::io::Error)| {
        let message = format!("{path} cannot be labelled: {error}");
        Error::new("label", Exit::Failed, message)
            .hint("labels are extended attributes: the file system and its mount must take them")
    };
    let (top, inside) = if path.is_dir() {
        (path, RelPath::root())
    } else {
        let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
        let inside = RelPath::root().join(name).unwrap_or_default();
        (path.parent().unwrap_or(Path::new("/")), inside)
    };
    let tree = OsTree::open(top).map_err(|error| failed((inside.clone(), error)))?;
    let tree: Arc<dyn Tree> = Arc::new(tree);
    let mut told = Ok(());
    let labelled = label_below(border, (&tree, &inside), (class, which), || {
        told = border.note_relabelling();
    });
    // Also where some could not be labelled: others have a label that they had not.
    told.and(border.note_relabelling()).map_err(|error| {
        let message = format!("transfers that run were not told of the label: {error}");
        Error::new("home", Exit::Failed, message).hint("the state directory must be writable")
    })?;
    labelled.map_err(failed)
}

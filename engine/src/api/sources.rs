//! Where sources lie in a snapshot, and where a snapshot lands.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::engine::canonical;
use super::{Error, Exit, Remote};
use crate::base::RelPath;
use crate::runtime::source::{Above, Around, SourceFiles, SourceRoot};
use crate::storage::{Method, OsTree, Tree};

/// Sources that were looked up, and the path that they go to.
pub(super) struct Sources {
    pub(super) files: Arc<SourceFiles>,
    pub(super) target: RelPath,
    roots: Vec<SourceRoot>,
    whole: bool,
}

fn usage(message: impl Into<String>) -> Error {
    Error::new("usage", Exit::Usage, message)
}

fn unsafe_path(path: &Path, error: &crate::base::PathError) -> Error {
    usage(format!("{} cannot be used: {error}", path.display()))
}

impl Sources {
    /// The rules, which do not depend on what is there already, so that the same command always
    /// means the same:
    ///
    /// - one source to `NODE:PATH`: PATH becomes that file or directory,
    /// - one source to `NODE:PATH/`, or a file to `NODE:`: it lands in PATH under its own name,
    /// - several sources: each lands in PATH under its own name.
    ///
    /// With `whole` an entry that cannot be moved ends the transfer.
    pub(super) fn prepare(
        sources: &[PathBuf],
        remote: &Remote,
        method: Method,
        whole: bool,
    ) -> Result<Self, Error> {
        let mut roots: Vec<SourceRoot> = Vec::with_capacity(sources.len());
        let several = sources.len() > 1;
        let mut target = remote.path.clone();
        for typed in sources {
            let path = canonical(typed)?;
            let is_dir = path.is_dir();
            let name = typed.file_name().or(path.file_name());
            let name = name.map(OsStrExt::as_bytes).unwrap_or_default();
            let named = |base: &RelPath| base.join(name).map_err(|e| unsafe_path(typed, &e));
            let place = if several { named(&RelPath::root())? } else { RelPath::root() };
            if !several && (remote.into || (!is_dir && remote.path.is_root())) {
                target = named(&remote.path)?;
            }
            if roots.iter().any(|root| root.place == place) {
                return Err(usage(format!("two sources are called {place}"))
                    .hint("push them one by one, or from a common directory"));
            }
            let top = if is_dir { Some(path.as_path()) } else { path.parent() };
            let top = top.unwrap_or(Path::new("/"));
            let base = base_of(&path).map_err(|e| {
                let message = format!("cannot read the manifests of {}: {e}", typed.display());
                Error::new("source", Exit::Failed, message)
            })?;
            let tree: Arc<dyn Tree> = Arc::new(OsTree::open_with(top, method).map_err(|e| {
                let message = format!("cannot read {}: {e}", typed.display());
                Error::new("source", Exit::Failed, message)
            })?);
            let inside = if is_dir {
                RelPath::root()
            } else {
                let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
                RelPath::root().join(name).map_err(|e| unsafe_path(typed, &e))?
            };
            let around = Around { above: Above::of(top), base };
            roots.push(SourceRoot { tree, path: inside, place, around });
        }
        let files = Arc::new(SourceFiles::new(roots.clone()).publish_whole(whole));
        Ok(Self { files, target, roots, whole })
    }

    /// The same sources, to be scanned from their beginning.
    pub(super) fn again(&self) -> Self {
        Self {
            files: Arc::new(SourceFiles::new(self.roots.clone()).publish_whole(self.whole)),
            target: self.target.clone(),
            roots: self.roots.clone(),
            whole: self.whole,
        }
    }
}

/// The nearest root at or above a source that has manifests, and where in it the source is.
fn base_of(path: &Path) -> std::io::Result<Option<(Arc<dyn Tree>, RelPath)>> {
    let (root, below) = nearest_root(path);
    if !root.join(".portway").is_dir() {
        return Ok(None);
    }
    let below = RelPath::from_typed(below.as_os_str().as_bytes());
    let below =
        below.map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
    let tree: Arc<dyn Tree> = Arc::new(OsTree::open(&root)?);
    Ok(Some((tree, below)))
}

/// Where a pull lands: a directory that has, or will have, our own files, and a path below it.
pub(super) struct Landing {
    pub(super) root: PathBuf,
    pub(super) path: RelPath,
}

/// Finds the root for a local target: the nearest directory above it that is one already, else the
/// directory that holds the target.
pub(super) fn local_target(target: &Path, source: &Remote) -> Result<Landing, Error> {
    let raw = target.as_os_str().as_bytes();
    let mut full = if raw.ends_with(b"/") || raw == b"." || raw == b".." {
        let name = source.path.name().ok_or_else(|| {
            usage("a node's whole root needs a name here").hint("give the target without a slash")
        })?;
        target.join(std::ffi::OsStr::from_bytes(name))
    } else {
        target.to_owned()
    };
    if full.file_name().is_none() {
        full = canonical(&full)?;
    }
    let name = full.file_name().map(OsStrExt::as_bytes).unwrap_or_default().to_vec();
    let parent = match full.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    std::fs::create_dir_all(&parent).map_err(|e| {
        let message = format!("cannot make {}: {e}", parent.display());
        Error::new("target", Exit::Failed, message)
    })?;
    let parent = canonical(&parent)?;
    let (root, below) = nearest_root(&parent);
    let path = RelPath::from_typed(below.as_os_str().as_bytes())
        .and_then(|below| below.join(&name))
        .map_err(|e| unsafe_path(target, &e))?;
    Ok(Landing { root, path })
}

/// The nearest directory at or above `dir` that has our own files, and the way down from there;
/// `dir` itself if there is none. What lies on another file system is no root of `dir`: nothing can be
/// renamed from there.
pub(super) fn nearest_root(dir: &Path) -> (PathBuf, PathBuf) {
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    let here = device(dir);
    let mut above = dir.ancestors().take_while(|above| device(above) == here);
    let own = above.find(|above| above.join(".portway").is_dir());
    let root = own.unwrap_or(dir).to_owned();
    let below = dir.strip_prefix(&root).map(Path::to_owned).unwrap_or_default();
    (root, below)
}

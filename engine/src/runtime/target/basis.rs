//! Earlier versions of announced files that are published here: content may come as differences to them.
//! What was changed here since gives content with wrong digests, which is asked for again as it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::{Layout, TargetStore, below};
use crate::base::limits::SMALL_FILE_BYTES;
use crate::base::{FileTime, RelPath, Seq, Stamp};
use crate::protocol::Checked;
use crate::runtime::manifest_file::ManifestReader;
use crate::runtime::source::read_basis;
use crate::storage::{File, Kind, Tree};
use crate::wire::{Basis, BasisFile};

/// Most files of an earlier snapshot that are remembered.
const FILES_MAX: usize = 1 << 16;

/// An earlier snapshot, and what was told of it.
pub(super) struct Bases {
    /// Where it is published.
    at: RelPath,
    /// Its larger files.
    files: HashMap<RelPath, Known>,
    told: Mutex<BTreeMap<Seq, Arc<Told>>>,
}

/// What the manifest says of a file.
struct Known {
    len: u64,
    stamp: Stamp,
    mtime: FileTime,
}

impl Known {
    /// Whether the file at `path` is that one still, by its length and time.
    fn is_at(&self, tree: &dyn Tree, path: &RelPath) -> bool {
        tree.meta(path).is_ok_and(|meta| {
            meta.kind == Kind::File && (meta.len, meta.mtime) == (self.len, self.mtime)
        })
    }
}

/// An earlier version of an object.
struct Told {
    path: RelPath,
    file: OnceLock<Option<Arc<dyn File>>>,
}

impl Bases {
    /// What `source` brought to the path `at`, by the manifest of that snapshot or of one around it.
    pub(super) fn find(tree: &dyn Tree, at: &RelPath, source: &str) -> Option<Self> {
        let mut published = Some(at.clone());
        while let Some(path) = published {
            if let Ok(Some(manifest)) = ManifestReader::open(tree, &Layout::of(&path).published) {
                let inside = at.strip(&path)?;
                let ours = manifest.source() == source && *manifest.target() == path;
                return if ours { Self::read(manifest, at, &inside) } else { None };
            }
            published = path.parent();
        }
        None
    }

    /// The larger files of a manifest that lie at or below `inside`.
    fn read(mut manifest: ManifestReader, at: &RelPath, inside: &RelPath) -> Option<Self> {
        let mut files = HashMap::new();
        while let Some(listed) = manifest.read().ok()? {
            let (entry, whole) = (listed.entry, files.len() == FILES_MAX);
            let large = entry.is_file() && entry.len() > SMALL_FILE_BYTES && !whole;
            if let Some(path) = entry.path.strip(inside).filter(|_| large) {
                let (len, stamp, mtime) = (entry.len(), entry.stamp(), entry.mtime);
                files.insert(path, Known { len, stamp, mtime });
            }
        }
        let (at, told) = (at.clone(), Mutex::default());
        (!files.is_empty()).then_some(Self { at, files, told })
    }

    /// Whether the file at `path` below the snapshot is one of the larger ones, as it was brought.
    pub(super) fn has(&self, tree: &dyn Tree, path: &RelPath) -> bool {
        let known = path.strip(&self.at).and_then(|inside| self.files.get(&inside));
        known.is_some_and(|known| known.is_at(tree, path))
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<Seq, Arc<Told>>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Objects up to this one are settled.
    pub(super) fn settled(&self, last: Seq) {
        let mut told = self.told();
        let rest = told.split_off(&last.saturating_add(1));
        *told = rest;
    }
}

impl TargetStore {
    /// What is here of earlier versions of those files that are needed.
    pub fn bases(&self, checked: &[(Seq, Checked)]) -> Vec<BasisFile> {
        let Some(bases) = &self.bases else { return Vec::new() };
        let inner = self.inner();
        let needed = checked.iter().filter(|(_, checked)| *checked == Checked::Need);
        let found = needed.filter_map(|(seq, _)| {
            let entry = &inner.staged.get(seq)?.entry;
            let known = bases.files.get(&entry.path)?;
            let path = below(&bases.at, &entry.path).ok()?;
            if !known.is_at(&*self.tree, &path) || entry.len() <= SMALL_FILE_BYTES {
                return None;
            }
            bases.told().insert(*seq, Arc::new(Told { path, file: OnceLock::new() }));
            Some(BasisFile { seq: *seq, len: known.len, stamp: known.stamp })
        });
        found.collect()
    }

    /// Reads what a message is a difference to into the whole of `out`; `false` if it is not there, or
    /// nothing was told of it.
    pub fn read_basis(&self, basis: &Basis, out: &mut [u8]) -> bool {
        let told = self.bases.as_ref().and_then(|it| it.told().get(&basis.object).cloned());
        let Some(told) = told else { return false };
        let file = told.file.get_or_init(|| self.tree.open(&told.path).ok());
        file.as_ref().is_some_and(|file| read_basis(&**file, &basis.extents, out))
    }
}

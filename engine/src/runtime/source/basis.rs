//! Earlier versions of the source's files, which the target has too: content may leave as differences to
//! them. Digests are compared behind them, so that a basis which is another one at the other end costs
//! bytes, never correctness.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::{SourceFiles, entry_of};
use crate::base::{RelPath, Seq};
use crate::chunk::{HEAD_FIRST_BYTES, Head, Moved, head_bytes};
use crate::encode::CONTENT_BYTES_MAX;
use crate::manifest::Entry;
use crate::storage::{File, Tree};
use crate::wire::{BASIS_EXTENTS_MAX, Basis, BasisExtent, BasisFile};

/// Earlier versions of the files of one transfer.
#[derive(Default)]
pub(super) struct Bases {
    /// Where they lie: sources of the same shape.
    earlier: OnceLock<Arc<SourceFiles>>,
    told: Mutex<BTreeMap<Seq, Arc<Told>>>,
}

/// What the target has for an object.
struct Told {
    entry: Entry,
    file: BasisFile,
    opened: OnceLock<Option<Opened>>,
}

/// An earlier version that is at hand.
struct Opened {
    file: Arc<dyn File>,
    moved: Moved,
}

/// What of which object a message holds, to find what it may be a difference to.
pub struct Difference {
    files: Arc<SourceFiles>,
    object: Seq,
    /// Offsets and lengths of its pieces.
    places: Vec<(u64, u32)>,
}

impl SourceFiles {
    /// From now on content may leave as differences to these earlier versions, where the target says that
    /// it has them.
    pub fn set_earlier(&self, earlier: Arc<SourceFiles>) {
        let _ = self.bases.earlier.set(earlier);
    }

    /// Whether there are earlier versions.
    pub fn has_earlier(&self) -> bool {
        self.bases.earlier.get().is_some()
    }

    /// The target has an earlier version of an entry that is announced.
    pub fn basis_told(&self, entry: &Entry, file: BasisFile) {
        let told = Told { entry: entry.clone(), file, opened: OnceLock::new() };
        self.lock_told().insert(file.seq, Arc::new(told));
    }

    /// No more of an object leaves as a difference.
    pub fn no_basis(&self, seq: Seq) {
        self.lock_told().remove(&seq);
    }

    /// Objects below this number are settled.
    pub fn bases_settled(&self, below: Seq) {
        let mut told = self.lock_told();
        let rest = told.split_off(&below);
        *told = rest;
    }

    /// What a message with these pieces of objects may be a difference to.
    pub fn difference(self: &Arc<Self>, places: &[(Seq, u64, u32)]) -> Option<Difference> {
        let object = places.first()?.0;
        let one =
            self.lock_told().contains_key(&object) && places.iter().all(|(seq, ..)| *seq == object);
        let places = || places.iter().map(|(_, offset, len)| (*offset, *len)).collect();
        one.then(|| Difference { files: Arc::clone(self), object, places: places() })
    }

    fn lock_told(&self) -> std::sync::MutexGuard<'_, BTreeMap<Seq, Arc<Told>>> {
        self.bases.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the earlier version of an object, if it is still what the target received.
    fn open_basis(&self, told: &Told) -> io::Result<Option<Opened>> {
        let path = &told.entry.path;
        let earlier = self.bases.earlier.get().and_then(|earlier| earlier.locate(path));
        let (Some((tree, at)), Some(now)) = (earlier, self.locate(path)) else { return Ok(None) };
        let file = tree.open(&at)?;
        let meta = file.meta()?;
        let found = entry_of(path.clone(), &meta, None);
        if !found.is_file() || (found.len(), found.stamp()) != (told.file.len, told.file.stamp) {
            return Ok(None);
        }
        if !self.is_covered(file.label()?) {
            return Ok(None);
        }
        let before = read_head(&*file, found.len())?;
        let now = read_head(&*open(now)?, told.entry.len())?;
        let now = Head { len: told.entry.len(), bytes: &now };
        let moved = Moved::between(&now, &Head { len: found.len(), bytes: &before });
        Ok((!moved.is_empty()).then_some(Opened { file, moved }))
    }
}

fn open((tree, path): (&Arc<dyn Tree>, RelPath)) -> io::Result<Arc<dyn File>> {
    tree.open(&path)
}

/// The header of an object, if it may have one.
fn read_head(file: &dyn File, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEAD_FIRST_BYTES];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let whole = head_bytes(&bytes, len).unwrap_or(0);
    bytes.resize(whole, 0);
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

impl Difference {
    /// Finds the bytes that the message may be a difference to, and calls `encode` with what reads them.
    /// Blocks.
    pub(crate) fn with<T>(
        &self,
        encode: impl FnOnce(Option<(&dyn Fn(&mut [u8]) -> bool, &Basis)>) -> T,
    ) -> T {
        let told = self.files.lock_told().get(&self.object).cloned();
        let open = |told: &Told| self.files.open_basis(told).ok().flatten();
        let opened = told.as_ref().and_then(|told| told.opened.get_or_init(|| open(told)).as_ref());
        let found = opened.and_then(|opened| Some((opened, self.extents(&opened.moved)?)));
        match &found {
            None => encode(None),
            Some((opened, basis)) => {
                encode(Some((&|out: &mut [u8]| read(&*opened.file, &basis.extents, out), basis)))
            }
        }
    }

    fn extents(&self, moved: &Moved) -> Option<Basis> {
        let mut extents: Vec<BasisExtent> = Vec::new();
        for (offset, len) in &self.places {
            for (offset, len) in moved.find(*offset, u64::from(*len)) {
                let len = u32::try_from(len).ok()?;
                match extents.last_mut() {
                    Some(last) if follows(last, offset) => last.len += len,
                    _ => extents.push(BasisExtent { offset, len }),
                }
            }
        }
        let any = extents.iter().any(|extent| extent.offset.is_some());
        let fits = any && extents.len() <= BASIS_EXTENTS_MAX;
        fits.then_some(Basis { object: self.object, extents })
    }
}

/// Whether what lies at `offset` is behind an extent.
fn follows(last: &BasisExtent, offset: Option<u64>) -> bool {
    match (last.offset, offset) {
        (None, None) => true,
        (Some(before), Some(offset)) => before + u64::from(last.len) == offset,
        _ => false,
    }
}

/// Reads extents one after the other into the whole of `out`; `false` if they are not there.
pub(crate) fn read(file: &dyn File, extents: &[BasisExtent], mut out: &mut [u8]) -> bool {
    debug_assert!(out.len() <= CONTENT_BYTES_MAX, "the bytes of one message");
    for extent in extents {
        let Some((part, rest)) = out.split_at_mut_checked(extent.len as usize) else {
            return false;
        };
        match extent.offset {
            None => part.fill(0),
            Some(offset) if matches!(file.read_at(part, offset), Ok(n) if n == part.len()) => {}
            Some(_) => return false,
        }
        out = rest;
    }
    out.is_empty()
}

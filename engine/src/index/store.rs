//! The open database behind an index: its transactions, and what happens when they fail.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{
    Builder, Database, Durability, Error, ReadableTable, ReadableTableMetadata, WriteTransaction,
};

use super::backend::Backend;
use super::chunks::{Chunks, Known};
use super::entry::Spot;
use super::guard::{alive, begin, no_room, quietly};
use super::tables::{
    BASE_IDS, BASES, FILES, META, RUNS, VERSION, base_row, insert_files, remove_files,
    replace_runs, runs,
};
use super::view::{Blocks, View};
use super::{BaseId, FileChunks, IndexError, IndexStats, Opened, PLACES_MAX, Place};
use crate::base::limits::OBJECT_BYTES_MAX;
use crate::base::{Digest, RelPath};
use crate::storage::{Tree, mkdir_all};

/// Keys that are merged for each chunk that is inserted. Each chunk goes through about
/// `log4(100 million / buffer)`, that is five, merges; the rest is for merges of long runs to end
/// before the next one of their kind is due.
const MERGED_PER_CHUNK: usize = 8;
/// Keys that are merged in a flush, for processes that insert little in their lives.
const MERGED_PER_FLUSH: usize = 64 << 10;
/// The end of the name of the database, and of the directory of runs beside it.
const NAME_ENDS: (&[u8], &[u8]) = (b".redb", b".runs");

/// Memory that a store may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// For pages of the database, in bytes.
    pub(super) cache_bytes: usize,
    /// Entries that are gathered before they become a run.
    pub(super) buffer_entries: usize,
}

/// The database of an open index, and its table of chunks.
pub(super) struct Store {
    /// `Some` until dropped.
    db: Option<Database>,
    chunks: Chunks,
    tree: Arc<dyn Tree>,
    path: RelPath,
    backend: Backend,
    broken: AtomicBool,
    /// Whether a commit since the last flush was not durable.
    dirty: AtomicBool,
    blocks: Mutex<Blocks>,
    /// Held in a flush.
    flushing: Mutex<()>,
}

impl Store {
    pub(super) fn open(
        tree: Arc<dyn Tree>,
        path: &RelPath,
        sizes: Sizes,
    ) -> Result<(Self, Opened), IndexError> {
        let opened = match tree.open_rw(path) {
            Ok(file) => {
                let backend = Backend::new(file);
                match Self::attach(Arc::clone(&tree), path, backend.clone(), sizes, false) {
                    Ok(store) => return Ok((store, Opened::Kept)),
                    // A fresh index would fare no better.
                    Err(IndexError::Io(error)) if no_room(&error) && !backend.sync_failed() => {
                        return Err(error.into());
                    }
                    Err(why) => {
                        tree.unlink(path)?;
                        Opened::Rebuilt { why }
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Opened::Fresh,
            Err(error) => return Err(error.into()),
        };
        if let Some(parent) = path.parent() {
            mkdir_all(&*tree, &parent)?;
        }
        let backend = Backend::new(tree.create(path)?);
        Ok((Self::attach(tree, path, backend, sizes, true)?, opened))
    }

    /// Opens the database behind `backend`: a fresh, empty file, or one that was there.
    fn attach(
        tree: Arc<dyn Tree>,
        path: &RelPath,
        backend: Backend,
        sizes: Sizes,
        fresh: bool,
    ) -> Result<Self, IndexError> {
        let dir = runs_dir(path);
        let (db, chunks) = quietly(|| {
            let db = Builder::new()
                .set_cache_size(sizes.cache_bytes)
                // A plain open trusts the file and may panic on a damaged one.
                .set_check_integrity_on_open(true)
                .create_with_backend(backend.clone())?;
            let txn = begin(&db, Durability::Immediate)?;
            let mut meta = txn.open_table(META)?;
            if fresh {
                meta.insert("version", VERSION)?;
            }
            let version = meta.get("version")?.map_or(0, |version| version.value());
            drop(meta);
            if version != VERSION {
                return Ok(Err(version));
            }
            // Reads find every table there.
            txn.open_table(BASES)?;
            txn.open_table(BASE_IDS)?;
            txn.open_table(FILES)?;
            txn.open_table(RUNS)?;
            let rows = runs(&txn)?;
            txn.commit()?;
            let dir = dir.map_err(Error::Io)?;
            Ok(Ok((db, Chunks::open(Arc::clone(&tree), dir, &rows, sizes.buffer_entries)?)))
        })?
        .map_err(|found| IndexError::Version { found })?;
        Ok(Self {
            db: Some(db),
            chunks,
            tree,
            path: path.clone(),
            backend,
            broken: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
            blocks: Mutex::default(),
            flushing: Mutex::new(()),
        })
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(super) fn find(&self, digests: &[Digest]) -> Result<Vec<Vec<Place>>, IndexError> {
        let keys: Vec<u128> = digests.iter().map(Digest::short).collect();
        self.guard(|db| {
            let mut view = View::new(db, &self.blocks);
            let found = self.chunks.find(&keys, &mut |base| alive(&mut view, base))?;
            let spots: Vec<Spot> = found.iter().flat_map(Known::iter).copied().collect();
            let mut paths = view.paths(&spots)?.into_iter().zip(&spots);
            let places = found.iter().map(|known| {
                let count = known.iter().count();
                let mut here = Vec::with_capacity(count);
                here.extend(paths.by_ref().take(count).filter_map(|(path, spot)| {
                    Some(Place { path: path?, offset: spot.offset, len: spot.len })
                }));
                // What is beyond is of no use; it is passed over.
                here.truncate(PLACES_MAX);
                here
            });
            Ok(places.collect())
        })
    }

    pub(super) fn add_base(&self, path: &RelPath) -> Result<BaseId, IndexError> {
        self.write(|txn| {
            let mut ids = txn.open_table(BASE_IDS)?;
            if let Some(base) = ids.get(path.as_bytes())? {
                return Ok(Some(BaseId(base.value())));
            }
            let mut meta = txn.open_table(META)?;
            let next = meta.get("next_base")?.map_or(0, |next| next.value());
            let Ok(base) = u32::try_from(next) else { return Ok(None) };
            meta.insert("next_base", next + 1)?;
            ids.insert(path.as_bytes(), base)?;
            txn.open_table(BASES)?.insert(base, (0, path.as_bytes()))?;
            Ok(Some(BaseId(base)))
        })?
        .ok_or(IndexError::Full)
    }

    pub(super) fn move_base(&self, base: BaseId, path: &RelPath) -> Result<(), IndexError> {
        let moved = self.write(|txn| {
            let mut bases = txn.open_table(BASES)?;
            let Some((files, from)) = base_row(&bases, base.0)? else { return Ok(false) };
            let mut ids = txn.open_table(BASE_IDS)?;
            let replaced = ids.insert(path.as_bytes(), base.0)?.map(|id| id.value());
            if replaced == Some(base.0) {
                return Ok(true);
            }
            if let Some(replaced) = replaced {
                bases.remove(replaced)?;
                remove_files(txn, replaced)?;
            }
            ids.remove(&from[..])?;
            bases.insert(base.0, (files, path.as_bytes()))?;
            Ok(true)
        })?;
        if moved { Ok(()) } else { Err(IndexError::NoBase { base }) }
    }

    pub(super) fn drop_base(&self, base: BaseId) -> Result<(), IndexError> {
        self.write(|txn| {
            let mut bases = txn.open_table(BASES)?;
            let Some((_, path)) = base_row(&bases, base.0)? else { return Ok(()) };
            bases.remove(base.0)?;
            txn.open_table(BASE_IDS)?.remove(&path[..])?;
            remove_files(txn, base.0)
        })
    }

    pub(super) fn insert(&self, base: BaseId, files: &[FileChunks<'_>]) -> Result<(), IndexError> {
        let with_chunks = files.iter().filter(|file| !file.chunks.is_empty());
        let count = with_chunks.clone().count();
        if count == 0 {
            return Ok(());
        }
        let first = self.write(|txn| {
            let mut bases = txn.open_table(BASES)?;
            let Some((numbered, path)) = base_row(&bases, base.0)? else {
                return Ok(Err(IndexError::NoBase { base }));
            };
            let Some(next) = u32::try_from(count).ok().and_then(|n| numbered.checked_add(n)) else {
                return Ok(Err(IndexError::Full));
            };
            bases.insert(base.0, (next, &path[..]))?;
            insert_files(txn, base.0, numbered, with_chunks.clone())?;
            Ok(Ok(numbered))
        })??;
        let spots = (first..).zip(with_chunks).flat_map(|(file, chunks)| {
            let spot = move |&(digest, offset, len): &(Digest, u64, u32)| {
                (digest.short(), Spot { base: base.0, file, offset, len })
            };
            chunks.chunks.iter().map(spot)
        });
        // No file reaches beyond.
        let spots = spots.filter(|(_, spot)| spot.offset <= OBJECT_BYTES_MAX);
        let total: usize = files.iter().map(|file| file.chunks.len()).sum();
        self.guard(|db| {
            self.chunks.insert(spots)?;
            self.dirty.store(true, Ordering::Relaxed);
            let mut view = View::new(db, &self.blocks);
            self.chunks.tend(total * MERGED_PER_CHUNK, &mut |base| alive(&mut view, base))?;
            Ok(())
        })
    }

    pub(super) fn forget(&self, digest: &Digest, place: &Place) -> Result<(), IndexError> {
        self.guard(|db| {
            let mut view = View::new(db, &self.blocks);
            let keys = [digest.short()];
            let found = self.chunks.find(&keys, &mut |base| alive(&mut view, base))?;
            for spot in found.iter().flat_map(Known::iter) {
                let same = spot.offset == place.offset && spot.len == place.len;
                if same && view.paths(&[*spot])? == [Some(place.path.clone())] {
                    self.chunks.forget(digest.short(), spot)?;
                    self.dirty.store(true, Ordering::Relaxed);
                }
            }
            Ok(())
        })
    }

    pub(super) fn tend(&self, keys: usize) -> Result<bool, IndexError> {
        self.merge(|chunks, view| chunks.tend(keys, &mut |base| alive(view, base)))
    }

    pub(super) fn sweep(&self, keys: usize) -> Result<bool, IndexError> {
        self.merge(|chunks, view| chunks.sweep(keys.max(1), &mut |base| alive(view, base)))
    }

    fn merge(
        &self,
        f: impl FnOnce(&Chunks, &mut View<'_>) -> io::Result<bool>,
    ) -> Result<bool, IndexError> {
        let done = self.guard(|db| Ok(f(&self.chunks, &mut View::new(db, &self.blocks))?))?;
        self.dirty.store(true, Ordering::Relaxed);
        Ok(done)
    }

    pub(super) fn flush(&self) -> Result<(), IndexError> {
        let _one = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.dirty.swap(false, Ordering::Relaxed) {
            return if self.is_broken() { Err(IndexError::Broken) } else { Ok(()) };
        }
        self.guard(|db| {
            let mut view = View::new(db, &self.blocks);
            self.chunks.tend(MERGED_PER_FLUSH, &mut |base| alive(&mut view, base))?;
            self.chunks.limit_runs(&mut |base| alive(&mut view, base))?;
            drop(view);
            let listed = self.chunks.list()?;
            let txn = begin(db, Durability::Immediate)?;
            replace_runs(&txn, &listed.rows)?;
            txn.commit()?;
            self.chunks.clean(&listed);
            Ok(())
        })
    }

    pub(super) fn stats(&self) -> Result<IndexStats, IndexError> {
        let (files, bases) = self.guard(|db| {
            let mut view = View::new(db, &self.blocks);
            let bases = &view.tables()?.bases;
            let mut files = 0;
            for row in bases.iter()? {
                files += u64::from(row?.1.value().0);
            }
            Ok((files, bases.len()?))
        })?;
        let (chunks, bytes) = self.chunks.sizes();
        let bytes_on_disk = self.backend.allocated()? + bytes;
        Ok(IndexStats { chunks, files, bases, bytes_on_disk })
    }

    fn write<T>(
        &self,
        f: impl FnOnce(&WriteTransaction) -> Result<T, Error>,
    ) -> Result<T, IndexError> {
        let done = self.guard(|db| {
            let txn = begin(db, Durability::None)?;
            let done = f(&txn)?;
            txn.commit()?;
            Ok(done)
        })?;
        self.dirty.store(true, Ordering::Relaxed);
        Ok(done)
    }

    /// Runs `f` unless the index is broken, and breaks it if `f` fails.
    fn guard<T>(&self, f: impl FnOnce(&Database) -> Result<T, Error>) -> Result<T, IndexError> {
        match &self.db {
            Some(db) if !self.is_broken() => {
                quietly(|| f(db)).inspect_err(|error| self.fail(error))
            }
            _ => Err(IndexError::Broken),
        }
    }

    /// Breaks the index. Its file goes too if it can no longer be trusted; after a failed read or
    /// write alone it stays, and is verified when it is opened next.
    fn fail(&self, error: &IndexError) {
        if self.broken.swap(true, Ordering::Relaxed) {
            return;
        }
        let kept = matches!(error, IndexError::Io(_)) && !self.backend.sync_failed();
        let cause: &(dyn std::error::Error + 'static) = error;
        tracing::warn!(cause, path = %self.path, kept, "the index is broken");
        if !kept {
            // If this fails as well, the next open finds the damage by itself.
            let _ = self.tree.unlink(&self.path);
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if !self.is_broken() {
            // What is lost here is found again by the next scan.
            let _ = self.flush();
        }
        let db = self.db.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

/// The directory of the runs of the index at `path`.
fn runs_dir(path: &RelPath) -> io::Result<RelPath> {
    let name = path.name().unwrap_or_default();
    let stem = name.strip_suffix(NAME_ENDS.0).unwrap_or(name);
    let parent = path.parent().unwrap_or_default();
    parent.join(&[stem, NAME_ENDS.1].concat()).map_err(io::Error::other)
}

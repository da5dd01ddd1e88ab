//! The open database behind an index: its transactions, and what happens when they fail.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{
    Builder, Database, Durability, Error, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    WriteTransaction,
};

use super::backend::Backend;
use super::rows::Spot;
use super::tables::{
    BASE_IDS, BASES, CHUNKS, FILES, Live, META, VERSION, base_row, decode, insert_files,
    insert_spots, remove_files, replace,
};
use super::view::View;
use super::{BaseId, FileChunks, IndexError, IndexStats, Opened, Place};
use crate::base::{Digest, RelPath};
use crate::storage::{Tree, mkdir_all};

/// The database of an open index.
pub(super) struct Store {
    /// `Some` until dropped.
    db: Option<Database>,
    tree: Arc<dyn Tree>,
    path: RelPath,
    backend: Backend,
    broken: AtomicBool,
    /// Whether a commit since the last flush was not durable.
    dirty: AtomicBool,
    /// Where the next sweep goes on.
    swept: Mutex<u128>,
}

impl Store {
    pub(super) fn open(
        tree: Arc<dyn Tree>,
        path: &RelPath,
        cache_bytes: usize,
    ) -> Result<(Self, Opened), IndexError> {
        let opened = match tree.open_rw(path) {
            Ok(file) => {
                let backend = Backend::new(file);
                match Self::attach(Arc::clone(&tree), path, backend.clone(), cache_bytes, false) {
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
        Ok((Self::attach(tree, path, backend, cache_bytes, true)?, opened))
    }

    /// Opens the database behind `backend`: a fresh, empty file, or one that was there.
    fn attach(
        tree: Arc<dyn Tree>,
        path: &RelPath,
        backend: Backend,
        cache_bytes: usize,
        fresh: bool,
    ) -> Result<Self, IndexError> {
        let (db, version) = quietly(|| {
            let db = Builder::new()
                .set_cache_size(cache_bytes)
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
            if version == VERSION {
                // Reads find every table there.
                txn.open_table(BASES)?;
                txn.open_table(BASE_IDS)?;
                txn.open_table(FILES)?;
                txn.open_table(CHUNKS)?;
            }
            txn.commit()?;
            Ok((db, version))
        })?;
        let store = Self {
            db: Some(db),
            tree,
            path: path.clone(),
            backend,
            broken: AtomicBool::new(version != VERSION),
            dirty: AtomicBool::new(false),
            swept: Mutex::new(0),
        };
        if version == VERSION { Ok(store) } else { Err(IndexError::Version { found: version }) }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(super) fn find(&self, digests: &[Digest]) -> Result<Vec<Vec<Place>>, IndexError> {
        self.read(|view| digests.iter().map(|digest| view.places(digest)).collect())
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
        let total = files.iter().map(|file| file.chunks.len()).sum();
        if total == 0 {
            return Ok(());
        }
        self.write(|txn| {
            let mut bases = txn.open_table(BASES)?;
            let Some((numbered, path)) = base_row(&bases, base.0)? else {
                return Ok(Err(IndexError::NoBase { base }));
            };
            let with_chunks = files.iter().filter(|file| !file.chunks.is_empty());
            let count = with_chunks.clone().count();
            let Some(next) = u32::try_from(count).ok().and_then(|n| numbered.checked_add(n)) else {
                return Ok(Err(IndexError::Full));
            };
            bases.insert(base.0, (next, &path[..]))?;
            insert_files(txn, base.0, numbered, with_chunks.clone())?;
            let mut spots = Vec::with_capacity(total);
            for (file, chunks) in (numbered..).zip(with_chunks) {
                spots.extend(chunks.chunks.iter().map(|&(digest, offset, len)| {
                    (digest.short(), Spot { base: base.0, file, offset, len })
                }));
            }
            // In the order of the table, neighbours share a page.
            spots.sort_unstable();
            spots.dedup_by_key(|(short, _)| *short);
            insert_spots(txn, &bases, &spots)?;
            Ok(Ok(()))
        })?
    }

    pub(super) fn forget(&self, digest: &Digest, place: &Place) -> Result<(), IndexError> {
        let wrong = self.read(|view| view.spots_at(digest, place))?;
        if wrong.is_empty() {
            return Ok(());
        }
        self.write(|txn| {
            let mut chunks = txn.open_table(CHUNKS)?;
            let row = chunks.get(digest.short())?.map(|row| decode(row.value())).transpose()?;
            let Some(spots) = row else { return Ok(()) };
            replace(&mut chunks, digest.short(), spots.retain(|spot| !wrong.contains(spot)))
        })
    }

    pub(super) fn sweep(&self, rows: usize) -> Result<bool, IndexError> {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, dead) = self.read(|view| view.dead(*swept, rows.max(1)))?;
        if !dead.is_empty() {
            self.write(|txn| {
                let bases = txn.open_table(BASES)?;
                let mut chunks = txn.open_table(CHUNKS)?;
                let mut live = Live::new(&bases);
                for short in dead {
                    let row = chunks.get(short)?.map(|row| decode(row.value())).transpose()?;
                    if let Some(spots) = row {
                        let kept = live.only(&spots)?;
                        replace(&mut chunks, short, kept)?;
                    }
                }
                Ok(())
            })?;
        }
        *swept = next.unwrap_or(0);
        Ok(next.is_none())
    }

    pub(super) fn flush(&self) -> Result<(), IndexError> {
        if !self.dirty.swap(false, Ordering::Relaxed) {
            return if self.is_broken() { Err(IndexError::Broken) } else { Ok(()) };
        }
        self.guard(|db| Ok(begin(db, Durability::Immediate)?.commit()?))
    }

    pub(super) fn stats(&self) -> Result<IndexStats, IndexError> {
        let mut stats = self.read(|view| {
            let mut files = 0;
            for row in view.bases.iter()? {
                files += u64::from(row?.1.value().0);
            }
            let chunks = view.chunks.len()?;
            Ok(IndexStats { chunks, files, bases: view.bases.len()?, bytes_on_disk: 0 })
        })?;
        stats.bytes_on_disk = self.backend.allocated()?;
        Ok(stats)
    }

    fn read<T>(&self, f: impl FnOnce(&mut View) -> Result<T, Error>) -> Result<T, IndexError> {
        self.guard(|db| f(&mut View::new(&db.begin_read()?)?))
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

/// Begins a write transaction. A durable one commits in two phases, as redb advises where damage
/// by power loss matters.
fn begin(db: &Database, durability: Durability) -> Result<WriteTransaction, Error> {
    let mut txn = db.begin_write()?;
    txn.set_two_phase_commit(matches!(durability, Durability::Immediate));
    txn.set_durability(durability)?;
    Ok(txn)
}

/// Runs `f` with its panics turned into errors: redb panics on some kinds of damage.
fn quietly<T>(f: impl FnOnce() -> Result<T, Error>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(done) => done.map_err(told),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            Err(IndexError::Corrupt { detail: text.unwrap_or_default() })
        }
    }
}

/// Sorts redb's errors into damage and trouble with the medium.
fn told(error: Error) -> IndexError {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        Error::Io(error) if !matches!(error.kind(), InvalidData | UnexpectedEof) => {
            IndexError::Io(error)
        }
        Error::PreviousIo => IndexError::Io(io::Error::other("an earlier call failed")),
        error => IndexError::Corrupt { detail: error.to_string() },
    }
}

fn no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

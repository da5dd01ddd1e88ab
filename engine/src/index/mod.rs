//! The index: from a chunk's digest to where this node has the bytes.
//!
//! The index is a cache of truth. What it tells is a candidate: the caller reads the place and
//! verifies the chunk before it counts, so a stale, lost or corrupt index costs a longer transfer
//! and never a wrong one. An index that fails in use breaks quietly: from then on every call
//! returns [`IndexError::Broken`], which callers treat as "nothing found", and the next
//! [`Index::open`] begins a fresh one if the file was to blame. `docs/index.md` argues the design.
//!
//! One process at a time may have an index open. The engine holds an advisory lock on the root for
//! that; whoever cannot get the lock works with [`Index::disabled`], which finds and keeps nothing.

mod backend;
mod buffer;
mod chunks;
mod entry;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod faulty;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod guard;
mod merge;
mod rows;
mod run;
pub mod scan;
mod store;
mod tables;
#[cfg(test)]
mod tests;
mod view;
mod writer;

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::base::{Digest, RelPath};
use crate::storage::Tree;
use store::{Sizes, Store};

/// Memory that the index may use to cache pages of its small tables, in bytes.
pub const CACHE_BYTES: usize = 8 << 20;
/// Entries that are gathered in memory before they become a run in a file: about 12 MB.
pub const BUFFER_ENTRIES: usize = 128 << 10;
/// Most places that are kept of one chunk.
pub const PLACES_MAX: usize = 2;

/// A candidate: some file may hold a chunk's bytes here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, relative to the root.
    pub path: RelPath,
    /// First byte of the chunk in the file.
    pub offset: u64,
    /// Bytes of the chunk.
    pub len: u32,
}

/// Names a base: a directory that files are indexed under, so that a whole snapshot moves at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseId(u32);

/// The chunks of one file, for [`Index::insert`].
#[derive(Debug, Clone)]
pub struct FileChunks<'a> {
    /// The file, relative to its base.
    pub path: RelPath,
    /// Each chunk's digest, offset in the file and bytes.
    pub chunks: &'a [(Digest, u64, u32)],
}

/// What [`Index::open`] found.
#[derive(Debug)]
pub enum Opened {
    /// There was no index; a new one was begun.
    Fresh,
    /// The index was kept: all of its database was verified, and of its runs all but the entries,
    /// each of which is verified when it is read.
    Kept,
    /// The index was of no use and was deleted; a new one was begun.
    Rebuilt {
        /// What was wrong with it.
        why: IndexError,
    },
}

/// How much the index knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexStats {
    /// Distinct chunks. Those that several runs know are counted for each until these are merged.
    pub chunks: u64,
    /// Files indexed under the bases that are left, counted again whenever they were indexed again.
    pub files: u64,
    /// Bases.
    pub bases: u64,
    /// Bytes that the index takes on the medium.
    pub bytes_on_disk: u64,
}

/// Why the index is of no help. None of these fails a transfer.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// An earlier call failed; the index rests until it is opened anew.
    #[error("the index failed earlier and rests until it is opened anew")]
    Broken,
    /// The base was dropped, or belongs to another index.
    #[error("the index has no base {}", base.0)]
    NoBase {
        /// The base that was named.
        base: BaseId,
    },
    /// A base holds, or the index had, as many files or bases as can be numbered.
    #[error("the index has run out of numbers for files or bases")]
    Full,
    /// The file holds an index of a format that this version does not read.
    #[error("the index has format version {found}, not {}", tables::VERSION)]
    Version {
        /// The version in the file; zero if it has none.
        found: u64,
    },
    /// The file is damaged.
    #[error("the index is corrupt: {detail}")]
    Corrupt {
        /// What was noticed.
        detail: String,
    },
    /// The file cannot be read or written.
    #[error("the index cannot be read or written")]
    Io(#[from] io::Error),
}

/// A handle on an index; clones share it. Calls block.
#[derive(Clone)]
pub struct Index(Option<Arc<Store>>);

impl Index {
    /// Opens the index at `path`, or begins one, making the directories above it that are missing.
    ///
    /// Its runs are in a directory beside it, of the same name but for its end, `.runs`. What is
    /// damaged, or of another version, is deleted and a fresh index takes its place. The database
    /// and the hints of the runs are read and verified, at the rate of the medium: some 20 bytes a
    /// file and 2.3 a chunk. The caller holds a lock that
    /// keeps other processes and other handles from the same file.
    ///
    /// # Errors
    /// [`IndexError::Io`] if the file can be neither used nor replaced; the caller may go on with
    /// [`Index::disabled`].
    pub fn open(tree: Arc<dyn Tree>, path: &RelPath) -> Result<(Self, Opened), IndexError> {
        let sizes = Sizes { cache_bytes: CACHE_BYTES, buffer_entries: BUFFER_ENTRIES };
        let (store, opened) = Store::open(tree, path, sizes)?;
        Ok((Self(Some(Arc::new(store))), opened))
    }

    /// An index that finds nothing and keeps nothing.
    pub fn disabled() -> Self {
        Self(None)
    }

    /// Whether a call failed, so that this index is of no more use.
    pub fn is_broken(&self) -> bool {
        self.0.as_ref().is_some_and(|store| store.is_broken())
    }

    /// Candidates for each of `digests`, at most [`PLACES_MAX`], likeliest first, all as of one
    /// moment. The bytes at a place must be verified before they count.
    pub fn find(&self, digests: &[Digest]) -> Result<Vec<Vec<Place>>, IndexError> {
        match &self.0 {
            Some(store) => store.find(digests),
            None => Ok(vec![Vec::new(); digests.len()]),
        }
    }

    /// The base at `path`, made if there is none. A transfer that resumes finds its staging base
    /// again this way.
    pub fn add_base(&self, path: &RelPath) -> Result<BaseId, IndexError> {
        self.0.as_ref().map_or(Ok(BaseId(0)), |store| store.add_base(path))
    }

    /// Says that the base's directory was renamed to `path`. Another base that was at `path` has
    /// given way and is dropped.
    pub fn move_base(&self, base: BaseId, path: &RelPath) -> Result<(), IndexError> {
        self.0.as_ref().map_or(Ok(()), |store| store.move_base(base, path))
    }

    /// Forgets the base and its files; fine if it is gone already. Places of its chunks are never
    /// found again; their entries go when they are merged or [swept](Self::sweep).
    pub fn drop_base(&self, base: BaseId) -> Result<(), IndexError> {
        self.0.as_ref().map_or(Ok(()), |store| store.drop_base(base))
    }

    /// Adds the chunks of some files of one base, in one transaction that is not durable before
    /// [`flush`](Self::flush). A chunk keeps one place in each base, the last one added, and at
    /// least those in the two last bases. A thousand chunks or so in one call are cheapest.
    pub fn insert(&self, base: BaseId, files: &[FileChunks<'_>]) -> Result<(), IndexError> {
        self.0.as_ref().map_or(Ok(()), |store| store.insert(base, files))
    }

    /// A place proved wrong: forgets it.
    pub fn forget(&self, digest: &Digest, place: &Place) -> Result<(), IndexError> {
        self.0.as_ref().map_or(Ok(()), |store| store.forget(digest, place))
    }

    /// Goes on with the merges that are due, by up to `keys` chunks. True if none is left. Inserts
    /// and flushes do this by and by; a background task that calls this makes look-ups faster
    /// sooner.
    pub fn tend(&self, keys: usize) -> Result<bool, IndexError> {
        self.0.as_ref().map_or(Ok(true), |store| store.tend(keys))
    }

    /// Writes the table of chunks anew, without places in dropped bases: up to `keys` chunks (at
    /// least one), going on where the last call stopped. True if this call reached the end of the
    /// table.
    pub fn sweep(&self, keys: usize) -> Result<bool, IndexError> {
        self.0.as_ref().map_or(Ok(true), |store| store.sweep(keys))
    }

    /// Makes everything added so far durable.
    pub fn flush(&self) -> Result<(), IndexError> {
        self.0.as_ref().map_or(Ok(()), |store| store.flush())
    }

    /// How much the index knows; all zero for a disabled one.
    pub fn stats(&self) -> Result<IndexStats, IndexError> {
        self.0.as_ref().map_or(Ok(IndexStats::default()), |store| store.stats())
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.0 {
            None => "disabled",
            Some(store) if store.is_broken() => "broken",
            Some(_) => "open",
        };
        write!(f, "Index({state})")
    }
}

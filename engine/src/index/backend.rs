//! The database's view of a `storage::File`, with a check that it reads what was there before.
//!
//! redb verifies pages when it opens a file and trusts them from then on; on a page that went bad
//! later it may panic, even twice in a row, which would end the process. So the backend remembers
//! a sum of each page that was read or written, and a page that changed by itself is an error.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::StorageBackend;

use crate::base::Digest;
use crate::storage::File;

/// Bytes under one sum: redb's page.
const PAGE_BYTES: usize = 4096;
/// The sum of a page that was not seen yet.
const UNSEEN: u64 = 0;

/// A [`StorageBackend`] over an open file. Locks stay unsupported: the engine's lock on the root
/// covers the index. Clones share the file.
#[derive(Clone)]
pub(super) struct Backend(Arc<Checked>);

struct Checked {
    file: Arc<dyn File>,
    /// The sum of each page, eight bytes for 4 KiB of index. Held while the file is written, so
    /// that a page and its sum change together.
    sums: RwLock<Vec<u64>>,
    sync_failed: AtomicBool,
}

impl Backend {
    pub(super) fn new(file: Arc<dyn File>) -> Self {
        let sums = RwLock::new(Vec::new());
        Self(Arc::new(Checked { file, sums, sync_failed: AtomicBool::new(false) }))
    }

    /// Whether a sync failed, after which nothing in the file can be relied on.
    pub(super) fn sync_failed(&self) -> bool {
        self.0.sync_failed.load(Ordering::Relaxed)
    }

    /// Bytes that the file takes on the medium.
    pub(super) fn allocated(&self) -> io::Result<u64> {
        Ok(self.0.file.meta()?.allocated)
    }

    fn sums(&self) -> RwLockReadGuard<'_, Vec<u64>> {
        self.0.sums.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn sums_mut(&self) -> RwLockWriteGuard<'_, Vec<u64>> {
        self.0.sums.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.file.meta()?.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let sums = self.sums();
        if self.0.file.read_at(out, offset)? < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let pages = Pages::within(offset, out);
        if !compare(&sums, &pages)? {
            return Ok(());
        }
        drop(sums);
        let mut sums = self.sums_mut();
        for (page, content) in pages.iter() {
            // A write that passed between the locks has left its own sum.
            if let Some(unseen @ &mut UNSEEN) = slot(&mut sums, page) {
                *unseen = sum(content);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut sums = self.sums_mut();
        sums.truncate((len / PAGE_BYTES as u64) as usize);
        self.0.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.file.sync().inspect_err(|_| self.0.sync_failed.store(true, Ordering::Relaxed))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut sums = self.sums_mut();
        self.0.file.write_at(data, offset)?;
        let pages = Pages::within(offset, data);
        for page in pages.touched.clone() {
            if let Some(stale) = sums.get_mut(page) {
                *stale = UNSEEN;
            }
        }
        for (page, content) in pages.iter() {
            if let Some(seen) = slot(&mut sums, page) {
                *seen = sum(content);
            }
        }
        Ok(())
    }
}

/// The pages that some bytes of the file lie in.
struct Pages<'a> {
    /// Those that are covered at least in part.
    touched: Range<usize>,
    /// The first that is covered whole.
    first: usize,
    /// The bytes from there on.
    bytes: &'a [u8],
}

impl<'a> Pages<'a> {
    fn within(offset: u64, bytes: &'a [u8]) -> Self {
        let start = offset as usize;
        let first = start.div_ceil(PAGE_BYTES);
        let touched = start / PAGE_BYTES..(start + bytes.len()).div_ceil(PAGE_BYTES);
        let skip = (first * PAGE_BYTES - start).min(bytes.len());
        Self { touched, first, bytes: &bytes[skip..] }
    }

    /// Each page that is covered whole and its content.
    fn iter(&self) -> impl Iterator<Item = (usize, &'a [u8])> + use<'a> {
        (self.first..).zip(self.bytes.chunks_exact(PAGE_BYTES))
    }
}

/// Compares whole pages with their sums; true if one of them was not seen before.
fn compare(sums: &[u64], pages: &Pages<'_>) -> io::Result<bool> {
    let mut unseen = false;
    for (page, content) in pages.iter() {
        match sums.get(page) {
            None | Some(&UNSEEN) => unseen = true,
            Some(&known) if known == sum(content) => {}
            Some(_) => {
                let detail = format!("page {page} is not what was written");
                return Err(io::Error::new(io::ErrorKind::InvalidData, detail));
            }
        }
    }
    Ok(unseen)
}

/// The sum of `page`, making room for it.
fn slot(sums: &mut Vec<u64>, page: usize) -> Option<&mut u64> {
    if page >= sums.len() {
        sums.resize(page + 1, UNSEEN);
    }
    sums.get_mut(page)
}

fn sum(page: &[u8]) -> u64 {
    (Digest::of(page).short() as u64).max(UNSEEN + 1)
}

#[cfg(test)]
mod tests {
    use super::super::fake::MemFile;
    use super::*;

    #[test]
    fn a_page_that_changed_by_itself_is_an_error() {
        let file = Arc::new(MemFile::default());
        let backend = Backend::new(Arc::clone(&file) as _);
        backend.set_len(4 * 4096).unwrap();
        backend.write(4096, &[1; 8192]).unwrap();
        let mut page = vec![0; 4096];
        for at in 0..4 {
            backend.read(at * 4096, &mut page).unwrap();
        }
        // A write of part of a page makes the rest of it unseen.
        backend.write(0, &[7; 320]).unwrap();
        for spoiled in 0..4 {
            let mut content = file.content();
            content[spoiled * 4096 + 4000] ^= 1;
            let good = file.content();
            file.put(content);
            for at in 0..4 {
                let read = backend.read(at as u64 * 4096, &mut page);
                assert_eq!(read.is_err(), at == spoiled && spoiled > 0, "{at} {spoiled}");
            }
            assert_eq!(backend.read(0, &mut vec![0; 4 * 4096]).is_err(), spoiled > 0);
            file.put(good);
            backend.set_len(4096).unwrap();
            backend.set_len(4 * 4096).unwrap();
            backend.write(0, &[7; 320]).unwrap();
            for at in 0..4 {
                backend.read(at * 4096, &mut page).unwrap();
            }
        }
        assert!(backend.read(4 * 4096 - 1, &mut page).is_err());
    }
}

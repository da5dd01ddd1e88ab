//! Reading and writing a file: through the page cache, around it, and by `io_uring`.

use std::fs::{File, OpenOptions};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context as _, Result, ensure};
use portway::base::RelPath;
use portway::base::limits::LEASE_BYTES;
use portway::buf::{LEASE_ALIGN, Lease, Slab};
use portway::storage::{self, Backend, Method, OsTree, Tree as _};
use rustix::fs::{Advice, OFlags, fadvise};

use super::{Case, Step, at};
use crate::rng::Rng;

/// Name of the file, which is removed at the end.
const NAME: &str = "portway-bench-local.tmp";

/// The ways to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `pread` and `pwrite` through the page cache.
    Buffered,
    /// The same, around it (`O_DIRECT`).
    Direct,
    /// The engine's `io_uring`, through the page cache.
    Uring,
}

impl Way {
    const ALL: [Self; 3] = [Self::Buffered, Self::Direct, Self::Uring];

    fn title(self) -> &'static str {
        match self {
            Self::Buffered => "buffered",
            Self::Direct => "O_DIRECT",
            Self::Uring => "io_uring",
        }
    }
}

/// A file whose content is known; removed when this is dropped.
pub(super) struct Bed {
    shared: Arc<Shared>,
}

/// Memory of one thread, a lease long and beginning at a page.
enum Buffer {
    /// As the engine has it.
    Lease(Lease),
    /// As it comes from the allocator: bytes, and where the first page begins.
    Ordinary(Vec<u8>, usize),
}

impl Buffer {
    fn ordinary() -> Self {
        let bytes = vec![0; LEASE_BYTES + LEASE_ALIGN];
        let first = (bytes.as_ptr() as usize).next_multiple_of(LEASE_ALIGN);
        let at = first - bytes.as_ptr() as usize;
        Self::Ordinary(bytes, at)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Lease(lease) => lease,
            Self::Ordinary(bytes, at) => &bytes[*at..*at + LEASE_BYTES],
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Lease(lease) => lease,
            Self::Ordinary(bytes, at) => &mut bytes[*at..*at + LEASE_BYTES],
        }
    }
}

struct Shared {
    dir: PathBuf,
    path: PathBuf,
    /// Blocks of a lease each that the file has.
    blocks: u64,
    /// Whether something else was written since.
    changed: AtomicBool,
    /// Leases for all threads; `None` where memory is ordinary.
    slab: Option<Slab>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The content of a block.
fn fill(block: u64, out: &mut [u8]) {
    Rng::new(block).fill(out);
}

impl Bed {
    /// Writes a file of about `bytes` into `dir`, for up to `threads` threads, which read and write it
    /// from `ordinary` memory or from leases.
    pub(super) fn new(dir: &Path, bytes: u64, threads: usize, ordinary: bool) -> Result<Self> {
        let blocks = (bytes / LEASE_BYTES as u64).max(8 * threads as u64);
        let path = dir.join(NAME);
        let shared = Shared {
            dir: dir.to_owned(),
            slab: (!ordinary).then(|| Slab::new((threads + 1) * LEASE_BYTES)),
            path: path.clone(),
            blocks,
            changed: AtomicBool::new(true),
        };
        at(&path, "make", File::create(&path))
            .context("hint: --dir names a directory that can be written, with room")?;
        shared.restore()?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What is measured with it.
    pub(super) fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for way in Way::ALL {
            // Around the cache, it makes no difference what the cache holds.
            let reads: &[bool] = if way == Way::Direct { &[false] } else { &[false, true] };
            cases.extend(reads.iter().map(|&warm| self.read(way, warm)));
        }
        cases.extend(Way::ALL.map(|way| self.write(way, false)));
        cases
    }

    /// Reading what is in the page cache.
    pub(super) fn read_cached(&self) -> Case {
        self.read(Way::Buffered, true)
    }

    /// Writing through the page cache into a file that is empty, as that of something new is.
    pub(super) fn write_new(&self) -> Case {
        self.write(Way::Buffered, true)
    }

    fn read(&self, way: Way, warm: bool) -> Case {
        let shared = Arc::clone(&self.shared);
        let title = match (way, warm) {
            (Way::Direct, _) => way.title().to_owned(),
            (_, true) => format!("{}, cached", way.title()),
            (_, false) => format!("{}, not cached", way.title()),
        };
        let work = move |index, threads| -> Result<Step> {
            let (shared, handle) = (Arc::clone(&shared), shared.open(way, false)?);
            let mut buffer = shared.buffer()?;
            let mut checked = false;
            Ok(Box::new(move || {
                let mut bytes = 0;
                for block in (index as u64..shared.blocks).step_by(threads) {
                    let read = handle.read(&mut buffer, block * LEASE_BYTES as u64)?;
                    ensure!(read == LEASE_BYTES, "a block ended early");
                    bytes += read as u64;
                }
                if !checked {
                    // In the warm-up, of the last block that was read.
                    let last = (index as u64..shared.blocks).step_by(threads).last();
                    validate(last.unwrap_or(0), &buffer)?;
                    checked = true;
                }
                Ok(bytes)
            }))
        };
        let before = Arc::clone(&self.shared);
        Case {
            before: Box::new(move || if warm { before.warm() } else { before.cool() }),
            // A second pass over the file would find it cached.
            once: way != Way::Direct && !warm,
            ..Case::new("read", title, LEASE_BYTES as u64, work)
        }
    }

    /// Writing over the file, or into it when it was emptied.
    fn write(&self, way: Way, empty: bool) -> Case {
        let shared = Arc::clone(&self.shared);
        let work = move |index, threads| -> Result<Step> {
            let (shared, handle) = (Arc::clone(&shared), shared.open(way, true)?);
            let mut buffer = shared.buffer()?;
            // All blocks of a thread get the content of its first; only bytes that differ prove
            // that they were written.
            fill(index as u64, &mut buffer);
            Ok(Box::new(move || {
                let mut bytes = 0;
                for block in (index as u64..shared.blocks).step_by(threads) {
                    handle.write(&buffer, block * LEASE_BYTES as u64)?;
                    bytes += LEASE_BYTES as u64;
                }
                Ok(bytes)
            }))
        };
        let (emptied, synced) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        let target = if empty { ", a new file, synced" } else { ", synced" };
        Case {
            before: Box::new(move || if empty { emptied.empty() } else { Ok(()) }),
            after: Box::new(move || {
                synced.changed.store(true, Relaxed);
                synced.sync()
            }),
            once: true,
            ..Case::new("write", format!("{}{target}", way.title()), LEASE_BYTES as u64, work)
        }
    }
}

fn validate(block: u64, found: &[u8]) -> Result<()> {
    let mut expected = vec![0; LEASE_BYTES];
    fill(block, &mut expected);
    ensure!(found == expected, "block {block} of the file holds something else");
    Ok(())
}

/// An open file, by one way.
enum Handle {
    Plain(File),
    Engine(Arc<dyn storage::File>),
}

impl Handle {
    fn read(&self, buffer: &mut Buffer, offset: u64) -> Result<usize> {
        Ok(match self {
            Self::Plain(file) => file.read_exact_at(buffer, offset).map(|()| buffer.len())?,
            Self::Engine(file) => file.read_at(buffer, offset)?,
        })
    }

    fn write(&self, buffer: &Buffer, offset: u64) -> Result<()> {
        match self {
            Self::Plain(file) => file.write_all_at(buffer, offset)?,
            Self::Engine(file) => file.write_at(buffer, offset)?,
        }
        Ok(())
    }
}

impl Shared {
    fn buffer(&self) -> Result<Buffer> {
        let Some(slab) = &self.slab else { return Ok(Buffer::ordinary()) };
        let mut lease = slab.try_lease().context("more threads than leases")?;
        lease.align_to(0);
        Ok(Buffer::Lease(lease))
    }

    fn open(&self, way: Way, write: bool) -> Result<Handle> {
        let mut options = OpenOptions::new();
        options.read(true).write(write);
        match way {
            Way::Buffered => {}
            Way::Direct => {
                options.custom_flags(OFlags::DIRECT.bits().cast_signed());
            }
            Way::Uring => {
                let method = Method { backend: Backend::Uring, direct: false };
                let tree = at(&self.dir, "open", OsTree::open_with(&self.dir, method))?;
                let name = RelPath::from_bytes(NAME.as_bytes())?;
                let opened = if write { tree.open_rw(&name) } else { tree.open(&name) };
                return Ok(Handle::Engine(at(&self.path, "open", opened)?));
            }
        }
        Ok(Handle::Plain(at(&self.path, "open", options.open(&self.path))?))
    }

    fn file(&self) -> Result<File> {
        at(&self.path, "open", File::open(&self.path))
    }

    fn sync(&self) -> Result<()> {
        at(&self.path, "sync", self.file()?.sync_data())
    }

    /// Writes the content that reads are compared with, unless it is there.
    fn restore(&self) -> Result<()> {
        if !self.changed.swap(false, Relaxed) {
            return Ok(());
        }
        let file = OpenOptions::new().write(true).open(&self.path);
        let (file, mut buffer) = (at(&self.path, "open", file)?, vec![0; LEASE_BYTES]);
        for block in 0..self.blocks {
            fill(block, &mut buffer);
            let offset = block * LEASE_BYTES as u64;
            at(&self.path, "write", file.write_all_at(&buffer, offset))?;
        }
        at(&self.path, "sync", file.sync_all())
    }

    /// Leaves a file without content.
    fn empty(&self) -> Result<()> {
        self.changed.store(true, Relaxed);
        let file = at(&self.path, "open", OpenOptions::new().write(true).open(&self.path))?;
        at(&self.path, "empty", file.set_len(0))
    }

    /// Takes the file out of the page cache.
    fn cool(&self) -> Result<()> {
        self.restore()?;
        let file = self.file()?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
        Ok(())
    }

    /// Has the file in the page cache as reading it leaves it there: what was written lies there in pages
    /// of other sizes, which are copied at another rate.
    fn warm(&self) -> Result<()> {
        self.cool()?;
        std::io::copy(&mut self.file()?, &mut std::io::sink())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_memory_begins_at_a_page_and_reads_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let bed = Bed::new(dir.path(), 0, 1, true).expect("a bed");
        let buffer = bed.shared.buffer().expect("memory");
        assert_eq!((buffer.len(), buffer.as_ptr() as usize % LEASE_ALIGN), (LEASE_BYTES, 0));
        let cases = bed.cases();
        assert_eq!(once(&cases[0], 1), bed.shared.blocks * LEASE_BYTES as u64);
    }

    /// Runs one case with so many threads, once.
    fn once(case: &Case, threads: usize) -> u64 {
        (case.before)().expect("before");
        let mut steps: Vec<Step> =
            (0..threads).map(|i| (case.work)(i, threads).expect("a step")).collect();
        let bytes = steps.iter_mut().map(|step| step().expect("works")).sum();
        (case.after)().expect("after");
        bytes
    }

    #[test]
    fn threads_share_the_file_and_every_read_is_validated() {
        let dir = tempfile::tempdir().expect("a directory");
        let bed = Bed::new(dir.path(), 0, 2, false).expect("a bed");
        let all = bed.shared.blocks * LEASE_BYTES as u64;
        assert_eq!(all, 16 * LEASE_BYTES as u64);
        let plain = |case: &&Case| case.name.starts_with("buffered");
        let cases = bed.cases();
        assert_eq!(cases.len(), 8);
        for case in cases.iter().filter(plain) {
            assert_eq!(once(case, 1), all, "{}", case.name);
            // Writes come last and leave other content behind.
            assert_eq!(once(case, 2), all, "{}", case.name);
        }
        assert_eq!(once(&bed.write_new(), 2), all);
        let changed = &cases[0];
        let mut step = (changed.work)(0, 1).expect("a step");
        assert!(step().is_err(), "the content is not that of the bed any more");
        assert_eq!(once(changed, 1), all, "the next run has it again");
        let path = bed.shared.path.clone();
        drop((step, cases));
        assert!(path.exists());
        drop(bed);
        assert!(!path.exists(), "nothing is left behind");
    }
}

//! A tree for the tests here over another one: calls of it and of its files fail.

use std::io;
use std::sync::{Arc, Mutex};

use crate::base::{Extent, FileTime, RelPath};
use crate::storage::{File, Kind, Meta, Tree};

/// When calls fail.
struct Trouble {
    calls: usize,
    /// The call to fail, how, and whether all after it fail too.
    at: Option<(usize, io::ErrorKind, bool)>,
}

/// A tree over another one, of which one call of all, or all from one on, fail.
#[derive(Clone)]
pub(super) struct Faulty {
    tree: Arc<dyn Tree>,
    trouble: Arc<Mutex<Trouble>>,
}

impl Faulty {
    /// Fails the call after the first `calls`.
    pub(super) fn once(tree: Arc<dyn Tree>, calls: usize, kind: io::ErrorKind) -> Self {
        Self::new(tree, Some((calls, kind, false)))
    }

    /// Fails all calls after the first `calls`, as if the process were dead.
    pub(super) fn dying(tree: Arc<dyn Tree>, calls: usize) -> Self {
        Self::new(tree, Some((calls, io::ErrorKind::Other, true)))
    }

    fn new(tree: Arc<dyn Tree>, at: Option<(usize, io::ErrorKind, bool)>) -> Self {
        Self { tree, trouble: Arc::new(Mutex::new(Trouble { calls: 0, at })) }
    }

    /// Calls so far.
    pub(super) fn calls(&self) -> usize {
        self.trouble.lock().unwrap().calls
    }

    fn call(&self) -> io::Result<&dyn Tree> {
        call(&self.trouble)?;
        Ok(&*self.tree)
    }

    fn wrap(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(FaultyFile { file, trouble: Arc::clone(&self.trouble) })
    }
}

fn call(trouble: &Mutex<Trouble>) -> io::Result<()> {
    let mut trouble = trouble.lock().unwrap();
    trouble.calls += 1;
    match trouble.at {
        Some((at, kind, on)) if trouble.calls == at + 1 || (on && trouble.calls > at) => {
            Err(kind.into())
        }
        _ => Ok(()),
    }
}

impl Tree for Faulty {
    fn meta(&self, path: &RelPath) -> io::Result<Meta> {
        self.call()?.meta(path)
    }

    fn list(&self, path: &RelPath) -> io::Result<Vec<(Vec<u8>, Option<Kind>)>> {
        self.call()?.list(path)
    }

    fn open(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        self.call()?.open(path).map(|file| self.wrap(file))
    }

    fn open_rw(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        self.call()?.open_rw(path).map(|file| self.wrap(file))
    }

    fn create(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        self.call()?.create(path).map(|file| self.wrap(file))
    }

    fn mkdir(&self, path: &RelPath) -> io::Result<()> {
        self.call()?.mkdir(path)
    }

    fn symlink(&self, target: &[u8], path: &RelPath) -> io::Result<()> {
        self.call()?.symlink(target, path)
    }

    fn read_link(&self, path: &RelPath) -> io::Result<Vec<u8>> {
        self.call()?.read_link(path)
    }

    fn rename(&self, from: &RelPath, to: &RelPath, replace: bool) -> io::Result<()> {
        self.call()?.rename(from, to, replace)
    }

    fn unlink(&self, path: &RelPath) -> io::Result<()> {
        self.call()?.unlink(path)
    }

    fn rmdir(&self, path: &RelPath) -> io::Result<()> {
        self.call()?.rmdir(path)
    }

    fn set_meta(&self, path: &RelPath, mode: u32, mtime: FileTime) -> io::Result<()> {
        self.call()?.set_meta(path, mode, mtime)
    }

    fn sync_dir(&self, path: &RelPath) -> io::Result<()> {
        self.call()?.sync_dir(path)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.call()?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.call()?.free_bytes()
    }
}

struct FaultyFile {
    file: Arc<dyn File>,
    trouble: Arc<Mutex<Trouble>>,
}

impl FaultyFile {
    fn call(&self) -> io::Result<&dyn File> {
        call(&self.trouble)?;
        Ok(&*self.file)
    }
}

impl File for FaultyFile {
    fn meta(&self) -> io::Result<Meta> {
        self.call()?.meta()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.call()?.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.call()?.write_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call()?.set_len(len)
    }

    fn set_meta(&self, mode: u32, mtime: FileTime) -> io::Result<()> {
        self.call()?.set_meta(mode, mtime)
    }

    fn sync(&self) -> io::Result<()> {
        self.call()?.sync()
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Extent>> {
        self.call()?.next_data(offset)
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.call()?.drop_cache()
    }
}

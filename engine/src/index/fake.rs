//! A tree in memory for the tests here: its files can be damaged, and fail.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use crate::base::{Extent, FileTime, RelPath};
use crate::storage::{File, Kind, Meta, Tree};

/// `SplitMix64`: the tests' only source of chance.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::from_bytes(text.as_bytes()).unwrap()
}

#[derive(Default)]
struct Disk {
    content: Vec<u8>,
    /// Calls to let through before one fails, and how.
    fail: Option<(usize, io::ErrorKind)>,
}

impl Disk {
    fn call(&mut self) -> io::Result<()> {
        match &mut self.fail {
            Some((0, kind)) => {
                let kind = *kind;
                self.fail = None;
                Err(kind.into())
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[derive(Default)]
pub(super) struct MemFile(Mutex<Disk>);

impl MemFile {
    pub(super) fn content(&self) -> Vec<u8> {
        self.0.lock().unwrap().content.clone()
    }

    /// Replaces the content behind the back of whoever has the file open.
    pub(super) fn put(&self, content: Vec<u8>) {
        self.0.lock().unwrap().content = content;
    }

    /// Lets `calls` calls pass and fails the one after them.
    pub(super) fn fail_after(&self, calls: usize, kind: io::ErrorKind) {
        self.0.lock().unwrap().fail = Some((calls, kind));
    }
}

impl File for MemFile {
    fn meta(&self) -> io::Result<Meta> {
        let mut disk = self.0.lock().unwrap();
        disk.call()?;
        Ok(meta(Kind::File, disk.content.len() as u64))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.0.lock().unwrap();
        disk.call()?;
        let from = disk.content.get(offset as usize..).unwrap_or_default();
        let len = from.len().min(buf.len());
        buf[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.call()?;
        let range = offset as usize..offset as usize + buf.len();
        if disk.content.len() < range.end {
            disk.content.resize(range.end, 0);
        }
        disk.content[range].copy_from_slice(buf);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.call()?;
        disk.content.resize(len as usize, 0);
        Ok(())
    }

    fn set_meta(&self, _: u32, _: FileTime) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.lock().unwrap().call()
    }

    fn next_data(&self, _: u64) -> io::Result<Option<Extent>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }
}

fn meta(kind: Kind, len: u64) -> Meta {
    let time = FileTime::default();
    Meta { kind, len, allocated: len, mode: 0o600, mtime: time, ctime: time, dev: 1, ino: 1 }
}

#[derive(Clone)]
enum Node {
    Dir,
    Link,
    File(Arc<MemFile>),
}

/// Files and what they hold.
pub(super) type Contents = BTreeMap<RelPath, Vec<u8>>;

/// A tree of [`MemFile`]s.
#[derive(Default)]
pub(super) struct MemTree(Mutex<BTreeMap<RelPath, Node>>);

impl MemTree {
    pub(super) fn file(&self, path: &RelPath) -> Option<Arc<MemFile>> {
        match self.0.lock().unwrap().get(path) {
            Some(Node::File(file)) => Some(Arc::clone(file)),
            _ => None,
        }
    }

    /// Puts a file with `content` at `text`, and the directories above it.
    pub(super) fn put(&self, text: &str, content: &[u8]) -> Arc<MemFile> {
        let path = path(text);
        crate::storage::mkdir_all(self, &path.parent().unwrap()).unwrap();
        let file = Arc::new(MemFile::default());
        file.put(content.to_vec());
        self.0.lock().unwrap().insert(path, Node::File(Arc::clone(&file)));
        file
    }

    /// The content of all files.
    pub(super) fn contents(&self) -> Contents {
        let nodes = self.0.lock().unwrap();
        let file = |(path, node): (&RelPath, &Node)| match node {
            Node::File(file) => Some((path.clone(), file.content())),
            _ => None,
        };
        nodes.iter().filter_map(file).collect()
    }

    /// A tree with these files.
    pub(super) fn of(contents: &Contents) -> Arc<Self> {
        let tree = Arc::new(Self::default());
        for (path, content) in contents {
            tree.put(std::str::from_utf8(path.as_bytes()).unwrap(), content);
        }
        tree
    }

    fn make(&self, path: &RelPath, node: Node) -> io::Result<()> {
        let mut nodes = self.0.lock().unwrap();
        let parent = path.parent().ok_or(io::ErrorKind::AlreadyExists)?;
        if !parent.is_root() && !nodes.contains_key(&parent) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if nodes.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        nodes.insert(path.clone(), node);
        Ok(())
    }
}

impl Tree for MemTree {
    fn meta(&self, path: &RelPath) -> io::Result<Meta> {
        match self.0.lock().unwrap().get(path) {
            Some(Node::File(file)) => file.meta(),
            Some(Node::Dir) => Ok(meta(Kind::Dir, 0)),
            Some(Node::Link) => Ok(meta(Kind::Symlink, 0)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, path: &RelPath) -> io::Result<Vec<(Vec<u8>, Option<Kind>)>> {
        let nodes = self.0.lock().unwrap();
        let below = nodes.iter().filter(|(at, _)| at.parent().as_ref() == Some(path));
        Ok(below
            .rev()
            .map(|(at, node)| {
                let kind = match node {
                    Node::Dir => Some(Kind::Dir),
                    Node::Link => Some(Kind::Symlink),
                    Node::File(_) => None,
                };
                (at.name().unwrap().to_vec(), kind)
            })
            .collect())
    }

    fn open(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        self.open_rw(path)
    }

    fn open_rw(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        Ok(self.file(path).ok_or(io::ErrorKind::NotFound)?)
    }

    fn create(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        let file = Arc::new(MemFile::default());
        self.make(path, Node::File(Arc::clone(&file)))?;
        Ok(file)
    }

    fn mkdir(&self, path: &RelPath) -> io::Result<()> {
        self.make(path, Node::Dir)
    }

    fn symlink(&self, _: &[u8], path: &RelPath) -> io::Result<()> {
        self.make(path, Node::Link)
    }

    fn read_link(&self, _: &RelPath) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rename(&self, _: &RelPath, _: &RelPath, _: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unlink(&self, path: &RelPath) -> io::Result<()> {
        let removed = self.0.lock().unwrap().remove(path);
        removed.map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn rmdir(&self, _: &RelPath) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_meta(&self, _: &RelPath, _: u32, _: FileTime) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_dir(&self, _: &RelPath) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

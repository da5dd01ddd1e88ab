//! A tree in memory for the tests here: its files can be damaged, fail, and lose power.

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

#[derive(Clone)]
enum Op {
    Len(u64),
    Write(u64, Vec<u8>),
}

#[derive(Default)]
struct Disk {
    live: Vec<u8>,
    /// What a power loss leaves of it for certain.
    durable: Vec<u8>,
    /// Operations since the last sync.
    pending: Vec<Op>,
    /// Calls to let through before one fails, and how.
    fail: Option<(usize, io::ErrorKind)>,
    calls: usize,
}

impl Disk {
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
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

fn apply(content: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Len(len) => content.resize(*len as usize, 0),
        Op::Write(offset, data) => {
            let start = *offset as usize;
            let end = start + data.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[start..end].copy_from_slice(data);
        }
    }
}

#[derive(Default)]
pub(super) struct MemFile(Mutex<Disk>);

impl MemFile {
    pub(super) fn content(&self) -> Vec<u8> {
        self.0.lock().unwrap().live.clone()
    }

    /// Replaces the content behind the back of whoever has the file open.
    pub(super) fn put(&self, content: Vec<u8>) {
        let mut disk = self.0.lock().unwrap();
        disk.pending.clear();
        disk.durable.clone_from(&content);
        disk.live = content;
    }

    /// Lets `calls` calls pass and fails the one after them.
    pub(super) fn fail_after(&self, calls: usize, kind: io::ErrorKind) {
        self.0.lock().unwrap().fail = Some((calls, kind));
    }

    pub(super) fn mend(&self) {
        self.0.lock().unwrap().fail = None;
    }

    pub(super) fn calls(&self) -> usize {
        self.0.lock().unwrap().calls
    }

    /// What a power loss now could leave: the synced content and any part of what came after,
    /// torn at sectors.
    pub(super) fn after_power_loss(&self, chance: &mut Chance) -> Vec<u8> {
        const SECTOR: usize = 512;
        let disk = self.0.lock().unwrap();
        let mut content = disk.durable.clone();
        for op in &disk.pending {
            match op {
                Op::Len(_) if chance.below(2) == 0 => apply(&mut content, op),
                Op::Write(offset, data) if chance.below(4) > 0 => {
                    let whole = chance.below(2) == 0;
                    let mut at = 0;
                    while at < data.len() {
                        let sector = SECTOR - (*offset as usize + at) % SECTOR;
                        let end = data.len().min(at + sector);
                        if whole || chance.below(2) == 0 {
                            apply(
                                &mut content,
                                &Op::Write(offset + at as u64, data[at..end].into()),
                            );
                        }
                        at = end;
                    }
                }
                _ => {}
            }
        }
        content
    }

    fn change(&self, op: Op) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.call()?;
        apply(&mut disk.live, &op);
        disk.pending.push(op);
        Ok(())
    }
}

impl File for MemFile {
    fn meta(&self) -> io::Result<Meta> {
        let mut disk = self.0.lock().unwrap();
        disk.call()?;
        Ok(meta(Kind::File, disk.live.len() as u64))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.0.lock().unwrap();
        disk.call()?;
        let from = disk.live.get(offset as usize..).unwrap_or_default();
        let len = from.len().min(buf.len());
        buf[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.change(Op::Write(offset, buf.to_vec()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Op::Len(len))
    }

    fn set_meta(&self, _: u32, _: FileTime) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.call()?;
        for op in std::mem::take(&mut disk.pending) {
            apply(&mut disk.durable, &op);
        }
        Ok(())
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

//! What the tree remembers: inodes with a live and a durable side, and what lies between them.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;

use super::content::{Content, PAGE_BYTES};
use super::faults::Faults;
use super::names::{Key, NameOp};
use crate::base::{FileTime, RelPath};
use crate::storage::{Kind, Meta};

pub(super) type Result<T> = std::result::Result<T, Errno>;
pub(super) type Names = BTreeMap<Vec<u8>, u64>;

pub(super) const ROOT: u64 = 1;
/// Device number of the tree itself.
pub(super) const DEV: u64 = 1;
/// Seconds since the epoch at which the tree's own clock starts.
const CLOCK_START_SECS: i64 = 1_700_000_000;

/// Mode, label and times, durable together.
#[derive(Clone)]
pub(super) struct Attr {
    pub(super) mode: u32,
    pub(super) label: Option<Vec<u8>>,
    pub(super) mtime: FileTime,
    pub(super) ctime: FileTime,
}

/// A change of a file's content that no sync has covered.
pub(super) enum FileOp {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
}

pub(super) enum Body {
    File { live: Content, durable: Content, pending: Vec<FileOp> },
    Dir { live: Names, durable: Names },
    Link(Vec<u8>),
    Special(Kind),
}

pub(super) struct Inode {
    pub(super) dev: u64,
    /// It is somebody else's.
    pub(super) foreign: bool,
    pub(super) attr: Attr,
    pub(super) durable_attr: Attr,
    pub(super) body: Body,
    pub(super) bytes_read: u64,
    /// Open files.
    pub(super) handles: u32,
    /// Whether it has a name in the live tree.
    pub(super) named: bool,
    /// Names that it has beyond the first.
    pub(super) more_names: u32,
}

impl Inode {
    pub(super) fn kind(&self) -> Kind {
        match self.body {
            Body::File { .. } => Kind::File,
            Body::Dir { .. } => Kind::Dir,
            Body::Link(_) => Kind::Symlink,
            Body::Special(kind) => kind,
        }
    }

    fn pages(&self) -> u64 {
        if let Body::File { live, .. } = &self.body { live.pages() } else { 0 }
    }
}

pub(super) struct State {
    pub(super) seed: u64,
    pub(super) inodes: BTreeMap<u64, Inode>,
    /// Name operations that are not durable, in order.
    pub(super) log: Vec<NameOp>,
    /// Inodes whose content or attributes are not durable.
    pub(super) dirty: BTreeSet<u64>,
    /// Inodes that lost their last name and may be forgotten once nothing can bring it back.
    pub(super) orphans: Vec<u64>,
    pub(super) faults: Faults,
    /// Counts crashes; files opened before the last one are dead.
    pub(super) boots: u64,
    pub(super) capacity_pages: Option<u64>,
    pub(super) used_pages: u64,
    /// Whether files and directories can have labels.
    pub(super) labels: bool,
    ticks: u64,
    next_ino: u64,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        let mut state = Self {
            seed,
            inodes: BTreeMap::new(),
            log: Vec::new(),
            dirty: BTreeSet::new(),
            orphans: Vec::new(),
            faults: Faults::default(),
            boots: 0,
            capacity_pages: None,
            used_pages: 0,
            labels: true,
            ticks: 0,
            next_ino: ROOT,
        };
        state.new_inode(Body::Dir { live: Names::new(), durable: Names::new() }, 0o700, DEV);
        state.dirty.clear();
        state
    }

    /// The time, which moves by a microsecond with every change.
    pub(super) fn tick(&mut self) -> FileTime {
        self.ticks += 1;
        FileTime {
            secs: CLOCK_START_SECS + (self.ticks / 1_000_000).cast_signed(),
            nanos: (self.ticks % 1_000_000) as u32 * 1000,
        }
    }

    pub(super) fn new_inode(&mut self, body: Body, mode: u32, dev: u64) -> u64 {
        let now = self.tick();
        let ino = self.next_ino;
        self.next_ino += 1;
        let attr = Attr { mode, label: None, mtime: now, ctime: now };
        let inode = Inode {
            dev,
            foreign: false,
            durable_attr: attr.clone(),
            attr,
            body,
            bytes_read: 0,
            handles: 0,
            named: true,
            more_names: 0,
        };
        self.inodes.insert(ino, inode);
        ino
    }

    pub(super) fn inode(&self, ino: u64) -> Result<&Inode> {
        self.inodes.get(&ino).ok_or(Errno::NOENT)
    }

    pub(super) fn inode_mut(&mut self, ino: u64) -> Result<&mut Inode> {
        self.inodes.get_mut(&ino).ok_or(Errno::NOENT)
    }

    pub(super) fn names(&self, dir: u64) -> Result<&Names> {
        match &self.inode(dir)?.body {
            Body::Dir { live, .. } => Ok(live),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn names_mut(&mut self, dir: u64) -> Result<&mut Names> {
        match &mut self.inode_mut(dir)?.body {
            Body::Dir { live, .. } => Ok(live),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// The inodes from the root down to `path`, both ends included.
    fn chain(&self, path: &RelPath) -> Result<Vec<u64>> {
        let mut chain = vec![ROOT];
        let mut at = ROOT;
        for name in path.components() {
            at = *self.names(at)?.get(name).ok_or(Errno::NOENT)?;
            chain.push(at);
        }
        Ok(chain)
    }

    pub(super) fn find(&self, path: &RelPath) -> Result<u64> {
        Ok(self.chain(path)?.last().copied().unwrap_or(ROOT))
    }

    /// The place of `path` in its parent, which must be a directory, and the directories down to
    /// that parent. `at_root` is the error if it is the root.
    pub(super) fn place(&self, path: &RelPath, at_root: Errno) -> Result<(Key, Vec<u64>)> {
        let (parent, name) = path.parent().zip(path.name()).ok_or(at_root)?;
        let chain = self.chain(&parent)?;
        let dir = chain.last().copied().unwrap_or(ROOT);
        self.names(dir)?;
        Ok(((dir, name.to_vec()), chain))
    }

    pub(super) fn named(&self, (dir, name): &Key) -> Result<u64> {
        self.names(*dir)?.get(name).copied().ok_or(Errno::NOENT)
    }

    /// Gives a new inode the name `path`.
    pub(super) fn make(&mut self, path: &RelPath, body: Body, mode: u32) -> Result<u64> {
        let (key, _) = self.place(path, Errno::EXIST)?;
        if self.named(&key).is_ok() {
            return Err(Errno::EXIST);
        }
        let dev = self.inode(key.0)?.dev;
        let ino = self.new_inode(body, mode, dev);
        self.change(NameOp {
            remove: None,
            add: Some(key),
            ino,
            ends: None,
            moves_dir: false,
            under: Vec::new(),
        })?;
        Ok(ino)
    }

    /// Carries a name operation out in the live tree and logs it.
    pub(super) fn change(&mut self, op: NameOp) -> Result<()> {
        self.refuse_foreign(&op)?;
        let now = self.tick();
        let mut lost = None;
        if let Some((dir, name)) = &op.remove {
            lost = self.names_mut(*dir)?.remove(name).filter(|_| op.add.is_none());
            self.touch(*dir, now)?;
        }
        if let Some((dir, name)) = &op.add {
            lost = self.names_mut(*dir)?.insert(name.clone(), op.ino);
            self.touch(*dir, now)?;
        }
        if op.remove.is_some() {
            self.inode_mut(op.ino)?.attr.ctime = now;
            self.dirty.insert(op.ino);
        }
        self.log.push(op);
        if let Some(ino) = lost {
            let inode = self.inode_mut(ino)?;
            if inode.more_names > 0 {
                inode.more_names -= 1;
                return Ok(());
            }
            inode.named = false;
            self.orphans.push(ino);
            self.release(ino);
        }
        Ok(())
    }

    fn touch(&mut self, dir: u64, now: FileTime) -> Result<()> {
        let attr = &mut self.inode_mut(dir)?.attr;
        (attr.mtime, attr.ctime) = (now, now);
        self.dirty.insert(dir);
        Ok(())
    }

    /// Gives back the space of a file that has neither a name nor a handle left.
    pub(super) fn release(&mut self, ino: u64) {
        let Some(inode) = self.inodes.get_mut(&ino) else { return };
        if inode.named || inode.handles > 0 {
            return;
        }
        self.used_pages = self.used_pages.saturating_sub(inode.pages());
        if let Body::File { live, .. } = &mut inode.body {
            *live = Content::default();
        }
    }

    /// Forgets inodes that no durable name can bring back.
    pub(super) fn forget_orphans(&mut self) {
        if !self.log.is_empty() {
            return;
        }
        let inodes = &mut self.inodes;
        let dirty = &mut self.dirty;
        self.orphans.retain(|ino| {
            let in_use = inodes.get(ino).is_some_and(|inode| inode.handles > 0);
            if !in_use {
                inodes.remove(ino);
                dirty.remove(ino);
            }
            in_use
        });
    }

    /// Makes name operations durable, in order.
    pub(super) fn apply(&mut self, ops: Vec<NameOp>) {
        for op in ops {
            if let Some((dir, name)) = op.remove
                && let Some(names) = self.durable_names(dir)
            {
                names.remove(&name);
            }
            if let Some((dir, name)) = op.add
                && let Some(names) = self.durable_names(dir)
            {
                names.insert(name, op.ino);
            }
        }
    }

    fn durable_names(&mut self, dir: u64) -> Option<&mut Names> {
        match &mut self.inodes.get_mut(&dir)?.body {
            Body::Dir { durable, .. } => Some(durable),
            _ => None,
        }
    }

    /// Makes an inode's content and attributes durable.
    pub(super) fn settle(&mut self, ino: u64) {
        self.dirty.remove(&ino);
        let Some(inode) = self.inodes.get_mut(&ino) else { return };
        inode.durable_attr = inode.attr.clone();
        if let Body::File { durable, pending, .. } = &mut inode.body {
            for op in pending.drain(..) {
                match op {
                    FileOp::Write { offset, data } => durable.write(&data, offset),
                    FileOp::SetLen(len) => durable.set_len(len),
                }
            }
        }
    }

    /// What a failed sync does: what was not durable counts as clean and never will be.
    pub(super) fn lose(&mut self, ino: u64) {
        self.dirty.remove(&ino);
        if let Some(Inode { body: Body::File { pending, .. }, .. }) = self.inodes.get_mut(&ino) {
            pending.clear();
        }
    }

    pub(super) fn meta(&self, ino: u64) -> Result<Meta> {
        let inode = self.inode(ino)?;
        let len = match &inode.body {
            Body::File { live, .. } => live.len(),
            Body::Link(text) => text.len() as u64,
            Body::Dir { .. } | Body::Special(_) => 0,
        };
        Ok(Meta {
            kind: inode.kind(),
            len,
            allocated: inode.pages() * PAGE_BYTES,
            mode: inode.attr.mode,
            mtime: inode.attr.mtime,
            ctime: inode.attr.ctime,
            dev: inode.dev,
            ino,
        })
    }

    /// Sets mode and time of anything but a special file; a symbolic link takes the time only.
    pub(super) fn set_meta(&mut self, ino: u64, mode: u32, mtime: FileTime) -> Result<()> {
        let now = self.tick();
        let inode = self.inode_mut(ino)?;
        if inode.foreign {
            return Err(Errno::PERM);
        }
        match inode.body {
            Body::Special(_) => return Err(Errno::OPNOTSUPP),
            Body::Link(_) => {}
            Body::File { .. } | Body::Dir { .. } => inode.attr.mode = mode & 0o7777,
        }
        inode.attr.mtime = mtime;
        inode.attr.ctime = now;
        self.dirty.insert(ino);
        Ok(())
    }

    /// Gives a file or directory a label.
    pub(super) fn set_label(&mut self, ino: u64, label: &[u8]) -> Result<()> {
        if !self.labels {
            return Err(Errno::NOTSUP);
        }
        let now = self.tick();
        let inode = self.inode_mut(ino)?;
        if !matches!(inode.body, Body::File { .. } | Body::Dir { .. }) {
            return Err(Errno::PERM);
        }
        inode.attr.label = Some(label.to_vec());
        inode.attr.ctime = now;
        self.dirty.insert(ino);
        Ok(())
    }

    pub(super) fn free_pages(&self) -> u64 {
        // A tree without a limit still tells a number, as a large disk would.
        self.capacity_pages.map_or(1 << 30, |pages| pages.saturating_sub(self.used_pages))
    }
}

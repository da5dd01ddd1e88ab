//! A tree in memory that is fake and cruel, for the simulation and for tests.
//!
//! It keeps a live image, which calls see, and a durable image, which a power loss leaves. What
//! POSIX does not promise to be durable may be lost: content until a sync of the file or of all,
//! names until a sync of their directory or of all. Everything follows from seeds and from the
//! calls, nothing from time or memory addresses.

mod content;
mod crash;
mod faults;
mod file;
mod names;
mod owner;
mod rng;
mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use self::content::{Content, PAGE_BYTES};
pub use self::faults::{Fault, Op};
use self::file::MemoryFile;
use self::names::NameOp;
use self::state::{Body, DEV, Names, State};
use super::{File, Kind, Meta, NotAFile, Tree};
use crate::base::limits::LINK_BYTES_MAX;
use crate::base::{FileTime, RelPath};

/// The tree. Clones share it, and it outlives crashes; open files do not.
#[derive(Clone)]
pub struct MemoryTree(Arc<Mutex<State>>);

impl MemoryTree {
    /// An empty tree. The seed decides in which order names are listed, and for which the listing
    /// does not tell the kind.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State::new(seed))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless a fault is due at `op`.
    fn enter(&self, op: Op) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.faults.meet(op)?;
        Ok(state)
    }

    /// Power loss and restart. What was not durable survives in part, as `seed` says; all open
    /// files fail with `EIO` from now on, and faults that are still to come are forgotten.
    ///
    /// Of a file's writes and changes of length any subset or the first few survive, writes torn
    /// at 512 bytes; its mode and times survive apart from its content. Of the name operations any
    /// subset survives that does not contradict itself; a rename has happened or has not.
    pub fn crash(&self, seed: u64) {
        crash::crash(&mut self.state(), seed);
    }

    /// Makes a call fail that is still to come.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.add(fault);
    }

    /// Limits content to this many bytes, in pages of 4 KiB; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity_pages = bytes.map(|bytes| bytes / PAGE_BYTES);
    }

    /// From now on files and directories cannot get labels, as on a file system without attributes.
    pub fn refuse_labels(&self) {
        self.state().labels = false;
    }

    /// Bytes of content that were read from the file that is now at `path`, by all handles.
    ///
    /// # Errors
    /// Those of looking `path` up.
    pub fn bytes_read(&self, path: &RelPath) -> io::Result<u64> {
        let state = self.state();
        Ok(state.inode(state.find(path)?)?.bytes_read)
    }

    /// Flips one bit of the byte at `offset`, on the medium too, without a trace in the times.
    ///
    /// # Errors
    /// Those of looking `path` up, and `InvalidInput` if no byte of a file is there.
    pub fn flip(&self, path: &RelPath, offset: u64) -> io::Result<()> {
        let mut state = self.state();
        let ino = state.find(path)?;
        match &mut state.inode_mut(ino)?.body {
            Body::File { live, durable, .. } if offset < live.len() => {
                live.flip(offset);
                durable.flip(offset);
                Ok(())
            }
            _ => Err(Errno::INVAL.into()),
        }
    }

    /// Places a FIFO, socket or device.
    ///
    /// # Errors
    /// Those of `create`, and `InvalidInput` for another kind.
    pub fn place_special(&self, path: &RelPath, kind: Kind) -> io::Result<()> {
        match kind {
            Kind::Fifo | Kind::Socket | Kind::Device => {
                self.state().make(path, Body::Special(kind), 0o600)?;
                Ok(())
            }
            Kind::File | Kind::Dir | Kind::Symlink => Err(Errno::INVAL.into()),
        }
    }

    /// Places an empty directory on a device of its own, as a mounted file system shows.
    ///
    /// # Errors
    /// Those of `mkdir`.
    pub fn place_mount(&self, path: &RelPath) -> io::Result<()> {
        let mut state = self.state();
        let ino = state.make(path, new_dir(), 0o700)?;
        state.inode_mut(ino)?.dev = DEV + ino;
        Ok(())
    }

    /// Gives the file at `from` another name, `to`.
    ///
    /// # Errors
    /// Those of looking the two up; `PermissionDenied` for a directory, `AlreadyExists` for a name that is
    /// there.
    pub fn link(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        let mut state = self.state();
        let ino = state.find(from)?;
        if state.inode(ino)?.kind() == Kind::Dir {
            return Err(Errno::PERM.into());
        }
        let (key, under) = state.place(to, Errno::EXIST)?;
        if state.named(&key).is_ok() {
            return Err(Errno::EXIST.into());
        }
        state.inode_mut(ino)?.more_names += 1;
        let (remove, ends, moves_dir) = (None, None, false);
        Ok(state.change(NameOp { remove, add: Some(key), ino, ends, moves_dir, under })?)
    }

    fn open_file(&self, path: &RelPath, writable: bool) -> io::Result<Arc<dyn File>> {
        let mut state = self.enter(Op::Open)?;
        let ino = state.find(path)?;
        let kind = state.inode(ino)?.kind();
        if kind != Kind::File {
            return Err(NotAFile { kind }.into());
        }
        Ok(Arc::new(MemoryFile::new(&self.0, &mut state, ino, writable)))
    }
}

fn new_dir() -> Body {
    Body::Dir { live: Names::new(), durable: Names::new() }
}

fn new_file() -> Body {
    Body::File { live: Content::default(), durable: Content::default(), pending: Vec::new() }
}

impl Tree for MemoryTree {
    fn meta(&self, path: &RelPath) -> io::Result<Meta> {
        let state = self.enter(Op::Meta)?;
        Ok(state.meta(state.find(path)?)?)
    }

    fn list(&self, path: &RelPath) -> io::Result<Vec<(Vec<u8>, Option<Kind>)>> {
        let state = self.enter(Op::List)?;
        let mut shuffled = Vec::new();
        for (name, &ino) in state.names(state.find(path)?)? {
            let key = rng::mix(state.seed ^ rng::mix(ino));
            let kind = if key.is_multiple_of(4) { None } else { Some(state.inode(ino)?.kind()) };
            shuffled.push((key, (name.clone(), kind)));
        }
        shuffled.sort_unstable_by_key(|(key, _)| *key);
        Ok(shuffled.into_iter().map(|(_, entry)| entry).collect())
    }

    fn open(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        self.open_file(path, false)
    }

    fn open_rw(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        self.open_file(path, true)
    }

    fn create(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        let mut state = self.enter(Op::Create)?;
        let ino = state.make(path, new_file(), 0o600)?;
        Ok(Arc::new(MemoryFile::new(&self.0, &mut state, ino, true)))
    }

    fn mkdir(&self, path: &RelPath) -> io::Result<()> {
        self.enter(Op::Mkdir)?.make(path, new_dir(), 0o700)?;
        Ok(())
    }

    fn symlink(&self, target: &[u8], path: &RelPath) -> io::Result<()> {
        let mut state = self.enter(Op::Symlink)?;
        if target.is_empty() {
            return Err(Errno::NOENT.into());
        }
        if target.contains(&0) {
            return Err(Errno::INVAL.into());
        }
        if target.len() >= LINK_BYTES_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        state.make(path, Body::Link(target.to_vec()), 0o777)?;
        Ok(())
    }

    fn read_link(&self, path: &RelPath) -> io::Result<Vec<u8>> {
        let state = self.enter(Op::ReadLink)?;
        match &state.inode(state.find(path)?)?.body {
            Body::Link(text) => Ok(text.clone()),
            _ => Err(Errno::INVAL.into()),
        }
    }

    fn rename(&self, from: &RelPath, to: &RelPath, replace: bool) -> io::Result<()> {
        let mut state = self.enter(Op::Rename)?;
        Ok(rename(&mut state, from, to, replace)?)
    }

    fn unlink(&self, path: &RelPath) -> io::Result<()> {
        let mut state = self.enter(Op::Unlink)?;
        let (key, _) = state.place(path, Errno::ISDIR)?;
        let ino = state.named(&key)?;
        if state.inode(ino)?.kind() == Kind::Dir {
            return Err(Errno::ISDIR.into());
        }
        Ok(state.change(removal(key, ino, None))?)
    }

    fn rmdir(&self, path: &RelPath) -> io::Result<()> {
        let mut state = self.enter(Op::Rmdir)?;
        let (key, _) = state.place(path, Errno::BUSY)?;
        let ino = state.named(&key)?;
        if !state.names(ino)?.is_empty() {
            return Err(Errno::NOTEMPTY.into());
        }
        Ok(state.change(removal(key, ino, Some(ino)))?)
    }

    fn set_meta(&self, path: &RelPath, mode: u32, mtime: FileTime) -> io::Result<()> {
        let mut state = self.enter(Op::SetMeta)?;
        let ino = state.find(path)?;
        Ok(state.set_meta(ino, mode, mtime)?)
    }

    fn label(&self, path: &RelPath) -> io::Result<Option<Vec<u8>>> {
        let state = self.state();
        Ok(state.inode(state.find(path)?)?.attr.label.clone())
    }

    fn set_label(&self, path: &RelPath, label: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let ino = state.find(path)?;
        Ok(state.set_label(ino, label)?)
    }

    fn may_write(&self, path: &RelPath) -> io::Result<bool> {
        let state = self.state();
        Ok(state.may_write(state.find(path)?)?)
    }

    fn owns(&self, path: &RelPath) -> io::Result<bool> {
        let state = self.state();
        Ok(!state.inode(state.find(path)?)?.foreign)
    }

    /// If a fault is due, the names stay as they are, not durable.
    fn sync_dir(&self, path: &RelPath) -> io::Result<()> {
        let mut state = self.enter(Op::SyncDir)?;
        let dir = state.find(path)?;
        state.names(dir)?;
        let ops = names::take_synced(&mut state.log, dir);
        state.apply(ops);
        state.settle(dir);
        state.forget_orphans();
        Ok(())
    }

    /// If a fault is due, the content of every file that was not durable is lost for good, and
    /// names stay as they are, not durable; the next call succeeds.
    fn sync_all(&self) -> io::Result<()> {
        let mut state = self.state();
        let met = state.faults.meet(Op::SyncAll);
        for ino in std::mem::take(&mut state.dirty) {
            if met.is_ok() { state.settle(ino) } else { state.lose(ino) }
        }
        met?;
        let ops = std::mem::take(&mut state.log);
        state.apply(ops);
        state.forget_orphans();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.enter(Op::FreeBytes)?.free_pages() * PAGE_BYTES)
    }
}

fn removal(key: names::Key, ino: u64, ends: Option<u64>) -> NameOp {
    NameOp { remove: Some(key), add: None, ino, ends, moves_dir: false, under: Vec::new() }
}

fn rename(state: &mut State, from: &RelPath, to: &RelPath, replace: bool) -> state::Result<()> {
    let (from_key, _) = state.place(from, Errno::BUSY)?;
    let at_root = if replace { Errno::BUSY } else { Errno::EXIST };
    let (to_key, under) = state.place(to, at_root)?;
    let ino = state.named(&from_key)?;
    let is_dir = state.inode(ino)?.kind() == Kind::Dir;
    let mut ends = None;
    if let Ok(there) = state.named(&to_key) {
        if !replace {
            return Err(Errno::EXIST);
        }
        if there == ino {
            return Ok(());
        }
        match (is_dir, state.names(there)) {
            (true, Err(_)) => return Err(Errno::NOTDIR),
            (false, Ok(_)) => return Err(Errno::ISDIR),
            (true, Ok(names)) if !names.is_empty() => return Err(Errno::NOTEMPTY),
            (true, Ok(_)) => ends = Some(there),
            (false, Err(_)) => {}
        }
    }
    if under.contains(&ino) {
        return Err(Errno::INVAL);
    }
    if state.inode(from_key.0)?.dev != state.inode(to_key.0)?.dev {
        return Err(Errno::XDEV);
    }
    let moves_dir = is_dir && from_key.0 != to_key.0;
    state.change(NameOp { remove: Some(from_key), add: Some(to_key), ino, ends, moves_dir, under })
}

//! An open file of the tree in memory.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::content::PAGE_BYTES;
use super::faults::Op;
use super::state::{Body, FileOp, Inode, Result, State};
use crate::base::limits::OBJECT_BYTES_MAX;
use crate::base::{Extent, FileTime};
use crate::storage::{File, Meta};

pub(super) struct MemoryFile {
    state: Arc<Mutex<State>>,
    ino: u64,
    boots: u64,
    writable: bool,
}

impl MemoryFile {
    /// A handle of `ino`, which is a file of `state`.
    pub(super) fn new(shared: &Arc<Mutex<State>>, state: &mut State, ino: u64, rw: bool) -> Self {
        if let Some(inode) = state.inodes.get_mut(&ino) {
            inode.handles += 1;
        }
        Self { state: Arc::clone(shared), ino, boots: state.boots, writable: rw }
    }

    /// The state, if the power did not fail since this was opened.
    fn alive(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.boots == self.boots { Ok(state) } else { Err(Errno::IO) }
    }

    fn writable(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.alive()?;
        if self.writable { Ok(state) } else { Err(Errno::BADF) }
    }

    fn try_write(&self, buf: &[u8], offset: u64) -> Result<()> {
        let mut state = self.writable()?;
        let end = offset.checked_add(buf.len() as u64).ok_or(Errno::INVAL)?;
        if end > OBJECT_BYTES_MAX {
            return Err(Errno::FBIG);
        }
        match state.faults.meet(Op::Write) {
            Ok(()) => write(&mut state, self.ino, buf, offset),
            Err(errno) => {
                write(&mut state, self.ino, &buf[..buf.len() / 2], offset)?;
                Err(errno)
            }
        }
    }

    fn try_set_len(&self, len: u64) -> Result<()> {
        let mut state = self.writable()?;
        state.faults.meet(Op::SetLen)?;
        if len > OBJECT_BYTES_MAX {
            return Err(Errno::FBIG);
        }
        let now = state.tick();
        let inode = state.inode_mut(self.ino)?;
        let Body::File { live, pending, .. } = &mut inode.body else { return Err(Errno::BADF) };
        let before = live.pages();
        live.set_len(len);
        pending.push(FileOp::SetLen(len));
        let freed = before - live.pages();
        (inode.attr.mtime, inode.attr.ctime) = (now, now);
        state.used_pages = state.used_pages.saturating_sub(freed);
        state.dirty.insert(self.ino);
        Ok(())
    }
}

/// Writes what there is room for; `NOSPC` if that is not all.
fn write(state: &mut State, ino: u64, buf: &[u8], offset: u64) -> Result<()> {
    if buf.is_empty() {
        return Ok(());
    }
    let free = state.free_pages();
    let now = state.tick();
    let inode = state.inode_mut(ino)?;
    let Body::File { live, pending, .. } = &mut inode.body else { return Err(Errno::BADF) };
    let mut fits = buf.len();
    while live.pages_missing(offset, fits) > free {
        // Up to the start of the last page touched.
        let end = (offset + fits as u64 - 1) / PAGE_BYTES * PAGE_BYTES;
        fits = end.saturating_sub(offset) as usize;
    }
    if fits > 0 {
        let before = live.pages();
        live.write(&buf[..fits], offset);
        pending.push(FileOp::Write { offset, data: buf[..fits].to_vec() });
        let gained = live.pages() - before;
        (inode.attr.mtime, inode.attr.ctime) = (now, now);
        state.used_pages += gained;
        state.dirty.insert(ino);
    }
    if fits == buf.len() { Ok(()) } else { Err(Errno::NOSPC) }
}

/// Makes content and attributes durable, or loses them for good if a fault is due.
fn sync(state: &mut State, ino: u64) -> Result<()> {
    let met = state.faults.meet(Op::Sync);
    match met {
        Ok(()) => state.settle(ino),
        Err(_) => state.lose(ino),
    }
    met
}

impl File for MemoryFile {
    fn meta(&self) -> io::Result<Meta> {
        let mut state = self.alive()?;
        state.faults.meet(Op::Meta)?;
        Ok(state.meta(self.ino)?)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.alive()?;
        state.faults.meet(Op::Read)?;
        let inode = state.inode_mut(self.ino)?;
        let Body::File { live, .. } = &inode.body else { return Err(Errno::BADF.into()) };
        let read = live.read(buf, offset);
        inode.bytes_read += read as u64;
        Ok(read)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        Ok(self.try_write(buf, offset)?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Ok(self.try_set_len(len)?)
    }

    fn set_meta(&self, mode: u32, mtime: FileTime) -> io::Result<()> {
        let mut state = self.alive()?;
        state.faults.meet(Op::SetMeta)?;
        Ok(state.set_meta(self.ino, mode, mtime)?)
    }

    fn label(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.alive()?.inode(self.ino)?.attr.label.clone())
    }

    fn set_label(&self, label: &[u8]) -> io::Result<()> {
        Ok(self.alive()?.set_label(self.ino, label)?)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(sync(&mut *self.alive()?, self.ino)?)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Extent>> {
        let state = self.alive()?;
        match &state.inode(self.ino)?.body {
            Body::File { live, .. } => Ok(live.next_data(offset)),
            _ => Err(Errno::BADF.into()),
        }
    }

    /// Shows what a failed sync had lost: from here on, the durable content is read.
    fn drop_cache(&self) -> io::Result<()> {
        let mut state = self.alive()?;
        sync(&mut state, self.ino)?;
        let inode = state.inode_mut(self.ino)?;
        let Inode { body: Body::File { live, durable, .. }, .. } = inode else {
            return Err(Errno::BADF.into());
        };
        let (before, after) = (live.pages(), durable.pages());
        *live = durable.clone();
        state.used_pages = (state.used_pages + after).saturating_sub(before);
        Ok(())
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        if let Ok(mut state) = self.alive() {
            if let Some(inode) = state.inodes.get_mut(&self.ino) {
                inode.handles = inode.handles.saturating_sub(1);
            }
            state.release(self.ino);
        }
    }
}

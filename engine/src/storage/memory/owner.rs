//! What is somebody else's: as to a process without privileges, its mode for all others counts.

use std::io;

use rustix::io::Errno;

use super::MemoryTree;
use super::names::NameOp;
use super::state::{Result, State};
use crate::base::RelPath;

/// Anyone may write.
const OTHERS_WRITE: u32 = 0o003;
/// Only what is one's own may be replaced or removed.
const STICKY: u32 = 0o1000;

impl MemoryTree {
    /// Makes what is at `path` somebody else's, with this mode.
    ///
    /// # Errors
    /// Those of looking `path` up.
    pub fn give_away(&self, path: &RelPath, mode: u32) -> io::Result<()> {
        let mut state = self.state();
        let ino = state.find(path)?;
        let inode = state.inode_mut(ino)?;
        inode.foreign = true;
        inode.attr.mode = mode;
        inode.durable_attr.mode = mode;
        Ok(())
    }
}

impl State {
    /// Whether names in a directory may be changed. What is one's own always may: tests of modes are
    /// those of a real tree.
    pub(super) fn may_write(&self, dir: u64) -> Result<bool> {
        let dir = self.inode(dir)?;
        Ok(!dir.foreign || dir.attr.mode & OTHERS_WRITE == OTHERS_WRITE)
    }

    /// Refuses a change of names in a directory of somebody else.
    pub(super) fn refuse_foreign(&self, op: &NameOp) -> Result<()> {
        for key in op.remove.iter().chain(&op.add) {
            if !self.may_write(key.0)? {
                return Err(Errno::ACCESS);
            }
            let dir = self.inode(key.0)?;
            let Ok(there) = self.named(key) else { continue };
            if dir.foreign && dir.attr.mode & STICKY != 0 && self.inode(there)?.foreign {
                return Err(Errno::PERM);
            }
        }
        Ok(())
    }
}

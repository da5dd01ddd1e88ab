//! Calls that are made to fail.

use rustix::io::Errno;

/// The calls of a tree and its files that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the call of the port of the same name")]
pub enum Op {
    Meta,
    List,
    Open,
    Create,
    Mkdir,
    Symlink,
    ReadLink,
    Rename,
    Unlink,
    Rmdir,
    SetMeta,
    SyncDir,
    SyncAll,
    FreeBytes,
    Read,
    /// Half of what was to be written is written before the error.
    Write,
    SetLen,
    /// What was not yet durable is lost for good, and the next sync succeeds.
    Sync,
}

/// One failure to come. It happens once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The call that fails.
    pub op: Op,
    /// How many such calls still succeed before.
    pub after: u32,
    /// The error.
    pub errno: Errno,
}

#[derive(Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts a call of `op`; an error if one was due.
    pub(super) fn meet(&mut self, op: Op) -> Result<(), Errno> {
        let due = self.0.iter().position(|fault| fault.op == op && fault.after == 0);
        for fault in self.0.iter_mut().filter(|fault| fault.op == op) {
            fault.after = fault.after.saturating_sub(1);
        }
        due.map_or(Ok(()), |at| Err(self.0.remove(at).errno))
    }
}

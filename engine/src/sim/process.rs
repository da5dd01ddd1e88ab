//! A tree as one process sees it: the process can be killed between any two calls, and calls can
//! be made to fail.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::base::{Extent, FileTime, RelPath};
use crate::storage::memory::{Fault, Op};
use crate::storage::{File, Kind, MemoryTree, Meta, Tree};

/// Something that happens between two calls of a process, to the tree that it works on.
pub(crate) type Hook = Box<dyn FnOnce(&MemoryTree) + Send>;

#[derive(Default)]
struct Fate {
    dead: bool,
    calls: u64,
    /// Calls that are still made before the process is killed.
    dies_in: Option<u64>,
    /// The same for calls that make something durable.
    dies_in_syncs: Option<u64>,
    faults: Vec<Fault>,
    met: u64,
    hook: Option<(u64, Hook)>,
    /// A name outside Portway's own directory changed since it was last asked.
    shown: bool,
}

/// What is to become of a process. Once it is dead each of its calls fails and does nothing.
#[derive(Default)]
pub(crate) struct Life(Mutex<Fate>);

impl Life {
    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.fate().dead
    }

    pub(super) fn kill(&self) {
        self.fate().dead = true;
    }

    /// Kills the process after `calls` more calls.
    pub(super) fn kill_in(&self, calls: u64) {
        self.fate().dies_in = Some(calls);
    }

    /// Kills the process just before it makes something durable for the `syncs`-th time from now.
    pub(super) fn kill_in_syncs(&self, syncs: u64) {
        self.fate().dies_in_syncs = Some(syncs);
    }

    pub(crate) fn add_fault(&self, fault: Fault) {
        self.fate().faults.push(fault);
    }

    /// Forgets faults that did not come; returns how many did.
    pub(crate) fn calm(&self) -> u64 {
        let mut fate = self.fate();
        fate.faults.clear();
        fate.hook = None;
        fate.dies_in = None;
        fate.dies_in_syncs = None;
        std::mem::take(&mut fate.met)
    }

    /// Faults that came so far.
    pub(super) fn met(&self) -> u64 {
        self.fate().met
    }

    pub(crate) fn hook_in(&self, calls: u64, hook: Hook) {
        self.fate().hook = Some((calls, hook));
    }

    /// Calls so far.
    pub(super) fn calls(&self) -> u64 {
        self.fate().calls
    }

    pub(super) fn take_shown(&self) -> bool {
        std::mem::take(&mut self.fate().shown)
    }

    fn show(&self, path: &RelPath) {
        if path.components().next() != Some(crate::runtime::OWN_DIR) {
            self.fate().shown = true;
        }
    }

    fn enter(&self, tree: &MemoryTree, op: Op) -> io::Result<()> {
        let (hook, fault) = {
            let mut fate = self.fate();
            let syncs = matches!(op, Op::Sync | Op::SyncAll | Op::SyncDir);
            if fate.dead || fate.dies_in == Some(0) || (syncs && fate.dies_in_syncs == Some(0)) {
                fate.dead = true;
                return Err(io::Error::other("the process was killed"));
            }
            fate.calls += 1;
            fate.dies_in = fate.dies_in.map(|calls| calls - 1);
            fate.dies_in_syncs = fate.dies_in_syncs.map(|left| left - u64::from(syncs));
            let due = fate.faults.iter().position(|f| f.op == op && f.after == 0);
            for fault in fate.faults.iter_mut().filter(|f| f.op == op) {
                fault.after = fault.after.saturating_sub(1);
            }
            let fault = due.map(|at| fate.faults.remove(at));
            fate.met += u64::from(fault.is_some());
            let hook = match &mut fate.hook {
                Some((0, _)) => fate.hook.take().map(|(_, hook)| hook),
                Some((calls, _)) => {
                    *calls -= 1;
                    None
                }
                None => None,
            };
            (hook, fault)
        };
        if let Some(hook) = hook {
            hook(tree);
        }
        // The very next call of this kind is ours, so the tree makes it fail as its kind fails.
        if let Some(fault) = fault {
            tree.inject(fault);
        }
        Ok(())
    }
}

/// The tree of a process.
#[derive(Clone)]
pub(crate) struct ProcessTree {
    pub(crate) tree: MemoryTree,
    pub(crate) life: Arc<Life>,
}

impl ProcessTree {
    fn enter(&self, op: Op) -> io::Result<&MemoryTree> {
        self.life.enter(&self.tree, op)?;
        Ok(&self.tree)
    }

    fn file(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(ProcessFile { file, of: self.clone() })
    }
}

impl Tree for ProcessTree {
    fn meta(&self, path: &RelPath) -> io::Result<Meta> {
        self.enter(Op::Meta)?.meta(path)
    }

    fn list(&self, path: &RelPath) -> io::Result<Vec<(Vec<u8>, Option<Kind>)>> {
        self.enter(Op::List)?.list(path)
    }

    fn open(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        Ok(self.file(self.enter(Op::Open)?.open(path)?))
    }

    fn open_rw(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        Ok(self.file(self.enter(Op::Open)?.open_rw(path)?))
    }

    fn create(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        self.life.show(path);
        Ok(self.file(self.enter(Op::Create)?.create(path)?))
    }

    fn mkdir(&self, path: &RelPath) -> io::Result<()> {
        self.life.show(path);
        self.enter(Op::Mkdir)?.mkdir(path)
    }

    fn symlink(&self, target: &[u8], path: &RelPath) -> io::Result<()> {
        self.life.show(path);
        self.enter(Op::Symlink)?.symlink(target, path)
    }

    fn read_link(&self, path: &RelPath) -> io::Result<Vec<u8>> {
        self.enter(Op::ReadLink)?.read_link(path)
    }

    fn rename(&self, from: &RelPath, to: &RelPath, replace: bool) -> io::Result<()> {
        self.life.show(from);
        self.life.show(to);
        self.enter(Op::Rename)?.rename(from, to, replace)
    }

    fn unlink(&self, path: &RelPath) -> io::Result<()> {
        self.life.show(path);
        self.enter(Op::Unlink)?.unlink(path)
    }

    fn rmdir(&self, path: &RelPath) -> io::Result<()> {
        self.life.show(path);
        self.enter(Op::Rmdir)?.rmdir(path)
    }

    fn set_meta(&self, path: &RelPath, mode: u32, mtime: FileTime) -> io::Result<()> {
        self.enter(Op::SetMeta)?.set_meta(path, mode, mtime)
    }

    fn label(&self, path: &RelPath) -> io::Result<Option<Vec<u8>>> {
        self.enter(Op::Meta)?.label(path)
    }

    fn set_label(&self, path: &RelPath, label: &[u8]) -> io::Result<()> {
        self.enter(Op::SetMeta)?.set_label(path, label)
    }

    fn sync_dir(&self, path: &RelPath) -> io::Result<()> {
        self.enter(Op::SyncDir)?.sync_dir(path)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.enter(Op::SyncAll)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.enter(Op::FreeBytes)?.free_bytes()
    }
}

struct ProcessFile {
    file: Arc<dyn File>,
    of: ProcessTree,
}

impl ProcessFile {
    fn enter(&self, op: Op) -> io::Result<&dyn File> {
        self.of.enter(op)?;
        Ok(&*self.file)
    }
}

impl File for ProcessFile {
    fn meta(&self) -> io::Result<Meta> {
        self.enter(Op::Meta)?.meta()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.enter(Op::Read)?.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.enter(Op::Write)?.write_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.enter(Op::SetLen)?.set_len(len)
    }

    fn set_meta(&self, mode: u32, mtime: FileTime) -> io::Result<()> {
        self.enter(Op::SetMeta)?.set_meta(mode, mtime)
    }

    fn label(&self) -> io::Result<Option<Vec<u8>>> {
        self.enter(Op::Meta)?.label()
    }

    fn set_label(&self, label: &[u8]) -> io::Result<()> {
        self.enter(Op::SetMeta)?.set_label(label)
    }

    fn sync(&self) -> io::Result<()> {
        self.enter(Op::Sync)?.sync()
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Extent>> {
        // The tree has no fault for this call: a dead process and one that reads on must differ.
        if self.of.life.is_dead() {
            return Err(Errno::IO.into());
        }
        self.file.next_data(offset)
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.enter(Op::Sync)?.drop_cache()
    }
}

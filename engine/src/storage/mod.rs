//! PORT: the file systems that objects are read from and written to.
//!
//! A [`Tree`] is one directory tree; every path given to it is relative and stays beneath its root
//! whatever symbolic links or races lie in wait. A [`File`] is an open regular file.
//!
//! Calls block; callers run them on threads made for that. Durability is explicit: nothing counts
//! as durable before the `sync` that covers it returned without error, and a failed sync is final
//! for the file (the kernel may have dropped the pages and will not report it again), so the data
//! has to be written anew to a new file.

pub mod memory;
mod os;
pub mod records;
#[cfg(test)]
mod tests;
pub mod uring;
mod walk;

use std::sync::Arc;
use std::{fmt, io};

use rustix::io::Errno;

use crate::base::{Extent, FileTime, RelPath};

pub use memory::MemoryTree;
pub use os::{Backend, Method, OsTree};
pub use walk::{SkipReason, Walk, WalkItem};

/// What a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A block or character device.
    Device,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "regular file",
            Self::Dir => "directory",
            Self::Symlink => "symbolic link",
            Self::Fifo => "FIFO",
            Self::Socket => "socket",
            Self::Device => "device",
        })
    }
}

/// Whether a call failed because this process, or the system, has no descriptor left.
pub fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// What was to be opened is not a regular file. As an `io::Error` its kind is `IsADirectory` for a
/// directory and `InvalidInput` for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a regular file but a {kind}")]
pub struct NotAFile {
    /// What it is.
    pub kind: Kind,
}

impl From<NotAFile> for io::Error {
    fn from(error: NotAFile) -> Self {
        let kind = match error.kind {
            Kind::Dir => io::ErrorKind::IsADirectory,
            _ => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

/// What `lstat` tells of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// What the entry is.
    pub kind: Kind,
    /// Content length in bytes.
    pub len: u64,
    /// Bytes that are allocated on the medium; below `len` the file has holes.
    pub allocated: u64,
    /// Permission bits (the low twelve bits of `st_mode`).
    pub mode: u32,
    /// Time of the last content change.
    pub mtime: FileTime,
    /// Time of the last inode change.
    pub ctime: FileTime,
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// A label that was looked for: the name of a class, `None` where there is none.
pub type ReadLabel = io::Result<Option<Vec<u8>>>;

/// A directory tree. Paths that name the root itself are allowed where that makes sense.
pub trait Tree: Send + Sync + 'static {
    /// `lstat`: never follows a link.
    fn meta(&self, path: &RelPath) -> io::Result<Meta>;
    /// Names below the directory `path`, in no order, without `.` and `..`.
    fn list(&self, path: &RelPath) -> io::Result<Vec<(Vec<u8>, Option<Kind>)>>;
    /// Opens a regular file for reading; anything else is an error and never blocks.
    fn open(&self, path: &RelPath) -> io::Result<Arc<dyn File>>;
    /// Opens an existing regular file for reading and writing.
    fn open_rw(&self, path: &RelPath) -> io::Result<Arc<dyn File>>;
    /// Makes a new regular file for reading and writing, mode 0600; fails if the name exists.
    fn create(&self, path: &RelPath) -> io::Result<Arc<dyn File>>;
    /// Makes a directory, mode 0700; fails if the name exists.
    fn mkdir(&self, path: &RelPath) -> io::Result<()>;
    /// Makes a symbolic link at `path` whose text is `target`; fails if the name exists.
    fn symlink(&self, target: &[u8], path: &RelPath) -> io::Result<()>;
    /// The text of the symbolic link at `path`.
    fn read_link(&self, path: &RelPath) -> io::Result<Vec<u8>>;
    /// Renames; with `replace` an existing file or empty directory at `to` gives way, without it
    /// an existing name is the error `AlreadyExists`, decided atomically.
    fn rename(&self, from: &RelPath, to: &RelPath, replace: bool) -> io::Result<()>;
    /// Removes a file or symbolic link.
    fn unlink(&self, path: &RelPath) -> io::Result<()>;
    /// Removes an empty directory.
    fn rmdir(&self, path: &RelPath) -> io::Result<()>;
    /// Sets permission bits and modification time, without following a link. A symbolic link only
    /// takes the time.
    fn set_meta(&self, path: &RelPath, mode: u32, mtime: FileTime) -> io::Result<()>;
    /// The label of a file or directory: the name of its class. `None` where it has none, or the
    /// file system keeps none.
    fn label(&self, _path: &RelPath) -> ReadLabel {
        Ok(None)
    }
    /// The labels of `names` in the directory `dir`, in their order: one look at the directory does for all.
    fn labels(&self, dir: &RelPath, names: &[&[u8]]) -> io::Result<Vec<ReadLabel>> {
        let path = |name| dir.join(name).map_err(|_| io::ErrorKind::InvalidFilename.into());
        Ok(names.iter().map(|name| path(name).and_then(|path| self.label(&path))).collect())
    }
    /// Gives a file or directory a label.
    fn set_label(&self, _path: &RelPath, _label: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Whether this process may change names in the directory `path`, as its mode is now.
    fn may_write(&self, _path: &RelPath) -> io::Result<bool> {
        Ok(true)
    }
    /// Whether this process may set mode and times of what is at `path`: only an owner may.
    fn owns(&self, _path: &RelPath) -> io::Result<bool> {
        Ok(true)
    }
    /// Makes the names in the directory `path` durable.
    fn sync_dir(&self, path: &RelPath) -> io::Result<()>;
    /// Makes everything written to the tree's file system durable, files and names alike. One call
    /// for many small files is far cheaper than a sync of each.
    fn sync_all(&self) -> io::Result<()>;
    /// Bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open regular file.
pub trait File: Send + Sync + 'static {
    /// `fstat`.
    fn meta(&self) -> io::Result<Meta>;
    /// As [`Tree::label`].
    fn label(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
    /// As [`Tree::set_label`].
    fn set_label(&self, _label: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Reads until `buf` is full or the file ends; returns the bytes read.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf`.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Reads several ranges as `read_at` does; returns the bytes read into each.
    fn read_many(&self, ops: &mut [(u64, &mut [u8])]) -> io::Result<Vec<usize>> {
        ops.iter_mut().map(|(offset, buf)| self.read_at(buf, *offset)).collect()
    }
    /// Writes several ranges as `write_at` does, in no order. After an error any part of any range
    /// may have been written.
    fn write_many(&self, ops: &[(u64, &[u8])]) -> io::Result<()> {
        ops.iter().try_for_each(|(offset, buf)| self.write_at(buf, *offset))
    }
    /// Sets the length; bytes gained are a hole.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Sets permission bits and modification time.
    fn set_meta(&self, mode: u32, mtime: FileTime) -> io::Result<()>;
    /// Makes the content and metadata durable. See the module's word on failure.
    fn sync(&self) -> io::Result<()>;
    /// The first extent of data at or after `offset`, or `None` if only a hole follows.
    fn next_data(&self, offset: u64) -> io::Result<Option<Extent>>;
    /// Asks the system to forget cached pages, so that the next read comes from the medium.
    fn drop_cache(&self) -> io::Result<()>;
}

/// The label of a directory by its path, links in it followed.
///
/// # Errors
/// Those of looking it up.
pub fn label_of(path: &std::path::Path) -> io::Result<Option<Vec<u8>>> {
    OsTree::open(path)?.label(&RelPath::root())
}

/// Makes the directory `path` and those above it that are missing.
pub fn mkdir_all(tree: &dyn Tree, path: &RelPath) -> io::Result<()> {
    match tree.mkdir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(parent) = path.parent() else { return Err(error) };
            mkdir_all(tree, &parent)?;
            tree.mkdir(path).or_else(already_there)
        }
        other => other.or_else(already_there),
    }
}

fn already_there(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
}

/// Whether there is anything at `path`.
pub fn exists(tree: &dyn Tree, path: &RelPath) -> bool {
    tree.meta(path).is_ok()
}

/// Removes `path` and all below it; a missing `path` is fine.
pub fn remove_all(tree: &dyn Tree, path: &RelPath) -> io::Result<()> {
    let meta = match tree.meta(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if meta.kind != Kind::Dir {
        return tree.unlink(path);
    }
    if meta.mode & 0o700 != 0o700 {
        tree.set_meta(path, meta.mode | 0o700, meta.mtime)?;
    }
    for (name, _) in tree.list(path)? {
        let below = path.join(&name).map_err(io::Error::other)?;
        remove_all(tree, &below)?;
    }
    tree.rmdir(path)
}

//! A real directory tree, reached only through descriptors beneath its root.

mod direct;
mod dirs;
mod file;
mod label;
mod owner;
mod rename;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use self::direct::Allowed;
use self::dirs::Dirs;
use self::file::OsFile;
pub(super) use self::file::{read_full, write_full};
use super::{File, Kind, Meta, NotAFile, ReadLabel, Tree, uring};
use crate::base::{FileTime, RelPath};

/// How the content of files is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// One `pread` or `pwrite` after the other on the caller's thread.
    Pool,
    /// Pieces through an `io_uring` of the caller's thread; an error where there is none.
    Uring,
    /// What measures best for content that goes through the page cache. That is `Pool`: there a
    /// ring copies on the same core and only adds hand-overs to the kernel's workers.
    #[default]
    Auto,
}

/// How the content of a tree is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Method {
    /// By which calls.
    pub backend: Backend,
    /// Whether large writes go around the page cache (`O_DIRECT`) where the file system takes that.
    /// It saves copying them, and leaves the cache to others: what was written is not in it.
    pub direct: bool,
}

/// A real directory tree.
///
/// A path is resolved by `openat2` beneath the root descriptor, following no symbolic link; its
/// last name is then used relative to the descriptor of its parent. So no race of a symbolic link
/// against a directory leads outside. The root itself may be moved while it is open.
///
/// The tree is one file system: what lies below a mount point can be read but not written, since
/// `sync_all` would not cover it. Directories renamed by others are noticed within 10 ms, those
/// renamed through this tree at once.
pub struct OsTree {
    dirs: Dirs,
    uring: bool,
    direct: Allowed,
}

/// Flags of every open here: no controlling terminal, nothing for child processes, no last link.
const OPEN: OFlags = OFlags::CLOEXEC.union(OFlags::NOCTTY).union(OFlags::NOFOLLOW);
/// A FIFO must not block its opener, and neither must a device.
const EXISTING: OFlags = OPEN.union(OFlags::NONBLOCK);

impl OsTree {
    /// Opens the directory at `path`, links in it followed, with the default method.
    ///
    /// # Errors
    /// Those of opening a directory for reading.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, Method::default())
    }

    /// Opens the directory at `path` and chooses how content is read and written.
    ///
    /// # Errors
    /// Those of `open`, and `Unsupported` with a [`uring::UringUnavailable`] inside if `Uring` is
    /// asked for and not there.
    pub fn open_with(path: &Path, method: Method) -> io::Result<Self> {
        let uring = method.backend == Backend::Uring;
        if uring {
            uring::probe().map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(path, flags, Mode::empty())?;
        Ok(Self { dirs: Dirs::new(root)?, uring, direct: Allowed::new(method.direct) })
    }

    /// A tree as it is where `openat2` is missing.
    #[cfg(test)]
    pub(super) fn open_stepwise(path: &Path) -> io::Result<Self> {
        let tree = Self::open_with(path, Method::default())?;
        tree.dirs.walk_stepwise();
        Ok(tree)
    }

    /// A tree that uses rings if there are any.
    #[cfg(test)]
    pub(super) fn open_ring(path: &Path) -> io::Result<Self> {
        Ok(Self { uring: true, ..Self::open_with(path, Method::default())? })
    }

    /// A tree that writes directly what it can.
    #[cfg(test)]
    pub(super) fn open_direct(path: &Path) -> io::Result<Self> {
        Self::open_with(path, Method { direct: true, ..Method::default() })
    }

    fn open_file(&self, path: &RelPath, access: Access) -> io::Result<Arc<dyn File>> {
        if path.is_root() {
            return Err(NotAFile { kind: Kind::Dir }.into());
        }
        let open = |dir: BorrowedFd<'_>, name: &[u8]| {
            let opened = fs::openat(dir, name, EXISTING | access.flags(), Mode::empty());
            // The system refuses these with words that mislead; say what they are.
            if let Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) = opened
                && let Ok(stat) = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
                && kind_of(&stat) != Kind::File
            {
                return Ok(Err(NotAFile { kind: kind_of(&stat) }));
            }
            opened.map(Ok)
        };
        let opened = match access {
            Access::Read => self.dirs.at(path, open),
            Access::ReadWrite => self.dirs.at_to_write(path, open),
        };
        let fd = opened??;
        let kind = kind_of(&fs::fstat(&fd)?);
        if kind != Kind::File {
            return Err(NotAFile { kind }.into());
        }
        if self.uring {
            // `O_NONBLOCK` was for the open; a ring would take it as leave to say "try again".
            fs::fcntl_setfl(&fd, OFlags::empty())?;
        }
        let direct = match access {
            Access::Read => Allowed::new(false),
            Access::ReadWrite => self.direct.clone(),
        };
        Ok(Arc::new(OsFile::new(fd, self.uring, direct)))
    }
}

#[derive(Clone, Copy)]
enum Access {
    Read,
    ReadWrite,
}

impl Access {
    fn flags(self) -> OFlags {
        match self {
            Self::Read => OFlags::RDONLY,
            Self::ReadWrite => OFlags::RDWR,
        }
    }
}

impl Tree for OsTree {
    fn meta(&self, path: &RelPath) -> io::Result<Meta> {
        if path.is_root() {
            return Ok(meta_of(&fs::fstat(self.dirs.root())?));
        }
        let stat =
            self.dirs.at(path, |dir, name| fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))?;
        Ok(meta_of(&stat))
    }

    fn list(&self, path: &RelPath) -> io::Result<Vec<(Vec<u8>, Option<Kind>)>> {
        let mut names = Vec::new();
        for entry in fs::Dir::new(self.dirs.open_to_list(path)?)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((name.to_vec(), kind_of_type(entry.file_type())));
            }
        }
        Ok(names)
    }

    fn open(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        self.open_file(path, Access::Read)
    }

    fn open_rw(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        self.open_file(path, Access::ReadWrite)
    }

    fn create(&self, path: &RelPath) -> io::Result<Arc<dyn File>> {
        refuse_root(path, Errno::EXIST)?;
        let flags = OPEN | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = self.dirs.at_to_write(path, |dir, name| fs::openat(dir, name, flags, mode))?;
        Ok(Arc::new(OsFile::new(fd, self.uring, self.direct.clone())))
    }

    fn mkdir(&self, path: &RelPath) -> io::Result<()> {
        refuse_root(path, Errno::EXIST)?;
        self.dirs.at_to_write(path, |dir, name| fs::mkdirat(dir, name, Mode::RWXU))
    }

    fn symlink(&self, target: &[u8], path: &RelPath) -> io::Result<()> {
        refuse_root(path, Errno::EXIST)?;
        self.dirs.at_to_write(path, |dir, name| fs::symlinkat(target, dir, name))
    }

    fn read_link(&self, path: &RelPath) -> io::Result<Vec<u8>> {
        refuse_root(path, Errno::INVAL)?;
        let text = self.dirs.at(path, |dir, name| fs::readlinkat(dir, name, Vec::new()))?;
        Ok(text.into_bytes())
    }

    fn rename(&self, from: &RelPath, to: &RelPath, replace: bool) -> io::Result<()> {
        refuse_root(from, Errno::BUSY)?;
        refuse_root(to, if replace { Errno::BUSY } else { Errno::EXIST })?;
        let renamed = self.dirs.at_both(from, to, |from_dir, from_name, to_dir, to_name| {
            if replace {
                fs::renameat(from_dir, from_name, to_dir, to_name)
            } else {
                rename::without_replacing((from_dir, from_name), (to_dir, to_name))
            }
        });
        self.dirs.forget(from);
        self.dirs.forget(to);
        renamed
    }

    fn unlink(&self, path: &RelPath) -> io::Result<()> {
        refuse_root(path, Errno::ISDIR)?;
        self.dirs.at_to_write(path, |dir, name| fs::unlinkat(dir, name, AtFlags::empty()))
    }

    fn rmdir(&self, path: &RelPath) -> io::Result<()> {
        refuse_root(path, Errno::BUSY)?;
        let removed =
            self.dirs.at_to_write(path, |dir, name| fs::unlinkat(dir, name, AtFlags::REMOVEDIR));
        self.dirs.forget(path);
        removed
    }

    fn set_meta(&self, path: &RelPath, mode: u32, mtime: FileTime) -> io::Result<()> {
        if path.is_root() {
            return Ok(set_meta_of(self.dirs.root(), mode, mtime)?);
        }
        self.dirs.at_to_write(path, |dir, name| set_meta_at(dir, name, mode, mtime))
    }

    fn label(&self, path: &RelPath) -> io::Result<Option<Vec<u8>>> {
        if path.is_root() {
            return label::of(self.dirs.root());
        }
        self.dirs.at(path, |dir, name| Ok(label::at(dir, name)))?
    }

    fn labels(&self, dir: &RelPath, names: &[&[u8]]) -> io::Result<Vec<ReadLabel>> {
        self.dirs.within(dir, |dir| names.iter().map(|name| label::at(dir, name)).collect())
    }

    fn set_label(&self, path: &RelPath, label: &[u8]) -> io::Result<()> {
        if path.is_root() {
            return label::set(self.dirs.root(), label);
        }
        self.dirs.at_to_write(path, |dir, name| Ok(label::set_at(dir, name, label)))?
    }

    fn may_write(&self, path: &RelPath) -> io::Result<bool> {
        Ok(self.dirs.within(path, owner::may_write)??)
    }

    fn owns(&self, path: &RelPath) -> io::Result<bool> {
        if path.is_root() {
            return Ok(owner::owns(&fs::fstat(self.dirs.root())?));
        }
        let stat =
            self.dirs.at(path, |dir, name| fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))?;
        Ok(owner::owns(&stat))
    }

    fn sync_dir(&self, path: &RelPath) -> io::Result<()> {
        let fd = self.dirs.open_to_list(path)?;
        match fs::fsync(&fd) {
            // Some file systems know no sync of a directory; that of all they hold covers it.
            Err(Errno::INVAL | Errno::NOTSUP) => Ok(fs::syncfs(&fd)?),
            other => Ok(other?),
        }
    }

    /// `syncfs` on the root descriptor. Since Linux 5.8 it reports write-back errors that came up
    /// after that descriptor was opened, each once.
    fn sync_all(&self) -> io::Result<()> {
        Ok(fs::syncfs(self.dirs.root())?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = fs::fstatvfs(self.dirs.root())?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

fn refuse_root(path: &RelPath, errno: Errno) -> io::Result<()> {
    if path.is_root() { Err(errno.into()) } else { Ok(()) }
}

/// Sets mode and time of `name` without following it. `fchmodat` alone would follow a link, so
/// what can be opened is opened first.
fn set_meta_at(
    dir: BorrowedFd<'_>,
    name: &[u8],
    mode: u32,
    mtime: FileTime,
) -> rustix::io::Result<()> {
    match kind_of(&fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?) {
        Kind::Symlink => fs::utimensat(dir, name, &mtime_only(mtime), AtFlags::SYMLINK_NOFOLLOW),
        Kind::File | Kind::Dir => match fs::openat(dir, name, EXISTING, Mode::empty()) {
            Err(Errno::ACCESS) => set_meta_unreadable(dir, name, mode, mtime),
            opened => set_meta_of(opened?.as_fd(), mode, mtime),
        },
        Kind::Fifo | Kind::Socket | Kind::Device => Err(Errno::OPNOTSUPP),
    }
}

/// As `set_meta_at` for what its owner may not read: a descriptor that only names the inode, and
/// the system's link to it.
fn set_meta_unreadable(
    dir: BorrowedFd<'_>,
    name: &[u8],
    mode: u32,
    mtime: FileTime,
) -> rustix::io::Result<()> {
    let held: OwnedFd = fs::openat(dir, name, OPEN | OFlags::PATH, Mode::empty())?;
    if !matches!(kind_of(&fs::fstat(&held)?), Kind::File | Kind::Dir) {
        return Err(Errno::OPNOTSUPP);
    }
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    fs::chmodat(CWD, link.as_str(), mode_of(mode), AtFlags::empty())?;
    fs::utimensat(CWD, link.as_str(), &mtime_only(mtime), AtFlags::empty())
}

fn set_meta_of(fd: BorrowedFd<'_>, mode: u32, mtime: FileTime) -> rustix::io::Result<()> {
    fs::fchmod(fd, mode_of(mode))?;
    fs::futimens(fd, &mtime_only(mtime))
}

fn mode_of(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

fn mtime_only(mtime: FileTime) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() },
    }
}

fn kind_of_type(kind: fs::FileType) -> Option<Kind> {
    Some(match kind {
        fs::FileType::RegularFile => Kind::File,
        fs::FileType::Directory => Kind::Dir,
        fs::FileType::Symlink => Kind::Symlink,
        fs::FileType::Fifo => Kind::Fifo,
        fs::FileType::Socket => Kind::Socket,
        fs::FileType::CharacterDevice | fs::FileType::BlockDevice => Kind::Device,
        fs::FileType::Unknown => return None,
    })
}

fn kind_of(stat: &Stat) -> Kind {
    // A kind that Linux does not know cannot be read as a file either.
    kind_of_type(fs::FileType::from_raw_mode(stat.st_mode)).unwrap_or(Kind::Device)
}

fn meta_of(stat: &Stat) -> Meta {
    let time = |secs: i64, nanos: u64| FileTime { secs, nanos: u32::try_from(nanos).unwrap_or(0) };
    Meta {
        kind: kind_of(stat),
        len: u64::try_from(stat.st_size).unwrap_or(0),
        // `st_blocks` counts 512 bytes whatever the file system's block is: stat(2).
        allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
        mode: stat.st_mode & 0o7777,
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        dev: stat.st_dev,
        ino: stat.st_ino,
    }
}

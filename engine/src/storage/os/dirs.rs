//! Directories beneath the root: resolving a path to a held descriptor, and a few kept ones.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::base::RelPath;

/// Longest path that one system call takes, in bytes: `PATH_MAX` less the closing NUL.
const STEP_BYTES_MAX: usize = 4095;
/// Directories that are kept open: a few readers, each in tree order.
const KEPT_MAX: usize = 16;
/// How long a kept directory is trusted to still have its name, others being free to rename it.
const KEPT_FOR: Duration = Duration::from_millis(10);

const HOLD: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The root descriptor and the directories reached beneath it.
pub(super) struct Dirs {
    root: Arc<Dir>,
    kept: Mutex<Kept>,
    /// Whether `openat2` is missing or forbidden, and paths are walked name by name.
    stepwise: AtomicBool,
}

struct Dir {
    fd: OwnedFd,
    dev: u64,
}

/// A directory and whether it was kept from before, so may be out of date.
struct Held {
    dir: Arc<Dir>,
    kept: bool,
}

/// Directories used last, the newest at the end.
#[derive(Default)]
struct Kept {
    dirs: Vec<(RelPath, Arc<Dir>, Instant)>,
    /// Counts the times that names went away, so that a path resolved before is not kept after.
    epoch: u64,
}

impl Dirs {
    pub(super) fn new(root: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            root: Arc::new(Dir::new(root)?),
            kept: Mutex::default(),
            stepwise: AtomicBool::new(false),
        })
    }

    /// Walks paths name by name from now on, as where `openat2` is missing.
    #[cfg(test)]
    pub(super) fn walk_stepwise(&self) {
        self.stepwise.store(true, Ordering::Relaxed);
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.fd.as_fd()
    }

    /// Calls `act` with the parent directory of `path` and its last name.
    pub(super) fn at<T>(
        &self,
        path: &RelPath,
        act: impl Fn(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        let (parent, name) = split(path)?;
        let held = self.dir(parent)?;
        match act(held.dir.fd.as_fd(), name) {
            // Others may have removed the kept directory and made it anew; look once more.
            Err(Errno::NOENT) if held.kept => Ok(act(self.resolve(parent)?.dir.fd.as_fd(), name)?),
            other => Ok(other?),
        }
    }

    /// As `at`, for calls that change something: only on the root's own file system.
    pub(super) fn at_to_write<T>(
        &self,
        path: &RelPath,
        act: impl Fn(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        let (parent, name) = split(path)?;
        let held = self.dir(parent)?;
        match self.to_write(&held.dir).and_then(|dir| act(dir, name)) {
            Err(Errno::NOENT) if held.kept => {
                let held = self.resolve(parent)?;
                Ok(act(self.to_write(&held.dir)?, name)?)
            }
            other => Ok(other?),
        }
    }

    /// As `at_to_write` with the parents and last names of two paths.
    pub(super) fn at_both<T>(
        &self,
        from: &RelPath,
        to: &RelPath,
        act: impl Fn(BorrowedFd<'_>, &[u8], BorrowedFd<'_>, &[u8]) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        let ((from_parent, from_name), (to_parent, to_name)) = (split(from)?, split(to)?);
        let run = |from: &Held, to: &Held| {
            act(self.to_write(&from.dir)?, from_name, self.to_write(&to.dir)?, to_name)
        };
        let (from_held, to_held) = (self.dir(from_parent)?, self.dir(to_parent)?);
        match run(&from_held, &to_held) {
            Err(Errno::NOENT) if from_held.kept || to_held.kept => {
                Ok(run(&self.resolve(from_parent)?, &self.resolve(to_parent)?)?)
            }
            other => Ok(other?),
        }
    }

    /// Calls `act` with the directory `path`; never with a kept descriptor.
    pub(super) fn within<T>(
        &self,
        path: &RelPath,
        act: impl FnOnce(BorrowedFd<'_>) -> T,
    ) -> io::Result<T> {
        Ok(act(self.resolve(path.as_bytes())?.dir.fd.as_fd()))
    }

    /// Opens the directory `path` for listing and syncing; never through a kept descriptor.
    pub(super) fn open_to_list(&self, path: &RelPath) -> io::Result<OwnedFd> {
        let held = self.resolve(path.as_bytes())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(fs::openat(&held.dir.fd, c".", flags, Mode::empty())?)
    }

    /// Drops what is kept at and below `path`, whose name changed or went away.
    pub(super) fn forget(&self, path: &RelPath) {
        let mut kept = self.kept();
        kept.epoch = kept.epoch.wrapping_add(1);
        kept.dirs.retain(|(below, _, _)| below.strip(path).is_none());
    }

    fn dir(&self, path: &[u8]) -> rustix::io::Result<Held> {
        let kept = if path.is_empty() { None } else { self.kept().find(path) };
        kept.map_or_else(|| self.resolve(path), |dir| Ok(Held { dir, kept: true }))
    }

    /// The descriptor, if it is on the root's own file system.
    fn to_write<'a>(&self, dir: &'a Dir) -> rustix::io::Result<BorrowedFd<'a>> {
        if dir.dev == self.root.dev { Ok(dir.fd.as_fd()) } else { Err(Errno::XDEV) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the directory `path` beneath the root and keeps it.
    fn resolve(&self, path: &[u8]) -> rustix::io::Result<Held> {
        if path.is_empty() {
            return Ok(Held { dir: Arc::clone(&self.root), kept: false });
        }
        let (epoch, since) = (self.kept().epoch, Instant::now());
        let dir = Arc::new(Dir::new(self.reach(path)?)?);
        let mut kept = self.kept();
        if let (true, Ok(path)) = (kept.epoch == epoch, RelPath::from_bytes(path)) {
            kept.keep(path, Arc::clone(&dir), since);
        }
        Ok(Held { dir, kept: false })
    }

    fn reach(&self, mut path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let mut held: Option<OwnedFd> = None;
        while !path.is_empty() {
            let (step, rest) = cut(path);
            let base = held.as_ref().map_or(self.root.fd.as_fd(), AsFd::as_fd);
            held = Some(self.step(base, step)?);
            path = rest;
        }
        held.ok_or(Errno::INVAL)
    }

    fn step(&self, base: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        if !self.stepwise.load(Ordering::Relaxed) {
            let resolve =
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match fs::openat2(base, path, HOLD, Mode::empty(), resolve) {
                // Missing before Linux 5.6, and refused by older container filters.
                Err(Errno::NOSYS | Errno::PERM) => self.stepwise.store(true, Ordering::Relaxed),
                // A link is no directory here; the same word as in the walk below.
                Err(Errno::LOOP) => return Err(Errno::NOTDIR),
                other => return other,
            }
        }
        let mut held: Option<OwnedFd> = None;
        for name in path.split(|&byte| byte == b'/') {
            let at = held.as_ref().map_or(base, AsFd::as_fd);
            held = Some(fs::openat(at, name, HOLD | OFlags::NOFOLLOW, Mode::empty())?);
        }
        held.ok_or(Errno::INVAL)
    }
}

impl Dir {
    fn new(fd: OwnedFd) -> rustix::io::Result<Self> {
        let dev = fs::fstat(&fd)?.st_dev;
        Ok(Self { fd, dev })
    }
}

impl Kept {
    fn find(&mut self, path: &[u8]) -> Option<Arc<Dir>> {
        let at = self.dirs.iter().rposition(|(kept, _, _)| kept.as_bytes() == path)?;
        if self.dirs[at].2.elapsed() > KEPT_FOR {
            self.dirs.remove(at);
            return None;
        }
        self.dirs[at..].rotate_left(1);
        self.dirs.last().map(|(_, dir, _)| Arc::clone(dir))
    }

    fn keep(&mut self, path: RelPath, dir: Arc<Dir>, since: Instant) {
        self.dirs.retain(|(kept, _, _)| *kept != path);
        if self.dirs.len() >= KEPT_MAX {
            self.dirs.remove(0);
        }
        self.dirs.push((path, dir, since));
    }
}

/// The parent of `path` and its last name. The root has neither; callers deal with it before.
fn split(path: &RelPath) -> io::Result<(&[u8], &[u8])> {
    path.split_last().ok_or_else(|| Errno::INVAL.into())
}

/// The longest run of whole names at the start of `path` that one system call takes, and the rest.
/// A name has at most 255 bytes, so there always is one.
fn cut(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= STEP_BYTES_MAX {
        return (path, &[]);
    }
    match path[..=STEP_BYTES_MAX].iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::from_bytes(text.as_bytes()).unwrap()
    }

    fn dirs_in(dir: &std::path::Path) -> Dirs {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Dirs::new(fs::open(dir, flags, Mode::empty()).unwrap()).unwrap()
    }

    #[test]
    fn long_paths_are_cut_between_names() {
        let names = vec!["n".repeat(255); 100].join("/").into_bytes();
        let (mut rest, mut seen) = (&names[..], Vec::new());
        while !rest.is_empty() {
            let (step, after) = cut(rest);
            assert!(step.len() <= STEP_BYTES_MAX && step.len() % 256 == 255);
            seen.push(step);
            rest = after;
        }
        assert_eq!(seen.join(&b'/'), names);
        assert_eq!(seen.len(), 7);
    }

    #[test]
    fn another_file_system_can_be_read_but_not_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("mnt")).unwrap();
        let mut dirs = dirs_in(dir.path());
        // As if the root were on a device of its own.
        let fd = dirs.root().try_clone_to_owned().unwrap();
        dirs.root = Arc::new(Dir { fd, dev: dirs.root.dev + 1 });
        let at = path("mnt/f");
        dirs.at(&at, |_, _| Ok(())).unwrap();
        let written = dirs.at_to_write(&at, |_, _| Ok(()));
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::CrossesDevices);
        let renamed = dirs.at_both(&at, &path("f"), |_, _, _, _| Ok(()));
        assert_eq!(renamed.unwrap_err().kind(), io::ErrorKind::CrossesDevices);
        dirs.at_to_write(&path("f"), |_, _| Ok(())).unwrap();
    }

    #[test]
    fn a_directory_that_was_resolved_before_a_rename_is_not_kept_after() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let dirs = dirs_in(dir.path());
        dirs.dir(b"a/b").unwrap();
        assert!(dirs.dir(b"a/b").unwrap().kept);
        dirs.forget(&path("a"));
        assert!(!dirs.dir(b"a/b").unwrap().kept);
        for n in 0..KEPT_MAX * 2 {
            std::fs::create_dir(dir.path().join(n.to_string())).unwrap();
            dirs.dir(n.to_string().as_bytes()).unwrap();
        }
        assert_eq!(dirs.kept().dirs.len(), KEPT_MAX);
    }
}

//! A node's root: its tree, its index, and who may write where at a time.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::readers::Readers;
use super::target::{Around, Part, Recovered, expire_parts, index_path, key_of, recover_all};
use super::{fatal, snapshots};
use crate::base::{Parts, RelPath};
use crate::border::Border;
use crate::index::Index;
use crate::protocol::Failure;
use crate::storage::{Method, OsTree, Tree};

/// A root that this process works in.
pub struct Root {
    /// The directory.
    pub dir: PathBuf,
    /// Its tree.
    pub tree: Arc<dyn Tree>,
    /// Its index; disabled if another process has it.
    pub index: Index,
    /// Held as long as the index is ours.
    _index_lock: Option<File>,
    writers: Writers,
    /// What is being read for peers.
    pub readers: Readers,
    /// See [`Around::gate`].
    parts: Arc<Mutex<()>>,
    /// When the age of parts was last looked at, in seconds since 1970.
    aged_s: AtomicI64,
}

/// How often the age of parts is looked at, in seconds.
const AGE_EVERY_S: i64 = 3600;

/// Why a root cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {} as a root: {source}", dir.display())]
pub struct RootError {
    /// The directory.
    pub dir: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

impl Root {
    /// Opens the directory `dir`: its index, and what a crash left half published.
    pub fn open(dir: &Path, method: Method) -> Result<Self, RootError> {
        let failed = |source| RootError { dir: dir.to_owned(), source };
        let own = dir.join(OsStr::new(".portway"));
        let locks = own.join("locks");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&locks).map_err(failed)?;
        let tree: Arc<dyn Tree> = Arc::new(OsTree::open_with(dir, method).map_err(failed)?);
        let lock = try_lock(&own.join("index.lock")).map_err(failed)?;
        let index = match &lock {
            Some(_) => Index::open(Arc::clone(&tree), &index_path())
                .map_or_else(|_| Index::disabled(), |(index, _)| index),
            None => Index::disabled(),
        };
        Ok(Self {
            dir: dir.to_owned(),
            tree,
            index,
            _index_lock: lock,
            writers: Writers { locks, active: Mutex::default() },
            readers: Readers::default(),
            parts: Arc::default(),
            aged_s: AtomicI64::new(0),
        })
    }

    /// Rolls forward what a crash left half published, and removes what it left half removed. A path that
    /// is being written to is left to its writer.
    ///
    /// # Errors
    /// What there is cannot be listed.
    pub fn recover(&self) -> Result<Recovered, Failure> {
        let lock = |key: &[u8]| try_lock(&self.writers.locks.join(OsStr::from_bytes(key)));
        let left = snapshots::empty_trash(&*self.tree, lock)?;
        let mut recovered = recover_all(&*self.tree, &self.index, lock)?;
        recovered.failed.extend(left);
        Ok(recovered)
    }

    /// The part at `path` of a snapshot that several writers bring.
    ///
    /// # Errors
    /// `path` can be no part.
    pub fn part(
        &self,
        path: &RelPath,
        parts: &Parts,
        border: Arc<Border>,
    ) -> Result<Part, Failure> {
        let locks = Some(self.writers.locks.clone());
        let around = Around { gate: Arc::clone(&self.parts), locks, border: Some(border) };
        Part::of(path, parts, around)
    }

    /// Removes parts that waited too long for the others at `now_s`, seconds since 1970; once an hour.
    pub fn expire_parts(&self, now_s: i64) {
        if now_s.abs_diff(self.aged_s.load(Relaxed)) < AGE_EVERY_S.unsigned_abs() {
            return;
        }
        self.aged_s.store(now_s, Relaxed);
        let lock = |path: &RelPath| self.lock_out_writers(path);
        match expire_parts(&*self.tree, &self.index, now_s, lock) {
            Ok(0) => {}
            Ok(gone) => {
                tracing::info!(gone, "parts of snapshots that never became whole are removed");
            }
            Err(error) => tracing::warn!(%error, "old parts of snapshots cannot be removed"),
        }
    }

    /// The right to take `target` away: `None` if someone writes to it.
    pub(super) fn lock_out_writers(&self, target: &RelPath) -> io::Result<Option<File>> {
        try_lock(&self.writers.locks.join(key_of(target)))
    }

    /// Whether a path is Portway's own and no business of a peer.
    pub fn is_own(path: &RelPath) -> bool {
        super::is_own(path)
    }

    /// Whether a transfer reads or writes here just now.
    pub fn is_in_use(&self) -> bool {
        self.writers.any() || self.readers.any()
    }

    /// The right to write to `target`, for `owner`; see [`Writers`].
    pub async fn writer(&self, target: &RelPath, owner: &str) -> Result<Writer<'_>, Denied> {
        self.writers.acquire(target, owner).await
    }
}

/// Why a target path cannot be written to now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Someone else is writing to it: who, if it is known.
    Busy(Option<String>),
    /// Its lock cannot be had.
    Failed(Failure),
}

/// One writer per target path. A newcomer with the same identity takes over from an older session
/// of its own, whose link may just not have noticed that it is dead; anyone else is refused.
struct Writers {
    locks: PathBuf,
    active: Mutex<HashMap<String, Active>>,
}

struct Active {
    owner: String,
    cancel: watch::Sender<bool>,
    /// Closed when the writer is gone.
    gone: watch::Receiver<()>,
}

/// The right to write to one target path.
pub struct Writer<'a> {
    writers: &'a Writers,
    key: String,
    /// Turns true when a newer session of the same peer takes over.
    pub cancel: watch::Receiver<bool>,
    _gone: watch::Sender<()>,
    lock: Option<File>,
}

impl Writers {
    fn any(&self) -> bool {
        !self.active.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    async fn acquire(&self, target: &RelPath, owner: &str) -> Result<Writer<'_>, Denied> {
        let key = key_of(target);
        loop {
            let (cancel, cancelled) = watch::channel(false);
            let (gone, mut older_gone) = watch::channel(());
            {
                let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
                match active.get(&key) {
                    None => {
                        let lock = try_lock(&self.locks.join(&key));
                        let lock = lock
                            .map_err(|e| Denied::Failed(fatal("lock", target, &e)))?
                            .ok_or(Denied::Busy(None))?;
                        let owner = owner.to_owned();
                        active.insert(key.clone(), Active { owner, cancel, gone: older_gone });
                        return Ok(Writer {
                            writers: self,
                            key,
                            cancel: cancelled,
                            _gone: gone,
                            lock: Some(lock),
                        });
                    }
                    Some(older) if older.owner == owner => {
                        let _ = older.cancel.send(true);
                        older_gone = older.gone.clone();
                    }
                    Some(older) => return Err(Denied::Busy(Some(older.owner.clone()))),
                }
            }
            // It ends when the older writer is dropped, which closes its channel.
            while older_gone.changed().await.is_ok() {}
        }
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        let mut active = self.writers.active.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever finds the path free must find its lock free too.
        drop(self.lock.take());
        active.remove(&self.key);
    }
}

/// An exclusive lock on a file that goes with the process; `None` if another one has it.
pub fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_age_of_parts_is_looked_at_once_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), Method::default()).unwrap();
        let area = dir.path().join(".portway/parts/key/set");
        for (now_s, gone) in [(1 << 40, true), ((1 << 40) + 3599, false), ((1 << 40) + 3600, true)]
        {
            fs::create_dir_all(area.join("tree")).unwrap();
            root.expire_parts(now_s);
            assert_eq!(!area.exists(), gone, "{now_s}");
        }
    }

    #[tokio::test]
    async fn f37_a_lock_that_cannot_be_opened_is_no_conflict() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), Method::default()).unwrap();
        let target = RelPath::from_typed(b"run").unwrap();
        let lock = dir.path().join(".portway/locks").join(key_of(&target));
        fs::create_dir(&lock).unwrap();
        let denied = root.writer(&target, "onprem").await.err();
        assert!(matches!(denied, Some(Denied::Failed(_))), "{denied:?}");
        fs::remove_dir(&lock).unwrap();
        let _writer = root.writer(&target, "onprem").await.expect("it is free");
        let other = Root::open(dir.path(), Method::default()).unwrap();
        assert_eq!(other.writer(&target, "edge").await.err(), Some(Denied::Busy(None)));
    }
}

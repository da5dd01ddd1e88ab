//! Published snapshots of one directory: which is the newest, and which may go.
//!
//! A snapshot is complete when its manifest is published, which happens last. Checkpoints are
//! ordered by step, the last decimal number of the name up to its first dot. Publish times would
//! not do: a mirror, or a checkpoint that is pushed again, has another order.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;

use super::root::Root;
use super::target::{Layout, key_of, manifests_path, trash_path};
use super::{fatal, manifest_file::ManifestReader};
use crate::base::{Digest, RelPath, human};
use crate::protocol::Failure;
use crate::storage::{self, Kind, Tree};

/// A complete snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complete {
    /// Its name in the directory.
    pub name: Vec<u8>,
    /// Its step, if its name has one.
    pub step: Option<u64>,
    /// Its root digest.
    pub root: Digest,
    /// Files in it.
    pub files: u64,
    /// Their content in bytes.
    pub bytes: u64,
}

/// Which checkpoints of a directory are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// So many of the highest steps; at least 1.
    pub last: u32,
    /// And all whose step is a multiple of this.
    pub every: Option<u64>,
}

/// What retention did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retained {
    /// Names (escaped) that were removed.
    pub removed: Vec<String>,
    /// Names (escaped) that would have been, and are in use.
    pub in_use: Vec<String>,
    /// Names (escaped) that would have been, and may not or cannot go, and why.
    pub kept: Vec<(String, Failure)>,
}

/// The last decimal number of a name up to its first dot.
pub fn step_of(name: &[u8]) -> Option<u64> {
    around_step(name).map(|(_, step, _)| step)
}

/// The step of a name, and what is before and behind it.
fn around_step(name: &[u8]) -> Option<(&[u8], u64, &[u8])> {
    let stem = name.split(|&c| c == b'.').next().unwrap_or_default();
    let end = stem.iter().rposition(u8::is_ascii_digit)? + 1;
    let start = stem[..end].iter().rposition(|c| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    let step = std::str::from_utf8(&stem[start..end]).ok()?.parse().ok()?;
    Some((&name[..start], step, &name[end..]))
}

/// Of `names` the one that is called as `name` but for its step, with the highest step below.
pub fn step_before(name: &[u8], names: impl IntoIterator<Item = Vec<u8>>) -> Option<Vec<u8>> {
    let (before, step, behind) = around_step(name)?;
    let earlier = names.into_iter().filter_map(|other| {
        let (its_before, its_step, its_behind) = around_step(&other)?;
        let alike = (its_before, its_behind) == (before, behind) && its_step < step;
        alike.then_some((its_step, other))
    });
    earlier.max().map(|(_, name)| name)
}

/// Orders names as checkpoints: by step, those without one first.
fn rank(name: &[u8]) -> (Option<u64>, &[u8]) {
    (step_of(name), name)
}

impl Keep {
    /// Which of these steps may go; they are given from the highest down.
    fn lets_go(self, steps: &[u64]) -> impl Iterator<Item = usize> {
        let kept = move |step: &u64| self.every.is_some_and(|every| step.is_multiple_of(every));
        let older = steps.iter().enumerate().skip(self.last.max(1) as usize);
        older.filter(move |(_, step)| !kept(step)).map(|(at, _)| at)
    }
}

/// The newest complete snapshot of `dir` that ranks above `after`, of those that `may` be told of.
pub fn newest(
    tree: &dyn Tree,
    dir: &RelPath,
    after: Option<&[u8]>,
    mut may: impl FnMut(&RelPath) -> bool,
) -> Result<Option<Complete>, Failure> {
    let names = names(tree, dir)?.into_iter();
    let mut names: Vec<_> = names.filter(|n| after.is_none_or(|a| rank(n) > rank(a))).collect();
    names.sort_unstable_by(|a, b| rank(b).cmp(&rank(a)));
    for name in names {
        let Ok(path) = dir.join(&name) else { continue };
        if !may(&path) {
            continue;
        }
        if let Some((root, files, bytes)) = whole_manifest(tree, &Layout::of(&path).published) {
            return Ok(Some(Complete { step: step_of(&name), name, root, files, bytes }));
        }
    }
    Ok(None)
}

fn names(tree: &dyn Tree, dir: &RelPath) -> Result<Vec<Vec<u8>>, Failure> {
    let listed = tree.list(dir).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Failure::new("not-found", format!("there is no {dir}")),
        _ => fatal("list", dir, &e),
    })?;
    let below = |name: &[u8]| dir.join(name).is_ok_and(|path| !Root::is_own(&path));
    Ok(listed.into_iter().map(|(name, _)| name).filter(|name| below(name)).collect())
}

/// Root digest, files and content bytes of a manifest that is whole.
fn whole_manifest(tree: &dyn Tree, path: &RelPath) -> Option<(Digest, u64, u64)> {
    let mut reader = ManifestReader::open(tree, path).ok()??;
    let (mut files, mut bytes) = (0, 0);
    while let Some(listed) = reader.read().ok()? {
        if listed.entry.is_file() {
            files += 1;
            bytes += listed.entry.len();
        }
    }
    reader.end().filter(|end| end.entries > 0).map(|end| (end.root, files, bytes))
}

/// Removes the complete snapshots of `dir` that came from the node `source` and that `keep` lets
/// go, of those that `may`. Names without a step stay, and so does what is being read or written.
pub fn retain(
    root: &Root,
    (dir, source): (&RelPath, &str),
    keep: Keep,
    may: impl Fn(&RelPath) -> Result<(), Failure>,
) -> Result<Retained, Failure> {
    let tree = &*root.tree;
    let mut found: Vec<(u64, RelPath)> = Vec::new();
    for name in names(tree, dir)? {
        let (Some(step), Ok(path)) = (step_of(&name), dir.join(&name)) else { continue };
        let manifest = ManifestReader::open(tree, &Layout::of(&path).published);
        if matches!(manifest, Ok(Some(head)) if head.source() == source && *head.target() == path) {
            found.push((step, path));
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    let steps: Vec<u64> = found.iter().map(|(step, _)| *step).collect();
    let mut retained = Retained::default();
    for at in keep.lets_go(&steps) {
        let path = &found[at].1;
        let name = human::escaped(path.name().unwrap_or_default());
        let gone =
            may(path).and_then(|()| remove(root, path).map_err(|e| fatal("remove", path, &e)));
        match gone {
            Ok(true) => retained.removed.push(name),
            Ok(false) => retained.in_use.push(name),
            Err(failure) => retained.kept.push((name, failure)),
        }
    }
    Ok(retained)
}

/// Takes a snapshot away by one rename, then its manifest, then its content; `false` if it is in
/// use. What a crash leaves of it goes when the root is next recovered.
fn remove(root: &Root, path: &RelPath) -> io::Result<bool> {
    let tree = &*root.tree;
    let Some(_writer) = root.lock_out_writers(path)? else { return Ok(false) };
    let trash = trash_path().join(key_of(path).as_bytes()).map_err(io::Error::other)?;
    storage::mkdir_all(tree, &trash_path())?;
    storage::remove_all(tree, &trash)?;
    let Some(_local) = lock_out_local_readers(root, path)? else { return Ok(false) };
    let moved = root.readers.unless_read(path, || {
        let meta = tree.meta(path)?;
        if meta.kind == Kind::Dir && meta.mode & 0o700 != 0o700 {
            // A directory that may not be written cannot be moved elsewhere.
            tree.set_meta(path, meta.mode | 0o700, meta.mtime)?;
        }
        tree.rename(path, &trash, false)
    });
    let Some(moved) = moved else { return Ok(false) };
    moved?;
    tree.sync_dir(&path.parent().unwrap_or_default())?;
    forget(tree, path)?;
    storage::remove_all(tree, &trash)?;
    Ok(true)
}

/// A lock on the snapshot itself, which a program of this machine that reads it holds shared.
fn lock_out_local_readers(root: &Root, path: &RelPath) -> io::Result<Option<File>> {
    if !matches!(root.tree.meta(path)?.kind, Kind::Dir | Kind::File) {
        return Ok(None);
    }
    let file = File::open(root.dir.join(OsStr::from_bytes(path.as_bytes())))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Removes the manifest of what is no longer there.
fn forget(tree: &dyn Tree, path: &RelPath) -> io::Result<()> {
    match tree.unlink(&Layout::of(path).published) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => tree.sync_dir(&manifests_path()),
    }
}

/// Finishes removals that a crash interrupted; what cannot be removed, and why. `lock` takes the right to
/// write to the path of a key: one that cannot be had is being removed, or written anew.
pub(super) fn empty_trash<L>(
    tree: &dyn Tree,
    lock: impl Fn(&[u8]) -> io::Result<Option<L>>,
) -> Result<Vec<(RelPath, Failure)>, Failure> {
    let trash = trash_path();
    let names = match tree.list(&trash) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| fatal("list", &trash, &e))?,
    };
    let mut left = Vec::new();
    for (key, _) in names {
        let Ok(path) = trash.join(&key) else { continue };
        let removed = lock(&key).and_then(|held| match held {
            Some(_held) => remove_trash(tree, &key, &path),
            None => Ok(()),
        });
        left.extend(removed.err().map(|error| (path.clone(), fatal("remove", &path, &error))));
    }
    Ok(left)
}

/// Removes the snapshot that lies at `path`, under its key, and its manifest unless it was pushed again.
fn remove_trash(tree: &dyn Tree, key: &[u8], path: &RelPath) -> io::Result<()> {
    let manifest = manifests_path().join(key).map_err(io::Error::other)?;
    if let Ok(Some(head)) = ManifestReader::open(tree, &manifest)
        && !storage::exists(tree, head.target())
    {
        forget(tree, head.target())?;
    }
    storage::remove_all(tree, path)
}

#[cfg(test)]
mod tests;

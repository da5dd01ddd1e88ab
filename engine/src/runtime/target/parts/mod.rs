//! Parts of one snapshot, each brought by a writer of its own: every part is published for itself where
//! nobody looks, and whoever brings the last one makes the snapshot visible.
//!
//! ```text
//! ROOT/.portway/parts/KEY/SET/tree/NAME   parts that are whole, under their names
//! ROOT/.portway/parts/KEY/SET/manifest    the snapshot's, while it is being published
//! ROOT/.portway/parts/KEY/SET/journal     the record that it is
//! ```
//!
//! `KEY` is that of the snapshot's path, `SET` that of the number of parts and the name of the attempt.
//! Such an area is a staging area to publishing, so a crash is rolled forward in the same way.

mod combine;
mod expire;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::publish::{Recovered, clean_up, index_published, present, roll_forward};
use super::visible::Publish;
use super::{Layout, journal_failure, key_of, own};
use crate::base::{Digest, Parts, RelPath};
use crate::border::Border;
use crate::index::Index;
use crate::journal::{Head, Journal, Record};
use crate::protocol::Failure;
use crate::runtime::fatal;
use crate::runtime::manifest_file::ManifestReader;
use crate::runtime::root::try_lock;
use crate::storage::Tree;

/// Longest that parts wait for the others after the last of them came, in seconds: a week.
pub const PARTS_KEPT_S: i64 = 7 * 24 * 3600;

pub use expire::expire;

/// A part of a snapshot.
#[derive(Clone)]
pub struct Part {
    /// Where it is seen in the end.
    path: RelPath,
    /// The snapshot.
    whole: RelPath,
    /// Where it waits for the others.
    held: RelPath,
    area: RelPath,
    count: u32,
    around: Around,
}

/// What parts of one root have in common.
#[derive(Clone, Default)]
pub struct Around {
    /// Held while parts are counted, and while one begins to be written.
    pub gate: Arc<Mutex<()>>,
    /// Where locks of target paths lie.
    pub locks: Option<PathBuf>,
    /// Which of two classes is the higher; without it the first one counts.
    pub border: Option<Arc<Border>>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({}, one of {})", self.path, self.count)
    }
}

/// Where parts wait.
pub(super) fn parts_path() -> RelPath {
    own(&[b"parts"])
}

impl Layout {
    /// The files of a snapshot whose parts wait in `area`.
    fn held(area: &RelPath, whole: &RelPath) -> Self {
        let file = |name: &[u8]| area.join(name).unwrap_or_default();
        Self {
            journal: file(b"journal"),
            tree: file(b"tree"),
            manifest: file(b"manifest"),
            staging: area.clone(),
            published: Self::of(whole).published,
        }
    }
}

impl Part {
    /// The part at `path` of the snapshot that is the directory around it.
    ///
    /// # Errors
    /// It is no path below a directory.
    pub fn of(path: &RelPath, parts: &Parts, around: Around) -> Result<Self, Failure> {
        let whole = path.parent().filter(|whole| !whole.is_root());
        let (Some(name), Some(whole)) = (path.name(), whole) else {
            let detail =
                format!("{path} cannot be a part: the directory around it is the snapshot");
            return Err(Failure::new("unsafe-path", detail));
        };
        let mut key = Digest::of(parts.to_string().as_bytes()).to_string();
        key.truncate(32);
        let area = own(&[b"parts", key_of(&whole).as_bytes(), key.as_bytes()]);
        let held = area.join(b"tree").and_then(|tree| tree.join(name));
        let held = held.map_err(|e| Failure::new("path-too-deep", format!("{path}: {e}")))?;
        Ok(Self { path: path.clone(), whole, held, area, count: parts.count(), around })
    }

    /// Where it is published, for nobody to see, until all others are there.
    pub fn held(&self) -> &RelPath {
        &self.held
    }

    /// The snapshot that it is a part of.
    pub(super) fn whole(&self) -> &RelPath {
        &self.whole
    }

    /// Where it is seen in the end.
    pub(super) fn path(&self) -> &RelPath {
        &self.path
    }

    /// As long as this is held, no part is counted, and none begins to be written.
    pub(super) fn gate(&self) -> MutexGuard<'_, ()> {
        self.around.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rolls forward what a crash left of the snapshot half published.
    pub(super) fn recover(&self, tree: &dyn Tree, index: &Index) -> Result<(), Failure> {
        if !is_publishing(tree, &self.area)? {
            return Ok(());
        }
        // Whoever has it may be doing just that.
        let _lock = self.alone()?;
        recover_area(tree, index, &self.area).map(drop)
    }

    /// Makes the snapshot visible if all parts are there and none is being written; whether it did.
    pub(super) fn seal(
        &self,
        tree: &dyn Tree,
        index: &Index,
        head: &Head,
    ) -> Result<bool, Failure> {
        let _gate = self.gate();
        let names = self.names(tree).map_err(|e| fatal("list", &self.area, &e))?;
        if names.len() < self.count as usize {
            tracing::info!(snapshot = %self.whole, here = names.len(), of = self.count, "a part is here");
            return Ok(false);
        }
        let _lock = self.alone()?;
        let layout = Layout::held(&self.area, &self.whole);
        let (root, entries) = self.combine(tree, &layout, &names, &head.source)?;
        let publish = Publish { tree, layout: &layout, target: &self.whole };
        publish.refuse_what_is_in_the_way()?;
        let failed = |e| fatal("write", &layout.journal, &e);
        match tree.unlink(&layout.journal) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let head = Head { target: self.whole.clone(), ..head.clone() };
        let opened = Journal::open(tree, &layout.journal, &head);
        let (mut journal, _) = opened.map_err(|e| journal_failure(&e))?;
        tree.sync_all().map_err(|e| fatal("make durable", &self.area, &e))?;
        let record = Record::Publishing { root, entries };
        journal.append(&[record]).map_err(|e| journal_failure(&e))?;
        publish.make_visible(index, false)?;
        finish(tree, index, &layout, &self.whole)?;
        let _ = index.flush();
        tracing::info!(snapshot = %self.whole, %root, parts = self.count, "the last part is here");
        Ok(true)
    }

    /// Names of the parts that are whole and not being replaced, in order.
    fn names(&self, tree: &dyn Tree) -> io::Result<Vec<Vec<u8>>> {
        let Some(top) = self.held.parent() else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for name in names_in(tree, &top)? {
            let held = top.join(&name).map_err(io::Error::other)?;
            let layout = Layout::of(&held);
            let head = ManifestReader::open(tree, &layout.published)?;
            if head.is_some_and(|head| *head.target() == held) && !present(tree, &layout.staging)? {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The right to write to the snapshot's path.
    fn alone(&self) -> Result<Option<File>, Failure> {
        let Some(locks) = &self.around.locks else { return Ok(None) };
        let lock = try_lock(&locks.join(key_of(&self.whole)));
        let busy = || Failure::new("conflict", format!("someone is writing to {}", self.whole));
        lock.map_err(|e| fatal("lock", &self.whole, &e))?.ok_or_else(busy).map(Some)
    }
}

/// Names in a directory; none if there is no such directory.
pub(super) fn names_in(tree: &dyn Tree, dir: &RelPath) -> io::Result<Vec<Vec<u8>>> {
    match tree.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => Ok(names?.into_iter().map(|(name, _)| name).collect()),
    }
}

/// What is left once the snapshot is visible: what was known of its parts goes, then the area.
fn finish(tree: &dyn Tree, index: &Index, layout: &Layout, whole: &RelPath) -> Result<(), Failure> {
    index_published(tree, index, whole);
    let clean = || -> io::Result<()> {
        if let Some(mut reader) = ManifestReader::open(tree, &layout.published)? {
            while let Some(listed) = reader.read()? {
                if listed.entry.path.depth() == 1 {
                    let held = layout.tree.join_path(&listed.entry.path);
                    forget(tree, index, &held.map_err(io::Error::other)?)?;
                }
            }
        }
        clean_up(tree, layout)
    };
    clean().map_err(|e| fatal("remove", &layout.staging, &e))
}

/// Removes what is known of a part.
fn forget(tree: &dyn Tree, index: &Index, held: &RelPath) -> io::Result<()> {
    let _ = index.add_base(held).and_then(|base| index.drop_base(base));
    match tree.unlink(&Layout::of(held).published) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether the snapshot whose parts wait in `area` is recorded as being published.
fn is_publishing(tree: &dyn Tree, area: &RelPath) -> Result<bool, Failure> {
    let Ok(journal) = area.join(b"journal") else { return Ok(false) };
    let found = Journal::replay(tree, &journal).map_err(|e| journal_failure(&e))?;
    Ok(found.is_some_and(|(_, replay)| replay.publishing.is_some()))
}

/// Rolls a snapshot forward that was being published from this area; its path, if there was one.
fn recover_area(
    tree: &dyn Tree,
    index: &Index,
    area: &RelPath,
) -> Result<Option<RelPath>, Failure> {
    let Ok(journal) = area.join(b"journal") else { return Ok(None) };
    let found = Journal::replay(tree, &journal).map_err(|e| journal_failure(&e))?;
    let Some((_, replay)) = found else { return Ok(None) };
    let whole = replay.head.target.clone();
    let layout = Layout::held(area, &whole);
    if !roll_forward(tree, index, (&layout, &whole), replay.publishing)? {
        return Ok(None);
    }
    finish(tree, index, &layout, &whole)?;
    Ok(Some(whole))
}

/// All areas.
fn areas(tree: &dyn Tree) -> io::Result<Vec<RelPath>> {
    let mut areas = Vec::new();
    for key in names_in(tree, &parts_path())? {
        let of_path = parts_path().join(&key).map_err(io::Error::other)?;
        for save in names_in(tree, &of_path)? {
            areas.push(of_path.join(&save).map_err(io::Error::other)?);
        }
    }
    Ok(areas)
}

/// Rolls forward every snapshot of parts that a crash left half published, but for those that `lock` tells
/// have a writer.
pub(super) fn recover_all<L>(
    tree: &dyn Tree,
    index: &Index,
    lock: impl Fn(&[u8]) -> io::Result<Option<L>>,
    recovered: &mut Recovered,
) -> Result<(), Failure> {
    for area in areas(tree).map_err(|e| fatal("list", &parts_path(), &e))? {
        let of_path = area.parent().unwrap_or_default();
        match lock(of_path.name().unwrap_or_default()) {
            Ok(Some(_held)) => recovered.took(&area, recover_area(tree, index, &area)),
            Ok(None) => {}
            Err(error) => recovered.took(&area, Err(fatal("lock", &area, &error))),
        }
    }
    Ok(())
}

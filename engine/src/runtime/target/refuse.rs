//! What would stop a publication half-way, found before anything changes.

use super::below;
use super::publish::present;
use super::visible::Publish;
use crate::base::RelPath;
use crate::manifest::{Entry, EntryKind};
use crate::protocol::Failure;
use crate::runtime::fatal;
use crate::runtime::manifest_file::Listed;
use crate::storage::{Kind, Tree};

/// Refuses a target path where nothing can be published: the nearest directory that is there is on another
/// file system, or may not be written and the target would be made in it.
pub(super) fn refuse_place(tree: &dyn Tree, target: &RelPath) -> Result<(), Failure> {
    let (dev, mut at, mut new) = (device(tree)?, Some(target.clone()), true);
    while let Some(path) = at {
        at = path.parent();
        let failed = |e| fatal("look at", &path, &e);
        let Ok(meta) = tree.meta(&path) else {
            present(tree, &path).map_err(failed)?;
            continue;
        };
        new &= path != *target;
        if meta.kind != Kind::Dir && path == *target {
            continue;
        }
        if meta.kind == Kind::Dir && meta.dev != dev {
            return Err(elsewhere(&path));
        }
        if meta.kind == Kind::Dir && new && !tree.may_write(&path).map_err(failed)? {
            return Err(not_writable(&path));
        }
        return Ok(());
    }
    Ok(())
}

/// The device of the root, which is that of all that can be changed.
fn device(tree: &dyn Tree) -> Result<u64, Failure> {
    let root = RelPath::root();
    tree.meta(&root).map(|meta| meta.dev).map_err(|e| fatal("look at", &root, &e))
}

fn elsewhere(dir: &RelPath) -> Failure {
    let detail = format!("{dir} is on another file system than the root; nothing is published");
    Failure::new("other-device", detail)
}

fn not_writable(dir: &RelPath) -> Failure {
    let detail = format!("{dir} cannot be written by the receiver; nothing is published");
    Failure::new("permission", detail)
}

/// What can be done in a directory that is there.
#[derive(Clone)]
enum Door {
    Open,
    /// Of what has a name, only one's own can be replaced.
    Sticky,
    Shut(Failure),
}

/// Directories on the way to an entry, outermost first. Entries come in canonical order, so each is looked
/// at once.
struct Doors {
    dev: u64,
    /// The top is in the manifest, as every directory below it is.
    has_top: bool,
    known: Vec<(RelPath, Door)>,
}

impl Publish<'_> {
    /// A directory that is not empty is never replaced by a file or link, and names change only where
    /// they can.
    pub(super) fn refuse_what_is_in_the_way(&self) -> Result<(), Failure> {
        let has_top = self.refuse_a_file_above()?;
        refuse_place(self.tree, self.target)?;
        let there = present(self.tree, self.target);
        if !there.map_err(|e| fatal("look at", self.target, &e))? {
            return Ok(());
        }
        let mut doors = Doors { dev: device(self.tree)?, has_top, known: Vec::new() };
        self.walk(
            |Listed { entry, .. }| {
                let path = below(self.target, &entry.path)?;
                let in_the_way = entry.kind != EntryKind::Dir && self.is_full_dir(&path)?;
                if in_the_way {
                    let detail = format!("{path} is a directory and would become a file");
                    return Err(Failure::new("in-the-way", detail));
                }
                self.refuse_at(&mut doors, entry, &path)
            },
            |_| Ok(()),
        )
    }

    /// Refuses an entry whose name at `path` would have to change and cannot.
    fn refuse_at(&self, doors: &mut Doors, entry: &Entry, path: &RelPath) -> Result<(), Failure> {
        let Some(dir) = path.parent() else { return Ok(()) };
        while doors.known.last().is_some_and(|(known, _)| dir.strip(known).is_none()) {
            doors.known.pop();
        }
        let known = doors.known.last().filter(|(known, _)| *known == dir).map(|(_, door)| door);
        let door = match known {
            Some(door) => door.clone(),
            None => {
                let door = self.door(doors, &dir)?;
                doors.known.push((dir.clone(), door.clone()));
                door
            }
        };
        let failed = |e| fatal("look at", path, &e);
        match door {
            Door::Shut(failure) if self.changes(entry, path)? => Err(failure),
            Door::Sticky if self.changes(entry, path)? => {
                let free = !present(self.tree, path).map_err(failed)?;
                let ours = free || self.tree.owns(path).map_err(failed)?;
                if ours { Ok(()) } else { Err(not_writable(path)) }
            }
            Door::Open | Door::Shut(_) | Door::Sticky => Ok(()),
        }
    }

    fn door(&self, doors: &Doors, dir: &RelPath) -> Result<Door, Failure> {
        let failed = |e| fatal("look at", dir, &e);
        let meta = match self.tree.meta(dir) {
            Ok(meta) if meta.kind == Kind::Dir => meta,
            // It is made anew, and judged where its own name is.
            Ok(_) => return Ok(Door::Open),
            Err(_) => return present(self.tree, dir).map_err(failed).map(|_| Door::Open),
        };
        if meta.dev != doors.dev {
            return Ok(Door::Shut(elsewhere(dir)));
        }
        let owns = || self.tree.owns(dir).map_err(failed);
        if self.tree.may_write(dir).map_err(failed)? {
            let sticky = meta.mode & 0o1000 != 0 && !owns()?;
            return Ok(if sticky { Door::Sticky } else { Door::Open });
        }
        // Directories of the manifest get the permission that only their mode denies.
        let listed = dir.strip(self.target).is_some_and(|below| doors.has_top || !below.is_root());
        let opens = listed && meta.mode & 0o700 != 0o700 && owns()?;
        Ok(if opens { Door::Open } else { Door::Shut(not_writable(dir)) })
    }

    /// Whether making the entry visible changes what has the name `path`.
    fn changes(&self, entry: &Entry, path: &RelPath) -> Result<bool, Failure> {
        match &entry.kind {
            EntryKind::Symlink(_) => Ok(true),
            EntryKind::Dir => match self.tree.meta(path) {
                Ok(meta) => Ok(meta.kind != Kind::Dir),
                Err(_) => {
                    let there = present(self.tree, path);
                    there.map(|there| !there).map_err(|e| fatal("look at", path, &e))
                }
            },
            // One that is published and unchanged is not staged.
            EntryKind::File { .. } => {
                let staged = below(&self.layout.tree, &entry.path)?;
                present(self.tree, &staged).map_err(|e| fatal("look at", &staged, &e))
            }
        }
    }

    /// Nor is a file or link on the way to the target path, or at it if it needs to be a directory:
    /// found out later, it would stop the snapshot half-way.
    ///
    /// Whether the manifest has the snapshot's top.
    fn refuse_a_file_above(&self) -> Result<bool, Failure> {
        let first = self.manifest()?.read();
        let first = first.map_err(|e| fatal("read", &self.layout.manifest, &e))?;
        let has_top = first.is_none_or(|listed| listed.entry.path.is_root());
        let mut dir = if has_top { self.target.parent() } else { Some(self.target.clone()) };
        while let Some(path) = dir {
            match self.tree.meta(&path) {
                Ok(meta) if meta.kind != Kind::Dir => {
                    let detail = format!("{path} is a {} and would become a directory", meta.kind);
                    return Err(Failure::new("in-the-way", detail));
                }
                Ok(_) => break,
                Err(_) => present(self.tree, &path).map_err(|e| fatal("look at", &path, &e))?,
            };
            dir = path.parent();
        }
        Ok(has_top)
    }

    /// Whether `path` is a directory with something in it.
    fn is_full_dir(&self, path: &RelPath) -> Result<bool, Failure> {
        let failed = |e| fatal("look at", path, &e);
        match self.tree.meta(path) {
            Ok(meta) if meta.kind == Kind::Dir => {
                Ok(!self.tree.list(path).map_err(failed)?.is_empty())
            }
            Ok(_) => Ok(false),
            Err(_) => present(self.tree, path).map_err(failed),
        }
    }
}

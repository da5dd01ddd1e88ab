//! Labels of all that is below a source. Most of the work are calls into the system, so several threads
//! share it: directories that were found and names in them, the newest first.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::SourceRoot;
use crate::base::RelPath;
use crate::border::Label;
use crate::runtime::OWN_DIR;
use crate::runtime::labels::{is_absent, named};
use crate::storage::Kind;

/// Names of a directory that are looked at in one piece of work.
pub(super) const NAMES_MAX: usize = 1024;
/// Names that are looked at before others are asked to help.
const NAMES_ALONE: usize = 256;
/// Threads that look.
const THREADS: usize = 4;

/// The labels of all that is below a source, as a walk of it comes upon them. `covered` says that
/// something above it has one.
///
/// # Errors
/// A label cannot be read: nothing is known of the class then.
pub(super) fn labels(root: &SourceRoot, covered: bool) -> io::Result<BTreeSet<Label>> {
    let device = root.tree.meta(&root.path)?.dev;
    let top = Dir { path: root.path.clone(), covered };
    let queue = Queue::of(Work { dir: top, names: None });
    let look = |names_max| {
        let mut look = Look { root, device, names: 0, found: BTreeSet::new() };
        look.work(&queue, names_max).map(|()| look.found)
    };
    let mut found = look(NAMES_ALONE)?;
    if queue.is_done() {
        return Ok(found);
    }
    thread::scope(|threads| {
        let others: Vec<_> = (1..THREADS).map(|_| threads.spawn(|| look(usize::MAX))).collect();
        let own = look(usize::MAX);
        let joined = others.into_iter().map(|other| {
            other.join().unwrap_or_else(|_| Err(io::Error::other("a look at labels panicked")))
        });
        for labels in std::iter::once(own).chain(joined) {
            found.extend(labels?);
        }
        Ok(found)
    })
}

/// A directory, and whether it or something above it has a label.
#[derive(Clone)]
struct Dir {
    path: RelPath,
    covered: bool,
}

/// What is to be done about a directory.
struct Work {
    dir: Dir,
    /// Some of its names and what they are said to be; `None` before it was listed.
    names: Option<Vec<(Vec<u8>, Option<Kind>)>>,
}

/// Work that several threads take from and add to.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    work: Vec<Work>,
    /// Pieces of work that were taken and may bring more.
    taken: usize,
    /// A piece of work failed: the others are in vain.
    failed: bool,
}

/// A piece of work that was taken. Unless it is [done](Taken::done), it failed.
struct Taken<'a> {
    queue: &'a Queue,
    more: Option<Vec<Work>>,
}

impl Queue {
    fn of(work: Work) -> Self {
        let state = State { work: vec![work], ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_done(&self) -> bool {
        let state = self.state();
        state.failed || (state.work.is_empty() && state.taken == 0)
    }

    /// The next piece of work, once there is one; `None` when nothing can come any more.
    fn take(&self) -> Option<(Work, Taken<'_>)> {
        let mut state = self.state();
        loop {
            if state.failed {
                return None;
            }
            if let Some(work) = state.work.pop() {
                state.taken += 1;
                return Some((work, Taken { queue: self, more: None }));
            }
            if state.taken == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Taken<'_> {
    /// The work is done, and brought more.
    fn done(mut self, more: Vec<Work>) {
        self.more = Some(more);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.taken -= 1;
        match self.more.take() {
            Some(more) => state.work.extend(more),
            None => state.failed = true,
        }
        self.queue.changed.notify_all();
    }
}

/// One thread's look at what is below a source.
struct Look<'a> {
    root: &'a SourceRoot,
    device: u64,
    /// Names looked at so far.
    names: usize,
    found: BTreeSet<Label>,
}

impl Look<'_> {
    /// Works until nothing is left, or so many names have been looked at.
    fn work(&mut self, queue: &Queue, names_max: usize) -> io::Result<()> {
        while self.names < names_max
            && let Some((Work { dir, names }, taken)) = queue.take()
        {
            let more = match names {
                None => self.list(&dir),
                Some(names) => self.look(&dir, &names)?,
            };
            taken.done(more);
        }
        Ok(())
    }

    /// The names of a directory, in pieces. What cannot be listed or named is not moved.
    fn list(&self, dir: &Dir) -> Vec<Work> {
        let mut names = self.root.tree.list(&dir.path).unwrap_or_default();
        names.retain(|(name, _)| name != OWN_DIR);
        if dir.path.join(b"name").is_err() {
            names.clear();
        }
        let mut pieces = Vec::with_capacity(names.len().div_ceil(NAMES_MAX));
        while !names.is_empty() {
            let piece = names.split_off(names.len().saturating_sub(NAMES_MAX));
            pieces.push(Work { dir: dir.clone(), names: Some(piece) });
        }
        pieces
    }

    /// Looks at names of a directory; gives the directories among them.
    fn look(&mut self, dir: &Dir, names: &[(Vec<u8>, Option<Kind>)]) -> io::Result<Vec<Work>> {
        self.names += names.len();
        let mut below = Vec::new();
        let mut files = Vec::with_capacity(names.len());
        for (name, kind) in names {
            match kind {
                Some(Kind::File) => files.push(&name[..]),
                kind => match self.one(dir, name, *kind) {
                    // It vanished meanwhile.
                    Err(error) if is_absent(&error) => {}
                    Err(error) => return Err(at(dir, name, error)),
                    Ok(more) => below.extend(more),
                },
            }
        }
        match self.root.tree.labels(&dir.path, &files) {
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(named(&dir.path, error)),
            Ok(labels) => files.iter().zip(labels).try_for_each(|(name, label)| match label {
                Err(error) if is_absent(&error) => Ok(()),
                Err(error) => Err(at(dir, name, error)),
                Ok(label) => {
                    self.found(dir.covered, label);
                    Ok(())
                }
            })?,
        }
        Ok(below)
    }

    /// Looks at a name that may be more than a file's.
    fn one(&mut self, dir: &Dir, name: &[u8], kind: Option<Kind>) -> io::Result<Option<Work>> {
        let Ok(path) = dir.path.join(name) else { return Ok(None) };
        let tree = &*self.root.tree;
        let kind = kind.map_or_else(|| tree.meta(&path).map(|meta| meta.kind), Ok)?;
        // A symbolic link has no label of its own; what is left out counts for nothing.
        match kind {
            Kind::File => self.found(dir.covered, tree.label(&path)?),
            Kind::Symlink if self.root.moves_link(&path)? => self.found(dir.covered, None),
            Kind::Dir if tree.meta(&path)?.dev == self.device => {
                let label = tree.label(&path)?;
                let covered = dir.covered || label.is_some();
                self.found.extend(label.map(Some));
                return Ok(Some(Work { dir: Dir { path, covered }, names: None }));
            }
            _ => {}
        }
        Ok(None)
    }

    /// Counts the label of something that has content. Without one it has the default class, unless a
    /// label covers it.
    fn found(&mut self, covered: bool, label: Label) {
        if label.is_some() || !covered {
            self.found.insert(label);
        }
    }
}

/// An error of a name in a directory.
fn at(dir: &Dir, name: &[u8], error: io::Error) -> io::Error {
    match dir.path.join(name) {
        Ok(path) => named(&path, error),
        Err(_) => named(&dir.path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_fails_ends_that_of_all_others_and_none_waits_for_it() {
        let work = || Work { dir: Dir { path: RelPath::root(), covered: false }, names: None };
        let queue = Queue::of(work());
        let (_, first) = queue.take().unwrap();
        thread::scope(|threads| {
            let other = threads.spawn(|| queue.take().is_none());
            drop(first);
            assert!(other.join().unwrap());
        });
        assert!(queue.is_done());
        // What is brought by others after that is not begun.
        let queue = Queue::of(work());
        let (_, first) = queue.take().unwrap();
        first.done(vec![work(), work()]);
        let (_, second) = queue.take().unwrap();
        let (_, third) = queue.take().unwrap();
        assert!(!queue.is_done(), "two are taken");
        drop(third);
        second.done(vec![work()]);
        assert!(queue.take().is_none());
    }
}

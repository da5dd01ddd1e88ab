//! What is where, and of what class: the model's own books.

use std::collections::{BTreeMap, BTreeSet};

use super::law::NO_CLASS;
use crate::base::RelPath;

/// A file's content, and its label.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inode {
    /// Which content it has.
    pub(super) canary: u64,
    pub(super) label: Option<u8>,
    /// Its number in the tree: another file has another one.
    number: u64,
}

/// A path at a node.
pub(super) type At = (usize, RelPath);

#[derive(Default)]
pub(super) struct Model {
    pub(super) inodes: Vec<Inode>,
    pub(super) files: BTreeMap<At, usize>,
    pub(super) dirs: BTreeMap<At, Option<u8>>,
    /// Classes that contents had at a node in files that are gone since this session began.
    pub(super) gone: Vec<(usize, u64, u8)>,
    /// The lowest class that a content had where it came to a node from.
    pub(super) received: BTreeMap<(usize, u64), u8>,
    /// Nodes that received anything.
    pub(super) receivers: BTreeSet<usize>,
    /// Class of what has no label, by node.
    pub(super) defaults: Vec<u8>,
}

impl Model {
    pub(super) fn add(&mut self, at: At, (canary, number): (u64, u64), label: Option<u8>) {
        self.remove(&at);
        self.inodes.push(Inode { canary, label, number });
        self.files.insert(at, self.inodes.len() - 1);
    }

    pub(super) fn remove(&mut self, at: &At) {
        if let Some(inode) = self.inode(at) {
            let class = self.class_of(at);
            self.gone.push((at.0, inode.canary, class));
        }
        self.files.remove(at);
    }

    pub(super) fn inode(&self, at: &At) -> Option<Inode> {
        self.inodes.get(*self.files.get(at)?).copied()
    }

    /// Labels of the directories from the top of the tree down to `path`.
    fn above(&self, node: usize, path: &RelPath) -> Option<u8> {
        let mut highest = None;
        let mut at = Some(path.clone());
        while let Some(dir) = at {
            at = dir.parent();
            highest = highest.max(self.dirs.get(&(node, dir)).copied().flatten());
        }
        highest
    }

    pub(super) fn class_of(&self, at: &At) -> u8 {
        let own = self.inode(at).and_then(|inode| inode.label);
        let parent = at.1.parent().unwrap_or_default();
        own.max(self.above(at.0, &parent)).unwrap_or(self.defaults[at.0])
    }

    /// Files at or below a path.
    pub(super) fn below<'a>(
        &'a self,
        node: usize,
        path: &'a RelPath,
    ) -> impl Iterator<Item = &'a At> {
        self.files.keys().filter(move |at| at.0 == node && at.1.strip(path).is_some())
    }

    /// The class of all that is at or below a path.
    pub(super) fn dataset(&self, node: usize, path: &RelPath) -> u8 {
        let files = self.below(node, path).map(|at| self.class_of(at));
        let within = self.dirs.iter().filter(|(at, _)| at.0 == node && at.1.strip(path).is_some());
        let dirs = within.filter_map(|(_, label)| *label);
        files.chain(dirs).chain(self.above(node, path)).max().unwrap_or(self.defaults[node])
    }

    /// All that is at or below a path has this class at least. A label that is no class is as low as
    /// none.
    pub(super) fn raise(&mut self, node: usize, path: &RelPath, to: u8) {
        let raised = |label: Option<u8>| match label {
            Some(label) if (to..NO_CLASS).contains(&label) => Some(label),
            _ => Some(to),
        };
        for ((at, dir), label) in &mut self.dirs {
            if *at == node && dir.strip(path).is_some() {
                *label = raised(*label);
            }
        }
        let files: Vec<usize> = self
            .files
            .iter()
            .filter(|(at, _)| at.0 == node && at.1.strip(path).is_some())
            .map(|it| *it.1)
            .collect();
        for ino in files {
            self.inodes[ino].label = raised(self.inodes[ino].label);
        }
    }

    /// Classes that a content has, or had since the session began, at a node; below a path.
    pub(super) fn classes(&self, node: usize, canary: u64, path: &RelPath) -> Vec<u8> {
        let has = |at: &&At| self.inode(at).is_some_and(|inode| inode.canary == canary);
        let now = self.below(node, path).filter(has).map(|at| self.class_of(at));
        let gone = self.gone.iter().filter(|it| (it.0, it.1) == (node, canary)).map(|it| it.2);
        now.chain(gone).collect()
    }

    /// A content is on its way to a node, from a file that has this class.
    pub(super) fn comes(&mut self, node: usize, canary: u64, class: u8) {
        let lowest = self.received.entry((node, canary)).or_insert(NO_CLASS);
        *lowest = class.min(*lowest);
    }

    /// Takes in what is really there at a node: files with their contents, and directories.
    pub(super) fn resync(
        &mut self,
        node: usize,
        files: &BTreeMap<RelPath, (u64, u64)>,
        dirs: &[RelPath],
    ) -> Result<(), String> {
        let left: Vec<At> = self
            .files
            .keys()
            .filter(|at| at.0 == node && !files.contains_key(&at.1))
            .cloned()
            .collect();
        for at in left {
            self.remove(&at);
        }
        self.dirs.retain(|at, _| at.0 != node || dirs.contains(&at.1));
        for dir in dirs {
            self.dirs.entry((node, dir.clone())).or_insert(None);
        }
        for (path, (canary, number)) in files {
            let at = (node, path.clone());
            let same = |it: Inode| (it.canary, it.number) == (*canary, *number);
            if self.inode(&at).is_some_and(same) {
                continue;
            }
            let Some(class) = self.received.get(&(node, *canary)).copied() else {
                return Err(format!(
                    "{path} has content {canary:x}, which nobody sent to node {node}"
                ));
            };
            // What has the default class gets no label where there is none.
            let dir = path.parent().unwrap_or_default();
            let labelled = class != self.defaults[node] || self.above(node, &dir).is_some();
            self.add(at, (*canary, *number), labelled.then_some(class));
            self.receivers.insert(node);
        }
        Ok(())
    }
}

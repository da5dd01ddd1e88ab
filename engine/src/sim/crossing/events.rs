//! What happens in a history besides transfers: people change things, and machines fail.

use std::sync::Arc;

use super::law::{CLASSES, Law, NO_CLASS};
use super::node::{NODES, write};
use super::tap::content;
use super::world::{World, path};
use crate::base::{Class, RelPath, TransferId};
use crate::runtime::labels::{Which, label_below};
use crate::storage::Tree;

/// What ends a session from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abort {
    Cut,
    /// A node's process ended; or its power failed.
    Crash {
        node: usize,
        power: bool,
    },
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(super) fn class(rank: u8) -> Result<Class, String> {
    CLASSES.get(usize::from(rank)).ok_or("no class")?.parse().map_err(text)
}

fn word(label: u8) -> &'static [u8] {
    CLASSES.get(usize::from(label)).map_or(b"top-secret", |class| class.as_bytes())
}

impl World {
    /// Fills the nodes with datasets.
    pub(super) fn populate(&mut self) -> Result<(), String> {
        for node in 0..NODES.len() {
            for set in 0..3 {
                let dir = path(&format!("d{set}"));
                self.nodes[node].tree.mkdir(&dir).map_err(text)?;
                self.model.dirs.insert((node, dir.clone()), None);
                if self.rng.chance(25) {
                    self.hand_label(node, &dir)?;
                }
                for file in 0..self.rng.below(4) {
                    let name = if self.rng.chance(25) {
                        format!("sub/f{file}")
                    } else {
                        format!("f{file}")
                    };
                    let at = dir.join_path(&path(&name)).map_err(text)?;
                    self.put(node, &at)?;
                    if self.rng.chance(20) {
                        self.hand_label(node, &at)?;
                    }
                }
            }
            self.nodes[node].tree.sync_all().map_err(text)?;
        }
        Ok(())
    }

    /// Writes a file anew.
    fn put(&mut self, node: usize, at: &RelPath) -> Result<(), String> {
        let canary = self.canary();
        write(&self.nodes[node].tree, at, &content(canary)).map_err(text)?;
        let number = self.nodes[node].tree.meta(at).map_err(text)?.ino;
        self.model.add((node, at.clone()), (canary, number), None);
        let mut dir = at.parent();
        while let Some(at) = dir {
            dir = at.parent();
            self.model.dirs.entry((node, at)).or_insert(None);
        }
        self.nodes[node].tree.sync_all().map_err(text)
    }

    /// Somebody sets a label by himself, to any class or none.
    fn hand_label(&mut self, node: usize, at: &RelPath) -> Result<(), String> {
        let label = if self.rng.chance(6) { NO_CLASS } else { self.rng.below(4) as u8 };
        self.nodes[node].tree.set_label(at, word(label)).map_err(text)?;
        self.set(node, at, label);
        self.nodes[node].tree.sync_all().map_err(text)
    }

    /// Notes a label.
    fn set(&mut self, node: usize, at: &RelPath, label: u8) {
        let at = (node, at.clone());
        if let Some(dir) = self.model.dirs.get_mut(&at) {
            *dir = Some(label);
        } else if let Some(&ino) = self.model.files.get(&at) {
            self.model.inodes[ino].label = Some(label);
        }
    }

    /// As `portway label` does: raises the class of a path and of all below it.
    pub(super) fn raise(&mut self, node: usize, at: &RelPath) -> Result<(), String> {
        let now = self.model.dataset(node, at);
        let to = self.rng.between(1, 3) as u8;
        if now >= to {
            return Ok(());
        }
        let (from, raised) = (class(now)?, class(to)?);
        if self.nodes[node].border.relabel(TransferId(0), (at, &from), &raised, None).is_err() {
            return Ok(());
        }
        let tree: Arc<dyn Tree> = Arc::new(self.nodes[node].tree.clone());
        label_below(&self.nodes[node].border, (&tree, at), (&raised, Which::Lower), || {})
            .map_err(|(path, error)| format!("{path} cannot be labelled: {error}"))?;
        self.model.raise(node, at, to);
        self.tally.event("label raised");
        self.relabelled = true;
        self.nodes[node].border.note_relabelling().map_err(text)
    }

    fn some_file(&mut self, node: usize, below: &RelPath) -> Option<RelPath> {
        let files: Vec<RelPath> = self.model.below(node, below).map(|at| at.1.clone()).collect();
        self.rng.pick(&files).cloned()
    }

    fn some_path(&mut self, node: usize, below: &RelPath) -> RelPath {
        let file = self.some_file(node, below).filter(|_| self.rng.chance(50));
        file.unwrap_or_else(|| below.clone())
    }

    /// A law or a role changes at a node, or time goes by.
    pub(super) fn govern(&mut self, node: usize) -> Result<(), String> {
        match self.rng.below(10) {
            0..4 => {
                let law = self.rng.pick(&Law::ALL).copied().unwrap_or(Law::Ready);
                self.nodes[node].set_law(law)?;
                self.tally.event("policy changed");
            }
            4 | 5 => {
                let who = self.rng.below(NODES.len() as u64) as usize;
                let set = self.rng.below(4);
                let dataset = if set == 3 { RelPath::root() } else { path(&format!("d{set}")) };
                let until = self.nodes[node].now() + self.rng.between(1, 300).cast_signed();
                self.nodes[node].grant(who, dataset, until)?;
                self.tally.event("role granted");
            }
            6 => {
                let who = self.rng.below(NODES.len() as u64) as usize;
                self.nodes[node].revoke(who)?;
                self.tally.event("identity revoked, or not any more");
            }
            _ => {
                let secs = self.rng.between(1, 200).cast_signed();
                for node in &self.nodes {
                    let now = node.now() + secs;
                    node.clock.store(now, std::sync::atomic::Ordering::Relaxed);
                }
                self.tally.event("time passed");
            }
        }
        Ok(())
    }

    /// Somebody works on the files of a dataset.
    pub(super) fn work(&mut self, node: usize, set: &RelPath, resting: bool) -> Result<(), String> {
        let dir_of = |at: &RelPath| at.parent().unwrap_or_default();
        let name = path(&format!("n{}", self.rng.below(4)));
        match self.rng.below(if resting { 6 } else { 4 }) {
            // While something is read, names move only where that changes no class.
            0 => {
                let from = if resting { RelPath::root() } else { set.clone() };
                let Some(from) = self.some_file(node, &from) else { return Ok(()) };
                let dir = if resting { set.clone() } else { dir_of(&from) };
                let to = dir.join_path(&name).map_err(text)?;
                let (tree, at) = (&self.nodes[node].tree, (node, from.clone()));
                if from == to || tree.meta(&to).is_ok() {
                    return Ok(());
                }
                tree.rename(&from, &to, false).map_err(text)?;
                if let Some(ino) = self.model.files.remove(&at) {
                    self.model.files.insert((node, to), ino);
                }
                self.tally.event("file renamed");
            }
            1 => {
                let Some(from) = self.some_file(node, &RelPath::root()) else { return Ok(()) };
                let to = set.join_path(&name).map_err(text)?;
                let tree = &self.nodes[node].tree;
                if tree.meta(&to).is_ok() || tree.link(&from, &to).is_err() {
                    return Ok(());
                }
                if let Some(ino) = self.model.files.get(&(node, from)).copied() {
                    self.model.files.insert((node, to), ino);
                }
                self.tally.event("file linked");
            }
            2 => {
                let Some(at) = self.some_file(node, set) else { return Ok(()) };
                self.put(node, &at)?;
                self.tally.event("file replaced");
            }
            3 => {
                let at = set.join_path(&name).map_err(text)?;
                if self.nodes[node].tree.meta(&at).is_err() {
                    self.put(node, &at)?;
                    self.tally.event("file added");
                }
            }
            _ => {
                let at = self.some_path(node, set);
                self.hand_label(node, &at)?;
                self.tally.event("label set by hand");
            }
        }
        self.nodes[node].tree.sync_all().map_err(text)
    }

    /// Something happens between two steps of a session.
    pub(super) fn meanwhile(
        &mut self,
        (source, target): (usize, usize),
        set: &RelPath,
    ) -> Result<Option<Abort>, String> {
        let either = if self.rng.chance(60) { source } else { target };
        match self.rng.below(12) {
            0 | 1 => {
                let at = self.some_path(source, set);
                self.raise(source, &at)?;
            }
            2..7 => self.govern(either)?,
            7..10 => self.work(source, set, false)?,
            10 => return Ok(Some(Abort::Cut)),
            _ => {
                let power = self.rng.chance(50);
                return Ok(Some(Abort::Crash { node: either, power }));
            }
        }
        Ok(None)
    }
}

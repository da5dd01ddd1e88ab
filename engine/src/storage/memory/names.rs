//! Name operations that are not yet durable, and which of them stand or fall together.
//!
//! A journaling file system may keep any of them across a power loss or none, but not in ways
//! that contradict each other. An operation depends on an earlier one that is pending if
//!
//! - both touch the same name,
//! - the later one ends a directory in which the earlier one touched a name,
//! - both move a directory (or two moves could make a circle), or
//! - the later one renames something into a directory which, or one above which, the earlier one
//!   named (or what was renamed could be found in neither place).
//!
//! A rename is one operation, so it has happened or it has not. A name that was made in a new
//! directory does not make that directory's own name durable: POSIX promises nothing of the kind.

use std::collections::HashSet;

/// A name in a directory that is given by its inode.
pub(super) type Key = (u64, Vec<u8>);

/// One change of names.
pub(super) struct NameOp {
    /// The name that goes away.
    pub(super) remove: Option<Key>,
    /// The name that comes, replacing what has it.
    pub(super) add: Option<Key>,
    /// The inode that has the name.
    pub(super) ino: u64,
    /// The directory that ends by it.
    pub(super) ends: Option<u64>,
    pub(super) moves_dir: bool,
    /// For a rename: the directories from the root down to the one that the name comes to.
    pub(super) under: Vec<u64>,
}

impl NameOp {
    fn keys(&self) -> impl Iterator<Item = &Key> {
        self.remove.iter().chain(&self.add)
    }

    fn touches(&self, dir: u64) -> bool {
        self.keys().any(|(in_dir, _)| *in_dir == dir)
    }
}

/// Splits off the operations that a sync of `dir` makes durable: those that touch a name in it and
/// all they depend on, in order. The rest stays in `log`.
pub(super) fn take_synced(log: &mut Vec<NameOp>, dir: u64) -> Vec<NameOp> {
    let mut keys: HashSet<Key> = HashSet::new();
    let mut ended: HashSet<u64> = HashSet::new();
    let mut under: HashSet<u64> = HashSet::new();
    let mut moves = false;
    let mut chosen = vec![false; log.len()];
    for (op, chosen) in log.iter().zip(&mut chosen).rev() {
        *chosen = op.touches(dir)
            || op.keys().any(|key| keys.contains(key) || ended.contains(&key.0))
            || under.contains(&op.ino)
            || (moves && op.moves_dir);
        if *chosen {
            keys.extend(op.keys().cloned());
            ended.extend(op.ends);
            under.extend(&op.under);
            moves |= op.moves_dir;
        }
    }
    split(log, &chosen)
}

/// Takes out of `log` the operations that survive a power loss: those that `lucky` says and whose
/// dependencies survive too.
pub(super) fn take_survivors(
    log: &mut Vec<NameOp>,
    mut lucky: impl FnMut() -> bool,
) -> Vec<NameOp> {
    let mut keys: HashSet<Key> = HashSet::new();
    let mut dirs: HashSet<u64> = HashSet::new();
    let mut inos: HashSet<u64> = HashSet::new();
    let mut moves = false;
    let mut chosen = vec![false; log.len()];
    for (op, chosen) in log.iter().zip(&mut chosen) {
        let contradicts = op.keys().any(|key| keys.contains(key))
            || op.ends.is_some_and(|dir| dirs.contains(&dir))
            || op.under.iter().any(|dir| inos.contains(dir))
            || (moves && op.moves_dir);
        *chosen = lucky() && !contradicts;
        if !*chosen {
            keys.extend(op.keys().cloned());
            dirs.extend(op.keys().map(|(dir, _)| *dir));
            inos.insert(op.ino);
            moves |= op.moves_dir;
        }
    }
    split(log, &chosen)
}

fn split(log: &mut Vec<NameOp>, chosen: &[bool]) -> Vec<NameOp> {
    let mut chosen = chosen.iter().copied();
    log.extract_if(.., |_| chosen.next().unwrap_or(false)).collect()
}

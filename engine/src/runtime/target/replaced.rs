//! Large files that a snapshot replaces, held open until it is published.
//!
//! A rename over the last name of a file waits until the file system has freed its blocks: 0.15 s for
//! half a GB where it tells the disk of them as well (`discard`). Held open, they are freed when the
//! file is closed; after a crash the file system frees them itself.

use std::sync::Arc;
use std::thread;

use crate::base::RelPath;
use crate::storage::{File, Kind, Meta, Tree};

/// Files from this size on are held, in bytes; smaller ones are freed in no time.
const BYTES_MIN: u64 = 4 << 20;
/// Files that are held at most.
const FILES_MAX: usize = 128;

/// What was replaced; let go of on a thread of its own.
#[derive(Default)]
pub(super) struct Replaced(Vec<Arc<dyn File>>);

impl Replaced {
    /// Holds the file at `path`, which is `meta` now, if that is worth it.
    pub(super) fn hold(&mut self, tree: &dyn Tree, path: &RelPath, meta: &Meta) {
        if meta.kind == Kind::File && meta.len >= BYTES_MIN && self.0.len() < FILES_MAX {
            // Otherwise the rename waits.
            self.0.extend(tree.open(path));
        }
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        let held = std::mem::take(&mut self.0);
        if !held.is_empty() {
            // Without a thread they are freed here.
            let _ = thread::Builder::new().name("portway-free".into()).spawn(move || drop(held));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryTree;

    #[test]
    fn large_files_are_held_and_others_are_not() {
        let tree = MemoryTree::new(1);
        let path = |name: &str| RelPath::from_typed(name.as_bytes()).unwrap();
        let mut replaced = Replaced::default();
        for (name, len) in [("large", BYTES_MIN), ("small", BYTES_MIN - 1)] {
            tree.create(&path(name)).unwrap().set_len(len).unwrap();
            let meta = tree.meta(&path(name)).unwrap();
            replaced.hold(&tree, &path(name), &meta);
        }
        assert_eq!(replaced.0.len(), 1);
        let meta = tree.meta(&path("large")).unwrap();
        (0..2 * FILES_MAX).for_each(|_| replaced.hold(&tree, &path("large"), &meta));
        assert_eq!(replaced.0.len(), FILES_MAX);
        replaced.hold(&tree, &path("gone"), &meta);
    }
}

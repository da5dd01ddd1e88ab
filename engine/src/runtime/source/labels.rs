//! Labels of what is to be sent.

use std::collections::BTreeSet;
use std::io;
use std::thread;

use super::{Around, SourceFiles, SourceRoot};
use crate::base::RelPath;
use crate::border::Label;
use crate::runtime::labels::{is_absent, labels_down_to};
use crate::runtime::{OWN_DIR, noted};
use crate::storage::Kind;

impl SourceFiles {
    /// The labels that count for the sources: of each file its own and those of the directories above
    /// it, and of snapshots that were published there, `None` for a file without any. Without `deep`,
    /// what is below the sources is not looked at.
    ///
    /// # Errors
    /// A label cannot be read: nothing is known of the class then.
    pub fn labels(&self, deep: bool) -> io::Result<BTreeSet<Label>> {
        let mut all = BTreeSet::new();
        for root in &self.roots {
            let Around { above, base } = &root.around;
            let mut found: BTreeSet<Label> = above.iter().cloned().map(Some).collect();
            let covered = !above.is_empty() | labels_down_to(&*root.tree, &root.path, &mut found)?;
            if deep && root.tree.meta(&root.path)?.kind == Kind::Dir {
                labels_below(root, covered, &mut found)?;
            }
            // What has no label has the default class. Where nothing is, what a manifest says of it is no
            // reason to call it less than that.
            if found.is_empty() {
                found.insert(None);
            }
            let (tree, path) =
                base.as_ref().map_or((&root.tree, &root.path), |(tree, path)| (tree, path));
            noted::down_to(&**tree, path, &mut found)?;
            if deep {
                noted::below(&**tree, path, &mut found)?;
            }
            all.extend(found);
        }
        Ok(all)
    }
}

/// Adds the labels of all that is below a source, as a walk of it comes upon them. Most of it are calls
/// into the system, so several threads share it.
fn labels_below(root: &SourceRoot, covered: bool, found: &mut BTreeSet<Label>) -> io::Result<()> {
    let tree = &*root.tree;
    let device = tree.meta(&root.path)?.dev;
    let mut dirs = vec![(root.path.clone(), covered)];
    let mut names = Vec::new();
    while let Some((dir, covered)) = dirs.pop() {
        // What cannot be listed is not moved.
        for (name, kind) in tree.list(&dir).unwrap_or_default() {
            let own = dir.is_root() && name == OWN_DIR;
            let path = dir.join(&name).ok().filter(|_| !own);
            names.extend(path.map(|path| Named { path, kind, covered }));
        }
        if names.len() < NAMES_AT_ONCE && !dirs.is_empty() {
            continue;
        }
        let share = names.len().div_ceil(THREADS).max(NAMES_EACH);
        let look = |names: &[Named]| Looked::at(root, device, names);
        let looked = thread::scope(|threads| {
            let mut shares = names.chunks(share);
            let first = shares.next().unwrap_or_default();
            let others: Vec<_> = shares.map(|names| threads.spawn(move || look(names))).collect();
            let joined = others.into_iter().map(|other| {
                other.join().unwrap_or_else(|_| Err(io::Error::other("a look at labels panicked")))
            });
            std::iter::once(look(first)).chain(joined).collect::<io::Result<Vec<_>>>()
        })?;
        for Looked { labels, below } in looked {
            found.extend(labels);
            dirs.extend(below);
        }
        names.clear();
    }
    Ok(())
}

/// Names that are gathered before they are looked at.
const NAMES_AT_ONCE: usize = 8192;
/// Names that are worth a thread.
const NAMES_EACH: usize = 512;
/// Threads that look.
const THREADS: usize = 4;

/// What a directory lists.
struct Named {
    path: RelPath,
    kind: Option<Kind>,
    /// Something above it has a label.
    covered: bool,
}

/// What was found of some names.
#[derive(Default)]
struct Looked {
    labels: BTreeSet<Label>,
    /// Directories that are to be looked through, and whether a label covers them.
    below: Vec<(RelPath, bool)>,
}

impl Looked {
    fn at(root: &SourceRoot, device: u64, names: &[Named]) -> io::Result<Self> {
        let mut looked = Self::default();
        for named in names {
            match looked.look(root, device, named) {
                // It vanished meanwhile.
                Err(error) if is_absent(&error) => {}
                other => other?,
            }
        }
        Ok(looked)
    }

    fn look(&mut self, root: &SourceRoot, device: u64, named: &Named) -> io::Result<()> {
        let Named { path, kind, covered } = named;
        let tree = &*root.tree;
        let kind = kind.map_or_else(|| tree.meta(path).map(|meta| meta.kind), Ok)?;
        // A symbolic link has no label of its own; what is left out counts for nothing.
        let label = match kind {
            Kind::File => tree.label(path)?,
            Kind::Dir if tree.meta(path)?.dev == device => tree.label(path)?,
            Kind::Symlink if root.moves_link(path)? => None,
            _ => return Ok(()),
        };
        let covered = *covered || label.is_some();
        match (label, kind) {
            (Some(label), _) => drop(self.labels.insert(Some(label))),
            (None, Kind::Dir) => {}
            (None, _) if covered => {}
            (None, _) => drop(self.labels.insert(None)),
        }
        if kind == Kind::Dir {
            self.below.push((path.clone(), covered));
        }
        Ok(())
    }
}

impl SourceRoot {
    /// Whether a symbolic link stays in the source, and so is moved.
    fn moves_link(&self, path: &RelPath) -> io::Result<bool> {
        let text = self.tree.read_link(path)?;
        Ok(path.strip(&self.path).is_some_and(|below| below.link_stays_below(&text)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::{MemoryTree, Tree};

    fn path(text: &str) -> RelPath {
        RelPath::from_typed(text.as_bytes()).unwrap()
    }

    fn labels(tree: &MemoryTree, at: &str) -> Vec<Option<String>> {
        let (tree, path): (Arc<dyn Tree>, _) = (Arc::new(tree.clone()), path(at));
        let (place, around) = (RelPath::root(), Around::default());
        let files = SourceFiles::new(vec![SourceRoot { tree, path, place, around }]);
        let text = |label: Label| label.map(|it| String::from_utf8(it).unwrap());
        files.labels(true).unwrap().into_iter().map(text).collect()
    }

    #[test]
    fn labels_are_found_wherever_they_are_in_a_tree() {
        let tree = MemoryTree::new(1);
        for dir in ["many", "many/deep", "many/deep/er", "shut", "shut/below", "links"] {
            tree.mkdir(&path(dir)).unwrap();
        }
        let file = |at: &str| drop(tree.create(&path(at)).unwrap());
        (0..2 * NAMES_AT_ONCE).for_each(|i| file(&format!("many/{i}")));
        file("shut/below/a");
        tree.set_label(&path("shut"), b"restricted").unwrap();
        let some = |class: &str| Some(class.to_owned());
        assert_eq!(labels(&tree, "many"), [None]);
        file("many/deep/er/last");
        tree.set_label(&path("many/deep/er/last"), b"confidential").unwrap();
        tree.set_label(&path(&format!("many/{}", NAMES_AT_ONCE + 1)), b"internal").unwrap();
        let all = [None, some("confidential"), some("internal")];
        assert_eq!(labels(&tree, "many"), all);
        // What a label above covers needs none; what it covers has it.
        assert_eq!(labels(&tree, "shut"), [some("restricted")]);
        assert_eq!(labels(&tree, "shut/below/a"), [some("restricted")]);
        tree.set_label(&path("shut/below/a"), b"internal").unwrap();
        assert_eq!(labels(&tree, "shut"), [some("internal"), some("restricted")]);
        // Links that are moved have no label; what is left out counts for nothing.
        file("links/public");
        tree.set_label(&path("links/public"), b"public").unwrap();
        tree.symlink(b"../../etc/passwd", &path("links/out")).unwrap();
        assert_eq!(labels(&tree, "links"), [some("public")]);
        tree.symlink(b"public", &path("links/in")).unwrap();
        assert_eq!(labels(&tree, "links"), [None, some("public")]);
        assert_eq!(
            labels(&tree, ""),
            [None, some("confidential"), some("internal"), some("public"), some("restricted")]
        );
    }
}

//! Labels of what is to be sent.

mod below;

use std::collections::BTreeSet;
use std::io;

use super::{Around, SourceFiles, SourceRoot};
use crate::base::RelPath;
use crate::border::Label;
use crate::runtime::labels::labels_down_to;
use crate::runtime::noted;
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
            let mut found: BTreeSet<Label> = above.labels()?.into_iter().map(Some).collect();
            let covered = !found.is_empty() | labels_down_to(&*root.tree, &root.path, &mut found)?;
            if deep && root.tree.meta(&root.path)?.kind == Kind::Dir {
                found.extend(below::labels(root, covered)?);
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
    use crate::border::Denied;
    use crate::storage::{MemoryTree, OsTree, Tree};

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
        for dir in
            ["many", "many/.portway", "many/deep", "many/deep/er", "shut", "shut/below", "links"]
        {
            tree.mkdir(&path(dir)).unwrap();
        }
        let file = |at: &str| drop(tree.create(&path(at)).unwrap());
        (0..2 * below::NAMES_MAX).for_each(|i| file(&format!("many/{i}")));
        file("shut/below/a");
        // What another root has staged is not moved.
        file("many/.portway/staged");
        tree.set_label(&path("many/.portway/staged"), b"restricted").unwrap();
        tree.set_label(&path("shut"), b"restricted").unwrap();
        let some = |class: &str| Some(class.to_owned());
        assert_eq!(labels(&tree, "many"), [None]);
        file("many/deep/er/last");
        tree.set_label(&path("many/deep/er/last"), b"confidential").unwrap();
        tree.set_label(&path(&format!("many/{}", below::NAMES_MAX + 1)), b"internal").unwrap();
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

    #[test]
    fn what_has_a_label_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        for name in ["d/a", "d/shut"] {
            std::fs::write(dir.path().join(name), b"content").unwrap();
        }
        // A label longer than any that is read.
        let shut = dir.path().join("d/shut");
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&shut, "user.portway.class", &[b'c'; 256], flags).unwrap();
        let tree: Arc<dyn Tree> = Arc::new(OsTree::open(dir.path()).unwrap());
        for at in ["d", "d/shut"] {
            let (tree, path, around) = (Arc::clone(&tree), path(at), Around::default());
            let root = SourceRoot { tree, path, place: RelPath::root(), around };
            let error = SourceFiles::new(vec![root]).labels(true).unwrap_err();
            let denied = Denied::unread("labels", &error);
            assert!(
                matches!(&denied, Denied::Unread(why) if why.contains(": d/shut: ")),
                "{denied}"
            );
        }
    }
}

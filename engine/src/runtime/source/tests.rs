//! What the border lets a source open, by the labels as they are then.

use std::sync::Arc;

use super::{Around, SourceFiles, SourceRoot};
use crate::base::{RelPath, Tier};
use crate::border::testing::{border, push};
use crate::protocol::Failure;
use crate::storage::{MemoryTree, Tree, remove_all};

fn path(text: &str) -> RelPath {
    RelPath::from_typed(text.as_bytes()).expect("a path")
}

fn write(tree: &MemoryTree, at: &str) {
    remove_all(tree, &path(at)).expect("no other file");
    let file = tree.create(&path(at)).expect("a file");
    file.write_at(b"content", 0).expect("room");
}

/// Files of `d`, which is sent to another site as public.
fn sent_as_public(tree: &MemoryTree) -> (tempfile::TempDir, Arc<SourceFiles>) {
    let (dir, _home, border) = border();
    let way = border.enter(push(&border, "eu", Tier::Public, "public")).expect("public may leave");
    let root = SourceRoot {
        tree: Arc::new(tree.clone()),
        path: path("d"),
        place: RelPath::root(),
        around: Around::default(),
    };
    let files = Arc::new(SourceFiles::new(vec![root]));
    files.guard(&Arc::new(way));
    (dir, files)
}

fn opened(files: &SourceFiles, tree: &MemoryTree) -> Result<(), Failure> {
    let opened = files.open_to_send(&path("f"), (tree, &path("d/f")));
    opened.expect("it is there").map(drop)
}

#[test]
fn a_file_without_a_label_in_the_place_of_a_public_one_is_not_sent() {
    let tree = MemoryTree::new(7);
    tree.mkdir(&path("d")).expect("a directory");
    write(&tree, "d/f");
    tree.set_label(&path("d/f"), b"public").expect("a label");
    let (_dir, files) = sent_as_public(&tree);
    opened(&files, &tree).expect("it is public");
    write(&tree, "d/f");
    let denied = opened(&files, &tree).expect_err("it has the default class now");
    assert_eq!(denied.code, "denied", "{denied:?}");
}

#[test]
fn a_file_without_a_label_below_a_public_directory_is_sent() {
    let tree = MemoryTree::new(7);
    tree.mkdir(&path("d")).expect("a directory");
    tree.set_label(&path("d"), b"public").expect("a label");
    write(&tree, "d/f");
    let (_dir, files) = sent_as_public(&tree);
    opened(&files, &tree).expect("its directory is public");
}

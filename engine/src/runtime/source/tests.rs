//! What the border lets a source open, by the labels as they are then.

use std::sync::Arc;

use super::{Around, SourceFiles, SourceRoot};
use crate::base::{FileTime, RelPath, Stamp, Tier};
use crate::border::testing::{border, push};
use crate::manifest::{Entry, EntryKind};
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

fn entry(at: &str, kind: EntryKind) -> Entry {
    Entry { path: path(at), kind, mode: 0o755, mtime: FileTime { secs: 0, nanos: 0 } }
}

fn told(files: &SourceFiles, at: &str) -> Result<(), String> {
    files.may_be_told(&entry(at, EntryKind::Dir)).map_err(|failure| failure.code)
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

#[test]
fn directories_are_told_of_by_the_label_that_they_have_by_then() {
    let tree = MemoryTree::new(7);
    for dir in ["d", "d/plain", "d/secret", "d/open"] {
        tree.mkdir(&path(dir)).expect("a directory");
    }
    tree.set_label(&path("d"), b"public").expect("a label");
    let (_dir, files) = sent_as_public(&tree);
    tree.set_label(&path("d/open"), b"public").expect("a label");
    for at in ["plain", "open", "gone", ""] {
        told(&files, at).expect("it is public, or is not there");
    }
    tree.set_label(&path("d/secret"), b"restricted").expect("a label");
    // Files are looked at when they are opened.
    let file = entry("secret", EntryKind::File { len: 1, stamp: Stamp([0; 16]) });
    files.may_be_told(&file).expect("no directory");
    assert_eq!(told(&files, "secret").expect_err("restricted").as_str(), "denied");
}

#[test]
fn a_directory_without_a_label_in_the_place_of_a_public_one_is_not_told_of() {
    let tree = MemoryTree::new(7);
    tree.mkdir(&path("d")).expect("a directory");
    write(&tree, "d/f");
    tree.set_label(&path("d/f"), b"public").expect("a label");
    tree.mkdir(&path("d/new")).expect("a directory");
    let (_dir, files) = sent_as_public(&tree);
    assert_eq!(told(&files, "new").expect_err("internal").as_str(), "denied");
}

#[test]
fn names_and_digests_are_told_no_more_once_something_was_denied() {
    let tree = MemoryTree::new(7);
    tree.mkdir(&path("d")).expect("a directory");
    tree.set_label(&path("d"), b"public").expect("a label");
    write(&tree, "d/f");
    let (_dir, files) = sent_as_public(&tree);
    files.may_go_on().expect("it is public");
    tree.set_label(&path("d/f"), b"restricted").expect("a label");
    opened(&files, &tree).expect_err("denied");
    assert_eq!(files.may_go_on().expect_err("denied for good").code, "denied");
}

//! What the border lets a source open, by the labels as they are then.

use std::sync::Arc;

use super::{Above, Around, SourceFiles, SourceRoot, entry_of};
use crate::base::{FileTime, RelPath, Stamp, Tier};
use crate::border::testing::{border, push};
use crate::manifest::{Entry, EntryKind};
use crate::protocol::{Failure, ReadDone, ReadJob};
use crate::storage::{MemoryTree, OsTree, Tree, remove_all};

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

/// What comes of reading the file `at` of the snapshot, which is `in_tree`.
fn read(files: &SourceFiles, tree: &MemoryTree, (at, in_tree): (&str, &str)) -> ReadDone {
    let meta = tree.meta(&path(in_tree)).expect("a file");
    let entry = entry_of(path(at), &meta, None);
    files.read(1, &ReadJob::Pack(vec![(0, 0, entry)]), &mut [0; 4096])
}

/// Its files have no labels of their own, and the class of what moves is not below the default.
#[test]
fn what_is_moved_into_a_source_with_a_directory_of_a_higher_class_is_not_sent() {
    let tree = MemoryTree::new(7);
    for dir in ["d", "d/sub", "secret"] {
        tree.mkdir(&path(dir)).expect("a directory");
        write(&tree, &format!("{dir}/f"));
    }
    tree.set_label(&path("d"), b"public").expect("a label");
    tree.set_label(&path("secret"), b"restricted").expect("a label");
    let (_dir, files) = sent_as_public(&tree);
    let done = read(&files, &tree, ("sub/f", "d/sub/f"));
    assert!(done.failed.is_empty() && !done.pieces.is_empty(), "{done:?}");
    tree.rename(&path("d/sub"), &path("old"), false).expect("moved away");
    tree.rename(&path("secret"), &path("d/sub"), false).expect("moved in");
    let done = read(&files, &tree, ("sub/f", "d/sub/f"));
    assert!(done.pieces.is_empty() && done.ends.is_empty(), "{done:?}");
    assert_eq!(done.failed[0].1.code, "denied", "{done:?}");
}

#[test]
fn labels_above_a_source_count_as_they_are_when_they_are_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let (top, inside) = (dir.path().join("above/top"), RelPath::root());
    std::fs::create_dir_all(top.join("d")).expect("directories");
    std::fs::write(top.join("d/f"), b"content").expect("a file");
    let around = Around { above: Above::of(&top), base: None };
    let tree = Arc::new(OsTree::open(&top).expect("a tree"));
    let root = SourceRoot { tree, path: inside.clone(), place: inside, around };
    let files = SourceFiles::new(vec![root]);
    let labels = || files.labels(true).expect("labels").into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(labels(), Vec::<Vec<u8>>::new());
    let above = OsTree::open(dir.path()).expect("a tree");
    above.set_label(&path("above"), b"restricted").expect("a label");
    assert_eq!(labels(), [b"restricted".to_vec()]);
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

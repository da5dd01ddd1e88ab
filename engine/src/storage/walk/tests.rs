//! Order, what is skipped and why, and links that must not lead out.

use super::*;
use crate::storage::{MemoryTree, OsTree};

fn path(text: &str) -> RelPath {
    RelPath::from_bytes(text.as_bytes()).unwrap()
}

fn walk(tree: &MemoryTree, top: &str) -> Vec<WalkItem> {
    let leave_out = BTreeSet::from([b".portway".to_vec()]);
    Walk::new(Arc::new(tree.clone()), path(top), leave_out).unwrap().collect()
}

fn entries(items: &[WalkItem]) -> Vec<String> {
    items
        .iter()
        .filter_map(|item| match item {
            WalkItem::Entry { path, .. } => Some(path.to_string()),
            _ => None,
        })
        .collect()
}

#[test]
fn entries_come_in_the_order_of_their_paths() {
    let tree = MemoryTree::new(3);
    for dir in ["b", "b/x", "b-c", ".portway", "b/.portway"] {
        tree.mkdir(&path(dir)).unwrap();
    }
    for file in ["b/z", "b/x/1", "a", "b-c/0", "\u{7f}", ".portway/journal", "b/.portway/kept"] {
        tree.create(&path(file)).unwrap();
    }
    let found = entries(&walk(&tree, ""));
    // Another root may lie below, with files of its own.
    let order = ["a", "b", "b/x", "b/x/1", "b/z", "b-c", "b-c/0", "\\x7f"];
    assert_eq!(found, order);
    assert_eq!(entries(&walk(&tree, "b/x")), ["b/x/1"]);
}

#[test]
fn what_cannot_be_moved_is_skipped_with_its_reason() {
    let tree = MemoryTree::new(4);
    tree.mkdir(&path("d")).unwrap();
    tree.place_special(&path("d/fifo"), Kind::Fifo).unwrap();
    tree.place_special(&path("d/socket"), Kind::Socket).unwrap();
    tree.place_special(&path("d/tty"), Kind::Device).unwrap();
    tree.place_mount(&path("d/mnt")).unwrap();
    tree.create(&path("d/mnt/far")).unwrap();
    tree.symlink(b"/etc/passwd", &path("d/absolute")).unwrap();
    tree.symlink(b"../..", &path("d/climbs")).unwrap();
    tree.symlink(b"../d/fifo", &path("d/stays")).unwrap();
    let items = walk(&tree, "");
    assert_eq!(entries(&items), ["d", "d/stays"]);
    let skipped: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            WalkItem::Skipped { path, reason } => Some((path.to_string(), reason.clone())),
            _ => None,
        })
        .collect();
    let expected = [
        ("d/absolute", SkipReason::LinkLeavesTree),
        ("d/climbs", SkipReason::LinkLeavesTree),
        ("d/fifo", SkipReason::Special(Kind::Fifo)),
        ("d/mnt", SkipReason::MountPoint),
        ("d/socket", SkipReason::Special(Kind::Socket)),
        ("d/tty", SkipReason::Special(Kind::Device)),
    ];
    assert_eq!(skipped, expected.map(|(path, reason)| (path.to_owned(), reason)));
    // A link may not climb above the directory that is walked either.
    assert_eq!(entries(&walk(&tree, "d")), Vec::<String>::new());
}

#[test]
fn a_directory_that_vanishes_is_told_as_failed() {
    let tree = MemoryTree::new(5);
    tree.mkdir(&path("a")).unwrap();
    tree.create(&path("b")).unwrap();
    tree.create(&path("c")).unwrap();
    let mut walk = Walk::new(Arc::new(tree.clone()), path(""), BTreeSet::new()).unwrap();
    assert!(matches!(walk.next(), Some(WalkItem::Entry { .. })));
    tree.rmdir(&path("a")).unwrap();
    tree.unlink(&path("b")).unwrap();
    let rest: Vec<_> = walk.collect();
    let gone = |item: &WalkItem, name: &str| match item {
        WalkItem::Failed { path: at, error } => {
            *at == path(name) && error.kind() == io::ErrorKind::NotFound
        }
        _ => false,
    };
    assert!(gone(&rest[0], "a") && gone(&rest[1], "b"), "{rest:?}");
    assert_eq!(entries(&rest), ["c"]);
}

#[test]
fn a_tree_deeper_than_a_path_may_be_is_told_at_its_deepest_directory() {
    let tree = MemoryTree::new(6);
    let mut deepest = RelPath::root();
    while let Ok(next) = deepest.join(b"d") {
        tree.mkdir(&next).unwrap();
        deepest = next;
    }
    assert_eq!(walk(&tree, "").len(), crate::base::limits::PATH_DEPTH_MAX);
}

#[test]
fn a_real_tree_walks_alike() {
    let dir = tempfile::tempdir().unwrap();
    let tree = OsTree::open(dir.path()).unwrap();
    for at in ["b", "b/x", "b-c", ".portway"] {
        tree.mkdir(&path(at)).unwrap();
    }
    for at in ["b/z", "b/x/1", "b-c/0", ".portway/journal"] {
        tree.create(&path(at)).unwrap();
    }
    tree.symlink(b"../b-c", &path("b/l")).unwrap();
    let fifo = dir.path().join("b/fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, fifo, rustix::fs::Mode::RWXU).unwrap();
    let leave_out = BTreeSet::from([b".portway".to_vec()]);
    let items: Vec<_> = Walk::new(Arc::new(tree), path(""), leave_out).unwrap().collect();
    assert_eq!(entries(&items), ["b", "b/l", "b/x", "b/x/1", "b/z", "b-c", "b-c/0"]);
    assert!(matches!(&items[1], WalkItem::Skipped { reason: SkipReason::Special(Kind::Fifo), .. }));
}

#[test]
fn only_a_directory_can_be_walked() {
    let tree = MemoryTree::new(7);
    tree.create(&path("f")).unwrap();
    for (at, expected) in [("f", io::ErrorKind::NotADirectory), ("x", io::ErrorKind::NotFound)] {
        let walk = Walk::new(Arc::new(tree.clone()), path(at), BTreeSet::new());
        assert_eq!(walk.err().map(|error| error.kind()), Some(expected));
    }
}

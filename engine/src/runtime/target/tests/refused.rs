//! What cannot be published is refused before a name changes, and stops nothing else.

use super::*;

fn before() -> Vec<Item> {
    let mut items = vec![dir(""), dir("a"), file("a/f", "old f", 1), dir("sub")];
    items.extend([file("sub/f", "old", 1), file("z", "old z", 1)]);
    items
}

fn after() -> Vec<Item> {
    let mut items = vec![dir(""), dir("a"), file("a/f", "new f", 2), dir("sub")];
    items.extend([file("sub/f", "new", 2), file("z", "new z", 2)]);
    items
}

/// A refused push changes nothing, and the next one is a push like any other.
fn refuses(node: &Node, to: &str, items: &[Item], code: &str) {
    let seen = node.picture("");
    let failure = node.push(to, items).unwrap_err();
    assert_eq!(failure.code, code, "{}", failure.detail);
    assert_eq!(node.picture(""), seen, "nothing changed");
    let replayed = Journal::replay(&*node.tree, &Layout::of(&path(to)).journal).unwrap();
    assert!(replayed.is_none_or(|(_, replay)| replay.publishing.is_none()), "it is not publishing");
}

#[test]
fn a_directory_of_somebody_else_below_the_target_is_refused_before_anything_changes() {
    let tree = MemoryTree::new(1);
    let node = Node::new(tree.clone());
    node.push("m", &before()).unwrap();
    tree.give_away(&path("m/sub"), 0o755).unwrap();
    refuses(&node, "m", &after(), "permission");
    // What is not to change there does not matter.
    let mut others = before();
    others[5] = file("z", "new z", 2);
    node.push("m", &others).unwrap();
    assert_eq!(node.content("m/z").as_deref(), Some("new z"));
    assert_eq!(node.content("m/sub/f").as_deref(), Some("old"));
    assert!(node.staging_is_empty());
}

#[test]
fn a_directory_of_somebody_else_that_all_may_write_is_published_to_and_keeps_its_times() {
    let tree = MemoryTree::new(1);
    let node = Node::new(tree.clone());
    node.tree.mkdir(&path("shared")).unwrap();
    tree.give_away(&path("shared"), 0o1777).unwrap();
    node.push("shared", &after()).unwrap();
    assert_eq!(node.content("shared/a/f").as_deref(), Some("new f"));
    assert_eq!(tree.meta(&path("shared")).unwrap().mode, 0o1777);
    assert!(node.staging_is_empty());
    node.push("shared", &before()).unwrap();
    tree.give_away(&path("shared/z"), 0o644).unwrap();
    refuses(&node, "shared", &after(), "permission");
}

#[test]
fn a_new_target_in_a_directory_of_somebody_else_is_refused_before_content_moves() {
    let tree = MemoryTree::new(1);
    let node = Node::new(tree.clone());
    node.tree.mkdir(&path("theirs")).unwrap();
    tree.give_away(&path("theirs"), 0o755).unwrap();
    assert_eq!(node.open("theirs/deep/m").err().unwrap().code, "permission");
    refuses(&node, "theirs/m", &after(), "permission");
}

#[test]
fn what_would_be_published_on_another_file_system_is_refused() {
    let tree = MemoryTree::new(1);
    let node = Node::new(tree.clone());
    tree.place_mount(&path("mnt")).unwrap();
    for to in ["mnt", "mnt/new", "mnt/deep/new"] {
        assert_eq!(node.open(to).err().unwrap().code, "other-device", "{to}");
    }
    node.tree.mkdir(&path("m")).unwrap();
    tree.place_mount(&path("m/sub")).unwrap();
    refuses(&node, "m", &after(), "other-device");
    // A directory alone can be where one is mounted.
    node.push("m", &[dir(""), dir("sub"), file("z", "z", 1)]).unwrap();
    assert_eq!(node.content("m/z").as_deref(), Some("z"));
}

/// A publication of `m` that is recorded, and cannot be done before `sub` is given back.
fn stuck(tree: &MemoryTree, node: &Node) {
    node.push("m", &before()).unwrap();
    tree.inject(Fault { op: Op::Rename, after: 0, errno: Errno::IO });
    let failure = node.push("m", &after()).unwrap_err();
    assert!(failure.detail.contains("some of it may be seen"), "{}", failure.detail);
    tree.give_away(&path("m/sub"), 0o755).unwrap();
}

#[test]
fn a_publication_that_cannot_be_finished_does_not_keep_others_from_it() {
    let tree = MemoryTree::new(1);
    let node = Node::new(tree.clone());
    for to in ["k", "l", "n", "o"] {
        tree.inject(Fault { op: Op::Rename, after: 0, errno: Errno::IO });
        node.push(to, &after()).unwrap_err();
    }
    stuck(&tree, &node);
    let mut recovered = node.recover();
    recovered.rolled.sort();
    assert_eq!(recovered.rolled, ["k", "l", "n", "o"].map(path));
    let failed: Vec<_> = recovered.failed.iter().map(|(at, why)| (at, &*why.code)).collect();
    assert_eq!(failed, [(&path("m"), "permission")]);
    assert_eq!(node.push("m", &after()).unwrap_err().code, "permission");
    node.push("p", &after()).unwrap();
    assert_eq!(node.content("k/sub/f").as_deref(), Some("new"));
}

#[test]
fn a_publication_whose_writer_is_alive_is_left_to_it() {
    let tree = MemoryTree::new(1);
    let node = Node::new(tree.clone());
    for to in ["k", "m"] {
        tree.inject(Fault { op: Op::Rename, after: 0, errno: Errno::IO });
        node.push(to, &after()).unwrap_err();
    }
    let held = key_of(&path("m"));
    let lock = |key: &[u8]| Ok((key != held.as_bytes()).then_some(()));
    let recovered = recover_all(&*node.tree, &node.index, lock).unwrap();
    assert_eq!((recovered.rolled, recovered.failed), (vec![path("k")], vec![]));
    assert_eq!(node.content("m/z"), None);
    assert_eq!(node.recover().rolled, [path("m")]);
    assert_eq!(node.content("m/z").as_deref(), Some("new z"));
}

#[test]
fn the_deepest_path_that_is_taken_can_be_published() {
    for (to, depth_max) in [("m", 252), ("a/b/c/d/e/m", 250)] {
        let node = Node::new(MemoryTree::new(1));
        assert_eq!(node.open(to).unwrap().depth_max(), depth_max);
        let deep: Vec<String> = (0..=depth_max).map(|depth| vec!["d"; depth].join("/")).collect();
        let items: Vec<Item> = deep.iter().map(|at| dir(at)).collect();
        node.push(to, &items).unwrap();
        assert_eq!(node.picture(to).len(), items.len());
    }
    let node = Node::new(MemoryTree::new(1));
    let part = Part::of(&path("m/a"), &crate::base::Parts::new(2, "").unwrap(), Around::default())
        .unwrap();
    let held = part.held().clone();
    assert_eq!(held.depth(), 6);
    assert_eq!(node.open_part(&held, Some(part)).unwrap().depth_max(), 250);
}

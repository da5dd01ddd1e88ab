//! Manifests below a target path, once a snapshot of it replaced what they describe.

use super::*;

fn read(node: &Node, at: &str) -> Vec<String> {
    let Some(mut reader) = describing(&*node.tree, &path(at)).unwrap() else { return Vec::new() };
    let mut names = Vec::new();
    while let Some(listed) = reader.read().unwrap() {
        names.push(format!("{}:{}", listed.entry.path, listed.entry.len()));
    }
    names
}

fn wide(x: &str, version: u8) -> Vec<Item> {
    vec![dir(""), dir("x"), file("x/a", x, version), link("x/l", "a"), file("z", "z", 1)]
}

#[test]
fn a_manifest_below_goes_when_what_it_describes_is_replaced() {
    on_both(|node| {
        node.push("m/x", &[dir(""), file("a", "one", 1), link("l", "a")]).unwrap();
        node.push("m/x/a", &[file("", "one", 1)]).unwrap();
        node.push("m/other", &[dir(""), file("b", "b", 1)]).unwrap();
        node.push("mx", &[dir(""), file("b", "b", 1)]).unwrap();
        node.push("m", &wide("another", 2)).unwrap();
        assert_eq!(read(&node, "m/x"), [""; 0]);
        assert_eq!(read(&node, "m/x/a"), [""; 0]);
        assert_eq!(read(&node, "m").len(), 5);
        assert_eq!(read(&node, "m/other"), [".:0", "b:1"]);
        assert_eq!(read(&node, "mx"), [".:0", "b:1"]);
    });
}

#[test]
fn a_manifest_below_stays_when_what_it_describes_is_not_touched() {
    on_both(|node| {
        node.push("m", &wide("one", 1)).unwrap();
        node.push("m/x", &[dir(""), file("a", "two", 2), link("l", "a")]).unwrap();
        let before = read(&node, "m/x");
        assert_eq!(before.len(), 3);
        node.push("m", &[dir(""), file("z", "new", 3)]).unwrap();
        assert_eq!(read(&node, "m/x"), before);
        // The link is made again, and is the same.
        node.push("m", &[dir(""), dir("x"), link("x/l", "a")]).unwrap();
        assert_eq!(read(&node, "m/x"), before);
        // A file goes where the snapshot has a directory, though nothing is in it.
        node.push("m/f", &[file("", "f", 1)]).unwrap();
        node.push("m", &[dir(""), dir("f")]).unwrap();
        assert_eq!(read(&node, "m/f"), [""; 0]);
    });
}

#[test]
fn a_manifest_below_is_not_left_behind_by_what_was_removed() {
    let tmp = tempfile::tempdir().unwrap();
    let node = Node::new(OsTree::open(tmp.path()).unwrap());
    node.push("m/x", &[dir(""), file("a", "one", 1)]).unwrap();
    std::fs::remove_dir_all(tmp.path().join("m")).unwrap();
    node.push("m", &wide("another", 2)).unwrap();
    assert_eq!(read(&node, "m/x"), [""; 0]);
}

#[test]
fn a_manifest_below_keeps_its_class_for_files_that_stay() {
    on_both(|node| {
        let push = |to: &str, items: &[Item], class: Option<&str>| {
            let store = node.open(to).unwrap();
            if let Some(class) = class {
                store.keep(&class.parse().unwrap(), false);
            }
            let (_, root, entries) = stage(&store, items, usize::MAX).unwrap();
            store.publish(root, entries).unwrap();
        };
        let below = [dir(""), file("a", "one", 1), file("b", "stays", 1)];
        push("m/x", &below, Some("restricted"));
        push("m", &wide("another", 2), Some("internal"));
        assert_eq!(read(&node, "m/x"), [""; 0]);
        assert_eq!(noted_class(&*node.tree, &path("m/x")).unwrap().as_str(), "restricted");
        assert!(node.staging_is_empty());
        push("m/x", &below, Some("internal"));
        push("m", &wide("a third", 3), Some("internal"));
        assert_eq!(noted_class(&*node.tree, &path("m/x")), None);
    });
}

#[test]
fn a_manifest_below_goes_too_when_a_publication_is_rolled_forward() {
    for op in [Op::Sync, Op::SyncDir, Op::SyncAll, Op::Rename, Op::Unlink] {
        for nth in 0..20 {
            for seed in 0..4 {
                let tree = MemoryTree::new(1);
                let node = Node::new(tree.clone());
                node.push("m/x", &[dir(""), file("a", "one", 1)]).unwrap();
                tree.inject(Fault { op, after: nth, errno: Errno::IO });
                let failed = node.push("m", &wide("another", 2)).is_err();
                tree.crash(seed);
                assert_eq!(node.recover().failed, []);
                if node.content("m/x/a").as_deref() == Some("another") {
                    assert_eq!(read(&node, "m/x"), [""; 0], "{op:?} {nth} {seed} {failed}");
                }
            }
        }
    }
}

//! What a peer across the border is told of what is here, and what becomes of what is staged.

use super::*;
use crate::base::Tier;
use crate::border::Way;
use crate::border::testing::{border, inside, push};
use crate::encode::SUM_BYTES;
use crate::runtime::labels::Around;
use crate::runtime::target::near::Spot;

/// A way to another site; what is without a label may not go there.
fn across() -> (tempfile::TempDir, Arc<Way>) {
    let (dir, _home, border) = border();
    let way = border.enter(push(&border, "eu", Tier::Public, "public")).expect("public may leave");
    (dir, Arc::new(way))
}

fn opened(node: &Node, source: &str, plan: bool) -> TargetStore {
    let options = StoreOptions {
        transfer_id: TransferId(2),
        source: source.to_owned(),
        checksum: false,
        plan,
        part: None,
        above: Above::default(),
        basis: None,
        near: true,
        planted: Planted::default(),
    };
    TargetStore::open(Arc::clone(&node.tree), node.index.clone(), &path("m"), options).unwrap()
}

/// A push of `onprem` was broken off.
fn half_done(node: &Node) {
    let store = node.open("m").unwrap();
    stage(&store, &[dir(""), file("a", "some content", 1), failing("b", "more")], usize::MAX)
        .unwrap();
}

#[test]
fn what_another_source_left_staged_is_gone_before_a_peer_across_is_told_of_it() {
    on_both(|node| {
        half_done(&node);
        let (_dir, way) = across();
        // A plan changes nothing, and tells of nothing of it.
        let store = opened(&node, "other", true);
        let staged = store.layout.tree.clone();
        store.tell_only(&way, Vec::new()).unwrap();
        assert!(node.tree.meta(&staged).is_ok(), "a plan removes nothing");
        assert!(
            !store.may_tell(&staged.join(b"a").unwrap(), &mut Around::default()),
            "nor tells of it"
        );
        drop(store);

        let store = opened(&node, "other", false);
        store.tell_only(&way, Vec::new()).unwrap();
        assert!(node.tree.meta(&staged).is_err(), "it has no label yet, and is not resumed");
        assert!(
            store.may_tell(&staged.join(b"a").unwrap(), &mut Around::default()),
            "what comes now is the peer's"
        );
    });
}

#[test]
fn what_the_peer_left_staged_itself_stays_and_is_told_of() {
    on_both(|node| {
        half_done(&node);
        let (_dir, way) = across();
        for plan in [true, false] {
            let store = opened(&node, "onprem", plan);
            store.tell_only(&way, Vec::new()).unwrap();
            let staged = store.layout.tree.clone();
            assert!(node.tree.meta(&staged).is_ok());
            assert!(store.may_tell(&staged.join(b"a").unwrap(), &mut Around::default()));
        }
    });
}

#[test]
fn a_peer_across_is_told_of_what_it_may_read_and_of_no_other_file() {
    on_both(|node| {
        for name in ["open", "shut", "bare"] {
            node.push(name, &[dir(""), file("a", name, 1)]).unwrap();
        }
        node.tree.set_label(&path("open"), b"public").unwrap();
        node.tree.set_label(&path("shut"), b"restricted").unwrap();
        let own = RelPath::root().join(OWN_DIR).unwrap().join(b"roots").unwrap();
        let files = ["open/a", "shut/a", "bare/a"].map(path);
        let told = |store: &TargetStore| {
            files
                .iter()
                .chain([&own])
                .map(|at| store.may_tell(at, &mut Around::default()))
                .collect::<Vec<_>>()
        };
        let (_dir, way) = across();
        let store = opened(&node, "onprem", false);
        store.tell_only(&way, Vec::new()).unwrap();
        assert_eq!(told(&store), [true, false, false, false]);
        drop(store);
        // Labels above the tree count as those in it.
        let store = opened(&node, "onprem", false);
        store.tell_only(&way, vec![b"restricted".to_vec()]).unwrap();
        assert_eq!(told(&store), [false, false, false, false]);
        drop(store);
        let store = opened(&node, "onprem", false);
        store.tell_only(&way, vec![b"public".to_vec()]).unwrap();
        assert_eq!(told(&store), [true, false, true, false]);
        drop(store);
        // Inside a site nothing is hidden.
        let store = opened(&node, "onprem", false);
        store.tell_only(&inside(), Vec::new()).unwrap();
        assert_eq!(told(&store), [true, true, true, true]);
    });
}

#[test]
fn blocks_whose_sums_were_told_are_read_once_and_only_if_they_are_there() {
    on_both(|node| {
        let content = (0..1024).map(|number| format!("{number:03}")).collect::<Vec<_>>().join(" ");
        node.push("m", &[dir(""), file("a", &content, 1)]).unwrap();
        let store = opened(&node, "onprem", false);
        let digest = Digest::default();
        let piece = |offset| Piece { seq: 1, round: 0, offset, len: 1024, digest };
        let pieces = [(0, piece(0)), (1, piece(1024))];
        let spots = [Spot { index: 0, path: path("m/a"), offset: 0 }];
        let tell = |run| store.sum_near(run, &pieces, &spots).len();
        let mut read = Vec::new();
        // Six blocks lie behind what was found.
        assert_eq!(tell(7), 6 * SUM_BYTES);
        assert!(!store.read_near(8, &mut read), "of another run");
        assert!(store.read_near(7, &mut read) && read == content.as_bytes()[1024..4096]);
        assert!(!store.read_near(7, &mut read), "a run has one message");
        assert_eq!(tell(9), 6 * SUM_BYTES);
        node.tree.open_rw(&path("m/a")).unwrap().set_len(2000).unwrap();
        assert!(!store.read_near(9, &mut read), "it became shorter");
    });
}

#[test]
fn a_manifest_alone_does_not_call_content_public() {
    let tree = MemoryTree::new(1);
    tree.refuse_labels();
    let node = Node::new(tree);
    let store = node.open("open").unwrap();
    store.keep(&"public".parse().unwrap(), false);
    let items = [dir(""), file("a", "text", 1)];
    let (_, root, entries) = stage(&store, &items, usize::MAX).unwrap();
    store.publish(root, entries).unwrap();
    drop(store);
    assert_eq!(noted_class(&*node.tree, &path("open")).unwrap().as_str(), "public");
    let (_dir, way) = across();
    let store = opened(&node, "onprem", false);
    store.tell_only(&way, Vec::new()).unwrap();
    assert!(
        !store.may_tell(&path("open/a"), &mut Around::default()),
        "it has no label, so it is internal"
    );
}

/// A tree below a directory with a label, which whoever pushes from there would go by.
#[test]
fn what_comes_below_a_public_directory_outside_the_tree_keeps_its_higher_class() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("open/data");
    std::fs::create_dir_all(&top).unwrap();
    let tree = OsTree::open(dir.path()).unwrap();
    tree.set_label(&path("open"), b"public").unwrap();
    let way = inside();
    let node = Node::new(OsTree::open(&top).unwrap());
    let mut store = opened(&node, "onprem", false);
    store.options.above = Above::of(&top);
    store.keep_class(&way).unwrap();
    let (_, root, entries) =
        stage(&store, &[super::dir(""), file("x", "text", 1)], usize::MAX).unwrap();
    store.publish(root, entries).unwrap();
    let label = |at: &str| node.tree.label(&path(at)).unwrap();
    assert_eq!(label("m/x"), Some(b"internal".to_vec()));
    assert_eq!(label("m"), Some(b"internal".to_vec()));
}

#[test]
fn what_was_staged_before_the_class_rose_gets_the_higher_label_before_it_is_published() {
    on_both(|node| {
        let (_dir, way) = across();
        let store = opened(&node, "onprem", false);
        store.keep_class(&way).unwrap();
        let entries = [dir(""), file("a", "some", 1), file("b", "more", 2)];
        let (_, root, count) = stage(&store, &entries, usize::MAX).unwrap();
        let staged = store.layout.tree.join(b"a").unwrap();
        assert_eq!(node.tree.label(&staged).unwrap(), Some(b"public".to_vec()));
        store.keep(&"restricted".parse().unwrap(), true);
        store.publish(root, count).unwrap();
        for at in ["m", "m/a", "m/b"] {
            assert_eq!(node.tree.label(&path(at)).unwrap(), Some(b"restricted".to_vec()), "{at}");
        }
    });
}

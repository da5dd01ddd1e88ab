//! Parts of one snapshot from several writers.

use super::super::parts::parts_path;
use super::*;
use crate::base::Parts;
use crate::runtime::snapshots::newest;

/// A snapshot whose parts come one by one.
struct Save {
    node: Node,
    around: Around,
    parts: Parts,
}

impl Save {
    fn new(node: &Node, count: u32, attempt: &str) -> Self {
        let parts = Parts::new(count, attempt).unwrap();
        Self { node: node.clone(), around: Around::default(), parts }
    }

    fn part(&self, to: &str) -> Part {
        Part::of(&path(to), &self.parts, self.around.clone()).unwrap()
    }

    fn open(&self, to: &str) -> Result<TargetStore, Failure> {
        let part = self.part(to);
        let (tree, held) = (Arc::clone(&self.node.tree), part.held().clone());
        let options = StoreOptions {
            transfer_id: TransferId(1),
            source: self.node.source.to_owned(),
            checksum: false,
            plan: false,
            part: Some(part),
            above: Above::default(),
            basis: None,
            near: true,
            planted: Planted::default(),
        };
        TargetStore::open(tree, self.node.index.clone(), &held, options)
    }

    fn push(&self, to: &str, items: &[Item]) -> Result<(), Failure> {
        let store = self.open(to)?;
        let (_, root, entries) = stage(&store, items, usize::MAX)?;
        store.publish(root, entries)
    }
}

fn tensors(content: &str) -> [Item; 2] {
    [dir(""), file("w", content, 1)]
}

fn names(node: &Node, dir: &RelPath) -> Vec<RelPath> {
    let names = node.tree.list(dir).unwrap_or_default();
    names.into_iter().map(|(name, _)| dir.join(&name).unwrap()).collect()
}

/// Areas where parts wait.
fn areas(node: &Node) -> usize {
    names(node, &parts_path()).iter().map(|of_path| names(node, of_path).len()).sum()
}

/// Manifests of what is published, seen or not.
fn manifests(node: &Node) -> usize {
    names(node, &manifests_path()).len()
}

/// All that is seen below `at`, without modes and times.
fn seen(node: &Node, at: &str) -> Vec<String> {
    let line = |line: &String| {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        format!("{} {}", words[0], words[3])
    };
    node.picture(at).iter().map(line).collect()
}

#[test]
fn a_snapshot_appears_with_its_last_part() {
    on_both_indexed(|node| {
        let save = Save::new(&node, 3, "");
        save.push("runs/step-7/b", &tensors("of b")).unwrap();
        save.push("runs/step-7/a", &[file("", "of a", 1)]).unwrap();
        assert_eq!(seen(&node, "runs"), [""; 0], "nothing is seen");
        assert_eq!(newest(&*node.tree, &RelPath::root(), None, |_| true), Ok(None));
        // Several sources have no top of their own.
        save.push("runs/step-7/c", &[file("x", "x", 1), file("y", "y", 1)]).unwrap();
        let all = [
            "runs/step-7 dir",
            "runs/step-7/a of a",
            "runs/step-7/b dir",
            "runs/step-7/b/w of b",
            "runs/step-7/c dir",
            "runs/step-7/c/x x",
            "runs/step-7/c/y y",
        ];
        assert_eq!(seen(&node, "runs/step-7"), all);
        let found = newest(&*node.tree, &path("runs"), None, |_| true).unwrap().unwrap();
        assert_eq!((found.name, found.files, found.bytes), (b"step-7".to_vec(), 4, 10));
        assert!(node.staging_is_empty());
        assert_eq!((areas(&node), manifests(&node)), (0, 1));
    });
}

#[test]
fn chunks_of_a_snapshot_of_parts_are_found_where_they_are_now() {
    on_both_indexed(|node| {
        let save = Save::new(&node, 2, "");
        save.push("m/a", &tensors("the content of a")).unwrap();
        save.push("m/b", &tensors("the content of b")).unwrap();
        let store = node.open("other").unwrap();
        let copy = [dir(""), file("x", "the content of a", 3)];
        let entries: Vec<Entry> = copy.iter().map(|item| item.entry.clone()).collect();
        store.check(0, &entries);
        for (piece, _) in pieces(1, &copy[1].content) {
            let found = store.resolve(&[(0, piece)]).unwrap();
            assert_eq!(found[0].1, Ok(Finding::Deduplicated));
        }
    });
}

#[test]
fn parts_of_another_attempt_or_of_another_number_do_not_count() {
    on_both(|node| {
        Save::new(&node, 2, "first").push("m/a", &tensors("old a")).unwrap();
        Save::new(&node, 3, "second").push("m/a", &tensors("older a")).unwrap();
        let save = Save::new(&node, 2, "second");
        save.push("m/b", &tensors("new b")).unwrap();
        assert_eq!(seen(&node, "m"), [""; 0]);
        save.push("m/a", &tensors("new a")).unwrap();
        assert_eq!(seen(&node, "m"), ["m dir", "m/a dir", "m/a/w new a", "m/b dir", "m/b/w new b"]);
    });
}

#[test]
fn a_part_that_is_pushed_again_is_the_last_that_was_whole() {
    on_both(|node| {
        let save = Save::new(&node, 2, "");
        for content in ["first", "second"] {
            save.push("m/a", &[dir(""), file("w", content, content.len() as u8)]).unwrap();
        }
        // Unchanged, it is looked at whether all are there.
        save.push("m/a", &[dir(""), file("w", "second", 6)]).unwrap();
        assert_eq!(seen(&node, "m"), [""; 0]);
        save.push("m/b", &tensors("b")).unwrap();
        assert_eq!(seen(&node, "m/a"), ["m/a dir", "m/a/w second"]);
    });
}

#[test]
fn a_part_that_is_being_written_again_is_waited_for() {
    on_both(|node| {
        let save = Save::new(&node, 2, "");
        save.push("m/a", &tensors("old")).unwrap();
        let again = [dir(""), file("w", "new content", 2)];
        let store = save.open("m/a").unwrap();
        let (_, root, entries) = stage(&store, &again, usize::MAX).unwrap();
        save.push("m/b", &tensors("b")).unwrap();
        assert_eq!(seen(&node, "m"), [""; 0], "the last to be whole makes it appear");
        store.publish(root, entries).unwrap();
        assert_eq!(seen(&node, "m/a"), ["m/a dir", "m/a/w new content"]);
    });
}

#[test]
fn the_parts_of_a_snapshot_that_is_there_replace_its_objects() {
    on_both(|node| {
        for content in ["first", "other"] {
            let save = Save::new(&node, 2, content);
            save.push("m/a", &[dir(""), file("w", content, content.as_bytes()[0])]).unwrap();
            save.push("m/b", &tensors("b")).unwrap();
            assert_eq!(node.content("m/a/w").unwrap(), content);
        }
        // A directory with something in it is never replaced by a file.
        let save = Save::new(&node, 2, "third");
        save.push("m/b", &[file("", "a file", 1)]).unwrap();
        assert_eq!(save.push("m/a", &tensors("third")).unwrap_err().code, "in-the-way");
        assert_eq!(node.content("m/a/w").unwrap(), "other");
        node.tree.unlink(&path("m/b/w")).unwrap();
        save.push("m/a", &tensors("third")).unwrap();
        assert_eq!(seen(&node, "m"), ["m dir", "m/a dir", "m/a/w third", "m/b a file"]);
    });
}

#[test]
fn what_can_be_no_part_is_refused() {
    let parts = Parts::new(2, "").unwrap();
    for wrong in ["", "a"] {
        let refused = Part::of(
            &RelPath::from_typed(wrong.as_bytes()).unwrap_or_default(),
            &parts,
            Around::default(),
        );
        assert_eq!(refused.unwrap_err().code, "unsafe-path", "{wrong:?}");
    }
}

#[test]
fn whoever_writes_to_the_snapshots_path_keeps_its_parts_out() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(OsTree::open(dir.path()).unwrap());
    let locks = dir.path().join("locks");
    std::fs::create_dir(&locks).unwrap();
    let mut save = Save::new(&node, 1, "");
    save.around.locks = Some(locks.clone());
    let writer = crate::runtime::root::try_lock(&locks.join(key_of(&path("m")))).unwrap();
    assert_eq!(save.push("m/a", &tensors("a")).unwrap_err().code, "conflict");
    assert_eq!(seen(&node, "m"), [""; 0]);
    drop(writer);
    save.push("m/a", &tensors("a")).unwrap();
    assert_eq!(seen(&node, "m/a"), ["m/a dir", "m/a/w a"]);
}

#[test]
fn an_error_of_the_disk_or_a_power_loss_leaves_all_or_nothing() {
    let parts = ["m/a", "m/b"];
    let looking = [Op::Meta, Op::List, Op::Open, Op::Read];
    let names = [Op::Create, Op::Mkdir, Op::Rename, Op::Unlink, Op::Rmdir, Op::SetMeta];
    let durable = [Op::SyncDir, Op::SyncAll, Op::Write, Op::Sync];
    for op in [&looking[..], &names, &durable].concat() {
        for nth in 0..40 {
            let tree = MemoryTree::new(nth.into());
            let node = Node::new(tree.clone());
            let save = Save::new(&node, 2, "");
            save.push(parts[0], &tensors("of a")).unwrap();
            tree.create(&path(".portway/x")).unwrap();
            tree.inject(Fault { op, after: nth, errno: Errno::IO });
            let broken = save.push(parts[1], &tensors("of b")).is_err();
            // A fault that did not come yet comes now.
            for _ in 0..40 {
                let (x, buf) = (path("m/x"), &mut [0]);
                let _ = (tree.meta(&x), tree.list(&x), tree.open(&x));
                let _ = tree.open(&path(".portway/x")).map(|file| file.read_at(buf, 0));
            }
            if broken {
                tree.crash(nth.into());
                let at = seen(&node, "m");
                assert!(at.is_empty() || at.len() == 5, "{op:?} {nth}: {at:?}");
            }
            let all = ["m dir", "m/a dir", "m/a/w of a", "m/b dir", "m/b/w of b"];
            let mut left = 200;
            while seen(&node, "m").is_empty() && left > 0 {
                // What is rolled forward at a start may meet the rest of the faults.
                let _ = recover_all(&*node.tree, &node.index, |_| Ok(Some(())));
                if seen(&node, "m").is_empty() {
                    let _ = save.push(parts[1], &tensors("of b"));
                }
                left -= 1;
            }
            assert_eq!(seen(&node, "m"), all, "{op:?} {nth}");
            let recovered = || recover_all(&*node.tree, &node.index, |_| Ok(Some(())));
            while !recovered().is_ok_and(|recovered| recovered.failed.is_empty()) {}
            assert!(node.content("m/a/w").is_some(), "{op:?} {nth}");
            let found = newest(&*node.tree, &RelPath::root(), None, |_| true);
            assert_eq!(found.unwrap().map(|it| it.files), Some(2), "{op:?} {nth}");
        }
    }
}

#[test]
fn parts_that_wait_too_long_are_removed_with_what_is_staged_of_others() {
    on_both(|node| {
        let save = Save::new(&node, 3, "");
        save.push("m/a", &tensors("a")).unwrap();
        let store = save.open("m/b").unwrap();
        stage(&store, &[dir(""), failing("w", "half of it")], usize::MAX).unwrap();
        drop(store);
        let free = |_: &RelPath| std::fs::File::open("/dev/null").map(Some);
        let now = node.tree.meta(&parts_path()).unwrap().mtime.secs;
        let expire =
            |after: i64| expire_parts(&*node.tree, &node.index, now + after, free).unwrap();
        assert_eq!(expire(PARTS_KEPT_S - 60), 0);
        let busy = |_: &RelPath| Ok(None);
        let late = now + PARTS_KEPT_S + 60;
        assert_eq!(expire_parts(&*node.tree, &node.index, late, busy).unwrap(), 0);
        assert_eq!(areas(&node), 1);
        assert_eq!(expire(PARTS_KEPT_S + 60), 1);
        assert_eq!((areas(&node), manifests(&node)), (0, 0));
        assert!(node.staging_is_empty());
        // What is seen stays.
        node.push("m", &small_tree()).unwrap();
        assert_eq!(expire(2 * PARTS_KEPT_S), 0);
        assert_eq!(node.content("m/z").unwrap(), "z");
    });
}

//! Staging, publishing and rolling forward, without a peer.

mod nested;
mod parts;
mod refused;
mod told;

use std::sync::Arc;

use rustix::io::Errno;

use super::*;
use crate::base::{FileTime, Stamp};
use crate::manifest::{ChunkRef, Entry, EntryKind, ListHasher, Object, RootHasher};
use crate::protocol::{
    Checked, CommitJob, CommitObject, Finding, PlacePiece, PlaceResult, SettledObject,
};
use crate::storage::memory::{Fault, Op};
use crate::storage::{Kind, MemoryTree, OsTree};
use crate::wire::Piece;

fn path(text: &str) -> RelPath {
    RelPath::from_typed(text.as_bytes()).unwrap()
}

/// An entry of a snapshot that is to be pushed.
#[derive(Clone)]
struct Item {
    entry: Entry,
    content: Vec<u8>,
    /// The object fails after half of its content was placed.
    fails: bool,
}

fn item(at: &str, kind: EntryKind, mode: u32, content: &[u8]) -> Item {
    let mtime = FileTime { secs: 1_600_000_000, nanos: 5 };
    let entry = Entry { path: path(at), kind, mode, mtime };
    Item { entry, content: content.to_vec(), fails: false }
}

/// A file whose stamp is `version`.
fn file(at: &str, content: &str, version: u8) -> Item {
    let kind = EntryKind::File { len: content.len() as u64, stamp: Stamp([version; 16]) };
    item(at, kind, 0o640, content.as_bytes())
}

fn failing(at: &str, content: &str) -> Item {
    Item { fails: true, ..file(at, content, 9) }
}

fn dir(at: &str) -> Item {
    item(at, EntryKind::Dir, 0o755, b"")
}

fn link(at: &str, text: &str) -> Item {
    item(at, EntryKind::Symlink(text.as_bytes().to_vec()), 0o777, b"")
}

/// The pieces of a file: its two halves, the first of which may be empty.
fn pieces(seq: Seq, content: &[u8]) -> Vec<(Piece, Vec<u8>)> {
    let (a, b) = content.split_at(content.len() / 2);
    let mut all = Vec::new();
    for (offset, part) in [(0, a), (a.len() as u64, b)] {
        if !part.is_empty() {
            let (len, digest) = (part.len() as u32, Digest::of(part));
            all.push((Piece { seq, round: 0, offset, len, digest }, part.to_vec()));
        }
    }
    all
}

fn list_of(content: &[u8]) -> (Object, Vec<ChunkRef>) {
    let chunk = |(p, _): (Piece, _)| ChunkRef { offset: p.offset, len: p.len, digest: p.digest };
    let chunks: Vec<ChunkRef> = pieces(0, content).into_iter().map(chunk).collect();
    let mut list = ListHasher::default();
    assert!(chunks.iter().all(|chunk| list.push(chunk)));
    let len = content.len() as u64;
    (Object { digest: list.finish(len), len, cutter: 3 }, chunks)
}

/// A target node.
#[derive(Clone)]
struct Node {
    tree: Arc<dyn Tree>,
    index: Index,
    source: &'static str,
}

impl Node {
    fn new(tree: impl Tree) -> Self {
        Self { tree: Arc::new(tree), index: Index::disabled(), source: "onprem" }
    }

    fn indexed(tree: impl Tree) -> Self {
        let tree: Arc<dyn Tree> = Arc::new(tree);
        let (index, _) = Index::open(Arc::clone(&tree), &index_path()).unwrap();
        Self { tree, index, source: "onprem" }
    }

    fn open(&self, to: &str) -> Result<TargetStore, Failure> {
        self.open_part(&path(to), None)
    }

    fn open_part(&self, to: &RelPath, part: Option<Part>) -> Result<TargetStore, Failure> {
        let options = StoreOptions {
            transfer_id: TransferId(1),
            source: self.source.to_owned(),
            checksum: false,
            plan: false,
            part,
            above: Above::default(),
            basis: None,
            near: true,
            planted: Planted::default(),
        };
        TargetStore::open(Arc::clone(&self.tree), self.index.clone(), to, options)
    }

    fn recover(&self) -> Recovered {
        recover_all(&*self.tree, &self.index, |_| Ok(Some(()))).unwrap()
    }

    /// Pushes a snapshot; returns what the check said of each file.
    fn push(&self, to: &str, items: &[Item]) -> Result<Vec<Checked>, Failure> {
        let store = self.open(to)?;
        let (answers, root, entries) = stage(&store, items, usize::MAX)?;
        store.publish(root, entries)?;
        Ok(answers)
    }

    fn content(&self, at: &str) -> Option<String> {
        let file = self.tree.open(&path(at)).ok()?;
        let mut bytes = vec![0; file.meta().unwrap().len as usize];
        file.read_at(&mut bytes, 0).unwrap();
        Some(String::from_utf8(bytes).unwrap())
    }

    /// All that is visible below `to` and what it is, one line each.
    fn picture(&self, to: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let mut todo = vec![path(to)];
        while let Some(at) = todo.pop() {
            let Ok(meta) = self.tree.meta(&at) else { continue };
            let what = match meta.kind {
                Kind::Dir => {
                    let names = self.tree.list(&at).unwrap();
                    let names = names.into_iter().filter(|(name, _)| name != OWN_DIR);
                    todo.extend(names.map(|(name, _)| at.join(&name).unwrap()));
                    "dir".to_owned()
                }
                Kind::Symlink => String::from_utf8(self.tree.read_link(&at).unwrap()).unwrap(),
                _ => self.content(&at.to_string()).unwrap(),
            };
            let mode = if meta.kind == Kind::Symlink { 0o777 } else { meta.mode };
            lines.push(format!("{at} {mode:o} {} {what}", meta.mtime.secs));
        }
        lines.sort();
        lines
    }

    fn times(&self, to: &str) -> Vec<(String, FileTime)> {
        let paths = self.picture(to);
        let at = |line: &String| line.split(' ').next().unwrap().to_owned();
        let time = |at: String| (at.clone(), self.tree.meta(&path(&at)).unwrap().ctime);
        paths.iter().map(at).map(time).collect()
    }

    fn staging_is_empty(&self) -> bool {
        self.tree.list(&staging_path()).is_ok_and(|names| names.is_empty())
    }
}

/// Stages a snapshot up to, but not with, the `upto`-th object that is needed.
fn stage(
    store: &TargetStore,
    items: &[Item],
    upto: usize,
) -> Result<(Vec<Checked>, Digest, u64), Failure> {
    let entries: Vec<Entry> = items.iter().map(|item| item.entry.clone()).collect();
    let answers = store.check(0, &entries);
    let mut needed = 0;
    let mut root = RootHasher::default();
    for (seq, item) in (0..).zip(items) {
        let answer = answers.iter().find(|(of, _)| *of == seq).map(|(_, answer)| *answer);
        let (object, chunks) = list_of(&item.content);
        let mut list = None;
        if answer == Some(Checked::Need) {
            if needed == upto {
                break;
            }
            needed += 1;
            let chunks = Arc::new(chunks);
            receive(store, seq, item, object, &chunks)?;
            if item.fails {
                continue;
            }
            list = Some(chunks);
        }
        let object = item.entry.is_file().then_some(object);
        root.push(&item.entry, object.map(|o| o.digest));
        store.settle(&[SettledObject { seq, entry: item.entry.clone(), object, list }])?;
    }
    let answers = answers.into_iter().map(|(_, answer)| answer).collect();
    Ok((answers, root.finish(), root.entries()))
}

/// Places and commits an object; a failing one only in part.
fn receive(
    store: &TargetStore,
    seq: Seq,
    item: &Item,
    object: Object,
    chunks: &Arc<Vec<ChunkRef>>,
) -> Result<(), Failure> {
    for (piece, part) in pieces(seq, &item.content) {
        let place = PlacePiece { index: 0, piece, skip: false };
        let placed = store.place(&[place], &part)?;
        match &placed[0].1 {
            PlaceResult::Placed => {}
            PlaceResult::Wrong | PlaceResult::WrongBasis => panic!("wrong content"),
            PlaceResult::Failed(failure) => return Err(failure.clone()),
        }
        if item.fails {
            return Ok(());
        }
    }
    let job = CommitJob {
        objects: vec![CommitObject {
            seq,
            round: 0,
            entry: item.entry.clone(),
            chunks: chunks.to_vec(),
            finish: Some((object, Arc::clone(chunks))),
        }],
    };
    store.add_to_index(&job);
    store.commit(&job)?[0].2.clone()
}

fn small_tree() -> Vec<Item> {
    vec![
        dir(""),
        dir("a"),
        file("a/x", "the content of x", 1),
        link("a/y", "x"),
        dir("empty"),
        file("z", "z", 1),
        file("zero", "", 1),
    ]
}

fn on_both(test: impl Fn(Node)) {
    test(Node::new(MemoryTree::new(1)));
    let dir = tempfile::tempdir().unwrap();
    test(Node::new(OsTree::open(dir.path()).unwrap()));
}

fn on_both_indexed(test: impl Fn(Node)) {
    test(Node::indexed(MemoryTree::new(1)));
    let dir = tempfile::tempdir().unwrap();
    test(Node::indexed(OsTree::open(dir.path()).unwrap()));
}

#[test]
fn a_snapshot_appears_with_content_modes_and_times() {
    on_both(|node| {
        let answers = node.push("models/m", &small_tree()).unwrap();
        assert!(answers.iter().all(|answer| *answer == Checked::Need));
        assert_eq!(
            node.picture("models/m"),
            [
                "models/m 755 1600000000 dir",
                "models/m/a 755 1600000000 dir",
                "models/m/a/x 640 1600000000 the content of x",
                "models/m/a/y 777 1600000000 x",
                "models/m/empty 755 1600000000 dir",
                "models/m/z 640 1600000000 z",
                "models/m/zero 640 1600000000 ",
            ]
        );
        assert!(node.staging_is_empty());
    });
}

#[test]
fn a_part_of_an_object_that_failed_is_not_published_with_the_rest() {
    on_both(|node| {
        let items = [dir(""), failing("a", "half of this"), file("b", "whole", 1)];
        node.push("m", &items).unwrap();
        assert_eq!(node.content("m/b").unwrap(), "whole");
        assert_eq!(node.content("m/a"), None);
    });
}

#[test]
fn what_another_source_left_half_done_is_not_published_as_the_first_ones() {
    on_both(|node| {
        let mine = [dir(""), file("a", "first content", 1)];
        node.push("m", &mine).unwrap();
        let other = Node { source: "other", ..node.clone() };
        let theirs = [dir(""), failing("a", "second content")];
        let store = other.open("m").unwrap();
        stage(&store, &theirs, usize::MAX).unwrap();
        drop(store);
        let more = [dir(""), file("a", "first content", 1), file("b", "more", 1)];
        node.push("m", &more).unwrap();
        assert_eq!(node.content("m/a").unwrap(), "first content");
        assert_eq!(node.content("m/b").unwrap(), "more");
    });
}

#[test]
fn a_disk_error_is_not_taken_for_a_missing_file() {
    let before = [dir(""), file("a", "old content", 1), file("b", "old b", 1)];
    let after = [dir(""), file("a", "new content", 2), file("b", "new b", 2), link("l", "a")];
    let expected = Node::new(MemoryTree::new(2));
    expected.push("m", &after).unwrap();
    for op in [Op::Meta, Op::List, Op::Rename] {
        for nth in 0..60 {
            let tree = MemoryTree::new(1);
            let node = Node::new(tree.clone());
            node.push("m", &before).unwrap();
            tree.inject(Fault { op, after: nth, errno: Errno::IO });
            // However often it fails, what counts as published is there.
            while node.push("m", &after).is_err() {}
            // Faults that did not come yet come now.
            for _ in 0..60 {
                let _ = (tree.meta(&path("m")), tree.list(&path("m")));
            }
            assert_eq!(node.picture("m"), expected.picture("m"), "{op:?} {nth}");
            assert!(node.staging_is_empty(), "{op:?} {nth}");
        }
    }
}

#[test]
fn modes_and_times_of_a_published_snapshot_survive_a_power_loss() {
    for seed in 0..60 {
        let tree = MemoryTree::new(1);
        let node = Node::new(tree.clone());
        let mut items = small_tree();
        items[0].entry.mode = 0o750;
        for to in ["m", "models/m"] {
            node.push(to, &items).unwrap();
            let before = node.picture(to);
            tree.crash(seed);
            assert_eq!(node.picture(to), before, "seed {seed}");
        }
        // Over what is there.
        items.push(file("zz", "more", 2));
        node.push("m", &items).unwrap();
        let before = node.picture("m");
        tree.crash(seed);
        assert_eq!(node.picture("m"), before, "seed {seed}");
        let answers = node.push("m", &items).unwrap();
        let known = answers.iter().all(|answer| matches!(answer, Checked::Published(_)));
        assert!(known, "seed {seed}: {answers:?}");
    }
}

#[test]
fn a_target_below_a_file_or_link_is_refused_before_anything_is_final() {
    on_both(|node| {
        node.tree.create(&path("f")).unwrap();
        node.tree.symlink(b"elsewhere", &path("l")).unwrap();
        for to in ["f/m", "l/m", "f/m/n"] {
            for _ in 0..2 {
                assert_eq!(node.push(to, &small_tree()).unwrap_err().code, "in-the-way", "{to}");
            }
        }
        node.tree.unlink(&path("f")).unwrap();
        node.push("f/m", &small_tree()).unwrap();
        assert_eq!(node.content("f/m/z").unwrap(), "z");
    });
}

#[test]
fn a_full_directory_is_not_replaced_by_a_file_and_an_empty_one_is() {
    on_both(|node| {
        node.push("m", &[dir(""), dir("a"), file("a/x", "x", 1), dir("e")]).unwrap();
        let before = node.picture("m");
        let over_full = [dir(""), file("a", "file", 2)];
        assert_eq!(node.push("m", &over_full).unwrap_err().code, "in-the-way");
        assert_eq!(node.picture("m"), before);
        node.push("m", &[dir(""), file("e", "file", 2)]).unwrap();
        assert_eq!(node.content("m/e").unwrap(), "file");
        assert_eq!(node.content("m/a/x").unwrap(), "x", "what is not in the snapshot stays");
        // Several sources have no common top, so a file at the target path stays in the way.
        node.push("one", &[file("", "one", 1)]).unwrap();
        let apart = [dir("a"), file("b", "b", 1)];
        assert_eq!(node.push("one", &apart).unwrap_err().code, "in-the-way");
        assert_eq!(node.content("one").unwrap(), "one");
    });
}

#[test]
fn a_single_file_is_published_as_the_target_path_itself() {
    on_both(|node| {
        node.push("d/one", &[file("", "first", 1)]).unwrap();
        assert_eq!(node.content("d/one").unwrap(), "first");
        node.push("d/one", &[file("", "second", 2)]).unwrap();
        assert_eq!(node.picture("d/one"), ["d/one 640 1600000000 second"]);
        assert!(node.staging_is_empty());
    });
}

#[test]
fn what_was_published_before_is_found_after_a_part_was_replaced() {
    on_both_indexed(|node| {
        node.push("m", &[dir(""), file("kept", "kept content", 1), file("new", "v1", 1)]).unwrap();
        node.push("m", &[dir(""), file("kept", "kept content", 1), file("new", "v2", 2)]).unwrap();
        let store = node.open("other").unwrap();
        let copies =
            [dir(""), file("a", "kept content", 3), file("b", "v2", 3), file("c", "lost", 3)];
        let entries: Vec<Entry> = copies.iter().map(|item| item.entry.clone()).collect();
        store.check(0, &entries);
        for (seq, item) in (0..).zip(&copies).skip(1) {
            for (piece, _) in pieces(seq, &item.content) {
                let found = store.resolve(&[(0, piece)]).unwrap();
                let expected = if seq == 3 { Finding::Missing } else { Finding::Deduplicated };
                assert_eq!(found[0].1, Ok(expected), "{}", item.entry.path);
            }
        }
    });
}

#[test]
fn a_second_push_of_the_unchanged_touches_nothing() {
    on_both(|node| {
        node.push("m", &small_tree()).unwrap();
        let before = node.times("m");
        let answers = node.push("m", &small_tree()).unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Checked::Published(_))));
        assert_eq!(node.times("m"), before);
    });
}

#[test]
fn what_was_changed_or_removed_at_the_target_is_put_right_by_the_next_push() {
    type Damage = (&'static str, fn(&dyn Tree));
    let damage: [Damage; 6] = [
        ("link removed", |tree| tree.unlink(&path("m/a/y")).unwrap()),
        ("link changed", |tree| {
            tree.unlink(&path("m/a/y")).unwrap();
            tree.symlink(b"zz", &path("m/a/y")).unwrap();
        }),
        ("directory removed", |tree| tree.rmdir(&path("m/empty")).unwrap()),
        ("mode of a directory", |tree| {
            let mtime = tree.meta(&path("m/a")).unwrap().mtime;
            tree.set_meta(&path("m/a"), 0o700, mtime).unwrap();
        }),
        ("file removed", |tree| tree.unlink(&path("m/z")).unwrap()),
        ("file changed", |tree| {
            let file = tree.open_rw(&path("m/a/x")).unwrap();
            let meta = file.meta().unwrap();
            file.write_at(b"!", 0).unwrap();
            file.set_meta(meta.mode, meta.mtime).unwrap();
        }),
    ];
    for (what, damage) in damage {
        let test = |node: Node| {
            node.push("m", &small_tree()).unwrap();
            let before = node.picture("m");
            damage(&*node.tree);
            node.push("m", &small_tree()).unwrap();
            assert_eq!(node.picture("m"), before, "{what}");
        };
        // The system keeps times in ticks, and only the time of the inode's change tells this one.
        if what == "file changed" { test(Node::new(MemoryTree::new(1))) } else { on_both(test) }
    }
}

/// Commits one object, and finishes it if asked to.
fn commit_one(store: &TargetStore, seq: Seq, round: u32, item: &Item, whole: bool) -> CommitJob {
    let (object, chunks) = list_of(&item.content);
    let list = Arc::new(chunks.clone());
    let entry = item.entry.clone();
    let finish = whole.then_some((object, list));
    let _ = store;
    CommitJob { objects: vec![CommitObject { seq, round, entry, chunks, finish }] }
}

fn place_all(store: &TargetStore, seq: Seq, round: u32, item: &Item) {
    for (piece, part) in pieces(seq, &item.content) {
        let piece = Piece { round, ..piece };
        let place = PlacePiece { index: 0, piece, skip: false };
        assert_eq!(store.place(&[place], &part).unwrap()[0].1, PlaceResult::Placed);
    }
}

/// Places a whole small file in one stretch.
fn place_at_once(store: &TargetStore, seq: Seq, item: &Item) {
    let place = |(piece, _)| PlacePiece { index: 0, piece, skip: false };
    let places: Vec<PlacePiece> = pieces(seq, &item.content).into_iter().map(place).collect();
    let placed = store.place(&places, &item.content).unwrap();
    assert!(placed.iter().all(|(_, result)| *result == PlaceResult::Placed));
}

#[test]
fn pieces_of_one_object_that_come_at_the_same_moment_are_in_one_file() {
    on_both(|node| {
        let names: Vec<String> = (10..50).map(|n| format!("file-{n}")).collect();
        let files = names.iter().map(|name| file(name, &format!("first half|of {name}"), 1));
        let items: Vec<Item> = [dir("")].into_iter().chain(files).collect();
        let store = node.open("m").unwrap();
        let entries: Vec<Entry> = items.iter().map(|item| item.entry.clone()).collect();
        store.check(0, &entries);
        for (seq, item) in (0..).zip(&items).skip(1) {
            let both = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                for (piece, part) in pieces(seq, &item.content) {
                    let (store, both) = (&store, &both);
                    scope.spawn(move || {
                        let place = PlacePiece { index: 0, piece, skip: false };
                        both.wait();
                        assert_eq!(store.place(&[place], &part).unwrap()[0].1, PlaceResult::Placed);
                    });
                }
            });
            let job = commit_one(&store, seq, 0, item, true);
            assert!(store.commit(&job).unwrap()[0].2.is_ok());
            let staged = store.staged_path(&item.entry.path).unwrap();
            let mut content = vec![0; item.content.len() + 1];
            let read = node.tree.open(&staged).unwrap().read_at(&mut content, 0).unwrap();
            assert_eq!(content[..read], item.content);
        }
    });
}

#[test]
fn a_failed_sync_of_everything_fails_also_what_no_commit_has_taken_yet() {
    let tree = MemoryTree::new(1);
    let node = Node::new(tree.clone());
    let items = [dir(""), file("a", "committed with", 1), file("b", "placed meanwhile", 1)];
    let store = node.open("m").unwrap();
    let entries: Vec<Entry> = items.iter().map(|item| item.entry.clone()).collect();
    store.check(0, &entries);
    place_at_once(&store, 1, &items[1]);
    place_at_once(&store, 2, &items[2]);
    tree.inject(Fault { op: Op::SyncAll, after: 0, errno: Errno::IO });
    let job = commit_one(&store, 1, 0, &items[1], true);
    assert!(store.commit(&job).unwrap()[0].2.is_err());
    // The system has told of the loss once; it will not tell again.
    let job = commit_one(&store, 2, 0, &items[2], true);
    assert_eq!(store.commit(&job).unwrap()[0].2.as_ref().unwrap_err().code, "sync-failed");
    // Written anew, both become durable.
    for seq in [1, 2] {
        let item = &items[seq as usize];
        store.reset(seq, 0, &item.entry);
        place_at_once(&store, seq, item);
        let job = commit_one(&store, seq, 0, item, true);
        store.commit(&job).unwrap()[0].2.clone().unwrap();
    }
    drop(store);
    tree.crash(1);
    let store = node.open("m").unwrap();
    let answers = store.check(0, &entries);
    assert!(answers.iter().all(|(_, answer)| matches!(answer, Checked::Resumed(_))));
}

#[test]
fn a_late_commit_of_an_earlier_reading_does_not_take_the_new_one_away() {
    let node = Node::new(MemoryTree::new(1));
    let (old, new) = (file("a", "the old content", 1), file("a", "the new content!", 2));
    let store = node.open("m").unwrap();
    store.check(0, std::slice::from_ref(&old.entry));
    place_all(&store, 0, 0, &old);
    let late = commit_one(&store, 0, 0, &old, true);
    store.reset(0, 1, &new.entry);
    place_all(&store, 0, 1, &new);
    assert!(store.commit(&late).unwrap()[0].2.is_err());
    let job = commit_one(&store, 0, 1, &new, true);
    store.commit(&job).unwrap()[0].2.clone().unwrap();
    drop(store);
    let store = node.open("m").unwrap();
    let answer = store.check(0, std::slice::from_ref(&new.entry))[0].1;
    assert_eq!(answer, Checked::Resumed(list_of(&new.content).0));
}

#[test]
fn a_publication_that_was_interrupted_is_durable_once_it_was_rolled_forward() {
    let before = [dir(""), file("a", "old content", 1), file("b", "old b", 1)];
    let after = [dir(""), file("a", "new content", 2), file("b", "new b", 2), link("l", "a")];
    for op in [Op::Sync, Op::SyncDir, Op::SyncAll, Op::Rename] {
        for nth in 0..20 {
            for seed in 0..4 {
                let tree = MemoryTree::new(1);
                let node = Node::new(tree.clone());
                node.push("m", &before).unwrap();
                tree.inject(Fault { op, after: nth, errno: Errno::IO });
                while node.push("m", &after).is_err() {}
                tree.crash(seed);
                let answers = node.push("m", &after).unwrap();
                let known = |answer: &Checked| matches!(answer, Checked::Published(_));
                assert!(answers.iter().all(known), "{op:?} {nth} {seed}: {answers:?}");
            }
        }
    }
}

/// Every call of a kind fails once, and with it the push that makes it: then the power does.
fn fail_and_crash(before: &[Item], after: &[Item], allowed: impl Fn(&Node) -> bool) {
    const OPS: [Op; 12] = [
        Op::Create,
        Op::Mkdir,
        Op::Symlink,
        Op::Rename,
        Op::Unlink,
        Op::Rmdir,
        Op::SetMeta,
        Op::SyncDir,
        Op::SyncAll,
        Op::Write,
        Op::SetLen,
        Op::Sync,
    ];
    let expected = Node::new(MemoryTree::new(2));
    if !before.is_empty() {
        expected.push("d/m", before).unwrap();
    }
    expected.push("d/m", after).unwrap();
    for op in OPS {
        for nth in 0.. {
            let tree = MemoryTree::new(1);
            let node = Node::new(tree.clone());
            if !before.is_empty() {
                node.push("d/m", before).unwrap();
            }
            tree.inject(Fault { op, after: nth, errno: Errno::IO });
            let through = node.push("d/m", after).is_ok();
            tree.crash(u64::from(nth));
            assert!(allowed(&node), "{op:?} {nth}: {:?}", node.picture("d/m"));
            assert_eq!(node.recover().failed, []);
            assert!(allowed(&node), "{op:?} {nth}: {:?}", node.picture("d/m"));
            node.push("d/m", after).unwrap();
            assert_eq!(node.picture("d/m"), expected.picture("d/m"), "{op:?} {nth}");
            assert!(node.staging_is_empty(), "{op:?} {nth}");
            if through {
                break;
            }
        }
    }
}

#[test]
fn a_new_snapshot_is_there_whole_or_not_at_all_wherever_it_is_interrupted() {
    let items = small_tree();
    let whole = Node::new(MemoryTree::new(2));
    whole.push("d/m", &items).unwrap();
    let names = |node: &Node| {
        let lines = node.picture("d/m").into_iter();
        // The top gets its mode and time right after the rename.
        let below = lines.filter(|line| !line.starts_with("d/m "));
        below.collect::<Vec<_>>()
    };
    let whole = names(&whole);
    fail_and_crash(&[], &items, |node| names(node).is_empty() || names(node) == whole);
}

#[test]
fn each_object_of_a_merge_is_the_old_or_the_new_one_wherever_it_is_interrupted() {
    let mut after = small_tree();
    after[2] = file("a/x", "x has another content", 2);
    after.push(file("zz", "more", 2));
    let allowed = [None, Some("the content of x"), Some("x has another content")];
    fail_and_crash(&small_tree(), &after, |node| {
        allowed[1..].contains(&node.content("d/m/a/x").as_deref())
            && node.content("d/m/z").as_deref() == Some("z")
            && [None, Some("more")].contains(&node.content("d/m/zz").as_deref())
    });
}

#[test]
fn what_is_rolled_forward_by_a_record_that_was_not_durable_is_published_all_the_same() {
    let items = small_tree();
    for seed in 0..40 {
        let tree = MemoryTree::new(1);
        let node = Node::new(tree.clone());
        // The record is whole, and its last byte not durable: who wrote it was killed before the sync.
        tree.inject(Fault { op: Op::Rename, after: 0, errno: Errno::IO });
        node.push("m", &items).unwrap_err();
        let journal = node.tree.open_rw(&Layout::of(&path("m")).journal).unwrap();
        let end = journal.meta().unwrap().len - 1;
        let mut last = [0];
        journal.read_at(&mut last, end).unwrap();
        journal.set_len(end).unwrap();
        journal.sync().unwrap();
        journal.write_at(&last, end).unwrap();
        // Then the snapshot is renamed, its manifest not, and the power fails.
        tree.inject(Fault { op: Op::Rename, after: 1, errno: Errno::IO });
        assert_eq!(node.recover().failed.len(), 1);
        tree.crash(seed);
        assert_eq!(node.recover().failed, []);
        let answers = node.push("m", &items).unwrap();
        let known = answers.iter().all(|answer| matches!(answer, Checked::Published(_)));
        assert!(known, "seed {seed}: {answers:?}");
    }
}

#[test]
fn a_damaged_manifest_does_not_stop_what_was_being_published_for_good() {
    let items = small_tree();
    let probe = Node::new(MemoryTree::new(1));
    probe.push("m", &items).unwrap();
    let expected = probe.picture("m");
    let layout = Layout::of(&path("m"));
    for offset in (0..400).step_by(7) {
        let tree = MemoryTree::new(1);
        let node = Node::new(tree.clone());
        // The rename of the snapshot fails, after the record that it is final.
        tree.inject(Fault { op: Op::Rename, after: 0, errno: Errno::IO });
        node.push("m", &items).unwrap_err();
        let (_, replay) = Journal::replay(&tree, &layout.journal).unwrap().unwrap();
        assert!(replay.publishing.is_some());
        if tree.flip(&layout.manifest, offset).is_err() {
            break;
        }
        node.push("m", &items).unwrap();
        assert_eq!(node.picture("m"), expected, "{offset}");
        assert!(node.staging_is_empty());
    }
}

#[test]
fn directories_without_write_permission_are_published_resumed_and_published_over() {
    on_both(|node| {
        let mut items = vec![dir(""), dir("ro"), dir("ro/in"), file("ro/in/x", "one", 1)];
        items[1].entry.mode = 0o555;
        items[2].entry.mode = 0o500;
        // What an interrupted publication leaves in the staging area.
        let layout = Layout::of(&path("m"));
        storage::mkdir_all(&*node.tree, &layout.tree.join(b"ro").unwrap()).unwrap();
        let ro = layout.tree.join(b"ro").unwrap();
        node.tree.set_meta(&ro, 0o555, FileTime::default()).unwrap();
        node.push("m", &items).unwrap();
        items[3] = file("ro/in/x", "two", 2);
        items.push(file("ro/y", "y", 2));
        node.push("m", &items).unwrap();
        assert_eq!(node.content("m/ro/in/x").unwrap(), "two");
        assert_eq!(node.tree.meta(&path("m/ro")).unwrap().mode, 0o555);
        assert_eq!(node.tree.meta(&path("m/ro/in")).unwrap().mode, 0o500);
        assert!(node.staging_is_empty());
    });
}

#[test]
fn where_no_label_can_be_kept_the_manifest_has_the_class() {
    use crate::runtime::source::{Around, SourceFiles, SourceRoot};
    let tree = MemoryTree::new(1);
    tree.refuse_labels();
    let node = Node::new(tree);
    let publish = |to: &str, class: Option<&str>| {
        let store = node.open(to).unwrap();
        if let Some(class) = class {
            store.keep(&class.parse().unwrap(), true);
        }
        let (_, root, entries) =
            stage(&store, &[dir(""), file("x", "text", 1)], usize::MAX).unwrap();
        store.publish(root, entries).unwrap();
    };
    let labels = |at: &str, deep| {
        let (tree, path) = (Arc::clone(&node.tree), path(at));
        let (place, around) = (RelPath::root(), Around::default());
        let files = SourceFiles::new(vec![SourceRoot { tree, path, place, around }]);
        let labels = files.labels(deep).unwrap().into_iter();
        let text = |label: Option<Vec<u8>>| label.map(|it| String::from_utf8(it).unwrap());
        labels.map(text).collect::<Vec<_>>()
    };
    let some = |class: &str| Some(class.to_owned());
    publish("a/m", Some("restricted"));
    publish("a/n", None);
    assert_eq!(noted_class(&*node.tree, &path("a/m")).unwrap().as_str(), "restricted");
    assert_eq!(noted_class(&*node.tree, &path("a/n")), None);
    assert_eq!(labels("a/m/x", false), [None, some("restricted")]);
    assert_eq!(labels("a/n", true), [None]);
    assert_eq!(labels("a", true), [None, some("restricted")]);
    assert_eq!(labels("a", false), [None]);
    // Another class is another manifest, though every file is as it was.
    publish("a/m", Some("confidential"));
    assert_eq!(labels("a/m", true), [None, some("confidential")]);
}

/// Two ranks of a job that push into a checkpoint's directory before it is there.
#[test]
fn directories_that_another_makes_at_the_same_time_are_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let tree = OsTree::open(dir.path()).expect("a tree");
    for round in 0..200 {
        let path = RelPath::from_typed(format!("r{round}/a/b/c").as_bytes()).expect("a path");
        let gate = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            let make = || {
                gate.wait();
                super::visible::make_parents(&tree, &path)
            };
            let made: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
            for made in made {
                made.join().expect("no panic").expect("it may be there");
            }
        });
        assert_eq!(tree.meta(&path).expect("it is there").kind, Kind::Dir);
    }
}

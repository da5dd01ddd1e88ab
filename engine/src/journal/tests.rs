//! Replay, torn tails, damage.

use rustix::io::Errno;

use super::*;
use crate::manifest::{EntryKind, ListHasher};
use crate::storage::MemoryTree;
use crate::storage::memory::{Fault, Op};

fn path(text: &str) -> RelPath {
    RelPath::from_typed(text.as_bytes()).unwrap()
}

fn head() -> Head {
    Head { transfer_id: TransferId(7), target: path("models/m"), source: "onprem".to_owned() }
}

fn chunks(name: &str, count: u64) -> Vec<ChunkRef> {
    let chunk = |n: u64| ChunkRef {
        offset: n * 10,
        len: 10,
        digest: Digest::of(format!("{name} {n}").as_bytes()),
    };
    (0..count).map(chunk).collect()
}

fn entry(name: &str, count: u64) -> Entry {
    let kind = EntryKind::File { len: count * 10, stamp: Stamp([3; 16]) };
    Entry { path: path(name), kind, mode: 0o644, mtime: FileTime { secs: 5, nanos: 6 } }
}

fn inode(count: u64) -> Inode {
    Inode { ino: 9, ctime: FileTime { secs: 7, nanos: 8 }, len: count * 10 }
}

fn object(chunks: &[ChunkRef]) -> Object {
    let mut list = ListHasher::default();
    assert!(chunks.iter().all(|chunk| list.push(chunk)));
    let len = chunks.len() as u64 * 10;
    Object { digest: list.finish(len), len, cutter: 3 }
}

fn done(name: &str, count: u64) -> Vec<Record> {
    let chunks = chunks(name, count);
    done_records(&entry(name, count), object(&chunks), inode(count), &chunks)
}

fn some(name: &str, first: usize, count: u64) -> Record {
    let chunks = chunks(name, count).split_off(first);
    Record::Chunks { path: path(name), stamp: Stamp([3; 16]), chunks }
}

/// A tree with a journal of several records, and how long it was after each append.
fn written() -> (MemoryTree, Vec<u64>) {
    let tree = MemoryTree::new(1);
    let (mut journal, replay) = Journal::open(&tree, &path("journal"), &head()).unwrap();
    assert!(replay.is_empty());
    let mut lengths = vec![journal.len];
    let appends = [
        done("a", 3),
        vec![some("b", 0, 2)],
        vec![some("b", 2, 4), some("c", 0, 1)],
        done("b", 5),
        done("empty", 0),
    ];
    for records in appends {
        journal.append(&records).unwrap();
        lengths.push(journal.len);
    }
    (tree, lengths)
}

fn bytes(tree: &MemoryTree) -> Vec<u8> {
    let file = tree.open(&path("journal")).unwrap();
    let mut bytes = vec![0; file.meta().unwrap().len as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn tree_with(bytes: &[u8]) -> MemoryTree {
    let tree = MemoryTree::new(1);
    tree.create(&path("journal")).unwrap().write_at(bytes, 0).unwrap();
    tree
}

/// Names of objects that the journal has as finished, each with its right list.
fn finished(journal: &Journal, replay: &Replay) -> Vec<&'static str> {
    let mut names = Vec::new();
    for (name, count) in [("a", 3), ("b", 5), ("empty", 0)] {
        let Some(at) = replay.done_at(&path(name)) else { continue };
        let found = journal.done(at).unwrap();
        let chunks = chunks(name, count);
        let (object, inode) = (object(&chunks), inode(count));
        assert_eq!(found, DoneObject { entry: entry(name, count), object, inode, chunks });
        names.push(name);
    }
    names
}

fn partial(replay: &mut Replay, name: &str) -> usize {
    let partial = replay.take_partial(&path(name), Stamp([3; 16]));
    let Some(partial) = partial else { return 0 };
    let known = chunks(name, 5);
    for (offset, (len, digest)) in &partial.chunks {
        assert!(known.contains(&ChunkRef { offset: *offset, len: *len, digest: *digest }));
    }
    partial.chunks.len()
}

#[test]
fn everything_that_was_appended_is_replayed() {
    let (tree, _) = written();
    let (journal, mut replay) = Journal::open(&tree, &path("journal"), &head()).unwrap();
    assert_eq!((replay.head.clone(), replay.cut_bytes), (head(), 0));
    assert_eq!(finished(&journal, &replay), ["a", "b", "empty"]);
    assert_eq!(partial(&mut replay, "b"), 0, "it is finished");
    assert_eq!(partial(&mut replay, "c"), 1);
    assert_eq!(replay.publishing, None);
}

#[test]
fn a_torn_tail_is_cut_at_any_byte_and_the_journal_goes_on() {
    let (tree, lengths) = written();
    let all = bytes(&tree);
    for cut in 0..all.len() {
        let tree = tree_with(&all[..cut]);
        let (mut journal, mut replay) = Journal::open(&tree, &path("journal"), &head()).unwrap();
        let whole = |n: usize| cut as u64 >= lengths[n];
        let expected: Vec<&str> = [("a", 1), ("b", 4), ("empty", 5)]
            .into_iter()
            .filter(|(_, n)| whole(*n))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(finished(&journal, &replay), expected, "cut at {cut}");
        if whole(3) && !whole(4) {
            assert_eq!(partial(&mut replay, "b"), 4, "cut at {cut}: a torn end takes nothing back");
        }
        journal.append(&[Record::Publishing { root: Digest::of(b"r"), entries: 2 }]).unwrap();
        let (journal, replay) = Journal::open(&tree, &path("journal"), &head()).unwrap();
        assert_eq!(replay.publishing, Some((Digest::of(b"r"), 2)), "cut at {cut}");
        assert_eq!(finished(&journal, &replay), expected, "cut at {cut}");
    }
}

#[test]
fn a_flipped_byte_costs_what_follows_and_never_gives_a_wrong_object() {
    let (tree, lengths) = written();
    let all = bytes(&tree);
    for at in 0..all.len() {
        for bit in [0, 7] {
            let mut bad = all.clone();
            bad[at] ^= 1 << bit;
            let tree = tree_with(&bad);
            let (journal, mut replay) = Journal::open(&tree, &path("journal"), &head()).unwrap();
            // Whatever is found is right, and what lay before the damage is found.
            let found = finished(&journal, &replay);
            let before = |n: usize| at as u64 >= lengths[n];
            assert_eq!(found.contains(&"a"), before(1), "flipped at {at}");
            assert!(!found.contains(&"empty"), "flipped at {at}");
            partial(&mut replay, "b");
        }
    }
}

#[test]
fn a_journal_that_is_not_one_is_begun_anew() {
    for junk in [&b""[..], b"PW", b"PWJRNL01", &[0; 5000], &[0xff; 5000], b"PWMANIF1abcdefghijkl"] {
        let tree = tree_with(junk);
        let (mut journal, replay) = Journal::open(&tree, &path("journal"), &head()).unwrap();
        assert!(replay.is_empty());
        journal.append(&done("a", 3)).unwrap();
        let (journal, replay) = Journal::open(&tree, &path("journal"), &head()).unwrap();
        assert_eq!(finished(&journal, &replay), ["a"]);
    }
}

#[test]
fn the_head_tells_a_journal_of_another_transfer() {
    let (tree, _) = written();
    let other = Head { source: "elsewhere".to_owned(), ..head() };
    let (_, replay) = Journal::open(&tree, &path("journal"), &other).unwrap();
    assert_eq!(replay.head, head());
}

#[test]
fn an_older_copy_of_the_journal_only_knows_less() {
    let (tree, lengths) = written();
    let tree = tree_with(&bytes(&tree)[..lengths[3] as usize]);
    let (journal, mut replay) = Journal::open(&tree, &path("journal"), &head()).unwrap();
    assert_eq!(finished(&journal, &replay), ["a"]);
    assert_eq!(partial(&mut replay, "b"), 4);
}

#[test]
fn chunks_of_another_reading_do_not_mix() {
    let tree = MemoryTree::new(1);
    let (mut journal, _) = Journal::open(&tree, &path("journal"), &head()).unwrap();
    journal.append(&[some("b", 0, 4)]).unwrap();
    let chunks = chunks("b", 1);
    let newer = Record::Chunks { path: path("b"), stamp: Stamp([4; 16]), chunks };
    journal.append(&[newer]).unwrap();
    let replay = || Journal::open(&tree, &path("journal"), &head()).unwrap().1;
    assert_eq!(partial(&mut replay(), "b"), 0);
    let partial = replay().take_partial(&path("b"), Stamp([4; 16])).unwrap();
    assert_eq!(partial.chunks.len(), 1);
}

#[test]
fn looking_at_a_journal_changes_nothing() {
    let (tree, _) = written();
    let all = bytes(&tree);
    // As another process sees it in the middle of an append.
    let torn = &all[..all.len() - 3];
    let tree = tree_with(torn);
    let (mut journal, replay) = Journal::replay(&tree, &path("journal")).unwrap().unwrap();
    assert!(replay.cut_bytes > 0);
    journal.append(&done("x", 1)).unwrap_err();
    assert_eq!(bytes(&tree), torn);
    assert!(Journal::replay(&tree, &path("none")).unwrap().is_none());
}

#[test]
fn what_a_failed_append_left_in_the_cache_is_not_taken_for_durable() {
    for op in [Op::Sync, Op::Write] {
        let (tree, lengths) = written();
        let (mut journal, _) = Journal::open(&tree, &path("journal"), &head()).unwrap();
        tree.inject(Fault { op, after: 0, errno: Errno::IO });
        journal.append(&done("lost", 1)).unwrap_err();
        journal.append(&done("after", 1)).unwrap_err();
        drop(journal);
        // The same process takes the journal up again, and goes on.
        let (mut journal, replay) = Journal::open(&tree, &path("journal"), &head()).unwrap();
        assert_eq!(replay.done_at(&path("lost")), None, "{op:?}");
        assert_eq!(journal.len, lengths[5]);
        journal.append(&done("later", 1)).unwrap();
        tree.crash(1);
        let (_, replay) = Journal::open(&tree, &path("journal"), &head()).unwrap();
        assert!(replay.done_at(&path("later")).is_some(), "{op:?}");
        assert!(replay.done_at(&path("b")).is_some(), "{op:?}");
    }
}

#[test]
fn the_name_of_a_journal_is_durable_once_it_is_open_whoever_made_it() {
    let (tree, _) = written();
    let made = bytes(&tree);
    for seed in 0..20 {
        // Its maker was killed after the content and before the name was synced.
        let tree = tree_with(&made);
        tree.open_rw(&path("journal")).unwrap().sync().unwrap();
        let (mut journal, _) = Journal::open(&tree, &path("journal"), &head()).unwrap();
        journal.append(&done("more", 1)).unwrap();
        tree.crash(seed);
        let (_, replay) = Journal::open(&tree, &path("journal"), &head()).unwrap();
        assert!(replay.done_at(&path("more")).is_some(), "seed {seed}");
    }
}

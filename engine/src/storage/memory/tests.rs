//! What a power loss may take and what it must leave; faults.

use std::collections::BTreeMap;

use super::rng::Rng;
use super::*;
use crate::storage::tests::{content, kind, path, put};
use crate::storage::{mkdir_all, remove_all};

const SEEDS: std::ops::Range<u64> = 0..300;

/// Runs `set_up` and a crash for every seed, and returns what `look` saw each time.
fn crashes<T>(set_up: impl Fn(&MemoryTree), look: impl Fn(&MemoryTree) -> T) -> Vec<T> {
    SEEDS
        .map(|seed| {
            let tree = MemoryTree::new(0);
            set_up(&tree);
            tree.crash(seed);
            look(&tree)
        })
        .collect()
}

fn exists(tree: &MemoryTree, at: &str) -> bool {
    tree.meta(&path(at)).is_ok()
}

fn content_if_any(tree: &MemoryTree, at: &str) -> Option<Vec<u8>> {
    exists(tree, at).then(|| content(tree, at))
}

#[test]
fn content_without_sync_may_be_lost_kept_or_torn() {
    let data = [7; 3000];
    let seen = crashes(
        |tree| {
            let file = put(tree, "f", b"");
            tree.sync_all().unwrap();
            file.write_at(&data, 0).unwrap();
        },
        |tree| content(tree, "f"),
    );
    assert!(seen.iter().any(Vec::is_empty));
    assert!(seen.iter().any(|content| content == &data));
    assert!(seen.iter().any(|content| content.len() == 3000 && content.iter().all(|&b| b == 0)));
    let torn = |content: &Vec<u8>| content.contains(&7) && content != &data;
    assert!(seen.iter().any(torn));
    for content in &seen {
        for sector in content.chunks(512) {
            assert!(sector.iter().all(|&byte| byte == sector[0]));
        }
    }
}

#[test]
fn a_length_without_sync_may_be_lost() {
    let seen = crashes(
        |tree| {
            let file = put(tree, "f", b"0123456789");
            tree.sync_all().unwrap();
            file.set_len(4).unwrap();
        },
        |tree| content(tree, "f"),
    );
    assert!(seen.iter().any(|content| content == b"0123"));
    assert!(seen.iter().any(|content| content == b"0123456789"));
}

#[test]
fn writes_without_sync_survive_in_any_order() {
    let seen = crashes(
        |tree| {
            let file = put(tree, "f", &[0; 1024]);
            tree.sync_all().unwrap();
            file.write_at(&[1; 512], 0).unwrap();
            file.write_at(&[2; 512], 512).unwrap();
        },
        |tree| {
            let content = content(tree, "f");
            (content[0], content[512])
        },
    );
    for outcome in [(0, 0), (1, 0), (0, 2), (1, 2)] {
        assert!(seen.contains(&outcome), "{outcome:?}");
    }
}

#[test]
fn what_was_synced_is_never_lost() {
    let seen = crashes(
        |tree| {
            tree.mkdir(&path("d")).unwrap();
            let file = put(tree, "d/f", b"one by one");
            file.set_meta(0o640, FileTime { secs: 5, nanos: 0 }).unwrap();
            file.sync().unwrap();
            tree.sync_dir(&path("d")).unwrap();
            tree.sync_dir(&path("")).unwrap();
            put(tree, "all", b"at once");
            tree.sync_all().unwrap();
            file.write_at(b"later", 100).unwrap();
        },
        |tree| {
            assert_eq!(content(tree, "all"), b"at once");
            assert_eq!(&content(tree, "d/f")[..10], b"one by one");
            tree.meta(&path("d/f")).unwrap().mode
        },
    );
    assert!(seen.iter().all(|&mode| mode == 0o640));
}

#[test]
fn a_synced_file_whose_name_was_not_may_be_gone_but_is_whole_if_there() {
    let seen =
        crashes(|tree| put(tree, "f", b"whole").sync().unwrap(), |tree| content_if_any(tree, "f"));
    assert!(seen.contains(&None));
    assert!(seen.contains(&Some(b"whole".to_vec())));
    assert!(seen.iter().flatten().all(|content| content == b"whole"));
}

#[test]
fn a_new_directory_needs_its_own_name_synced() {
    let seen = crashes(
        |tree| {
            tree.mkdir(&path("d")).unwrap();
            put(tree, "d/f", b"x").sync().unwrap();
            tree.sync_dir(&path("d")).unwrap();
        },
        |tree| (exists(tree, "d"), exists(tree, "d/f")),
    );
    assert!(seen.contains(&(false, false)));
    assert!(seen.iter().all(|(dir, file)| dir == file), "the name in it was durable");
}

#[test]
fn a_rename_has_happened_or_has_not() {
    for (set_up, to) in [("same", "g"), ("across", "new/deep/g")] {
        let seen = crashes(
            |tree| {
                put(tree, "f", b"moved");
                put(tree, "g", b"replaced");
                tree.sync_all().unwrap();
                mkdir_all(tree, &path("new/deep")).unwrap();
                tree.rename(&path("f"), &path(to), true).unwrap();
            },
            |tree| (content_if_any(tree, "f"), content_if_any(tree, to)),
        );
        let moved = Some(b"moved".to_vec());
        let old = if set_up == "same" { Some(b"replaced".to_vec()) } else { None };
        assert!(seen.contains(&(None, moved.clone())), "{set_up}");
        assert!(seen.contains(&(moved.clone(), old.clone())), "{set_up}");
        let atomic =
            |seen: &(_, _)| *seen == (None, moved.clone()) || *seen == (moved.clone(), old.clone());
        assert!(seen.iter().all(atomic), "{set_up}");
    }
}

#[test]
fn a_sync_of_either_directory_covers_a_rename_between_them() {
    for synced in ["a", "b"] {
        let seen = crashes(
            |tree| {
                mkdir_all(tree, &path("a")).unwrap();
                mkdir_all(tree, &path("b")).unwrap();
                put(tree, "a/f", b"x");
                tree.sync_all().unwrap();
                tree.rename(&path("a/f"), &path("b/f"), false).unwrap();
                tree.sync_dir(&path(synced)).unwrap();
            },
            |tree| (exists(tree, "a/f"), exists(tree, "b/f")),
        );
        assert!(seen.iter().all(|seen| *seen == (false, true)));
    }
}

#[test]
fn a_failed_sync_that_then_succeeds_has_lost_the_data() {
    let fail = |tree: &MemoryTree, op| tree.inject(Fault { op, after: 0, errno: Errno::IO });
    let tree = MemoryTree::new(0);
    let file = put(&tree, "f", b"lost");
    tree.sync_dir(&path("")).unwrap();
    fail(&tree, Op::Sync);
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
    file.sync().unwrap();
    assert_eq!(content(&tree, "f"), b"lost", "still cached");
    file.write_at(b"kept", 4).unwrap();
    file.drop_cache().unwrap();
    assert_eq!(content(&tree, "f"), b"\0\0\0\0kept");

    let file = put(&tree, "g", b"lost");
    fail(&tree, Op::SyncAll);
    tree.sync_all().unwrap_err();
    tree.sync_all().unwrap();
    drop(file);
    tree.crash(1);
    assert_eq!(content(&tree, "g"), b"");
}

#[test]
fn open_files_are_dead_after_a_crash() {
    let tree = MemoryTree::new(0);
    let file = put(&tree, "f", b"x");
    tree.sync_all().unwrap();
    tree.crash(0);
    let dead = |error: io::Error| assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
    dead(file.read_at(&mut [0], 0).unwrap_err());
    dead(file.write_at(b"y", 0).unwrap_err());
    dead(file.sync().unwrap_err());
    dead(file.meta().unwrap_err());
    drop(file);
    assert_eq!(content(&tree, "f"), b"x");
}

#[test]
fn faults_come_when_they_are_due_and_once() {
    let tree = MemoryTree::new(0);
    let file = put(&tree, "f", b"");
    tree.inject(Fault { op: Op::Write, after: 1, errno: Errno::NOSPC });
    tree.inject(Fault { op: Op::Read, after: 0, errno: Errno::IO });
    file.write_at(b"0123", 0).unwrap();
    assert_eq!(kind(file.write_at(b"4567", 4)), io::ErrorKind::StorageFull);
    file.read_at(&mut [0], 0).unwrap_err();
    assert_eq!(content(&tree, "f"), b"012345", "half of the failed write");
    file.write_at(b"4567", 4).unwrap();
}

#[test]
fn a_full_tree_says_so_and_room_comes_back() {
    let tree = MemoryTree::new(0);
    tree.set_capacity(Some(5 * 4096));
    let file = put(&tree, "a", &[1; 3 * 4096]);
    assert_eq!(tree.free_bytes().unwrap(), 2 * 4096);
    let more = tree.create(&path("b")).unwrap();
    assert_eq!(kind(more.write_at(&[2; 3 * 4096], 100)), io::ErrorKind::StorageFull);
    assert_eq!(more.meta().unwrap().len, 2 * 4096, "what fits was written");
    assert_eq!(tree.free_bytes().unwrap(), 0);
    file.write_at(&[3; 4096], 0).unwrap();
    tree.unlink(&path("a")).unwrap();
    assert_eq!(tree.free_bytes().unwrap(), 0, "still open");
    drop(file);
    assert_eq!(tree.free_bytes().unwrap(), 3 * 4096);
    more.set_len(1).unwrap();
    assert_eq!(tree.free_bytes().unwrap(), 4 * 4096);
}

#[test]
fn reads_are_counted_and_bits_rot_in_silence() {
    let tree = MemoryTree::new(0);
    put(&tree, "f", b"0123").sync().unwrap();
    let before = tree.meta(&path("f")).unwrap();
    assert_eq!(tree.bytes_read(&path("f")).unwrap(), 0);
    tree.flip(&path("f"), 1).unwrap();
    assert_eq!(kind(tree.flip(&path("f"), 4)), io::ErrorKind::InvalidInput);
    assert_eq!(content(&tree, "f"), b"0023");
    assert_eq!(tree.bytes_read(&path("f")).unwrap(), 4);
    assert_eq!(tree.meta(&path("f")).unwrap(), before);
}

/// Everything there is, with content.
fn picture(tree: &MemoryTree, at: &RelPath, into: &mut BTreeMap<RelPath, (u64, Vec<u8>)>) {
    for (name, _) in tree.list(at).unwrap() {
        let below = at.join(&name).unwrap();
        let meta = tree.meta(&below).unwrap();
        let mut content = vec![0; meta.len as usize];
        if meta.kind == Kind::Dir {
            picture(tree, &below, into);
        } else {
            tree.open(&below).unwrap().read_at(&mut content, 0).unwrap();
        }
        assert!(into.insert(below, (meta.ino, content)).is_none());
    }
}

/// Some hundred random calls on few names, with syncs of directories in between.
fn play(tree: &MemoryTree, seed: u64) {
    let mut rng = Rng::new(seed);
    let dirs = ["a", "b", "a/c", "b/c", "a/c/d"];
    let pick = |rng: &mut Rng| {
        let dir = dirs[rng.below(5) as usize];
        if rng.chance(50) { path(dir) } else { path(&format!("{dir}/{}", rng.below(3))) }
    };
    for _ in 0..200 {
        let (from, to) = (pick(&mut rng), pick(&mut rng));
        // Most of these fail, and that is fine.
        let _ = match rng.below(8) {
            0 | 1 => tree.mkdir(&from),
            2 => tree.create(&from).and_then(|file| file.write_at(&[1; 700], 0)),
            3..=5 => tree.rename(&from, &to, false),
            6 => tree.rmdir(&from),
            _ => tree.sync_dir(&from),
        };
    }
}

#[test]
fn a_file_that_is_only_renamed_is_in_one_place_whatever_is_lost() {
    for seed in SEEDS {
        let tree = MemoryTree::new(seed);
        let kept = Rng::new(seed).next().to_le_bytes();
        tree.mkdir(&path("a")).unwrap();
        put(&tree, "a/0", &kept);
        tree.sync_all().unwrap();
        play(&tree, seed);
        tree.crash(seed ^ 0x5555);
        let mut seen = BTreeMap::new();
        picture(&tree, &RelPath::root(), &mut seen);
        let places = seen.values().filter(|(_, content)| content[..] == kept).count();
        assert_eq!(places, 1, "seed {seed}");
        let mut inos: Vec<u64> = seen.values().map(|(ino, _)| *ino).collect();
        inos.sort_unstable();
        inos.dedup();
        assert_eq!(inos.len(), seen.len(), "seed {seed}");
        // What is there is sound: it can be removed to the last name.
        for name in ["a", "b"] {
            remove_all(&tree, &path(name)).unwrap();
        }
    }
}

#[test]
fn the_same_seeds_give_the_same_tree() {
    for seed in 0..20 {
        let run = || {
            let tree = MemoryTree::new(seed);
            play(&tree, seed);
            tree.crash(seed);
            let mut seen = BTreeMap::new();
            picture(&tree, &RelPath::root(), &mut seen);
            let names: Vec<_> = tree.list(&RelPath::root()).unwrap();
            (seen, names)
        };
        assert_eq!(run(), run());
    }
}

#[test]
fn a_sync_of_all_leaves_nothing_to_lose() {
    for seed in SEEDS {
        let tree = MemoryTree::new(seed);
        play(&tree, seed);
        tree.sync_all().unwrap();
        let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
        picture(&tree, &RelPath::root(), &mut before);
        tree.crash(seed);
        picture(&tree, &RelPath::root(), &mut after);
        assert_eq!(before, after, "seed {seed}");
    }
}

#[test]
fn a_label_stays_with_the_inode_under_every_name_and_through_a_power_loss() {
    let tree = MemoryTree::new(1);
    tree.mkdir(&path("a")).unwrap();
    let file = tree.create(&path("a/x")).unwrap();
    file.write_at(b"content", 0).unwrap();
    file.set_label(b"restricted").unwrap();
    tree.link(&path("a/x"), &path("y")).unwrap();
    assert!(tree.link(&path("a"), &path("z")).is_err(), "directories have one name");
    assert!(tree.link(&path("y"), &path("a/x")).is_err(), "the name is there");
    tree.rename(&path("y"), &path("z"), false).unwrap();
    tree.unlink(&path("a/x")).unwrap();
    let whole = |tree: &MemoryTree| {
        let mut content = [0; 7];
        let read = tree.open(&path("z")).unwrap().read_at(&mut content, 0).unwrap();
        (read, content == *b"content", tree.label(&path("z")).unwrap())
    };
    assert_eq!(whole(&tree), (7, true, Some(b"restricted".to_vec())));
    drop(file);
    tree.sync_all().unwrap();
    assert_eq!(whole(&tree), (7, true, Some(b"restricted".to_vec())));
    tree.crash(3);
    assert_eq!(whole(&tree), (7, true, Some(b"restricted".to_vec())));
    assert_eq!(tree.label(&path("a")).unwrap(), None);
}

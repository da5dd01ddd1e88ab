//! Tests of the index over a tree in memory: behaviour, damage, failing calls and power loss.

use std::io;
use std::sync::Arc;

use super::fake::{Chance, MemFile, MemTree, path};
use super::store::Store;
use super::*;

const AT: &str = ".portway/index.redb";

fn digest(n: usize) -> Digest {
    Digest::of(&n.to_le_bytes())
}

fn open(tree: &Arc<MemTree>) -> (Index, Opened) {
    Index::open(Arc::clone(tree) as Arc<dyn Tree>, &path(AT)).unwrap()
}

/// Opens with a cache so small that pages come from the file each time.
fn open_uncached(tree: &Arc<MemTree>) -> Result<(Index, Opened), IndexError> {
    let tree = Arc::clone(tree) as Arc<dyn Tree>;
    let (store, opened) = Store::open(tree, &path(AT), 0)?;
    Ok((Index(Some(Arc::new(store))), opened))
}

fn file(tree: &MemTree) -> Arc<MemFile> {
    tree.file(&path(AT)).unwrap()
}

fn place(text: &str, offset: u64, len: u32) -> Place {
    Place { path: path(text), offset, len }
}

fn insert_one(index: &Index, base: BaseId, name: &str, chunk: usize, offset: u64) {
    let chunks = [(digest(chunk), offset, 100)];
    index.insert(base, &[FileChunks { path: path(name), chunks: &chunks }]).unwrap();
}

fn find_one(index: &Index, chunk: usize) -> Vec<Place> {
    index.find(&[digest(chunk)]).unwrap().remove(0)
}

/// The place of chunk `n` in the corpus that [`fill`] inserts below `data`.
fn truth(n: usize) -> Place {
    place(&format!("data/d{}/f{n:05}", n / 100), n as u64, 1000 + n as u32)
}

fn fill(index: &Index, range: std::ops::Range<usize>) -> Result<(), IndexError> {
    let base = index.add_base(&path("data"))?;
    let chunks: Vec<_> =
        range.map(|n| (truth(n).path, [(digest(n), n as u64, 1000 + n as u32)])).collect();
    let files: Vec<_> = chunks
        .iter()
        .map(|(full, chunks)| FileChunks { path: full.strip(&path("data")).unwrap(), chunks })
        .collect();
    index.insert(base, &files)
}

/// Counts which of the chunks are found; a place that is found must be the true one.
fn found(index: &Index, range: std::ops::Range<usize>) -> usize {
    let digests: Vec<_> = range.clone().map(digest).collect();
    let mut count = 0;
    for (n, places) in range.zip(index.find(&digests).unwrap()) {
        assert!(places.iter().all(|found| *found == truth(n)), "{places:?} for {n}");
        count += usize::from(!places.is_empty());
    }
    count
}

#[test]
fn what_was_inserted_is_found_and_nothing_else() {
    let (index, opened) = open(&Arc::default());
    assert!(matches!(opened, Opened::Fresh));
    fill(&index, 0..1000).unwrap();
    assert_eq!(found(&index, 0..1000), 1000);
    assert_eq!(found(&index, 1000..1100), 0);
    let stats = index.stats().unwrap();
    assert_eq!((stats.chunks, stats.files, stats.bases), (1000, 1000, 1));
    assert!(stats.bytes_on_disk > 0);
}

#[test]
fn one_file_may_have_many_chunks_and_empty_files_take_no_room() {
    let (index, _) = open(&Arc::default());
    let base = index.add_base(&RelPath::root()).unwrap();
    let chunks: Vec<_> = (0..500).map(|n| (digest(n), n as u64 * 4096, 4096)).collect();
    index
        .insert(
            base,
            &[
                FileChunks { path: path("empty"), chunks: &[] },
                FileChunks { path: path("big"), chunks: &chunks },
            ],
        )
        .unwrap();
    assert_eq!(find_one(&index, 499), [place("big", 499 * 4096, 4096)]);
    assert_eq!(index.stats().unwrap().files, 1);
}

#[test]
fn a_base_that_moves_takes_its_files_along() {
    let (index, _) = open(&Arc::default());
    let staging = index.add_base(&path(".portway/staging/1")).unwrap();
    insert_one(&index, staging, "a/b", 1, 7);
    index.move_base(staging, &path("ckpt")).unwrap();
    assert_eq!(find_one(&index, 1), [place("ckpt/a/b", 7, 100)]);
    index.move_base(staging, &path("ckpt")).unwrap();
    assert_eq!(find_one(&index, 1), [place("ckpt/a/b", 7, 100)]);
}

#[test]
fn a_base_that_moves_over_another_replaces_it() {
    let (index, _) = open(&Arc::default());
    let old = index.add_base(&path("ckpt")).unwrap();
    let new = index.add_base(&path("staging")).unwrap();
    insert_one(&index, old, "gone", 1, 0);
    insert_one(&index, new, "kept", 2, 0);
    index.move_base(new, &path("ckpt")).unwrap();
    assert_eq!(find_one(&index, 1), []);
    assert_eq!(find_one(&index, 2), [place("ckpt/kept", 0, 100)]);
    assert_eq!(index.add_base(&path("ckpt")).unwrap(), new);
    assert!(matches!(index.move_base(old, &path("x")), Err(IndexError::NoBase { .. })));
    let chunks = [(digest(3), 0, 1)];
    let files = [FileChunks { path: path("x"), chunks: &chunks }];
    assert!(matches!(index.insert(old, &files), Err(IndexError::NoBase { .. })));
    assert!(!index.is_broken());
}

#[test]
fn two_bases_keep_a_place_each_and_the_newest_comes_first() {
    let (index, _) = open(&Arc::default());
    let bases = ["a", "b", "c"].map(|name| index.add_base(&path(name)).unwrap());
    insert_one(&index, bases[0], "f", 1, 0);
    insert_one(&index, bases[1], "f", 1, 10);
    insert_one(&index, bases[1], "f", 1, 20);
    assert_eq!(find_one(&index, 1), [place("b/f", 20, 100), place("a/f", 0, 100)]);
    insert_one(&index, bases[2], "f", 1, 30);
    assert_eq!(find_one(&index, 1), [place("c/f", 30, 100), place("b/f", 20, 100)]);
}

#[test]
fn a_staging_that_is_given_up_leaves_the_older_place() {
    let (index, _) = open(&Arc::default());
    let kept = index.add_base(&path("kept")).unwrap();
    let staging = index.add_base(&path("staging")).unwrap();
    insert_one(&index, kept, "f", 1, 0);
    insert_one(&index, staging, "f", 1, 0);
    insert_one(&index, staging, "g", 2, 0);
    index.drop_base(staging).unwrap();
    index.drop_base(staging).unwrap();
    assert_eq!(find_one(&index, 1), [place("kept/f", 0, 100)]);
    assert_eq!(find_one(&index, 2), []);
    // A dropped base's number is not given out again, so its rows stay dead.
    let again = index.add_base(&path("staging")).unwrap();
    assert_ne!(again, staging);
    assert_eq!(find_one(&index, 2), []);
    // A new place does not displace the living one by the dead one.
    insert_one(&index, again, "h", 1, 5);
    assert_eq!(find_one(&index, 1), [place("staging/h", 5, 100), place("kept/f", 0, 100)]);
}

#[test]
fn a_sweep_removes_the_rows_of_dropped_bases() {
    let (index, _) = open(&Arc::default());
    let base = index.add_base(&path("gone")).unwrap();
    fill(&index, 0..50).unwrap();
    for n in 40..90 {
        insert_one(&index, base, "f", n, 0);
    }
    index.drop_base(base).unwrap();
    assert_eq!(index.stats().unwrap().chunks, 90);
    let mut calls = 1;
    while !index.sweep(20).unwrap() {
        calls += 1;
    }
    assert_eq!(calls, 5);
    assert_eq!(index.stats().unwrap().chunks, 50);
    assert_eq!(found(&index, 0..50), 50);
}

#[test]
fn a_place_that_proved_wrong_is_forgotten_and_the_other_stays() {
    let (index, _) = open(&Arc::default());
    let a = index.add_base(&path("a")).unwrap();
    let b = index.add_base(&path("b")).unwrap();
    insert_one(&index, a, "f", 1, 0);
    insert_one(&index, b, "f", 1, 0);
    index.forget(&digest(1), &place("b/f", 1, 100)).unwrap();
    index.forget(&digest(2), &place("b/f", 0, 100)).unwrap();
    assert_eq!(find_one(&index, 1).len(), 2);
    index.forget(&digest(1), &place("b/f", 0, 100)).unwrap();
    assert_eq!(find_one(&index, 1), [place("a/f", 0, 100)]);
    index.forget(&digest(1), &place("a/f", 0, 100)).unwrap();
    assert_eq!(index.stats().unwrap().chunks, 0);
}

#[test]
fn what_was_flushed_is_there_after_reopening() {
    let tree = Arc::default();
    let (index, _) = open(&tree);
    fill(&index, 0..300).unwrap();
    let base = index.add_base(&path("data")).unwrap();
    index.flush().unwrap();
    // As if the process had been killed here: only the file is left.
    let content = file(&tree).content();
    drop(index);
    file(&tree).put(content);
    let (index, opened) = open(&tree);
    assert!(matches!(opened, Opened::Kept));
    assert_eq!(found(&index, 0..300), 300);
    assert_eq!(index.add_base(&path("data")).unwrap(), base);
}

#[test]
fn an_orderly_end_flushes() {
    let tree = Arc::default();
    fill(&open(&tree).0, 0..300).unwrap();
    assert_eq!(found(&open(&tree).0, 0..300), 300);
}

#[test]
fn a_disabled_index_finds_and_keeps_nothing() {
    let index = Index::disabled();
    fill(&index, 0..10).unwrap();
    assert_eq!(found(&index, 0..10), 0);
    assert!(index.sweep(1).unwrap() && !index.is_broken());
    index.flush().unwrap();
    assert_eq!(index.stats().unwrap(), IndexStats::default());
}

#[test]
fn threads_share_an_index() {
    let (index, _) = open(&Arc::default());
    std::thread::scope(|scope| {
        for part in 0..4 {
            let index = index.clone();
            scope.spawn(move || {
                for n in (part * 50)..(part * 50 + 50) {
                    fill(&index, n..n + 1).unwrap();
                    assert_eq!(found(&index, n..n + 1), 1);
                }
            });
        }
    });
    assert_eq!(found(&index, 0..200), 200);
}

#[test]
fn a_file_that_is_no_index_or_of_another_version_gives_way() {
    let tree: Arc<MemTree> = Arc::default();
    for content in [vec![], vec![b'x'], vec![0; 100_000], vec![0xff; 100_000]] {
        tree.put(AT, &content);
        let (index, opened) = open(&tree);
        assert!(matches!(opened, Opened::Rebuilt { .. }), "{opened:?}");
        fill(&index, 0..10).unwrap();
        drop(index);
        assert_eq!(found(&open(&tree).0, 0..10), 10);
    }
    let other =
        redb::Builder::new().create_with_backend(backend::Backend::new(file(&tree))).unwrap();
    let txn = other.begin_write().unwrap();
    txn.open_table(tables::META).unwrap().insert("version", tables::VERSION + 1).unwrap();
    txn.commit().unwrap();
    drop(other);
    let (index, opened) = open(&tree);
    let Opened::Rebuilt { why: IndexError::Version { found: version } } = opened else {
        panic!("{opened:?}");
    };
    assert_eq!(version, tables::VERSION + 1);
    assert_eq!(found(&index, 0..10), 0);
}

/// Damages a copy of `content` in one of several ways.
fn damaged(content: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut content = content.to_vec();
    let at = chance.below(content.len());
    match chance.below(6) {
        0 => content.truncate(at),
        1 => content.extend(std::iter::repeat_n(0x5a, at)),
        2 => {
            let end = content.len().min(at / 512 * 512 + 512);
            content[at / 512 * 512..end].fill(0);
        }
        3 => {
            let end = content.len().min(at + 64);
            content[at..end].iter_mut().for_each(|byte| *byte = chance.next() as u8);
        }
        4 => {
            let from = chance.below(content.len() / 4096) * 4096;
            let to = chance.below(content.len() / 4096) * 4096;
            content.copy_within(from..from + 4096, to);
        }
        _ => content[at] ^= 1 << chance.below(8),
    }
    content
}

/// Opens an index whose file holds `content`; it may have lost entries but tells nothing false,
/// and it works.
fn check_usable(content: &[u8], entries: usize) -> Opened {
    let tree: Arc<MemTree> = Arc::default();
    tree.put(AT, content);
    let (index, opened) = open_uncached(&tree).unwrap();
    let before = found(&index, 0..entries);
    if matches!(opened, Opened::Rebuilt { .. }) {
        assert_eq!(before, 0);
    }
    fill(&index, entries..entries + 20).unwrap();
    index.flush().unwrap();
    drop(index);
    let (index, again) = open_uncached(&tree).unwrap();
    assert!(matches!(again, Opened::Kept), "{again:?}");
    assert_eq!(found(&index, entries..entries + 20), 20);
    assert_eq!(found(&index, 0..entries), before);
    opened
}

/// The file of an index with 600 entries, closed in order or not.
fn sample(closed: bool) -> Vec<u8> {
    let tree = Arc::default();
    let (index, _) = open(&tree);
    for start in (0..600).step_by(100) {
        fill(&index, start..start + 100).unwrap();
    }
    index.flush().unwrap();
    let content = file(&tree).content();
    drop(index);
    if closed { file(&tree).content() } else { content }
}

#[test]
fn damage_while_closed_costs_entries_at_most() {
    for closed in [true, false] {
        let content = sample(closed);
        let mut rebuilt = 0;
        let mut count = |opened| rebuilt += u32::from(matches!(opened, Opened::Rebuilt { .. }));
        // Every byte of the database's header, then chance.
        for at in 0..320 {
            let mut content = content.clone();
            content[at] ^= Chance(at as u64).next() as u8 | 1;
            count(check_usable(&content, 600));
        }
        for seed in 0..150 {
            let content = damaged(&content, &mut Chance(seed));
            count(check_usable(&content, 600));
        }
        println!("closed {closed}: {rebuilt} of 470 rebuilt");
        assert!(rebuilt > 100);
    }
}

#[test]
fn damage_in_use_breaks_the_index_quietly() {
    let mut broke = 0;
    for seed in 0..200 {
        let mut chance = Chance(seed);
        let tree = Arc::default();
        let (index, _) = open_uncached(&tree).unwrap();
        fill(&index, 0..600).unwrap();
        index.flush().unwrap();
        let disk = file(&tree);
        disk.put(damaged(&disk.content(), &mut chance));
        // Whatever comes back has a form that can be verified.
        for n in 0..600 {
            let _ = index.find(&[digest(n)]);
        }
        let _ = index.forget(&digest(1), &truth(1));
        let _ = fill(&index, 600..700);
        let _ = index.sweep(1000);
        let _ = index.flush();
        let _ = index.stats();
        broke += u32::from(index.is_broken());
        if index.is_broken() {
            assert!(matches!(index.find(&[]), Err(IndexError::Broken)));
            assert!(matches!(index.flush(), Err(IndexError::Broken)));
        }
        drop(index);
        let (index, _) = open_uncached(&tree).unwrap();
        fill(&index, 2000..2010).unwrap();
        assert_eq!(found(&index, 2000..2010), 10);
    }
    println!("{broke} of 200 broke");
    assert!(broke > 30);
}

#[test]
fn a_failing_call_breaks_the_index_and_loses_nothing_that_was_flushed() {
    let kinds = [io::ErrorKind::Other, io::ErrorKind::StorageFull];
    let prepared = sample(true);
    // Whether the index was kept at first, and whether all went well after that.
    let run = |tree: &Arc<MemTree>| -> Result<(bool, bool), IndexError> {
        let (index, opened) = open_uncached(tree)?;
        let work = || {
            fill(&index, 600..700)?;
            index.flush()?;
            fill(&index, 700..800)?;
            index.flush()?;
            index.find(&[digest(1)]).map(|_| ())
        };
        Ok((matches!(opened, Opened::Kept), work().is_ok()))
    };
    let count = |tree: &Arc<MemTree>| tree.file(&path(AT)).unwrap().calls();
    let tree: Arc<MemTree> = Arc::default();
    tree.put(AT, &prepared);
    run(&tree).unwrap();
    let calls = count(&tree);
    println!("{calls} calls");
    let mut lost = 0;
    for kind in kinds {
        for nth in (0..calls).step_by(1 + calls / 150) {
            let tree: Arc<MemTree> = Arc::default();
            let disk = tree.put(AT, &prepared);
            disk.fail_after(nth, kind);
            let (kept, well) = run(&tree).unwrap_or((true, false));
            disk.mend();
            let (index, opened) = open_uncached(&tree).unwrap();
            let known = found(&index, 0..600);
            if kept && matches!(opened, Opened::Kept) {
                assert_eq!(known, 600, "call {nth} {kind:?}");
            } else {
                assert_eq!(known, 0, "call {nth} {kind:?}");
            }
            lost += u32::from(known == 0);
            if well {
                assert_eq!(found(&index, 600..800), 200, "call {nth} {kind:?}");
            }
            fill(&index, 900..910).unwrap();
            assert_eq!(found(&index, 900..910), 10);
        }
    }
    println!("{lost} indexes given up");
}

#[test]
fn power_loss_keeps_what_was_flushed_even_if_it_strikes_twice() {
    let tree = Arc::default();
    let (index, _) = open_uncached(&tree).unwrap();
    let mut chance = Chance(1);
    let mut flushed = 0;
    let mut end = 0;
    for step in 0..100 {
        let next = end + 1 + chance.below(30);
        fill(&index, end..next).unwrap();
        end = next;
        if chance.below(4) == 0 {
            index.flush().unwrap();
            flushed = end;
        }
        let after: Arc<MemTree> = Arc::default();
        let disk = after.put(AT, &file(&tree).after_power_loss(&mut chance));
        // And the power fails again while the index recovers.
        disk.fail_after(chance.below(60), io::ErrorKind::Other);
        let _ = open_uncached(&after);
        let after: Arc<MemTree> = Arc::default();
        after.put(AT, &disk.after_power_loss(&mut chance));
        let (index, opened) = open_uncached(&after).unwrap();
        if flushed > 0 {
            assert!(matches!(opened, Opened::Kept), "step {step}: {opened:?}");
        }
        assert_eq!(found(&index, 0..flushed), flushed, "step {step}");
        found(&index, flushed..end);
    }
}

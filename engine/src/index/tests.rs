//! Tests of the index over a tree in memory: behaviour, damage, failing calls and power loss.

use std::io;
use std::sync::Arc;

use super::fake::{Chance, Contents, MemFile, MemTree, path};
use super::faulty::Faulty;
use super::store::{Sizes, Store};
use super::*;
use crate::storage::MemoryTree;

const AT: &str = ".portway/index.redb";

fn digest(n: usize) -> Digest {
    Digest::of(&n.to_le_bytes())
}

fn open(tree: &Arc<MemTree>) -> (Index, Opened) {
    Index::open(Arc::clone(tree) as Arc<dyn Tree>, &path(AT)).unwrap()
}

/// Opens with a cache so small that pages come from the file each time, and a buffer so small that
/// there are many runs.
fn open_small(tree: Arc<dyn Tree>) -> Result<(Index, Opened), IndexError> {
    let sizes = Sizes { cache_bytes: 0, buffer_entries: 32 };
    let (store, opened) = Store::open(tree, &path(AT), sizes)?;
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
            let page = 4096.min(content.len() / 4);
            let from = chance.below(content.len() / page) * page;
            let to = chance.below(content.len() / page) * page;
            content.copy_within(from..from + page, to);
        }
        _ => content[at] ^= 1 << chance.below(8),
    }
    content
}

/// Opens an index whose files hold `contents`; it may have lost entries but tells nothing false,
/// and it works. True if it was lost.
fn check_usable(contents: &Contents, entries: usize) -> bool {
    let tree = MemTree::of(contents);
    let (mut index, opened) = open_small(tree.clone()).unwrap();
    let mut lost = matches!(opened, Opened::Rebuilt { .. });
    if index.find(&(0..entries).map(digest).collect::<Vec<_>>()).is_err() {
        assert!(index.is_broken() && !lost);
        drop(index);
        lost = true;
        let (again, opened) = open_small(tree.clone()).unwrap();
        assert!(matches!(opened, Opened::Fresh), "{opened:?}");
        index = again;
    }
    let before = found(&index, 0..entries);
    assert!(before == 0 || !lost);
    fill(&index, entries..entries + 20).unwrap();
    index.flush().unwrap();
    drop(index);
    let (index, again) = open_small(tree).unwrap();
    assert!(matches!(again, Opened::Kept), "{again:?}");
    assert_eq!(found(&index, entries..entries + 20), 20);
    assert_eq!(found(&index, 0..entries), before);
    lost
}

/// The files of an index with 600 entries, closed in order or not.
fn sample(closed: bool) -> Contents {
    let tree = Arc::<MemTree>::default();
    let (index, _) = open_small(tree.clone()).unwrap();
    for start in (0..600).step_by(100) {
        fill(&index, start..start + 100).unwrap();
    }
    index.flush().unwrap();
    let contents = tree.contents();
    drop(index);
    let contents = if closed { tree.contents() } else { contents };
    assert!(contents.len() > 2, "a database and runs: {:?}", contents.keys());
    contents
}

/// The runs among some files.
fn runs(contents: &Contents) -> Vec<RelPath> {
    contents.keys().filter(|at| **at != path(AT)).cloned().collect()
}

#[test]
fn damage_while_closed_costs_entries_at_most() {
    for closed in [true, false] {
        let contents = sample(closed);
        let check = |at: &RelPath, damage: &dyn Fn(&mut Vec<u8>)| {
            let mut contents = contents.clone();
            damage(contents.get_mut(at).unwrap());
            u32::from(check_usable(&contents, 600))
        };
        // Every byte of the database's header and of a run's, then chance.
        let flip = |at: usize| {
            move |content: &mut Vec<u8>| content[at] ^= Chance(at as u64).next() as u8 | 1
        };
        let spoil =
            |seed| move |content: &mut Vec<u8>| *content = damaged(content, &mut Chance(seed));
        let mut lost: u32 = (0..320).map(|at| check(&path(AT), &flip(at))).sum();
        lost += (0..150).map(|seed| check(&path(AT), &spoil(seed))).sum::<u32>();
        println!("closed {closed}: {lost} of 470 lost by the database");
        assert!(lost > 100);
        let runs = runs(&contents);
        let lost: u32 = (0..128).map(|at| check(&runs[0], &flip(at))).sum();
        assert_eq!(lost, 128, "every byte of a run's header counts");
        let lost: u32 =
            (0..300).map(|seed| check(&runs[seed as usize % runs.len()], &spoil(seed))).sum();
        println!("closed {closed}: {lost} of 300 lost by runs");
        assert!(lost > 250);
    }
}

#[test]
fn a_missing_run_or_one_of_another_index_costs_entries_at_most() {
    let contents = sample(true);
    for run in runs(&contents) {
        let mut less = contents.clone();
        less.remove(&run);
        assert!(check_usable(&less, 600));
    }
    // Runs of the same names and the same chunks, with other numbers of files.
    let tree = Arc::<MemTree>::default();
    let (index, _) = open_small(tree.clone()).unwrap();
    insert_one(&index, index.add_base(&path("data")).unwrap(), "d", 5, 0);
    for start in (0..600).step_by(100) {
        fill(&index, start..start + 100).unwrap();
    }
    drop(index);
    let mut mixed = tree.contents();
    mixed.insert(path(AT), contents[&path(AT)].clone());
    assert!(check_usable(&mixed, 600));
    // What nothing names goes.
    let mut more = contents.clone();
    more.insert(path(".portway/index.runs/00000000000fffff.run"), vec![1; 100]);
    more.insert(path(".portway/index.runs/x"), vec![1; 100]);
    let tree = MemTree::of(&more);
    let (index, opened) = open_small(tree.clone()).unwrap();
    assert!(matches!(opened, Opened::Kept));
    assert_eq!(found(&index, 0..600), 600);
    assert_eq!(tree.contents().len(), contents.len());
}

#[test]
fn damage_in_use_breaks_the_index_quietly() {
    let mut broke = [0, 0];
    for seed in 0..400 {
        let mut chance = Chance(seed);
        let tree = Arc::<MemTree>::default();
        let (index, _) = open_small(tree.clone()).unwrap();
        fill(&index, 0..600).unwrap();
        index.flush().unwrap();
        let runs = runs(&tree.contents());
        let of_runs = seed % 2 == 1;
        let disk = if of_runs { tree.file(&runs[chance.below(runs.len())]) } else { None };
        let disk = disk.unwrap_or_else(|| file(&tree));
        disk.put(damaged(&disk.content(), &mut chance));
        for n in 0..600 {
            // Whatever comes back has a form that can be verified.
            let places = index.find(&[digest(n)]).unwrap_or_default();
            assert!(!of_runs || places.iter().flatten().all(|place| *place == truth(n)));
        }
        let _ = index.forget(&digest(1), &truth(1));
        let _ = fill(&index, 600..700);
        let _ = index.sweep(1000);
        let _ = index.flush();
        let _ = index.stats();
        broke[seed as usize % 2] += u32::from(index.is_broken());
        if index.is_broken() {
            assert!(matches!(index.find(&[]), Err(IndexError::Broken)));
            assert!(matches!(index.flush(), Err(IndexError::Broken)));
        }
        drop(index);
        let (index, _) = open_small(tree).unwrap();
        fill(&index, 2000..2010).unwrap();
        assert_eq!(found(&index, 2000..2010), 10);
    }
    println!("{broke:?} of 200 broke");
    assert!(broke[0] > 30 && broke[1] > 100);
}

#[test]
fn a_sweep_notices_damage_that_no_look_up_meets() {
    let contents = sample(true);
    let runs = runs(&contents);
    let tree = MemTree::of(&contents);
    let (index, _) = open_small(tree.clone()).unwrap();
    // Bytes that say where a chunk is, of one entry.
    let disk = tree.file(&runs[0]).unwrap();
    let mut content = disk.content();
    content[128 + 40 + 20] ^= 1;
    disk.put(content);
    assert!(matches!(index.sweep(10_000), Err(IndexError::Corrupt { .. })));
    assert!(index.is_broken());
}

#[test]
fn a_failing_call_breaks_the_index_and_loses_nothing_that_was_flushed() {
    let kinds = [io::ErrorKind::Other, io::ErrorKind::StorageFull];
    let prepared = sample(true);
    // Whether the index was kept at first, and whether all went well after that.
    let run = |tree: &Faulty| -> Result<(bool, bool), IndexError> {
        let (index, opened) = open_small(Arc::new(tree.clone()))?;
        let work = || {
            fill(&index, 600..700)?;
            index.flush()?;
            fill(&index, 700..800)?;
            index.flush()?;
            index.find(&[digest(1)]).map(|_| ())
        };
        Ok((matches!(opened, Opened::Kept), work().is_ok()))
    };
    let tree = Faulty::once(MemTree::of(&prepared), usize::MAX - 1, kinds[0]);
    run(&tree).unwrap();
    let calls = tree.calls();
    println!("{calls} calls");
    let mut lost = 0;
    for kind in kinds {
        for nth in (0..calls).step_by(1 + calls / 300) {
            let tree = MemTree::of(&prepared);
            let (kept, well) = run(&Faulty::once(tree.clone(), nth, kind)).unwrap_or((true, false));
            let (index, opened) = open_small(tree).unwrap();
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

/// What a power loss after the first `calls` calls of a process leaves: the tree, and how many
/// chunks were flushed. None if the process came to its end.
fn cut(tree: &MemoryTree, calls: usize) -> Option<usize> {
    let dying = Faulty::dying(Arc::new(tree.clone()), calls);
    let Ok((index, _)) = open_small(Arc::new(dying.clone())) else { return Some(0) };
    let mut flushed = 0;
    for (round, size) in [60, 5, 150, 1, 40, 7, 90, 30].into_iter().cycle().take(16).enumerate() {
        let next = flushed + size;
        let base = path(&format!("gone{round}"));
        let done = fill(&index, flushed..next)
            .and_then(|()| index.add_base(&base))
            .and_then(|base| index.drop_base(base))
            .and_then(|()| index.flush())
            .and_then(|()| if round % 5 == 4 { index.sweep(10_000).map(|_| ()) } else { Ok(()) });
        if dying.calls() > calls {
            return Some(flushed);
        }
        done.unwrap();
        flushed = next;
    }
    None
}

#[test]
fn power_loss_at_any_step_keeps_what_was_flushed_even_if_it_strikes_twice() {
    let mut calls = 0;
    let mut kept = 0;
    for seed in 0.. {
        let tree = MemoryTree::new(seed);
        let Some(flushed) = cut(&tree, calls) else { break };
        tree.crash(seed);
        // And the power fails again while the index recovers.
        let _ = open_small(Arc::new(Faulty::dying(Arc::new(tree.clone()), seed as usize % 60)));
        tree.crash(seed + 1);
        let (index, opened) = open_small(Arc::new(tree.clone())).unwrap();
        if flushed > 0 {
            assert!(matches!(opened, Opened::Kept), "call {calls}: {opened:?}");
            kept += 1;
        }
        assert_eq!(found(&index, 0..flushed), flushed, "call {calls}");
        found(&index, flushed..flushed + 200);
        fill(&index, 2000..2050).unwrap();
        index.flush().unwrap();
        assert_eq!(found(&index, 2000..2050), 50);
        calls += 1 + calls / 400;
    }
    println!("{calls} calls, {kept} indexes kept");
    assert!(kept > 300);
}

/// What the index is to know at least: of each chunk the last place in each of the last two bases
/// that were there when it was told of them.
#[derive(Default)]
struct Model {
    /// By chunk: base and place, newest first.
    places: std::collections::BTreeMap<usize, Vec<(BaseId, Place)>>,
    /// All that was told and never forgotten, in bases that are there.
    told: Vec<(usize, BaseId, Place)>,
}

impl Model {
    fn insert(&mut self, chunk: usize, base: BaseId, place: &Place) {
        let places = self.places.entry(chunk).or_default();
        places.retain(|(other, _)| *other != base);
        places.insert(0, (base, place.clone()));
        places.truncate(PLACES_MAX);
        self.told.retain(|(other, of, _)| (*other, *of) != (chunk, base));
        self.told.push((chunk, base, place.clone()));
    }

    fn retain(&mut self, keep: impl Fn(usize, BaseId, &Place) -> bool) {
        for (chunk, places) in &mut self.places {
            places.retain(|(base, place)| keep(*chunk, *base, place));
        }
        self.told.retain(|(chunk, base, place)| keep(*chunk, *base, place));
    }

    fn check(&self, index: &Index, chunks: usize) {
        let digests: Vec<_> = (0..chunks).map(digest).collect();
        for (chunk, found) in index.find(&digests).unwrap().into_iter().enumerate() {
            let known = self.places.get(&chunk).map_or(&[][..], Vec::as_slice);
            let known: Vec<_> = known.iter().map(|(_, place)| place.clone()).collect();
            assert!(found.starts_with(&known), "{chunk}: {found:?}, not {known:?}");
            assert!(found.len() <= PLACES_MAX);
            for place in found {
                let told = self.told.iter().any(|(of, _, told)| *of == chunk && *told == place);
                assert!(told, "{chunk} was never at {place:?}, or no longer");
            }
        }
    }
}

#[test]
fn runs_and_merges_change_nothing_of_what_is_known() {
    const CHUNKS: usize = 40;
    for seed in 0..12 {
        let mut chance = Chance(seed);
        let tree = Arc::<MemTree>::default();
        let mut index = open_small(tree.clone()).unwrap().0;
        let mut model = Model::default();
        let mut bases: Vec<(BaseId, String)> = Vec::new();
        for step in 0..400 {
            let what = chance.below(100);
            let Some((base, name)) = bases.get(chance.below(bases.len().max(1))).cloned() else {
                bases.push((index.add_base(&path("first")).unwrap(), "first".to_owned()));
                continue;
            };
            let chunk = chance.below(CHUNKS);
            match what {
                0..4 => {
                    let name = format!("b{step}");
                    bases.push((index.add_base(&path(&name)).unwrap(), name));
                }
                4..7 => {
                    index.drop_base(base).unwrap();
                    bases.retain(|(other, _)| *other != base);
                    model.retain(|_, of, _| of != base);
                }
                7..15 => {
                    let found = index.find(&[digest(chunk)]).unwrap().remove(0);
                    if let Some(place) = found.get(chance.below(2)) {
                        index.forget(&digest(chunk), place).unwrap();
                        model.retain(|of, _, at| of != chunk || at != place);
                    }
                }
                15..20 => index.flush().unwrap(),
                20..30 => assert!(index.sweep(1 + chance.below(60)).is_ok()),
                30..33 => {
                    drop(index);
                    let (again, opened) = open_small(tree.clone()).unwrap();
                    assert!(matches!(opened, Opened::Kept) || step < 2, "{opened:?}");
                    index = again;
                }
                _ => {
                    for chunk in chunk..CHUNKS.min(chunk + 1 + chance.below(8)) {
                        let offset = chance.below(3) as u64;
                        insert_one(&index, base, &format!("f{step}"), chunk, offset);
                        let at = place(&format!("{name}/f{step}"), offset, 100);
                        model.insert(chunk, base, &at);
                    }
                }
            }
            model.check(&index, CHUNKS);
        }
    }
}

#[test]
fn runs_stay_few_and_a_sweep_leaves_one() {
    let tree = Arc::<MemTree>::default();
    let (index, _) = open_small(tree.clone()).unwrap();
    for start in (0..20_000).step_by(50) {
        fill(&index, start..start + 50).unwrap();
    }
    index.flush().unwrap();
    let files = runs(&tree.contents()).len();
    assert!((1..12).contains(&files), "{files} runs and merges under way");
    while !index.sweep(3000).unwrap() {}
    index.flush().unwrap();
    assert_eq!(runs(&tree.contents()).len(), 1);
    assert_eq!(found(&index, 0..20_000), 20_000);
    assert_eq!(index.stats().unwrap().chunks, 20_000);
    let bytes = index.stats().unwrap().bytes_on_disk;
    println!("{bytes} bytes for 20,000 chunks");
}

//! The table of chunks: a buffer of new entries in memory, and sorted runs in files below one
//! directory.
//!
//! A full buffer becomes the newest run. Runs that follow each other in age are merged, a few
//! entries at a time, so that there are few. What was told last of a chunk in a base counts.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::PLACES_MAX;
use super::buffer::Buffer;
use super::entry::Spot;
use super::merge::{IsLive, Merge, due};
use super::run::Run;
use super::writer::RunWriter;
use crate::base::{Digest, RelPath};
use crate::storage::{Tree, mkdir_all};

/// More runs than this are merged at once: each has an open file, and slows look-ups.
const RUNS_MAX: usize = 64;
/// The end of the name of a run's file.
const NAME_END: &[u8] = b".run";

/// The name of a run and the seal of its header.
pub(super) type RunRow = (u64, Digest);

/// The table.
pub(super) struct Chunks {
    tree: Arc<dyn Tree>,
    dir: RelPath,
    buffer_entries: usize,
    next_id: AtomicU64,
    state: RwLock<State>,
    /// Taken before `state`, never after it.
    merges: Mutex<Merges>,
}

#[derive(Default)]
struct State {
    buffer: Buffer,
    /// Newest first.
    runs: Arc<Vec<Arc<Run>>>,
    /// Runs that gave way; a list that is durable may name them.
    retired: Vec<u64>,
}

#[derive(Default)]
struct Merges {
    tiers: Vec<Merge>,
    /// The one of all runs, for [`Chunks::sweep`].
    sweep: Option<Merge>,
}

/// What the table is once [`Chunks::list`] returns.
pub(super) struct Listed {
    /// Its runs, newest first, all durable.
    pub(super) rows: Vec<RunRow>,
    /// Runs that it no longer needs.
    retired: Vec<u64>,
}

impl Chunks {
    /// Opens the table of these runs, newest first, and removes what else is in the directory.
    ///
    /// # Errors
    /// `InvalidData`, `UnexpectedEof` or `NotFound` if a run is damaged or missing.
    pub(super) fn open(
        tree: Arc<dyn Tree>,
        dir: RelPath,
        rows: &[RunRow],
        buffer_entries: usize,
    ) -> io::Result<Self> {
        mkdir_all(&*tree, &dir)?;
        // With its name, that of the database beside it becomes durable.
        let mut above = dir.parent();
        while let Some(path) = above {
            tree.sync_dir(&path)?;
            above = path.parent();
        }
        let mut next_id = 0;
        for (name, _) in tree.list(&dir)? {
            let id = id_of(&name);
            next_id = next_id.max(id.map_or(0, |id| id.saturating_add(1)));
            if !rows.iter().any(|row| Some(row.0) == id)
                && let Ok(path) = dir.join(&name)
            {
                // What stays only takes room.
                let _ = tree.unlink(&path);
            }
        }
        let mut runs = Vec::with_capacity(rows.len());
        for &(id, seal) in rows {
            let file = tree.open(&path_of(&dir, id)?)?;
            runs.push(Arc::new(Run::open(id, file, seal)?));
        }
        let state = State { runs: Arc::new(runs), ..State::default() };
        Ok(Self {
            tree,
            dir,
            buffer_entries,
            next_id: AtomicU64::new(next_id),
            state: RwLock::new(state),
            merges: Mutex::default(),
        })
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn merges(&self) -> MutexGuard<'_, Merges> {
        self.merges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For each key, what is known of it, newest first and one for each base: up to the last of
    /// [`PLACES_MAX`] spots in bases that are live, with others in between.
    pub(super) fn find(&self, keys: &[u128], is_live: &mut IsLive<'_>) -> io::Result<Vec<Known>> {
        let state = self.state();
        let mut found: Vec<Known> = vec![Known::default(); keys.len()];
        if state.buffer.len() > 0 {
            for (known, &key) in found.iter_mut().zip(keys) {
                state.buffer.spots(key).into_iter().for_each(|spot| known.push(spot));
            }
        }
        let runs = Arc::clone(&state.runs);
        drop(state);
        let mut open: Vec<(u128, usize)> = keys.iter().copied().zip(0..).collect();
        for run in &*runs {
            run.find(&open, &mut |number, spot| found[number].push(spot))?;
            let mut failed = None;
            open.retain(|&(_, number)| {
                let enough = found[number].is_enough(is_live);
                !enough.unwrap_or_else(|error| failed.replace(error).is_some())
            });
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(found)
    }

    /// Adds spots. When the buffer is full, it becomes a run.
    pub(super) fn insert(&self, spots: impl Iterator<Item = (u128, Spot)>) -> io::Result<()> {
        let mut state = self.state_mut();
        for (key, spot) in spots {
            state.buffer.put(key, spot);
            if state.buffer.len() >= self.buffer_entries {
                self.spill(&mut state)?;
            }
        }
        Ok(())
    }

    /// Forgets `spot`, unless its base has another one by now.
    pub(super) fn forget(&self, key: u128, spot: &Spot) -> io::Result<()> {
        let mut state = self.state_mut();
        let older = !state.runs.is_empty();
        state.buffer.forget(key, spot, older);
        if state.buffer.len() >= self.buffer_entries { self.spill(&mut state) } else { Ok(()) }
    }

    /// Makes the buffer the newest run.
    fn spill(&self, state: &mut State) -> io::Result<()> {
        if state.buffer.len() == 0 {
            return Ok(());
        }
        let mut writer = self.writer(state.buffer.len() as u64)?;
        for entry in state.buffer.entries() {
            writer.push(&entry.encode(), entry.spot.is_forgotten())?;
        }
        let run = writer.finish()?.map(Arc::new);
        state.runs = Arc::new(run.into_iter().chain(state.runs.iter().cloned()).collect());
        state.buffer = Buffer::default();
        Ok(())
    }

    fn writer(&self, entries_max: u64) -> io::Result<RunWriter> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let file = self.tree.create(&path_of(&self.dir, id)?)?;
        RunWriter::new(id, file, entries_max)
    }

    /// Merges the entries of up to `keys` keys, the smallest merges first, beginning those that
    /// are due; true if none is left.
    pub(super) fn tend(&self, keys: usize, is_live: &mut IsLive<'_>) -> io::Result<bool> {
        let mut merges = self.merges();
        let mut left = keys;
        loop {
            self.begin_due(&mut merges)?;
            let least = merges.tiers.iter().enumerate().min_by_key(|(_, merge)| merge.entries());
            let Some((least, _)) = least else { return Ok(true) };
            let now = left.min(4096);
            if now == 0 {
                return Ok(false);
            }
            left -= now;
            if merges.tiers[least].step(now, is_live)? {
                let merge = merges.tiers.swap_remove(least);
                self.install(merge)?;
            }
        }
    }

    /// Merges at once when there are too many runs.
    pub(super) fn limit_runs(&self, is_live: &mut IsLive<'_>) -> io::Result<()> {
        if self.state().runs.len() > RUNS_MAX {
            self.tend(usize::MAX, is_live)?;
        }
        Ok(())
    }

    fn begin_due(&self, merges: &mut Merges) -> io::Result<()> {
        loop {
            let runs = Arc::clone(&self.state().runs);
            let under_way: HashSet<u64> =
                merges.tiers.iter().chain(&merges.sweep).flat_map(Merge::inputs).collect();
            let sizes = runs.iter().map(|run| (run.header.entries, under_way.contains(&run.id)));
            let Some(range) = due(sizes) else { return Ok(()) };
            let inputs = &runs[range.clone()];
            let writer = self.writer(inputs.iter().map(|run| run.header.entries).sum())?;
            merges.tiers.push(Merge::new(inputs, writer, range.end == runs.len()));
        }
    }

    /// Merges the entries of up to `keys` keys of all runs into one; true if this call reached the
    /// end.
    pub(super) fn sweep(&self, keys: usize, is_live: &mut IsLive<'_>) -> io::Result<bool> {
        let mut merges = self.merges();
        let mut sweep = match merges.sweep.take() {
            Some(sweep) => sweep,
            None => {
                for merge in merges.tiers.drain(..) {
                    let _ = self.tree.unlink(&path_of(&self.dir, merge.output())?);
                }
                let mut state = self.state_mut();
                self.spill(&mut state)?;
                let entries = state.runs.iter().map(|run| run.header.entries).sum();
                Merge::new(&state.runs, self.writer(entries)?, true)
            }
        };
        let ended = sweep.step(keys, is_live)?;
        if ended {
            self.install(sweep)?;
        } else {
            merges.sweep = Some(sweep);
        }
        Ok(ended)
    }

    /// Puts what came out of a merge in the place of what went in.
    fn install(&self, merge: Merge) -> io::Result<()> {
        let inputs: Vec<u64> = merge.inputs().collect();
        let output = path_of(&self.dir, merge.output())?;
        let run = merge.finish()?.map(Arc::new);
        if run.is_none() {
            let _ = self.tree.unlink(&output);
        }
        let mut state = self.state_mut();
        let first = state.runs.iter().position(|run| inputs.contains(&run.id));
        let mut runs = Vec::clone(&state.runs);
        runs.retain(|run| !inputs.contains(&run.id));
        if let Some(run) = run {
            runs.insert(first.unwrap_or(0), run);
        }
        state.runs = Arc::new(runs);
        state.retired.extend(inputs);
        Ok(())
    }

    /// Makes all that is known so far durable runs, and lists them. The list must be made durable,
    /// and then [`Self::clean`] called, before the next call.
    pub(super) fn list(&self) -> io::Result<Listed> {
        let mut state = self.state_mut();
        self.spill(&mut state)?;
        let runs = Arc::clone(&state.runs);
        let retired = std::mem::take(&mut state.retired);
        drop(state);
        for run in &*runs {
            run.sync()?;
        }
        self.tree.sync_dir(&self.dir)?;
        Ok(Listed { rows: runs.iter().map(|run| (run.id, run.header.seal())).collect(), retired })
    }

    /// Removes the files that a list which is durable now has no need of.
    pub(super) fn clean(&self, listed: &Listed) {
        for &id in &listed.retired {
            // What stays is removed at the next open.
            let _ = path_of(&self.dir, id).and_then(|path| self.tree.unlink(&path));
        }
    }

    /// Distinct chunks, those in several runs counted for each, and bytes of the runs' files.
    pub(super) fn sizes(&self) -> (u64, u64) {
        let state = self.state();
        let chunks: u64 = state.runs.iter().map(|run| run.header.chunks).sum();
        let bytes = state.runs.iter().map(|run| run.header.file_bytes()).sum();
        (state.buffer.chunks() + chunks, bytes)
    }
}

/// What is known of one chunk, newest first, one spot for each base.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    first: Option<Spot>,
    /// Rarely anything.
    more: Vec<Spot>,
}

impl Known {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Spot> {
        self.first.iter().chain(&self.more)
    }

    /// Adds an older spot, unless one of its base is known.
    fn push(&mut self, spot: Spot) {
        if self.first.is_none() {
            self.first = Some(spot);
        } else if !self.iter().any(|newer| newer.base == spot.base) {
            self.more.push(spot);
        }
    }

    /// Whether there are [`PLACES_MAX`] spots in live bases.
    fn is_enough(&self, is_live: &mut IsLive<'_>) -> io::Result<bool> {
        let mut live = 0;
        if 1 + self.more.len() >= PLACES_MAX {
            for spot in self.iter() {
                live += usize::from(!spot.is_forgotten() && is_live(spot.base)?);
            }
        }
        Ok(live >= PLACES_MAX)
    }
}

fn path_of(dir: &RelPath, id: u64) -> io::Result<RelPath> {
    let name = format!("{id:016x}");
    dir.join(&[name.as_bytes(), NAME_END].concat()).map_err(io::Error::other)
}

fn id_of(name: &[u8]) -> Option<u64> {
    let digits = name.strip_suffix(NAME_END).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::super::fake::{MemTree, path};
    use super::*;

    #[test]
    fn too_many_runs_are_merged_at_once() {
        let tree: Arc<MemTree> = Arc::default();
        let chunks = Chunks::open(tree.clone(), path("runs"), &[], 10).unwrap();
        let spots = |range: std::ops::Range<u32>| {
            range.map(|n| {
                let key = Digest::of(&n.to_le_bytes()).short();
                (key, Spot { base: 0, file: n, offset: 0, len: 1 })
            })
        };
        let count = || chunks.state().runs.len();
        chunks.insert(spots(0..10 * RUNS_MAX as u32)).unwrap();
        chunks.limit_runs(&mut |_| Ok(true)).unwrap();
        assert_eq!(count(), RUNS_MAX);
        chunks.insert(spots(5000..5010)).unwrap();
        chunks.limit_runs(&mut |_| Ok(true)).unwrap();
        assert_eq!(count(), 1);
        // What is retired goes once a list without it is durable.
        let listed = chunks.list().unwrap();
        assert_eq!(tree.contents().len(), 2 + RUNS_MAX);
        chunks.clean(&listed);
        assert_eq!(tree.contents().len(), 1);
        let keys: Vec<u128> = spots(0..20).map(|(key, _)| key).collect();
        let again = Chunks::open(tree, path("runs"), &listed.rows, 10).unwrap();
        let found = again.find(&keys, &mut |_| Ok(true)).unwrap();
        for ((_, spot), found) in spots(0..20).zip(found) {
            assert!(found.iter().eq([&spot]));
        }
    }
}

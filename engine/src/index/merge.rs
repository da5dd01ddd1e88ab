//! Merging runs that follow each other in age into one, a step at a time.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::PLACES_MAX;
use super::entry::{ENTRY_BYTES, Entry, key_of};
use super::run::{Run, damaged};
use super::writer::RunWriter;
use crate::base::Digest;

/// Entries that are read of a run at a time.
const READ_ENTRIES: usize = 1638;
/// Runs of one level are merged when there are this many.
const FAN: usize = 4;
/// Runs of up to four times this many entries are of the lowest level; each further level has runs
/// of up to four times as many.
const LEVEL_ENTRIES: u64 = 4096;

/// Tells whether a base is there.
pub(super) type IsLive<'a> = dyn FnMut(u32) -> io::Result<bool> + 'a;

/// A merge under way.
pub(super) struct Merge {
    /// Newest first.
    inputs: Vec<Input>,
    writer: RunWriter,
    /// Whether no older run is behind the inputs, so that what is forgotten need not be told.
    to_the_end: bool,
}

impl Merge {
    pub(super) fn new(runs: &[Arc<Run>], writer: RunWriter, to_the_end: bool) -> Self {
        let inputs = runs.iter().map(|run| Input::new(Arc::clone(run))).collect();
        Self { inputs, writer, to_the_end }
    }

    /// The runs that are merged.
    pub(super) fn inputs(&self) -> impl Iterator<Item = u64> {
        self.inputs.iter().map(|input| input.run.id)
    }

    /// The run that comes out.
    pub(super) fn output(&self) -> u64 {
        self.writer.id()
    }

    /// Entries that go in.
    pub(super) fn entries(&self) -> u64 {
        self.inputs.iter().map(|input| input.run.header.entries).sum()
    }

    /// Merges the entries of up to `keys` further keys; true at the end.
    ///
    /// # Errors
    /// `InvalidData` if an input is damaged, and those of the files.
    pub(super) fn step(&mut self, keys: usize, is_live: &mut IsLive<'_>) -> io::Result<bool> {
        let mut bases: Vec<u32> = Vec::with_capacity(PLACES_MAX);
        for _ in 0..keys {
            let mut least = None;
            for input in &mut self.inputs {
                if let Some(key) = input.key()? {
                    least = Some(least.map_or(key, |least: u128| least.min(key)));
                }
            }
            let Some(key) = least else { return Ok(true) };
            bases.clear();
            let mut places = 0;
            for input in &mut self.inputs {
                while input.key()? == Some(key) {
                    let bytes = input.take();
                    let spot = Entry::decode_unchecked(bytes).spot;
                    if bases.contains(&spot.base) || !is_live(spot.base)? {
                        continue;
                    }
                    bases.push(spot.base);
                    if spot.is_forgotten() {
                        if !self.to_the_end {
                            self.writer.push(bytes, true)?;
                        }
                    } else if places < PLACES_MAX || !self.to_the_end {
                        places += 1;
                        self.writer.push(bytes, false)?;
                    }
                }
            }
        }
        Ok(false)
    }

    /// The run that came out, if there is anything in it.
    ///
    /// # Errors
    /// `InvalidData` if an input was damaged, and those of the file.
    pub(super) fn finish(self) -> io::Result<Option<Run>> {
        if !self.inputs.iter().all(Input::is_whole) {
            return Err(damaged("the entries of a run are damaged"));
        }
        self.writer.finish()
    }
}

/// A run that is read from its first entry to its last.
struct Input {
    run: Arc<Run>,
    /// Entries that were read from the file.
    read: u64,
    buffer: Vec<u8>,
    /// The entry in the buffer that is next.
    next: usize,
    key: Option<u128>,
    hasher: blake3::Hasher,
}

impl Input {
    fn new(run: Arc<Run>) -> Self {
        let hasher = blake3::Hasher::new();
        Self { run, read: 0, buffer: Vec::new(), next: 0, key: None, hasher }
    }

    /// The key of the next entry.
    fn key(&mut self) -> io::Result<Option<u128>> {
        if self.key.is_none() {
            if self.entry(self.next).is_none() {
                self.refill()?;
            }
            self.key = self.entry(self.next).map(key_of);
        }
        Ok(self.key)
    }

    fn entry(&self, at: usize) -> Option<&[u8; ENTRY_BYTES]> {
        self.buffer.as_chunks::<ENTRY_BYTES>().0.get(at)
    }

    fn refill(&mut self) -> io::Result<()> {
        let count = (self.run.header.entries - self.read).min(READ_ENTRIES as u64);
        self.buffer.resize(count as usize * ENTRY_BYTES, 0);
        self.run.read(self.read, &mut self.buffer)?;
        self.hasher.update(&self.buffer);
        self.read += count;
        self.next = 0;
        Ok(())
    }

    /// The entry that [`Self::key`] told the key of.
    fn take(&mut self) -> &[u8; ENTRY_BYTES] {
        self.key = None;
        self.next += 1;
        &self.buffer.as_chunks::<ENTRY_BYTES>().0[self.next - 1]
    }

    /// Whether all was read, and is what was written.
    fn is_whole(&self) -> bool {
        self.read == self.run.header.entries
            && Digest(*self.hasher.finalize().as_bytes()) == self.run.header.entries_digest
    }
}

/// Which runs to merge next, of these, newest first, each with its entries and whether it is in a
/// merge already. It is the newest [`FAN`] or more of one level that follow each other. A run is
/// of its own level or of that of a newer run, whichever is higher, so that levels rise with age.
pub(super) fn due(runs: impl Iterator<Item = (u64, bool)>) -> Option<Range<usize>> {
    let mut level = 0;
    let mut group = 0..0;
    for (at, (entries, busy)) in runs.enumerate() {
        let next = level.max(level_of(entries));
        if busy || next > level {
            if group.len() >= FAN {
                return Some(group);
            }
            group = at..at;
        }
        level = next;
        group = if busy { at + 1..at + 1 } else { group.start..at + 1 };
    }
    (group.len() >= FAN).then_some(group)
}

fn level_of(entries: u64) -> u32 {
    (entries / LEVEL_ENTRIES).max(1).ilog(FAN as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_of(runs: &[u64], busy: Range<usize>) -> Option<Range<usize>> {
        due(runs.iter().zip(0..).map(|(&entries, at)| (entries, busy.contains(&at))))
    }

    #[test]
    fn four_runs_of_a_level_are_due() {
        const L: u64 = LEVEL_ENTRIES;
        assert_eq!(due_of(&[], 0..0), None);
        assert_eq!(due_of(&[1, 2, 3], 0..0), None);
        assert_eq!(due_of(&[1, L, 3, 2 * L], 0..0), Some(0..4));
        assert_eq!(due_of(&[1, 1, 1, 4 * L, 4 * L, 4 * L], 0..0), None);
        assert_eq!(due_of(&[1, 1, 1, 4 * L, 4 * L, 4 * L, 5 * L, 16 * L], 0..0), Some(3..7));
        // Small runs behind a large one count as large.
        assert_eq!(due_of(&[1, 4 * L, 1, 1, 5 * L, 99 * L], 0..0), Some(1..5));
        // What is in a merge is left alone, and divides the rest.
        assert_eq!(due_of(&[1; 9], 0..4), Some(4..9));
        assert_eq!(due_of(&[1; 9], 3..6), None);
        assert_eq!(due_of(&[1; 9], 4..9), Some(0..4));
    }
}

//! The entries that are not yet in a run, in memory.

use std::collections::BTreeMap;

use super::entry::{Entry, Spot};

/// New entries, one for each chunk and base.
#[derive(Default)]
pub(super) struct Buffer {
    /// By key and base: the spot, and a number that grows with each change.
    entries: BTreeMap<(u128, u32), (u64, Spot)>,
    changes: u64,
}

impl Buffer {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Puts `spot` in the place of what is known of the key in the same base.
    pub(super) fn put(&mut self, key: u128, spot: Spot) {
        self.changes += 1;
        self.entries.insert((key, spot.base), (self.changes, spot));
    }

    /// Forgets `spot`, unless something else is known by now in its base. Older entries of the
    /// base, outside of the buffer, may be there or not.
    pub(super) fn forget(&mut self, key: u128, spot: &Spot, older: bool) {
        match self.entries.get(&(key, spot.base)) {
            Some((_, newer)) if newer != spot => {}
            _ if older => self.put(key, Spot::forgotten(spot.base)),
            _ => {
                self.entries.remove(&(key, spot.base));
            }
        }
    }

    /// What is known of `key`, newest first.
    pub(super) fn spots(&self, key: u128) -> Vec<Spot> {
        let mut spots: Vec<_> =
            self.entries.range((key, 0)..=(key, u32::MAX)).map(|(_, known)| *known).collect();
        spots.sort_unstable_by_key(|(change, _)| u64::MAX - change);
        spots.into_iter().map(|(_, spot)| spot).collect()
    }

    /// Distinct chunks that have a spot.
    pub(super) fn chunks(&self) -> u64 {
        let mut last = None;
        let placed = self.entries.iter().filter(|(_, (_, spot))| !spot.is_forgotten());
        placed.filter(|((key, _), _)| last.replace(*key) != Some(*key)).count() as u64
    }

    /// All entries by key, those of a key newest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        let mut group: Vec<(u64, Entry)> = Vec::new();
        let mut rest = self.entries.iter().peekable();
        std::iter::from_fn(move || {
            if group.is_empty() {
                while let Some((&(key, _), &(change, spot))) = rest.next() {
                    group.push((change, Entry { key, spot }));
                    if rest.peek().is_none_or(|((next, _), _)| *next != key) {
                        break;
                    }
                }
                group.sort_unstable_by_key(|(change, _)| *change);
            }
            group.pop().map(|(_, entry)| entry)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(base: u32, offset: u64) -> Spot {
        Spot { base, file: 0, offset, len: 1 }
    }

    #[test]
    fn a_base_keeps_its_last_spot_and_the_newest_base_comes_first() {
        let mut buffer = Buffer::default();
        buffer.put(7, spot(2, 1));
        buffer.put(7, spot(1, 1));
        buffer.put(9, spot(1, 1));
        buffer.put(7, spot(2, 5));
        assert_eq!(buffer.spots(7), [spot(2, 5), spot(1, 1)]);
        assert_eq!(buffer.spots(8), []);
        assert_eq!((buffer.len(), buffer.chunks()), (3, 2));
        let all: Vec<_> = buffer.entries().map(|entry| (entry.key, entry.spot)).collect();
        assert_eq!(all, [(7, spot(2, 5)), (7, spot(1, 1)), (9, spot(1, 1))]);
    }

    #[test]
    fn what_is_forgotten_hides_older_entries_and_spares_newer_ones() {
        let mut buffer = Buffer::default();
        buffer.put(7, spot(1, 1));
        buffer.forget(7, &spot(1, 2), true);
        assert_eq!(buffer.spots(7), [spot(1, 1)]);
        buffer.forget(7, &spot(1, 1), true);
        buffer.forget(7, &spot(2, 1), true);
        assert_eq!(buffer.spots(7), [Spot::forgotten(2), Spot::forgotten(1)]);
        assert_eq!((buffer.len(), buffer.chunks()), (2, 0));
        buffer.put(8, spot(1, 1));
        buffer.forget(8, &spot(1, 1), false);
        assert_eq!(buffer.len(), 2);
    }
}

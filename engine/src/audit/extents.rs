//! Which bytes of which objects left.

use std::collections::BTreeMap;

use crate::base::limits::OBJECT_BYTES_MAX;
use crate::base::{Digest, Extent, RelPath};

/// Most objects that one record names.
pub const OBJECTS_PER_RECORD_MAX: usize = 1024;
/// Most extents that one record names.
pub const EXTENTS_PER_RECORD_MAX: usize = 4096;
/// Most bytes of object paths in one record; the extents take 64 KiB beside them.
pub const PATHS_PER_RECORD_BYTES_MAX: usize = 128 << 10;

/// A set of bytes of objects. Extents that touch or overlap are one, so there is one form of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtentSet {
    /// Object to the starts and ends of its extents.
    objects: BTreeMap<RelPath, BTreeMap<u64, u64>>,
    /// Number of extents.
    count: usize,
}

impl ExtentSet {
    /// Adds an extent; false if it is empty or ends behind the largest object.
    pub fn insert(&mut self, object: &RelPath, extent: Extent) -> bool {
        let Some(end) = extent.end().filter(|end| *end <= OBJECT_BYTES_MAX) else { return false };
        if extent.len == 0 {
            return false;
        }
        let (start, count) = (extent.offset, &mut self.count);
        let mut add = |extents: &mut BTreeMap<u64, u64>| {
            let before = extents.len();
            insert(extents, start, end);
            *count = *count + extents.len() - before;
        };
        match self.objects.get_mut(object) {
            Some(extents) => add(extents),
            None => add(self.objects.entry(object.clone()).or_default()),
        }
        true
    }

    /// Adds another set.
    pub fn extend(&mut self, other: &Self) {
        for (object, extent) in other.iter() {
            self.insert(object, extent);
        }
    }

    /// Takes out the objects up to and with `last`.
    pub fn take_through(&mut self, last: &RelPath) -> Self {
        let mut rest = self.objects.split_off(last);
        if let Some(extents) = rest.remove(last) {
            self.objects.insert(last.clone(), extents);
        }
        let objects = std::mem::replace(&mut self.objects, rest);
        let count = objects.values().map(BTreeMap::len).sum();
        self.count -= count;
        Self { objects, count }
    }

    /// What is in this set and not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for (object, extents) in &self.objects {
            let none = BTreeMap::new();
            let taken = other.objects.get(object).unwrap_or(&none);
            for (&start, &end) in extents {
                let mut at = start;
                let first = taken.range(..=start).next_back().map_or(start, |(&from, _)| from);
                for (&from, &to) in taken.range(first..end) {
                    if to > at {
                        if from > at {
                            out.insert(object, Extent { offset: at, len: from - at });
                        }
                        at = to;
                    }
                }
                if at < end {
                    out.insert(object, Extent { offset: at, len: end - at });
                }
            }
        }
        out
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Number of objects.
    pub fn objects(&self) -> usize {
        self.objects.len()
    }

    /// Number of extents.
    pub fn extents(&self) -> usize {
        self.count
    }

    /// Bytes in it, each counted once.
    pub fn bytes(&self) -> u64 {
        self.iter().map(|(_, extent)| extent.len).fold(0, u64::saturating_add)
    }

    /// Its extents, by object and offset.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, Extent)> {
        self.by_object().flat_map(|(object, extents)| extents.map(move |extent| (object, extent)))
    }

    /// Its objects with the extents of each, in order.
    pub(super) fn by_object(
        &self,
    ) -> impl Iterator<Item = (&RelPath, impl ExactSizeIterator<Item = Extent>)> {
        self.objects.iter().map(|(object, extents)| {
            let extent = |(&offset, &end): (&u64, &u64)| Extent { offset, len: end - offset };
            (object, extents.iter().map(extent))
        })
    }

    /// The first object in order.
    pub fn first(&self) -> Option<&RelPath> {
        self.objects.first_key_value().map(|(object, _)| object)
    }

    /// What a receipt says of it.
    pub fn sum(&self) -> LeftSum {
        let mut hasher = LeftHasher::default();
        hasher.extend(self);
        hasher.finish()
    }

    /// The set in parts that fit in a record each; none if it is empty.
    pub fn split(self) -> Vec<Self> {
        let mut parts = Vec::new();
        let (mut part, mut count, mut path_bytes) = (Self::default(), 0, 0);
        for (object, extent) in self.iter() {
            let bytes = object.as_bytes().len();
            let fits = part.objects.contains_key(object)
                || (part.objects() < OBJECTS_PER_RECORD_MAX
                    && path_bytes + bytes <= PATHS_PER_RECORD_BYTES_MAX);
            if count == EXTENTS_PER_RECORD_MAX || !fits {
                parts.push(std::mem::take(&mut part));
                (count, path_bytes) = (0, 0);
            }
            if !part.objects.contains_key(object) {
                path_bytes += bytes;
            }
            count += 1;
            part.insert(object, extent);
        }
        if !part.is_empty() {
            parts.push(part);
        }
        parts
    }
}

fn insert(extents: &mut BTreeMap<u64, u64>, mut start: u64, mut end: u64) {
    if let Some((&before, &to)) = extents.range(..=start).next_back()
        && to >= start
    {
        start = before;
    }
    while let Some((&next, &to)) = extents.range(start..=end).next() {
        extents.remove(&next);
        end = end.max(to);
    }
    extents.insert(start, end);
}

/// A set of extents in short: both ends sign it in a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeftSum {
    /// Number of extents.
    pub extents: u64,
    /// BLAKE3 over objects and extents; see [`LeftHasher`].
    pub digest: Digest,
}

/// Digests a set of extents that need not fit in memory: objects are given in the order of a
/// manifest, each with its extents in order, none of which touch.
///
/// The digest is BLAKE3 over, for each object: length of the path u32 LE, path, number of extents
/// u64 LE, and offset u64 LE and length u64 LE of each.
#[derive(Debug, Clone, Default)]
pub struct LeftHasher {
    hasher: blake3::Hasher,
    extents: u64,
}

impl LeftHasher {
    /// Adds the extents of the next object.
    pub fn push(&mut self, object: &RelPath, extents: impl ExactSizeIterator<Item = Extent>) {
        self.hasher.update(&(object.as_bytes().len() as u32).to_le_bytes());
        self.hasher.update(object.as_bytes());
        self.hasher.update(&(extents.len() as u64).to_le_bytes());
        for extent in extents {
            self.hasher.update(&extent.offset.to_le_bytes());
            self.hasher.update(&extent.len.to_le_bytes());
            self.extents += 1;
        }
    }

    /// Adds a set, whose objects come after those that were added.
    pub fn extend(&mut self, set: &ExtentSet) {
        for (object, extents) in set.by_object() {
            self.push(object, extents);
        }
    }

    /// The sum.
    pub fn finish(&self) -> LeftSum {
        let digest = Digest(*self.hasher.finalize().as_bytes());
        LeftSum { extents: self.extents, digest }
    }
}

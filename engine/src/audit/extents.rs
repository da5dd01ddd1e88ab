//! Which bytes of which objects left.

use std::collections::BTreeMap;

use crate::base::limits::OBJECT_BYTES_MAX;
use crate::base::{Digest, Extent, PieceHasher, RelPath};

/// Most objects that one record names.
pub const OBJECTS_PER_RECORD_MAX: usize = 1024;
/// Most extents that one record names.
pub const EXTENTS_PER_RECORD_MAX: usize = 4096;
/// Most bytes of object paths in one record; the extents take 64 KiB beside them.
pub const PATHS_PER_RECORD_BYTES_MAX: usize = 128 << 10;

/// Extents of one object, none of which touch.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Spans {
    /// Start and end of the only one, as most objects have it.
    One(u64, u64),
    /// Starts and ends of two and more.
    Many(BTreeMap<u64, u64>),
}

impl Spans {
    fn len(&self) -> usize {
        match self {
            Self::One(..) => 1,
            Self::Many(spans) => spans.len(),
        }
    }

    /// Starts and ends, in order.
    fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.touching(0, u64::MAX)
    }

    /// Those that are not all before `start` or behind `end`.
    fn touching(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
        let (one, many) = match self {
            Self::One(from, to) => (Some((*from, *to)), None),
            Self::Many(spans) => {
                let first = spans.range(..=start).next_back().map_or(start, |(&from, _)| from);
                (None, Some(spans.range(first..=end).map(|(&from, &to)| (from, to))))
            }
        };
        let all = one.into_iter().chain(many.into_iter().flatten());
        all.filter(move |&(from, to)| from <= end && to >= start)
    }

    /// The first of them, so many, and the others; there are more.
    fn split_at(self, count: usize) -> (Option<Self>, Self) {
        match self {
            Self::Many(mut spans) if count > 0 => {
                let next = spans.keys().nth(count).copied().unwrap_or(u64::MAX);
                let rest = spans.split_off(&next);
                (Some(Self::of(spans)), Self::of(rest))
            }
            all => (None, all),
        }
    }

    fn of(spans: BTreeMap<u64, u64>) -> Self {
        match (spans.len(), spans.first_key_value()) {
            (1, Some((&start, &end))) => Self::One(start, end),
            _ => Self::Many(spans),
        }
    }

    /// Adds an extent.
    fn insert(&mut self, start: u64, end: u64) {
        match self {
            Self::One(from, to) if start <= *to && *from <= end => {
                (*from, *to) = ((*from).min(start), (*to).max(end));
            }
            Self::One(from, to) => *self = Self::Many([(*from, *to), (start, end)].into()),
            Self::Many(spans) => {
                insert(spans, start, end);
                *self = Self::of(std::mem::take(spans));
            }
        }
    }
}

/// A set of bytes of objects. Extents that touch or overlap are one, so there is one form of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtentSet {
    objects: BTreeMap<RelPath, Spans>,
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
        // Most come in the order of the objects.
        let last = self.objects.last_key_value();
        let comes_last = last.is_none_or(|(last, _)| last < object);
        match if comes_last { None } else { self.objects.get_mut(object) } {
            Some(spans) => {
                let before = spans.len();
                spans.insert(extent.offset, end);
                self.count = self.count + spans.len() - before;
            }
            None => {
                self.objects.insert(object.clone(), Spans::One(extent.offset, end));
                self.count += 1;
            }
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
        let count = objects.values().map(Spans::len).sum();
        self.count -= count;
        Self { objects, count }
    }

    /// What is in this set and not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for (object, spans) in &self.objects {
            let taken = other.objects.get(object);
            for (start, end) in spans.iter() {
                let mut at = start;
                for (from, to) in taken.into_iter().flat_map(|taken| taken.touching(start, end)) {
                    let from = from.min(end);
                    if from > at {
                        out.insert(object, Extent { offset: at, len: from - at });
                    }
                    at = at.max(to);
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
        self.by_object()
            .flat_map(|(object, _, extents)| extents.map(move |extent| (object, extent)))
    }

    /// Its objects with the extents of each and how many these are, in order.
    pub(super) fn by_object(
        &self,
    ) -> impl Iterator<Item = (&RelPath, usize, impl Iterator<Item = Extent>)> {
        self.objects.iter().map(|(object, spans)| {
            let extents = spans.iter().map(|(offset, end)| Extent { offset, len: end - offset });
            (object, spans.len(), extents)
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
        let (mut parts, mut part) = (Vec::new(), Vec::new());
        let (mut count, mut path_bytes) = (0, 0);
        let mut end = |part: &mut Vec<(RelPath, Spans)>, count: &mut usize| {
            let objects = std::mem::take(part).into_iter().collect();
            parts.push(Self { objects, count: std::mem::take(count) });
        };
        for (object, spans) in self.objects {
            let bytes = object.as_bytes().len();
            if part.len() == OBJECTS_PER_RECORD_MAX
                || path_bytes + bytes > PATHS_PER_RECORD_BYTES_MAX
            {
                end(&mut part, &mut count);
                path_bytes = 0;
            }
            let mut rest = spans;
            while count + rest.len() > EXTENTS_PER_RECORD_MAX {
                let (first, more) = rest.split_at(EXTENTS_PER_RECORD_MAX - count);
                if let Some(first) = first {
                    count += first.len();
                    part.push((object.clone(), first));
                }
                rest = more;
                end(&mut part, &mut count);
                path_bytes = 0;
            }
            count += rest.len();
            path_bytes += bytes;
            part.push((object, rest));
        }
        if !part.is_empty() {
            end(&mut part, &mut count);
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
#[derive(Debug, Clone)]
pub struct LeftHasher {
    hasher: PieceHasher,
    extents: u64,
}

impl Default for LeftHasher {
    fn default() -> Self {
        Self { hasher: PieceHasher::new(blake3::Hasher::new()), extents: 0 }
    }
}

impl LeftHasher {
    /// Adds the extents of the next object, so many.
    pub fn push(&mut self, object: &RelPath, count: usize, extents: impl Iterator<Item = Extent>) {
        self.extents += count as u64;
        self.hasher.add(|input| {
            input.extend_from_slice(&(object.as_bytes().len() as u32).to_le_bytes());
            input.extend_from_slice(object.as_bytes());
            input.extend_from_slice(&(count as u64).to_le_bytes());
            for extent in extents {
                input.extend_from_slice(&extent.offset.to_le_bytes());
                input.extend_from_slice(&extent.len.to_le_bytes());
            }
        });
    }

    /// Adds a set, whose objects come after those that were added.
    pub fn extend(&mut self, set: &ExtentSet) {
        for (object, count, extents) in set.by_object() {
            self.push(object, count, extents);
        }
    }

    /// The sum.
    pub fn finish(&self) -> LeftSum {
        LeftSum { extents: self.extents, digest: self.hasher.finish(&[]) }
    }
}

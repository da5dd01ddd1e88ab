//! The Merkle tree over a log: its root as it grows, and proofs about it.
//!
//! Shapes and proofs are those of RFC 9162, section 2.1; the hash is BLAKE3-256 in place of
//! SHA-256. A leaf is hashed with a zero byte before it and a node with a one, so that neither can
//! be taken for the other.

use std::ops::Range;

use crate::base::Digest;

/// Byte before the content of a leaf.
pub(super) const LEAF: u8 = 0;
/// Byte before the two digests of a node.
const NODE: u8 = 1;

/// The digest of a node with these two below it.
pub(super) fn node(left: Digest, right: Digest) -> Digest {
    let mut bytes = [NODE; 1 + 2 * Digest::BYTES];
    bytes[1..=Digest::BYTES].copy_from_slice(&left.0);
    bytes[1 + Digest::BYTES..].copy_from_slice(&right.0);
    Digest::of(&bytes)
}

/// A tree that grows at its end. It keeps the roots of its complete subtrees only, one for each
/// bit that is set in its size, so it takes 2 KiB at most and gives its root in as many steps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    /// Roots of complete subtrees, the largest and leftmost first.
    peaks: Vec<Digest>,
}

impl Frontier {
    /// A tree of `size` leaves with these subtrees; `None` if their number is another.
    pub(super) fn from_peaks(size: u64, peaks: Vec<Digest>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, the largest and leftmost first.
    pub(super) fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// Adds a leaf, given its digest.
    pub fn push(&mut self, leaf: Digest) {
        let pushed = self.push_subtree(0, leaf);
        debug_assert!(pushed, "there are fewer than 2^64 records");
    }

    /// Adds a complete subtree of 2^`level` leaves, given its root; false if none begins here.
    pub(super) fn push_subtree(&mut self, level: u32, root: Digest) -> bool {
        let Some(leaves) = 1_u64.checked_shl(level) else { return false };
        let Some(size) = self.size.checked_add(leaves) else { return false };
        if !self.size.is_multiple_of(leaves) {
            return false;
        }
        let mut root = root;
        for _ in 0..(self.size >> level).trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            root = node(left, root);
        }
        self.peaks.push(root);
        self.size = size;
        true
    }

    /// The root: `MTH` of RFC 9162, 2.1.1. That of no leaves is the digest of nothing.
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return Digest::of(b"") };
        peaks.fold(*last, |right, left| node(*left, right))
    }
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// Goes down from the root of `size` leaves to the subtree of which `found` is true, to the left where
/// `left` is true of the middle. Gives that subtree, and those beside the way from the bottom up.
fn descend(
    size: u64,
    found: impl Fn(&Range<u64>) -> bool,
    left: impl Fn(u64) -> bool,
) -> (Range<u64>, Vec<Range<u64>>) {
    let (mut beside, mut at) = (Vec::new(), 0..size);
    while !found(&at) {
        let middle = at.start + split(at.end - at.start);
        let (near, far) = (at.start..middle, middle..at.end);
        let (next, other) = if left(middle) { (near, far) } else { (far, near) };
        beside.push(other);
        at = next;
    }
    beside.reverse();
    (at, beside)
}

/// The subtrees whose roots prove that leaf `index` is in a tree of `size` leaves, in the order of
/// the proof (RFC 9162, 2.1.3.1); `None` if it is not.
fn inclusion_ranges(index: u64, size: u64) -> Option<Vec<Range<u64>>> {
    let leaf = |at: &Range<u64>| at.end - at.start == 1;
    (index < size).then(|| descend(size, leaf, |middle| index < middle).1)
}

/// The subtrees whose roots prove that a tree of `old` leaves is the beginning of one of `size`, in
/// the order of the proof (RFC 9162, 2.1.4.1); `None` if there is no such proof.
fn consistency_ranges(old: u64, size: u64) -> Option<Vec<Range<u64>>> {
    if old == 0 || old > size {
        return None;
    }
    let (last, beside) = descend(size, |at| at.end == old, |middle| old <= middle);
    // A whole subtree as the old tree is not in the proof: the verifier has its root.
    let last = (last.start > 0).then_some(last);
    Some(last.into_iter().chain(beside).collect())
}

/// Makes one proof from the digests of all leaves, given in order. It keeps a few digests for each
/// digest of the proof.
#[derive(Debug, Clone)]
pub struct Prover {
    next: u64,
    size: u64,
    /// Subtrees of the proof, in its order, as far as they have grown.
    parts: Vec<(Range<u64>, Frontier)>,
}

impl Prover {
    fn new(size: u64, ranges: Vec<Range<u64>>) -> Self {
        let parts = ranges.into_iter().map(|range| (range, Frontier::default())).collect();
        Self { next: 0, size, parts }
    }

    /// Proves that leaf `index` is in the tree of `size` leaves; `None` if there is no such leaf.
    pub fn inclusion(index: u64, size: u64) -> Option<Self> {
        Some(Self::new(size, inclusion_ranges(index, size)?))
    }

    /// Proves that the tree of `old` leaves is the beginning of the tree of `size`; `None` if `old`
    /// is zero or larger than `size`.
    pub fn consistency(old: u64, size: u64) -> Option<Self> {
        Some(Self::new(size, consistency_ranges(old, size)?))
    }

    /// Takes the digest of the next leaf.
    pub fn push(&mut self, leaf: Digest) {
        let part = self.parts.iter_mut().find(|(range, _)| range.contains(&self.next));
        if let Some((_, tree)) = part {
            tree.push(leaf);
        }
        self.next += 1;
    }

    /// The proof; `None` before all leaves of the tree were given.
    pub fn finish(self) -> Option<Vec<Digest>> {
        let proof = self.parts.iter().map(|(_, tree)| tree.root()).collect();
        (self.next >= self.size).then_some(proof)
    }
}

/// Goes up from leaf `at` of a tree whose last leaf is `last`: gives each digest of the proof, and
/// whether it is on the left. False if they do not end at the root.
fn ascend(
    (mut at, mut last): (u64, u64),
    proof: &[Digest],
    mut step: impl FnMut(bool, Digest),
) -> bool {
    for digest in proof {
        if last == 0 {
            return false;
        }
        let left = at & 1 == 1 || at == last;
        step(left, *digest);
        while left && at & 1 == 0 && at != 0 {
            (at, last) = (at >> 1, last >> 1);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0
}

/// Whether `proof` shows that the leaf with the digest `leaf` has the number `index` in the tree of
/// `size` leaves with this root (RFC 9162, 2.1.3.2).
pub fn inclusion_holds(
    leaf: Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
    root: Digest,
) -> bool {
    if index >= size {
        return false;
    }
    let mut found = leaf;
    let whole = ascend((index, size - 1), proof, |left, digest| {
        found = if left { node(digest, found) } else { node(found, digest) };
    });
    whole && found == root
}

/// Whether `proof` shows that the tree of `old` leaves with the root `old_root` is the beginning of
/// the tree of `size` leaves with the root `root` (RFC 9162, 2.1.4.2).
pub fn consistency_holds(
    old: u64,
    old_root: Digest,
    size: u64,
    root: Digest,
    proof: &[Digest],
) -> bool {
    if old == size {
        return old > 0 && proof.is_empty() && old_root == root;
    }
    if old == 0 || old > size {
        return false;
    }
    let (first, rest) = match proof.split_first() {
        _ if old.is_power_of_two() => (old_root, proof),
        Some((first, rest)) => (*first, rest),
        None => return false,
    };
    let (mut at, mut last) = (old - 1, size - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut found_old, mut found) = (first, first);
    let whole = ascend((at, last), rest, |left, digest| {
        if left {
            (found_old, found) = (node(digest, found_old), node(digest, found));
        } else {
            found = node(found, digest);
        }
    });
    whole && found_old == old_root && found == root
}

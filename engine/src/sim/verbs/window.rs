//! Windows of a simulated device: what a peer may read, and nothing else.

use bytes::Bytes;

use crate::buf::Slab;
use crate::transport::rdma::RailError;

/// What a device answers with for bytes of a window that are between the parts of its content.
const GAP: u8 = 0xdb;

/// How far a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Opening,
    Open,
    Closed,
}

/// A window that is bound to one queue pair of its rail.
pub(super) struct Bound {
    pub(super) queue_pair: usize,
    pub(super) rkey: u32,
    /// Lowest address; of the simulation's choice, so that it follows from the seed.
    pub(super) base: u64,
    pub(super) phase: Phase,
    /// Its end was asked for.
    pub(super) closing: bool,
    pub(super) content: Content,
}

impl Bound {
    /// Whether a READ over `queue_pair` may have these bytes.
    pub(super) fn allows(&self, queue_pair: usize, remote: u64, len: usize) -> bool {
        let end = remote.checked_add(len as u64);
        self.phase == Phase::Open
            && self.queue_pair == queue_pair
            && remote >= self.base
            && end.is_some_and(|end| end <= self.base + self.content.len as u64)
    }
}

/// Parts of one lease, by their distance from the lowest.
#[derive(Clone)]
pub(super) struct Content {
    parts: Vec<(usize, Bytes)>,
    /// From the first byte of the lowest part to the last of the highest.
    pub(super) len: usize,
}

impl Content {
    /// Checks where the parts lie.
    pub(super) fn new(slab: &Slab, content: Vec<Bytes>) -> Result<Self, RailError> {
        let mut parts = Vec::with_capacity(content.len());
        let mut ends = None::<(usize, usize)>;
        for part in content.into_iter().filter(|part| !part.is_empty()) {
            let (first, end) = (part.as_ptr() as usize, part.as_ptr() as usize + part.len());
            if !slab.holds(&part) {
                return Err(RailError::new("the content of a window is not in the slab"));
            }
            let (low, high) = ends.unwrap_or((first, end));
            let (low, high) = (low.min(first), high.max(end));
            if !slab.in_one_lease(&(low..high)) {
                return Err(RailError::new("the content of a window is in more than one lease"));
            }
            ends = Some((low, high));
            parts.push((first, part));
        }
        let Some((low, high)) = ends else {
            return Err(RailError::new("a window without content"));
        };
        for (at, _) in &mut parts {
            *at -= low;
        }
        Ok(Self { parts, len: high - low })
    }

    /// Copies what lies at `from` into all of `into`; gives the bytes that no part has.
    pub(super) fn copy(&self, from: usize, into: &mut [u8]) -> usize {
        let end = from + into.len();
        into.fill(GAP);
        let mut spans = Vec::new();
        for (at, part) in &self.parts {
            let (low, high) = (from.max(*at), end.min(at + part.len()));
            if low < high {
                into[low - from..high - from].copy_from_slice(&part[low - at..high - at]);
                spans.push((low, high));
            }
        }
        spans.sort_unstable();
        let (mut gaps, mut seen) = (0, from);
        for (low, high) in spans {
            gaps += low.saturating_sub(seen);
            seen = seen.max(high);
        }
        gaps + (end - seen)
    }
}

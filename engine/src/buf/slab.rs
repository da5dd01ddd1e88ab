//! One region of memory and the leases of its blocks.
#![expect(unsafe_code, reason = "handing out parts of one mapping is what this module is for")]

use std::ops::{Deref, DerefMut, Range};
use std::ptr::{NonNull, null_mut};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::limits::LEASE_BYTES;

/// Alignment of the first block: one huge page of x86-64 and of 64-bit ARM.
const ALIGN_BYTES: usize = 2 << 20;
/// Alignment of every block, and room for what a lease leaves out before its first byte. Enough for
/// `O_DIRECT` on every device of 512 or 4,096 byte sectors.
pub const LEASE_ALIGN: usize = 4096;
/// Distance of two blocks.
const BLOCK_BYTES: usize = LEASE_BYTES + LEASE_ALIGN;

/// A private mapping of zeroed bytes, so that all leases can be registered with a device at once.
struct Region {
    mapping: NonNull<u8>,
    mapped: usize,
    /// First lease: the first aligned byte of the mapping.
    base: NonNull<u8>,
}

// SAFETY: a region is plain memory that it owns alone; who may touch which part of it is decided
// by the leases.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Maps room for `leases`. Memory is taken from the system where it is touched.
    fn new(leases: usize) -> Self {
        let bytes = leases * BLOCK_BYTES;
        let mapped = bytes + ALIGN_BYTES;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let raw = unsafe { mmap_anonymous(null_mut(), mapped, protection, flags) };
        let mapping = raw.ok().and_then(|raw| NonNull::new(raw.cast::<u8>()));
        let Some(mapping) = mapping else {
            // As for any allocation that fails.
            std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; LEASE_BYTES]>());
        };
        let skipped = mapping.as_ptr().align_offset(ALIGN_BYTES);
        // SAFETY: the mapping is longer than what is skipped, which is below the alignment.
        let base = unsafe { mapping.add(skipped) };
        // One page fault for a block instead of one for each 4 KiB of it, where the system allows.
        // SAFETY: the range is this mapping's own, and the advice changes no byte of it.
        let _ = unsafe { madvise(base.as_ptr().cast(), bytes, Advice::LinuxHugepage) };
        Self { mapping, mapped, base }
    }

    fn first(&self, place: usize, skip: usize) -> NonNull<u8> {
        // SAFETY: places are below the number of leases that the mapping has room for, and what is
        // skipped is below the room that each block has for it.
        unsafe { self.base.add(place * BLOCK_BYTES + skip) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; leases and registrations keep the region, so
        // none is left.
        let _ = unsafe { munmap(self.mapping.as_ptr().cast(), self.mapped) };
    }
}

/// A bounded pool of leases, or a part of one. Clones share it.
#[derive(Clone)]
pub struct Slab {
    pool: Arc<Pool>,
    /// The leases of the pool that a part may have out at once.
    part: Option<(Arc<Semaphore>, usize)>,
}

struct Pool {
    region: Region,
    /// Places of blocks that are not lent; the last one lent is lent next, so that no more memory
    /// is touched than is in use at once.
    free: Mutex<Vec<usize>>,
    permits: Arc<Semaphore>,
    leases: usize,
}

impl Slab {
    /// A slab of `bytes`, rounded down to whole leases but never below eight.
    ///
    /// Memory is taken from the system at first use, or when the slab is registered with a
    /// device, and then kept.
    pub fn new(bytes: usize) -> Self {
        let leases = (bytes / LEASE_BYTES).max(8);
        let pool = Arc::new(Pool {
            region: Region::new(leases),
            free: Mutex::new((0..leases).rev().collect()),
            permits: Arc::new(Semaphore::new(leases)),
            leases,
        });
        Self { pool, part: None }
    }

    /// A part of this slab: the same memory, of which no more than one of `of` leases is out at once
    /// through it, so that others find some.
    pub fn part(&self, of: usize) -> Self {
        let leases = (self.pool.leases / of.max(1)).max(2);
        let part = Some((Arc::new(Semaphore::new(leases)), leases));
        Self { pool: Arc::clone(&self.pool), part }
    }

    /// Number of leases.
    pub fn leases(&self) -> usize {
        self.part.as_ref().map_or(self.pool.leases, |(_, leases)| *leases)
    }

    /// The address range of all leases, for registering them with a device. Whoever registers it
    /// keeps the slab until the registration is gone.
    pub fn range(&self) -> Range<usize> {
        let base = self.pool.region.base.as_ptr() as usize;
        base..base + self.pool.leases * BLOCK_BYTES
    }

    /// Whether `bytes` lie in this slab.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        let (range, at) = (self.range(), bytes.as_ptr() as usize);
        range.contains(&at) && at + bytes.len() <= range.end
    }

    /// Whether `range`, which lies in this slab, lies in one lease.
    pub fn in_one_lease(&self, range: &Range<usize>) -> bool {
        let block = |at: usize| at.saturating_sub(self.range().start) / BLOCK_BYTES;
        range.is_empty() || block(range.start) == block(range.end - 1)
    }

    /// Leases that are out now, those of parts included.
    pub fn leases_out(&self) -> usize {
        self.pool.leases - self.pool.permits.available_permits()
    }

    /// A lease; waits in line while all are out.
    pub async fn lease(&self) -> Lease {
        let part = match &self.part {
            Some((part, _)) => Arc::clone(part).acquire_owned().await.ok(),
            None => None,
        };
        let permit = Arc::clone(&self.pool.permits).acquire_owned().await;
        self.lend(permit.ok(), part)
    }

    /// A lease if one is free now.
    pub fn try_lease(&self) -> Option<Lease> {
        let part = match &self.part {
            Some((part, _)) => Some(Arc::clone(part).try_acquire_owned().ok()?),
            None => None,
        };
        let permit = Arc::clone(&self.pool.permits).try_acquire_owned().ok()?;
        Some(self.lend(Some(permit), part))
    }

    fn lend(
        &self,
        permit: Option<OwnedSemaphorePermit>,
        part: Option<OwnedSemaphorePermit>,
    ) -> Lease {
        let free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let pool = Arc::clone(&self.pool);
        Lease { place: free, skip: 0, pool, _permit: permit, _part: part }
    }
}

/// `LEASE_BYTES` of page-aligned memory, owned until dropped. Holds whatever was there before.
pub struct Lease {
    /// Bytes of the block before the first of the lease, below `LEASE_ALIGN`.
    skip: usize,
    /// Never `None`: there are as many places as permits.
    place: Option<usize>,
    pool: Arc<Pool>,
    _permit: Option<OwnedSemaphorePermit>,
    _part: Option<OwnedSemaphorePermit>,
}

impl Lease {
    /// Lets the lease begin `offset` modulo `LEASE_ALIGN` bytes behind an aligned address, so that
    /// content which belongs at `offset` of a file is aligned in memory as it is there. The length
    /// stays; bytes that were in it move by what its begin moves.
    pub fn align_to(&mut self, offset: u64) {
        self.skip = (offset % LEASE_ALIGN as u64) as usize;
    }

    /// Freezes the lease: it can be read and cut into slices, and goes back to the slab when the
    /// last slice is gone.
    pub fn freeze(self) -> LeaseSlice {
        LeaseSlice(Bytes::from_owner(self))
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Some(place) = self.place else { return &[] };
        let first = self.pool.region.first(place, self.skip);
        // SAFETY: a block has `LEASE_BYTES` initialised bytes behind any skip, and while this lease
        // lives only its owner writes to them.
        unsafe { slice::from_raw_parts(first.as_ptr(), LEASE_BYTES) }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        let Some(place) = self.place else { return &mut [] };
        let first = self.pool.region.first(place, self.skip);
        // SAFETY: as in `deref`, and `&mut self` says that nobody else looks.
        unsafe { slice::from_raw_parts_mut(first.as_ptr(), LEASE_BYTES) }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            // The place is back before the permit, so a waiter always finds one.
            self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(place);
        }
    }
}

/// A frozen lease, or a part of one: shared, read-only.
#[derive(Clone)]
pub struct LeaseSlice(Bytes);

impl LeaseSlice {
    /// A part of this slice that shares its memory; the range is clamped to what is there.
    pub fn slice(&self, range: Range<usize>) -> Bytes {
        let end = range.end.min(self.0.len());
        self.0.slice(range.start.min(end)..end)
    }
}

impl Deref for LeaseSlice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_bounded_aligned_and_come_back() {
        let slab = Slab::new(0);
        let mut out: Vec<Lease> = std::iter::from_fn(|| slab.try_lease()).collect();
        assert_eq!(out.len(), 8);
        assert!(out.iter().all(|lease| (lease.as_ptr() as usize).is_multiple_of(LEASE_ALIGN)));
        for (lease, byte) in out.iter_mut().zip(1..) {
            assert!(slab.holds(lease) && lease.iter().all(|old| *old == 0));
            lease.fill(byte);
        }
        assert!(out.iter().zip(1..).all(|(lease, byte)| lease.iter().all(|b| *b == byte)));
        assert!(!slab.holds(&[0; 16]) && !Slab::new(0).holds(&out[0]));
        let first = out.pop().map(Lease::freeze);
        assert!(slab.try_lease().is_none());
        let part = first.as_ref().map(|slice| slice.slice(1..3));
        drop(first);
        assert!(slab.try_lease().is_none(), "a slice still holds the lease");
        drop(part);
        assert!(slab.try_lease().is_some());
    }

    #[test]
    fn a_part_leaves_leases_to_others() {
        let slab = Slab::new(0);
        let part = slab.part(4);
        let taken: Vec<Lease> = std::iter::from_fn(|| part.try_lease()).collect();
        assert_eq!((taken.len(), part.leases(), slab.leases_out()), (2, 2, 2));
        assert!(taken.iter().all(|lease| slab.holds(lease)), "the same memory");
        let rest: Vec<Lease> = std::iter::from_fn(|| slab.try_lease()).collect();
        assert_eq!(rest.len(), 6);
        drop(taken);
        assert!(part.try_lease().is_some());
    }

    #[test]
    fn a_lease_that_is_aligned_to_an_offset_touches_no_other() {
        let slab = Slab::new(0);
        let mut out: Vec<Lease> = std::iter::from_fn(|| slab.try_lease()).collect();
        for (lease, byte) in out.iter_mut().zip(1..) {
            lease.align_to(u64::MAX);
            assert_eq!(lease.len(), LEASE_BYTES);
            assert_eq!(lease.as_ptr() as usize % LEASE_ALIGN, LEASE_ALIGN - 1);
            assert!(slab.holds(lease));
            lease.fill(byte);
        }
        assert!(out.iter().zip(1..).all(|(lease, byte)| lease.iter().all(|b| *b == byte)));
        let (one, two) = (out[0].as_ptr() as usize, out[1].as_ptr() as usize);
        assert!(slab.in_one_lease(&(one..one + LEASE_BYTES)));
        assert!(!slab.in_one_lease(&(one.min(two)..one.max(two) + 1)));
        drop(out);
        let back = slab.try_lease().unwrap();
        assert!((back.as_ptr() as usize).is_multiple_of(LEASE_ALIGN));
    }
}

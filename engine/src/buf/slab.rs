//! Aligned blocks and their leases.
#![expect(unsafe_code, reason = "aligned allocation is what this module is for")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::mm::{Advice, madvise};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::limits::LEASE_BYTES;

/// Alignment of every lease: one huge page of x86-64 and of 64-bit ARM, and more than `O_DIRECT`
/// asks for.
const ALIGN_BYTES: usize = 2 << 20;

/// One block of `LEASE_BYTES` zeroed bytes.
struct Block(NonNull<u8>);

// SAFETY: a block is plain memory that it owns alone.
unsafe impl Send for Block {}
// SAFETY: shared access is reading only.
unsafe impl Sync for Block {}

const LAYOUT: Layout = match Layout::from_size_align(LEASE_BYTES, ALIGN_BYTES) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

impl Block {
    fn new() -> Self {
        // SAFETY: the layout has a size above zero.
        let raw = unsafe { alloc(LAYOUT) };
        let Some(block) = NonNull::new(raw) else { handle_alloc_error(LAYOUT) };
        // One page fault for a block instead of one for each 4 KiB of it, where the system allows.
        // SAFETY: the range is this block's own, and the advice changes no byte of it.
        let _ = unsafe { madvise(raw.cast(), LEASE_BYTES, Advice::LinuxHugepage) };
        // SAFETY: the block has `LEASE_BYTES` bytes, and nobody else knows of it.
        unsafe { block.write_bytes(0, LEASE_BYTES) };
        Self(block)
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the block owns `LEASE_BYTES` initialised bytes for as long as it lives.
        unsafe { slice::from_raw_parts(self.0.as_ptr(), LEASE_BYTES) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` says that nobody else looks.
        unsafe { slice::from_raw_parts_mut(self.0.as_ptr(), LEASE_BYTES) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and freed once.
        unsafe { dealloc(self.0.as_ptr(), LAYOUT) }
    }
}

/// A bounded pool of leases. Clones share the pool.
#[derive(Clone)]
pub struct Slab(Arc<Pool>);

struct Pool {
    /// Blocks that exist and are not lent; the rest is allocated at first use.
    free: Mutex<Vec<Block>>,
    permits: Arc<Semaphore>,
    leases: usize,
}

impl Slab {
    /// A slab of `bytes`, rounded down to whole leases but never below eight.
    ///
    /// Memory is taken from the system at first use and then kept.
    pub fn new(bytes: usize) -> Self {
        let leases = (bytes / LEASE_BYTES).max(8);
        Self(Arc::new(Pool {
            free: Mutex::new(Vec::with_capacity(leases)),
            permits: Arc::new(Semaphore::new(leases)),
            leases,
        }))
    }

    /// Number of leases.
    pub fn leases(&self) -> usize {
        self.0.leases
    }

    /// Leases that are out now.
    pub fn leases_out(&self) -> usize {
        self.0.leases - self.0.permits.available_permits()
    }

    /// A lease; waits in line while all are out.
    pub async fn lease(&self) -> Lease {
        let permit = Arc::clone(&self.0.permits).acquire_owned().await;
        self.lend(permit.ok())
    }

    /// A lease if one is free now.
    pub fn try_lease(&self) -> Option<Lease> {
        let permit = Arc::clone(&self.0.permits).try_acquire_owned().ok()?;
        Some(self.lend(Some(permit)))
    }

    fn lend(&self, permit: Option<OwnedSemaphorePermit>) -> Lease {
        let kept = self.0.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Lease {
            block: Some(kept.unwrap_or_else(Block::new)),
            pool: Arc::clone(&self.0),
            _permit: permit,
        }
    }
}

/// `LEASE_BYTES` of page-aligned memory, owned until dropped. Holds whatever was there before.
pub struct Lease {
    block: Option<Block>,
    pool: Arc<Pool>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Lease {
    /// Freezes the lease: it can be read and cut into slices, and goes back to the slab when the
    /// last slice is gone.
    pub fn freeze(self) -> LeaseSlice {
        LeaseSlice(Bytes::from_owner(self))
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], Block::bytes)
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.block.as_mut().map_or(&mut [], Block::bytes_mut)
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            // The block is back before the permit, so a waiter always finds one.
            self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(block);
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
        assert!(out.iter().all(|lease| (lease.as_ptr() as usize).is_multiple_of(ALIGN_BYTES)));
        let first = out.pop().map(Lease::freeze);
        assert!(slab.try_lease().is_none());
        let part = first.as_ref().map(|slice| slice.slice(1..3));
        drop(first);
        assert!(slab.try_lease().is_none(), "a slice still holds the lease");
        drop(part);
        assert!(slab.try_lease().is_some());
    }
}

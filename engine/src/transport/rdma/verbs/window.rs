//! Memory windows of type 2B: a part of a region that one queue pair's peer can read.

use std::io;
use std::sync::Arc;

use rdma_sys::{ibv_mw, ibv_mw_type};

use super::device::refused;
use super::domain::Domain;
use super::library::Handle;
use super::region::Region;
use crate::transport::rdma::RailError;

/// Bits of a window's key that change with each use.
const TAG: u32 = 0xff;

/// A memory window. It is bound and freed by requests to a queue pair.
pub(super) struct MemoryWindow {
    raw: Handle<ibv_mw>,
    /// Bound windows are of this region, which has to outlive them.
    region: Arc<Region>,
    domain: Arc<Domain>,
    /// Whether it was never bound.
    fresh: bool,
}

impl MemoryWindow {
    /// A window that is not bound.
    pub(super) fn new(domain: &Arc<Domain>, region: &Arc<Region>) -> Result<Self, RailError> {
        let context = &domain.context;
        let no_windows = || RailError::new(format!("{} has no memory windows", context.name()));
        let alloc = context.ops.alloc_mw.ok_or_else(no_windows)?;
        // SAFETY: a protection domain of the device that the function is of.
        let raw = unsafe { alloc(domain.raw(), ibv_mw_type::IBV_MW_TYPE_2) };
        let raw = Handle::new(raw).ok_or_else(|| {
            let what = format!("cannot make a memory window at {}", context.name());
            refused(what, &io::Error::last_os_error())
        })?;
        Ok(Self { raw, region: Arc::clone(region), domain: Arc::clone(domain), fresh: true })
    }

    /// The pointer, for requests.
    pub(super) fn handle(&self) -> Handle<ibv_mw> {
        self.raw
    }

    /// The region that the window is bound to.
    pub(super) fn region(&self) -> &Region {
        &self.region
    }

    /// The key that the window has now.
    fn rkey(&self) -> u32 {
        // SAFETY: a window that exists; only this type writes the field.
        unsafe { (*self.raw.raw()).rkey }
    }

    /// The key for the next use. Its tag begins at `random` and then counts up: of the last 255
    /// uses no two have the same.
    pub(super) fn next_rkey(&self, random: u8) -> u32 {
        next_rkey(self.rkey(), if self.fresh { random } else { 1 })
    }

    /// Takes in that the window was bound with this key.
    pub(super) fn bound(&mut self, rkey: u32) {
        // SAFETY: a window that exists, and `&mut self` says that nobody else looks.
        unsafe { (*self.raw.raw()).rkey = rkey };
        self.fresh = false;
    }
}

/// A key that differs from `rkey` in its tag only. A step of 0 counts as 1: the same key is refused.
fn next_rkey(rkey: u32, step: u8) -> u32 {
    rkey & !TAG | rkey.wrapping_add(u32::from(step.max(1))) & TAG
}

impl Drop for MemoryWindow {
    fn drop(&mut self) {
        let context = &self.domain.context;
        let Some(dealloc) = context.ops.dealloc_mw else { return };
        // SAFETY: a window of the device that the function is of, destroyed once.
        let code = unsafe { dealloc(self.raw.raw()) };
        if code != 0 {
            // The region stays for good with what is bound to it.
            tracing::warn!(device = context.name(), "a memory window stays behind");
            std::mem::forget((Arc::clone(&self.region), Arc::clone(&self.domain)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tag_of_a_key_changes_and_it_always_does() {
        assert_eq!(next_rkey(0x1234_56ff, 1), 0x1234_5600);
        assert_eq!(next_rkey(0xffff_ffff, 0), 0xffff_ff00);
        for step in 0..=255 {
            assert_ne!(next_rkey(0x42, step), 0x42);
            assert_eq!(next_rkey(0xab00_0042, step) >> 8, 0x00ab_0000);
        }
    }
}

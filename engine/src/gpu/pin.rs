//! The slab registered with the driver: pinned, so that copies need no copy before the copy.

use std::fmt;
use std::sync::{MutexGuard, PoisonError};

use super::device::Gpu;
use super::error::GpuError;
use crate::buf::Slab;

/// `CU_MEMHOSTREGISTER_PORTABLE`: pinned for all contexts, so one registration serves all GPUs.
const PORTABLE: u32 = 1;

/// A range that is registered, and how many rely on it. The driver refuses a second registration
/// of the same range.
pub(super) struct Registered {
    start: usize,
    users: usize,
    /// Whose context it was registered in.
    gpu: Gpu,
}

/// A slab that is pinned. It keeps the slab; when the last of a slab is dropped, it is pinned no
/// longer.
pub struct Pinned {
    gpu: Gpu,
    slab: Slab,
}

impl Gpu {
    /// Pins a slab, or shares it being pinned. This takes all its memory from the system, and some
    /// tens of milliseconds.
    ///
    /// # Errors
    /// The driver refuses: memory that may not be locked, or a system that cannot.
    pub fn pin(&self, slab: &Slab) -> Result<Pinned, GpuError> {
        let range = slab.range();
        let mut registered = registered(self);
        if let Some(known) = registered.iter_mut().find(|known| known.start == range.start) {
            known.users += 1;
        } else {
            let start = std::ptr::with_exposed_provenance_mut(range.start);
            self.call("cuMemHostRegister", |entries| {
                // SAFETY: the slab's own memory, which is kept until it is unregistered.
                unsafe { (entries.cuMemHostRegister_v2)(start, range.len(), PORTABLE) }
            })?;
            registered.push(Registered { start: range.start, users: 1, gpu: self.clone() });
        }
        drop(registered);
        Ok(Pinned { gpu: self.clone(), slab: slab.clone() })
    }
}

impl Pinned {
    /// The slab.
    pub fn slab(&self) -> &Slab {
        &self.slab
    }
}

/// Who holds this may register and unregister; so nobody finds a range that is on its way out.
fn registered(gpu: &Gpu) -> MutexGuard<'_, Vec<Registered>> {
    gpu.driver().registered.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let start = self.slab.range().start;
        let mut registered = registered(&self.gpu);
        let Some(place) = registered.iter().position(|known| known.start == start) else { return };
        registered[place].users -= 1;
        if registered[place].users > 0 {
            return;
        }
        let known = registered.swap_remove(place);
        let base = std::ptr::with_exposed_provenance_mut(start);
        let unregistered = known.gpu.call("cuMemHostUnregister", |entries| {
            // SAFETY: registered once and unregistered once; copies under way keep it pinned.
            unsafe { (entries.cuMemHostUnregister)(base) }
        });
        if let Err(error) = unregistered {
            tracing::warn!(%error, "a slab stays pinned, and so stays for good");
            std::mem::forget(self.slab.clone());
        }
        drop(registered);
        // Only now: this may be what keeps the GPU open.
        drop(known);
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pinned leases", self.slab.leases())
    }
}

//! A protection domain: queue pairs, regions and windows of one peer, and of no other.

use std::io;
use std::sync::Arc;

use rdma_sys::ibv_pd;

use super::device::{Context, refused};
use super::library::Handle;
use crate::transport::rdma::RailError;

/// A protection domain.
pub(super) struct Domain {
    raw: Handle<ibv_pd>,
    pub(super) context: Arc<Context>,
}

impl Domain {
    /// A new domain of a device.
    pub(super) fn new(context: &Arc<Context>) -> Result<Arc<Self>, RailError> {
        // SAFETY: an open device.
        let raw = unsafe { (context.library.ibv_alloc_pd)(context.raw()) };
        let raw = Handle::new(raw).ok_or_else(|| {
            let what = format!("cannot make a protection domain at {}", context.name());
            refused(what, &io::Error::last_os_error())
        })?;
        Ok(Arc::new(Self { raw, context: Arc::clone(context) }))
    }

    /// The pointer, for what is made in the domain.
    pub(super) fn raw(&self) -> *mut ibv_pd {
        self.raw.raw()
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: what was made in the domain kept it, so all of that is gone.
        let code = unsafe { (self.context.library.ibv_dealloc_pd)(self.raw()) };
        if code != 0 {
            tracing::warn!(device = self.context.name(), "a protection domain stays behind");
        }
    }
}

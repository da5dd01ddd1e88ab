//! Memory of a GPU that a device may write to.

use std::sync::Arc;

use super::SystemRail;
use super::region::Region;
use crate::gpu::Export;
use crate::transport::rdma::{RailError, Registrar};

/// A dmabuf of a GPU that is registered with a rail's device, in the rail's protection domain:
/// READs of this node may write to it, and nobody reaches it from outside.
pub struct GpuRegion(Region);

impl GpuRegion {
    /// Key for requests of this node. They name bytes by the GPU's addresses.
    pub fn lkey(&self) -> u32 {
        self.0.lkey()
    }
}

impl Registrar for SystemRail {
    type Region = GpuRegion;

    fn register(&self, export: &Arc<Export>) -> Result<GpuRegion, RailError> {
        Region::of_gpu(&self.domain, export).map(GpuRegion)
    }
}

//! Memory of NVIDIA GPUs, through the CUDA driver library, which is opened at run time.
//!
//! Content reaches device memory in one of two ways. *Staged*: it lands in a lease, is verified
//! there, and is copied to the device ([`Staging`]), from pinned memory where the driver pins the
//! slab. *Direct*: the memory is exported as a dmabuf ([`Exports`]) that a NIC can write to;
//! `transport::rdma` registers it. What makes direct impossible is said in words ([`NoExport`]),
//! and staged is always possible.
//!
//! Everything keeps what it needs: a copy under way owns its lease, its device memory, its stream
//! and the pinned slab, so nothing of these can be used, freed or unpinned before it is done.
#![expect(
    unsafe_code,
    reason = "a C library, and a device that reads and writes memory by address"
)]

mod device;
mod error;
mod export;
mod library;
mod memory;
mod pin;
mod staging;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

pub use device::{Gpu, GpuInfo, survey};
pub use error::GpuError;
pub use export::{Export, Exports, NoExport};
pub use memory::{DeviceMemory, Identity};
pub use pin::Pinned;
pub use staging::{Piece, Staging, ToDevice, ToHost};

//! Content on its way to and from device memory, through leases.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::device::Gpu;
use super::error::GpuError;
use super::memory::DeviceMemory;
use super::stream::{Stream, Transit};
use crate::base::Digest;
use crate::buf::{Lease, Slab};

/// Content for device memory.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The bytes: a slice of a lease, or others.
    pub content: Bytes,
    /// What they must be.
    pub digest: Digest,
    /// Where they go: memory of the same size.
    pub to: DeviceMemory,
}

/// Copies between the leases of one slab and the memory of one GPU, in the order in which they are
/// begun. Content that lies elsewhere is copied too, at the speed of memory that is not pinned.
pub struct Staging {
    stream: Arc<Stream>,
    unpinned: Option<GpuError>,
}

impl Staging {
    /// Pins the slab if the driver does that, and makes a stream.
    ///
    /// # Errors
    /// The driver refuses the stream. That it refuses to pin is no error:
    /// [`unpinned`](Self::unpinned).
    pub fn new(gpu: &Gpu, slab: &Slab) -> Result<Self, GpuError> {
        let (pinned, unpinned) = match gpu.pin(slab) {
            Ok(pinned) => (Some(pinned), None),
            Err(error) => {
                tracing::warn!(?gpu, %error, "the slab is not pinned: copies are slower");
                (None, Some(error))
            }
        };
        Ok(Self { stream: Stream::new(gpu, pinned)?, unpinned })
    }

    /// Why the slab is not pinned, if it is not: copies are slower then.
    pub fn unpinned(&self) -> Option<&GpuError> {
        self.unpinned.as_ref()
    }

    /// Verifies every piece, and begins to copy them if all are what their digests say.
    ///
    /// # Errors
    /// A piece is altered or of the wrong size, and nothing was copied; or the driver refuses, and
    /// the device memory of all pieces may hold anything.
    pub fn to_device(&self, pieces: Vec<Piece>) -> Result<ToDevice, GpuError> {
        let mut bytes = 0;
        for (place, piece) in pieces.iter().enumerate() {
            let (content, room) = (piece.content.len(), piece.to.len());
            if content != room {
                return Err(GpuError::WrongSize { content, room });
            }
            if !piece.to.gpu().is(self.stream.gpu()) {
                return Err(GpuError::OtherGpu);
            }
            if Digest::of(&piece.content) != piece.digest {
                return Err(GpuError::Altered { place });
            }
            bytes += content as u64;
        }
        let pieces = pieces.into_iter().map(|piece| (piece.content, piece.to)).collect();
        Ok(ToDevice { transit: self.stream.to_device(pieces)?, bytes })
    }

    /// Begins to copy device memory to the beginning of a lease.
    ///
    /// # Errors
    /// It does not fit the lease, is of another GPU, or the driver refuses.
    pub fn to_host(&self, from: &DeviceMemory, lease: Lease) -> Result<ToHost, GpuError> {
        if !from.gpu().is(self.stream.gpu()) {
            return Err(GpuError::OtherGpu);
        }
        let len = from.len();
        Ok(ToHost { transit: self.stream.to_host(from.clone(), lease)?, len })
    }
}

impl fmt::Display for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unpinned {
            None => f.write_str("staged through pinned memory"),
            Some(error) => write!(f, "staged through memory that is not pinned, because {error}"),
        }
    }
}

/// Content on its way to a device. The leases come back when it is there. Dropped, it waits.
#[must_use = "dropping it waits for the copy"]
pub struct ToDevice {
    transit: Transit<Vec<(Bytes, DeviceMemory)>>,
    bytes: u64,
}

impl ToDevice {
    /// Whether all of it is there. Does not wait.
    ///
    /// # Errors
    /// The copy failed: nothing is known of what is in the device memory, and the leases are lost.
    pub fn is_done(&mut self) -> Result<bool, GpuError> {
        self.transit.is_done()
    }

    /// Waits, and says how many bytes are there. This blocks the thread.
    ///
    /// # Errors
    /// As [`is_done`](Self::is_done).
    pub fn wait(self) -> Result<u64, GpuError> {
        self.transit.wait().map(|_| self.bytes)
    }
}

/// Device memory on its way into a lease. Dropped, it waits.
#[must_use = "dropping it waits for the copy"]
pub struct ToHost {
    transit: Transit<(Lease, DeviceMemory)>,
    len: usize,
}

impl ToHost {
    /// Whether all of it is there. Does not wait.
    ///
    /// # Errors
    /// The copy failed, and the lease is lost.
    pub fn is_done(&mut self) -> Result<bool, GpuError> {
        self.transit.is_done()
    }

    /// Waits for the bytes. They hold the lease. This blocks the thread.
    ///
    /// # Errors
    /// As [`is_done`](Self::is_done).
    pub fn wait(self) -> Result<Bytes, GpuError> {
        let (lease, _) = self.transit.wait()?;
        Ok(lease.freeze().slice(0..self.len))
    }
}

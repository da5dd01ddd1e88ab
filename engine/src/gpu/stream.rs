//! Copies between leases and device memory, and what they own until they are done.

use std::sync::Arc;

use bytes::Bytes;

use super::device::Gpu;
use super::error::{GpuError, NOT_READY};
use super::library::Handle;
use super::memory::DeviceMemory;
use super::pin::Pinned;
use crate::buf::Lease;

/// `CU_STREAM_NON_BLOCKING`: waits for nobody else's work in this process.
const NON_BLOCKING: u32 = 1;
/// `CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING`: who waits gives up the processor.
const BLOCKING_WITHOUT_TIME: u32 = 1 | 2;

/// Copies in order.
pub(super) struct Stream {
    gpu: Gpu,
    raw: Handle,
    /// Dropped after the stream.
    _pinned: Option<Pinned>,
}

impl Stream {
    /// A new stream, which keeps `pinned` as long as copies are under way.
    pub(super) fn new(gpu: &Gpu, pinned: Option<Pinned>) -> Result<Arc<Self>, GpuError> {
        let mut raw = std::ptr::null_mut();
        gpu.call("cuStreamCreate", |entries| {
            // SAFETY: the pointer is to a pointer that outlives the call.
            unsafe { (entries.cuStreamCreate)(&raw mut raw, NON_BLOCKING) }
        })?;
        let raw = Handle::new("cuStreamCreate", raw)?;
        Ok(Arc::new(Self { gpu: gpu.clone(), raw, _pinned: pinned }))
    }

    /// The GPU.
    pub(super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Begins to copy content to device memory of the same size.
    pub(super) fn to_device(
        self: &Arc<Self>,
        pieces: Vec<(Bytes, DeviceMemory)>,
    ) -> Result<Transit<Vec<(Bytes, DeviceMemory)>>, GpuError> {
        let begun = pieces.iter().try_for_each(|(content, to)| {
            if content.len() != to.len() {
                return Err(GpuError::WrongSize { content: content.len(), room: to.len() });
            }
            self.gpu.call("cuMemcpyHtoDAsync", |entries| {
                let from = content.as_ptr().cast();
                let (to, len, raw) = (to.address(), content.len(), self.raw.raw());
                // SAFETY: the content does not change, and with the device memory it is owned by
                // the transit, which gives it up only once the copy is done.
                unsafe { (entries.cuMemcpyHtoDAsync_v2)(to, from, len, raw) }
            })
        });
        self.depart(begun, pieces)
    }

    /// Begins to copy device memory to the beginning of a lease.
    pub(super) fn to_host(
        self: &Arc<Self>,
        from: DeviceMemory,
        mut lease: Lease,
    ) -> Result<Transit<(Lease, DeviceMemory)>, GpuError> {
        if from.len() > lease.len() {
            return Err(GpuError::WrongSize { content: lease.len(), room: from.len() });
        }
        let begun = self.gpu.call("cuMemcpyDtoHAsync", |entries| {
            let to = lease.as_mut_ptr().cast();
            let (from, len, raw) = (from.address(), from.len(), self.raw.raw());
            // SAFETY: the lease has room for it, and with the device memory it is owned by the
            // transit, which gives it up only once the copy is done.
            unsafe { (entries.cuMemcpyDtoHAsync_v2)(to, from, len, raw) }
        });
        self.depart(begun, (lease, from))
    }

    /// The transit of what was begun. If not all could be begun, what was is waited for first.
    fn depart<K>(
        self: &Arc<Self>,
        begun: Result<(), GpuError>,
        kept: K,
    ) -> Result<Transit<K>, GpuError> {
        let recorded = begun.and_then(|()| Event::record(self));
        match recorded {
            Ok(event) => Ok(Transit { stream: Arc::clone(self), event, kept: Some(kept) }),
            Err(error) => {
                let ended = self.gpu.call("cuStreamSynchronize", |entries| {
                    // SAFETY: a stream that is not destroyed.
                    unsafe { (entries.cuStreamSynchronize)(self.raw.raw()) }
                });
                if ended.is_err() {
                    abandon(self, kept, &error);
                }
                Err(error)
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let destroyed = self.gpu.call("cuStreamDestroy", |entries| {
            // SAFETY: created once and destroyed once; transits keep it.
            unsafe { (entries.cuStreamDestroy_v2)(self.raw.raw()) }
        });
        if let Err(error) = destroyed {
            tracing::warn!(%error, "a stream stays behind");
        }
    }
}

/// Happens when everything before it in its stream is done.
struct Event {
    gpu: Gpu,
    raw: Handle,
}

impl Event {
    fn record(stream: &Stream) -> Result<Self, GpuError> {
        let gpu = stream.gpu.clone();
        let mut raw = std::ptr::null_mut();
        gpu.call("cuEventCreate", |entries| {
            // SAFETY: the pointer is to a pointer that outlives the call.
            unsafe { (entries.cuEventCreate)(&raw mut raw, BLOCKING_WITHOUT_TIME) }
        })?;
        let event = Self { raw: Handle::new("cuEventCreate", raw)?, gpu };
        event.gpu.call("cuEventRecord", |entries| {
            // SAFETY: an event and a stream of one context, neither destroyed.
            unsafe { (entries.cuEventRecord)(event.raw.raw(), stream.raw.raw()) }
        })?;
        Ok(event)
    }

    fn happened(&self) -> Result<bool, GpuError> {
        let code = self.gpu.code(|entries| {
            // SAFETY: an event that is not destroyed.
            unsafe { (entries.cuEventQuery)(self.raw.raw()) }
        })?;
        if code == NOT_READY {
            return Ok(false);
        }
        self.gpu.driver().check("cuEventQuery", code).map(|()| true)
    }

    fn wait(&self) -> Result<(), GpuError> {
        self.gpu.call("cuEventSynchronize", |entries| {
            // SAFETY: an event that is not destroyed.
            unsafe { (entries.cuEventSynchronize)(self.raw.raw()) }
        })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let destroyed = self.gpu.call("cuEventDestroy", |entries| {
            // SAFETY: created once and destroyed once.
            unsafe { (entries.cuEventDestroy_v2)(self.raw.raw()) }
        });
        if let Err(error) = destroyed {
            tracing::warn!(%error, "an event stays behind");
        }
    }
}

/// Copies under way, which own their memory. Dropped, it waits for them.
///
/// If it cannot be known that they are done, because the driver reports an error for everything
/// from then on, the memory is never given up: a device may still write to it.
pub(super) struct Transit<K> {
    stream: Arc<Stream>,
    event: Event,
    kept: Option<K>,
}

impl<K> Transit<K> {
    /// Whether all is done. Does not wait.
    pub(super) fn is_done(&mut self) -> Result<bool, GpuError> {
        if self.kept.is_none() {
            return Err(GpuError::Lost);
        }
        self.event.happened().map_err(|error| self.fail(error))
    }

    /// Waits, and gives the memory back.
    pub(super) fn wait(mut self) -> Result<K, GpuError> {
        if self.kept.is_some() {
            self.event.wait().map_err(|error| self.fail(error))?;
        }
        self.kept.take().ok_or(GpuError::Lost)
    }

    fn fail(&mut self, error: GpuError) -> GpuError {
        if let Some(kept) = self.kept.take() {
            abandon(&self.stream, kept, &error);
        }
        error
    }
}

impl<K> Drop for Transit<K> {
    fn drop(&mut self) {
        if self.kept.is_some()
            && let Err(error) = self.event.wait()
        {
            self.fail(error);
        }
    }
}

/// Leaves memory with the device for good, and the stream, which keeps the slab pinned.
fn abandon<K>(stream: &Arc<Stream>, kept: K, error: &GpuError) {
    tracing::warn!(gpu = stream.gpu.info().name, %error, "memory of a failed copy is lost");
    std::mem::forget((Arc::clone(stream), kept));
}

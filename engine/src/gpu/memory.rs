//! Memory of a GPU: allocated here, or lent by whoever allocated it.

use std::any::Any;
use std::ffi::{c_int, c_uint};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::device::Gpu;
use super::error::GpuError;

/// `CU_POINTER_ATTRIBUTE_MEMORY_TYPE`, and what it is for memory of a device.
const MEMORY_TYPE: c_int = 2;
const MEMORY_TYPE_DEVICE: c_uint = 2;
/// `CU_POINTER_ATTRIBUTE_BUFFER_ID`: differs for any two allocations of a process.
const BUFFER_ID: c_int = 7;

/// Names an allocation of device memory: one that is freed and made again at the same address has
/// another `buffer_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its first byte.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    /// The driver's number for it, which is never used again.
    pub buffer_id: u64,
}

impl Identity {
    /// The allocation that an address is in.
    fn at(gpu: &Gpu, address: u64) -> Result<Self, GpuError> {
        let (mut base, mut size, mut buffer_id) = (0, 0, 0_u64);
        gpu.call("cuMemGetAddressRange", |entries| {
            // SAFETY: the pointers are to numbers that outlive the call; any address may be asked
            // about.
            unsafe { (entries.cuMemGetAddressRange_v2)(&raw mut base, &raw mut size, address) }
        })?;
        gpu.call("cuPointerGetAttribute", |entries| {
            let value = (&raw mut buffer_id).cast();
            // SAFETY: this attribute is an `unsigned long long`; as above.
            unsafe { (entries.cuPointerGetAttribute)(value, BUFFER_ID, address) }
        })?;
        Ok(Self { base, size: size as u64, buffer_id })
    }

    /// Whether a range is within the allocation.
    pub(super) fn holds(&self, address: u64, len: u64) -> bool {
        let end = self.base.saturating_add(self.size);
        address >= self.base && address.checked_add(len).is_some_and(|last| last <= end)
    }
}

/// Device memory that was allocated here.
struct Allocation {
    gpu: Gpu,
    address: u64,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        let freed = self.gpu.call("cuMemFree", |entries| {
            // SAFETY: allocated in this context, and freed once; copies under way keep it.
            unsafe { (entries.cuMemFree_v2)(self.address) }
        });
        if let Err(error) = freed {
            tracing::warn!(gpu = self.gpu.info().name, %error, "device memory stays allocated");
        }
    }
}

/// A range of one GPU's memory, within one allocation. Clones and parts share what keeps it
/// allocated.
#[derive(Clone)]
pub struct DeviceMemory {
    gpu: Gpu,
    address: u64,
    len: usize,
    _keeper: Arc<dyn Any + Send + Sync>,
}

impl DeviceMemory {
    /// Allocates `len` bytes, of any content. They are freed with the last clone or part.
    ///
    /// # Errors
    /// `len` is 0, or there is not so much free.
    pub fn allocate(gpu: &Gpu, len: usize) -> Result<Self, GpuError> {
        let mut address = 0;
        gpu.call("cuMemAlloc", |entries| {
            // SAFETY: the pointer is to a number that outlives the call.
            unsafe { (entries.cuMemAlloc_v2)(&raw mut address, len) }
        })?;
        let keeper = Arc::new(Allocation { gpu: gpu.clone(), address });
        Ok(Self { gpu: gpu.clone(), address, len, _keeper: keeper })
    }

    /// Memory that somebody else allocated, such as a tensor of a framework in this process.
    ///
    /// # Errors
    /// The driver does not know the range as memory of one allocation of a device. Memory of the
    /// host, and managed memory that may be anywhere, are refused as well.
    ///
    /// # Safety
    /// The range stays allocated as long as `keeper` lives, and nobody counts on its content
    /// while copies to it are under way.
    pub unsafe fn borrowed(
        gpu: &Gpu,
        address: u64,
        len: usize,
        keeper: Arc<dyn Any + Send + Sync>,
    ) -> Result<Self, GpuError> {
        let mut kind: c_uint = 0;
        gpu.call("cuPointerGetAttribute", |entries| {
            let value = (&raw mut kind).cast();
            // SAFETY: this attribute is an `unsigned int`, which outlives the call; any address
            // may be asked about.
            unsafe { (entries.cuPointerGetAttribute)(value, MEMORY_TYPE, address) }
        })?;
        if kind != MEMORY_TYPE_DEVICE || !Identity::at(gpu, address)?.holds(address, len as u64) {
            return Err(GpuError::NotDeviceMemory { address, len });
        }
        Ok(Self { gpu: gpu.clone(), address, len, _keeper: keeper })
    }

    /// A part, such as one tensor of several in an allocation.
    ///
    /// # Errors
    /// The range is not within this one.
    pub fn part(&self, range: Range<usize>) -> Result<Self, GpuError> {
        if range.start > range.end || range.end > self.len {
            let len = range.end.saturating_sub(range.start);
            return Err(GpuError::OutOfRange { at: range.start, len, whole: self.len });
        }
        let address = self.address + range.start as u64;
        Ok(Self { address, len: range.len(), ..self.clone() })
    }

    /// The device's address of the first byte.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The GPU that it is of.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The allocation that it is a part of, as the driver knows it now.
    ///
    /// # Errors
    /// The driver does not know the address, or another allocation is there by now.
    pub fn identity(&self) -> Result<Identity, GpuError> {
        let identity = Identity::at(&self.gpu, self.address)?;
        if identity.holds(self.address, self.len as u64) {
            Ok(identity)
        } else {
            Err(GpuError::NotDeviceMemory { address: self.address, len: self.len })
        }
    }
}

impl fmt::Debug for DeviceMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {:#x} of {:?}", self.len, self.address, self.gpu)
    }
}

//! Device memory as a dmabuf, which other devices can be given.

use std::ffi::c_int;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::io::{FdFlags, fcntl_setfd};

use super::device::Gpu;
use super::error::GpuError;
use super::memory::{DeviceMemory, Identity};

/// `CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD` (`cuda.h` of CUDA 11.7).
const DMA_BUF_FD: c_int = 1;
/// `CU_POINTER_ATTRIBUTE_SYNC_MEMOPS`.
const SYNC_MEMOPS: c_int = 6;

/// Why device memory cannot be exported. Content for it is staged then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoExport {
    /// The GPU or its kernel module does not export memory.
    #[error(
        "{gpu} does not export memory by dmabuf: its driver is older than 515 (CUDA 11.7) or its \
         kernel modules are not the open ones"
    )]
    Unsupported {
        /// The GPU's name.
        gpu: String,
    },
    /// The driver library is too old.
    #[error("libcuda lacks cuMemGetHandleForAddressRange: it is older than CUDA 11.7")]
    TooOld,
    /// The range has no byte.
    #[error("there is no byte to export")]
    Empty,
    /// Whole pages that hold the range would hold memory of other allocations too.
    #[error(
        "{len} bytes at {address:#x} share a page of {page} bytes with what is not of their \
         allocation ({size} bytes at {base:#x}): only whole pages can be exported"
    )]
    SharedPage {
        /// First byte of the range.
        address: u64,
        /// Bytes of the range.
        len: u64,
        /// First byte of the allocation.
        base: u64,
        /// Bytes of the allocation.
        size: u64,
        /// Bytes of a page.
        page: u64,
    },
    /// The driver refuses.
    #[error(transparent)]
    Refused(#[from] GpuError),
}

/// Whole pages of device memory, and their dmabuf. It does not keep the memory allocated: who
/// posts work for it keeps the [`DeviceMemory`].
#[derive(Debug)]
pub struct Export {
    fd: OwnedFd,
    span: Span,
    allocation: Identity,
}

impl Export {
    /// The dmabuf. Its first byte is the one at [`start`](Self::start).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The device's address of the first byte, on a page boundary.
    pub fn start(&self) -> u64 {
        self.span.start
    }

    /// Bytes, in whole pages.
    pub fn bytes(&self) -> u64 {
        self.span.end - self.span.start
    }

    /// The allocation it is of.
    pub fn allocation(&self) -> Identity {
        self.allocation
    }

    /// Where in the dmabuf `memory` begins, if it is all in there.
    pub fn offset_of(&self, memory: &DeviceMemory) -> Option<u64> {
        let start = memory.address();
        let span = Span { start, end: start.checked_add(memory.len() as u64)? };
        self.span.holds(span).then(|| start - self.span.start)
    }
}

/// Exports of one GPU's memory, of which parts of one allocation share one where possible.
///
/// An export lives as long as somebody holds it: nothing is kept for a later time, so no freed
/// memory is held back by a descriptor.
pub struct Exports {
    gpu: Gpu,
    page: u64,
    made: Mutex<Vec<Weak<Export>>>,
}

impl Exports {
    /// None so far. Pages are those of this machine.
    pub fn new(gpu: &Gpu) -> Self {
        Self::with_pages(gpu, rustix::param::page_size() as u64)
    }

    /// For machines with pages of `page` bytes, a power of two.
    pub(super) fn with_pages(gpu: &Gpu, page: u64) -> Self {
        Self { gpu: gpu.clone(), page, made: Mutex::new(Vec::new()) }
    }

    /// An export that holds `memory`: of its whole allocation, or, if the driver refuses that, of
    /// the pages that `memory` lies in.
    ///
    /// # Errors
    /// It cannot be exported, and why.
    pub fn of(&self, memory: &DeviceMemory) -> Result<Arc<Export>, NoExport> {
        self.find(memory, |allocation, pages| {
            let whole = allocation.whole_pages(self.page);
            match self.export(allocation, whole) {
                Err(NoExport::Refused(_)) if whole != pages => self.export(allocation, pages),
                other => other,
            }
        })
    }

    /// An export of no more than the pages that `memory` lies in, unless a larger one is there.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn only(&self, memory: &DeviceMemory) -> Result<Arc<Export>, NoExport> {
        self.find(memory, |allocation, pages| self.export(allocation, pages))
    }

    /// An export that is there and holds `memory`, or one that `make` makes.
    fn find(
        &self,
        memory: &DeviceMemory,
        make: impl FnOnce(Identity, Span) -> Result<Export, NoExport>,
    ) -> Result<Arc<Export>, NoExport> {
        if !memory.gpu().is(&self.gpu) {
            return Err(GpuError::OtherGpu.into());
        }
        if !self.gpu.info().dmabuf {
            return Err(NoExport::Unsupported { gpu: self.gpu.info().name.clone() });
        }
        let allocation = memory.identity()?;
        let pages = allocation.pages_of(memory, self.page)?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|export| export.strong_count() > 0);
        let known = made.iter().filter_map(Weak::upgrade).find(|export| {
            // An allocation that was made anew at the same address is another one.
            export.allocation == allocation && export.span.holds(pages)
        });
        if let Some(known) = known {
            return Ok(known);
        }
        let export = Arc::new(make(allocation, pages)?);
        made.push(Arc::downgrade(&export));
        Ok(export)
    }

    fn export(&self, allocation: Identity, span: Span) -> Result<Export, NoExport> {
        let Some(get) = self.gpu.driver().entries.cuMemGetHandleForAddressRange else {
            return Err(NoExport::TooOld);
        };
        // Without this, some copies of other code in this process that look synchronous are not,
        // and a NIC could overtake them (GPUDirect RDMA, "Synchronization and Memory Ordering").
        let on = 1_u32;
        self.gpu.call("cuPointerSetAttribute", |entries| {
            let value = (&raw const on).cast();
            // SAFETY: this attribute is an `unsigned int`, which outlives the call.
            unsafe { (entries.cuPointerSetAttribute)(value, SYNC_MEMOPS, allocation.base) }
        })?;
        let mut fd: c_int = -1;
        self.gpu.call("cuMemGetHandleForAddressRange", |_| {
            let (to, bytes) = ((&raw mut fd).cast(), (span.end - span.start) as usize);
            // SAFETY: for this type of handle the pointer is to an `int`, which outlives the call.
            unsafe { get(to, span.start, bytes, DMA_BUF_FD, 0) }
        })?;
        if fd < 0 {
            let call = "cuMemGetHandleForAddressRange";
            let words = "gave no descriptor".to_owned();
            return Err(GpuError::Driver { call, code: 0, words }.into());
        }
        // SAFETY: the driver made the descriptor for this call, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // A program that is started by this one has no use for it.
        let _ = fcntl_setfd(&fd, FdFlags::CLOEXEC);
        Ok(Export { fd, span, allocation })
    }
}

impl fmt::Debug for Exports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exports of {:?}", self.gpu)
    }
}

/// Addresses from `start` up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
}

impl Span {
    fn holds(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

impl Identity {
    /// The pages that are the allocation's alone; `end` can be below `start` if there are none.
    fn whole_pages(self, page: u64) -> Span {
        let end = self.base.saturating_add(self.size);
        Span {
            start: self.base.checked_next_multiple_of(page).unwrap_or(u64::MAX),
            end: end - end % page,
        }
    }

    /// The pages that a range of the allocation lies in, if they are the allocation's alone.
    fn pages_of(self, memory: &DeviceMemory, page: u64) -> Result<Span, NoExport> {
        let (address, len) = (memory.address(), memory.len() as u64);
        if len == 0 {
            return Err(NoExport::Empty);
        }
        let end = address.saturating_add(len);
        let pages = Span {
            start: address - address % page,
            end: end.checked_next_multiple_of(page).unwrap_or(u64::MAX),
        };
        if self.whole_pages(page).holds(pages) {
            return Ok(pages);
        }
        let Self { base, size, .. } = self;
        Err(NoExport::SharedPage { address, len, base, size, page })
    }
}

//! A memory region: a range of the slab, or memory of a GPU, that a device may use.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use rdma_sys::{ibv_access_flags, ibv_mr};
use rustix::process::{Resource, getrlimit};

use super::device::refused;
use super::domain::Domain;
use super::library::Handle;
use crate::base::human;
use crate::buf::Slab;
use crate::gpu::Export;
use crate::transport::rdma::RailError;

/// What a region is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// READs write here; nothing is reachable from outside.
    Local,
    /// As `Local`, and windows can be bound to parts.
    LocalAndWindows,
    /// The peer reads here. This is a window by itself.
    RemoteRead,
    /// The peer writes here, to measure that: memory that nothing else uses, and no transfer.
    Measured,
}

impl Use {
    /// Rights that the device is given. None but `Measured` lets anybody write from outside.
    fn access(self) -> i32 {
        let flags = match self {
            Self::Local => ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0,
            Self::LocalAndWindows => {
                ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0 | ibv_access_flags::IBV_ACCESS_MW_BIND.0
            }
            Self::RemoteRead => ibv_access_flags::IBV_ACCESS_REMOTE_READ.0,
            Self::Measured => {
                ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0
                    | ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0
            }
        };
        flags.cast_signed()
    }
}

/// A registered range. It keeps the slab, or the dmabuf.
pub(super) struct Region {
    raw: Handle<ibv_mr>,
    domain: Arc<Domain>,
    /// What the range is in.
    memory: Arc<dyn Any + Send + Sync>,
    registered: bool,
}

impl Region {
    /// Registers a range of the slab.
    pub(super) fn new(
        domain: &Arc<Domain>,
        slab: &Slab,
        range: Range<usize>,
        what_for: Use,
    ) -> Result<Self, RailError> {
        let whole = slab.range();
        if range.is_empty() || range.start < whole.start || range.end > whole.end {
            return Err(RailError::new("only memory of the slab can be registered"));
        }
        let (library, access) = (domain.context.library, what_for.access());
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: the range is of the slab, which the region keeps until it is deregistered.
        let raw = unsafe { (library.ibv_reg_mr)(domain.raw(), start, range.len(), access) };
        let Some(raw) = Handle::new(raw) else {
            let error = io::Error::last_os_error();
            let limit = getrlimit(Resource::Memlock).current;
            return Err(no_region(domain.context.name(), range.len() as u64, limit, &error));
        };
        let memory = Arc::new(slab.clone());
        Ok(Self { raw, domain: Arc::clone(domain), memory, registered: true })
    }

    /// Registers memory of a GPU, for local use only. Requests name it by the GPU's addresses.
    pub(super) fn of_gpu(domain: &Arc<Domain>, export: &Arc<Export>) -> Result<Self, RailError> {
        let (library, device) = (domain.context.library, domain.context.name());
        let Some(register) = library.ibv_reg_dmabuf_mr else {
            return Err(RailError::new(NO_FUNCTION));
        };
        let (bytes, start) = (export.bytes() as usize, export.start());
        let (fd, access) = (export.fd().as_raw_fd(), Use::Local.access());
        // The dmabuf and the addresses both begin at a page boundary, as the kernel demands.
        // SAFETY: an open descriptor of as many bytes, which the region keeps.
        let raw = unsafe { register(domain.raw(), 0, bytes, start, fd, access) };
        let raw = Handle::new(raw)
            .ok_or_else(|| no_gpu_region(device, export.bytes(), &io::Error::last_os_error()))?;
        let memory = Arc::<Export>::clone(export);
        Ok(Self { raw, domain: Arc::clone(domain), memory, registered: true })
    }

    /// The pointer, for windows bound to the region.
    pub(super) fn handle(&self) -> Handle<ibv_mr> {
        self.raw
    }

    /// Key for requests of this node.
    pub(super) fn lkey(&self) -> u32 {
        // SAFETY: a registered region; the field does not change.
        unsafe { (*self.raw.raw()).lkey }
    }

    /// Key for the peer.
    pub(super) fn rkey(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.raw.raw()).rkey }
    }

    /// Takes the memory from the device. If that fails, the region stays as it is for good, and
    /// so must the memory.
    pub(super) fn deregister(&mut self) -> Result<(), RailError> {
        if !std::mem::take(&mut self.registered) {
            return Ok(());
        }
        let context = &self.domain.context;
        // SAFETY: the region was registered once and is deregistered once; windows bound to it
        // keep it, so none is left.
        let code = unsafe { (context.library.ibv_dereg_mr)(self.raw.raw()) };
        if code == 0 {
            return Ok(());
        }
        tracing::warn!(device = context.name(), code, "a memory region stays behind");
        std::mem::forget((self.memory.clone(), Arc::clone(&self.domain)));
        let error = io::Error::from_raw_os_error(code.abs());
        Err(refused(format!("cannot take memory from {}", context.name()), &error))
    }
}

/// Why memory cannot be registered, in words.
fn no_region(device: &str, bytes: u64, limit: Option<u64>, error: &io::Error) -> RailError {
    let size = human::bytes(bytes);
    let hint = match (rustix::io::Errno::from_io_error(error), limit) {
        (Some(rustix::io::Errno::NOMEM), Some(limit)) => format!(
            "; {} may be locked: ulimit -l unlimited, LimitMEMLOCK=infinity in the unit, or a \
             smaller limits.slab_mib",
            human::bytes(limit)
        ),
        (Some(rustix::io::Errno::NOMEM), None) => {
            "; the device has no room for another region, or the system no memory".to_owned()
        }
        _ => String::new(),
    };
    RailError::new(format!("cannot register {size} with {device}: {error}{hint}"))
}

/// Why no memory of a GPU can be registered, whatever the device.
const NO_FUNCTION: &str =
    "libibverbs cannot register memory of a GPU: that needs rdma-core 34 or later";

/// Why memory of a GPU cannot be registered, in words.
fn no_gpu_region(device: &str, bytes: u64, error: &io::Error) -> RailError {
    use rustix::io::Errno;
    let hint = match Errno::from_io_error(error) {
        // What `libibverbs` says for a provider, and the kernel for a driver, that lacks it.
        Some(Errno::OPNOTSUPP) => "; the device's driver or provider cannot use a dmabuf",
        // An unknown command of the kernel's interface for verbs.
        Some(Errno::NOSYS | Errno::NOTTY | Errno::PROTONOSUPPORT) => {
            "; the kernel cannot register a dmabuf: that needs Linux 5.12 or later"
        }
        Some(Errno::NOMEM | Errno::NOSPC) => {
            "; likely more than the GPU's PCI window (BAR1) has room for"
        }
        Some(Errno::INVAL) => "; the driver of the device or of the GPU refuses this range",
        _ => "",
    };
    let size = human::bytes(bytes);
    RailError::new(format!("cannot register {size} of a GPU with {device}: {error}{hint}"))
}

impl Drop for Region {
    fn drop(&mut self) {
        // What fails was said, and kept.
        let _ = self.deregister();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The audit of rights (T6): nothing is writable from outside, and the slab not readable.
    #[test]
    fn no_right_of_transfers_lets_anybody_write_from_outside() {
        let outside = ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0
            | ibv_access_flags::IBV_ACCESS_REMOTE_ATOMIC.0;
        let read = ibv_access_flags::IBV_ACCESS_REMOTE_READ.0;
        for what_for in [Use::Local, Use::LocalAndWindows, Use::RemoteRead] {
            assert_eq!(what_for.access().cast_unsigned() & outside, 0);
        }
        for what_for in [Use::Local, Use::LocalAndWindows] {
            assert_eq!(what_for.access().cast_unsigned() & read, 0);
        }
        assert_eq!(Use::RemoteRead.access().cast_unsigned(), read);
    }

    #[test]
    fn a_limit_of_locked_memory_is_named_with_what_helps() {
        let error = io::Error::from(rustix::io::Errno::NOMEM);
        let text = no_region("mlx5_0", 128 << 20, Some(8 << 20), &error).to_string();
        assert!(text.contains("ulimit -l") && text.contains("8.39 MB"), "{text}");
        let error = io::Error::from(rustix::io::Errno::PERM);
        assert!(!no_region("mlx5_0", 1, Some(1), &error).to_string().contains("ulimit"));
    }

    #[test]
    fn what_stands_against_memory_of_a_gpu_is_named() {
        for (error, words) in [
            (rustix::io::Errno::OPNOTSUPP, "driver or provider cannot use a dmabuf"),
            (rustix::io::Errno::NOSYS, "Linux 5.12"),
            (rustix::io::Errno::NOTTY, "Linux 5.12"),
            (rustix::io::Errno::PROTONOSUPPORT, "Linux 5.12"),
            (rustix::io::Errno::NOMEM, "BAR1"),
            (rustix::io::Errno::INVAL, "refuses this range"),
        ] {
            let text = no_gpu_region("mlx5_0", 2 << 30, &error.into()).to_string();
            assert!(text.contains(words) && text.contains("2.15 GB"), "{text}");
        }
        let text = no_gpu_region("mlx5_0", 1, &rustix::io::Errno::PERM.into()).to_string();
        assert!(text.ends_with("(os error 1)"), "{text}");
    }

    /// The function is optional, and has a version of its own in the library's table of symbols.
    #[test]
    fn the_function_is_found_where_the_headers_have_it() {
        let header = std::fs::read_to_string("/usr/include/infiniband/verbs.h").unwrap_or_default();
        match super::super::library::Library::load() {
            Ok(library) if header.contains("ibv_reg_dmabuf_mr") => {
                assert!(library.ibv_reg_dmabuf_mr.is_some());
            }
            Ok(_) => println!("SKIPPED: the headers do not have the function"),
            Err(remark) => println!("SKIPPED: {}", remark.finding),
        }
    }
}

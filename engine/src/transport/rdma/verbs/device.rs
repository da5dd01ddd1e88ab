//! An open device: its limits, its ports, its asynchronous events.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rdma_sys::{
    ibv_async_event, ibv_context, ibv_context_ops, ibv_device, ibv_device_attr,
    ibv_device_cap_flags, ibv_event_type, ibv_gid, ibv_mtu, ibv_port_attr, ibv_port_state,
};

use super::library::{Handle, Library, Plain};
use crate::transport::rdma::RailError;

// SAFETY: plain numbers.
unsafe impl Plain for ibv_device_attr {}
// SAFETY: plain numbers.
unsafe impl Plain for ibv_port_attr {}
// SAFETY: a union of plain numbers.
unsafe impl Plain for ibv_gid {}
// SAFETY: a union of pointers and a number, and an enumeration that has 0.
unsafe impl Plain for ibv_async_event {}

/// An error in these words, with the system's behind them.
pub(super) fn refused(what: impl std::fmt::Display, error: &io::Error) -> RailError {
    RailError::new(format!("{what}: {error}"))
}

/// An open device. Everything made with it keeps it.
pub(super) struct Context {
    raw: Handle<ibv_context>,
    name: String,
    pub(super) library: &'static Library,
    /// The device's own functions.
    pub(super) ops: ibv_context_ops,
}

/// What a device can do at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Requests of one queue pair.
    pub(super) requests: usize,
    /// Entries of one completion queue.
    pub(super) completions: usize,
    /// READs that a queue pair sends out and answers at once.
    pub(super) reads: u8,
    /// Whether it has memory windows of type 2B.
    pub(super) windows_2b: bool,
}

/// What a port says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct PortAttributes {
    /// Whether it is up.
    pub(super) active: bool,
    /// Payload of a packet in bytes.
    pub(super) mtu: u16,
    /// Local identifier on InfiniBand.
    pub(super) lid: u16,
}

/// An asynchronous event of a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    /// Which, as `ibv_event_type` counts.
    pub(super) kind: u32,
    /// The port, if the event is about one.
    pub(super) port: i32,
}

/// The library's list of devices.
struct List {
    raw: *mut *mut ibv_device,
    count: usize,
    library: &'static Library,
}

impl List {
    fn new(library: &'static Library) -> Result<Self, RailError> {
        let mut count = 0;
        // SAFETY: the pointer is to a number that outlives the call.
        let raw = unsafe { (library.ibv_get_device_list)(&raw mut count) };
        if raw.is_null() {
            let error = io::Error::last_os_error();
            return Err(refused("the kernel gives no access to RDMA devices", &error));
        }
        Ok(Self { raw, count: usize::try_from(count).unwrap_or(0), library })
    }

    fn find(&self, name: &str) -> Option<*mut ibv_device> {
        (0..self.count).find_map(|place| {
            // SAFETY: the list has `count` pointers and is freed only by `drop`.
            let entry = unsafe { self.raw.add(place) };
            // SAFETY: as above.
            let device = unsafe { entry.read() };
            // SAFETY: the device is one of the list.
            let text = unsafe { (self.library.ibv_get_device_name)(device) };
            // SAFETY: a name ends with a zero byte and lives as long as the list.
            let text = unsafe { CStr::from_ptr(text) };
            (text.to_bytes() == name.as_bytes()).then_some(device)
        })
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: it came from `ibv_get_device_list`, is not null and is freed once.
        unsafe { (self.library.ibv_free_device_list)(self.raw) };
    }
}

impl Context {
    /// Opens the device of this name.
    pub(super) fn open(library: &'static Library, name: &str) -> Result<Arc<Self>, RailError> {
        let list = List::new(library)?;
        let device = list.find(name).ok_or_else(|| {
            RailError::new(format!(
                "libibverbs does not know the device {name}; likely its provider is missing \
                 (ibverbs-providers)"
            ))
        })?;
        // SAFETY: the device is one of the list, which is still there.
        let raw = unsafe { (library.ibv_open_device)(device) };
        let raw = Handle::new(raw)
            .ok_or_else(|| refused(format!("cannot open {name}"), &io::Error::last_os_error()))?;
        // SAFETY: an open device has its table of functions, which stays as it is.
        let ops = unsafe { (*raw.raw()).ops };
        let context = Arc::new(Self { raw, name: name.to_owned(), library, ops });
        unblock(context.events_descriptor())?;
        Ok(context)
    }

    /// The device's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The pointer, for what is made with it.
    pub(super) fn raw(&self) -> *mut ibv_context {
        self.raw.raw()
    }

    /// What the device can do.
    pub(super) fn limits(&self) -> Result<Limits, RailError> {
        let mut attributes = ibv_device_attr::zeroed();
        // SAFETY: an open device, and a structure of the right type.
        let code = unsafe { (self.library.ibv_query_device)(self.raw(), &raw mut attributes) };
        self.check(code, "ask for the limits of")?;
        let size = |number: i32| usize::try_from(number).unwrap_or(0);
        let reads = attributes.max_qp_rd_atom.min(attributes.max_qp_init_rd_atom);
        let windows = ibv_device_cap_flags::IBV_DEVICE_MEM_WINDOW_TYPE_2B.0;
        Ok(Limits {
            requests: size(attributes.max_qp_wr),
            completions: size(attributes.max_cqe),
            reads: u8::try_from(reads.clamp(0, 255)).unwrap_or(0),
            windows_2b: attributes.device_cap_flags & windows != 0
                && attributes.max_mw != 0
                && self.ops.alloc_mw.is_some()
                && self.ops.dealloc_mw.is_some(),
        })
    }

    /// What a port says.
    pub(super) fn port(&self, number: u8) -> Result<PortAttributes, RailError> {
        let mut attributes = ibv_port_attr::zeroed();
        // SAFETY: an open device, and a structure at least as long as what is written.
        let code =
            unsafe { (self.library.ibv_query_port)(self.raw(), number, &raw mut attributes) };
        self.check(code, "ask for the port of")?;
        let mtu = match attributes.active_mtu {
            known @ ibv_mtu::IBV_MTU_256..=ibv_mtu::IBV_MTU_4096 => 128 << known,
            _ => 0,
        };
        let active = attributes.state == ibv_port_state::IBV_PORT_ACTIVE;
        Ok(PortAttributes { active, mtu, lid: attributes.lid })
    }

    /// An entry of a port's GID table.
    pub(super) fn gid(&self, port: u8, index: u8) -> Result<[u8; 16], RailError> {
        let (mut gid, index) = (ibv_gid::zeroed(), i32::from(index));
        // SAFETY: an open device, and a structure of the right type.
        let code = unsafe { (self.library.ibv_query_gid)(self.raw(), port, index, &raw mut gid) };
        self.check(code, "ask for an address of")?;
        // SAFETY: any bytes are an address.
        Ok(unsafe { gid.raw })
    }

    fn check(&self, code: i32, what: &str) -> Result<(), RailError> {
        match code {
            0 => Ok(()),
            // Some functions return the error, others -1.
            1.. => {
                let error = io::Error::from_raw_os_error(code);
                Err(refused(format!("cannot {what} {}", self.name), &error))
            }
            _ => Err(refused(format!("cannot {what} {}", self.name), &io::Error::last_os_error())),
        }
    }

    /// Becomes readable when there is an event.
    pub(super) fn events_descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: an open device; the descriptor does not change.
        let fd = unsafe { (*self.raw()).async_fd };
        // SAFETY: the descriptor is open as long as the device.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }

    /// The next event, if there is one; it is acknowledged.
    pub(super) fn event(&self) -> Option<Event> {
        let mut event = ibv_async_event::zeroed();
        // SAFETY: an open device, and a structure of the right type. It does not block.
        let code = unsafe { (self.library.ibv_get_async_event)(self.raw(), &raw mut event) };
        if code != 0 {
            return None;
        }
        // Read as a number: a newer kernel may have events that the enumeration lacks.
        let kind = (&raw const event.event_type).cast::<u32>();
        // SAFETY: the field is there, and any number is one.
        let kind = unsafe { kind.read() };
        // SAFETY: any bytes are a number; it means the port only where `kind` says so.
        let port = unsafe { event.element.port_num };
        // SAFETY: the event is from this device, and is acknowledged once.
        unsafe { (self.library.ibv_ack_async_event)(&raw mut event) };
        Some(Event { kind, port })
    }

    /// Whether an event says that addresses changed.
    pub(super) fn is_gid_change(event: Event) -> bool {
        event.kind == ibv_event_type::IBV_EVENT_GID_CHANGE as u32
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: what was made with the device kept it, so all of that is gone.
        let code = unsafe { (self.library.ibv_close_device)(self.raw()) };
        if code != 0 {
            tracing::warn!(device = self.name, "an RDMA device could not be closed");
        }
    }
}

/// Makes reads from a descriptor of the library return at once.
pub(super) fn unblock(fd: BorrowedFd<'_>) -> Result<(), RailError> {
    rustix::io::ioctl_fionbio(fd, true)
        .map_err(|error| refused("cannot set up a descriptor", &error.into()))
}

//! RDMA devices of this machine, through `libibverbs`.
//!
//! Every wrapper owns one thing of the library and keeps what that was made from, so things are
//! destroyed in the order that the library wants: queue pair, memory window, memory region,
//! completion queue, protection domain, device.
#![expect(unsafe_code, reason = "a C library, and devices that read and write memory by address")]

mod address;
mod completion;
mod device;
mod domain;
mod gpu;
mod library;
mod local;
mod measured;
mod outstanding;
mod pair;
mod queued;
mod rail;
mod region;
mod status;
mod window;
mod windows;

use self::device::Context;
use self::library::Library;
use super::sysfs::{self, Device, Remark, Roots, Survey};
use super::{PortInfo, RailError, Verbs};
use crate::base::NodeName;
use crate::buf::Slab;

pub use gpu::GpuRegion;
pub use measured::MeasuredPort;
pub use rail::SystemRail;

/// How content is opened to a peer's READs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowKind {
    /// A memory window of type 2B, bound to one queue pair: opened and closed in the queue pair,
    /// without the kernel.
    Bound,
    /// A memory region of its own, which every queue pair of this peer's rail can read: for devices
    /// without such windows, and for soft-RoCE, whose windows open all of the region that they are
    /// bound to (seen with `rdma_rxe` of Linux 6.1).
    Registered,
}

/// The RDMA devices of this machine.
pub struct SystemVerbs {
    library: &'static Library,
    roots: Roots,
    windows: Option<WindowKind>,
}

impl SystemVerbs {
    /// Opens the library.
    ///
    /// # Errors
    /// It is not there or too old: no RDMA on this machine.
    pub fn load() -> Result<Self, Remark> {
        Ok(Self { library: Library::load()?, roots: Roots::default(), windows: None })
    }

    /// Makes windows in this way, whatever suits a device.
    #[must_use]
    pub fn with_windows(self, kind: WindowKind) -> Self {
        Self { windows: Some(kind), ..self }
    }

    /// Opens a port to be measured, between leases of a slab that nothing else uses.
    ///
    /// # Errors
    /// The device refuses: no permission, no such device.
    pub fn open_measured(&self, port: &PortInfo, slab: &Slab) -> Result<MeasuredPort, RailError> {
        let context = Context::open(self.library, &port.device)?;
        let software = sysfs::is_software(&self.roots, &port.device);
        MeasuredPort::open(context, port, slab, software)
    }

    /// All devices, and why their ports can or cannot be used. Each is opened for a moment.
    pub fn survey(&self) -> Survey {
        let mut survey = sysfs::survey(&self.roots);
        for device in survey.devices.iter_mut().filter(|device| device.obstacle.is_none()) {
            if let Err(error) = Context::open(self.library, &device.name) {
                device.obstacle = Some(Remark::new(
                    error.to_string(),
                    "check the device's driver and its provider library: ibv_devinfo",
                ));
            }
        }
        survey
    }

    /// The ports of a device that can be used.
    fn ports_of(&self, device: &Device) -> Result<Vec<PortInfo>, RailError> {
        let context = Context::open(self.library, &device.name)?;
        let limits = context.limits()?;
        let mut ports = Vec::new();
        for port in device.ports.iter().filter(|port| port.obstacle.is_none()) {
            let attributes = context.port(port.number)?;
            let Some(chosen) = &port.chosen else { continue };
            if !attributes.active || attributes.mtu == 0 || limits.reads == 0 {
                continue;
            }
            ports.push(PortInfo {
                device: device.name.clone(),
                port: port.number,
                fabric: port.fabric,
                gid: chosen.bytes,
                gid_index: chosen.index,
                lid: attributes.lid,
                mtu: attributes.mtu,
                rate_mbit: port.rate_mbit,
                numa: device.numa,
                reads_max: limits.reads,
            });
        }
        Ok(ports)
    }
}

impl Verbs for SystemVerbs {
    type Rail = SystemRail;

    fn ports(&self) -> Vec<PortInfo> {
        let survey = sysfs::survey(&self.roots);
        let usable = survey.devices.iter().filter(|device| device.obstacle.is_none());
        usable.flat_map(|device| self.ports_of(device).unwrap_or_default()).collect()
    }

    fn open(&self, port: &PortInfo, peer: &NodeName, slab: &Slab) -> Result<SystemRail, RailError> {
        let context = Context::open(self.library, &port.device)?;
        let software = sysfs::is_software(&self.roots, &port.device);
        let kind = match self.windows {
            Some(kind) => kind,
            None if !software && context.limits()?.windows_2b => WindowKind::Bound,
            None => WindowKind::Registered,
        };
        tracing::debug!(port = port.name(), peer = %peer, ?kind, "opening an RDMA port");
        SystemRail::open(context, port, slab, kind, software)
    }
}

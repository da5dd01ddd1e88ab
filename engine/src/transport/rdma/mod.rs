//! RDMA inside a private site: content by one-sided READ, everything else over another link.

mod port;
pub mod sysfs;
#[cfg(feature = "rdma")]
mod verbs;

pub use port::{
    Completion, Fabric, PortInfo, QpAddress, Rail, RailError, Read, Sink, Verbs, Window,
};
#[cfg(feature = "rdma")]
pub use verbs::{SystemRail, SystemVerbs, WindowKind};

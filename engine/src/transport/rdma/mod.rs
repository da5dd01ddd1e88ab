//! RDMA inside a private site: content by one-sided READ, everything else over another link.

mod hello;
mod port;
pub mod sysfs;

pub use hello::{Rails, UnknownFabric};
pub use port::{
    Completion, Fabric, PortInfo, QpAddress, Rail, RailError, Read, Sink, Verbs, Window,
};

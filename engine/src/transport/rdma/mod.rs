//! RDMA inside a private site: content by one-sided READ, everything else over another link.

mod port;
mod driver;
mod link;
mod message;
mod pair;
mod machine;

pub use link::{RdmaIncoming, RdmaLink, RdmaOptions};
pub use port::{
    Completion, Fabric, PortInfo, QpAddress, Rail, RailError, Read, Sink, Verbs, Window,
};

//! RDMA inside a private site: content by one-sided READ, everything else over another link.
//!
//! `port` says what devices have to do. `machine` decides what is posted where, and what becomes of
//! it; `driver` is the thread that runs it, and `link` what a transfer sees. The two ends speak in
//! the words of `message`, over the link below; `docs/transports.md` has the design.

#[cfg(not(feature = "rdma"))]
mod absent;
mod arrived;
mod destination;
mod driver;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod hello;
mod link;
mod machine;
mod message;
mod numa;
mod pair;
mod plan;
mod port;
pub mod sysfs;
#[cfg(test)]
mod tests;
#[cfg(feature = "rdma")]
mod verbs;

#[cfg(not(feature = "rdma"))]
pub use absent::{MeasuredPort, SystemVerbs};
pub use arrived::RdmaIncoming;
pub use destination::{Destination, Destinations, Direct, Registrar, StagedBecause};
pub use hello::{Ports, UnknownFabric};
pub use link::{RdmaLink, RdmaOptions};
pub use plan::{Endpoint, Operation, Plan, Role, best_pair};
pub use port::{
    Completion, Fabric, PortInfo, QpAddress, Rail, RailError, Read, Sink, Verbs, Window,
};
#[cfg(feature = "rdma")]
pub use verbs::{GpuRegion, MeasuredPort, SystemRail, SystemVerbs, WindowKind};

//! Sessions over rails, of software devices and of those of this machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::buf::Slab;
use crate::sim::verbs::{SimFabric, SimVerbs, SimVerbsConfig};
use crate::transport::Link;
use crate::transport::rdma::{PortInfo, RdmaLink, RdmaOptions, SystemVerbs, Verbs};

/// Devices of two nodes that reach each other.
pub(crate) trait Devices: Clone + Send {
    type V: Verbs;
    fn new() -> Self;
    /// The devices of each node, and those of their ports that make rails.
    fn both(&self) -> [(Self::V, Vec<PortInfo>); 2];
}

impl Devices for SimFabric {
    type V = SimVerbs;

    fn new() -> Self {
        Self::new(7, SimVerbsConfig::default())
    }

    fn both(&self) -> [(SimVerbs, Vec<PortInfo>); 2] {
        ["first", "second"].map(|name| {
            let verbs = self.node(&name.parse().expect("a name"), 2);
            let ports = verbs.ports();
            (verbs, ports)
        })
    }
}

/// Devices of this machine: `PORTWAY_TEST_RDMA=A,B[,A,B]...` names one of the first node and one of
/// the second for each rail. `scripts/rdma-guest.sh list` has some on any machine.
#[derive(Clone)]
pub(crate) struct SystemDevices([Vec<PortInfo>; 2]);

/// Tests that were skipped so far.
static SKIPPED: AtomicU64 = AtomicU64::new(0);

impl SystemDevices {
    /// Whether there are none; says so, and counts.
    pub(crate) fn missing() -> bool {
        let missing = std::env::var_os("PORTWAY_TEST_RDMA").is_none();
        if missing {
            let count = SKIPPED.fetch_add(1, Relaxed) + 1;
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            println!(
                "SKIPPED: {test}: no RDMA devices (PORTWAY_TEST_RDMA=DEVICE,DEVICE names two); \
                 {count} so far"
            );
        }
        missing
    }
}

impl Devices for SystemDevices {
    type V = SystemVerbs;

    fn new() -> Self {
        let names = std::env::var("PORTWAY_TEST_RDMA").expect("devices");
        let names: Vec<&str> = names.split(',').collect();
        assert!(names.len().is_multiple_of(2), "a device of each node for each rail");
        let known = SystemVerbs::load().expect("RDMA").ports();
        let of = |node| {
            let named = names.iter().skip(node).step_by(2);
            let port = |name: &&str| known.iter().find(|port| port.device == **name).cloned();
            named.map(|name| port(name).unwrap_or_else(|| panic!("{name} has no port"))).collect()
        };
        Self([of(0), of(1)])
    }

    fn both(&self) -> [(SystemVerbs, Vec<PortInfo>); 2] {
        self.0.clone().map(|ports| (SystemVerbs::load().expect("RDMA"), ports))
    }
}

/// A session over rails, and over `links` what they do not carry. The first end leads.
pub(crate) fn over_rails<L: Link>(
    links: (L, L),
    devices: &impl Devices,
    slabs: &(Slab, Slab),
) -> (RdmaLink<L>, RdmaLink<L>) {
    let [(first, mine), (second, yours)] = devices.both();
    let leading = RdmaOptions {
        verbs: Arc::new(first),
        lead: true,
        mine: mine.clone(),
        yours: yours.clone(),
        queue_pairs: 2,
        slab: slabs.0.clone(),
    };
    let other = RdmaOptions {
        verbs: Arc::new(second),
        lead: false,
        mine: yours,
        yours: mine,
        queue_pairs: 2,
        slab: slabs.1.clone(),
    };
    (RdmaLink::start(links.0, leading), RdmaLink::start(links.1, other))
}

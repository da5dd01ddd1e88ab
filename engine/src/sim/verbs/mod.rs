//! RDMA devices in memory, as cruel as they are told to be: for tests and the simulation.
//!
//! Queue pairs, windows and completions behave as the `InfiniBand` specification says, and beyond
//! it as [`SimVerbsConfig`] says. There are no threads and no clock: time is counted in ticks, and
//! every poll of any rail is one. The same seed and the same calls in the same order give the same
//! history, wherever memory lies, since the addresses of windows are drawn too.

mod end;
mod faults;
mod net;
mod ports;
mod queue;
mod rail;
#[cfg(test)]
mod tests;
mod window;
mod work;

use crate::base::{Digest, NodeName};
use crate::transport::rdma::{Fabric, PortInfo};

pub use faults::{SimFault, SimVerbsConfig, SimVerbsStats};
pub use rail::{SimRail, SimVerbs};

use net::Net;
use rail::Shared;

/// A network of nodes with RDMA devices. Clones are the same network.
#[derive(Clone)]
pub struct SimFabric(Shared);

impl SimFabric {
    /// An empty network.
    pub fn new(seed: u64, config: SimVerbsConfig) -> Self {
        Self(Shared::new(Net::new(seed, config)))
    }

    /// The devices of a node, one for each of `ports`; of one that is there already, those it has.
    pub fn node(&self, name: &NodeName, ports: u8) -> SimVerbs {
        self.0.net().node(name, |node| (0..ports).map(|port| describe(node, port)).collect());
        SimVerbs { shared: self.0.clone(), node: name.clone() }
    }

    /// Takes a node's port down or brings it up; ports are counted from 0, up or not. False if
    /// there is no such port.
    pub fn set_port(&self, node: &NodeName, port: usize, up: bool) -> bool {
        let mut net = self.0.net();
        let place = net.ports_of(node).get(port).copied();
        if let Some(place) = place {
            net.plug(place, up);
        }
        place.is_some()
    }

    /// Lets time pass.
    pub fn tick(&self, ticks: u64) {
        let mut net = self.0.net();
        for _ in 0..ticks {
            net.tick();
        }
    }

    /// Makes a fault happen at its next occasion; called twice, at the one after it too.
    pub fn inject(&self, fault: SimFault) {
        self.0.net().dice.plan(fault);
    }

    /// From now on nothing goes wrong, and ports that flap are up. What is broken stays broken.
    pub fn calm(&self) {
        self.0.net().calm();
    }

    /// What has happened, and what is held now.
    pub fn stats(&self) -> SimVerbsStats {
        self.0.net().stats()
    }

    /// A digest over everything that happened, in order; equal for equal seeds and calls.
    pub fn trace(&self) -> Digest {
        Digest(*self.0.net().trace.finalize().as_bytes())
    }
}

fn describe(node: usize, port: u8) -> PortInfo {
    let mut gid = [0; 16];
    gid[..2].copy_from_slice(&[0xfd, 0x51]);
    gid[8..].copy_from_slice(&(node as u64).to_be_bytes());
    gid[7] = port;
    PortInfo {
        device: format!("sim{port}"),
        port: 1,
        fabric: Fabric::Ethernet,
        gid,
        gid_index: 3,
        lid: 0,
        mtu: 4096,
        rate_mbit: 100_000,
        numa: Some(u16::from(port) % 2),
        reads_max: 16,
    }
}

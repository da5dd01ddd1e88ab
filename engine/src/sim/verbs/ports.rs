//! Nodes of the simulated network and their ports, up and down.

use std::collections::VecDeque;

use super::faults::SimFault;
use super::net::Net;
use crate::base::NodeName;
use crate::transport::rdma::PortInfo;

pub(super) struct Port {
    pub(super) node: usize,
    pub(super) info: PortInfo,
    /// Somebody pulled the cable.
    unplugged: bool,
    /// It flaps until this tick.
    flaps_until: Option<u64>,
    /// Tags of queue pairs that are gone.
    pub(super) stale: VecDeque<u64>,
}

impl Port {
    pub(super) fn is_up(&self) -> bool {
        !self.unplugged && self.flaps_until.is_none()
    }
}

impl Net {
    pub(super) fn node(&mut self, name: &NodeName, describe: impl Fn(usize) -> Vec<PortInfo>) {
        if self.nodes.contains(name) {
            return;
        }
        let node = self.nodes.len();
        self.nodes.push(name.clone());
        self.ports.extend(describe(node).into_iter().map(|info| Port {
            node,
            info,
            unplugged: false,
            flaps_until: None,
            stale: VecDeque::new(),
        }));
    }

    /// Places of a node's ports.
    pub(super) fn ports_of(&self, name: &NodeName) -> Vec<usize> {
        let named = |port: &Port| self.nodes.get(port.node) == Some(name);
        (0..self.ports.len()).filter(|place| self.ports.get(*place).is_some_and(named)).collect()
    }

    fn change(&mut self, port: usize, change: impl FnOnce(&mut Port)) {
        let Some(at) = self.ports.get_mut(port) else { return };
        let was = at.is_up();
        change(at);
        let (is, name) = (at.is_up(), at.info.name());
        if was != is {
            self.note("port", &[port as u64, u64::from(is)]);
        }
        if was && !is {
            for end in self.rails.values_mut().filter(|end| end.port == port) {
                end.trouble(format!("port {name} went down"), false);
            }
        }
    }

    pub(super) fn plug(&mut self, port: usize, up: bool) {
        self.change(port, |port| port.unplugged = !up);
    }

    pub(super) fn flap(&mut self) {
        let now = self.now;
        for port in 0..self.ports.len() {
            let over = |port: &Port| port.flaps_until.is_some_and(|until| until <= now);
            if self.ports.get(port).is_some_and(over) {
                self.change(port, |port| port.flaps_until = None);
            }
        }
        if !self.ports.is_empty() && self.dice.falls(SimFault::PortFlap) {
            let port = self.dice.rng.below(self.ports.len() as u64) as usize;
            let until = now + self.dice.between(self.config.flap_ticks).max(1);
            self.change(port, |port| port.flaps_until = Some(until));
        }
    }

    /// From now on nothing goes wrong; all flaps are over.
    pub(super) fn calm(&mut self) {
        self.dice.calm();
        for port in 0..self.ports.len() {
            self.change(port, |port| port.flaps_until = None);
        }
    }
}

//! The two ends of the port: devices of a simulated node, and an open port.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::end::{Bell, Bells};
use super::net::{Net, Place};
use super::ports::Port;
use super::queue::Kind;
use crate::base::NodeName;
use crate::buf::Slab;
use crate::transport::rdma::{
    Completion, PortInfo, QpAddress, Rail, RailError, Read, Verbs, Window,
};

/// The network, shared by all of its devices.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Net>>);

impl Shared {
    pub(super) fn new(net: Net) -> Self {
        Self(Arc::new(Mutex::new(net)))
    }

    pub(super) fn net(&self) -> MutexGuard<'_, Net> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The devices of one node of a [`SimFabric`](super::SimFabric). Clones are the same devices.
#[derive(Clone)]
pub struct SimVerbs {
    pub(super) shared: Shared,
    pub(super) node: NodeName,
}

impl Verbs for SimVerbs {
    type Rail = SimRail;

    fn ports(&self) -> Vec<PortInfo> {
        let net = self.shared.net();
        let ports = net.ports_of(&self.node).into_iter().filter_map(|port| net.ports.get(port));
        ports.filter(|port| port.is_up()).map(|port| port.info.clone()).collect()
    }

    fn open(
        &self,
        port: &PortInfo,
        _peer: &NodeName,
        slab: &Slab,
    ) -> Result<Self::Rail, RailError> {
        let mut net = self.shared.net();
        let places = net.ports_of(&self.node);
        let is_it = |place: &usize| net.ports.get(*place).is_some_and(|it| it.info == *port);
        let place = places.into_iter().find(is_it);
        let place = place.ok_or_else(|| RailError::new("there is no such port"))?;
        let bells = if net.config.descriptors {
            Some(Bells { completion: Bell::new()?, event: Bell::new()? })
        } else {
            None
        };
        let id = net.open(place, slab, bells.clone())?;
        drop(net);
        Ok(SimRail { shared: self.shared.clone(), id, port: place, bells })
    }
}

/// An open port of a simulated node.
pub struct SimRail {
    shared: Shared,
    id: u64,
    port: usize,
    pub(super) bells: Option<Bells>,
}

impl SimRail {
    fn place(&self, queue_pair: usize) -> Place {
        Place { rail: self.id, queue_pair }
    }
}

impl Rail for SimRail {
    fn create(&mut self, count: usize) -> Result<Vec<QpAddress>, RailError> {
        self.shared.net().create(self.id, count)
    }

    fn connect(&mut self, peer: &PortInfo, queue_pairs: &[QpAddress]) -> Result<(), RailError> {
        self.shared.net().connect(self.id, peer, queue_pairs)
    }

    fn destroy(&mut self) {
        self.shared.net().destroy(self.id);
    }

    fn room(&self, queue_pair: usize) -> usize {
        let mut net = self.shared.net();
        let depth = net.config.send_depth;
        let end = net.end(self.id).ok();
        let queue_pair = end.and_then(|end| end.queue_pairs.get(queue_pair));
        queue_pair.map_or(0, |queue_pair| depth.saturating_sub(queue_pair.outstanding))
    }

    fn read(&mut self, queue_pair: usize, tag: u64, read: Read) -> Result<(), RailError> {
        if !read.fits() {
            return Err(RailError::new("a READ does not fit its sink"));
        }
        self.shared.net().post(self.place(queue_pair), tag, || Kind::Read(read))
    }

    fn open_window(
        &mut self,
        queue_pair: usize,
        tag: u64,
        content: Vec<Bytes>,
    ) -> Result<Window, RailError> {
        self.shared.net().open_window(self.place(queue_pair), tag, content)
    }

    fn close_window(&mut self, tag: u64, id: u32) -> Result<(), RailError> {
        self.shared.net().close_window(self.id, tag, id)
    }

    fn ring(&mut self) -> Result<(), RailError> {
        self.shared.net().ring(self.id)
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), RailError> {
        self.shared.net().poll(self.id, done)
    }

    fn trouble(&mut self) -> Option<RailError> {
        let mut net = self.shared.net();
        let troubles = &mut net.end(self.id).ok()?.troubles;
        let first = troubles.pop_front();
        if let (true, Some(bells)) = (troubles.is_empty(), &self.bells) {
            bells.event.silence();
        }
        first.map(|trouble| trouble.error)
    }

    fn is_up(&mut self) -> bool {
        self.shared.net().ports.get(self.port).is_some_and(Port::is_up)
    }

    fn arm(&mut self) -> Result<(), RailError> {
        let mut net = self.shared.net();
        net.end(self.id)?.armed = true;
        if let Some(bells) = &self.bells {
            bells.completion.silence();
        }
        Ok(())
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let bells = self.bells.iter().flat_map(|bells| [&bells.completion, &bells.event]);
        bells.map(|bell| bell.0.as_fd()).collect()
    }
}

impl Drop for SimRail {
    fn drop(&mut self) {
        self.shared.net().close(self.id);
    }
}

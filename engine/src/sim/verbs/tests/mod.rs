//! The simulated devices: what they do when nothing goes wrong, and that each fault is one.

mod cruel;
mod fault;
mod plain;

use std::sync::Arc;

use bytes::Bytes;

use super::{SimFabric, SimFault, SimRail, SimVerbs, SimVerbsConfig};
use crate::base::NodeName;
use crate::buf::Slab;
use crate::transport::rdma::{Completion, PortInfo, Rail, RailError, Read, Sink, Verbs, Window};

/// Polls that are enough for anything to happen that happens at all.
const POLLS: usize = 1_000;

fn named(name: &str) -> NodeName {
    name.parse().expect("a name")
}

/// A reader and a source on one network, their rails connected.
struct Pair {
    fabric: SimFabric,
    reader: SimRail,
    source: SimRail,
    reader_slab: Slab,
    source_slab: Slab,
    /// Ports of both, reader first.
    ports: [PortInfo; 2],
}

impl Pair {
    fn new(seed: u64, config: SimVerbsConfig) -> Self {
        Self::try_new(seed, config).expect("nothing refuses")
    }

    fn try_new(seed: u64, config: SimVerbsConfig) -> Result<Self, RailError> {
        let fabric = SimFabric::new(seed, config);
        let verbs: [SimVerbs; 2] = ["r", "s"].map(|name| fabric.node(&named(name), 2));
        let ports = [0, 1].map(|node| verbs[node].ports()[node].clone());
        let slabs = [Slab::new(0), Slab::new(0)];
        let reader = verbs[0].open(&ports[0], &named("s"), &slabs[0])?;
        let source = verbs[1].open(&ports[1], &named("r"), &slabs[1])?;
        let [reader_slab, source_slab] = slabs;
        let mut pair = Self { fabric, reader, source, reader_slab, source_slab, ports };
        pair.connect(2)?;
        Ok(pair)
    }

    /// Makes new queue pairs at both ends and connects them.
    fn connect(&mut self, count: usize) -> Result<(), RailError> {
        let mine = self.reader.create(count)?;
        let theirs = self.source.create(count)?;
        self.reader.connect(&self.ports[1], &theirs)?;
        self.source.connect(&self.ports[0], &mine)
    }

    /// A lease of the source with these bytes in front.
    fn content(&self, bytes: &[u8]) -> Bytes {
        let mut lease = self.source_slab.try_lease().expect("a lease");
        lease[..bytes.len()].copy_from_slice(bytes);
        lease.freeze().slice(0..bytes.len())
    }

    /// An open window over these bytes.
    fn window(&mut self, queue_pair: usize, bytes: &[u8]) -> Window {
        let content = vec![self.content(bytes)];
        let window = self.source.open_window(queue_pair, 900, content).expect("taken");
        assert_eq!(self.of_source(1), [ok(900)]);
        window
    }

    /// A sink of the reader full of zeros.
    fn sink(&self) -> Arc<Sink> {
        let mut lease = self.reader_slab.try_lease().expect("a lease");
        lease.fill(0);
        Sink::new(lease)
    }

    /// Rings, and polls until so many completions have come or none comes.
    fn of_reader(&mut self, count: usize) -> Vec<Completion> {
        completions(&mut self.reader, count)
    }

    fn of_source(&mut self, count: usize) -> Vec<Completion> {
        completions(&mut self.source, count)
    }

    /// How a READ of a window ends, and what it leaves in the sink.
    fn read(
        &mut self,
        queue_pair: usize,
        window: Window,
        from: u64,
        len: usize,
    ) -> (Result<(), String>, Vec<u8>) {
        let sink = self.sink();
        self.reader.read(queue_pair, 1, read_of(window, &sink, from, len)).expect("taken");
        let done = self.of_reader(1);
        assert_eq!((done.len(), done[0].tag), (1, 1));
        let lease = Sink::into_lease(sink).expect("nobody else holds the sink");
        (done[0].result.clone().map_err(|error| error.what), lease[..len].to_vec())
    }
}

fn completions(rail: &mut SimRail, count: usize) -> Vec<Completion> {
    let mut done = Vec::new();
    rail.ring().expect("rung");
    for _ in 0..POLLS {
        if done.len() >= count {
            break;
        }
        rail.poll(&mut done).expect("polled");
    }
    done
}

fn ok(tag: u64) -> Completion {
    Completion { tag, result: Ok(()) }
}

fn failed(tag: u64, what: &str) -> Completion {
    Completion { tag, result: Err(RailError::new(what)) }
}

fn read_of(window: Window, sink: &Arc<Sink>, from: u64, len: usize) -> Read {
    let remote = window.base.wrapping_add(from);
    Read { remote, rkey: window.rkey, sink: Arc::clone(sink), at: 0, len }
}

//! The network that simulated devices are on: ports, time, and what rails ask for.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::end::{Bells, End};
use super::faults::{Dice, SimFault, SimVerbsConfig, SimVerbsStats};
use super::ports::Port;
use super::queue::{Kind, QueuePair, Remote, State, Work};
use super::window::{Bound, Content, Phase};
use crate::base::NodeName;
use crate::buf::Slab;
use crate::transport::rdma::{Completion, PortInfo, QpAddress, RailError, Window};

/// Keys of closed windows that are not given again yet.
const KEYS_KEPT: usize = 1024;
/// Stale tags that are kept for each port.
const STALE_KEPT: usize = 256;
/// Numbers are drawn from few, so that those of destroyed queue pairs come back.
const NUMBERS_MIN: u64 = 256;

/// A queue pair of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) rail: u64,
    pub(super) queue_pair: usize,
}

/// An open window as its opening said, kept apart from the windows themselves to check them.
pub(super) struct Published {
    pub(super) place: Place,
    pub(super) base: u64,
    pub(super) end: u64,
}

pub(super) struct Net {
    pub(super) config: SimVerbsConfig,
    pub(super) dice: Dice,
    pub(super) now: u64,
    pub(super) nodes: Vec<NodeName>,
    pub(super) ports: Vec<Port>,
    pub(super) rails: BTreeMap<u64, End>,
    rails_opened: u64,
    /// Queue pairs by node and number.
    pub(super) numbers: BTreeMap<(usize, u32), Place>,
    pub(super) published: BTreeMap<u32, Published>,
    keys_closed: VecDeque<u32>,
    pub(super) stats: SimVerbsStats,
    pub(super) trace: blake3::Hasher,
}

impl Net {
    pub(super) fn new(seed: u64, config: SimVerbsConfig) -> Self {
        Self {
            dice: Dice::new(seed, &config),
            config,
            now: 0,
            nodes: Vec::new(),
            ports: Vec::new(),
            rails: BTreeMap::new(),
            rails_opened: 0,
            numbers: BTreeMap::new(),
            published: BTreeMap::new(),
            keys_closed: VecDeque::new(),
            stats: SimVerbsStats::default(),
            trace: blake3::Hasher::new(),
        }
    }

    /// Adds something that happened to the history.
    pub(super) fn note(&mut self, what: &str, numbers: &[u64]) {
        self.trace.update(&self.now.to_le_bytes());
        self.trace.update(what.as_bytes());
        for number in numbers {
            self.trace.update(&number.to_le_bytes());
        }
    }

    pub(super) fn tick(&mut self) {
        self.now += 1;
        self.flap();
        let connected = |state| state == State::ReadyToSend;
        let places = self.places(|queue_pair| connected(queue_pair.state));
        if !places.is_empty() && self.dice.falls(SimFault::QueuePairBroken) {
            let place = self.dice.rng.below(places.len() as u64) as usize;
            self.fail(places[place], Some("broke"));
        }
        self.run();
    }

    pub(super) fn places(&self, which: impl Fn(&QueuePair) -> bool) -> Vec<Place> {
        let places = self.rails.iter().flat_map(|(rail, end)| {
            let those = end.queue_pairs.iter().enumerate().filter(|(_, it)| which(it));
            those.map(|(queue_pair, _)| Place { rail: *rail, queue_pair })
        });
        places.collect()
    }

    pub(super) fn end(&mut self, rail: u64) -> Result<&mut End, RailError> {
        self.rails.get_mut(&rail).ok_or_else(|| RailError::new("the port is closed"))
    }

    pub(super) fn refuse(&mut self, fault: SimFault, what: &str) -> Result<(), RailError> {
        if self.dice.falls(fault) { Err(RailError::new(what)) } else { Ok(()) }
    }

    pub(super) fn open(
        &mut self,
        port: usize,
        slab: &Slab,
        bells: Option<Bells>,
    ) -> Result<u64, RailError> {
        self.refuse(SimFault::OpenRefused, "memory cannot be registered")?;
        self.rails_opened += 1;
        self.rails.insert(self.rails_opened, End::new(port, slab.clone(), bells));
        self.note("open", &[self.rails_opened, port as u64]);
        Ok(self.rails_opened)
    }

    pub(super) fn close(&mut self, rail: u64) {
        self.destroy(rail);
        self.rails.remove(&rail);
    }

    pub(super) fn destroy(&mut self, rail: u64) {
        self.numbers.retain(|_, place| place.rail != rail);
        let closed: Vec<u32> =
            self.published.extract_if(.., |_, it| it.place.rail == rail).map(|(k, _)| k).collect();
        for rkey in closed {
            self.retire(rkey);
        }
        let Some(end) = self.rails.get_mut(&rail) else { return };
        let tags = end.destroy();
        if let Some(port) = self.ports.get_mut(end.port) {
            port.stale.extend(tags);
            let over = port.stale.len().saturating_sub(STALE_KEPT);
            port.stale.drain(..over);
        }
        self.note("destroy", &[rail]);
    }

    /// Keeps a key of a closed window out of use for a while.
    pub(super) fn retire(&mut self, rkey: u32) {
        self.keys_closed.push_back(rkey);
        if self.keys_closed.len() > KEYS_KEPT {
            self.keys_closed.pop_front();
        }
    }

    pub(super) fn create(&mut self, rail: u64, count: usize) -> Result<Vec<QpAddress>, RailError> {
        self.destroy(rail);
        self.refuse(SimFault::CreateRefused, "the device makes no more queue pairs")?;
        let port = self.end(rail)?.port;
        let node = self.ports.get(port).map_or(0, |port| port.node);
        let mut addresses = Vec::with_capacity(count);
        for queue_pair in 0..count {
            let numbers = NUMBERS_MIN.max(4 * self.numbers.len() as u64);
            let number = loop {
                let number = self.dice.rng.below(numbers) as u32 + 1;
                if !self.numbers.contains_key(&(node, number)) {
                    break number;
                }
            };
            self.numbers.insert((node, number), Place { rail, queue_pair });
            addresses.push(QpAddress { number, psn: self.dice.rng.below(1 << 24) as u32 });
        }
        let depth = self.config.completion_depth.unwrap_or(count * self.config.send_depth);
        let end = self.end(rail)?;
        end.completions.depth = depth;
        for address in &addresses {
            let mut queue_pair = QueuePair::new(*address);
            queue_pair.enter(State::Init)?;
            end.queue_pairs.push(queue_pair);
        }
        self.note("create", &[rail, count as u64]);
        Ok(addresses)
    }

    pub(super) fn connect(
        &mut self,
        rail: u64,
        peer: &PortInfo,
        addresses: &[QpAddress],
    ) -> Result<(), RailError> {
        let port = self.ports.iter().position(|port| port.info.gid == peer.gid);
        let port = port.ok_or_else(|| RailError::new("the peer's address is not in reach"))?;
        let count = self.end(rail)?.queue_pairs.len();
        if count != addresses.len() {
            let theirs = addresses.len();
            return Err(RailError::new(format!("{count} queue pairs here, {theirs} at the peer")));
        }
        for (queue_pair, address) in addresses.iter().enumerate() {
            let refused =
                self.refuse(SimFault::ConnectRefused, "the device refuses the peer's address");
            let halfway = refused.is_err() && self.dice.rng.chance(50);
            let Some(mine) = self.end(rail)?.queue_pairs.get_mut(queue_pair) else { continue };
            if refused.is_err() && !halfway {
                return refused;
            }
            mine.enter(State::ReadyToReceive)?;
            mine.peer = Some(Remote { port, address: *address });
            refused?;
            mine.enter(State::ReadyToSend)?;
        }
        self.note("connect", &[rail, port as u64]);
        Ok(())
    }

    pub(super) fn post(
        &mut self,
        place: Place,
        tag: u64,
        kind: impl FnOnce() -> Kind,
    ) -> Result<(), RailError> {
        let (now, depth, ticks) = (self.now, self.config.send_depth, self.config.work_ticks);
        let mine = self.end(place.rail)?.queue_pairs.get(place.queue_pair);
        mine.ok_or_else(|| RailError::new("there is no such queue pair"))?.takes(depth)?;
        self.refuse(SimFault::PostRefused, "the send queue is full")?;
        // A device may begin before it is told to.
        let begins = self.dice.rng.chance(30);
        let Self { rails, dice, .. } = self;
        let mine = rails.get_mut(&place.rail).and_then(|end| {
            let queue_pair = end.queue_pairs.get_mut(place.queue_pair)?;
            queue_pair.outstanding += 1;
            Some(queue_pair)
        });
        if let Some(mine) = mine {
            let kind = kind();
            mine.work.push_back(Work {
                tag,
                kind,
                rung: false,
                due: 0,
                gives_up: None,
                doom: None,
            });
            if begins {
                mine.ring(now, || dice.between(ticks));
            }
        }
        Ok(())
    }

    pub(super) fn open_window(
        &mut self,
        place: Place,
        tag: u64,
        content: Vec<Bytes>,
    ) -> Result<Window, RailError> {
        let windows_max = self.config.windows_max;
        let end = self.end(place.rail)?;
        let content = Content::new(&end.slab, content)?;
        if end.windows.len() >= windows_max {
            return Err(RailError::new("the device has no more windows"));
        }
        let id = end.windows_opened;
        self.post(place, tag, || Kind::Open(id))?;
        let rkey = loop {
            let rkey = self.dice.rng.next() as u32;
            let used = |end: &End| end.windows.values().any(|window| window.rkey == rkey);
            if !self.keys_closed.contains(&rkey) && !self.rails.values().any(used) {
                break rkey;
            }
        };
        let base = self.dice.rng.below(1 << 47);
        let end = self.end(place.rail)?;
        end.windows_opened = end.windows_opened.wrapping_add(1);
        let queue_pair = place.queue_pair;
        let phase = Phase::Opening;
        end.windows.insert(id, Bound { queue_pair, rkey, base, phase, closing: false, content });
        Ok(Window { id, base, rkey })
    }

    pub(super) fn close_window(&mut self, rail: u64, tag: u64, id: u32) -> Result<(), RailError> {
        let window = self.end(rail)?.windows.get(&id).filter(|window| !window.closing);
        let window = window.ok_or_else(|| RailError::new("there is no such window"))?;
        let place = Place { rail, queue_pair: window.queue_pair };
        self.post(place, tag, || Kind::Close(id))?;
        if let Some(window) = self.end(rail)?.windows.get_mut(&id) {
            window.closing = true;
        }
        Ok(())
    }

    pub(super) fn ring(&mut self, rail: u64) -> Result<(), RailError> {
        self.refuse(SimFault::RingRefused, "the device takes nothing now")?;
        let (now, ticks) = (self.now, self.config.work_ticks);
        let Self { rails, dice, .. } = self;
        for queue_pair in rails.get_mut(&rail).into_iter().flat_map(|end| &mut end.queue_pairs) {
            queue_pair.ring(now, || dice.between(ticks));
        }
        self.run();
        Ok(())
    }

    pub(super) fn poll(&mut self, rail: u64, done: &mut Vec<Completion>) -> Result<(), RailError> {
        self.tick();
        let end = self.end(rail)?;
        if end.completions.broken {
            return Err(RailError::new("the completion queue is broken"));
        }
        let before = done.len();
        while let Some(entry) = end.completions.ready.pop_front() {
            done.push(end.polled(entry));
        }
        for completion in done.iter().skip(before) {
            self.note("done", &[rail, completion.tag, u64::from(completion.result.is_ok())]);
        }
        Ok(())
    }

    pub(super) fn stats(&self) -> SimVerbsStats {
        let ends = || self.rails.values();
        let answers = |place: Place| {
            let end = self.rails.get(&place.rail);
            end.and_then(|end| end.queue_pairs.get(place.queue_pair))
                .is_some_and(QueuePair::answers)
        };
        SimVerbsStats {
            ticks: self.now,
            windows_open: self.published.values().filter(|it| answers(it.place)).count() as u64,
            contents_held: ends().map(|end| end.windows.len() as u64).sum(),
            sinks_held: ends().map(|end| end.sinks() as u64).sum(),
            queue_pairs: ends().map(|end| end.queue_pairs.len() as u64).sum(),
            faults: self.dice.happened.clone(),
            ..self.stats.clone()
        }
    }
}

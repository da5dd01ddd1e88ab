//! One rail as the machine sees it: its life, what is posted on it, and how it does.

use std::collections::{BTreeMap, VecDeque};

use super::{COMPLETION_MS, RETRY_MS, Setup};
use crate::base::Instant;
use crate::metrics::{RailState, RailStatus};
use crate::transport::rdma::port::{Rail, RailError, Read};

/// Most messages granted on one rail at once.
const WINDOW_MAX: usize = 64;
/// Over which a rail's rate is measured, in milliseconds.
const RATE_MS: u64 = 50;
/// Most that is being read from a rail at once, in time at its measured rate. What waits behind
/// more than a device's patience would be asked for again.
const DEPTH_MS: u64 = 100;
/// Least that may be read at once, and most before there is a measurement, in bytes.
const DEPTH_BYTES: (u64, u64) = (2 << 20, 4 << 20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Down,
    /// The peer has been asked to connect.
    Asked {
        until: Instant,
    },
    /// The peer has been told that this end is connected.
    Answered {
        until: Instant,
    },
    Ready,
}

/// What was posted.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    Read { queue_pair: usize, grant: u64, bytes: u64 },
    Open { send: u64, window: u32, bytes: u64 },
    Close,
}

pub(super) struct Posted {
    pub(super) what: What,
    since: Instant,
}

/// One queue pair: READs that wait for room, and those posted, in order.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) pending: VecDeque<(u64, Read)>,
    pub(super) reads: VecDeque<u64>,
    /// When the device last had nothing to do or did something.
    progress: Instant,
}

pub(super) struct Line<R> {
    pub(super) rail: Option<R>,
    /// Places of the ports in their nodes' lists.
    pub(super) mine: usize,
    pub(super) yours: usize,
    /// Which life this is; 0 before the first.
    pub(super) epoch: u32,
    pub(super) state: State,
    pub(super) retry_at: Instant,
    /// Until then it is not taken, since it altered content.
    pub(super) quarantine: Option<Instant>,
    pub(super) posted: BTreeMap<u64, Posted>,
    pub(super) queues: Vec<Queue>,
    /// Something was posted that the device has not been told of.
    pub(super) ringing: bool,
    /// The queue pair whose turn it is.
    turn: usize,
    /// Messages and bytes granted and not done.
    pub(super) messages: usize,
    pub(super) bytes: u64,
    /// Messages that may be granted at once: one on trial, and more with each that is done.
    window: usize,
    rate: Rate,
    /// Bytes of READs that are posted, and how fast they come.
    reading: u64,
    read_rate: Rate,
    pub(super) moved: (u64, u64),
    errors: u64,
    why: String,
}

/// Bytes per second, over the time in which there was something to do.
#[derive(Default)]
struct Rate {
    since: Option<Instant>,
    bytes: u64,
    /// 0 before the first measurement.
    measured: f64,
}

impl Rate {
    /// From now on there is something to do.
    fn begin(&mut self, now: Instant) {
        (self.since, self.bytes) = (Some(now), 0);
    }

    fn add(&mut self, bytes: u64, now: Instant) {
        self.bytes += bytes;
        let Some(since) = self.since else { return };
        let passed = now.ms_since(since);
        if passed >= RATE_MS {
            let rate = self.bytes as f64 * 1e3 / passed as f64;
            self.measured =
                if self.measured > 0.0 { 0.5 * self.measured + 0.5 * rate } else { rate };
            self.begin(now);
        }
    }
}

impl<R: Rail> Line<R> {
    pub(super) fn new(mine: usize, yours: usize) -> Self {
        Self {
            rail: None,
            mine,
            yours,
            epoch: 0,
            state: State::Down,
            retry_at: Instant::default(),
            quarantine: None,
            posted: BTreeMap::new(),
            queues: Vec::new(),
            ringing: false,
            turn: 0,
            messages: 0,
            bytes: 0,
            window: 1,
            rate: Rate::default(),
            reading: 0,
            read_rate: Rate::default(),
            moved: (0, 0),
            errors: 0,
            why: String::new(),
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.state == State::Down
    }

    /// Whether it was tried and is down.
    pub(super) fn has_failed(&self) -> bool {
        self.is_down() && self.retry_at > Instant::default()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Whether this life of the rail goes on.
    pub(super) fn lives(&self, epoch: u32) -> bool {
        self.epoch == epoch && !self.is_down()
    }

    /// Whether it came back and has not carried anything since.
    pub(super) fn on_trial(&self) -> bool {
        self.is_ready() && self.errors > 0 && self.window == 1
    }

    pub(super) fn become_ready(&mut self) {
        self.state = State::Ready;
        self.why.clear();
    }

    /// The device of a rail that is up.
    pub(super) fn device(&mut self) -> Result<&mut R, RailError> {
        self.rail.as_mut().ok_or_else(|| RailError::new("the port is not open"))
    }

    pub(super) fn post(&mut self, tag: u64, what: What, now: Instant) {
        if let What::Read { queue_pair, bytes, .. } = what
            && let Some(queue) = self.queues.get_mut(queue_pair)
        {
            if self.reading == 0 {
                self.read_rate.begin(now);
            }
            self.reading += bytes;
            if queue.reads.is_empty() {
                queue.progress = now;
            }
            queue.reads.push_back(tag);
        }
        self.posted.insert(tag, Posted { what, since: now });
    }

    /// Takes what completed, if it was posted in this life.
    pub(super) fn complete(&mut self, tag: u64, now: Instant) -> Option<Posted> {
        let posted = self.posted.remove(&tag)?;
        if let What::Read { queue_pair, bytes, .. } = posted.what
            && let Some(queue) = self.queues.get_mut(queue_pair)
        {
            self.reading = self.reading.saturating_sub(bytes);
            self.read_rate.add(bytes, now);
            queue.progress = now;
        }
        Some(posted)
    }

    /// Takes a READ off its queue pair; false if it was not the oldest one there.
    pub(super) fn in_order(&mut self, queue_pair: usize, tag: u64) -> bool {
        self.queues.get_mut(queue_pair).and_then(|queue| queue.reads.pop_front()) == Some(tag)
    }

    /// What should have happened by now and has not, in words.
    pub(super) fn overdue(&self, now: Instant) -> Option<String> {
        let late = |since: Instant| now >= since.plus_ms(COMPLETION_MS);
        match self.state {
            State::Down => None,
            State::Asked { until } | State::Answered { until } => {
                (now >= until).then(|| "the peer did not connect in time".to_owned())
            }
            State::Ready => {
                let reads = self.queues.iter().any(|q| !q.reads.is_empty() && late(q.progress));
                let others = self
                    .posted
                    .values()
                    .any(|posted| !matches!(posted.what, What::Read { .. }) && late(posted.since));
                (reads || others).then(|| {
                    format!("no completion for {} s: the device lost one", COMPLETION_MS / 1000)
                })
            }
        }
    }

    pub(super) fn deadline(&self, lead: bool) -> Option<Instant> {
        match self.state {
            State::Down => lead.then_some(self.retry_at),
            State::Asked { until } | State::Answered { until } => Some(until),
            State::Ready => {
                let due = |since: Instant| since.plus_ms(COMPLETION_MS);
                let reads =
                    self.queues.iter().filter(|q| !q.reads.is_empty()).map(|q| due(q.progress));
                let others = self.posted.values().map(|posted| due(posted.since)).min();
                reads.chain(others).min()
            }
        }
    }

    /// Ends this life. Memory that was posted is free after it.
    pub(super) fn take_down(&mut self, why: &str, now: Instant) {
        if let Some(rail) = self.rail.as_mut() {
            rail.destroy();
        }
        if self.why != why {
            self.errors += 1;
            why.clone_into(&mut self.why);
        }
        self.state = State::Down;
        self.retry_at = now.plus_ms(RETRY_MS);
        self.posted.clear();
        self.queues.clear();
        self.ringing = false;
        (self.messages, self.bytes, self.window) = (0, 0, 1);
        (self.rate.since, self.read_rate.since, self.reading) = (None, None, 0);
    }

    /// Whether one more READ may be posted beside those that are.
    pub(super) fn may_read(&self) -> bool {
        let measured = self.read_rate.measured;
        let depth = if measured > 0.0 {
            (measured as u64 * DEPTH_MS / 1000).max(DEPTH_BYTES.0)
        } else {
            DEPTH_BYTES.1
        };
        self.reading < depth
    }

    /// Whether one more message may be granted.
    pub(super) fn has_room(&self) -> bool {
        self.is_ready() && self.messages < self.window
    }

    /// When `bytes` more would be through, in seconds; `unmeasured` is the rate of a rail that has
    /// none yet.
    pub(super) fn finish_s(&self, bytes: u64, unmeasured: f64) -> f64 {
        let rate = if self.rate.measured > 0.0 { self.rate.measured } else { unmeasured };
        (self.bytes + bytes) as f64 / rate.max(1.0)
    }

    pub(super) fn measured(&self) -> f64 {
        self.rate.measured
    }

    /// The queue pair for the next message.
    pub(super) fn next_queue_pair(&mut self) -> usize {
        self.turn = (self.turn + 1) % self.queues.len().max(1);
        self.turn
    }

    pub(super) fn granted(&mut self, bytes: u64, now: Instant) {
        if self.messages == 0 {
            self.rate.begin(now);
        }
        self.messages += 1;
        self.bytes += bytes;
    }

    /// A message is through, or given up.
    pub(super) fn released(&mut self, bytes: u64, through: bool, now: Instant) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if !through {
            return;
        }
        self.window = (self.window + 1).min(WINDOW_MAX);
        self.rate.add(bytes, now);
        self.count(bytes);
    }

    /// Counts a message that this rail carried.
    pub(super) fn count(&mut self, bytes: u64) {
        self.moved.0 += bytes;
        self.moved.1 += 1;
    }

    pub(super) fn status(&self, setup: &Setup<R>) -> RailStatus {
        let name = |port: Option<&crate::transport::rdma::PortInfo>| {
            port.map_or_else(String::new, crate::transport::rdma::PortInfo::name)
        };
        let (mine, yours) = (name(setup.mine.get(self.mine)), name(setup.yours.get(self.yours)));
        let state = match self.state {
            State::Down => RailState::Down,
            State::Asked { .. } | State::Answered { .. } => RailState::Opening,
            State::Ready if self.on_trial() => RailState::Trial,
            State::Ready => RailState::Up,
        };
        RailStatus {
            name: format!("{mine} - {yours}"),
            state,
            bytes: self.moved.0,
            messages: self.moved.1,
            errors: self.errors,
            rate_mbps: (self.rate.measured.max(self.read_rate.measured) * 8.0 / 1e6) as u64,
            why: self.why.clone(),
        }
    }
}

//! Queue pairs and completion queues of a simulated device, as the `InfiniBand` specification has
//! them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::transport::rdma::{QpAddress, RailError, Read, Sink};

/// Why work on a queue pair failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Flushed,
    RetryExceeded,
    RemoteAccess,
    NotReady,
    LocalProtection,
}

impl Status {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Flushed => "work request flushed",
            Self::RetryExceeded => "transport retry exceeded",
            Self::RemoteAccess => "remote access error",
            Self::NotReady => "RNR retry exceeded",
            Self::LocalProtection => "local protection error",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Where a queue pair is:
///
/// ```text
/// Reset --create--> Init --connect--> ReadyToReceive --connect--> ReadyToSend
///   any --failure--> Error
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Reset,
    Init,
    ReadyToReceive,
    ReadyToSend,
    Error,
}

impl State {
    fn leads_to(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Reset, Self::Init)
                | (Self::Init, Self::ReadyToReceive)
                | (Self::ReadyToReceive, Self::ReadyToSend)
                | (_, Self::Error)
        )
    }
}

/// A queue pair that another one was connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) port: usize,
    pub(super) address: QpAddress,
}

/// Something that was posted.
pub(super) struct Work {
    pub(super) tag: u64,
    pub(super) kind: Kind,
    /// The device was told of it.
    pub(super) rung: bool,
    /// It is carried out at this tick, or later.
    pub(super) due: u64,
    /// When it stops trying to reach the peer.
    pub(super) gives_up: Option<u64>,
    /// How it ends once due, whatever the peer says.
    pub(super) doom: Option<Status>,
}

pub(super) enum Kind {
    Read(Read),
    Open(u32),
    Close(u32),
}

pub(super) struct QueuePair {
    pub(super) address: QpAddress,
    pub(super) state: State,
    pub(super) peer: Option<Remote>,
    pub(super) work: VecDeque<Work>,
    /// Posted, and its completion not polled.
    pub(super) outstanding: usize,
    /// When the last completion is due; no later one comes before.
    pub(super) completes: u64,
}

impl QueuePair {
    pub(super) fn new(address: QpAddress) -> Self {
        Self {
            address,
            state: State::Reset,
            peer: None,
            work: VecDeque::new(),
            outstanding: 0,
            completes: 0,
        }
    }

    pub(super) fn enter(&mut self, next: State) -> Result<(), RailError> {
        if !self.state.leads_to(next) {
            return Err(RailError::new(format!(
                "queue pair {} does not go from {:?} to {next:?}",
                self.address.number, self.state
            )));
        }
        self.state = next;
        Ok(())
    }

    /// Whether work can be posted; after an error it can, and is flushed.
    pub(super) fn takes(&self, depth: usize) -> Result<(), RailError> {
        match self.state {
            State::Reset | State::Init | State::ReadyToReceive => Err(RailError::new(format!(
                "queue pair {} is not connected: {:?}",
                self.address.number, self.state
            ))),
            State::ReadyToSend | State::Error if self.outstanding >= depth => {
                Err(RailError::new("the send queue is full"))
            }
            State::ReadyToSend | State::Error => Ok(()),
        }
    }

    /// Answers READs.
    pub(super) fn answers(&self) -> bool {
        matches!(self.state, State::ReadyToReceive | State::ReadyToSend)
    }

    /// What is to be carried out now.
    pub(super) fn next(&mut self, now: u64) -> Option<Work> {
        let first = self.work.front()?;
        let ready = match self.state {
            State::ReadyToSend => first.rung && first.due <= now,
            State::Error => first.rung,
            State::Reset | State::Init | State::ReadyToReceive => false,
        };
        if ready { self.work.pop_front() } else { None }
    }

    /// Tells the device of what was posted; each piece of work takes the ticks that `takes` says.
    pub(super) fn ring(&mut self, now: u64, mut takes: impl FnMut() -> u64) {
        let mut due = now;
        for work in &mut self.work {
            if !work.rung {
                work.rung = true;
                work.due = (now + takes()).max(due);
            }
            due = due.max(work.due);
        }
    }
}

/// An entry of a completion queue.
pub(super) struct Entry {
    pub(super) queue_pair: usize,
    pub(super) tag: u64,
    pub(super) result: Result<(), Status>,
    /// What it completes, with its memory; `None` for a completion of nothing.
    pub(super) kind: Option<Kind>,
    /// Can be polled from this tick on.
    pub(super) due: u64,
    /// A bit to turn over when it is polled.
    pub(super) spoil: Option<(Arc<Sink>, usize)>,
}

#[derive(Default)]
pub(super) struct CompletionQueue {
    /// Not there yet.
    pub(super) coming: Vec<Entry>,
    /// Can be polled.
    pub(super) ready: VecDeque<Entry>,
    pub(super) depth: usize,
    pub(super) broken: bool,
}

impl CompletionQueue {
    /// The first entry that is due.
    pub(super) fn arrival(&mut self, now: u64) -> Option<Entry> {
        let (place, first) =
            self.coming.iter().enumerate().min_by_key(|(place, entry)| (entry.due, *place))?;
        (first.due <= now).then(|| self.coming.remove(place))
    }

    /// Where an entry of this queue pair may be put so that its own order is kept.
    pub(super) fn earliest(&self, queue_pair: usize) -> usize {
        let last = self.ready.iter().rposition(|entry| entry.queue_pair == queue_pair);
        last.map_or(0, |last| last + 1)
    }
}

/// Turns over the bit of this number in a sink.
pub(super) fn flip(sink: &Sink, bit: usize) {
    if let Some(byte) = sink.lease().get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

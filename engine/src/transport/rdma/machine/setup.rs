//! Bringing a rail up, and its end.

use super::line::{Line, State};
use super::{CONNECT_MS, Output, Rails};
use crate::base::Instant;
use crate::transport::rdma::message::{Note, RAILS_MAX};
use crate::transport::rdma::pair::pair;
use crate::transport::rdma::port::{QpAddress, Rail, RailError};

impl<R: Rail> Rails<R> {
    /// Begins: the leading end pairs the ports and sets every rail up.
    pub(crate) fn start(&mut self, now: Instant) {
        (self.now, self.started, self.events_at) = (now, now, now);
        if !self.setup.lead {
            return;
        }
        let pairs = pair(&self.setup.mine, &self.setup.yours, self.setup.near);
        self.settled = pairs.is_empty();
        // The first ticks set them up.
        self.lines
            .extend((0..).zip(pairs).map(|(rail, (mine, yours))| (rail, Line::new(mine, yours))));
    }

    /// The port's device, opened at its first use, if the port is up.
    fn open(&mut self, number: u8) -> Result<&mut R, RailError> {
        let setup = &mut self.setup;
        let line = self.lines.get_mut(&number).ok_or_else(|| RailError::new("no such rail"))?;
        if line.rail.is_none() {
            let port = setup.mine.get(line.mine).ok_or_else(|| RailError::new("no such port"))?;
            line.rail = Some((setup.opener)(port)?);
        }
        if line.quarantine.is_some_and(|until| self.now < until) {
            return Err(RailError::new(super::ALTERED));
        }
        let rail = line.device()?;
        if rail.is_up() { Ok(rail) } else { Err(RailError::new("the port is down")) }
    }

    /// The leading end begins a new life of a rail.
    pub(super) fn set_up(&mut self, number: u8) {
        let count = self.setup.queue_pairs;
        let created = self.open(number).and_then(|rail| rail.create(count));
        let until = self.now.plus_ms(CONNECT_MS);
        let Some(line) = self.lines.get_mut(&number) else { return };
        match created {
            Err(error) => self.take_down(number, &error.what, false),
            Ok(queue_pairs) => {
                line.epoch = line.epoch.wrapping_add(1);
                line.state = State::Asked { until };
                let (mine, yours) = (line.mine as u8, line.yours as u8);
                let epoch = line.epoch;
                let note = Note::Setup { rail: number, epoch, mine, yours, queue_pairs };
                self.out.push_back(Output::Tell(note));
            }
        }
    }

    /// The leading end has asked: this one connects, and answers. `ports` are places in this
    /// node's list and in the peer's.
    pub(super) fn asked(&mut self, number: u8, epoch: u32, ports: (u8, u8), theirs: &[QpAddress]) {
        let (mine, yours) = (usize::from(ports.0), usize::from(ports.1));
        let known = mine < self.setup.mine.len() && yours < self.setup.yours.len();
        if self.setup.lead || !known || usize::from(number) >= RAILS_MAX {
            return self.out.push_back(Output::Violation("a rail of ports that nobody named"));
        }
        let line = self.lines.entry(number).or_insert_with(|| Line::new(mine, yours));
        if (line.mine, line.yours) != (mine, yours) {
            return self.out.push_back(Output::Violation("a rail that changes its ports"));
        }
        if epoch <= line.epoch {
            return;
        }
        if !line.is_down() {
            // The peer has ended the life before; its word for it is still on the way.
            self.take_down(number, "the peer begins anew", false);
        }
        let connected = self.open(number).and_then(|rail| rail.create(theirs.len()));
        let connected = connected.and_then(|ours| self.connect(number, theirs).map(|()| ours));
        let until = self.now.plus_ms(CONNECT_MS);
        let Some(line) = self.lines.get_mut(&number) else { return };
        line.epoch = epoch;
        match connected {
            Err(error) => self.take_down(number, &error.what, true),
            Ok(queue_pairs) => {
                line.state = State::Answered { until };
                self.out.push_back(Output::Tell(Note::Answer { rail: number, epoch, queue_pairs }));
            }
        }
    }

    fn connect(&mut self, number: u8, theirs: &[QpAddress]) -> Result<(), RailError> {
        let line = self.lines.get_mut(&number).ok_or_else(|| RailError::new("no such rail"))?;
        let port = self.setup.yours.get(line.yours);
        let port = port.ok_or_else(|| RailError::new("no such port"))?;
        line.device()?.connect(port, theirs)?;
        line.queues = theirs.iter().map(|_| super::line::Queue::default()).collect();
        Ok(())
    }

    /// The other end is connected: so is the leading one now.
    pub(super) fn answered(&mut self, number: u8, epoch: u32, theirs: &[QpAddress]) {
        let asked = |line: &Line<R>| matches!(line.state, State::Asked { .. });
        if !self.lines.get(&number).is_some_and(|line| line.lives(epoch) && asked(line)) {
            return;
        }
        match self.connect(number, theirs) {
            Err(error) => self.take_down(number, &error.what, true),
            Ok(()) => {
                self.out.push_back(Output::Tell(Note::Up { rail: number, epoch }));
                self.become_ready(number);
            }
        }
    }

    /// The leading end is connected too. Its first grant says the same, and may be here before.
    pub(super) fn up(&mut self, number: u8, epoch: u32) {
        let answered = |line: &Line<R>| matches!(line.state, State::Answered { .. });
        if self.lines.get(&number).is_some_and(|line| line.lives(epoch) && answered(line)) {
            self.become_ready(number);
        }
    }

    fn become_ready(&mut self, number: u8) {
        self.settled = true;
        if let Some(line) = self.lines.get_mut(&number) {
            line.become_ready();
            tracing::info!(rail = number, epoch = line.epoch, "a rail is up");
        }
    }
}

//! The receiving end: grants of the peer, read into leases.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::line::What;
use super::{Output, Rails};
use crate::base::Instant;
use crate::buf::Lease;
use crate::transport::rdma::message::Grant;
use crate::transport::rdma::port::{Rail, Read, Sink};

/// Most bytes of one READ. Several go out for a message, so that a queue pair always has more than
/// one under way.
const READ_BYTES_MAX: usize = 512 << 10;
/// Most grants of the peer that are not done, and how far their numbers may lie apart.
const GRANTS_MAX: usize = 4096;

/// A grant of the peer.
pub(super) struct Reading {
    grant: Grant,
    started: Option<Started>,
}

struct Started {
    sink: Arc<Sink>,
    /// READs that are not complete.
    left: usize,
}

/// Numbers of grants that were taken: all below `below`, and those in `above`.
#[derive(Default)]
pub(super) struct Seen {
    below: u64,
    above: BTreeSet<u64>,
}

impl Seen {
    /// Whether the number is new; `None` if it is too far ahead.
    fn take(&mut self, number: u64) -> Option<bool> {
        // Numbers begin at 1.
        let number = number.checked_sub(1)?;
        if number >= self.below + GRANTS_MAX as u64 {
            return None;
        }
        if number < self.below || !self.above.insert(number) {
            return Some(false);
        }
        while self.above.remove(&self.below) {
            self.below += 1;
        }
        Some(true)
    }
}

impl<R: Rail> Rails<R> {
    /// The peer grants content.
    pub(super) fn grant(&mut self, grant: Grant) {
        match self.seen.take(grant.id) {
            Some(true) if self.reads.len() < GRANTS_MAX => {}
            Some(false) => return,
            _ => return self.out.push_back(Output::Violation("too many grants at once")),
        }
        self.up(grant.rail, grant.epoch);
        let line = self.lines.get(&grant.rail);
        let queue_pair = usize::from(grant.queue_pair);
        let known = |line: &super::Line<R>| {
            line.lives(grant.epoch) && line.is_ready() && queue_pair < line.queues.len()
        };
        if !line.is_some_and(known) {
            // Of a life that is over: both ends know, and the peer sends it another way.
            return;
        }
        let (id, rail, header) = (grant.id, grant.rail, grant.header.clone());
        self.reads.insert(id, Reading { grant, started: None });
        self.out.push_back(Output::Deliver { grant: id, rail, header });
    }

    /// Reads granted content into `lease`.
    pub(crate) fn read(&mut self, id: u64, lease: Lease, now: Instant) {
        self.now = now;
        let Some(reading) = self.reads.get_mut(&id) else {
            return self.out.push_back(Output::Read { grant: id, lease: None });
        };
        let grant = &reading.grant;
        let (number, queue_pair) = (grant.rail, usize::from(grant.queue_pair));
        let Some(line) = self.lines.get_mut(&number).filter(|line| line.lives(grant.epoch)) else {
            self.reads.remove(&id);
            return self.out.push_back(Output::Read { grant: id, lease: None });
        };
        let sink = Sink::new(lease);
        let Some(queue) = line.queues.get_mut(queue_pair) else { return };
        let (mut at, mut left) = (0, 0);
        for range in &grant.ranges {
            let mut from = 0;
            while from < range.len as usize {
                let len = (range.len as usize - from).min(READ_BYTES_MAX);
                let remote = grant.base + u64::from(range.offset) + from as u64;
                let read = Read { remote, rkey: grant.rkey, sink: Arc::clone(&sink), at, len };
                queue.pending.push_back((id, read));
                (from, at, left) = (from + len, at + len, left + 1);
            }
        }
        reading.started = Some(Started { sink, left });
        self.feed(number);
        self.pump();
    }

    /// Nobody wants granted content.
    pub(crate) fn unread(&mut self, id: u64, now: Instant) {
        self.now = now;
        if self.reads.get(&id).is_some_and(|reading| reading.started.is_none()) {
            self.reads.remove(&id);
            self.tell_done(id, false);
        }
    }

    /// Posts READs that wait, as far as there is room, from each queue pair in turn.
    pub(super) fn feed(&mut self, number: u8) {
        let now = self.now;
        let Some(line) = self.lines.get_mut(&number) else { return };
        let (count, mut idle, mut turn) = (line.queues.len(), 0, 0);
        while idle < count && line.may_read() {
            let queue_pair = turn % count;
            (turn, idle) = (turn + 1, idle + 1);
            let Some(rail) = line.rail.as_mut() else { return };
            if rail.room(queue_pair) == 0 {
                continue;
            }
            let Some((grant, read)) = line.queues[queue_pair].pending.pop_front() else { continue };
            let (tag, bytes) = (self.next_tag, read.len as u64);
            self.next_tag += 1;
            if let Err(error) = rail.read(queue_pair, tag, read) {
                return self.take_down(number, &error.what, true);
            }
            line.post(tag, What::Read { queue_pair, grant, bytes }, now);
            line.ringing = true;
            idle = 0;
        }
    }

    /// A READ of a grant is complete.
    pub(super) fn read_part(&mut self, id: u64) {
        let Some(reading) = self.reads.get_mut(&id) else { return };
        let Some(started) = reading.started.as_mut() else { return };
        started.left -= 1;
        if started.left > 0 {
            return;
        }
        let Some(Reading { grant, started: Some(started) }) = self.reads.remove(&id) else {
            return;
        };
        let bytes = grant.bytes();
        if let Some(line) = self.lines.get_mut(&grant.rail) {
            line.count(bytes as u64);
        }
        // The rail has let go of the sink with each completion.
        let lease = Sink::into_lease(started.sink).map(|lease| (lease, bytes));
        self.tell_done(id, lease.is_none());
        self.out.push_back(Output::Read { grant: id, lease });
    }

    /// A rail is down: what was being read from it comes another way.
    pub(super) fn fail_reads(&mut self, number: u8) {
        let lost: Vec<u64> = self
            .reads
            .iter()
            .filter(|(_, reading)| reading.grant.rail == number)
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            let Some(reading) = self.reads.remove(&id) else { continue };
            if reading.started.is_some() {
                self.out.push_back(Output::Read { grant: id, lease: None });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_counts_once_in_any_order() {
        let mut seen = Seen::default();
        assert_eq!(
            [2, 1, 2, 1, 3].map(|n| seen.take(n)),
            [true, true, false, false, true].map(Some)
        );
        assert_eq!((seen.below, seen.above.len()), (3, 0));
        assert_eq!((seen.take(0), seen.take(4 + GRANTS_MAX as u64)), (None, None));
        assert_eq!(seen.take(3 + GRANTS_MAX as u64), Some(true));
    }
}

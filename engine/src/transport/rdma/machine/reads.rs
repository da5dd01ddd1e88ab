//! The receiving end: grants of the peer, read into leases.

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

/// A grant of the peer that is being read.
pub(super) struct Reading {
    grant: Grant,
    sink: Arc<Sink>,
    /// READs that are not complete.
    left: usize,
}

impl<R: Rail> Rails<R> {
    /// Reads content that the peer granted into `lease`. A grant is read once.
    pub(crate) fn read(&mut self, grant: Grant, lease: Lease, now: Instant) {
        self.now = now;
        self.up(grant.rail, grant.epoch);
        let (id, number, queue_pair) = (grant.id, grant.rail, usize::from(grant.queue_pair));
        let line = self.lines.get_mut(&number);
        let line = line.filter(|line| line.lives(grant.epoch) && line.is_ready());
        let Some(queue) = line.and_then(|line| line.queues.get_mut(queue_pair)) else {
            // Of a life that is over: both ends know, and the peer sends it another way.
            return self.out.push_back(Output::Read { grant: id, lease: None });
        };
        let sink = Sink::new(lease);
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
        self.reads.insert(id, Reading { grant, sink, left });
        self.feed(number);
        self.pump();
    }

    /// Nobody wants content that the peer granted.
    pub(crate) fn unread(&mut self, grant: &Grant, now: Instant) {
        self.now = now;
        self.up(grant.rail, grant.epoch);
        if self.lines.get(&grant.rail).is_some_and(|line| line.lives(grant.epoch)) {
            self.tell_done(grant.id, false);
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
        reading.left -= 1;
        if reading.left > 0 {
            return;
        }
        let Some(Reading { grant, sink, .. }) = self.reads.remove(&id) else { return };
        let bytes = grant.bytes();
        if let Some(line) = self.lines.get_mut(&grant.rail) {
            line.count(bytes as u64);
        }
        // The rail has let go of the sink with each completion.
        let lease = Sink::into_lease(sink).map(|lease| (lease, bytes));
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
            self.reads.remove(&id);
            self.out.push_back(Output::Read { grant: id, lease: None });
        }
    }
}

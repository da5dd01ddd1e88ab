//! What devices do with the work they were told of, tick by tick.

use std::sync::Arc;

use super::end::End;
use super::faults::SimFault;
use super::net::{Net, Place, Published};
use super::queue::{Entry, Kind, State, Status, Work, flip};
use super::window::Phase;
use crate::transport::rdma::Read;

/// READs that fail by chance, and as what.
const CHANCES: [(SimFault, Status); 5] = [
    (SimFault::RetryExceeded, Status::RetryExceeded),
    (SimFault::NotReady, Status::NotReady),
    (SimFault::RemoteAccess, Status::RemoteAccess),
    (SimFault::LocalProtection, Status::LocalProtection),
    (SimFault::Flushed, Status::Flushed),
];

impl Net {
    /// Carries out what is due now.
    pub(super) fn run(&mut self) {
        let mut places = self.places(|queue_pair| !queue_pair.work.is_empty());
        if places.len() > 1 {
            let first = self.dice.rng.below(places.len() as u64) as usize;
            places.rotate_left(first);
        }
        for place in places {
            self.advance(place);
        }
        let rails: Vec<u64> = self.rails.keys().copied().collect();
        for rail in rails {
            self.deliver(rail);
        }
    }

    fn advance(&mut self, place: Place) {
        loop {
            let now = self.now;
            let Some(end) = self.rails.get_mut(&place.rail) else { return };
            let Some(mine) = end.queue_pairs.get_mut(place.queue_pair) else { return };
            let Some(mut work) = mine.next(now) else { return };
            let flushes = mine.state == State::Error;
            let result = if flushes {
                Some(Err(Status::Flushed))
            } else {
                match &work.kind {
                    Kind::Read(read) => {
                        let read = read.clone();
                        self.read(place, &mut work, &read)
                    }
                    Kind::Open(id) => Some(self.begin_window(place, *id)),
                    Kind::Close(id) => Some(self.end_window(place, *id)),
                }
            };
            match result {
                Some(result) => self.complete(place, work, result),
                None => {
                    let end = self.rails.get_mut(&place.rail);
                    let mine = end.and_then(|end| end.queue_pairs.get_mut(place.queue_pair));
                    if let Some(mine) = mine {
                        mine.work.push_front(work);
                    }
                    return;
                }
            }
        }
    }

    fn begin_window(&mut self, place: Place, id: u32) -> Result<(), Status> {
        let window = self.rails.get_mut(&place.rail).and_then(|end| end.windows.get_mut(&id));
        let window = window.ok_or(Status::LocalProtection)?;
        window.phase = Phase::Open;
        let (rkey, base) = (window.rkey, window.base);
        let end = base + window.content.len as u64;
        self.published.insert(rkey, Published { place, base, end });
        Ok(())
    }

    fn end_window(&mut self, place: Place, id: u32) -> Result<(), Status> {
        let window = self.rails.get_mut(&place.rail).and_then(|end| end.windows.get_mut(&id));
        let window = window.ok_or(Status::LocalProtection)?;
        window.phase = Phase::Closed;
        let rkey = window.rkey;
        self.published.remove(&rkey);
        self.retire(rkey);
        Ok(())
    }

    /// A READ that is due; `None` if it tries again at the next tick.
    fn read(&mut self, place: Place, work: &mut Work, read: &Read) -> Option<Result<(), Status>> {
        let gives_up = match work.gives_up {
            Some(tick) => tick,
            None => {
                let tick = self.now + self.config.retry_ticks;
                work.gives_up = Some(tick);
                let chance = CHANCES.iter().find(|(fault, _)| self.dice.falls(*fault));
                work.doom = chance.map(|(_, status)| *status);
                if matches!(work.doom, Some(Status::RetryExceeded | Status::NotReady)) {
                    work.due = tick;
                    if tick > self.now {
                        return None;
                    }
                }
                tick
            }
        };
        let responder = self.responder(place);
        if let Some(status) = work.doom {
            self.break_off(responder, read, status);
            return Some(Err(status));
        }
        let Some(responder) = responder else {
            return (self.now >= gives_up).then_some(Err(Status::RetryExceeded));
        };
        let end = self.rails.get(&place.rail)?;
        if !read.fits() || !end.slab.holds(&read.sink.lease()) {
            return Some(Err(Status::LocalProtection));
        }
        if read.len > 0 && !self.allowed(responder, read) {
            self.stats.reads_refused += 1;
            self.break_off(None, read, Status::RemoteAccess);
            self.fail(responder, Some("refused its peer's access"));
            return Some(Err(Status::RemoteAccess));
        }
        let short = read.len > 0 && self.dice.falls(SimFault::Short);
        let bytes = if short { self.dice.rng.below(read.len as u64) as usize } else { read.len };
        self.copy(responder, read, bytes);
        self.stats.reads += 1;
        self.stats.read_bytes += bytes as u64;
        if read.len > 0 && self.dice.falls(SimFault::AlteredBefore) {
            flip(&read.sink, self.bit(read));
        }
        Some(Ok(()))
    }

    /// A bit of what was read, as a number of the sink's.
    fn bit(&mut self, read: &Read) -> usize {
        read.at * 8 + self.dice.rng.below(read.len as u64 * 8) as usize
    }

    /// The queue pair that answers this one now.
    fn responder(&self, place: Place) -> Option<Place> {
        let end = self.rails.get(&place.rail)?;
        let mine = end.queue_pairs.get(place.queue_pair)?;
        let remote = mine.peer?;
        let port = self.ports.get(remote.port)?;
        if !port.is_up() || !self.ports.get(end.port)?.is_up() {
            return None;
        }
        let theirs = *self.numbers.get(&(port.node, remote.address.number))?;
        let their_end = self.rails.get(&theirs.rail)?;
        let queue_pair = their_end.queue_pairs.get(theirs.queue_pair)?;
        let knows_me = queue_pair
            .peer
            .is_some_and(|peer| peer.port == end.port && peer.address == mine.address);
        let same = their_end.port == remote.port && queue_pair.address == remote.address;
        (knows_me && same && queue_pair.answers()).then_some(theirs)
    }

    fn allowed(&self, responder: Place, read: &Read) -> bool {
        self.rails.get(&responder.rail).is_some_and(|end| {
            end.windows.values().any(|window| {
                window.rkey == read.rkey
                    && window.allows(responder.queue_pair, read.remote, read.len)
            })
        })
    }

    /// Copies the first `bytes` of a READ that is allowed.
    fn copy(&mut self, responder: Place, read: &Read, bytes: usize) {
        let end = self.rails.get(&responder.rail);
        let window = end.and_then(|end| end.windows.values().find(|it| it.rkey == read.rkey));
        let (Some(window), true) = (window, bytes > 0) else { return };
        let mut lease = read.sink.lease();
        let Some(into) = lease.get_mut(read.at..read.at + bytes) else { return };
        let gaps = window.content.copy((read.remote - window.base) as usize, into);
        self.stats.gap_bytes += gaps as u64;
        let inside = self.published.get(&read.rkey).is_some_and(|it| {
            it.place == responder && read.remote >= it.base && read.remote + bytes as u64 <= it.end
        });
        if !inside {
            self.stats.bytes_outside += bytes as u64;
        }
        debug_assert!(inside, "a READ outside of what was published");
    }

    /// What a READ that fails does besides.
    fn break_off(&mut self, responder: Option<Place>, read: &Read, status: Status) {
        let partial = self.dice.falls(SimFault::Partial);
        let Some(responder) = responder else { return };
        let here = read.fits() && read.len > 0 && self.allowed(responder, read);
        if partial && here {
            let bytes = self.dice.rng.below(read.len as u64) as usize;
            self.copy(responder, read, bytes);
        }
        if status == Status::RemoteAccess {
            self.fail(responder, Some("refused its peer's access"));
        }
    }

    /// A queue pair is over; an event says so where no completion does.
    pub(super) fn fail(&mut self, place: Place, event: Option<&str>) {
        let Some(end) = self.rails.get_mut(&place.rail) else { return };
        let Some(mine) = end.queue_pairs.get_mut(place.queue_pair) else { return };
        if mine.state == State::Error {
            return;
        }
        mine.state = State::Error;
        let number = mine.address.number;
        if let Some(event) = event {
            end.trouble(format!("queue pair {number} {event}"), true);
        }
        self.note("queue pair", &[place.rail, place.queue_pair as u64]);
    }

    /// Something posted is over; its completion is on its way, unless it is lost.
    fn complete(&mut self, place: Place, work: Work, result: Result<(), Status>) {
        if let Err(status) = result {
            *self.stats.failed.entry(status.text()).or_default() += 1;
            self.fail(place, None);
        }
        let mut due = self.now + self.dice.between(self.config.completion_ticks);
        if self.dice.falls(SimFault::Late) {
            due += self.dice.between(self.config.late_ticks);
        }
        let lost = self.dice.falls(SimFault::Lost);
        let again = self.dice.falls(SimFault::Duplicate);
        let again = again.then(|| self.dice.between(self.config.late_ticks));
        let stale = self.stale(place);
        let spoil = match &work.kind {
            Kind::Read(read)
                if result.is_ok()
                    && !lost
                    && read.len > 0
                    && self.dice.falls(SimFault::AlteredAfter) =>
            {
                Some((Arc::clone(&read.sink), self.bit(read)))
            }
            _ => None,
        };
        let Some(end) = self.rails.get_mut(&place.rail) else { return };
        let Some(mine) = end.queue_pairs.get_mut(place.queue_pair) else { return };
        mine.completes = mine.completes.max(due);
        let (due, queue_pair, tag) = (mine.completes, place.queue_pair, work.tag);
        let coming = &mut end.completions.coming;
        if lost {
            end.lost.push(work.kind);
        } else {
            let kind = Some(work.kind);
            coming.push(Entry { queue_pair, tag, result, kind, due, spoil });
        }
        let echoes = again.map(|ticks| (tag, result, due + ticks));
        for (tag, result, due) in echoes.into_iter().chain(stale.map(|tag| (tag, Ok(()), due))) {
            coming.push(Entry { queue_pair, tag, result, kind: None, due, spoil: None });
        }
    }

    /// A tag of long ago, if one is to complete now.
    fn stale(&mut self, place: Place) -> Option<u64> {
        let port = self.rails.get(&place.rail)?.port;
        let tags = &self.ports.get(port)?.stale;
        if tags.is_empty() || !self.dice.falls(SimFault::Stale) {
            return None;
        }
        tags.get(self.dice.rng.below(tags.len() as u64) as usize).copied()
    }

    /// Moves completions that have arrived to where they can be polled.
    fn deliver(&mut self, rail: u64) {
        let (now, mut overrun) = (self.now, false);
        let Self { rails, dice, .. } = self;
        let Some(end) = rails.get_mut(&rail) else { return };
        let End { completions, bells, armed, .. } = end;
        while let Some(entry) = completions.arrival(now) {
            overrun |= completions.ready.len() >= completions.depth;
            overrun |= dice.falls(SimFault::Overrun);
            let (first, last) = (completions.earliest(entry.queue_pair), completions.ready.len());
            let place = if dice.falls(SimFault::Reordered) {
                dice.rng.between(first as u64, last as u64) as usize
            } else {
                last
            };
            completions.ready.insert(place, entry);
            if std::mem::take(armed)
                && let Some(bells) = bells
                && !dice.falls(SimFault::MissedWakeUp)
            {
                bells.completion.ring();
            }
        }
        if overrun && !end.completions.broken {
            end.completions.broken = true;
            end.trouble("the completion queue overflowed".to_owned(), true);
            for queue_pair in 0..end.queue_pairs.len() {
                self.fail(Place { rail, queue_pair }, None);
            }
        }
    }
}

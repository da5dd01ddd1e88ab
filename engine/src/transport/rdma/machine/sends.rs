//! The sending end: a window over each message's content, on the rail that is through first.

use bytes::Bytes;

use super::line::{Line, What};
use super::{Output, Rails, SendEnd, TRIAL_MS};
use crate::base::Instant;
use crate::base::limits::LEASE_BYTES;
use crate::transport::rdma::message::{Grant, Note, RANGES_MAX, Range};
use crate::transport::rdma::port::{Rail, Window};

/// Messages that the link below carries at once while no rail can: the rest waits for either, so
/// that a rail that comes back finds something to do.
const CARRIED_MAX: usize = 4;
/// How often content is tried on rails before it goes over the link below.
const TRIES_MAX: u32 = 4;
/// What a rail that has not been measured is taken to do if none has, in bytes per second.
const RATE_UNKNOWN: f64 = 1e9;

/// Content that is to be sent.
pub(super) struct Sending {
    header: Bytes,
    content: Vec<Bytes>,
    bytes: u64,
    /// The content's parts from its lowest address.
    ranges: Vec<Range>,
    tries: u32,
    place: Place,
    /// The link below carries it as well: nobody waits for it here.
    carried: bool,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Waiting,
    Opening { rail: u8, queue_pair: usize, window: Window },
    Granted { rail: u8, window: u32, grant: u64 },
}

/// The content's parts from its lowest address, neighbours joined. `None` if it is in no one lease.
fn ranges_of(content: &[Bytes]) -> Option<Vec<Range>> {
    let base = content.iter().map(|part| part.as_ptr() as u64).min()?;
    let mut ranges: Vec<Range> = Vec::with_capacity(content.len());
    for part in content {
        let offset = part.as_ptr() as u64 - base;
        let end = offset + part.len() as u64;
        if end > LEASE_BYTES as u64 {
            return None;
        }
        match ranges.last_mut() {
            Some(last) if u64::from(last.offset + last.len) == offset => {
                last.len += part.len() as u32;
            }
            _ => ranges.push(Range { offset: offset as u32, len: part.len() as u32 }),
        }
    }
    (ranges.len() <= RANGES_MAX).then_some(ranges)
}

impl<R: Rail> Rails<R> {
    /// Sends content that lies in the slab. `id` names it in [`Output::Sent`].
    pub(crate) fn send(&mut self, id: u64, header: Bytes, mut content: Vec<Bytes>, now: Instant) {
        self.now = now;
        content.retain(|part| !part.is_empty());
        let Some(ranges) = ranges_of(&content) else {
            return self.out.push_back(Output::Sent { id, end: SendEnd::Carry });
        };
        let bytes = content.iter().map(|part| part.len() as u64).sum();
        let place = Place::Waiting;
        let sending = Sending { header, content, bytes, ranges, tries: 0, place, carried: false };
        self.sends.insert(id, sending);
        self.waiting.push_back(id);
        self.pump();
    }

    /// Nobody waits for a send any more: the right to read it ends.
    pub(crate) fn unsend(&mut self, id: u64, now: Instant) {
        self.now = now;
        let Some(sending) = self.sends.remove(&id) else { return };
        self.trials.remove(&id);
        self.waiting.retain(|waiting| *waiting != id);
        match sending.place {
            // Closed when it opens.
            Place::Waiting | Place::Opening { .. } => {}
            Place::Granted { rail, window, grant } => {
                self.granted.remove(&grant);
                self.release(rail, sending.bytes, false);
                self.close(rail, window);
            }
        }
        self.pump();
    }

    /// Takes what waits to rails with room.
    pub(super) fn pump(&mut self) {
        loop {
            self.distribute();
            if self.ring() {
                return;
            }
        }
    }

    fn distribute(&mut self) {
        while let Some(&id) = self.waiting.front() {
            let Some(sending) = self.sends.get(&id) else {
                self.waiting.pop_front();
                continue;
            };
            let (bytes, tries) = (sending.bytes, sending.tries);
            if tries >= TRIES_MAX {
                if !self.carry(id) {
                    break;
                }
            } else if let Some(number) = self.best_line(bytes) {
                self.waiting.pop_front();
                self.open_window(id, number);
            } else if self.settled && !self.lines.values().any(|l| l.is_ready() && !l.on_trial()) {
                if !self.carry(id) {
                    break;
                }
            } else {
                break;
            }
        }
    }

    /// Hands a send back for the link below, if that has room.
    fn carry(&mut self, id: u64) -> bool {
        if self.carrying.len() >= CARRIED_MAX {
            return false;
        }
        self.waiting.retain(|waiting| *waiting != id);
        self.trials.remove(&id);
        if self.sends.remove(&id).is_some_and(|sending| !sending.carried) {
            self.carrying.insert(id);
            self.out.push_back(Output::Sent { id, end: SendEnd::Carry });
        }
        true
    }

    /// The link below has taken what was handed to it.
    pub(crate) fn carried(&mut self, id: u64, now: Instant) {
        self.now = now;
        self.carrying.remove(&id);
        self.pump();
    }

    /// Has the link below carry, too, what rails on trial have not carried in time.
    pub(super) fn carry_trials(&mut self) {
        let now = self.now;
        let sends = &mut self.sends;
        let out = &mut self.out;
        self.trials.retain(|id, until| {
            if now < *until {
                return true;
            }
            if let Some(sending) = sends.get_mut(id).filter(|sending| !sending.carried) {
                sending.carried = true;
                out.push_back(Output::Sent { id: *id, end: SendEnd::Carry });
            }
            false
        });
    }

    /// The rail that would have `bytes` through first.
    fn best_line(&self, bytes: u64) -> Option<u8> {
        let measured = self.lines.values().map(Line::measured).fold(0.0, f64::max);
        let unmeasured = if measured > 0.0 { measured } else { RATE_UNKNOWN };
        let mut best = None;
        for (number, line) in self.lines.iter().filter(|(_, line)| line.has_room()) {
            let finish = line.finish_s(bytes, unmeasured);
            if best.is_none_or(|(least, _)| finish < least) {
                best = Some((finish, *number));
            }
        }
        best.map(|(_, number)| number)
    }

    fn open_window(&mut self, id: u64, number: u8) {
        let (tag, now) = (self.tag(), self.now);
        let (Some(line), Some(sending)) = (self.lines.get_mut(&number), self.sends.get_mut(&id))
        else {
            return;
        };
        if line.on_trial() {
            self.trials.insert(id, now.plus_ms(TRIAL_MS));
        }
        let queue_pair = line.next_queue_pair();
        let content = sending.content.clone();
        let opening = line.device().and_then(|rail| rail.open_window(queue_pair, tag, content));
        match opening {
            Ok(window) => {
                sending.place = Place::Opening { rail: number, queue_pair, window };
                line.post(
                    tag,
                    What::Open { send: id, window: window.id, bytes: sending.bytes },
                    now,
                );
                line.granted(sending.bytes, now);
                line.ringing = true;
            }
            Err(error) => {
                sending.tries += 1;
                self.waiting.push_front(id);
                self.take_down(number, &error.what, true);
            }
        }
    }

    /// A window can be read through: the peer is told.
    pub(super) fn opened(&mut self, number: u8, send: u64, window_id: u32, bytes: u64) {
        let Some(epoch) = self.lines.get(&number).map(|line| line.epoch) else { return };
        let Some(sending) = self.sends.get_mut(&send) else {
            self.release(number, bytes, false);
            return self.close(number, window_id);
        };
        let Place::Opening { rail, queue_pair, window } = sending.place else { return };
        let grant = self.next_grant;
        self.next_grant += 1;
        sending.place = Place::Granted { rail, window: window.id, grant };
        let message = Grant {
            id: grant,
            rail: number,
            epoch,
            queue_pair: queue_pair as u8,
            rkey: window.rkey,
            base: window.base,
            ranges: sending.ranges.clone(),
            header: sending.header.clone(),
        };
        if message.encoded_len() > self.setup.header_bytes_max {
            self.release(number, bytes, false);
            self.close(number, window_id);
            self.sends.remove(&send);
            return self.out.push_back(Output::Sent { id: send, end: SendEnd::Carry });
        }
        self.granted.insert(grant, send);
        self.out.push_back(Output::Grant(message));
    }

    /// The peer needs a grant no more.
    pub(super) fn done(&mut self, grant: u64, again: bool) {
        let Some(id) = self.granted.remove(&grant) else { return };
        let Some(sending) = self.sends.get_mut(&id) else { return };
        let (bytes, place) = (sending.bytes, sending.place);
        let Place::Granted { rail, window, .. } = place else { return };
        let carried = sending.carried;
        self.trials.remove(&id);
        if again && !carried {
            sending.tries += 1;
            sending.place = Place::Waiting;
            self.waiting.push_front(id);
        } else {
            self.sends.remove(&id);
            if !carried {
                self.out.push_back(Output::Sent { id, end: SendEnd::Done });
            }
        }
        self.release(rail, bytes, !again);
        self.close(rail, window);
    }

    fn release(&mut self, number: u8, bytes: u64, through: bool) {
        let now = self.now;
        if let Some(line) = self.lines.get_mut(&number) {
            line.released(bytes, through, now);
        }
    }

    fn close(&mut self, number: u8, window: u32) {
        let (tag, now) = (self.tag(), self.now);
        let Some(line) = self.lines.get_mut(&number) else { return };
        match line.device().and_then(|rail| rail.close_window(tag, window)) {
            Ok(()) => {
                line.post(tag, What::Close, now);
                line.ringing = true;
            }
            Err(error) => self.take_down(number, &error.what, true),
        }
    }

    /// A rail is down: what was on it waits for another one, before everything else.
    pub(super) fn replace_sends(&mut self, number: u8) {
        let trials = &mut self.trials;
        for (id, sending) in self.sends.iter_mut().rev() {
            let rail = match sending.place {
                Place::Waiting => continue,
                Place::Opening { rail, .. } => rail,
                Place::Granted { rail, grant, .. } => {
                    if rail == number {
                        self.granted.remove(&grant);
                    }
                    rail
                }
            };
            if rail == number {
                trials.remove(id);
                sending.tries += 1;
                sending.place = Place::Waiting;
                if !sending.carried {
                    self.waiting.push_front(*id);
                }
            }
        }
        let waits = |sending: &Sending| matches!(sending.place, Place::Waiting);
        self.sends.retain(|_, sending| !(sending.carried && waits(sending)));
    }

    /// Tells the devices of everything that was posted; false if one would not have it.
    fn ring(&mut self) -> bool {
        let mut broken: Vec<(u8, String)> = Vec::new();
        for (number, line) in &mut self.lines {
            if std::mem::take(&mut line.ringing)
                && let Err(error) = line.device().and_then(Rail::ring)
            {
                broken.push((*number, error.what));
            }
        }
        for (number, what) in &broken {
            self.take_down(*number, what, true);
        }
        broken.is_empty()
    }

    /// Tells the peer that a grant of its is not needed any more.
    pub(super) fn tell_done(&mut self, grant: u64, again: bool) {
        self.out.push_back(Output::Tell(Note::Done { grant, again }));
    }
}

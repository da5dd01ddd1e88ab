//! What the two ends of an RDMA session tell each other over the link that carries it.
//!
//! Each is the header of a data message there; all numbers little endian. `docs/transports.md`
//! draws them and says what happens when they are late, lost, doubled or wrong.

use bytes::{BufMut, Bytes, BytesMut};

use super::port::QpAddress;
use crate::base::human::escaped;
use crate::base::limits::{LEASE_BYTES, RUN_PIECES_MAX};

/// Most rails of a session.
pub(crate) const RAILS_MAX: usize = 16;
/// Most queue pairs of a rail.
pub(crate) const QUEUE_PAIRS_MAX: usize = 16;
/// Most ranges that one grant covers: every second piece of the largest run.
pub(crate) const RANGES_MAX: usize = RUN_PIECES_MAX / 2 + 1;
/// Longest words about a trouble, in bytes.
const WHY_BYTES_MAX: usize = 400;

const CONTENT: u8 = 0;
const GRANT: u8 = 1;
const NOTES: u8 = 2;

const SETUP: u8 = 1;
const ANSWER: u8 = 2;
const UP: u8 = 3;
const DOWN: u8 = 4;
const DONE: u8 = 5;

/// A part of what a window shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    /// First byte, from the window's base.
    pub(crate) offset: u32,
    /// How many bytes; never 0.
    pub(crate) len: u32,
}

/// The right to read one message's content, until it is done or the rail's epoch ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Counts the grants of one end of a session.
    pub(crate) id: u64,
    /// The rail.
    pub(crate) rail: u8,
    /// Which life of the rail.
    pub(crate) epoch: u32,
    /// The queue pair that the window is bound to.
    pub(crate) queue_pair: u8,
    /// The window's key.
    pub(crate) rkey: u32,
    /// The window's lowest address.
    pub(crate) base: u64,
    /// What to read, in the order of the content; disjoint, and one lease in all at most.
    pub(crate) ranges: Vec<Range>,
    /// The data message's header.
    pub(crate) header: Bytes,
}

impl Grant {
    /// Length of the content.
    pub(crate) fn bytes(&self) -> usize {
        self.ranges.iter().map(|range| range.len as usize).sum()
    }
}

/// What is said about rails and grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// The leading end begins a new life of a rail.
    Setup {
        /// The rail.
        rail: u8,
        /// The new life; it rises.
        epoch: u32,
        /// The sender's port: its place among those that the greeting named.
        mine: u8,
        /// The receiver's port.
        yours: u8,
        /// The sender's queue pairs.
        queue_pairs: Vec<QpAddress>,
    },
    /// The other end has connected its queue pairs.
    Answer {
        /// The rail.
        rail: u8,
        /// Its life.
        epoch: u32,
        /// The sender's queue pairs.
        queue_pairs: Vec<QpAddress>,
    },
    /// The leading end has connected its own: the rail can be used.
    Up {
        /// The rail.
        rail: u8,
        /// Its life.
        epoch: u32,
    },
    /// This life of a rail is over.
    Down {
        /// The rail.
        rail: u8,
        /// Its life.
        epoch: u32,
        /// Why.
        why: String,
    },
    /// A grant is not needed any more.
    Done {
        /// The grant.
        grant: u64,
        /// Whether the content has to come another way; else it has arrived, or is not wanted.
        again: bool,
    },
}

/// A decoded header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// The content follows in the message itself; this many bytes of its header are ours.
    Content(usize),
    /// The content is to be read.
    Grant(Grant),
    /// Notes, in order.
    Notes(Vec<Note>),
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} of an RDMA message is wrong")]
pub(crate) struct MessageError {
    /// Which part.
    pub(crate) field: &'static str,
}

fn wrong<T>(field: &'static str) -> Result<T, MessageError> {
    Err(MessageError { field })
}

/// The header of a message whose content travels in it.
pub(crate) fn content_header(header: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + header.len());
    out.put_u8(CONTENT);
    out.put_slice(header);
    out.freeze()
}

impl Grant {
    /// Bytes of the encoded grant.
    pub(crate) fn encoded_len(&self) -> usize {
        1 + 8 + 1 + 4 + 1 + 4 + 8 + 2 + 8 * self.ranges.len() + self.header.len()
    }

    /// The grant's bytes.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        out.put_u8(GRANT);
        out.put_u64_le(self.id);
        out.put_u8(self.rail);
        out.put_u32_le(self.epoch);
        out.put_u8(self.queue_pair);
        out.put_u32_le(self.rkey);
        out.put_u64_le(self.base);
        out.put_u16_le(self.ranges.len() as u16);
        for range in &self.ranges {
            out.put_u32_le(range.offset);
            out.put_u32_le(range.len);
        }
        out.put_slice(&self.header);
        out.freeze()
    }

    fn decode(mut input: Input<'_>) -> Result<Self, MessageError> {
        let (id, rail, epoch) = (input.u64()?, input.index(RAILS_MAX)?, input.u32()?);
        let (queue_pair, rkey) = (input.index(QUEUE_PAIRS_MAX)?, input.u32()?);
        let (base, count) = (input.u64()?, usize::from(input.u16()?));
        if count == 0 || count > RANGES_MAX {
            return wrong("the number of ranges");
        }
        let mut ranges = Vec::with_capacity(count);
        let mut bytes = 0;
        for _ in 0..count {
            let range = Range { offset: input.u32()?, len: input.u32()? };
            let end = u64::from(range.offset) + u64::from(range.len);
            bytes += u64::from(range.len);
            if range.len == 0 || end > LEASE_BYTES as u64 || bytes > LEASE_BYTES as u64 {
                return wrong("a range");
            }
            ranges.push(range);
        }
        if base.checked_add(LEASE_BYTES as u64).is_none() {
            return wrong("the base");
        }
        let header = Bytes::copy_from_slice(input.0);
        Ok(Self { id, rail, epoch, queue_pair, rkey, base, ranges, header })
    }
}

impl Note {
    /// Adds the note's bytes.
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Setup { rail, epoch, mine, yours, queue_pairs } => {
                put_head(out, SETUP, *rail, *epoch);
                out.put_u8(*mine);
                out.put_u8(*yours);
                put_queue_pairs(out, queue_pairs);
            }
            Self::Answer { rail, epoch, queue_pairs } => {
                put_head(out, ANSWER, *rail, *epoch);
                put_queue_pairs(out, queue_pairs);
            }
            Self::Up { rail, epoch } => put_head(out, UP, *rail, *epoch),
            Self::Down { rail, epoch, why } => {
                put_head(out, DOWN, *rail, *epoch);
                let why = &why.as_bytes()[..why.floor_char_boundary(WHY_BYTES_MAX)];
                out.put_u16_le(why.len() as u16);
                out.put_slice(why);
            }
            Self::Done { grant, again } => {
                out.put_u8(DONE);
                out.put_u64_le(*grant);
                out.put_u8(u8::from(*again));
            }
        }
    }

    fn take(input: &mut Input<'_>) -> Result<Self, MessageError> {
        let kind = input.u8()?;
        if kind == DONE {
            let grant = input.u64()?;
            return match input.u8()? {
                again @ 0..=1 => Ok(Self::Done { grant, again: again == 1 }),
                _ => wrong("a grant's end"),
            };
        }
        let (rail, epoch) = (input.index(RAILS_MAX)?, input.u32()?);
        match kind {
            SETUP => {
                let (mine, yours) = (input.index(RAILS_MAX)?, input.index(RAILS_MAX)?);
                let queue_pairs = input.queue_pairs()?;
                Ok(Self::Setup { rail, epoch, mine, yours, queue_pairs })
            }
            ANSWER => Ok(Self::Answer { rail, epoch, queue_pairs: input.queue_pairs()? }),
            UP => Ok(Self::Up { rail, epoch }),
            DOWN => {
                let len = usize::from(input.u16()?);
                if len > WHY_BYTES_MAX {
                    return wrong("the length of a reason");
                }
                Ok(Self::Down { rail, epoch, why: escaped(input.bytes(len)?) })
            }
            _ => wrong("a note's kind"),
        }
    }
}

fn put_head(out: &mut BytesMut, kind: u8, rail: u8, epoch: u32) {
    out.put_u8(kind);
    out.put_u8(rail);
    out.put_u32_le(epoch);
}

fn put_queue_pairs(out: &mut BytesMut, queue_pairs: &[QpAddress]) {
    out.put_u8(queue_pairs.len() as u8);
    for queue_pair in queue_pairs {
        out.put_u32_le(queue_pair.number);
        out.put_u32_le(queue_pair.psn);
    }
}

/// As many notes from the front as fit `room` bytes, encoded as one header; at least one.
pub(crate) fn encode_notes(notes: &mut Vec<Note>, room: usize) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(NOTES);
    let mut taken = 0;
    for note in notes.iter() {
        let before = out.len();
        note.put(&mut out);
        if taken > 0 && out.len() > room {
            out.truncate(before);
            break;
        }
        taken += 1;
    }
    notes.drain(..taken);
    out.freeze()
}

impl Message {
    /// Decodes a header; every number is checked against its bound.
    ///
    /// # Errors
    /// Which part is wrong.
    pub(crate) fn decode(header: &[u8]) -> Result<Self, MessageError> {
        let mut input = Input(header);
        match input.u8()? {
            CONTENT => Ok(Self::Content(1)),
            GRANT => Grant::decode(input).map(Self::Grant),
            NOTES => {
                let mut notes = Vec::new();
                while !input.0.is_empty() {
                    notes.push(Note::take(&mut input)?);
                }
                Ok(Self::Notes(notes))
            }
            _ => wrong("the kind"),
        }
    }
}

/// What is left to decode.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], MessageError> {
        let Some((taken, rest)) = self.0.split_at_checked(len) else { return wrong("the length") };
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let Some((taken, rest)) = self.0.split_first_chunk() else { return wrong("the length") };
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, MessageError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, MessageError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, MessageError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, MessageError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number below `end`.
    fn index(&mut self, end: usize) -> Result<u8, MessageError> {
        let index = self.u8()?;
        if usize::from(index) < end { Ok(index) } else { wrong("a number") }
    }

    fn queue_pairs(&mut self) -> Result<Vec<QpAddress>, MessageError> {
        let count = usize::from(self.u8()?);
        if count == 0 || count > QUEUE_PAIRS_MAX {
            return wrong("the number of queue pairs");
        }
        let mut queue_pairs = Vec::with_capacity(count);
        for _ in 0..count {
            let queue_pair = QpAddress { number: self.u32()?, psn: self.u32()? };
            if queue_pair.number >> 24 != 0 || queue_pair.psn >> 24 != 0 {
                return wrong("a queue pair");
            }
            queue_pairs.push(queue_pair);
        }
        Ok(queue_pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Note> {
        let queue_pairs = vec![QpAddress { number: 17, psn: 0xff_ffff }; 3];
        vec![
            Note::Setup { rail: 1, epoch: 7, mine: 0, yours: 15, queue_pairs: queue_pairs.clone() },
            Note::Answer { rail: 15, epoch: u32::MAX, queue_pairs },
            Note::Up { rail: 0, epoch: 1 },
            Note::Down { rail: 2, epoch: 2, why: "port down".to_owned() },
            Note::Done { grant: u64::MAX, again: true },
            Note::Done { grant: 0, again: false },
        ]
    }

    #[test]
    fn notes_come_back_and_split_where_there_is_no_more_room() {
        let mut notes = samples();
        let whole = encode_notes(&mut notes, usize::MAX);
        assert!(notes.is_empty());
        assert_eq!(Message::decode(&whole), Ok(Message::Notes(samples())));
        let (mut notes, mut back) = (samples(), Vec::new());
        while !notes.is_empty() {
            let part = encode_notes(&mut notes, 40);
            match Message::decode(&part).expect("a message") {
                Message::Notes(part) => back.extend(part),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(back, samples());
        for cut in 1..whole.len() {
            let _ = Message::decode(&whole[..cut]);
        }
    }

    #[test]
    fn grants_come_back_and_ranges_stay_in_a_lease() {
        let grant = Grant {
            id: 9,
            rail: 3,
            epoch: 4,
            queue_pair: 1,
            rkey: 0xdead_beef,
            base: 0x7fff_0000_0000,
            ranges: vec![Range { offset: 5, len: 7 }, Range { offset: 100, len: 1 }],
            header: Bytes::from_static(b"header"),
        };
        let bytes = grant.encode();
        assert_eq!(bytes.len(), grant.encoded_len());
        assert_eq!(Message::decode(&bytes), Ok(Message::Grant(grant.clone())));
        let half = LEASE_BYTES as u32 / 2 + 1;
        let outside: [&[Range]; 4] = [
            &[],
            &[Range { offset: 0, len: 0 }],
            &[Range { offset: LEASE_BYTES as u32, len: 1 }],
            &[Range { offset: 0, len: half }, Range { offset: 0, len: half }],
        ];
        for ranges in outside {
            let bad = Grant { ranges: ranges.to_vec(), ..grant.clone() };
            assert!(Message::decode(&bad.encode()).is_err(), "{ranges:?}");
        }
        let wrapping = Grant { base: u64::MAX - 5, ..grant };
        assert!(Message::decode(&wrapping.encode()).is_err());
    }
}

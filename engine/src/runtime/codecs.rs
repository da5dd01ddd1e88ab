//! What a node's transfers encode and decode content with, and how many processors they may take
//! for it.
//!
//! Encoding is worth its time where processors are idle. So how many messages may be encoded at
//! once rises while some are, and falls to none while all are busy: then the processors are what a
//! transfer waits for, not the link.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::buf::Lease;
use crate::encode::{CONTENT_BYTES_MAX, DecodeError, Decoder, Encoder};
use crate::runtime::idle::IdleClock;
use crate::wire::Coded;

/// Most messages that are encoded at once, and most that are decoded at once; an encoder takes
/// about 10 MiB, a decoder 6 MiB.
const CODERS_MAX: usize = 8;
/// How long processors are watched before the number of encoders changes.
const WATCH: Duration = Duration::from_millis(250);
/// A longer time says nothing of now.
const STALE: Duration = Duration::from_secs(2);
/// Part of the processors that must be idle, and most of one at least, for one more message to be
/// encoded at once. A path that is short of processors still leaves some idle, between its steps.
const IDLE_ENOUGH: f64 = 0.4;
/// Idle processors that one more encoder needs.
const IDLE_EACH: f64 = 0.6;
/// Part of the processors below which one message less may be encoded at once.
const IDLE_SCARCE: f64 = 0.15;

/// Encoders and decoders of a node.
pub struct Codecs {
    /// Processors of this machine.
    processors: usize,
    /// Most encoders at once.
    most: usize,
    budget: Mutex<Budget>,
    /// Something changed that a message may wait for before it is encoded.
    pub(super) changed: Notify,
    encoders: Mutex<Vec<EncoderRoom>>,
    decoders: Mutex<Vec<DecoderRoom>>,
    /// Permits to decode.
    decoding: Arc<Semaphore>,
}

/// An encoder with its buffers.
#[derive(Default)]
struct EncoderRoom {
    encoder: Encoder,
    out: Vec<u8>,
    base: Vec<u8>,
}

/// A decoder with its buffers.
#[derive(Default)]
struct DecoderRoom {
    decoder: Decoder,
    encoded: Vec<u8>,
    base: Vec<u8>,
}

/// Fills a buffer, as long as the content, with what that is a difference to; `false` if that cannot be had.
pub(super) type ReadBase<'a> = &'a dyn Fn(&mut [u8]) -> bool;
/// As [`ReadBase`]; what copied blocks come from has a length of its own.
pub(super) type ReadBlocks<'a> = &'a dyn Fn(&mut Vec<u8>) -> bool;

struct Budget {
    /// Encoders that may run; `None` until processors were watched.
    allowed: Option<usize>,
    running: usize,
    clock: IdleClock,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Codecs {
    fn default() -> Self {
        Self::new()
    }
}

impl Codecs {
    /// Codecs for the processors of this machine; they take memory when they are used.
    pub fn new() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let most = processors.min(CODERS_MAX);
        Self {
            processors,
            most,
            budget: Mutex::new(Budget { allowed: None, running: 0, clock: IdleClock::default() }),
            changed: Notify::new(),
            encoders: Mutex::default(),
            decoders: Mutex::default(),
            decoding: Arc::new(Semaphore::new(most)),
        }
    }

    /// Asks for one of the encoders; it must be given back with [`done`](Self::done). With `always`
    /// all of them may run. `far` says that the link is a long one: until processors were watched,
    /// all may run there, and none elsewhere.
    pub(super) fn ask(&self, always: bool, far: bool) -> Asked {
        let budget = &mut *lock(&self.budget);
        if let Some(idle) = budget.clock.idle(Instant::now(), WATCH, STALE) {
            let before = budget.allowed.unwrap_or(if far { self.most } else { 0 });
            budget.allowed = Some(adapted(before, idle, self.processors).min(self.most));
        }
        let allowed = match budget.allowed {
            _ if always => self.most,
            None if far => self.most,
            allowed => allowed.unwrap_or(0),
        };
        if budget.running < allowed {
            budget.running += 1;
            Asked::Granted
        } else if allowed == 0 {
            Asked::Never
        } else {
            Asked::Later
        }
    }

    /// An encoder is free again.
    pub(super) fn done(&self) {
        lock(&self.budget).running -= 1;
        self.changed.notify_waiters();
    }

    /// Encodes content if that saves enough; as a difference to what `base` gives if that saves most.
    /// What comes out has memory of its own: in a lease, however short it is, it would keep out what is
    /// still to be read. Takes time.
    pub(super) fn encode(
        &self,
        parts: &[Bytes],
        base: Option<ReadBase<'_>>,
    ) -> Option<(Coded, Bytes)> {
        let mut with = lock(&self.encoders).pop().unwrap_or_default();
        with.out.resize(CONTENT_BYTES_MAX, 0);
        let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let base = base.filter(|read| {
            with.base.resize(len, 0);
            read(&mut with.base)
        });
        let base = base.map(|_| &with.base[..]);
        let encoding = match base {
            None => with.encoder.probe(&parts),
            Some(base) => with.encoder.probe_to(&parts, base),
        };
        let encoded = with.encoder.encode(encoding, &parts, base, &mut with.out);
        let content = encoded.map(|encoded| {
            let coded = Coded { encoding: encoded.encoding, len: len as u32 };
            (coded, Bytes::copy_from_slice(&with.out[..encoded.len]))
        });
        lock(&self.encoders).push(with);
        content
    }

    /// The right to decode one message, held meanwhile.
    pub(super) async fn may_decode(self: &Arc<Self>) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.decoding).acquire_owned().await.ok()
    }

    /// Decodes the first `len` bytes of a lease in place; returns how many there are then. A difference
    /// to what `base` cannot give comes out as zeros, whose digests are wrong. Takes time.
    pub(super) fn decode(
        &self,
        lease: &mut Lease,
        len: usize,
        coded: Coded,
        base: Option<ReadBlocks<'_>>,
    ) -> Result<usize, DecodeError> {
        let mut with = lock(&self.decoders).pop().unwrap_or_default();
        let bytes = coded.len as usize;
        let base = base.map(|read| {
            with.base.resize(bytes, 0);
            read(&mut with.base)
        });
        let done = if base == Some(false) {
            lease[..bytes].fill(0);
            Ok(())
        } else {
            with.encoded.clear();
            with.encoded.extend_from_slice(&lease[..len]);
            let base = base.map(|_| &with.base[..]);
            with.decoder.decode(coded.encoding, &with.encoded, base, &mut lease[..bytes])
        };
        lock(&self.decoders).push(with);
        done.map(|()| bytes)
    }
}

/// What becomes of a wish to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Now; the encoder must be given back.
    Granted,
    /// When another message is done.
    Later,
    /// Not now: processors are busy.
    Never,
}

/// How many encoders may run at once, after as many of the processors were idle with `before`.
fn adapted(before: usize, idle: f64, processors: usize) -> usize {
    let all = processors as f64;
    if idle >= IDLE_EACH.max(IDLE_ENOUGH * all) {
        // From none at once to what is idle: a short transfer does not wait for it step by step.
        if before == 0 { (idle / IDLE_EACH) as usize } else { before + 1 }
    } else if idle < IDLE_SCARCE * all {
        before.saturating_sub(1)
    } else {
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::LEASE_BYTES;
    use crate::buf::Slab;
    use crate::encode::Encoding;

    #[test]
    fn encoders_follow_idle_processors() {
        assert_eq!(adapted(0, 1.3, 2), 2);
        assert_eq!(adapted(0, 0.7, 2), 0);
        assert_eq!(adapted(1, 0.9, 2), 2);
        assert_eq!(adapted(1, 0.4, 2), 1);
        assert_eq!(adapted(1, 0.2, 2), 0);
        assert_eq!(adapted(0, 0.0, 2), 0);
        assert_eq!(adapted(0, 0.7, 1), 1);
        assert_eq!(adapted(0, 0.5, 1), 0);
        assert_eq!(adapted(0, 4.0, 8), 6);
        assert_eq!(adapted(6, 3.0, 8), 6);
        assert_eq!(adapted(6, 1.1, 8), 5);
    }

    #[test]
    fn encoders_are_lent_up_to_their_number_and_come_back() {
        let codecs = Codecs { most: 2, ..Codecs::new() };
        let ask = || codecs.ask(true, false);
        assert_eq!([ask(), ask(), ask()], [Asked::Granted, Asked::Granted, Asked::Later]);
        codecs.done();
        assert_eq!(ask(), Asked::Granted);
        // On a short link nothing is encoded before processors were watched; on a long one all may.
        let codecs = Codecs { most: 1, ..Codecs::new() };
        assert_eq!(codecs.ask(false, false), Asked::Never);
        assert_eq!(codecs.ask(false, true), Asked::Granted);
        assert_eq!(codecs.ask(false, true), Asked::Later);
    }

    #[test]
    fn content_comes_back_in_the_lease_that_it_came_in() {
        let (codecs, slab) = (Codecs::new(), Slab::new(0));
        let text: Vec<u8> = (0..100_000_u32).flat_map(|n| format!("{n} ").into_bytes()).collect();
        let parts = [Bytes::copy_from_slice(&text[..3]), Bytes::copy_from_slice(&text[3..])];
        let (coded, content) = codecs.encode(&parts, None).expect("text gets smaller");
        assert_eq!(coded.len as usize, text.len());
        assert!(content.len() * 2 < text.len(), "{} bytes", content.len());
        let mut lease = slab.try_lease().expect("a lease");
        lease.align_to(77);
        lease[..content.len()].copy_from_slice(&content);
        assert_eq!(codecs.decode(&mut lease, content.len(), coded, None), Ok(text.len()));
        assert_eq!(&lease[..text.len()], text);
        // What does not decode is an error, and the memory is used again all the same.
        let wrong = Coded { len: coded.len - 1, ..coded };
        lease[..content.len()].copy_from_slice(&content);
        assert!(codecs.decode(&mut lease, content.len(), wrong, None).is_err());
        let random = Coded { encoding: Encoding::Zstd, len: LEASE_BYTES as u32 };
        assert!(codecs.decode(&mut lease, 1000, random, None).is_err());
        lease[..content.len()].copy_from_slice(&content);
        assert_eq!(codecs.decode(&mut lease, content.len(), coded, None), Ok(text.len()));
    }

    #[test]
    fn what_does_not_get_smaller_is_left_as_it_is() {
        let codecs = Codecs::new();
        let random = crate::sim::rng::Rng::new(1).bytes(300_000);
        assert!(codecs.encode(&[random.into()], None).is_none());
        let zeros = [Bytes::from(vec![0; 100_000])];
        assert!(codecs.encode(&zeros, None).is_some());
    }
}

//! Sessions inside one process, as cruel as they are told to be: for tests and the simulation.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::{CARRIER_HEADER_BYTES_MAX, Incoming, Link, LinkError, Peer, WireMeter};
use crate::base::human::escaped;
use crate::base::limits::{FRAME_BYTES_MAX, LEASE_BYTES};
use crate::buf::Lease;

/// What is said to have passed when a cut session ends: the idle limit of a real transport.
const CUT_IDLE: Duration = Duration::from_secs(10);

/// How a pair of memory links behaves. The same configuration and the same calls in the same order
/// give the same behaviour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Decides the order in which data messages arrive.
    pub seed: u64,
    /// Frames on the way per direction; a sender waits for room. At least 1.
    pub frames_max: usize,
    /// Data messages on the way per direction; a sender waits for room. At least 1.
    pub data_max: usize,
    /// Whether data messages overtake each other.
    pub reorder: bool,
    /// The session is cut without a word once this many messages, frames and data of both
    /// directions, were sent: the next one is lost, and with it all that is on the way.
    pub cut_after: Option<u64>,
    /// The data message of this number, counted from 0 over both directions, arrives with half of
    /// its content.
    pub truncate: Option<u64>,
    /// The data message of this number arrives twice.
    pub duplicate: Option<u64>,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            frames_max: 8,
            data_max: 8,
            reorder: true,
            cut_after: None,
            truncate: None,
            duplicate: None,
        }
    }
}

/// Two ends of a session inside one process. The first belongs to a node that sees `first_sees`
/// as its peer, the second to one that sees `second_sees`.
pub fn memory_pair(
    first_sees: Peer,
    second_sees: Peer,
    config: MemoryConfig,
) -> (MemoryLink, MemoryLink) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State { random: config.seed, ..State::default() }),
        changed: Notify::new(),
        config,
    });
    let end = |side, peer| MemoryLink(Arc::new(End { side, peer, shared: Arc::clone(&shared) }));
    (end(0, first_sees), end(1, second_sees))
}

/// One end of a session in memory. When the last clone is dropped, so is the session.
#[derive(Clone)]
pub struct MemoryLink(Arc<End>);

struct End {
    side: usize,
    peer: Peer,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    config: MemoryConfig,
}

#[derive(Default)]
struct State {
    /// What is on the way to each side.
    inboxes: [Inbox; 2],
    /// Why each side may send and receive no more.
    ended: [Option<LinkError>; 2],
    /// Bytes each side has sent.
    sent: [u64; 2],
    messages: u64,
    data_messages: u64,
    random: u64,
}

#[derive(Default)]
struct Inbox {
    frames: VecDeque<Bytes>,
    data: Vec<MemoryIncoming>,
}

impl State {
    /// The next number of a splitmix64 sequence (Steele, Lea and Flood, 2014).
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Counts a message of `bytes`; false if the session was cut instead.
    fn count(&mut self, side: usize, bytes: usize, config: &MemoryConfig) -> bool {
        if config.cut_after.is_some_and(|limit| self.messages >= limit) {
            self.inboxes = Default::default();
            self.ended = [const { Some(LinkError::TimedOut { idle: CUT_IDLE }) }; 2];
            return false;
        }
        self.messages += 1;
        self.sent[side] += bytes as u64;
        true
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries `step` now and after every change until it gives a result.
    async fn until<T>(&self, mut step: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Before the look, so that no change falls between the look and the wait.
            changed.as_mut().enable();
            if let Some(result) = step(&mut self.state()) {
                self.changed.notify_waiters();
                return result;
            }
            changed.await;
        }
    }

    /// Ends the session from `side`; what it sent before can still be received.
    fn end(&self, side: usize, reason: &str) {
        let mut state = self.state();
        state.ended[side].get_or_insert(LinkError::Local);
        let reason = escaped(reason.as_bytes());
        state.ended[1 - side].get_or_insert(LinkError::Closed { reason });
        drop(state);
        self.changed.notify_waiters();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.shared.end(self.side, "the session was dropped");
    }
}

impl Link for MemoryLink {
    type Incoming = MemoryIncoming;
    const HEADER_BYTES_MAX: usize = CARRIER_HEADER_BYTES_MAX;

    fn peer(&self) -> &Peer {
        &self.0.peer
    }

    fn name(&self) -> &'static str {
        "memory"
    }

    async fn send(&self, frame: Bytes) -> Result<(), LinkError> {
        if frame.len() > FRAME_BYTES_MAX {
            let detail =
                format!("a frame of {} bytes, at most {FRAME_BYTES_MAX} are accepted", frame.len());
            return Err(LinkError::Protocol { detail });
        }
        let (side, shared) = (self.0.side, &self.0.shared);
        shared
            .until(|state| {
                if let Some(ended) = &state.ended[side] {
                    return Some(Err(ended.clone()));
                }
                if state.inboxes[1 - side].frames.len() >= shared.config.frames_max.max(1) {
                    return None;
                }
                if state.count(side, frame.len(), &shared.config) {
                    state.inboxes[1 - side].frames.push_back(frame.clone());
                }
                Some(Ok(()))
            })
            .await
    }

    async fn recv(&self) -> Result<Bytes, LinkError> {
        let side = self.0.side;
        self.0
            .shared
            .until(|state| match state.inboxes[side].frames.pop_front() {
                Some(frame) => Some(Ok(frame)),
                None => state.ended[side].clone().map(Err),
            })
            .await
    }

    async fn send_data(&self, header: Bytes, content: Vec<Bytes>) -> Result<(), LinkError> {
        let content_bytes = content.iter().map(Bytes::len).sum();
        if header.len() > Self::HEADER_BYTES_MAX || content_bytes > LEASE_BYTES {
            let detail = format!("a data message of {} + {content_bytes} bytes", header.len());
            return Err(LinkError::Protocol { detail });
        }
        let (side, shared) = (self.0.side, &self.0.shared);
        let message = MemoryIncoming { header, content, content_bytes };
        shared
            .until(|state| {
                if let Some(ended) = &state.ended[side] {
                    return Some(Err(ended.clone()));
                }
                if state.inboxes[1 - side].data.len() >= shared.config.data_max.max(1) {
                    return None;
                }
                let bytes = message.header.len() + content_bytes;
                if state.count(side, bytes, &shared.config) {
                    let number = Some(state.data_messages);
                    state.data_messages += 1;
                    let inbox = &mut state.inboxes[1 - side].data;
                    inbox.push(message.clone());
                    if shared.config.truncate == number {
                        inbox.iter_mut().next_back().into_iter().for_each(MemoryIncoming::truncate);
                    }
                    if shared.config.duplicate == number {
                        inbox.push(message.clone());
                    }
                }
                Some(Ok(()))
            })
            .await
    }

    async fn recv_data(&self) -> Result<MemoryIncoming, LinkError> {
        let (side, shared) = (self.0.side, &self.0.shared);
        shared
            .until(|state| {
                let waiting = state.inboxes[side].data.len();
                if waiting == 0 {
                    return state.ended[side].clone().map(Err);
                }
                let place = if shared.config.reorder {
                    (state.random() % waiting as u64) as usize
                } else {
                    0
                };
                Some(Ok(state.inboxes[side].data.remove(place)))
            })
            .await
    }

    fn meter(&self) -> WireMeter {
        let sent = self.0.shared.state().sent;
        WireMeter {
            sent: sent[self.0.side],
            received: sent[1 - self.0.side],
            ip_sent: sent[self.0.side],
            ip_received: sent[1 - self.0.side],
            ..WireMeter::default()
        }
    }

    async fn close(&self, reason: &str) {
        self.0.shared.end(self.0.side, reason);
    }
}

/// A data message in memory.
#[derive(Debug, Clone)]
pub struct MemoryIncoming {
    header: Bytes,
    content: Vec<Bytes>,
    /// What the sender said, which a truncated message does not hold.
    content_bytes: usize,
}

impl MemoryIncoming {
    fn truncate(&mut self) {
        let whole = Bytes::from(self.content.concat());
        self.content = vec![whole.slice(..whole.len() / 2)];
    }
}

impl Incoming for MemoryIncoming {
    fn header(&self) -> &[u8] {
        &self.header
    }

    async fn read(self, mut lease: Lease) -> Result<(Lease, usize), LinkError> {
        let mut rest = &mut lease[..self.content_bytes];
        for part in &self.content {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        if rest.is_empty() { Ok((lease, self.content_bytes)) } else { Err(LinkError::Cut) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Tier;

    fn pair(config: MemoryConfig) -> (MemoryLink, MemoryLink) {
        let (node, site) = ("n".parse().expect("a name"), "s".parse().expect("a name"));
        let peer = Peer::lasting(node, site, Tier::Private);
        memory_pair(peer.clone(), peer, config)
    }

    async fn order_of_arrival(seed: u64) -> Vec<u8> {
        let (one, other) = pair(MemoryConfig { seed, ..MemoryConfig::default() });
        for number in 0..8 {
            one.send_data(Bytes::copy_from_slice(&[number]), Vec::new()).await.expect("sent");
        }
        let mut order = Vec::new();
        for _ in 0..8 {
            order.push(other.recv_data().await.expect("received").header()[0]);
        }
        order
    }

    #[tokio::test]
    async fn a_seed_replays_the_order_of_arrival() {
        assert_eq!(order_of_arrival(1).await, order_of_arrival(1).await);
        assert_ne!(order_of_arrival(1).await, order_of_arrival(2).await);
    }

    #[tokio::test]
    async fn faults_hit_the_message_they_name() {
        let config = MemoryConfig {
            reorder: false,
            truncate: Some(1),
            duplicate: Some(2),
            cut_after: Some(4),
            ..MemoryConfig::default()
        };
        let (one, other) = pair(config);
        for number in 0..3_u8 {
            let content = vec![Bytes::from(vec![number; 10])];
            one.send_data(Bytes::new(), content).await.expect("sent");
        }
        let slab = crate::buf::Slab::new(0);
        let mut results = Vec::new();
        for _ in 0..4 {
            let lease = slab.lease().await;
            let read = other.recv_data().await.expect("received").read(lease).await;
            results.push(read.ok().map(|(lease, len)| (len, lease[0])));
        }
        assert_eq!(results, [Some((10, 0)), None, Some((10, 2)), Some((10, 2))]);
        other.send(Bytes::new()).await.expect("the fourth message");
        other.send(Bytes::new()).await.expect("lost without a word");
        for end in [one, other] {
            assert!(matches!(end.recv().await, Err(LinkError::TimedOut { .. })));
        }
    }
}

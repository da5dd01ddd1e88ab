//! PORT: an authenticated session with one peer.
//!
//! A session has one ordered control channel of frames, and any number of data messages that
//! arrive in any order. A [`Link`] is one end. Dropping or closing it fails everything that waits
//! at the other end; the transfer above it stays resumable.

mod memory;
mod pace;
pub mod quic;
pub mod rdma;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::base::{NodeName, SiteName, Tier};
use crate::buf::Lease;
use crate::metrics::RailStatus;
use crate::policy::Kind;

pub use memory::{MemoryConfig, MemoryIncoming, MemoryLink, memory_pair};
pub use pace::{Pace, Paces};

/// Who is at the other end, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The name of the node or the workload.
    pub node: NodeName,
    /// Which of the two it is.
    pub kind: Kind,
    /// Its site.
    pub site: SiteName,
    /// The site's tier.
    pub tier: Tier,
    /// The last second of its certificate, since 1970.
    pub valid_until_s: u64,
    /// The peer proved a one-time key of an invitation and has no certificate: it may enrol and
    /// nothing else.
    pub enrolling: Option<[u8; 32]>,
}

impl Peer {
    /// A node whose certificate never ends, for tests and measurements.
    pub fn lasting(node: NodeName, site: SiteName, tier: Tier) -> Self {
        let (kind, valid_until_s, enrolling) = (Kind::Node, u64::MAX, None);
        Self { node, kind, site, tier, valid_until_s, enrolling }
    }

    /// Whether both are the same identity, whatever certificates they showed.
    pub fn is_same(&self, other: &Self) -> bool {
        let who = |it: &Self| (it.node.clone(), it.kind, it.site.clone(), it.tier, it.enrolling);
        who(self) == who(other)
    }

    /// What files and messages call it: the name of a node, `workload/NAME` for a workload.
    pub fn called(&self) -> String {
        match self.kind {
            Kind::Node => self.node.to_string(),
            Kind::Workload => format!("{}/{}", self.kind.as_str(), self.node),
        }
    }
}

/// Why a session ended or could not begin.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// The peer closed the session and says why.
    #[error("the peer closed the session: {reason}")]
    Closed {
        /// The peer's words, escaped.
        reason: String,
    },
    /// Nothing was heard for too long.
    #[error("nothing heard from the peer for {}", crate::base::human::seconds(idle.as_secs_f64()))]
    TimedOut {
        /// The limit that passed.
        idle: Duration,
    },
    /// The peer could not be reached.
    #[error("{address} cannot be reached: {detail}")]
    Unreachable {
        /// What was dialled.
        address: String,
        /// The system's words.
        detail: String,
    },
    /// TLS refused one side's identity.
    #[error("identity refused: {detail}")]
    Refused {
        /// Which check failed.
        detail: String,
    },
    /// A message broke the protocol or a limit.
    #[error("protocol violation: {detail}")]
    Protocol {
        /// What was wrong with it.
        detail: String,
    },
    /// One data message was cut short: its sender gave it up, or a connection was lost under it.
    /// The session goes on, and the message may come again.
    #[error("a data message was cut short")]
    Cut,
    /// This end closed the session.
    #[error("the session was closed here")]
    Local,
}

/// Datagram payload that crossed a session's sockets, both directions, and what was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WireMeter {
    /// UDP payload bytes sent.
    pub sent: u64,
    /// UDP payload bytes received.
    pub received: u64,
    /// Bytes of IP packets sent: the payload and its headers.
    pub ip_sent: u64,
    /// Bytes of IP packets received.
    pub ip_received: u64,
    /// Packets declared lost.
    pub lost_packets: u64,
    /// Smoothed round trip, in microseconds.
    pub rtt_us: u64,
    /// Shortest round trip so far, in microseconds: what the path takes without queues.
    pub rtt_min_us: u64,
    /// Payload bytes of the largest datagram in use.
    pub mtu: u16,
}

impl WireMeter {
    /// Round trip, in microseconds, from which on a path counts as a long one.
    const FAR_US: u64 = 2_000;

    /// Whether the path is a long one.
    pub fn is_far(&self) -> bool {
        self.rtt_min_us >= Self::FAR_US
    }
}

/// A data message: a short header that says what the content is, then the content.
pub trait Incoming: Send + 'static {
    /// The header, at most the link's [`HEADER_BYTES_MAX`](Link::HEADER_BYTES_MAX) bytes.
    fn header(&self) -> &[u8];
    /// Which of the link's paths it takes, for [`Link::blame`]; `None` if there is but one.
    fn path(&self) -> Option<u8> {
        None
    }
    /// Reads the content into `lease`, which comes back with the content's length. The lease moves
    /// because a device may write to it even after the caller has stopped waiting. A message cut
    /// short is an error.
    fn read(self, lease: Lease) -> impl Future<Output = Result<(Lease, usize), LinkError>> + Send;
}

/// Longest header of a data message that every transport takes, in bytes.
pub const DATA_HEADER_BYTES_MAX: usize = 8 << 10;
/// Longest header that transports take which carry the messages of others, in bytes.
const CARRIER_HEADER_BYTES_MAX: usize = 2 * DATA_HEADER_BYTES_MAX;

/// What content waits for that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// There is room for more.
    Nothing,
    /// A cap of its own.
    OwnCap,
    /// The network, or a cap that other transfers have, too.
    Network,
}

/// One end of a session. Cheap to clone; all clones are the same end.
pub trait Link: Clone + Send + Sync + 'static {
    /// What a received data message is.
    type Incoming: Incoming;
    /// Longest header of a data message, in bytes.
    const HEADER_BYTES_MAX: usize;

    /// Who is at the other end.
    fn peer(&self) -> &Peer;
    /// Where the peer's packets come from, if it has an address.
    fn remote(&self) -> Option<SocketAddr> {
        None
    }
    /// The transport's name: `quic` or `memory`.
    fn name(&self) -> &'static str;
    /// Sends one frame on the control channel, in order; waits while the peer does not read.
    fn send(&self, frame: Bytes) -> impl Future<Output = Result<(), LinkError>> + Send;
    /// The next frame of the control channel; at most `FRAME_BYTES_MAX` bytes are ever accepted.
    /// Only one task receives at a time. Not cancellation safe.
    fn recv(&self) -> impl Future<Output = Result<Bytes, LinkError>> + Send;
    /// Sends a data message; returns when the transport took all of it. The content is not copied.
    /// At most `LEASE_BYTES` of content are accepted. The message arrives at least once while the
    /// session lives; after a connection was lost it may arrive twice.
    fn send_data(
        &self,
        header: Bytes,
        content: Vec<Bytes>,
    ) -> impl Future<Output = Result<(), LinkError>> + Send;
    /// Waits until the peer has the content of all data messages that were sent before, or the session
    /// is over. A transport that keeps nothing back has nothing to wait for.
    fn delivered(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
    /// The next data message, as soon as its header is there. Only one task receives at a time.
    fn recv_data(&self) -> impl Future<Output = Result<Self::Incoming, LinkError>> + Send;
    /// Caps what leaves from now on, once; without a call nothing is capped.
    fn set_paces(&self, _paces: Paces) {}
    /// Data messages that are worth sending at once; more only interleave and all end late.
    fn sends_max(&self) -> usize {
        4
    }
    /// Whether it is slow enough, next to a processor, for smaller content to be worth time.
    fn wants_encoding(&self) -> bool {
        true
    }
    /// Whether it could have more content under way than was handed to it: what a transport took
    /// may still wait in its buffers.
    fn has_room(&self) -> bool {
        true
    }
    /// Whether it may have nothing left to send before another message is ready: less was handed to it
    /// than can be under way and one message more.
    fn runs_dry(&self) -> bool {
        self.has_room()
    }
    /// What that which is sent here waits for at this moment.
    fn waits(&self) -> Waits {
        if self.has_room() { Waits::Nothing } else { Waits::Network }
    }
    /// Content that came over this path was altered on its way: it is not taken for a while.
    fn blame(&self, _path: u8) {}
    /// What crossed the wire so far.
    fn meter(&self) -> WireMeter;
    /// How the rails of the session stand, with what they carried since it began; empty for a
    /// transport that has none.
    fn rails(&self) -> Vec<RailStatus> {
        Vec::new()
    }
    /// Ends the session with a reason for the peer; delivers what was sent before, within a bound.
    fn close(&self, reason: &str) -> impl Future<Output = ()> + Send;
}

#[cfg(test)]
pub(crate) mod tests;

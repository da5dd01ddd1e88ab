//! Batches of one flight that go to the kernel in one call.
//!
//! quinn hands over ten segments at a time (`MAX_TRANSMIT_SEGMENTS`), where the kernel takes 45 of 1,452
//! bytes. Each call is one walk through its layers, and mostly one receive at the other end. So a full batch
//! waits for the next one; what is shorter ends a flight and goes at once, with what waits.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};

use quinn::UdpPoller;
use quinn::udp::{EcnCodepoint, Transmit};
use tokio::sync::Notify;

/// Segments that quinn hands over at most.
pub(super) const BATCH_SEGMENTS: usize = 10;

/// Where a batch goes, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    destination: SocketAddr,
    ecn: Option<EcnCodepoint>,
    segment: usize,
    src_ip: Option<IpAddr>,
}

/// Whole batches that wait for the next one.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    head: Option<Head>,
    contents: Vec<u8>,
}

impl Waiting {
    /// What a batch of segments of `segment` bytes has in common with those that it may go with.
    fn head(transmit: &Transmit<'_>, segment: usize) -> Head {
        let Transmit { destination, ecn, src_ip, .. } = *transmit;
        Head { destination, ecn, segment, src_ip }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Whether a batch may go in one call with what waits, of at most `most` bytes.
    pub(super) fn takes(&self, transmit: &Transmit<'_>, segment: usize, most: usize) -> bool {
        self.head.is_none_or(|head| head == Self::head(transmit, segment))
            && self.contents.len() + transmit.contents.len() <= most
    }

    /// Whether a batch is whole, and another one fits behind it.
    pub(super) fn keeps(&self, transmit: &Transmit<'_>, segment: usize, most: usize) -> bool {
        let batch = BATCH_SEGMENTS * segment;
        transmit.contents.len() == batch && self.contents.len() + 2 * batch <= most
    }

    pub(super) fn add(&mut self, transmit: &Transmit<'_>, segment: usize) {
        self.head = Some(Self::head(transmit, segment));
        self.contents.extend_from_slice(transmit.contents);
    }

    /// Sends what waits; it goes on waiting while there is no room for it.
    pub(super) fn send(
        &mut self,
        send: impl FnOnce(&Transmit<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(Head { destination, ecn, segment, src_ip }) = self.head else { return Ok(()) };
        let contents = &self.contents[..];
        let segment_size = Some(segment);
        let sent = send(&Transmit { destination, ecn, contents, segment_size, src_ip });
        if !is_full(&sent) {
            self.head = None;
            self.contents.clear();
        }
        sent
    }
}

/// Whether the kernel had no room.
pub(super) fn is_full(sent: &io::Result<()>) -> bool {
    sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// A socket on which batches wait.
pub(super) trait Gathers: Send + Sync + 'static {
    /// Sends what waits.
    fn send_waiting(&self) -> io::Result<()>;

    /// Tells when the kernel has room.
    fn room(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>>;
}

/// Sends what waits for a batch that does not come: quinn has had its turn once more by then. Ends with the
/// socket, which has to notify once more.
pub(super) async fn send_late<S: Gathers>(socket: Weak<S>, waits: Arc<Notify>) {
    loop {
        waits.notified().await;
        tokio::task::yield_now().await;
        let Some(socket) = socket.upgrade() else { return };
        while is_full(&socket.send_waiting()) {
            let mut room = Arc::clone(&socket).room();
            if std::future::poll_fn(|cx| room.as_mut().poll_writable(cx)).await.is_err() {
                break;
            }
        }
    }
}

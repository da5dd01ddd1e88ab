//! What every transport must do, run over each of them.

pub(crate) mod devices;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use self::devices::{Devices, SystemDevices, over_rails};
use super::quic::QuicOptions;
use super::quic::testing::{Relay, Site, named};
use super::rdma::RdmaLink;
use super::{
    DATA_HEADER_BYTES_MAX, Incoming, Link, LinkError, MemoryConfig, MemoryLink, memory_pair,
};
use crate::base::limits::{FRAME_BYTES_MAX, LEASE_BYTES};
use crate::buf::Slab;
use crate::sim::verbs::SimFabric;
use crate::transport::quic::QuicLink;

/// No step of any test takes this long unless it hangs.
const HANG: Duration = Duration::from_mins(1);

trait Harness: Sized {
    type L: Link;
    async fn new() -> Self;
    /// The ends of a session between `client` and `server`, in this order.
    fn ends(&self) -> (&Self::L, &Self::L);
    /// Bytes of data messages that may be under way in one direction.
    fn under_way_max(&self) -> usize;
    /// Cuts the session without a word.
    async fn cut(&self);
}

struct Memory(MemoryLink, MemoryLink);

impl Harness for Memory {
    type L = MemoryLink;

    async fn new() -> Self {
        let config = MemoryConfig { cut_after: Some(5_000), seed: 7, ..MemoryConfig::default() };
        let (client, server) = memory_pair(named("server"), named("client"), config);
        Self(client, server)
    }

    fn ends(&self) -> (&MemoryLink, &MemoryLink) {
        (&self.0, &self.1)
    }

    fn under_way_max(&self) -> usize {
        MemoryConfig::default().data_max * LEASE_BYTES
    }

    async fn cut(&self) {
        let (client, server) = (self.0.clone(), self.1.clone());
        let reader = tokio::spawn(async move { while server.recv().await.is_ok() {} });
        while client.send(Bytes::new()).await.is_ok() {}
        reader.await.expect("the reader ends");
    }
}

/// QUIC through a relay that can fall silent.
struct Quic {
    site: Site,
    ends: (QuicLink, QuicLink),
    relay: Relay,
}

impl Harness for Quic {
    type L = QuicLink;

    async fn new() -> Self {
        let site = Site::new(QuicOptions {
            connections: 3,
            window_bytes: 16 << 20,
            idle_ms: 6_000,
            keep_alive_ms: 500,
            handshake_ms: 30_000,
            ..QuicOptions::default()
        });
        let relay = Relay::to(site.listener.local_addr()).await;
        let ends = site.pair_through(relay.address).await;
        Self { site, ends, relay }
    }

    fn ends(&self) -> (&QuicLink, &QuicLink) {
        (&self.ends.0, &self.ends.1)
    }

    fn under_way_max(&self) -> usize {
        2 * self.site.config.options().window_bytes
    }

    async fn cut(&self) {
        self.relay.silent_after(0);
    }
}

/// Rails over the memory link. What these tests send is not in the slab, and so is carried; whole
/// transfers take the rails.
struct Rails<D> {
    carrier: Memory,
    ends: (RdmaLink<MemoryLink>, RdmaLink<MemoryLink>),
    _devices: D,
}

type Rdma = Rails<SimFabric>;
type RealVerbs = Rails<SystemDevices>;

impl<D: Devices> Harness for Rails<D> {
    type L = RdmaLink<MemoryLink>;

    async fn new() -> Self {
        let carrier = Memory::new().await;
        let slabs = (Slab::new(0), Slab::new(0));
        let links = (carrier.0.clone(), carrier.1.clone());
        let devices = D::new();
        let ends = over_rails(links, &devices, &slabs);
        Self { carrier, ends, _devices: devices }
    }

    fn ends(&self) -> (&Self::L, &Self::L) {
        (&self.ends.0, &self.ends.1)
    }

    fn under_way_max(&self) -> usize {
        // Those that arrived, the one that waits for room among them, and those of the carrier.
        self.carrier.under_way_max() + 17 * LEASE_BYTES
    }

    async fn cut(&self) {
        self.carrier.cut().await;
    }
}

/// `len` bytes that differ from place to place and from message to message.
pub(crate) fn content(number: usize, len: usize) -> Bytes {
    (0..len).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ number.wrapping_mul(97)) as u8).collect()
}

/// Reads a message into a lease, and gives what it held.
pub(crate) async fn read(incoming: impl Incoming) -> Result<Vec<u8>, LinkError> {
    let slab = Slab::new(0);
    let (lease, len) = incoming.read(slab.lease().await).await?;
    Ok(lease[..len].to_vec())
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(HANG, future).await.expect("a step hangs")
}

async fn peers_are_known_on_both_ends<H: Harness>() {
    let pair = H::new().await;
    let (client, server) = pair.ends();
    assert_eq!(client.peer(), &named("server"));
    assert_eq!(server.peer(), &named("client"));
}

async fn frames_arrive_whole_and_in_order<H: Harness>() {
    let pair = H::new().await;
    let (client, server) = pair.ends();
    let sizes = [0, 1, 3, 4, 5, 1000, 70_000, FRAME_BYTES_MAX];
    let frames: Vec<_> =
        (0..200).map(|number| content(number, sizes[number % sizes.len()])).collect();
    for (from, to) in [(client, server), (server, client)] {
        let sending = async {
            for frame in &frames {
                from.send(frame.clone()).await.expect("sent");
            }
        };
        let receiving = async {
            for frame in &frames {
                assert!(to.recv().await.expect("received") == *frame);
            }
        };
        in_time(async { tokio::join!(sending, receiving) }).await;
    }
}

async fn messages_over_a_limit_are_refused_and_the_session_goes_on<H: Harness>() {
    let pair = H::new().await;
    let (client, server) = pair.ends();
    let refused = |result| matches!(result, Err(LinkError::Protocol { .. }));
    assert!(refused(client.send(content(0, FRAME_BYTES_MAX + 1)).await));
    let header = content(0, H::L::HEADER_BYTES_MAX + 1);
    assert!(refused(client.send_data(header, Vec::new()).await));
    let long = vec![content(0, LEASE_BYTES), content(0, 1)];
    assert!(refused(client.send_data(Bytes::new(), long).await));
    client.send(Bytes::from_static(b"still here")).await.expect("sent");
    assert_eq!(in_time(server.recv()).await.expect("received"), "still here");
}

async fn data_messages_arrive_intact_in_any_order<H: Harness>() {
    let pair = H::new().await;
    let (client, server) = pair.ends();
    let sizes = [0, 1, 1199, 4096, 65_537, 1 << 20, LEASE_BYTES];
    let count = 4 * sizes.len();
    for (from, to) in [(client, server), (server, client)] {
        let sending = async {
            for number in 0..count {
                let whole = content(number, sizes[number % sizes.len()]);
                let middle = whole.len() / 3;
                let parts = vec![whole.slice(..middle), Bytes::new(), whole.slice(middle..)];
                let mut header = content(number, DATA_HEADER_BYTES_MAX.min(8 + 500 * number));
                header = [&(number as u64).to_le_bytes(), &header[8..]].concat().into();
                from.send_data(header, parts).await.expect("sent");
            }
        };
        let receiving = async {
            let mut seen = vec![false; count];
            for _ in 0..count {
                let incoming = to.recv_data().await.expect("received");
                let (number, rest) = incoming.header().split_first_chunk().expect("a header");
                let number = u64::from_le_bytes(*number) as usize;
                assert_eq!(rest.len() + 8, DATA_HEADER_BYTES_MAX.min(8 + 500 * number));
                assert!(*rest == content(number, rest.len() + 8)[8..]);
                let arrived = read(incoming).await.expect("read");
                assert!(arrived == content(number, sizes[number % sizes.len()]));
                assert!(!std::mem::replace(&mut seen[number], true));
            }
        };
        in_time(async { tokio::join!(sending, receiving) }).await;
    }
}

async fn a_sender_waits_for_a_reader_that_rests<H: Harness>() {
    let pair = H::new().await;
    let (client, server) = pair.ends();
    let message = content(0, LEASE_BYTES);
    // Each of several tasks has its message at best half accepted when it stands still.
    let tasks = 8;
    let per_task = 8;
    let accepted = Arc::new(AtomicUsize::new(0));
    let senders: Vec<_> = (0..tasks)
        .map(|_| {
            let (client, message) = (client.clone(), message.clone());
            let accepted = Arc::clone(&accepted);
            tokio::spawn(async move {
                for _ in 0..per_task {
                    client.send_data(Bytes::new(), vec![message.clone()]).await.expect("sent");
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut before = usize::MAX;
    while before != accepted.load(Ordering::Relaxed) {
        before = accepted.load(Ordering::Relaxed);
        sleep(Duration::from_millis(300)).await;
    }
    assert!(before * LEASE_BYTES <= pair.under_way_max(), "{before} messages are under way");
    assert!(before < tasks * per_task);
    // Data that stands does not hold up control.
    client.send(Bytes::from_static(b"control")).await.expect("sent");
    assert_eq!(in_time(server.recv()).await.expect("received"), "control");
    for _ in 0..tasks * per_task {
        let incoming = in_time(server.recv_data()).await.expect("received");
        assert!(in_time(read(incoming)).await.expect("read") == message);
    }
    for sender in senders {
        in_time(sender).await.expect("all sent");
    }
}

async fn a_close_delivers_what_was_sent_and_then_its_reason<H: Harness>() {
    let pair = H::new().await;
    let (client, server) = pair.ends();
    for number in 0..5 {
        client.send(content(number, 100)).await.expect("sent");
    }
    client.send_data(Bytes::new(), vec![content(9, 300_000)]).await.expect("sent");
    in_time(client.close("all\ndone")).await;
    for number in 0..5 {
        assert_eq!(in_time(server.recv()).await.expect("received"), content(number, 100));
    }
    let closed = |result| match result {
        Err(LinkError::Closed { reason }) => assert_eq!(reason, "all\\x0adone"),
        other => panic!("{other:?}"),
    };
    closed(in_time(server.recv()).await.map(|_| ()));
    let incoming = in_time(server.recv_data()).await.expect("received");
    assert!(in_time(read(incoming)).await.expect("read") == content(9, 300_000));
    closed(in_time(server.recv_data()).await.map(|_| ()));
    closed(in_time(server.send(Bytes::new())).await);
    closed(in_time(server.send_data(Bytes::new(), Vec::new())).await);
    assert!(matches!(in_time(client.recv()).await, Err(LinkError::Local)));
    assert!(matches!(client.send(Bytes::new()).await, Err(LinkError::Local)));
}

async fn a_dropped_end_fails_what_waits_at_the_other<H: Harness>() {
    let pair = H::new().await;
    let server = pair.ends().1.clone();
    let waiting = tokio::spawn({
        let server = server.clone();
        async move { tokio::join!(server.recv(), server.recv_data()) }
    });
    // The pair holds the server's end as well; `server` and `waiting` keep it.
    drop(pair);
    let (frame, data) = in_time(waiting).await.expect("no panic");
    assert!(matches!(frame, Err(LinkError::Closed { .. })), "{frame:?}");
    assert!(matches!(data.map(|_| ()), Err(LinkError::Closed { .. })));
}

async fn a_cut_fails_everything_that_waits_on_both_ends<H: Harness>() {
    let pair = H::new().await;
    let (client, server) = pair.ends();
    let waiting: Vec<_> = [client.clone(), server.clone()]
        .into_iter()
        .map(|end| tokio::spawn(async move { end.recv_data().await.map(|_| ()) }))
        .collect();
    pair.cut().await;
    for wait in waiting {
        let result = in_time(wait).await.expect("no panic");
        assert!(matches!(result, Err(LinkError::TimedOut { .. })), "{result:?}");
    }
    for end in [client, server] {
        let result = in_time(end.recv()).await;
        assert!(matches!(result, Err(LinkError::TimedOut { .. })), "{result:?}");
        let result = end.send(Bytes::new()).await;
        assert!(matches!(result, Err(LinkError::TimedOut { .. })), "{result:?}");
    }
}

async fn the_meter_counts_both_directions<H: Harness>() {
    let pair = H::new().await;
    let (client, server) = pair.ends();
    client.send_data(Bytes::new(), vec![content(0, 500_000)]).await.expect("sent");
    let incoming = in_time(server.recv_data()).await.expect("received");
    in_time(read(incoming)).await.expect("read");
    assert!(client.meter().sent >= 500_000);
    assert!(server.meter().received >= 500_000);
    assert!(client.meter().received < 500_000);
}

/// Runs tests that take a transport as their type: `Memory`, `Quic`, `Rdma` and `RealVerbs` where
/// it is used. The last one needs devices, and is skipped aloud without.
macro_rules! every_transport {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test::<super::Memory>().await; })*
        }
        mod quic {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test::<super::Quic>().await; })*
        }
        mod rdma {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test::<super::Rdma>().await; })*
        }
        mod real_verbs {
            use crate::transport::tests::devices::SystemDevices;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if !SystemDevices::missing() {
                    super::$test::<super::RealVerbs>().await;
                }
            })*
        }
    };
}

pub(crate) use every_transport;

every_transport! {
    peers_are_known_on_both_ends,
    frames_arrive_whole_and_in_order,
    messages_over_a_limit_are_refused_and_the_session_goes_on,
    data_messages_arrive_intact_in_any_order,
    a_sender_waits_for_a_reader_that_rests,
    a_close_delivers_what_was_sent_and_then_its_reason,
    a_dropped_end_fails_what_waits_at_the_other,
    a_cut_fails_everything_that_waits_on_both_ends,
    the_meter_counts_both_directions,
}

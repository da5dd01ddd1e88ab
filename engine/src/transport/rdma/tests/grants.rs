//! A peer that keeps the address and key of a grant reads nothing with them once the session is
//! over, however it ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout};

use crate::buf::{Lease, Slab};
use crate::sim::verbs::SimFabric;
use crate::transport::memory::{MemoryConfig, MemoryLink, memory_pair};
use crate::transport::quic::testing::named;
use crate::transport::rdma::message::{Grant, Message, Note, encode_notes};
use crate::transport::rdma::{
    QpAddress, Rail, RailError, RdmaLink, RdmaOptions, Read, Sink, Verbs,
};
use crate::transport::tests::devices::{Devices, SystemDevices};
use crate::transport::{Incoming, Link, LinkError};

/// How long after the end of a session its grants may live.
const DEAD_AFTER: Duration = Duration::from_secs(1);
/// No step of any test takes this long unless it hangs.
const HANG: Duration = Duration::from_mins(1);
/// What a sink holds before a READ.
const UNTOUCHED: u8 = 0xee;
const CONTENT_BYTES: usize = 300_000;

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(HANG, future).await.expect("a step hangs")
}

/// A node in the middle of sending, and the peer that was granted what it sends.
struct Session<D: Devices> {
    node: RdmaLink<MemoryLink>,
    sending: JoinHandle<Result<(), LinkError>>,
    slab: Slab,
    peer: Peer<D>,
}

/// A peer that speaks for itself: it sets a rail up, reads when it likes, and is never done.
struct Peer<D: Devices> {
    devices: D,
    link: Option<MemoryLink>,
    rail: <D::V as Verbs>::Rail,
    slab: Slab,
    grant: Grant,
    /// The node's queue pairs.
    queue_pairs: Vec<QpAddress>,
    tag: u64,
}

impl<D: Devices> Session<D> {
    async fn new(devices: &D, slab: Slab) -> Self {
        let [(verbs, mut mine), (peer_verbs, mut yours)] = devices.both();
        // One rail is enough, and registering memory for more takes its time.
        mine.truncate(1);
        yours.truncate(1);
        let config = MemoryConfig { cut_after: Some(100), ..MemoryConfig::default() };
        let (inner, link) = memory_pair(named("peer"), named("node"), config);
        let options = RdmaOptions {
            verbs: Arc::new(verbs),
            lead: true,
            mine: mine.clone(),
            yours: yours.clone(),
            queue_pairs: 1,
            slab: slab.clone(),
        };
        let node = RdmaLink::start(inner, options);
        let mut lease = slab.try_lease().expect("a lease");
        lease.fill(7);
        let content = vec![lease.freeze().slice(0..CONTENT_BYTES)];
        let sender = node.clone();
        let header = Bytes::from_static(b"content");
        let sending = tokio::spawn(async move { sender.send_data(header, content).await });

        let own = Slab::new(0);
        let (mut rail, mut queue_pairs) = (None, Vec::new());
        let grant = loop {
            let message = in_time(link.recv_data()).await.expect("a message");
            let notes = match Message::decode(message.header()).expect("a header") {
                Message::Grant(grant) => break grant,
                Message::Notes(notes) => notes,
                Message::Content(_) => panic!("content is carried, and no rail came up"),
            };
            for note in notes {
                let Note::Setup { rail: 0, epoch, mine: theirs, yours: ours, queue_pairs: their } =
                    note
                else {
                    continue;
                };
                let port = &yours[usize::from(ours)];
                let open = peer_verbs.open(port, &named("node").node, &own);
                let mut opened = open.expect("an open port");
                let created = opened.create(their.len()).expect("queue pairs");
                opened.connect(&mine[usize::from(theirs)], &their).expect("connected");
                (rail, queue_pairs) = (Some(opened), their);
                let mut answer = vec![Note::Answer { rail: 0, epoch, queue_pairs: created }];
                let header = encode_notes(&mut answer, MemoryLink::HEADER_BYTES_MAX);
                link.send_data(header, Vec::new()).await.expect("an answer");
            }
        };
        let (devices, rail) = (devices.clone(), rail.expect("a rail before its grant"));
        let peer = Peer { devices, link: Some(link), rail, slab: own, grant, queue_pairs, tag: 0 };
        Self { node, sending, slab, peer }
    }

    /// A READ of the grant, which is to bring the content.
    async fn is_alive(&mut self) {
        let grant = self.peer.grant.clone();
        let (result, sink) = self.peer.read(&grant).await;
        assert_eq!(result, Ok(()));
        assert!(sink[..CONTENT_BYTES].iter().all(|byte| *byte == 7));
        assert!(!self.sending.is_finished());
        assert_eq!(self.slab.leases_out(), 1, "the content stays while it can be read");
    }
}

impl<D: Devices> Peer<D> {
    /// Reads what was granted, or tries to.
    async fn read(&mut self, grant: &Grant) -> (Result<(), RailError>, Lease) {
        self.tag += 1;
        let mut lease = self.slab.try_lease().expect("a lease");
        lease.fill(UNTOUCHED);
        let sink = Sink::new(lease);
        let (remote, len) = (grant.base, grant.bytes());
        let read = Read { remote, rkey: grant.rkey, sink: Arc::clone(&sink), at: 0, len };
        let queue_pair = usize::from(grant.queue_pair);
        let posted = self.rail.read(queue_pair, self.tag, read).and_then(|()| self.rail.ring());
        let result = match posted {
            Err(error) => Err(error),
            Ok(()) => in_time(self.completion()).await,
        };
        // What was refused when it was posted is let go of by the end of the queue pair only.
        if result.is_err() {
            self.rail.destroy();
        }
        (result, Sink::into_lease(sink).expect("the rail let go of the lease"))
    }

    async fn completion(&mut self) -> Result<(), RailError> {
        let mut done = Vec::new();
        while done.is_empty() {
            self.rail.poll(&mut done).expect("a completion queue");
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!((done.len(), done[0].tag), (1, self.tag));
        done.remove(0).result
    }

    /// Reads with the kept address and key, and has to get an error and no byte.
    async fn gets_nothing(&mut self, grant: &Grant) {
        let began = Instant::now();
        let (result, sink) = self.read(grant).await;
        println!("{:?} after {:?}", result, began.elapsed());
        assert!(result.is_err(), "the grant outlived its session");
        assert!(sink.iter().all(|byte| *byte == UNTOUCHED), "bytes came with an error");
    }

    /// Connects anew to the queue pairs that the node had. Devices may refuse that.
    fn connects_again(&mut self) -> bool {
        let [(_, node), _] = self.devices.both();
        let created = self.rail.create(self.queue_pairs.len());
        created.and_then(|_| self.rail.connect(&node[0], &self.queue_pairs)).is_ok()
    }
}

/// Ends a session by `end` while a grant is open; one second later it must be dead: through the
/// queue pair it was made for, through a new one, and through a rail of the next session.
async fn dies<D: Devices, F: Future>(
    end: impl FnOnce(RdmaLink<MemoryLink>, Option<MemoryLink>, JoinHandle<Result<(), LinkError>>) -> F,
) {
    let devices = D::new();
    let mut session = Session::new(&devices, Slab::new(0)).await;
    session.is_alive().await;
    let Session { node, sending, slab, mut peer } = session;
    let kept = peer.grant.clone();
    let link = peer.link.take();
    // What the end gives stays: only the session is over.
    let _stays = in_time(end(node, link, sending)).await;
    let ended = tokio::time::Instant::now();
    sleep_until(ended + DEAD_AFTER).await;
    assert_eq!(slab.leases_out(), 0, "the content is held after the session");
    // A device is patient for seconds before it fails a READ: all tries run at once.
    let through_old_queue_pairs = async {
        peer.gets_nothing(&kept).await;
        if peer.connects_again() {
            peer.gets_nothing(&kept).await;
        }
    };
    // The same memory is open to the same peer again, but not under the old key.
    let through_the_next_session = async {
        let mut next = Session::new(&devices, slab).await;
        next.is_alive().await;
        assert_eq!(next.peer.grant.bytes(), kept.bytes());
        next.peer.gets_nothing(&kept).await;
    };
    tokio::join!(through_old_queue_pairs, through_the_next_session);
}

async fn a_grant_is_dead_a_second_after_its_node_closed_the_session<D: Devices>() {
    dies::<D, _>(async |node, link, sending| {
        node.close("over").await;
        assert!(in_time(sending).await.expect("no panic").is_err());
        (node, link)
    })
    .await;
}

async fn a_grant_is_dead_a_second_after_its_peer_closed_the_session<D: Devices>() {
    dies::<D, _>(async |node, link, sending| {
        link.expect("a link").close("over").await;
        assert!(in_time(sending).await.expect("no panic").is_err());
        node
    })
    .await;
}

async fn a_grant_is_dead_a_second_after_the_session_was_cut_without_a_word<D: Devices>() {
    dies::<D, _>(async |node, link, sending| {
        let link = link.expect("a link");
        let receiver = node.clone();
        let receiving = tokio::spawn(async move { while receiver.recv().await.is_ok() {} });
        while link.send(Bytes::new()).await.is_ok() {}
        receiving.await.expect("no panic");
        assert!(in_time(sending).await.expect("no panic").is_err());
        (node, link)
    })
    .await;
}

async fn a_grant_is_dead_a_second_after_its_session_was_dropped<D: Devices>() {
    dies::<D, _>(async |node, link, sending| {
        // As when a process is killed: nobody says or closes anything.
        sending.abort();
        assert!(sending.await.is_err_and(|error| error.is_cancelled()));
        drop(node);
        link
    })
    .await;
}

async fn a_grant_is_dead_a_second_after_its_peer_was_gone<D: Devices>() {
    dies::<D, _>(async |node, link, sending| {
        drop(link);
        assert!(in_time(sending).await.expect("no panic").is_err());
        node
    })
    .await;
}

macro_rules! every_device {
    ($($test:ident),* $(,)?) => {
        mod rdma {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test::<super::SimFabric>().await; })*
        }
        mod real_verbs {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if !super::SystemDevices::missing() {
                    super::$test::<super::SystemDevices>().await;
                }
            })*
        }
    };
}

every_device! {
    a_grant_is_dead_a_second_after_its_node_closed_the_session,
    a_grant_is_dead_a_second_after_its_peer_closed_the_session,
    a_grant_is_dead_a_second_after_the_session_was_cut_without_a_word,
    a_grant_is_dead_a_second_after_its_session_was_dropped,
    a_grant_is_dead_a_second_after_its_peer_was_gone,
}

//! What the path over rails costs beside its payload, on devices whose wire is a memory copy.
//!
//! `cargo bench -p portway-benches --bench rails`
//!
//! Two figures in turn, from the same memory to the same file in memory, with as many threads as
//! there are processors. The ceiling: each thread copies a block, digests it and writes it. The
//! path: the same blocks are granted by one end of a session and read, digested and written by the
//! other, over the machine, driver and link that real devices have. A third column leaves the
//! digest and the write out, so that what the path itself can move shows.

mod devices;

use std::collections::VecDeque;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use devices::CopyVerbs;
use portway::base::limits::LEASE_BYTES;
use portway::base::{Digest, Tier};
use portway::buf::{Lease, LeaseSlice, Slab};
use portway::transport::rdma::{RdmaLink, RdmaOptions, Verbs};
use portway::transport::{Incoming, Link, MemoryConfig, MemoryLink, Peer, memory_pair};
use tokio::runtime::{Builder, Runtime};

/// Bytes that each figure moves.
const BYTES: usize = 2 << 30;
/// Bytes of one message: as many as a transfer of large files sends at once.
const MESSAGE_BYTES: usize = LEASE_BYTES;
/// Files that messages are written to in turn: writers of one would wait for each other.
const FILES: usize = 8;
/// Bytes of each file; messages beyond it are written over earlier ones.
const FILE_BYTES: usize = 32 << 20;
/// Chunks that are digested, in bytes.
const CHUNK_BYTES: usize = 64 << 10;
/// Messages under way at the ceiling, as over rails.
const UNDER_WAY: usize = 24;
/// Rounds, after one that warms up.
const ROUNDS: usize = 5;

/// Longest wait for rails to come up.
const PATIENCE: Duration = Duration::from_secs(10);

type Rails = RdmaLink<MemoryLink>;

fn main() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a file system in memory");
    let file =
        |number: usize| File::create_new(dir.path().join(number.to_string())).expect("a file");
    let bench = Arc::new(Bench::new((0..FILES).map(file).collect()));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(threads)
        .enable_all()
        .build()
        .expect("a runtime");

    let mut rows: Vec<[f64; 3]> = Vec::new();
    for round in 0..=ROUNDS {
        let row =
            [bench.ceiling(threads), bench.path_on(&runtime, true), bench.path_on(&runtime, false)];
        if round > 0 {
            println!(
                "round {round}: copy, digest, write {:.2} GB/s; the same over rails {:.2} \
                 ({:.2}); read over rails alone {:.2}",
                row[0],
                row[1],
                row[1] / row[0],
                row[2],
            );
            rows.push(row);
        }
    }
    let median = |of: &dyn Fn(&[f64; 3]) -> f64| {
        let mut values: Vec<f64> = rows.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "median of {ROUNDS}, {threads} threads: ceiling {:.2} GB/s, over rails {:.2} GB/s, ratio {:.3}",
        median(&|row| row[0]),
        median(&|row| row[1]),
        median(&|row| row[1] / row[0]),
    );
}

struct Bench {
    /// Content of the sending end, each in a lease of its own.
    content: Vec<LeaseSlice>,
    digests: Vec<Vec<Digest>>,
    slab: Slab,
    files: Vec<File>,
}

impl Bench {
    fn new(files: Vec<File>) -> Self {
        let slab = Slab::new(96 << 20);
        let mut content = Vec::new();
        let mut digests = Vec::new();
        for number in 0..16_u64 {
            let mut lease = slab.try_lease().expect("a lease");
            for (i, word) in lease.chunks_exact_mut(8).enumerate() {
                let value = (number << 40 | i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                word.copy_from_slice(&value.to_le_bytes());
            }
            digests.push(lease[..MESSAGE_BYTES].chunks(CHUNK_BYTES).map(Digest::of).collect());
            content.push(lease.freeze());
        }
        let bench = Self { content, digests, slab, files };
        // Pages of the file are taken from the system before anything is timed.
        for at in (0..FILE_BYTES).step_by(MESSAGE_BYTES) {
            let bytes = bench.content[0].slice(0..MESSAGE_BYTES);
            for file in &bench.files {
                file.write_all_at(&bytes, at as u64).expect("room");
            }
        }
        bench
    }

    /// Digests a message and writes it to its place.
    fn take(&self, number: usize, bytes: &[u8]) {
        let digests: Vec<Digest> = bytes.chunks(CHUNK_BYTES).map(Digest::of).collect();
        assert_eq!(digests, self.digests[number % self.digests.len()], "altered");
        let at = number / FILES * MESSAGE_BYTES % FILE_BYTES;
        self.files[number % FILES].write_all_at(bytes, at as u64).expect("room");
    }

    /// The rate of copying, digesting and writing alone, in GB/s.
    fn ceiling(&self, threads: usize) -> f64 {
        let next = AtomicUsize::new(0);
        let began = Instant::now();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let lease = || self.slab.try_lease().expect("a lease");
                    let mut free: Vec<Lease> = (0..=UNDER_WAY / threads).map(|_| lease()).collect();
                    let mut copied = VecDeque::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number < BYTES / MESSAGE_BYTES {
                            let from = &self.content[number % self.content.len()];
                            let mut lease = free.pop().expect("one more than are under way");
                            lease[..MESSAGE_BYTES].copy_from_slice(&from.slice(0..MESSAGE_BYTES));
                            copied.push_back((number, lease));
                        } else if copied.is_empty() {
                            return;
                        }
                        if number >= BYTES / MESSAGE_BYTES || free.is_empty() {
                            let Some((number, lease)) = copied.pop_front() else { return };
                            self.take(number, &lease[..MESSAGE_BYTES]);
                            free.insert(0, lease);
                        }
                    }
                });
            }
        });
        rate(began)
    }

    /// The rate of the same over rails, in GB/s, as a task like those of a transfer; with `take`
    /// false, of reading alone.
    fn path_on(self: &Arc<Self>, runtime: &Runtime, take: bool) -> f64 {
        let path = Arc::clone(self).path(take);
        runtime.block_on(runtime.spawn(path)).expect("no panic")
    }

    async fn path(self: Arc<Self>, take: bool) -> f64 {
        let (sender, receiver) = session(&self.slab).await;
        let began = Instant::now();
        let sending = async {
            let mut tasks = tokio::task::JoinSet::new();
            for number in 0..BYTES / MESSAGE_BYTES {
                while tasks.len() >= sender.sends_max() {
                    tasks.join_next().await;
                }
                let (link, content) = (sender.clone(), self.content[number % 16].clone());
                tasks.spawn(async move {
                    let header = Bytes::copy_from_slice(&number.to_le_bytes());
                    let content = vec![content.slice(0..MESSAGE_BYTES)];
                    link.send_data(header, content).await.expect("it is sent");
                });
            }
            while tasks.join_next().await.is_some() {}
        };
        let receiving = async {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..BYTES / MESSAGE_BYTES {
                let incoming = receiver.recv_data().await.expect("a message");
                assert!(incoming.path().is_some(), "it came another way");
                let lease = self.slab.lease().await;
                let bench = Arc::clone(&self);
                tasks.spawn(async move {
                    let number = <[u8; 8]>::try_from(incoming.header()).expect("a number");
                    let (lease, len) = incoming.read(lease).await.expect("its content");
                    bench.received(usize::from_le_bytes(number), lease, len, take).await;
                });
                while tasks.try_join_next().is_some() {}
            }
            while tasks.join_next().await.is_some() {}
        };
        tokio::join!(sending, receiving);
        rate(began)
    }

    async fn received(self: Arc<Self>, number: usize, lease: Lease, len: usize, take: bool) {
        if take {
            let task = tokio::task::spawn_blocking(move || self.take(number, &lease[..len]));
            task.await.expect("it is as it was sent");
        } else {
            black_box(&lease[..len]);
        }
    }
}

fn rate(began: Instant) -> f64 {
    BYTES as f64 / began.elapsed().as_secs_f64() / 1e9
}

/// A session whose rails are up.
async fn session(slab: &Slab) -> (Rails, Rails) {
    let config =
        MemoryConfig { frames_max: 64, data_max: 64, reorder: false, ..Default::default() };
    let (first, second) = memory_pair(peer("b"), peer("a"), config);
    let verbs = CopyVerbs::pair().map(Arc::new);
    let ports = verbs.each_ref().map(|verbs| verbs.ports());
    let mut inner = [first, second].into_iter();
    let [sender, receiver] = [0, 1].map(|side: usize| {
        let options = RdmaOptions {
            verbs: Arc::clone(&verbs[side]),
            lead: side == 0,
            mine: ports[side].clone(),
            yours: ports[1 - side].clone(),
            queue_pairs: 2,
            slab: slab.clone(),
        };
        RdmaLink::start(inner.next().expect("two ends"), options)
    });
    // The first message waits for the first rail.
    let header = Bytes::from_static(&[0; 8]);
    let lease = slab.try_lease().expect("a lease");
    let first = slab.try_lease().expect("a lease").freeze().slice(0..LEASE_BYTES);
    let sent = sender.send_data(header, vec![first]);
    let read = async { receiver.recv_data().await.expect("a message").read(lease).await };
    let both = async { tokio::join!(sent, read) };
    let (sent, read) = tokio::time::timeout(PATIENCE, both).await.expect("rails come up");
    sent.and(read.map(drop)).expect("the first message arrives");
    (sender, receiver)
}

fn peer(name: &str) -> Peer {
    let parse = (name.parse().expect("a name"), "site".parse().expect("a name"));
    Peer::lasting(parse.0, parse.1, Tier::Private)
}

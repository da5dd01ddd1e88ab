//! A source and a target over memory trees, and sessions between them over any transport.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::base::{FileTime, RelPath, TransferId};
use crate::buf::Slab;
use crate::encode::Compress;
use crate::index::Index;
use crate::metrics::{RailState, RailStatus, TransferMeter};
use crate::protocol::{SourceEnd, TargetEnd, Task};
use crate::runtime::drive::target::run_with_credit;
use crate::runtime::drive::{Context, Lost, run_source};
use crate::runtime::shares::Share;
use crate::runtime::source::{Above, Around, SourceFiles, SourceRoot};
use crate::runtime::target::{Planted, StoreOptions, TargetStore, index_path};
use crate::sim::process::{Life, ProcessTree};
use crate::sim::rng::Rng;
use crate::sim::verbs::SimFabric;
use crate::sim::workload::{Version, look, walk};
use crate::storage::{Kind, MemoryTree, Tree, mkdir_all};
use crate::transport::quic::testing::{Relay, Site, named};
use crate::transport::quic::{QuicLink, QuicOptions};
use crate::transport::rdma::RdmaLink;
use crate::transport::tests::devices::{Devices, SystemDevices, over_rails};
use crate::transport::{Link, LinkError, MemoryConfig, MemoryLink, Peer, WireMeter, memory_pair};
use crate::wire::{Frame, Published};

/// No step of any test takes this long unless it hangs.
const HANG: Duration = Duration::from_mins(1);
/// Content wanted and not yet durable in these tests: two runs of large files.
pub(super) const CREDIT: u64 = 4 << 20;
const MIB: u64 = 1 << 20;

pub(super) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(HANG, future).await.expect("a step hangs")
}

/// Waits until something holds.
pub(super) async fn until(holds: impl Fn() -> bool) {
    let look = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(look).await;
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::from_typed(text.as_bytes()).expect("a path")
}

/// A transport under test.
pub(super) trait Transport: Sized {
    type L: Link;
    async fn new() -> Self;
    /// Memory of the source, and of the target.
    fn slabs(&self) -> (Slab, Slab) {
        (Slab::new(0), Slab::new(0))
    }
    /// A session: the end of the source, and the end of the target.
    async fn session(&self) -> (Self::L, Self::L);
    /// A session that is cut without a word after some, but not all, of 16 MiB of content.
    async fn doomed(&self) -> (Self::L, Self::L);
    /// Waits until it is certain that this content of the last session took the way that it should.
    async fn took_its_way(&self, _sent: u64) {}
}

pub(super) struct Memory;

impl Transport for Memory {
    type L = MemoryLink;

    async fn new() -> Self {
        Self
    }

    async fn session(&self) -> (MemoryLink, MemoryLink) {
        memory_pair(named("server"), named("client"), MemoryConfig::default())
    }

    async fn doomed(&self) -> (MemoryLink, MemoryLink) {
        // A run of 2 MiB takes three messages and more: offer, want, data, settled.
        let config = MemoryConfig { cut_after: Some(20), ..MemoryConfig::default() };
        memory_pair(named("server"), named("client"), config)
    }
}

/// QUIC on loopback; what is doomed goes through a relay that falls silent.
pub(super) struct Quic {
    calm: Site,
    hasty: Site,
}

impl Transport for Quic {
    type L = QuicLink;

    async fn new() -> Self {
        let calm = QuicOptions { idle_ms: 30_000, handshake_ms: 30_000, ..QuicOptions::default() };
        let hasty = QuicOptions { idle_ms: 1_000, keep_alive_ms: 100, ..calm.clone() };
        Self { calm: Site::new(calm), hasty: Site::new(hasty) }
    }

    async fn session(&self) -> (QuicLink, QuicLink) {
        in_time(self.calm.pair()).await
    }

    async fn doomed(&self) -> (QuicLink, QuicLink) {
        let relay = Relay::to(self.hasty.listener.local_addr()).await;
        let ends = in_time(self.hasty.pair_through(relay.address)).await;
        relay.silent_after(8 << 20);
        ends
    }
}

/// Rails over the memory link.
pub(super) struct Rails<D> {
    slabs: (Slab, Slab),
    devices: Mutex<D>,
    /// What the rails of each session say, at the end of the source.
    sessions: Mutex<Vec<Arc<Mutex<Vec<RailStatus>>>>>,
}

/// Rails of software devices.
pub(super) type Rdma = Rails<SimFabric>;
/// Rails of this machine's devices.
pub(super) type RealVerbs = Rails<SystemDevices>;

impl<D: Devices> Rails<D> {
    fn over(
        &self,
        links: (MemoryLink, MemoryLink),
    ) -> (RdmaLink<MemoryLink>, RdmaLink<MemoryLink>) {
        let devices = self.devices.lock().expect("no panic").clone();
        let ends = over_rails(links, &devices, &self.slabs);
        let watch = ends.0.watch_rails().expect("a thread for the rails");
        self.sessions.lock().expect("no panic").push(watch);
        ends
    }

    /// Sessions from now on have these devices.
    pub(super) fn set(&self, devices: D) {
        *self.devices.lock().expect("no panic") = devices;
    }
}

impl<D> Rails<D> {
    /// Bytes and messages that the rails of each session carried.
    fn carried(&self) -> Vec<(u64, u64)> {
        let sum = |rails: &Arc<Mutex<Vec<RailStatus>>>| {
            let rails = rails.lock().expect("no panic");
            rails.iter().fold((0, 0), |sum, rail| (sum.0 + rail.bytes, sum.1 + rail.messages))
        };
        self.sessions.lock().expect("no panic").iter().map(sum).collect()
    }
}

impl<D> Drop for Rails<D> {
    fn drop(&mut self) {
        let carried = self.carried();
        let (bytes, messages) = carried.iter().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        println!("rails: {} sessions, {messages} messages, {bytes} bytes", carried.len());
    }
}

impl<D: Devices> Transport for Rails<D> {
    type L = RdmaLink<MemoryLink>;

    async fn new() -> Self {
        let slabs = (Slab::new(0), Slab::new(0));
        Self { slabs, devices: Mutex::new(D::new()), sessions: Mutex::default() }
    }

    fn slabs(&self) -> (Slab, Slab) {
        self.slabs.clone()
    }

    async fn session(&self) -> (Self::L, Self::L) {
        self.over(Memory.session().await)
    }

    async fn doomed(&self) -> (Self::L, Self::L) {
        // Two rails take four messages to be set up; each run is granted and done beside the rest.
        let config = MemoryConfig { cut_after: Some(35), ..MemoryConfig::default() };
        self.over(memory_pair(named("server"), named("client"), config))
    }

    async fn took_its_way(&self, sent: u64) {
        // Messages of few bytes go along with their headers. The status is made known now and then.
        let enough = || self.carried().last().is_some_and(|(bytes, _)| bytes * 2 >= sent);
        if sent >= MIB {
            until(enough).await;
        }
    }
}

/// A link whose content is counted when it is sent, and received only as far as is permitted.
#[derive(Clone)]
pub(super) struct Watched<L> {
    link: L,
    watch: Arc<Watch>,
}

pub(super) struct Watch {
    sent: AtomicU64,
    permits: Semaphore,
}

impl<L: Link> Link for Watched<L> {
    type Incoming = L::Incoming;
    const HEADER_BYTES_MAX: usize = L::HEADER_BYTES_MAX;

    fn peer(&self) -> &Peer {
        self.link.peer()
    }

    fn name(&self) -> &'static str {
        self.link.name()
    }

    async fn send(&self, frame: Bytes) -> Result<(), LinkError> {
        self.link.send(frame).await
    }

    async fn recv(&self) -> Result<Bytes, LinkError> {
        self.link.recv().await
    }

    async fn send_data(&self, header: Bytes, content: Vec<Bytes>) -> Result<(), LinkError> {
        self.watch.sent.fetch_add(content.iter().map(|part| part.len() as u64).sum(), Relaxed);
        self.link.send_data(header, content).await
    }

    async fn recv_data(&self) -> Result<L::Incoming, LinkError> {
        if let Ok(permit) = self.watch.permits.acquire().await {
            permit.forget();
        }
        self.link.recv_data().await
    }

    fn wants_encoding(&self) -> bool {
        self.link.wants_encoding()
    }

    fn meter(&self) -> WireMeter {
        self.link.meter()
    }

    /// One rail, which carries what this end sends.
    fn rails(&self) -> Vec<RailStatus> {
        vec![RailStatus {
            name: "a/1 - b/1".to_owned(),
            state: RailState::Up,
            bytes: self.watch.sent.load(Relaxed),
            messages: 0,
            errors: 0,
            rate_mbps: 0,
            why: String::new(),
        }]
    }

    async fn close(&self, reason: &str) {
        self.link.close(reason).await;
    }
}

/// One end of a session that runs.
pub(super) struct End<E> {
    pub(super) stop: watch::Sender<bool>,
    pub(super) meter: Arc<TransferMeter>,
    task: JoinHandle<Result<E, Lost>>,
}

/// A session that runs.
pub(super) struct Session {
    pub(super) source: End<SourceEnd>,
    pub(super) target: End<TargetEnd>,
    watch: Arc<Watch>,
}

impl Session {
    /// Content bytes that the source has sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.watch.sent.load(Relaxed)
    }

    /// Lets the target receive this many data messages more.
    pub(super) fn permit(&self, messages: usize) {
        self.watch.permits.add_permits(messages);
    }

    /// How it ended at either end, and the content bytes that were sent in it.
    pub(super) async fn ended(self) -> (Result<SourceEnd, Lost>, Result<TargetEnd, Lost>, u64) {
        let source = in_time(self.source.task).await.expect("no driver panics");
        let target = in_time(self.target.task).await.expect("no driver panics");
        (source, target, self.watch.sent.load(Relaxed))
    }

    /// What was published, and the content bytes that were sent for it.
    pub(super) async fn published(self) -> (Published, u64) {
        match self.ended().await {
            (
                Ok(SourceEnd::Published(told, failed)),
                Ok(TargetEnd::Published(published, failed_too)),
                sent,
            ) => {
                assert!(failed.is_empty() && failed_too.is_empty(), "{failed:?} {failed_too:?}");
                assert_eq!(told, published, "both ends say the same");
                (published, sent)
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A source with a tree below `src`, a target, and a transport between them.
pub(super) struct Scene<T> {
    pub(super) transport: T,
    pub(super) source: ProcessTree,
    pub(super) target: ProcessTree,
    index: Index,
    pub(super) slabs: (Slab, Slab),
}

impl<T: Transport> Scene<T> {
    pub(super) async fn new() -> Self {
        let node =
            |seed| ProcessTree { tree: MemoryTree::new(seed), life: Arc::new(Life::default()) };
        let (source, target) = (node(1), node(2));
        source.tree.mkdir(&path("src")).expect("a source");
        let tree: Arc<dyn Tree> = Arc::new(target.tree.clone());
        let (index, _) = Index::open(tree, &index_path()).expect("an index");
        // Eight leases each: a source then has four runs under way at most.
        let transport = T::new().await;
        let slabs = transport.slabs();
        Self { transport, source, target, index, slabs }
    }

    /// Writes a file of the source: `len` bytes that only this seed gives.
    pub(super) fn file(&self, at: &str, seed: u64, len: usize) {
        let (tree, at) = (&self.source.tree, path(&format!("src/{at}")));
        mkdir_all(tree, &at.parent().expect("a directory")).expect("directories");
        let _ = tree.unlink(&at);
        let file = tree.create(&at).expect("a file");
        file.write_at(&Rng::new(seed).bytes(len), 0).expect("content");
        let mtime = FileTime { secs: 1_600_000_000 + seed.cast_signed(), nanos: 7 };
        file.set_meta(0o640, mtime).expect("mode and time");
    }

    /// Begins a session that pushes `src` to `to`; the target receives `messages` for now.
    pub(super) fn begin(&self, ends: (T::L, T::L), to: &str, messages: usize) -> Session {
        self.begin_after(ends, to, messages, || {})
    }

    /// As `begin`; `meddle` is called when the staging area is open and nothing runs yet.
    pub(super) fn begin_after(
        &self,
        (source, target): (T::L, T::L),
        to: &str,
        messages: usize,
        meddle: impl FnOnce(),
    ) -> Session {
        let permits = Semaphore::new(messages);
        let watch = Arc::new(Watch { sent: AtomicU64::new(0), permits });
        let watched = |link| Watched { link, watch: Arc::clone(&watch) };
        let (files, store) = (self.source_files(), self.store(to));
        meddle();
        let fresh = store.is_fresh();
        let source = start(watched(source), &self.slabs.0, None, |context| {
            run_source(context, files, fresh, None)
        });
        let target = start(watched(target), &self.slabs.1, Some(stopping()), |context| {
            run_with_credit(context, store, Task::Receive, CREDIT)
        });
        Session { source, target, watch }
    }

    pub(super) fn source_files(&self) -> Arc<SourceFiles> {
        let (tree, place) = (Arc::new(self.source.clone()), RelPath::root());
        Arc::new(SourceFiles::new(vec![SourceRoot {
            tree,
            path: path("src"),
            place,
            around: Around::default(),
        }]))
    }

    pub(super) fn store(&self, to: &str) -> Arc<TargetStore> {
        let options = StoreOptions {
            transfer_id: TransferId(1),
            source: "client".to_owned(),
            checksum: false,
            plan: false,
            part: None,
            above: Above::default(),
            basis: None,
            near: true,
            planted: Planted::default(),
        };
        let tree: Arc<dyn Tree> = Arc::new(self.target.clone());
        let store = TargetStore::open(tree, self.index.clone(), &path(to), options);
        Arc::new(store.expect("a staging area"))
    }

    pub(super) fn context<L: Link>(&self, link: L) -> (Context<L>, watch::Sender<bool>) {
        context(link, &self.slabs.1)
    }

    /// Pushes `src` to `to`, undisturbed.
    pub(super) async fn push(&self, to: &str) -> (Published, u64) {
        let ends = self.transport.session().await;
        let done = self.begin(ends, to, Semaphore::MAX_PERMITS).published().await;
        assert_eq!(self.picture_of_target(to), self.picture_of_source());
        let numbers = done.0.numbers;
        let moved = numbers.sent + numbers.deduplicated + numbers.resumed;
        assert_eq!(moved, self.total(), "{numbers:?}");
        self.leases_are_back().await;
        self.transport.took_its_way(done.1).await;
        done
    }

    /// What the tree of the source is: paths, kinds, contents, modes and times.
    pub(super) fn picture_of_source(&self) -> Vec<String> {
        picture(&self.source.tree, &path("src"))
    }

    /// The same of what is visible at the target; nothing if nothing is.
    pub(super) fn picture_of_target(&self, at: &str) -> Vec<String> {
        picture(&self.target.tree, &path(at))
    }

    /// Content bytes of the source's files.
    pub(super) fn total(&self) -> u64 {
        let tree = &self.source.tree;
        let files = walk(tree, &path("src")).expect("a source");
        let files = files.iter().filter(|(_, kind)| *kind == Kind::File);
        files.map(|(path, _)| tree.meta(path).expect("a file").len).sum()
    }

    /// A power loss at the target: what was published has to be there all the same.
    pub(super) fn survives_a_power_loss(self, at: &str) {
        let before = self.picture_of_target(at);
        assert_eq!(before, self.picture_of_source());
        self.target.tree.crash(3);
        assert_eq!(self.picture_of_target(at), before);
    }

    /// Nothing of an ended session holds memory.
    pub(super) async fn leases_are_back(&self) {
        until(|| self.slabs.0.leases_out() == 0 && self.slabs.1.leases_out() == 0).await;
    }
}

/// Bytes read so far from the files at and below `top`.
pub(super) fn bytes_read(tree: &MemoryTree, top: &str) -> u64 {
    let files = walk(tree, &path(top)).expect("a tree");
    let files = files.iter().filter(|(_, kind)| *kind == Kind::File);
    files.map(|(path, _)| tree.bytes_read(path).expect("a file")).sum()
}

fn context<L: Link>(link: L, slab: &Slab) -> (Context<L>, watch::Sender<bool>) {
    let (stop, cancel) = watch::channel(false);
    let meter = TransferMeter::new("push", "peer", "path");
    let (slab, codecs) = (slab.clone(), Arc::default());
    let way = crate::border::testing::inside();
    let (compress, share) = (Compress::Always, Share::default());
    (Context { link, slab, codecs, compress, share, meter, way, cancel }, stop)
}

/// What a node that is told to stop says to a source.
fn stopping() -> Frame {
    let (code, detail) = ("stopping".to_owned(), "the node stops".to_owned());
    Frame::Refuse { code, detail, retry: true }
}

/// Runs a driver; when it has ended, says `farewell` if it was told to stop, and closes the link.
fn start<L: Link, E: Send + 'static, F>(
    link: L,
    slab: &Slab,
    farewell: Option<Frame>,
    run: impl FnOnce(Context<L>) -> F,
) -> End<E>
where
    F: Future<Output = Result<E, Lost>> + Send + 'static,
{
    let (context, stop) = context(link.clone(), slab);
    let meter = Arc::clone(&context.meter);
    let running = run(context);
    let task = tokio::spawn(async move {
        let ended = running.await;
        let cancelled = matches!(ended, Err(Lost::Cancelled));
        if let Some(frame) = farewell.filter(|_| cancelled) {
            let _ = link.send(frame.encode()).await;
        }
        link.close("over").await;
        ended
    });
    End { stop, meter, task }
}

fn picture(tree: &MemoryTree, top: &RelPath) -> Vec<String> {
    let Ok(found) = walk(tree, top) else { return Vec::new() };
    let line = |(at, kind): &(RelPath, Kind)| {
        let meta = tree.meta(at).expect("an entry");
        let name = at.strip(top).expect("below the top");
        let mode = if *kind == Kind::Symlink { 0o777 } else { meta.mode };
        let what: Version = look(tree, at).expect("an entry");
        format!("{name} {mode:o} {:?} {what:?}", meta.mtime)
    };
    found.iter().map(line).collect()
}

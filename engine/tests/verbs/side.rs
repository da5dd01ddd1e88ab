//! One end of a pair of rails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use portway::base::NodeName;
use portway::base::limits::LEASE_BYTES;
use portway::buf::{Lease, LeaseSlice, Slab};
use portway::transport::rdma::{
    Completion, PortInfo, Rail, Read, Sink, SystemRail, SystemVerbs, Verbs, Window, WindowKind,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longest wait for anything: seven retries of a device that takes its time.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a sink holds before a READ.
pub(crate) const UNTOUCHED: u8 = 0xee;

/// The two devices to try; `None`, and a line that says so, without.
pub(crate) fn devices() -> Option<[String; 2]> {
    let Ok(names) = std::env::var("PORTWAY_TEST_RDMA") else {
        println!("SKIPPED: no RDMA device (PORTWAY_TEST_RDMA=DEVICE,DEVICE names two)");
        return None;
    };
    let mut names = names.split(',').map(str::to_owned);
    Some([names.next().expect("a device"), names.next().expect("a second device")])
}

/// A rail, its slab and its port.
pub(crate) struct Side {
    pub(crate) rail: SystemRail,
    pub(crate) slab: Slab,
    pub(crate) port: PortInfo,
    next: u64,
}

impl Side {
    fn open(device: &str, kind: Option<WindowKind>) -> Self {
        let verbs = SystemVerbs::load().unwrap();
        let verbs = match kind {
            Some(kind) => verbs.with_windows(kind),
            None => verbs,
        };
        let port = verbs.ports().into_iter().find(|port| port.device == device);
        let port = port.unwrap_or_else(|| panic!("{device} has no port: {:?}", verbs.survey()));
        let slab = Slab::new(64 << 20);
        let peer: NodeName = "peer".parse().unwrap();
        let rail = verbs.open(&port, &peer, &slab).unwrap();
        Self { rail, slab, port, next: 0 }
    }

    /// A tag that was not used before.
    pub(crate) fn tag(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A lease full of `byte`.
    pub(crate) fn lease(&self, byte: u8) -> Lease {
        let mut lease = self.slab.try_lease().expect("a lease");
        lease.fill(byte);
        lease
    }

    /// A lease with content that differs everywhere.
    pub(crate) fn content(&self, seed: u8) -> LeaseSlice {
        let mut lease = self.slab.try_lease().expect("a lease");
        for (at, byte) in lease.iter_mut().enumerate() {
            *byte = (at.wrapping_mul(31) ^ (at >> 9)) as u8 ^ seed;
        }
        lease.freeze()
    }

    /// Opens a window and waits until the peer may use it.
    pub(crate) fn open_window(&mut self, queue_pair: usize, content: Vec<Bytes>) -> Window {
        let tag = self.tag();
        let window = self.rail.open_window(queue_pair, tag, content).unwrap();
        self.rail.ring().unwrap();
        assert_eq!(self.wait(1), [Completion { tag, result: Ok(()) }]);
        window
    }

    /// Closes a window and waits until nothing can be read through it.
    pub(crate) fn close_window(&mut self, window: Window) {
        let tag = self.tag();
        self.rail.close_window(tag, window.id).unwrap();
        self.rail.ring().unwrap();
        assert_eq!(self.wait(1), [Completion { tag, result: Ok(()) }]);
    }

    /// Reads `len` bytes, at `at` of the window, into the beginning of an untouched lease.
    pub(crate) fn read(
        &mut self,
        queue_pair: usize,
        remote: u64,
        rkey: u32,
        len: usize,
    ) -> (Completion, Lease) {
        let (tag, sink) = (self.tag(), Sink::new(self.lease(UNTOUCHED)));
        let read = Read { remote, rkey, sink: Arc::clone(&sink), at: 0, len };
        self.rail.read(queue_pair, tag, read).unwrap();
        self.rail.ring().unwrap();
        let done = self.wait(1).remove(0);
        assert_eq!(done.tag, tag);
        (done, Sink::into_lease(sink).expect("the rail let go of the lease"))
    }

    /// Waits for so many completions; the order is that of the device.
    pub(crate) fn wait(&mut self, count: usize) -> Vec<Completion> {
        let (begun, mut done) = (Instant::now(), Vec::new());
        while done.len() < count {
            self.rail.arm().unwrap();
            self.rail.poll(&mut done).unwrap();
            assert!(begun.elapsed() < PATIENCE, "{} of {count} completions", done.len());
            let _ = done.len() < count && ready(&self.rail, 1000);
        }
        assert_eq!(done.len(), count, "{done:?}");
        done
    }
}

/// Connects two rails by `count` queue pairs, whatever they were before.
pub(crate) fn connect(a: &mut Side, b: &mut Side, count: usize) {
    let (to_a, to_b) = (a.rail.create(count).unwrap(), b.rail.create(count).unwrap());
    a.rail.connect(&b.port, &to_b).unwrap();
    b.rail.connect(&a.port, &to_a).unwrap();
}

/// Calls `each` with two connected sides, for both kinds of windows. The first reads, the second is
/// read from.
pub(crate) fn with_sides(count: usize, each: impl Fn(WindowKind, &mut Side, &mut Side)) {
    for kind in [WindowKind::Bound, WindowKind::Registered] {
        with_sides_of(count, Some(kind), &each);
    }
}

/// As [`with_sides`], for one kind of windows, or that which suits the devices.
pub(crate) fn with_sides_of(
    count: usize,
    kind: Option<WindowKind>,
    each: impl Fn(WindowKind, &mut Side, &mut Side),
) {
    let Some([a, b]) = devices() else { return };
    let (mut a, mut b) = (Side::open(&a, kind), Side::open(&b, kind));
    connect(&mut a, &mut b, count);
    let kind = b.rail.window_kind();
    each(kind, &mut a, &mut b);
    assert_eq!((a.rail.stale_completions(), b.rail.stale_completions()), (0, 0));
    let (a_slab, b_slab) = (a.slab.clone(), b.slab.clone());
    drop((a, b));
    assert_eq!((a_slab.leases_out(), b_slab.leases_out()), (0, 0), "{kind:?}");
}

/// Two connected sides, with windows as the devices have them.
pub(crate) fn sides(count: usize) -> Option<(Side, Side)> {
    let [a, b] = devices()?;
    let (mut a, mut b) = (Side::open(&a, None), Side::open(&b, None));
    connect(&mut a, &mut b, count);
    Some((a, b))
}

/// Whether no byte of a sink was written.
pub(crate) fn untouched(sink: &[u8]) -> bool {
    sink.len() == LEASE_BYTES && sink.iter().all(|byte| *byte == UNTOUCHED)
}

/// Whether one of a rail's descriptors becomes readable within so many milliseconds.
pub(crate) fn ready(rail: &SystemRail, wait_ms: i64) -> bool {
    let fds = rail.descriptors();
    let mut fds: Vec<PollFd<'_>> =
        fds.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let wait = Timespec { tv_sec: wait_ms / 1000, tv_nsec: wait_ms % 1000 * 1_000_000 };
    poll(&mut fds, Some(&wait)).unwrap() > 0
}

//! A port of a device, open for one peer.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};

use super::WindowKind;
use super::address::{address, path_mtu};
use super::completion::{Channel, CompletionQueue};
use super::device::{Context, Limits};
use super::domain::Domain;
use super::local::LocalCompletions;
use super::outstanding::{Entry, Kind, Outstanding};
use super::pair::{Connection, PATIENCE, PATIENCE_SOFTWARE, QueuePair, Request, Shape, Work};
use super::queued::{Pair, REQUESTS_MAX};
use super::region::{Region, Use};
use super::status::{event_words, is_of_port, status_words};
use super::windows::{By, Opened, Windows, span};
use crate::buf::Slab;
use crate::transport::rdma::{
    Completion, PortInfo, QpAddress, Rail, RailError, Read, Sink, Window,
};

/// Queue pairs of a rail at most.
const QUEUE_PAIRS_MAX: usize = 64;
/// Packet numbers have 24 bits.
pub(super) const PSN: u32 = 0x00ff_ffff;

/// A port of a device that is open for one peer.
///
/// Fields are dropped in this order, and so is what the device has: queue pairs, windows, the
/// completion queue, the region. The domain and the device go with the last that keeps them.
pub struct SystemRail {
    pairs: Vec<Pair>,
    windows: Windows,
    outstanding: Outstanding,
    /// Completions of what the device has no part in.
    local: LocalCompletions,
    queue: Option<Arc<CompletionQueue>>,
    channel: Arc<Channel>,
    region: Arc<Region>,
    pub(super) domain: Arc<Domain>,
    context: Arc<Context>,
    slab: Slab,
    port: PortInfo,
    limits: Limits,
    kind: WindowKind,
    patience: (u8, u8),
}

impl SystemRail {
    /// Opens a port; see [`Verbs::open`](crate::transport::rdma::Verbs::open).
    pub(super) fn open(
        context: Arc<Context>,
        port: &PortInfo,
        slab: &Slab,
        kind: WindowKind,
        software: bool,
    ) -> Result<Self, RailError> {
        let limits = context.limits()?;
        if kind == WindowKind::Bound && !limits.windows_2b {
            let name = context.name();
            return Err(RailError::new(format!("{name} has no memory windows of type 2B")));
        }
        let what_for = match kind {
            WindowKind::Bound => Use::LocalAndWindows,
            WindowKind::Registered => Use::Local,
        };
        let domain = Domain::new(&context)?;
        let region = Arc::new(Region::new(&domain, slab, slab.range(), what_for)?);
        let channel = Channel::new(&context)?;
        let rail = Self {
            pairs: Vec::new(),
            windows: Windows::default(),
            outstanding: Outstanding::default(),
            local: LocalCompletions::new()?,
            queue: None,
            channel,
            region,
            domain,
            context,
            slab: slab.clone(),
            port: port.clone(),
            limits,
            kind,
            patience: if software { PATIENCE_SOFTWARE } else { PATIENCE },
        };
        rail.check_address()?;
        Ok(rail)
    }

    /// How windows are made at this rail.
    pub fn window_kind(&self) -> WindowKind {
        self.kind
    }

    /// Completions that stood for no request: doubled, or late.
    pub fn stale_completions(&self) -> u64 {
        self.outstanding.stale()
    }

    /// Whether the port has its address still at the same place of the table.
    fn check_address(&self) -> Result<(), RailError> {
        if self.context.gid(self.port.port, self.port.gid_index)? == self.port.gid {
            return Ok(());
        }
        Err(RailError::new(format!("the address of {} changed", self.port.name())))
    }

    fn try_create(&mut self, count: usize) -> Result<Vec<QpAddress>, RailError> {
        let entries = count * REQUESTS_MAX;
        let name = self.context.name();
        if !(1..=QUEUE_PAIRS_MAX).contains(&count) || entries > self.limits.completions {
            return Err(RailError::new(format!("{name} cannot have {count} queue pairs")));
        }
        if REQUESTS_MAX > self.limits.requests {
            return Err(RailError::new(format!("a queue pair of {name} has too little room")));
        }
        self.check_address()?;
        let queue = CompletionQueue::new(&self.channel, entries)?;
        self.queue = Some(Arc::clone(&queue));
        let shape = Shape::of_transfers(REQUESTS_MAX);
        for _ in 0..count {
            let psn = random()? & PSN;
            let port = self.port.port;
            let qp = QueuePair::new(&self.domain, &queue, port, &shape, psn)?;
            self.pairs.push(Pair::new(qp));
        }
        Ok(self.pairs.iter().map(|pair| pair.qp.address()).collect())
    }

    fn pair(&mut self, queue_pair: usize) -> Result<&mut Pair, RailError> {
        match self.pairs.get_mut(queue_pair) {
            Some(pair) if pair.connected => Ok(pair),
            Some(_) => Err(RailError::new(format!("queue pair {queue_pair} is not connected"))),
            None => Err(RailError::new(format!("there is no queue pair {queue_pair}"))),
        }
    }

    /// A queue pair that has room to open or close a window.
    fn pair_for_window(&mut self, queue_pair: usize) -> Result<&mut Pair, RailError> {
        let pair = self.pair(queue_pair)?;
        if pair.window_room() == 0 {
            return Err(RailError::new(format!("queue pair {queue_pair} has no room")));
        }
        Ok(pair)
    }

    fn request(&mut self, queue_pair: usize, tag: u64, kind: Kind, work: Work) {
        let reads = matches!(kind, Kind::Read(_));
        let number = self.outstanding.insert(Entry { tag, queue_pair, kind });
        if let Some(pair) = self.pairs.get_mut(queue_pair) {
            pair.push(Request { number, work }, reads);
        }
    }

    /// Takes in that a request is over.
    fn settle(&mut self, entry: Entry, result: Result<(), RailError>) -> Completion {
        let reads = matches!(entry.kind, Kind::Read(_));
        if let Some(pair) = self.pairs.get_mut(entry.queue_pair) {
            pair.settle(reads);
        }
        match (entry.kind, &result) {
            // The device is done with the memory, however it went.
            (Kind::Read(sink), _) => drop(sink),
            (Kind::Open(id), Ok(())) => {
                if let Some(Opened { by: By::Window(window, rkey), .. }) = self.windows.find(id) {
                    window.bound(*rkey);
                }
            }
            (Kind::Close(id), Ok(())) => self.windows.closed(id),
            // The window may be open: it and its content stay until the queue pairs are gone.
            (Kind::Open(_) | Kind::Close(_), Err(_)) => {}
        }
        Completion { tag: entry.tag, result }
    }
}

impl Rail for SystemRail {
    fn create(&mut self, count: usize) -> Result<Vec<QpAddress>, RailError> {
        self.destroy();
        let created = self.try_create(count);
        if created.is_err() {
            self.destroy();
        }
        created
    }

    fn connect(&mut self, peer: &PortInfo, queue_pairs: &[QpAddress]) -> Result<(), RailError> {
        if queue_pairs.len() != self.pairs.len() || self.pairs.is_empty() {
            let (here, there) = (self.pairs.len(), queue_pairs.len());
            let text = format!("{here} queue pairs here cannot be connected to {there} there");
            return Err(RailError::new(text));
        }
        let reads = self.port.reads_max.min(peer.reads_max).min(self.limits.reads);
        if reads == 0 {
            return Err(RailError::new("one of the ports answers no READs"));
        }
        let (address, mtu) = (address(&self.port, peer)?, path_mtu(&self.port, peer)?);
        let patience = self.patience;
        for (pair, peer) in self.pairs.iter_mut().zip(queue_pairs) {
            let peer = QpAddress { number: peer.number & PSN, psn: peer.psn & PSN };
            let connection = Connection { peer, address, mtu, reads, patience, receives: false };
            pair.qp.connect(&connection)?;
            pair.connected = true;
        }
        Ok(())
    }

    fn destroy(&mut self) {
        for pair in &self.pairs {
            pair.qp.fail();
        }
        // Before the queue pairs, as the specification wants it of windows bound to one.
        let content = self.windows.destroy();
        let mut gone = true;
        for pair in self.pairs.drain(..) {
            gone &= pair.qp.destroy();
        }
        if let Some(queue) = self.queue.take() {
            // Whatever is in there stands for requests that nobody waits for.
            let _ = queue.poll(|_| {});
        }
        self.local.take(&mut Vec::new());
        if gone {
            self.outstanding.clear();
        } else {
            // A device that does not let go keeps the memory.
            self.outstanding.leak();
            std::mem::forget(content);
        }
    }

    fn room(&self, queue_pair: usize) -> usize {
        let pair = self.pairs.get(queue_pair).filter(|pair| pair.connected);
        pair.map_or(0, Pair::read_room)
    }

    fn read(&mut self, queue_pair: usize, tag: u64, read: Read) -> Result<(), RailError> {
        if self.pair(queue_pair)?.read_room() == 0 {
            return Err(RailError::new(format!("queue pair {queue_pair} has no room")));
        }
        if read.len == 0 || !read.fits() || !self.slab.holds(&read.sink.lease()) {
            return Err(RailError::new("a READ writes to a lease of the slab"));
        }
        let work = Work::Read {
            local: Sink::address(&read.sink) + read.at as u64,
            len: read.len as u32,
            lkey: self.region.lkey(),
            remote: read.remote,
            rkey: read.rkey,
        };
        self.request(queue_pair, tag, Kind::Read(read.sink), work);
        Ok(())
    }

    fn open_window(
        &mut self,
        queue_pair: usize,
        tag: u64,
        content: Vec<Bytes>,
    ) -> Result<Window, RailError> {
        self.pair_for_window(queue_pair)?;
        let span = span(&self.slab, &content)?;
        let (base, len) = (span.start as u64, span.len() as u64);
        match self.kind {
            WindowKind::Registered => {
                let region = self.windows.region(&self.domain, &self.slab, &span)?;
                let (rkey, by) = (region.rkey(), By::Region(region));
                let opened = Opened { queue_pair, by, closing: false, content };
                let id = self.windows.insert(opened);
                self.local.push(tag);
                Ok(Window { id, base, rkey })
            }
            WindowKind::Bound => {
                let random = random()? as u8;
                let window = self.windows.window(&self.domain, &self.region)?;
                let rkey = window.next_rkey(random);
                let (region, handle) = (window.region().handle(), window.handle());
                let work = Work::Bind { window: handle, region, base, len, rkey };
                let by = By::Window(window, rkey);
                let opened = Opened { queue_pair, by, closing: false, content };
                let id = self.windows.insert(opened);
                self.request(queue_pair, tag, Kind::Open(id), work);
                Ok(Window { id, base, rkey })
            }
        }
    }

    fn close_window(&mut self, tag: u64, id: u32) -> Result<(), RailError> {
        let none = || RailError::new(format!("there is no window {id}"));
        let opened = self.windows.find(id).filter(|opened| !opened.closing).ok_or_else(none)?;
        let queue_pair = opened.queue_pair;
        match &mut opened.by {
            By::Region(region) => {
                opened.closing = true;
                region.deregister()?;
                self.windows.closed(id);
                self.local.push(tag);
            }
            By::Window(_, rkey) => {
                let rkey = *rkey;
                self.pair_for_window(queue_pair)?;
                if let Some(opened) = self.windows.find(id) {
                    opened.closing = true;
                }
                self.request(queue_pair, tag, Kind::Close(id), Work::Invalidate { rkey });
            }
        }
        Ok(())
    }

    fn ring(&mut self) -> Result<(), RailError> {
        for pair in &mut self.pairs {
            // SAFETY: each request is in `outstanding`, which holds the sink of a READ until it
            // completed; `windows` holds the content behind a window until it is closed. Both are
            // let go of otherwise only in `destroy`, after the queue pairs.
            unsafe { pair.ring() }?;
        }
        Ok(())
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), RailError> {
        self.local.take(done);
        let Some(queue) = self.queue.clone() else { return Ok(()) };
        let mut over = Vec::new();
        let polled = queue.poll(|one| over.push(one));
        for one in over {
            let Some(entry) = self.outstanding.remove(one.number) else { continue };
            let result = match one.status {
                rdma_sys::ibv_wc_status::IBV_WC_SUCCESS => Ok(()),
                status => Err(RailError::new(status_words(status, one.vendor))),
            };
            done.push(self.settle(entry, result));
        }
        polled
    }

    fn trouble(&mut self) -> Option<RailError> {
        while let Some(event) = self.context.event() {
            if is_of_port(event.kind) && event.port != i32::from(self.port.port) {
                continue;
            }
            if Context::is_gid_change(event) {
                if let Err(error) = self.check_address() {
                    return Some(error);
                }
            } else if let Some(words) = event_words(event.kind) {
                return Some(RailError::new(format!("{}: {words}", self.port.name())));
            }
        }
        None
    }

    fn is_up(&mut self) -> bool {
        self.context.port(self.port.port).is_ok_and(|port| port.active)
    }

    fn arm(&mut self) -> Result<(), RailError> {
        self.queue.as_ref().map_or(Ok(()), |queue| queue.arm())
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let (completions, events) = (self.channel.descriptor(), self.context.events_descriptor());
        vec![completions, self.local.descriptor(), events]
    }
}

impl Drop for SystemRail {
    fn drop(&mut self) {
        self.destroy();
    }
}

pub(super) fn random() -> Result<u32, RailError> {
    let mut bytes = [0; 4];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| RailError::new("the system has no random numbers"))?;
    Ok(u32::from_ne_bytes(bytes))
}

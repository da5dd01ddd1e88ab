//! PORT: what the RDMA transport needs of a machine's devices.
//!
//! An implementation keeps two promises whatever its caller does. Memory that a device may still
//! read or write stays where it is: a rail holds the lease of a read, and the content behind a
//! window, until the device is done with it or the queue pairs are gone. And nothing of a node can
//! be written from outside, nor read but through an open window.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::base::NodeName;
use crate::base::limits::LEASE_BYTES;
use crate::buf::{Lease, Slab};

/// What kind of network a port is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fabric {
    /// Ethernet, by RoCE version 2.
    Ethernet,
    /// InfiniBand.
    InfiniBand,
}

/// A port of an RDMA device that can carry content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// The device's name, such as `mlx5_0`.
    pub device: String,
    /// The port's number at the device, from 1.
    pub port: u8,
    /// The network.
    pub fabric: Fabric,
    /// The address that was chosen, network byte order.
    pub gid: [u8; 16],
    /// Its place in the port's table; means something on this node only.
    pub gid_index: u8,
    /// Local identifier; 0 on Ethernet.
    pub lid: u16,
    /// Largest payload of a packet, in bytes: 256 to 4096.
    pub mtu: u16,
    /// Rate of the wire, in Mb/s; 0 if the device does not say.
    pub rate_mbit: u32,
    /// The memory node that the device is at.
    pub numa: Option<u16>,
    /// READs that a queue pair of this port answers at once, and sends out at once.
    pub reads_max: u8,
}

impl PortInfo {
    /// Device and port, as people call it: `mlx5_0/1`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.device, self.port)
    }
}

/// Names a queue pair at its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QpAddress {
    /// Number, 24 bits.
    pub number: u32,
    /// Number of the first packet that it sends, 24 bits, random.
    pub psn: u32,
}

/// Why something about a rail failed, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct RailError {
    /// What happened, and what it likely comes from.
    pub what: String,
}

impl RailError {
    /// An error in these words.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

/// A lease that READs write to. The memory is looked at again only after the last of them is done:
/// the rail that carries one holds the sink.
pub struct Sink(Mutex<Lease>);

impl Sink {
    /// Wraps a lease.
    pub fn new(lease: Lease) -> Arc<Self> {
        Arc::new(Self(Mutex::new(lease)))
    }

    /// The lease, for an implementation that copies.
    pub fn lease(&self) -> MutexGuard<'_, Lease> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Address of the first byte, for a device.
    pub fn address(&self) -> u64 {
        self.lease().as_ptr() as u64
    }

    /// The lease back, if nobody else holds the sink.
    pub fn into_lease(sink: Arc<Self>) -> Option<Lease> {
        Arc::into_inner(sink)
            .map(|sink| sink.0.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

/// One RDMA READ: `len` bytes from the peer's memory into a sink.
#[derive(Debug, Clone)]
pub struct Read {
    /// First byte at the peer.
    pub remote: u64,
    /// The peer's window.
    pub rkey: u32,
    /// Where the bytes go.
    pub sink: Arc<Sink>,
    /// First byte in the sink.
    pub at: usize,
    /// How many.
    pub len: usize,
}

impl Read {
    /// Whether the bytes fit the sink.
    pub fn fits(&self) -> bool {
        self.at.checked_add(self.len).is_some_and(|end| end <= LEASE_BYTES)
    }
}

/// A window that is being opened: what the peer has to know to read through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Names the window at its rail.
    pub id: u32,
    /// Address under which the peer reads the content's lowest byte.
    pub base: u64,
    /// The key. It differs from that of any window lately closed.
    pub rkey: u32,
}

/// Something that was posted is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The tag it was posted with.
    pub tag: u64,
    /// How it went. After a failure the queue pair carries nothing more.
    pub result: Result<(), RailError>,
}

/// Devices of a node.
pub trait Verbs: Send + Sync + 'static {
    /// An open port.
    type Rail: Rail;

    /// Ports that can carry content now, in an order that stays.
    fn ports(&self) -> Vec<PortInfo>;

    /// Opens a port for one peer: a protection domain of its own, with `slab` registered in it for
    /// local use only.
    ///
    /// # Errors
    /// The device refuses: memory that may not be locked, no permission, no such device.
    fn open(&self, port: &PortInfo, peer: &NodeName, slab: &Slab) -> Result<Self::Rail, RailError>;
}

/// A port that is open for one peer; one thread uses it.
pub trait Rail: Send + 'static {
    /// Makes `count` queue pairs, numbered from 0. Those that were there are destroyed first.
    ///
    /// # Errors
    /// The device refuses.
    fn create(&mut self, count: usize) -> Result<Vec<QpAddress>, RailError>;

    /// Connects the queue pairs to those of the peer's port, one to one. After this the peer can
    /// read through windows, and reads can be posted.
    ///
    /// # Errors
    /// The device refuses the address, or the numbers of queue pairs differ.
    fn connect(&mut self, peer: &PortInfo, queue_pairs: &[QpAddress]) -> Result<(), RailError>;

    /// Destroys the queue pairs and all windows. After the return the device touches no memory
    /// that was given to this rail, and what was posted never completes.
    fn destroy(&mut self);

    /// READs that fit one queue pair now beside those posted.
    fn room(&self, queue_pair: usize) -> usize;

    /// Posts a READ. It begins at the latest with [`ring`](Self::ring).
    ///
    /// # Errors
    /// There is no room, no such queue pair, or the device refuses.
    fn read(&mut self, queue_pair: usize, tag: u64, read: Read) -> Result<(), RailError>;

    /// Opens a window for READs over `content`, which lies in the slab, all within one lease. The
    /// peer may use it once `tag` has completed.
    ///
    /// # Errors
    /// As [`read`](Self::read), or the content is not in one lease of the slab.
    fn open_window(
        &mut self,
        queue_pair: usize,
        tag: u64,
        content: Vec<Bytes>,
    ) -> Result<Window, RailError>;

    /// Closes a window. Once `tag` has completed nothing can be read through it, and the rail has
    /// let go of its content.
    ///
    /// # Errors
    /// As [`read`](Self::read), or there is no such window.
    fn close_window(&mut self, tag: u64, id: u32) -> Result<(), RailError>;

    /// Tells the device of everything posted.
    ///
    /// # Errors
    /// The device refuses.
    fn ring(&mut self) -> Result<(), RailError>;

    /// Adds what completed to `done`.
    ///
    /// # Errors
    /// The completion queue is broken.
    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), RailError>;

    /// What befell the port or a queue pair since the last call, if it makes the rail useless.
    fn trouble(&mut self) -> Option<RailError>;

    /// Whether the port is up.
    fn is_up(&mut self) -> bool;

    /// Asks for a wake-up through [`descriptors`](Self::descriptors) at the next completion.
    /// Completions before the call give none: poll once more after it.
    ///
    /// # Errors
    /// The device refuses.
    fn arm(&mut self) -> Result<(), RailError>;

    /// What becomes readable at a completion or event; empty if the rail has to be polled.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;
}

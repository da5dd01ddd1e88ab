//! One end of a session whose content moves over rails, as the transport port wants it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, PoisonError};
use std::thread;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::arrived::{Granted, RdmaIncoming, Seen};
use super::driver::{Command, Commands, Shared, run};
use super::machine::{Rails, SendEnd, Setup};
use super::message::{Grant, Message, content_header};
use super::numa;
use super::port::{PortInfo, Verbs};
use crate::buf::Slab;
use crate::metrics::RailStatus;
use crate::transport::{
    DATA_HEADER_BYTES_MAX, Incoming, Link, LinkError, Paces, Peer, Waits, WireMeter,
};

/// Content below this goes along with its header: a READ of its own would take longer.
const CARRIED_BYTES_MAX: usize = 8 << 10;

/// Content of the peer that waits to be taken; while it is full, all that the peer sends waits.
const ARRIVED_MAX: usize = 16;

/// What the rails of a session are made of.
pub struct RdmaOptions<V> {
    /// This node's devices.
    pub verbs: Arc<V>,
    /// Whether this end dialled, and so sets the rails up.
    pub lead: bool,
    /// Ports of this node, as its greeting named them.
    pub mine: Vec<PortInfo>,
    /// Ports of the peer, as its greeting named them.
    pub yours: Vec<PortInfo>,
    /// Queue pairs of each rail.
    pub queue_pairs: usize,
    /// Where content lies.
    pub slab: Slab,
}

/// A session over `L`, with content over rails if both ends have them. Cheap to clone.
///
/// A data message is pulled by its receiver; the send returns when it has. One that no rail can
/// carry, or that is not in the slab, goes over `L`.
pub struct RdmaLink<L: Link> {
    inner: L,
    fabric: Option<Arc<Owner<L>>>,
}

impl<L: Link> Clone for RdmaLink<L> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), fabric: self.fabric.clone() }
    }
}

/// What ends with the last link.
struct Owner<L: Link> {
    shared: Shared,
    slab: Slab,
    next_send: AtomicU64,
    paces: OnceLock<Paces>,
    arrived: tokio::sync::Mutex<mpsc::Receiver<Arrived<L>>>,
    tasks: [JoinHandle<()>; 2],
}

enum Arrived<L: Link> {
    Carried(L::Incoming, usize),
    Granted(Grant),
}

impl<L: Link> Drop for Owner<L> {
    fn drop(&mut self) {
        self.shared.commands.push(Command::Stop);
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl<L: Link> RdmaLink<L> {
    /// A session without rails: everything goes over `inner`.
    pub fn plain(inner: L) -> Self {
        Self { inner, fabric: None }
    }

    /// The link below.
    pub fn carrier(&self) -> &L {
        &self.inner
    }

    /// What [`rails`](Link::rails) gives, beyond the life of the link.
    #[cfg(test)]
    pub(crate) fn watch_rails(&self) -> Option<Arc<std::sync::Mutex<Vec<RailStatus>>>> {
        self.fabric.as_ref().map(|fabric| Arc::clone(&fabric.shared.status))
    }

    /// Whether content takes rails.
    pub fn has_rails(&self) -> bool {
        self.fabric.is_some()
    }

    /// A session whose peer does the same with the other `lead`. Must be called inside a tokio
    /// runtime. Without a thread to run them there are no rails, and the peer finds out.
    pub fn start<V: Verbs>(inner: L, options: RdmaOptions<V>) -> Self {
        let Ok(commands) = Commands::new() else { return Self::plain(inner) };
        let (tell, told) = mpsc::unbounded_channel();
        let (violations, broken) = mpsc::unbounded_channel();
        let shared = Shared {
            commands: Arc::new(commands),
            status: Arc::default(),
            tell,
            violations,
            header_bytes_max: L::HEADER_BYTES_MAX,
        };
        let RdmaOptions { verbs, lead, mine, yours, queue_pairs, slab } = options;
        let (peer, memory) = (inner.peer().node.clone(), slab.clone());
        let rails = Rails::new(Setup {
            lead,
            mine,
            yours,
            queue_pairs,
            near: numa::node_of(&slab.range()),
            header_bytes_max: L::HEADER_BYTES_MAX,
            opener: Box::new(move |port| verbs.open(port, &peer, &memory)),
        });
        let theirs = shared.clone();
        let thread = thread::Builder::new().name("rails".to_owned());
        if thread.spawn(move || run(rails, theirs)).is_err() {
            return Self::plain(inner);
        }
        let (arriving, arrived) = mpsc::channel(ARRIVED_MAX);
        let tasks = [
            tokio::spawn(tell_all(inner.clone(), told)),
            tokio::spawn(receive_all(
                inner.clone(),
                Arc::clone(&shared.commands),
                arriving,
                broken,
            )),
        ];
        let fabric = Owner {
            shared,
            slab,
            next_send: AtomicU64::new(1),
            paces: OnceLock::new(),
            arrived: tokio::sync::Mutex::new(arrived),
            tasks,
        };
        Self { inner, fabric: Some(Arc::new(fabric)) }
    }
}

/// Sends headers to the peer, in order, over the link below.
async fn tell_all<L: Link>(inner: L, mut told: mpsc::UnboundedReceiver<Bytes>) {
    while let Some(header) = told.recv().await {
        if inner.send_data(header, Vec::new()).await.is_err() {
            return;
        }
    }
}

/// Sorts what comes over the link below.
async fn receive_all<L: Link>(
    inner: L,
    commands: Arc<Commands>,
    arriving: mpsc::Sender<Arrived<L>>,
    mut broken: mpsc::UnboundedReceiver<&'static str>,
) {
    let mut seen = Seen::default();
    loop {
        let arrived = tokio::select! {
            incoming = inner.recv_data() => match incoming {
                Err(_) => break,
                Ok(incoming) => match Message::decode(incoming.header()) {
                    Ok(Message::Content(skipped)) => Arrived::Carried(incoming, skipped),
                    Ok(Message::Notes(notes)) => {
                        commands.push(Command::Peer(notes));
                        continue;
                    }
                    // It may come twice.
                    Ok(Message::Grant(grant)) => match seen.take(grant.id) {
                        Some(true) => Arrived::Granted(grant),
                        Some(false) => continue,
                        None => {
                            inner.close("too many grants at once").await;
                            break;
                        }
                    },
                    Err(error) => {
                        inner.close(&error.to_string()).await;
                        break;
                    }
                },
            },
            what = broken.recv() => {
                if let Some(what) = what {
                    inner.close(what).await;
                }
                break;
            }
        };
        if arriving.send(arrived).await.is_err() {
            break;
        }
    }
    // The session is over: nothing can be read through its rails any more.
    commands.push(Command::Stop);
}

impl<L: Link> Link for RdmaLink<L> {
    type Incoming = RdmaIncoming<L>;
    const HEADER_BYTES_MAX: usize = DATA_HEADER_BYTES_MAX;

    fn peer(&self) -> &Peer {
        self.inner.peer()
    }

    fn name(&self) -> &'static str {
        if self.fabric.is_some() { "rdma" } else { self.inner.name() }
    }

    async fn send(&self, frame: Bytes) -> Result<(), LinkError> {
        self.inner.send(frame).await
    }

    async fn recv(&self) -> Result<Bytes, LinkError> {
        self.inner.recv().await
    }

    async fn send_data(&self, header: Bytes, content: Vec<Bytes>) -> Result<(), LinkError> {
        if header.len() > Self::HEADER_BYTES_MAX {
            let detail = format!("a data message with a header of {} bytes", header.len());
            return Err(LinkError::Protocol { detail });
        }
        let Some(fabric) = &self.fabric else {
            return self.inner.send_data(header, content).await;
        };
        let bytes: usize = content.iter().map(Bytes::len).sum();
        let pulled =
            bytes > CARRIED_BYTES_MAX && content.iter().all(|part| fabric.slab.holds(part));
        let mut _carrying = None;
        if pulled {
            if let Some(paces) = fabric.paces.get() {
                paces.pass_all(bytes as u64).await;
            }
            match fabric.send(header.clone(), content.clone()).await {
                None => return Ok(()),
                carrying => _carrying = carrying,
            }
        }
        self.inner.send_data(content_header(&header), content).await
    }

    async fn delivered(&self) {
        // What rails carry is there when it is sent.
        self.inner.delivered().await;
    }

    async fn recv_data(&self) -> Result<RdmaIncoming<L>, LinkError> {
        let Some(fabric) = &self.fabric else {
            return self.inner.recv_data().await.map(|inner| RdmaIncoming::carried(inner, 0));
        };
        match fabric.arrived.lock().await.recv().await {
            Some(Arrived::Carried(inner, skipped)) => Ok(RdmaIncoming::carried(inner, skipped)),
            Some(Arrived::Granted(grant)) => {
                let (commands, slab) = (Arc::clone(&fabric.shared.commands), fabric.slab.clone());
                Ok(RdmaIncoming::granted(Granted { grant, commands, slab }))
            }
            // Why is what the link below says.
            None => self.inner.recv_data().await.map(|inner| RdmaIncoming::carried(inner, 0)),
        }
    }

    fn set_paces(&self, paces: Paces) {
        self.inner.set_paces(paces.clone());
        if let Some(fabric) = &self.fabric {
            let _ = fabric.paces.set(paces);
        }
    }

    fn sends_max(&self) -> usize {
        // Each waits for its reader: enough of them to keep several rails full meanwhile.
        if self.fabric.is_some() { 24 } else { self.inner.sends_max() }
    }

    fn wants_encoding(&self) -> bool {
        // Rails are faster than any encoder.
        self.fabric.is_none() && self.inner.wants_encoding()
    }

    fn has_room(&self) -> bool {
        self.fabric.is_some() || self.inner.has_room()
    }

    fn runs_dry(&self) -> bool {
        self.fabric.is_some() || self.inner.runs_dry()
    }

    fn waits(&self) -> Waits {
        // What rails could carry besides is not known.
        if self.fabric.is_some() { Waits::Network } else { self.inner.waits() }
    }

    fn blame(&self, path: u8) {
        if let Some(fabric) = &self.fabric {
            fabric.shared.commands.push(Command::Blame { rail: path });
        }
    }

    fn remote(&self) -> Option<std::net::SocketAddr> {
        self.inner.remote()
    }

    fn meter(&self) -> WireMeter {
        self.inner.meter()
    }

    fn rails(&self) -> Vec<RailStatus> {
        let Some(fabric) = &self.fabric else { return Vec::new() };
        fabric.shared.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn close(&self, reason: &str) {
        self.inner.close(reason).await;
        if let Some(fabric) = &self.fabric {
            fabric.shared.commands.push(Command::Stop);
        }
    }
}

impl<L: Link> Owner<L> {
    /// Sends content over the rails; `Some` if it has to be carried, until that is done.
    async fn send(&self, header: Bytes, content: Vec<Bytes>) -> Option<Waiting<'_>> {
        let id = self.next_send.fetch_add(1, Relaxed);
        let (done, sent) = oneshot::channel();
        self.shared.commands.push(Command::Send { id, header, content, done });
        let mut waiting = Waiting { id, commands: &self.shared.commands, end: None };
        // Rails that are gone carry nothing.
        let end = sent.await.unwrap_or(SendEnd::Carry);
        waiting.end = Some(end);
        (end == SendEnd::Carry).then_some(waiting)
    }
}

/// A send that is waited for; given up when dropped before its end, and carried when dropped after
/// it was handed back.
struct Waiting<'a> {
    id: u64,
    commands: &'a Commands,
    end: Option<SendEnd>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        match self.end {
            None => self.commands.push(Command::Unsend { id: self.id }),
            Some(SendEnd::Carry) => self.commands.push(Command::Carried { id: self.id }),
            Some(SendEnd::Done) => {}
        }
    }
}

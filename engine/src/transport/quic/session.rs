//! A session over several connections: its members, its control channel, its end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::caps::Caps;
use super::congestion::close;
use super::data::{QuicIncoming, accept_data};
use super::error::{Code, clipped, link_error};
use super::frames::{FRAMES_QUEUED_MAX, FrameReader, write_frames};
use super::preamble::Token;
use super::socket::{Counters, SocketBuffers};
use crate::base::limits::LEASE_BYTES;
use crate::transport::{LinkError, Peer, Waits};

/// Locks a mutex whose holders cannot leave it half changed.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection of a session. It stays here after its end, for what it counted.
pub(super) struct Member {
    pub(super) connection: Connection,
    /// The endpoint and socket of its own that a dialling end has.
    pub(super) dialled: Option<(Endpoint, Arc<Counters>)>,
    /// Bytes of data messages given to it and not acknowledged.
    pub(super) load: AtomicU64,
    /// Held while a data message is written. Were several written at once, the window could fill
    /// with parts of all of them, and a reader that takes one after the other would wait forever
    /// for the rest of the first.
    pub(super) writing: tokio::sync::Mutex<()>,
}

impl Member {
    pub(super) fn new(
        connection: Connection,
        dialled: Option<(Endpoint, Arc<Counters>)>,
    ) -> Arc<Self> {
        let writing = tokio::sync::Mutex::new(());
        Arc::new(Self { connection, dialled, load: AtomicU64::new(0), writing })
    }

    pub(super) fn is_live(&self) -> bool {
        self.connection.close_reason().is_none()
    }
}

/// Whether and how a session ended. Its control connection decides.
#[derive(Clone)]
pub(super) struct Fate {
    pub(super) control: Connection,
    pub(super) failed: Arc<OnceLock<LinkError>>,
    pub(super) idle: Duration,
}

impl Fate {
    /// Why the session ended, or `None` while it lives.
    pub(super) fn ended(&self) -> Option<LinkError> {
        let closed = self.control.close_reason()?;
        Some(self.failed.get().cloned().unwrap_or_else(|| link_error(&closed, self.idle)))
    }

    /// Waits for the end and says why.
    pub(super) async fn end(&self) -> LinkError {
        let closed = self.control.closed().await;
        self.failed.get().cloned().unwrap_or_else(|| link_error(&closed, self.idle))
    }
}

/// What a session is made of at its start.
pub(super) struct Start {
    pub(super) peer: Peer,
    /// Connections the dialling end announced.
    pub(super) count: u8,
    pub(super) idle: Duration,
    pub(super) buffers: SocketBuffers,
    pub(super) data_streams_max: u32,
    pub(super) control: Arc<Member>,
    pub(super) streams: (SendStream, RecvStream),
    /// What goes out on the control stream before any frame.
    pub(super) greeting: Bytes,
    /// Until when the peer's welcome is waited for, and what it means if none comes; `None` at the
    /// end that welcomes.
    pub(super) awaited: Option<(Instant, LinkError)>,
}

/// One end of a session.
pub(super) struct Session {
    pub(super) peer: Peer,
    pub(super) count: u8,
    pub(super) buffers: SocketBuffers,
    pub(super) fate: Fate,
    /// Indices that were attached, one bit each.
    attached: Mutex<u32>,
    /// The control connection, then the others as they came.
    pub(super) members: Mutex<Vec<Arc<Member>>>,
    pub(super) frames_out: Mutex<Option<mpsc::Sender<Bytes>>>,
    pub(super) writer: Mutex<Option<JoinHandle<()>>>,
    pub(super) frames_in: tokio::sync::Mutex<FrameReader>,
    pub(super) awaited: Option<(Instant, LinkError)>,
    /// Whether the peer's welcome was heard.
    pub(super) welcomed: watch::Receiver<bool>,
    /// Held strongly by the tasks that accept data: the queue ends when the last one does.
    data_queue: mpsc::WeakSender<QuicIncoming>,
    data_in: tokio::sync::Mutex<mpsc::Receiver<QuicIncoming>>,
    pub(super) caps: Caps,
    /// Data messages that the peer has not acknowledged whole.
    pub(super) undelivered: watch::Sender<usize>,
    turn: AtomicUsize,
}

impl Session {
    /// Starts a session on its control connection.
    pub(super) fn start(start: Start) -> Arc<Self> {
        let Start { peer, count, idle, buffers, data_streams_max, control, .. } = start;
        let (send, recv) = start.streams;
        // Every stream that a connection may have open fits the queue, so that one whose header
        // is late never keeps a later one, and the window it holds, from being accepted.
        let queue = usize::from(count) * data_streams_max as usize;
        let (data_queue, data_in) = mpsc::channel(queue);
        let (frames_out, frames) = mpsc::channel(FRAMES_QUEUED_MAX);
        let writer = tokio::spawn(write_frames(send, start.greeting, frames));
        let connection = control.connection.clone();
        let (hears, welcomed) = watch::channel(start.awaited.is_none());
        let session = Arc::new(Self {
            peer,
            count,
            buffers,
            fate: Fate { control: connection.clone(), failed: Arc::default(), idle },
            attached: Mutex::new(1),
            members: Mutex::new(vec![control]),
            frames_out: Mutex::new(Some(frames_out)),
            writer: Mutex::new(Some(writer)),
            frames_in: tokio::sync::Mutex::new(FrameReader::new(recv, hears)),
            awaited: start.awaited,
            welcomed,
            data_queue: data_queue.downgrade(),
            data_in: tokio::sync::Mutex::new(data_in),
            caps: Caps::default(),
            undelivered: watch::Sender::new(0),
            turn: AtomicUsize::new(0),
        });
        tokio::spawn(accept_data(Arc::downgrade(&session), connection.clone(), data_queue));
        tokio::spawn(end_with_control(Arc::downgrade(&session), connection));
        session
    }

    /// Whether connection `index` may still be attached; it is marked as attached.
    pub(super) fn claim(&self, index: u8) -> bool {
        let mut attached = locked(&self.attached);
        let bit = 1_u32.checked_shl(index.into()).unwrap_or(0);
        let free = index < self.count && *attached & bit == 0;
        *attached |= bit;
        free
    }

    /// Adds a connection. It is closed at once if the session has ended.
    pub(super) fn add(self: &Arc<Self>, member: Arc<Member>) {
        let connection = member.connection.clone();
        locked(&self.members).push(member);
        match (self.fate.ended(), self.data_queue.upgrade()) {
            (None, Some(queue)) => {
                tokio::spawn(accept_data(Arc::downgrade(self), connection, queue));
            }
            _ => close(&connection, Code::Done.into(), b"the session is over"),
        }
    }

    /// Connections that are up.
    pub(super) fn live(&self) -> usize {
        locked(&self.members).iter().filter(|member| member.is_live()).count()
    }

    /// The connection for the next data message of `bytes`: among those that do not carry the
    /// control channel the one with the least under way, in turn where equal; the control
    /// connection if there is no other.
    pub(super) fn choose(&self, bytes: u64) -> Result<Load, LinkError> {
        if let Some(ended) = self.fate.ended() {
            return Err(ended);
        }
        let members = locked(&self.members);
        let (control, rest) = members.split_first().ok_or(LinkError::Local)?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let least = (0..rest.len())
            .map(|i| &rest[(turn + i) % rest.len()])
            .filter(|member| member.is_live())
            .min_by_key(|member| member.load.load(Ordering::Relaxed));
        Ok(Load::new(least.unwrap_or(control), bytes))
    }

    /// Whether a connection that carries data messages may have more under way than it has.
    pub(super) fn has_room(&self) -> bool {
        !self.caps.holds() && self.members_have_room(0)
    }

    /// Whether a connection that carries data messages has less than a message waiting.
    pub(super) fn runs_dry(&self) -> bool {
        !self.caps.holds() && self.members_have_room(LEASE_BYTES as u64)
    }

    /// What content waits for.
    pub(super) fn waits(&self) -> Waits {
        match (self.caps.holds(), self.members_have_room(0)) {
            (true, _) if self.caps.paces().holds_for_others() => Waits::Network,
            (true, _) => Waits::OwnCap,
            (false, true) => Waits::Nothing,
            (false, false) => Waits::Network,
        }
    }

    /// Whether one has less than its window and `more` bytes under way and waiting.
    fn members_have_room(&self, more: u64) -> bool {
        let members = locked(&self.members);
        let Some((control, rest)) = members.split_first() else { return false };
        let room = |member: &Arc<Member>| {
            member.load.load(Ordering::Relaxed) < member.connection.stats().path.cwnd + more
        };
        let mut live = rest.iter().filter(|member| member.is_live()).peekable();
        if live.peek().is_none() { room(control) } else { live.any(room) }
    }

    /// Ends the session because the peer broke a rule, and tells it.
    pub(super) fn fail(&self, detail: String) {
        let reason = clipped(&detail).to_vec();
        let _ = self.fate.failed.set(LinkError::Protocol { detail });
        self.close_all(Code::Protocol, &reason);
    }

    /// Loses one connection, as a failing path does.
    #[cfg(test)]
    pub(super) fn lose(&self, place: usize) {
        locked(&self.members)[place].connection.close(9_u32.into(), b"lost");
    }

    /// The rate that congestion control wants for one connection, in bits per second.
    #[cfg(test)]
    pub(super) fn pacing_bps(&self, place: usize) -> Option<u64> {
        locked(&self.members)[place].connection.congestion_state().metrics().pacing_rate
    }

    pub(super) fn close_all(&self, code: Code, reason: &[u8]) {
        for member in locked(&self.members).iter().filter(|member| member.is_live()) {
            // A second close would take the first one's reason away.
            close(&member.connection, code.into(), reason);
        }
    }

    pub(super) async fn recv_data(&self) -> Result<QuicIncoming, LinkError> {
        match self.data_in.lock().await.recv().await {
            Some(incoming) => Ok(incoming),
            None => Err(self.fate.end().await),
        }
    }
}

/// Bytes under way on a connection, for as long as this lives.
pub(super) struct Load {
    pub(super) member: Arc<Member>,
    bytes: u64,
}

impl Load {
    fn new(member: &Arc<Member>, bytes: u64) -> Self {
        member.load.fetch_add(bytes, Ordering::Relaxed);
        Self { member: Arc::clone(member), bytes }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.member.load.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What keeps a session alive: when the last link to it is gone, so is the session.
pub(super) struct Owner {
    pub(super) session: Arc<Session>,
    /// Held for its drop: takes the session out of its listener's table.
    pub(super) _registration: Option<Registration>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.session.close_all(Code::Done, b"the session was dropped");
    }
}

/// Sessions of a listener by their tokens.
pub(super) type Table = Arc<Mutex<HashMap<Token, Weak<Session>>>>;

/// A session's place in its listener's table; leaves it when dropped.
pub(super) struct Registration {
    pub(super) table: Table,
    pub(super) token: Token,
}

impl Drop for Registration {
    fn drop(&mut self) {
        locked(&self.table).remove(&self.token);
    }
}

/// A session without its control connection is dead, whatever other connections do.
async fn end_with_control(session: Weak<Session>, control: Connection) {
    control.closed().await;
    if let Some(session) = session.upgrade() {
        session.close_all(Code::Done, b"the control connection is gone");
    }
}

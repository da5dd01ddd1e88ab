//! The listening end: admits handshakes within bounds and joins connections into sessions.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, ServerConfig, TokioRuntime};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use super::config::QuicConfig;
use super::congestion::close;
use super::error::{Code, clipped, link_error, write_error};
use super::gate::{Admission, Gate, Pass};
use super::link::QuicLink;
use super::preamble::{Preamble, listen, welcome};
use super::session::{Member, Owner, Registration, Session, Start, Table, locked};
use super::socket::{Counters, SocketBuffers, open};
use super::tls::QuicTls;
use crate::transport::{LinkError, Peer};

/// Bytes buffered for one handshake before it is looked at, and for all of them.
const INCOMING_BYTES: u64 = 64 << 10;
const INCOMING_BYTES_TOTAL: u64 = 4 << 20;
/// Bidirectional streams a client may open: the one it speaks its first words on.
const BIDI_STREAMS: u32 = 1;
/// Longest that a closing listener waits until its peers know.
const FAREWELL_MS: u64 = 1_000;

/// Why a listener could not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Address {
        /// What was asked for.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// There are no TLS settings to listen with.
    #[error("this node has no identity to listen with")]
    NoIdentity,
    /// The TLS settings lack the cipher suite that QUIC begins with.
    #[error("the TLS settings lack the cipher suite that QUIC begins with")]
    CipherSuite,
}

/// Accepts sessions on one UDP address.
///
/// Dropping it stops new sessions; those that are there live on.
pub struct QuicListener {
    shared: Arc<Shared>,
    sessions: tokio::sync::Mutex<mpsc::Receiver<QuicLink>>,
    accepting: JoinHandle<()>,
    address: SocketAddr,
    counters: Arc<Counters>,
}

struct Shared {
    endpoint: Endpoint,
    tls: QuicTls,
    config: QuicConfig,
    buffers: SocketBuffers,
    table: Table,
    gate: Arc<Gate>,
}

impl QuicListener {
    /// Listens on `address`; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The address is taken or not this machine's, or the TLS settings do not serve.
    pub fn bind(
        address: SocketAddr,
        tls: &QuicTls,
        config: &QuicConfig,
    ) -> Result<Self, BindError> {
        let crypto = tls.server_crypto().ok_or(BindError::NoIdentity)?;
        let crypto = Arc::new(crypto.map_err(|_| BindError::CipherSuite)?);
        let options = config.options();
        let mut server = ServerConfig::with_crypto(crypto);
        server
            // Before its first words a connection gets no more than a control connection does.
            .transport_config(config.transport(config.window_bytes(0, 2), BIDI_STREAMS, None))
            .max_incoming(options.half_open_max)
            .incoming_buffer_size(INCOMING_BYTES)
            .incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
        let at = |source| BindError::Address { address, source };
        let opened = open(address, options.socket_buffer_bytes, options.mtu_max).map_err(at)?;
        let endpoint = Endpoint::new_with_abstract_socket(
            config.endpoint(tls.reset_key.as_ref()),
            Some(server),
            opened.socket,
            Arc::new(TokioRuntime),
        )
        .map_err(at)?;
        let address = endpoint.local_addr().map_err(at)?;
        let shared = Arc::new(Shared {
            endpoint,
            tls: tls.clone(),
            config: config.clone(),
            buffers: opened.buffers,
            table: Table::default(),
            gate: Arc::new(Gate::new(options.half_open_max, options.retry_above)),
        });
        let (ready, sessions) = mpsc::channel(options.sessions_max);
        let accepting = tokio::spawn(accept_all(Arc::clone(&shared), ready));
        let counters = opened.counters;
        let sessions = tokio::sync::Mutex::new(sessions);
        Ok(Self { shared, sessions, accepting, address, counters })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Kernel buffers of its socket.
    pub fn socket_buffers(&self) -> SocketBuffers {
        self.shared.buffers
    }

    /// UDP payload bytes that its socket sent and received, strangers' included.
    pub fn wire_bytes(&self) -> (u64, u64) {
        (self.counters.sent(), self.counters.received())
    }

    /// Handshakes under way.
    pub fn half_open(&self) -> usize {
        self.shared.gate.half_open()
    }

    /// The next session whose peer is known and whose control channel is open; `None` after
    /// [`close`](Self::close). Only one task accepts at a time.
    pub async fn accept(&self) -> Option<QuicLink> {
        self.sessions.lock().await.recv().await
    }

    /// Takes no more sessions, closes those that are there as [`Link::close`] does, and waits a
    /// moment until the peers know.
    ///
    /// [`Link::close`]: crate::transport::Link::close
    pub async fn close(&self, reason: &str) {
        self.shared.endpoint.set_server_config(None);
        let reason: Arc<str> = reason.into();
        let mut closing = JoinSet::new();
        for session in locked(&self.shared.table).values().filter_map(std::sync::Weak::upgrade) {
            let reason = Arc::clone(&reason);
            closing.spawn(async move { session.close(&reason).await });
        }
        closing.join_all().await;
        self.shared.endpoint.close(Code::Done.into(), clipped(&reason));
        let farewell = Duration::from_millis(FAREWELL_MS);
        let _ = timeout(farewell, self.shared.endpoint.wait_idle()).await;
    }
}

impl Drop for QuicListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept_all(shared: Arc<Shared>, ready: mpsc::Sender<QuicLink>) {
    while let Some(incoming) = shared.endpoint.accept().await {
        let full = shared.endpoint.open_connections() >= shared.config.options().connections_max;
        let address = incoming.remote_address().ip();
        match shared.gate.admit(address, incoming.remote_address_validated(), full) {
            Admission::Enter(pass) => {
                tokio::spawn(handshake(Arc::clone(&shared), incoming, pass, ready.clone()));
            }
            Admission::Prove => {
                // Refused only for a token that came back already, which `admit` excludes.
                let _ = incoming.retry();
            }
            Admission::Full => incoming.refuse(),
        }
    }
}

/// Takes one connection from its first packet to its place in a session, or closes it.
async fn handshake(
    shared: Arc<Shared>,
    incoming: Incoming,
    pass: Pass,
    ready: mpsc::Sender<QuicLink>,
) {
    let address = incoming.remote_address();
    let until = Instant::now() + shared.config.handshake();
    let outcome = match incoming.accept() {
        Ok(connecting) => timeout_at(until, connecting).await,
        Err(error) => Ok(Err(error)),
    };
    let connection = match outcome {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            let error = link_error(&error, shared.config.idle());
            if matches!(error, LinkError::Refused { .. }) {
                // Who runs the node has to know why another one cannot come in.
                return tracing::info!(%address, %error, "handshake failed");
            }
            return tracing::debug!(%address, %error, "handshake failed");
        }
        Err(_) => return tracing::debug!(%address, "handshake given up"),
    };
    let (code, error) = match timeout_at(until, shared.greet(&connection, &ready)).await {
        Ok(Ok(())) => return drop(pass),
        Ok(Err(refusal)) => refusal,
        Err(_) => (Code::Late, "the session did not begin in time".to_owned()),
    };
    tracing::debug!(%address, %error, "connection refused");
    close(&connection, code.into(), clipped(&error));
}

type Refusal = (Code, String);

fn broken(error: LinkError) -> Refusal {
    match error {
        LinkError::Protocol { detail } => (Code::Protocol, detail),
        other => (Code::Done, other.to_string()),
    }
}

impl Shared {
    async fn greet(
        &self,
        connection: &Connection,
        ready: &mpsc::Sender<QuicLink>,
    ) -> Result<(), Refusal> {
        let peer = self.tls.identify(connection).map_err(|error| match error {
            LinkError::Refused { detail } => (Code::Refused, detail),
            other => (Code::Refused, other.to_string()),
        })?;
        let lost = |error| (Code::Done, link_error(&error, self.config.idle()).to_string());
        let (send, mut recv) = connection.accept_bi().await.map_err(lost)?;
        let preamble = listen(&mut recv, &self.config).await.map_err(broken)?;
        let window = self.config.window_bytes(preamble.index.into(), preamble.count.into());
        connection.set_receive_window(window.into());
        connection.set_send_window(window.into());
        let member = Member::new(connection.clone(), None);
        if preamble.index == 0 {
            self.begin(&preamble, peer, member, (send, recv), ready)
        } else {
            self.attach(&preamble, &peer, member, send).await
        }
    }

    /// Begins a session with its control connection.
    fn begin(
        &self,
        preamble: &Preamble,
        peer: Peer,
        control: Arc<Member>,
        streams: (SendStream, RecvStream),
        ready: &mpsc::Sender<QuicLink>,
    ) -> Result<(), Refusal> {
        let busy = || (Code::Busy, "this node has no room for another session now".to_owned());
        let room = ready.try_reserve().map_err(|_| busy())?;
        let token = preamble.token;
        let owner = {
            // Locked over the start, which welcomes the client: what it then attaches waits here
            // and finds its session.
            let mut table = locked(&self.table);
            if table.contains_key(&token) {
                return Err((Code::Protocol, "the session is already there".to_owned()));
            }
            if table.len() >= self.config.options().sessions_max {
                return Err(busy());
            }
            let session = Session::start(Start {
                peer,
                count: preamble.count,
                idle: self.config.idle(),
                buffers: self.buffers,
                data_streams_max: self.config.options().data_streams_max,
                control,
                streams,
                greeting: welcome(),
                awaited: None,
            });
            table.insert(token, Arc::downgrade(&session));
            let table = Arc::clone(&self.table);
            Owner { session, _registration: Some(Registration { table, token }) }
        };
        room.send(QuicLink(Arc::new(owner)));
        Ok(())
    }

    /// Attaches a further connection to the session it names, if that is its peer's own.
    async fn attach(
        &self,
        preamble: &Preamble,
        peer: &Peer,
        member: Arc<Member>,
        mut send: SendStream,
    ) -> Result<(), Refusal> {
        // One answer to all of these, so that nobody learns which tokens are in use.
        let session = locked(&self.table)
            .get(&preamble.token)
            .and_then(std::sync::Weak::upgrade)
            .filter(|session| session.fate.ended().is_none())
            .filter(|session| session.peer.is_same(peer) && session.count == preamble.count)
            .filter(|session| session.claim(preamble.index))
            .ok_or_else(|| (Code::Protocol, "there is no such session".to_owned()))?;
        send.write_chunk(welcome())
            .await
            .map_err(|error| (Code::Done, write_error(error, self.config.idle()).to_string()))?;
        let _ = send.finish();
        session.add(member);
        Ok(())
    }
}

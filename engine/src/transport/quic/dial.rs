//! The dialling end: opens the control connection, and attaches the others once it is welcome.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TokioRuntime,
};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::{Instant, timeout_at};

use super::config::QuicConfig;
use super::congestion::close;
use super::error::{Code, clipped, link_error};
use super::link::QuicLink;
use super::preamble::{Preamble, Token, introduce, say};
use super::session::{Member, Owner, Session, Start};
use super::socket::{Counters, Opened, SocketBuffers, open};
use super::tls::{QuicTls, SERVER_NAME};
use crate::base::human;
use crate::transport::{LinkError, Peer};

/// Dials the addresses in their order and returns the first session that comes about.
///
/// It has one connection at first; the others attach behind it, each on a socket of its own. One
/// that cannot is logged, and the session goes on without it.
///
/// # Errors
/// What the first address said that answered at all; otherwise why the last one could not be
/// reached. All addresses together have the handshake's time.
pub async fn dial(
    addresses: &[SocketAddr],
    tls: &QuicTls,
    config: &QuicConfig,
) -> Result<QuicLink, LinkError> {
    reach(addresses, tls, config, false).await
}

/// The same, but does not wait for the peer's welcome where there is one address only: what is sent
/// meanwhile saves a round trip, and the first frame that is waited for tells if there is no welcome.
/// The other connections are made at the same time, and attach once the first one is welcome.
///
/// # Errors
/// As [`dial`], but for what a peer says that accepted the connection and refuses the session.
pub async fn dial_ahead(
    addresses: &[SocketAddr],
    tls: &QuicTls,
    config: &QuicConfig,
) -> Result<QuicLink, LinkError> {
    reach(addresses, tls, config, addresses.len() == 1).await
}

async fn reach(
    addresses: &[SocketAddr],
    tls: &QuicTls,
    config: &QuicConfig,
    ahead: bool,
) -> Result<QuicLink, LinkError> {
    let crypto = match tls.client_crypto() {
        Some(Ok(crypto)) => Arc::new(crypto),
        Some(Err(_)) => {
            let detail = "the TLS settings lack the cipher suite that QUIC begins with".to_owned();
            return Err(LinkError::Refused { detail });
        }
        None => {
            let detail = "this node has no identity to dial with".to_owned();
            return Err(LinkError::Refused { detail });
        }
    };
    let until = Instant::now() + config.handshake();
    let mut failure = None;
    for (i, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - i) as u32;
        let dialler = Dialler { address: *address, crypto: Arc::clone(&crypto), tls, config };
        match dialler.session(share, ahead).await {
            Ok(link) => return Ok(link),
            Err(error) => {
                if matches!(failure, None | Some(LinkError::Unreachable { .. })) {
                    failure = Some(error);
                }
            }
        }
    }
    Err(failure.unwrap_or_else(|| LinkError::Unreachable {
        address: "the peer".to_owned(),
        detail: "it has no address".to_owned(),
    }))
}

struct Dialler<'a> {
    address: SocketAddr,
    crypto: Arc<QuicClientConfig>,
    tls: &'a QuicTls,
    config: &'a QuicConfig,
}

/// A connection whose peer is known.
struct Met {
    connection: Connection,
    endpoint: Endpoint,
    counters: Arc<Counters>,
    buffers: SocketBuffers,
    peer: Peer,
}

impl Dialler<'_> {
    /// Begins a session within `limit`, and sends its further connections on their way. Does not
    /// wait for its welcome if that is to be `ahead`.
    async fn session(self, limit: Duration, ahead: bool) -> Result<QuicLink, LinkError> {
        let mut token = Token::default();
        SystemRandom::new()
            .fill(&mut token)
            .map_err(|_| self.unreachable("the system gave no random bytes".to_owned()))?;
        // The bounds of the options keep this below 256.
        let count = self.config.options().connections as u8;
        let preamble = Preamble { index: 0, count, token };
        let until = Instant::now() + limit;
        let silent = self.silent(limit);
        let met = self.meet(&preamble, until, &silent).await?;
        let streams = match timeout_at(until, self.begin(&met.connection, &preamble)).await {
            Ok(Ok(streams)) => streams,
            Ok(Err(error)) => return Err(refuse(&met.connection, error)),
            Err(_) => return Err(refuse(&met.connection, silent)),
        };
        let Met { connection, endpoint, counters, buffers, peer } = met;
        let session = Session::start(Start {
            peer,
            count,
            idle: self.config.idle(),
            buffers,
            data_streams_max: self.config.options().data_streams_max,
            control: Member::new(connection, Some((endpoint, counters))),
            streams,
            greeting: Bytes::new(),
            awaited: Some((until, silent)),
        });
        let owner = Owner { session: Arc::clone(&session), _registration: None };
        if !ahead {
            session.welcome().await?;
        }
        for index in 1..count {
            let (tls, config) = (self.tls.clone(), self.config.clone());
            let (address, crypto) = (self.address, Arc::clone(&self.crypto));
            let session = Arc::clone(&session);
            tokio::spawn(async move {
                let dialler = Dialler { address, crypto, tls: &tls, config: &config };
                dialler.attach(&session, Preamble { index, ..preamble }).await;
            });
        }
        Ok(QuicLink(Arc::new(owner)))
    }

    async fn attach(&self, session: &Arc<Session>, preamble: Preamble) {
        let joined = tokio::select! {
            joined = self.join(session, preamble) => joined,
            _ = session.fate.end() => return,
        };
        match joined {
            Ok(member) => session.add(member),
            Err(error) => {
                let index = preamble.index;
                tracing::debug!(address = %self.address, index, %error, "connection not attached");
            }
        }
    }

    /// Makes a connection, and joins the session with it as soon as that is welcome.
    async fn join(&self, session: &Session, preamble: Preamble) -> Result<Arc<Member>, LinkError> {
        let limit = self.config.handshake();
        let (until, silent) = (Instant::now() + limit, self.silent(limit));
        let Met { connection, endpoint, counters, peer, .. } =
            self.meet(&preamble, until, &silent).await?;
        if !peer.is_same(&session.peer) {
            let reason = b"this is another node than the session's";
            close(&connection, Code::Refused.into(), reason);
            tracing::warn!(address = %self.address, "another node answered an attach");
            return Err(self.unreachable("another node answered".to_owned()));
        }
        let joining = async {
            session.is_welcome().await;
            let mut streams = connection.open_bi().await.map_err(|error| self.lost(&error))?;
            introduce(&mut streams, &preamble, self.config).await
        };
        match timeout_at(until, joining).await.unwrap_or(Err(silent)) {
            Ok(()) => Ok(Member::new(connection, Some((endpoint, counters)))),
            Err(error) => Err(refuse(&connection, error)),
        }
    }

    /// Opens a connection on a socket of its own, and finds out who answers.
    async fn meet(
        &self,
        preamble: &Preamble,
        until: Instant,
        silent: &LinkError,
    ) -> Result<Met, LinkError> {
        let system = |error: io::Error| self.unreachable(error.to_string());
        let options = self.config.options();
        let local = match self.address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let Opened { socket, counters, buffers } =
            open(local, options.socket_buffer_bytes, options.mtu_max).map_err(system)?;
        let endpoint = Endpoint::new_with_abstract_socket(
            self.config.endpoint(None),
            None,
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(system)?;
        let connection = tokio::select! {
            connected = timeout_at(until, self.connect(&endpoint, preamble)) =>
                connected.map_err(|_| silent.clone())??,
            error = rejected(self.address) => return Err(system(error)),
        };
        match self.tls.identify(&connection) {
            Ok(peer) => Ok(Met { connection, endpoint, counters, buffers, peer }),
            Err(error) => Err(refuse(&connection, error)),
        }
    }

    async fn connect(
        &self,
        endpoint: &Endpoint,
        preamble: &Preamble,
    ) -> Result<Connection, LinkError> {
        let window = self.config.window_bytes(preamble.index.into(), preamble.count.into());
        let mut client = ClientConfig::new(Arc::clone(&self.crypto) as _);
        // A server opens no bidirectional stream.
        let past = self.config.past(preamble.index, preamble.count);
        client.transport_config(self.config.transport(window, 0, past));
        let connecting = endpoint
            .connect_with(client, self.address, SERVER_NAME)
            .map_err(|error| self.unreachable(error.to_string()))?;
        connecting.await.map_err(|error| match link_error(&error, self.config.idle()) {
            LinkError::TimedOut { idle } => {
                let idle = human::seconds(idle.as_secs_f64());
                self.unreachable(format!("no answer within {idle}"))
            }
            other => other,
        })
    }

    /// Says what the control connection is for, on its first stream.
    async fn begin(
        &self,
        connection: &Connection,
        preamble: &Preamble,
    ) -> Result<(SendStream, RecvStream), LinkError> {
        let (mut send, recv) = connection.open_bi().await.map_err(|error| self.lost(&error))?;
        say(&mut send, preamble, self.config).await?;
        Ok((send, recv))
    }

    fn lost(&self, error: &ConnectionError) -> LinkError {
        link_error(error, self.config.idle())
    }

    /// What it means if nothing is heard for so long.
    fn silent(&self, limit: Duration) -> LinkError {
        self.unreachable(format!("no answer within {}", human::seconds(limit.as_secs_f64())))
    }

    fn unreachable(&self, detail: String) -> LinkError {
        LinkError::Unreachable { address: self.address.to_string(), detail }
    }
}

/// Closes a connection that does not become one of a session.
fn refuse(connection: &Connection, error: LinkError) -> LinkError {
    let refused = matches!(error, LinkError::Refused { .. });
    let code = if refused { Code::Refused } else { Code::Done };
    close(connection, code.into(), clipped(&error.to_string()));
    error
}

/// Resolves when the system says that nobody is at `address`, and never otherwise. QUIC's own
/// sockets are not connected to one peer, so the kernel cannot tell them; an empty datagram on one
/// that is finds out, and a listener ignores it.
async fn rejected(address: SocketAddr) -> io::Error {
    match probe(address).await {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
            ) =>
        {
            error
        }
        _ => std::future::pending().await,
    }
}

async fn probe(address: SocketAddr) -> io::Result<()> {
    let local = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = tokio::net::UdpSocket::bind(local).await?;
    socket.connect(address).await?;
    socket.send(&[]).await?;
    socket.recv(&mut [0]).await.map(|_| ())
}

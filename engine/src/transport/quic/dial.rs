//! The dialling end: opens the control connection, then attaches the others behind it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, TokioRuntime};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::{Instant, timeout_at};

use super::config::QuicConfig;
use super::error::{Code, clipped, link_error};
use super::link::QuicLink;
use super::preamble::{Preamble, Token, introduce};
use super::session::{Member, Owner, Session, Start};
use super::socket::{Opened, SocketBuffers, open};
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
        match dialler.session(share).await {
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

/// A connection that was welcomed into its session.
struct Joined {
    member: Arc<Member>,
    streams: (SendStream, RecvStream),
    buffers: SocketBuffers,
    peer: Peer,
}

impl Dialler<'_> {
    /// Begins a session within `limit`, and sends its further connections on their way.
    async fn session(self, limit: Duration) -> Result<QuicLink, LinkError> {
        let mut token = Token::default();
        SystemRandom::new()
            .fill(&mut token)
            .map_err(|_| self.unreachable("the system gave no random bytes".to_owned()))?;
        // The bounds of the options keep this below 256.
        let count = self.config.options().connections as u8;
        let preamble = Preamble { index: 0, count, token };
        let Joined { member, streams, buffers, peer } = self.join(preamble, limit).await?;
        let session = Session::start(Start {
            peer,
            count,
            idle: self.config.idle(),
            buffers,
            data_streams_max: self.config.options().data_streams_max,
            control: member,
            streams,
            greeting: Bytes::new(),
        });
        for index in 1..count {
            let (tls, config) = (self.tls.clone(), self.config.clone());
            let (address, crypto) = (self.address, Arc::clone(&self.crypto));
            let session = Arc::clone(&session);
            tokio::spawn(async move {
                let dialler = Dialler { address, crypto, tls: &tls, config: &config };
                dialler.attach(&session, Preamble { index, ..preamble }).await;
            });
        }
        Ok(QuicLink(Arc::new(Owner { session, _registration: None })))
    }

    async fn attach(&self, session: &Arc<Session>, preamble: Preamble) {
        let joined = tokio::select! {
            joined = self.join(preamble, self.config.handshake()) => joined,
            _ = session.fate.end() => return,
        };
        match joined {
            Ok(joined) if joined.peer.is_same(&session.peer) => session.add(joined.member),
            Ok(joined) => {
                let reason = b"this is another node than the session's";
                joined.member.connection.close(Code::Refused.into(), reason);
                tracing::warn!(address = %self.address, "another node answered an attach");
            }
            Err(error) => {
                let index = preamble.index;
                tracing::debug!(address = %self.address, index, %error, "connection not attached");
            }
        }
    }

    /// Opens a connection of its own socket and joins a session with it, within `limit`.
    async fn join(&self, preamble: Preamble, limit: Duration) -> Result<Joined, LinkError> {
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
        let until = Instant::now() + limit;
        let silent = |_| {
            let limit = human::seconds(limit.as_secs_f64());
            self.unreachable(format!("no answer within {limit}"))
        };
        let connection = tokio::select! {
            connected = timeout_at(until, self.connect(&endpoint, &preamble)) =>
                connected.map_err(silent)??,
            error = rejected(self.address) => return Err(system(error)),
        };
        let begun = timeout_at(until, self.introduce(&connection, preamble)).await;
        match begun.map_err(silent).flatten() {
            Ok((streams, peer)) => {
                let member = Member::new(connection, Some((endpoint, counters)));
                Ok(Joined { member, streams, buffers, peer })
            }
            Err(error) => {
                let code = if matches!(error, LinkError::Refused { .. }) {
                    Code::Refused
                } else {
                    Code::Done
                };
                connection.close(code.into(), clipped(&error.to_string()));
                Err(error)
            }
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

    async fn introduce(
        &self,
        connection: &Connection,
        preamble: Preamble,
    ) -> Result<((SendStream, RecvStream), Peer), LinkError> {
        let peer = self.tls.identify(connection)?;
        let lost = |error| link_error(&error, self.config.idle());
        let mut streams = connection.open_bi().await.map_err(lost)?;
        introduce(&mut streams, &preamble, self.config).await?;
        Ok((streams, peer))
    }

    fn unreachable(&self, detail: String) -> LinkError {
        LinkError::Unreachable { address: self.address.to_string(), detail }
    }
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

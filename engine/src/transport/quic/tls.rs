//! The TLS settings that come from outside, and who the other end turned out to be.

use std::sync::Arc;

use quinn::Connection;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;

use crate::transport::{LinkError, Peer};

/// The application protocol that both ends must agree on in the handshake.
pub const ALPN: &[u8] = b"portway/1";

/// The name a client asks for. Nodes are told apart by what their certificates say, not by it.
pub(super) const SERVER_NAME: &str = "portway";

/// Reads a peer out of the certificates it showed, leaf first; the list is empty if the handshake
/// let it in without one.
pub type PeerCheck =
    Arc<dyn Fn(&[CertificateDer<'static>]) -> Result<Peer, LinkError> + Send + Sync>;

/// TLS settings of this node. ALPN, session tickets and early data are set here: resumption would
/// skip the check of the peer's certificate.
#[derive(Clone)]
pub struct QuicTls {
    /// How this node dials; without it, it cannot.
    pub client: Option<Arc<rustls::ClientConfig>>,
    /// How this node listens; without it, it cannot.
    pub server: Option<Arc<rustls::ServerConfig>>,
    /// Who the peer is.
    pub peer: PeerCheck,
    /// A secret that this node keeps across restarts, if it listens. With it a node that was
    /// restarted tells a peer at once that their session is gone, by a stateless reset (RFC 9000,
    /// section 10.3); without it the peer waits until it has heard nothing for too long.
    pub reset_key: Option<[u8; 32]>,
}

impl QuicTls {
    pub(super) fn client_crypto(&self) -> Option<Result<QuicClientConfig, NoInitialCipherSuite>> {
        let mut config = rustls::ClientConfig::clone(self.client.as_ref()?);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Some(config.try_into())
    }

    pub(super) fn server_crypto(&self) -> Option<Result<QuicServerConfig, NoInitialCipherSuite>> {
        let mut config = rustls::ServerConfig::clone(self.server.as_ref()?);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Some(config.try_into())
    }

    /// Who is at the other end of a connection whose handshake is over.
    pub(super) fn identify(&self, connection: &Connection) -> Result<Peer, LinkError> {
        let shown = connection
            .peer_identity()
            .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
        let chain: &[CertificateDer<'static>] = shown.as_deref().map_or(&[], Vec::as_slice);
        (self.peer)(chain)
    }
}

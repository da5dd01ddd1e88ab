//! Identities, nodes and a relay for tests.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::net::UdpSocket;

use super::{QuicConfig, QuicLink, QuicListener, QuicOptions, QuicTls, dial};
use crate::base::Tier;
use crate::transport::{LinkError, Peer};

pub(crate) const HOME: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A certificate authority that nodes of one test trust.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("certificate").der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// The TLS settings of a node with this name.
    pub(crate) fn node(&self, name: &str) -> QuicTls {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).expect("certificate");
        let chain = vec![certificate.der().clone()];
        let secret = PrivateKeyDer::try_from(key.serialize_der()).expect("key");

        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("root");
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_client_cert_verifier(verifier.build().expect("verifier"))
            .with_single_cert(chain.clone(), secret.clone_key())
            .expect("server");
        let client =
            client_builder(&provider).with_client_auth_cert(chain, secret).expect("client");
        QuicTls {
            client: Some(Arc::new(client)),
            server: Some(Arc::new(server)),
            peer: Arc::new(peer_of),
            reset_key: Some(*blake3::hash(name.as_bytes()).as_bytes()),
        }
    }
}

/// TLS settings of a client that shows no certificate.
pub(crate) fn anonymous() -> QuicTls {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = client_builder(&provider).with_no_client_auth();
    QuicTls {
        client: Some(Arc::new(client)),
        server: None,
        peer: Arc::new(peer_of),
        reset_key: None,
    }
}

fn client_builder(
    provider: &Arc<CryptoProvider>,
) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    rustls::ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(Arc::clone(provider))))
}

/// A peer with the node name that its certificate's common name says.
fn peer_of(chain: &[CertificateDer<'static>]) -> Result<Peer, LinkError> {
    let refused = || LinkError::Refused { detail: "no name in the certificate".to_owned() };
    let leaf = chain.first().ok_or_else(refused)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).map_err(|_| refused())?;
    let name = certificate.subject().iter_common_name().last().and_then(|cn| cn.as_str().ok());
    Ok(named(name.ok_or_else(refused)?))
}

pub(crate) fn named(node: &str) -> Peer {
    let site = "lab".parse().expect("a name");
    Peer::lasting(node.parse().expect("a name"), site, Tier::Private)
}

/// Checks nothing about a server: what a test is about is elsewhere.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A node `server` that listens and the settings of a node `client`.
pub(crate) struct Site {
    pub(crate) authority: Authority,
    pub(crate) listener: QuicListener,
    pub(crate) client: QuicTls,
    pub(crate) config: QuicConfig,
}

impl Site {
    pub(crate) fn new(options: QuicOptions) -> Self {
        let config = QuicConfig::new(options).expect("options");
        let authority = Authority::new();
        let listener =
            QuicListener::bind(HOME, &authority.node("server"), &config).expect("listener");
        let client = authority.node("client");
        Self { authority, listener, client, config }
    }

    /// A session: the client's end and the server's, with all connections attached.
    pub(crate) async fn pair(&self) -> (QuicLink, QuicLink) {
        self.pair_through(self.listener.local_addr()).await
    }

    pub(crate) async fn pair_through(&self, address: SocketAddr) -> (QuicLink, QuicLink) {
        let client = dial(&[address], &self.client, &self.config).await.expect("a session");
        let server = self.listener.accept().await.expect("a session");
        let count = self.config.options().connections;
        while client.connections() < count || server.connections() < count {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        (client, server)
    }
}

/// Forwards datagrams to a node and back until it falls silent.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    way: Arc<Way>,
}

struct Way {
    /// The node that is reached now.
    target: Mutex<SocketAddr>,
    left: AtomicU64,
}

impl Relay {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind(HOME).await.expect("bind"));
        let address = front.local_addr().expect("address");
        let way = Way { target: Mutex::new(target), left: AtomicU64::new(u64::MAX) };
        let way = Arc::new(way);
        tokio::spawn(forward(front, Arc::clone(&way)));
        Self { address, way }
    }

    /// From now on another node is behind this address, and the one before is not heard any more.
    pub(crate) fn turn_to(&self, target: SocketAddr) {
        *self.way.target.lock().expect("no panic") = target;
    }

    /// Lets this many bytes more pass, both directions together, and then nothing.
    pub(crate) fn silent_after(&self, bytes: u64) {
        self.way.left.store(bytes, Ordering::Relaxed);
    }
}

async fn forward(front: Arc<UdpSocket>, way: Arc<Way>) {
    let mut backs: HashMap<(SocketAddr, SocketAddr), Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let (len, client) = front.recv_from(&mut buffer).await.expect("receive");
        if !passes(&way.left, len) {
            continue;
        }
        let target = *way.target.lock().expect("no panic");
        let back = if let Some(back) = backs.get(&(client, target)) {
            Arc::clone(back)
        } else {
            let back = Arc::new(UdpSocket::bind(HOME).await.expect("bind"));
            back.connect(target).await.expect("connect");
            backs.insert((client, target), Arc::clone(&back));
            let (front, way) = (Arc::clone(&front), Arc::clone(&way));
            tokio::spawn(answer(Arc::clone(&back), target, front, client, way));
            back
        };
        let _ = back.send(&buffer[..len]).await;
    }
}

async fn answer(
    back: Arc<UdpSocket>,
    target: SocketAddr,
    front: Arc<UdpSocket>,
    client: SocketAddr,
    way: Arc<Way>,
) {
    let mut buffer = vec![0; 65_536];
    while let Ok(len) = back.recv(&mut buffer).await {
        let now = *way.target.lock().expect("no panic");
        if now == target && passes(&way.left, len) {
            let _ = front.send_to(&buffer[..len], client).await;
        }
    }
}

/// Takes a datagram off what may pass; once one does not, none after it does.
fn passes(left: &AtomicU64, len: usize) -> bool {
    let rest = |left: u64| Some(left.saturating_sub(len as u64));
    let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
    before.is_ok_and(|before| before > len as u64)
}

//! A trust domain in a temporary folder, and handshakes in memory that are real on both sides.

mod enrolment;
mod files;
mod handshake;
mod matrix;
mod renewal;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SanType, date_time_ymd,
};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription, ClientConfig, Connection, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;
use crate::base::Tier;
use crate::policy::Kind;

/// 2026-06-01, in seconds since 1970.
const NOW_S: u64 = 1_780_272_000;
const DAY_S: u64 = 86_400;

fn at(secs: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(secs))
}

fn now() -> UnixTime {
    at(NOW_S)
}

fn start(home: &Path, name: &str) -> Identity {
    let site = "onprem".parse().unwrap();
    Identity::init(home, name.parse().unwrap(), site, Tier::Private, now()).unwrap()
}

/// A trust domain with one node, `gpu-1`, and another certificate of its own making.
struct Lab {
    home: tempfile::TempDir,
    identity: Identity,
    ca: Ca,
}

impl Lab {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let identity = start(home.path(), "gpu-1");
        let folder = Identity::folder(home.path());
        let ca = Ca::load(&folder, identity.id().domain.clone()).unwrap();
        Self { home, identity, ca }
    }

    fn id(&self, name: &str) -> SpiffeId {
        SpiffeId { node: name.parse().unwrap(), ..self.identity.id().clone() }
    }

    /// A node that trusts this CA and shows a certificate signed by it, for `gpu-7` but for what
    /// `edit` changes.
    fn node(&self, edit: impl FnOnce(&mut CertificateParams)) -> Identity {
        self.node_of(&self.ca.issuer().unwrap(), edit)
    }

    fn node_of(
        &self,
        issuer: &Issuer<'_, &KeyPair>,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = self.params();
        edit(&mut params);
        let cert = params.signed_by(&key, issuer).unwrap().der().clone();
        self.showing(vec![cert, self.ca.cert().clone()], &key)
    }

    fn params(&self) -> CertificateParams {
        ca::node_params(&self.id("gpu-7"), now(), NOW_S + 365 * DAY_S).unwrap()
    }

    fn showing(&self, chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Identity {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let certified = CertifiedKey::from_der(chain, key, &tls::provider()).unwrap();
        let mut identity = self.identity.clone();
        identity.certified = Arc::new(certified);
        identity
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[derive(Debug)]
struct Fixed(UnixTime);

impl TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

type End = Result<Vec<CertificateDer<'static>>, rustls::Error>;

/// Runs one handshake to its end, and says what each side (client, server) made of it.
fn handshake(client: &ClientConfig, server: &ServerConfig, time: UnixTime) -> (End, End) {
    let (mut client, mut server) = (client.clone(), server.clone());
    client.time_provider = Arc::new(Fixed(time));
    server.time_provider = Arc::new(Fixed(time));
    let name = SERVER_NAME.try_into().unwrap();
    let client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
    let mut ends = [Connection::from(client), Connection::from(server)];
    let mut failed = [None, None];
    loop {
        let mut moved = false;
        for (from, to) in [(0, 1), (1, 0)] {
            let mut sent = Vec::new();
            while ends[from].wants_write() {
                ends[from].write_tls(&mut sent).unwrap();
            }
            let mut sent = &sent[..];
            while !sent.is_empty() && failed[to].is_none() {
                moved = true;
                ends[to].read_tls(&mut sent).unwrap();
                failed[to] = ends[to].process_new_packets().err();
            }
        }
        if !moved {
            break;
        }
    }
    let [client_failed, server_failed] = failed;
    let outcome = |end: &Connection, failed: Option<rustls::Error>| {
        if let Some(error) = failed {
            return Err(error);
        }
        assert!(!end.is_handshaking(), "a handshake stopped without an error");
        assert_eq!(end.alpn_protocol(), Some(ALPN));
        assert_eq!(end.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        Ok(end.peer_certificates().unwrap().iter().map(|c| c.clone().into_owned()).collect())
    };
    (outcome(&ends[0], client_failed), outcome(&ends[1], server_failed))
}

fn between(client: &Identity, server: &Identity, time: UnixTime) -> (End, End) {
    let client = client_config(client, Expect::Any).unwrap();
    handshake(&client, &server_config(server, None).unwrap(), time)
}

fn refused(end: End) -> PeerError {
    let error = end.unwrap_err();
    refusal(&error).unwrap_or_else(|| panic!("no refusal of this module: {error}")).clone()
}

fn who(name: &str) -> Who {
    Who(Some(name.parse().unwrap()))
}

/// Shows the certificate of `wrong` to a good node as a client and as a server: both times the
/// good node refuses it with the same error, and the other end gets an alert.
fn refused_both_ways(lab: &Lab, wrong: &Identity, time: UnixTime) -> PeerError {
    let (client, server) = between(wrong, &lab.identity, time);
    let as_client = refused(server);
    if let Err(error) = client {
        let alert = rustls::Error::AlertReceived(AlertDescription::HandshakeFailure);
        assert_eq!(error, alert);
    } else {
        panic!("the client was not told");
    }
    let (client, server) = between(&lab.identity, wrong, time);
    let as_server = refused(client);
    assert!(matches!(server, Err(rustls::Error::AlertReceived(_))), "{server:?}");
    match (&as_client, &as_server) {
        (PeerError::WrongUsage { .. }, PeerError::WrongUsage { .. }) => {}
        _ => assert_eq!(as_client, as_server),
    }
    as_client
}
fn invite(lab: &Lab, name: &str) -> Token {
    let address = ["10.0.0.1:7411".to_owned()];
    let (node, site) = (name.parse().unwrap(), "cloud".parse().unwrap());
    invites(lab)
        .create((node, Kind::Node), (site, Tier::Public), INVITE_TTL_S, &address, now())
        .unwrap()
}

fn invites(lab: &Lab) -> Arc<Invites> {
    Arc::new(Invites::open(lab.home.path()).unwrap())
}

/// A joiner's handshake with the inviting node.
fn join(lab: &Lab, token: &Token, time: UnixTime) -> (End, End) {
    let server = server_config(&lab.identity, Some(invites(lab))).unwrap();
    handshake(&join_config(token).unwrap(), &server, time)
}

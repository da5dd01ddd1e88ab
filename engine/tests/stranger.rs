//! Who is not of the trust domain does not get past TLS, and an invitation admits one node once.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::items_after_statements,
    clippy::default_trait_access,
    clippy::needless_for_each,
    reason = "a test that cannot set up its scene fails, and reads top down"
)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::raw::{dial_with, now};
use common::{Pair, config, engine, noise, write};
use portway::api::{Engine, Exit, NodeAddress, Remote, TransferOptions};
use portway::base::{RelPath, Tier};
use portway::config::Home;
use portway::identity::{ALPN, Expect, Identity, Invites, UnixTime, client_config};
use portway::policy::Kind;
use portway::transport::{Link, LinkError};

/// Dials and waits for what the node says first; with TLS 1.3 a client hears of its refusal late.
async fn admitted(address: SocketAddr, client: Arc<rustls::ClientConfig>) -> Result<(), LinkError> {
    let link = dial_with(address, client).await?;
    tokio::time::timeout(Duration::from_secs(20), link.recv()).await.expect("an end").map(drop)
}

/// Accepts any server, as an attacker would.
#[derive(Debug)]
struct Anyone;

mod gullible {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    impl ServerCertVerifier for super::Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::ring::default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_certificate_or_of_another_domain_does_not_get_past_tls() {
    let pair = Pair::new().await;
    let address = pair.cloud.address;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let base = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut nobody = base.with_no_client_auth();
    nobody.alpn_protocols = vec![ALPN.to_vec()];
    let refused = admitted(address, Arc::new(nobody)).await.expect_err("a refusal");
    assert!(matches!(refused, LinkError::Refused { .. }), "{refused:?}");

    // A domain of its own, whose node has the very same name.
    let home = Home::at(pair.path("home-stranger"));
    let (name, site) = ("onprem".parse().unwrap(), "dc".parse().unwrap());
    Engine::init(&home, name, site, Tier::Private).unwrap();
    let identity = Identity::load(home.config_dir()).unwrap();
    let strict = client_config(&identity, Expect::Any).unwrap();
    admitted(address, strict).await.expect_err("it does not trust our CA either");
    let mut gullible = (*client_config(&identity, Expect::Any).unwrap()).clone();
    gullible.dangerous().set_certificate_verifier(Arc::new(Anyone));
    let refused = admitted(address, Arc::new(gullible)).await.expect_err("a refusal");
    assert!(matches!(refused, LinkError::Refused { .. }), "{refused:?}");

    // The same through the engine: exit status 4, at once and not after retries.
    write(&pair.path("file"), &noise(1, 10));
    let target = Remote { node: NodeAddress::Address(address), path: RelPath::root(), into: true };
    let options = TransferOptions::default();
    let error = engine(&home).push(vec![pair.path("file")], target, options).wait().await;
    assert_eq!(error.unwrap_err().exit, Exit::Refused);
    assert!(!pair.cloud.root.join("file").exists());

    let own = Identity::load(pair.onprem.home.config_dir()).unwrap();
    let known = client_config(&own, Expect::Any).unwrap();
    admitted(address, known).await.expect("a node of the domain is greeted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_answers_under_another_name_than_asked_for_is_refused() {
    let pair = Pair::new().await;
    let own = Identity::load(pair.onprem.home.config_dir()).unwrap();
    let other = client_config(&own, Expect::Node("elsewhere".parse().unwrap())).unwrap();
    let refused = admitted(pair.cloud.address, other).await.expect_err("a refusal");
    assert!(matches!(refused, LinkError::Refused { .. }), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_admits_one_node_once_and_not_after_its_hour() {
    let pair = Pair::new().await;
    let (name, site) = (|| "edge".parse().unwrap(), || "lab".parse().unwrap());
    let token = engine(&pair.onprem.home).invite(name(), site(), Tier::Public).await.unwrap();
    let home = |name: &str| Home::at(pair.path(name));
    let first = Engine::join(&home("one"), &config(&home("one")), &token).await;
    assert_eq!(first.expect("the first joins").node.as_str(), "edge");
    let second = Engine::join(&home("two"), &config(&home("two")), &token).await;
    let error = second.expect_err("the second is refused");
    assert_eq!(error.exit, Exit::Refused, "{error:?}");
    Identity::load(home("two").config_dir()).expect_err("it has no certificate");
    let again = Engine::join(&home("one"), &config(&home("one")), &token).await;
    again.expect_err("a home has one identity");

    // Made two hours ago, for one.
    let past = UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs() - 7200));
    let invites = Invites::open(pair.onprem.home.config_dir()).unwrap();
    let addresses = vec![pair.onprem.address.to_string()];
    let (late, hour) = (("late".parse().unwrap(), Kind::Node), 3600);
    let token = invites.create(late, (site(), Tier::Public), hour, &addresses, past).unwrap();
    let late = token.reveal();
    let error = Engine::join(&home("late"), &config(&home("late")), &late).await;
    let error = error.expect_err("an expired invitation");
    assert_eq!(error.exit, Exit::Refused, "{error:?}");
    Identity::load(home("late").config_dir()).expect_err("it has no certificate");
}

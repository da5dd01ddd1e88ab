//! Handshakes in memory, real on both sides: every wrong certificate fails with its own error.

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
    let outcome = |end: &Connection, failed: Option<rustls::Error>| match failed {
        Some(error) => Err(error),
        None => {
            assert!(!end.is_handshaking(), "a handshake stopped without an error");
            assert_eq!(end.alpn_protocol(), Some(ALPN));
            assert_eq!(end.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
            Ok(end.peer_certificates().unwrap().iter().map(|c| c.clone().into_owned()).collect())
        }
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

#[test]
fn two_nodes_of_a_trust_domain_learn_each_others_names() {
    let lab = Lab::new();
    let (client, server) = between(&lab.node(|_| {}), &lab.identity, now());
    let at_server = peer_of(&server.unwrap(), None, now()).unwrap();
    let at_client = peer_of(&client.unwrap(), None, now()).unwrap();
    assert_eq!(at_server.node.as_str(), "gpu-7");
    assert_eq!((at_server.site.as_str(), at_server.tier), ("onprem", Tier::Private));
    assert_eq!((at_client.node.as_str(), at_client.enrolling), ("gpu-1", false));
}

#[test]
fn an_expired_certificate_is_refused_and_the_text_says_since_when() {
    let lab = Lab::new();
    let node = lab.node(|params| params.not_after = date_time_ymd(2026, 6, 11));
    let error = refused_both_ways(&lab, &node, at(NOW_S + 13 * DAY_S));
    assert_eq!(error, PeerError::Expired { who: who("gpu-7"), ago_s: 3 * DAY_S });
    assert_eq!(error.to_string(), "gpu-7 presented a certificate that expired 3 days ago");
}

#[test]
fn a_certificate_for_later_is_refused() {
    let lab = Lab::new();
    let node = lab.node(|params| params.not_before = date_time_ymd(2026, 6, 11));
    let error = refused_both_ways(&lab, &node, at(NOW_S + 10 * DAY_S - 60));
    assert_eq!(error, PeerError::NotYetValid { who: who("gpu-7"), in_s: 60 });
    assert_eq!(error.to_string(), "gpu-7 presented a certificate that becomes valid in 1 min 00 s");
}

#[test]
fn a_clock_five_minutes_behind_the_ca_is_forgiven() {
    let lab = Lab::new();
    let made_s = NOW_S + DAY_S;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let issued = lab.ca.sign(&key, &lab.id("gpu-7"), at(made_s)).unwrap();
    let node = lab.showing(vec![issued.cert], &key);
    assert!(between(&node, &lab.identity, at(made_s - 300)).1.is_ok());
    let error = refused_both_ways(&lab, &node, at(made_s - 301));
    assert!(matches!(error, PeerError::NotYetValid { in_s: 1, .. }));
}

#[test]
fn a_certificate_of_another_ca_is_refused_even_if_that_ca_has_the_same_name() {
    let lab = Lab::new();
    let (other, unknown) = (Lab::new(), PeerError::UnknownCa { who: who("gpu-7") });
    let node = lab.node_of(&other.ca.issuer().unwrap(), |_| {});
    assert_eq!(refused_both_ways(&lab, &node, now()), unknown);
    let twin = Ca::create(lab.ca.domain(), now()).unwrap();
    let node = lab.node_of(&twin.issuer().unwrap(), |_| {});
    assert_eq!(refused_both_ways(&lab, &node, now()), unknown);
}

#[test]
fn the_issuer_is_judged_before_the_time_and_the_usage() {
    let lab = Lab::new();
    let other = Lab::new();
    let node = lab.node_of(&other.ca.issuer().unwrap(), |params| {
        params.not_after = date_time_ymd(2026, 6, 11);
        params.extended_key_usages.clear();
    });
    let error = refused_both_ways(&lab, &node, at(NOW_S + 13 * DAY_S));
    assert_eq!(error, PeerError::UnknownCa { who: who("gpu-7") });
}

#[test]
fn two_trust_domains_do_not_meet() {
    let (lab, other) = (Lab::new(), Lab::new());
    let (client, server) = between(&other.identity, &lab.identity, now());
    assert_eq!(refused(client), PeerError::UnknownCa { who: who("gpu-1") });
    assert!(matches!(server, Err(rustls::Error::AlertReceived(_))));
}

#[test]
fn a_self_signed_certificate_is_refused() {
    let lab = Lab::new();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let cert = lab.params().self_signed(&key).unwrap().der().clone();
    let node = lab.showing(vec![cert], &key);
    let error = refused_both_ways(&lab, &node, now());
    assert_eq!(error, PeerError::SelfSigned { who: who("gpu-7") });
}

#[test]
fn a_certificate_without_a_spiffe_id_is_refused() {
    let lab = Lab::new();
    let node = lab.node(|params| params.subject_alt_names.clear());
    assert_eq!(refused_both_ways(&lab, &node, now()), PeerError::NoUri);
    let dns = SanType::DnsName("gpu-7.onprem".try_into().unwrap());
    let node = lab.node(|params| params.subject_alt_names = vec![dns]);
    assert_eq!(refused_both_ways(&lab, &node, now()), PeerError::NoUri);
}

#[test]
fn a_certificate_with_two_uris_is_refused() {
    let lab = Lab::new();
    let node = lab.node(|params| params.subject_alt_names.push(uri("https://portway.example")));
    assert_eq!(refused_both_ways(&lab, &node, now()), PeerError::ManyUris { count: 2 });
    let node =
        lab.node(|params| params.subject_alt_names.push(params.subject_alt_names[0].clone()));
    assert_eq!(refused_both_ways(&lab, &node, now()), PeerError::ManyUris { count: 2 });
}

#[test]
fn a_certificate_for_something_else_than_a_node_is_refused() {
    let lab = Lab::new();
    let name = format!("spiffe://{}/ns/default/sa/web", lab.ca.domain());
    let node = lab.node(|params| params.subject_alt_names = vec![uri(&name)]);
    let error = refused_both_ways(&lab, &node, now());
    assert_eq!(error, PeerError::BadUri { uri: name, source: ParseSpiffeError::Shape });
}

#[test]
fn a_node_of_a_foreign_trust_domain_is_refused_though_its_ca_is_trusted() {
    let lab = Lab::new();
    let foreign = SpiffeId { domain: "elsewhere.example".parse().unwrap(), ..lab.id("gpu-7") };
    let name = uri(&foreign.to_string());
    let node = lab.node(|params| params.subject_alt_names = vec![name]);
    let expected = PeerError::ForeignDomain {
        who: who("gpu-7"),
        found: foreign.domain,
        expected: lab.ca.domain().clone(),
    };
    assert_eq!(refused_both_ways(&lab, &node, now()), expected);
}

#[test]
fn a_certificate_without_the_usage_of_its_end_is_refused() {
    let lab = Lab::new();
    let cases: [&[ExtendedKeyUsagePurpose]; 3] =
        [&[], &[ExtendedKeyUsagePurpose::CodeSigning], &[ExtendedKeyUsagePurpose::Any]];
    for usages in cases {
        let node = lab.node(|params| params.extended_key_usages = usages.to_vec());
        let error = refused_both_ways(&lab, &node, now());
        assert_eq!(error, PeerError::WrongUsage { who: who("gpu-7"), needs: Usage::Client });
    }
    let server_only =
        lab.node(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert!(between(&lab.identity, &server_only, now()).0.is_ok());
    assert_eq!(
        refused(between(&server_only, &lab.identity, now()).1),
        PeerError::WrongUsage { who: who("gpu-7"), needs: Usage::Client }
    );
    let client_only =
        lab.node(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    assert!(between(&client_only, &lab.identity, now()).1.is_ok());
    assert_eq!(
        refused(between(&lab.identity, &client_only, now()).0),
        PeerError::WrongUsage { who: who("gpu-7"), needs: Usage::Server }
    );
}

#[test]
fn a_nodes_certificate_cannot_vouch_for_another_node() {
    let lab = Lab::new();
    let middle_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut middle = lab.params();
    middle.is_ca = IsCa::ExplicitNoCa;
    let middle_cert = middle.signed_by(&middle_key, &lab.ca.issuer().unwrap()).unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let leaf = lab.params().signed_by(&key, &Issuer::from_params(&middle, &middle_key)).unwrap();
    let chain = vec![leaf.der().clone(), middle_cert.der().clone(), lab.ca.cert().clone()];
    let error = refused_both_ways(&lab, &lab.showing(chain, &key), now());
    assert!(matches!(error, PeerError::Chain { .. }), "{error}");
}

#[test]
fn the_wrong_node_is_refused_where_one_is_expected() {
    let lab = Lab::new();
    let reach = |name: &str| {
        let expect = Expect::Node(name.parse().unwrap());
        let client = client_config(&lab.node(|_| {}), expect).unwrap();
        handshake(&client, &server_config(&lab.identity, None).unwrap(), now())
    };
    assert!(reach("gpu-1").0.is_ok());
    let error = refused(reach("gpu-2").0);
    let (found, expected) = ("gpu-1".parse().unwrap(), "gpu-2".parse().unwrap());
    assert_eq!(error, PeerError::WrongNode { found, expected });
    assert_eq!(error.to_string(), "this is gpu-1, not gpu-2");
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let lab = Lab::new();
    let client = client_config(&lab.identity, Expect::Any).unwrap();
    let mut client = (*client).clone();
    client.client_auth_cert_resolver = Arc::new(Nobody);
    let (client, server) = handshake(&client, &server_config(&lab.identity, None).unwrap(), now());
    assert_eq!(refused(server), PeerError::NoCertificate);
    let Err(rustls::Error::AlertReceived(alert)) = client else { panic!("{client:?}") };
    assert_eq!(Alert::from_code(alert.into()), Alert::CertificateRequired);
}

#[derive(Debug)]
struct Nobody;

impl rustls::client::ResolvesClientCert for Nobody {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn another_application_protocol_is_refused() {
    let lab = Lab::new();
    let client = client_config(&lab.identity, Expect::Any).unwrap();
    let mut client = (*client).clone();
    client.alpn_protocols = vec![b"h3".to_vec()];
    let (client, _) = handshake(&client, &server_config(&lab.identity, None).unwrap(), now());
    let Err(rustls::Error::AlertReceived(alert)) = client else { panic!("{client:?}") };
    assert_eq!(Alert::from_code(alert.into()), Alert::Protocol);
}

#[test]
fn configurations_never_resume_and_never_send_early_data() {
    let lab = Lab::new();
    let server = server_config(&lab.identity, None).unwrap();
    assert_eq!((server.send_tls13_tickets, server.max_early_data_size), (0, 0));
    assert!(!server.session_storage.can_cache() && !server.ticketer.enabled());
    let client = client_config(&lab.identity, Expect::Any).unwrap();
    assert!(!client.enable_early_data && !client.enable_sni);
}

#[test]
fn a_refusal_keeps_its_text_through_a_transport() {
    let error = PeerError::WrongUsage { who: who("gpu-7"), needs: Usage::Client };
    let carried = rustls::Error::Other(rustls::OtherError(Arc::new(error.clone()))).to_string();
    assert_eq!(refusal_text(&carried), error.to_string());
    assert_eq!(Alert::from_code(40), Alert::Refused);
    assert_eq!(Alert::from_code(80), Alert::Other(80));
}

#[test]
fn garbage_in_place_of_a_certificate_is_refused_without_a_panic() {
    let lab = Lab::new();
    let good = lab.node(|_| {}).chain()[0].to_vec();
    for cut in 0..good.len() {
        let short = CertificateDer::from(good[..cut].to_vec());
        assert_eq!(peer_of(&[short], None, now()), Err(PeerError::Malformed));
    }
    let long = CertificateDer::from([&good[..], &[0]].concat());
    assert_eq!(peer_of(&[long], None, now()), Err(PeerError::Malformed));
    assert_eq!(peer_of(&[], None, now()), Err(PeerError::NoCertificate));
    for i in 0..good.len() {
        let mut flipped = good.clone();
        flipped[i] ^= 0x10;
        let _ = peer_of(&[CertificateDer::from(flipped)], None, now());
    }
}

#[test]
fn private_files_have_mode_0600_in_a_folder_of_mode_0700() {
    let lab = Lab::new();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    let folder = Identity::folder(lab.home.path());
    assert_eq!(mode(&folder), 0o700);
    invite(&lab, "gpu-7");
    for name in ["ca.key", "node.key", "invites.json", "invites.lock"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    let joiner = tempfile::tempdir().unwrap();
    Enrolment::begin(joiner.path(), invite(&lab, "gpu-8")).unwrap();
    assert_eq!(mode(&Identity::folder(joiner.path())), 0o700);
    assert_eq!(mode(&Identity::folder(joiner.path()).join("node.key")), 0o600);
}

#[test]
fn an_identity_loads_again_and_is_never_overwritten() {
    let lab = Lab::new();
    let (home, id) = (lab.home.path(), lab.identity.id());
    let loaded = Identity::load(home).unwrap();
    assert_eq!(loaded.id(), id);
    assert_eq!(loaded.ca_fingerprint(), lab.identity.ca_fingerprint());
    assert_eq!(loaded.expires_at(), at(NOW_S + NODE_VALIDITY_S));
    let again =
        Identity::init(home, id.node.clone(), id.site.clone(), Tier::Private, now()).unwrap_err();
    assert!(matches!(again, IdentityError::Exists { .. }));
    assert_eq!(Identity::load(home).unwrap().chain(), loaded.chain());
    let nowhere = home.join("nowhere");
    assert!(matches!(Identity::load(&nowhere), Err(IdentityError::Missing { .. })));
}

#[test]
fn a_node_knows_when_its_own_certificate_is_over() {
    let lab = Lab::new();
    let over = NOW_S + NODE_VALIDITY_S + 1;
    lab.identity.check(now()).unwrap();
    assert!(matches!(lab.identity.check(at(over)), Err(IdentityError::Expired { .. })));
    assert!(matches!(lab.identity.check(at(NOW_S - 301)), Err(IdentityError::NotYetValid { .. })));
}

#[test]
fn files_that_do_not_belong_together_are_no_identity() {
    let (lab, other) = (Lab::new(), Lab::new());
    let (mine, theirs) = (Identity::folder(lab.home.path()), Identity::folder(other.home.path()));
    let load = |ca: &Path, cert: &Path, key: &Path| {
        Identity::from_files(&ca.join("ca.pem"), &cert.join("node.pem"), &key.join("node.key"))
    };
    assert_eq!(load(&mine, &mine, &mine).unwrap().id(), lab.identity.id());
    assert!(matches!(load(&mine, &mine, &theirs), Err(IdentityError::Key(_))));
    let refused = load(&theirs, &mine, &mine).unwrap_err();
    assert!(matches!(refused, IdentityError::Refused(PeerError::UnknownCa { .. })), "{refused}");
    let not_a_ca = Identity::from_files(
        &mine.join("node.pem"),
        &mine.join("node.pem"),
        &mine.join("node.key"),
    );
    assert!(matches!(not_a_ca, Err(IdentityError::Refused(PeerError::Malformed))));
    let no_key =
        Identity::from_files(&mine.join("ca.pem"), &mine.join("node.pem"), &mine.join("ca.pem"));
    assert!(no_key.is_err());
}

#[test]
fn the_ca_sets_the_name_itself_and_ignores_what_a_request_asks_for() {
    let lab = Lab::new();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut wish = CertificateParams::new(vec!["gpu-1".to_owned()]).unwrap();
    wish.subject_alt_names.push(uri(&lab.id("gpu-1").to_string()));
    wish.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
    let csr = wish.serialize_request(&key).unwrap();
    let issued = lab.ca.issue(csr.der(), &lab.id("gpu-7"), now()).unwrap();
    let (_, cert) = x509_parser::parse_x509_certificate(&issued.cert).unwrap();
    let names = cert.subject_alternative_name().unwrap().unwrap();
    let uri = lab.id("gpu-7").to_string();
    assert_eq!(names.value.general_names, [x509_parser::extensions::GeneralName::URI(&uri)]);
    assert!(!cert.is_ca());
    let usage = cert.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !usage.any);
    assert_eq!(cert.validity().not_before.timestamp(), i64::try_from(NOW_S - 300).unwrap());
}

#[test]
fn the_ca_certificate_can_sign_nodes_and_nothing_else() {
    let lab = Lab::new();
    let (_, cert) = x509_parser::parse_x509_certificate(lab.ca.cert()).unwrap();
    let constraints = cert.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = cert.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && !usage.digital_signature() && !usage.crl_sign());
}

#[test]
fn the_ca_refuses_requests_that_are_forged_or_for_another_kind_of_key() {
    let lab = Lab::new();
    let id = lab.id("gpu-7");
    let request = |key: &KeyPair| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serialize_request(key).unwrap().der().to_vec()
    };
    let good = request(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
    let mut forged = good.clone();
    // The public key lies in the middle of the request; the signature no longer fits.
    let middle = forged.len() / 2;
    forged[middle] ^= 1;
    assert!(matches!(lab.ca.issue(&forged, &id, now()), Err(CaError::Request(_))));
    for alg in [&PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let other = request(&KeyPair::generate_for(alg).unwrap());
        let error = lab.ca.issue(&other, &id, now()).unwrap_err();
        assert!(matches!(error, CaError::KeyKind | CaError::Request(_)), "{error}");
    }
    let long = lab.ca.issue(&vec![0; 9000], &id, now());
    assert!(matches!(long, Err(CaError::RequestLong { len: 9000 })));
    let foreign = SpiffeId { domain: "elsewhere".parse().unwrap(), ..id.clone() };
    assert!(matches!(lab.ca.issue(&good, &foreign, now()), Err(CaError::Domain { .. })));
    for wrong in [0, 1_000_000_000, u64::MAX] {
        assert!(lab.ca.issue(&good, &id, at(wrong)).is_err());
    }
    assert!(matches!(Ca::create(lab.ca.domain(), at(0)), Err(CaError::Clock { secs: 0 })));
}

#[test]
fn a_nodes_certificate_never_outlives_its_ca() {
    let lab = Lab::new();
    let ca_over = NOW_S + CA_VALIDITY_S;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let issued = lab.ca.sign(&key, &lab.id("gpu-7"), at(ca_over - DAY_S)).unwrap();
    let (_, cert) = x509_parser::parse_x509_certificate(&issued.cert).unwrap();
    assert_eq!(cert.validity().not_after.timestamp(), i64::try_from(ca_over).unwrap());
    let late = lab.ca.sign(&key, &lab.id("gpu-7"), at(ca_over));
    assert!(matches!(late, Err(CaError::Expired)));
}

fn granted(name: &str) -> (crate::base::NodeName, crate::base::SiteName, Tier) {
    (name.parse().unwrap(), "cloud".parse().unwrap(), Tier::Public)
}

fn invite(lab: &Lab, name: &str) -> Token {
    let address = ["10.0.0.1:7411".to_owned()];
    invites(lab).create(granted(name), INVITE_TTL_S, &address, now()).unwrap()
}

fn invites(lab: &Lab) -> Arc<Invites> {
    Arc::new(Invites::open(lab.home.path()).unwrap())
}

/// A joiner's handshake with the inviting node.
fn join(lab: &Lab, token: &Token, time: UnixTime) -> (End, End) {
    let server = server_config(&lab.identity, Some(invites(lab))).unwrap();
    handshake(&join_config(token).unwrap(), &server, time)
}

#[test]
fn an_invited_node_enrols_and_is_a_node_from_then_on() {
    let lab = Lab::new();
    let home = tempfile::tempdir().unwrap();
    let token: Token = invite(&lab, "gpu-7").reveal().parse().unwrap();
    let enrolment = Enrolment::begin(home.path(), token.clone()).unwrap();
    assert!(matches!(Identity::load(home.path()), Err(IdentityError::Unfinished { .. })));

    let (client, server) = join(&lab, enrolment.token(), now());
    let inviter = peer_of(&client.unwrap(), None, now()).unwrap();
    assert_eq!((inviter.node.as_str(), inviter.enrolling), ("gpu-1", false));
    let shown = server.unwrap();
    let joiner = peer_of(&shown, Some(&invites(&lab)), now()).unwrap();
    assert_eq!((joiner.node.as_str(), joiner.enrolling), ("gpu-7", true));
    assert_eq!(peer_of(&shown, None, now()), Err(PeerError::NotInviting));

    let key = joiner_key(&shown).unwrap();
    let chain = invites(&lab).redeem(&key, enrolment.request(), now()).unwrap();
    let identity = enrolment.finish(&chain, now()).unwrap();
    let expected = SpiffeId {
        domain: lab.ca.domain().clone(),
        tier: Tier::Public,
        site: "cloud".parse().unwrap(),
        node: "gpu-7".parse().unwrap(),
    };
    assert_eq!(identity.id(), &expected);
    assert_eq!(identity.ca_fingerprint(), lab.identity.ca_fingerprint());
    let loaded = Identity::load(home.path()).unwrap();
    assert_eq!(loaded.chain(), identity.chain());
    let (client, server) = between(&loaded, &lab.identity, now());
    assert_eq!(peer_of(&server.unwrap(), None, now()).unwrap().node.as_str(), "gpu-7");
    assert!(client.is_ok());
    assert!(joiner_key(loaded.chain()).is_none());
    assert!(matches!(Enrolment::begin(home.path(), token), Err(EnrolError::Identity(_))));
    assert!(matches!(Invites::open(home.path()), Err(InviteError::NoCa)));
}

#[test]
fn a_lost_reply_is_fetched_again_with_the_same_key_and_no_other() {
    let lab = Lab::new();
    let home = tempfile::tempdir().unwrap();
    let token = invite(&lab, "gpu-7");
    let key = token.public_key().unwrap();
    let enrolment = Enrolment::begin(home.path(), token.clone()).unwrap();
    let first = invites(&lab).redeem(&key, enrolment.request(), now()).unwrap();
    drop(enrolment);

    let enrolment = Enrolment::begin(home.path(), token.clone()).unwrap();
    let (_, server) = join(&lab, &token, at(NOW_S + 60));
    assert_eq!(joiner_key(&server.unwrap()), Some(key));
    let again = invites(&lab).redeem(&key, enrolment.request(), at(NOW_S + 60)).unwrap();
    assert_eq!(first, again);
    enrolment.finish(&again, at(NOW_S + 60)).unwrap();

    let thief = tempfile::tempdir().unwrap();
    let thief = Enrolment::begin(thief.path(), token).unwrap();
    let refused = invites(&lab).redeem(&key, thief.request(), at(NOW_S + 90)).unwrap_err();
    let name = "gpu-7".parse().unwrap();
    assert!(matches!(refused, InviteError::Refused(PendingError::Used { name: n }) if n == name));
}

#[test]
fn an_expired_invitation_is_refused_in_tls_and_at_the_ca() {
    let lab = Lab::new();
    let home = tempfile::tempdir().unwrap();
    let token = invite(&lab, "gpu-7");
    let over = at(NOW_S + INVITE_TTL_S);
    assert!(join(&lab, &token, at(NOW_S + INVITE_TTL_S - 1)).1.is_ok());
    let (client, server) = join(&lab, &token, over);
    let expired = PendingError::Expired { name: "gpu-7".parse().unwrap() };
    assert_eq!(refused(server), PeerError::Invitation(expired.clone()));
    let Err(rustls::Error::AlertReceived(alert)) = client else { panic!("{client:?}") };
    assert_eq!(Alert::from_code(alert.into()), Alert::Refused);
    let key = token.public_key().unwrap();
    let enrolment = Enrolment::begin(home.path(), token).unwrap();
    let late = invites(&lab).redeem(&key, enrolment.request(), over).unwrap_err();
    assert!(matches!(late, InviteError::Refused(e) if e == expired));
}

#[test]
fn a_token_of_another_trust_domain_is_refused_by_the_joiner_itself() {
    let (lab, other) = (Lab::new(), Lab::new());
    let token = invite(&other, "gpu-7");
    assert_eq!(refused(join(&lab, &token, now()).0), PeerError::WrongCa);
}

#[test]
fn an_unknown_or_withdrawn_token_is_refused_by_the_inviter() {
    let lab = Lab::new();
    let address = ["10.0.0.1:7411".to_owned()];
    let unknown = Token::create(&address, lab.identity.ca_fingerprint()).unwrap();
    let refusal = PeerError::Invitation(PendingError::Unknown);
    assert_eq!(refused(join(&lab, &unknown, now()).1), refusal);
    let token = invite(&lab, "gpu-7");
    assert_eq!(invites(&lab).withdraw(&"gpu-7".parse().unwrap()).unwrap(), 1);
    assert_eq!(refused(join(&lab, &token, now()).1), refusal);
    let server = server_config(&lab.identity, None).unwrap();
    let (_, server) = handshake(&join_config(&token).unwrap(), &server, now());
    assert_eq!(refused(server), PeerError::NotInviting);
}

#[test]
fn a_joiner_cannot_name_itself() {
    let lab = Lab::new();
    invite(&lab, "gpu-7");
    // The one-time key in a certificate that claims to be the first node.
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut params = lab.params();
    params.subject_alt_names = vec![uri(&lab.identity.id().to_string())];
    let cert = params.self_signed(&key).unwrap().der().clone();
    let server = server_config(&lab.identity, Some(invites(&lab))).unwrap();
    let client = client_config(&lab.showing(vec![cert], &key), Expect::Any).unwrap();
    let (_, server) = handshake(&client, &server, now());
    assert_eq!(refused(server), PeerError::SelfSigned { who: who("gpu-1") });
}

#[test]
fn a_joiner_cannot_use_an_invitation_without_its_secret_key() {
    let lab = Lab::new();
    let token = invite(&lab, "gpu-7");
    let (cert, _) = enrol::bootstrap(&token).unwrap();
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signing = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let mut thief = lab.identity.clone();
    thief.certified = Arc::new(CertifiedKey::new(vec![cert], signing));
    let client = client_config(&thief, Expect::Any).unwrap();
    let server = server_config(&lab.identity, Some(invites(&lab))).unwrap();
    let (_, server) = handshake(&client, &server, now());
    let bad_signature = rustls::CertificateError::BadSignature;
    assert_eq!(server.unwrap_err(), rustls::Error::InvalidCertificate(bad_signature));
}

#[test]
fn a_reply_for_another_key_or_from_another_ca_is_not_taken() {
    let (lab, other) = (Lab::new(), Lab::new());
    let begin = |token: &Token| {
        let home = tempfile::tempdir().unwrap();
        let enrolment = Enrolment::begin(home.path(), token.clone()).unwrap();
        (home, enrolment)
    };
    let (token, foreign) = (invite(&lab, "gpu-7"), invite(&other, "gpu-7"));
    let (_home, enrolment) = begin(&token);
    let key = foreign.public_key().unwrap();
    let chain = invites(&other).redeem(&key, enrolment.request(), now()).unwrap();
    assert!(matches!(enrolment.finish(&chain, now()), Err(EnrolError::WrongCa)));

    let ((_home, mine), (_other, theirs)) = (begin(&token), begin(&token));
    let key = token.public_key().unwrap();
    let chain = invites(&lab).redeem(&key, theirs.request(), now()).unwrap();
    let error = mine.finish(&chain, now()).unwrap_err();
    assert!(matches!(error, EnrolError::Identity(IdentityError::Key(_))), "{error}");
    assert!(matches!(begin(&token).1.finish("", now()), Err(EnrolError::Reply)));
}

#[test]
fn invitations_have_bounds() {
    let lab = Lab::new();
    let invites = invites(&lab);
    let address = ["10.0.0.1:7411".to_owned()];
    let create = |name: &str, ttl_s, secs| {
        invites.create(granted(name), ttl_s, &address, at(secs)).map(drop)
    };
    assert!(matches!(create("gpu-1", 60, NOW_S), Err(InviteError::OwnName { .. })));
    assert!(matches!(create("gpu-7", 0, NOW_S), Err(InviteError::Ttl { ttl_s: 0 })));
    assert!(matches!(create("gpu-7", 8 * DAY_S, NOW_S), Err(InviteError::Ttl { .. })));
    for i in 0..INVITES_MAX {
        create(&format!("gpu-{}", i + 2), 60, NOW_S).unwrap();
    }
    assert!(matches!(create("one-more", 60, NOW_S), Err(InviteError::Full)));
    assert_eq!(invites.list().unwrap().len(), INVITES_MAX);
    create("one-more", 60, NOW_S + 61).unwrap();
    let [only] = &invites.list().unwrap()[..] else { panic!("expired invitations were kept") };
    assert_eq!((only.name.as_str(), only.used), ("one-more", false));
}

#[test]
fn a_broken_file_of_invitations_lets_nobody_in() {
    let lab = Lab::new();
    let token = invite(&lab, "gpu-7");
    let path = Identity::folder(lab.home.path()).join("invites.json");
    std::fs::write(&path, b"{\"format\": 2, \"invites\": []}").unwrap();
    assert!(matches!(invites(&lab).list(), Err(InviteError::Broken { .. })));
    let error = refused(join(&lab, &token, now()).1);
    assert!(
        matches!(&error, PeerError::Invitation(PendingError::Unreadable { detail })
            if detail.contains("its format is 2, not 1")),
        "{error}"
    );
}

#[test]
fn concurrent_redeems_of_one_invitation_issue_one_certificate() {
    let lab = Lab::new();
    let token = invite(&lab, "gpu-7");
    let key = token.public_key().unwrap();
    let homes: Vec<_> = (0..8).map(|_| tempfile::tempdir().unwrap()).collect();
    let requests: Vec<_> = homes
        .iter()
        .map(|home| Enrolment::begin(home.path(), token.clone()).unwrap().request().to_vec())
        .collect();
    let issued = std::thread::scope(|scope| {
        let run = |request: &Vec<u8>| {
            let request = request.clone();
            let invites = invites(&lab);
            scope.spawn(move || invites.redeem(&key, &request, now()).is_ok())
        };
        let threads: Vec<_> = requests.iter().map(run).collect();
        threads.into_iter().map(|t| t.join().unwrap()).filter(|&ok| ok).count()
    });
    assert_eq!(issued, 1);
}

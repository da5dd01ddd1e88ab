//! Every wrong certificate fails with its own error, at either end.

use super::*;

#[test]
fn two_nodes_of_a_trust_domain_learn_each_others_names() {
    let lab = Lab::new();
    let (client, server) = between(&lab.node(|_| {}), &lab.identity, now());
    let at_server = peer_of(&server.unwrap(), None, now()).unwrap();
    let at_client = peer_of(&client.unwrap(), None, now()).unwrap();
    assert_eq!(at_server.node.as_str(), "gpu-7");
    assert_eq!((at_server.site.as_str(), at_server.tier), ("onprem", Tier::Private));
    assert_eq!((at_client.node.as_str(), at_client.enrolling.is_some()), ("gpu-1", false));
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
    // QUIC takes them as they are.
    assert!(quinn_proto::crypto::rustls::QuicServerConfig::try_from(server).is_ok());
    assert!(quinn_proto::crypto::rustls::QuicClientConfig::try_from(client).is_ok());
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

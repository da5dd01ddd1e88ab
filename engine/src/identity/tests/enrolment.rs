//! From an invitation to a node's identity, and all that can go wrong between.

use super::*;

#[test]
fn an_invited_node_enrols_and_is_a_node_from_then_on() {
    let lab = Lab::new();
    let home = tempfile::tempdir().unwrap();
    let token: Token = invite(&lab, "gpu-7").reveal().parse().unwrap();
    let enrolment = Enrolment::begin(home.path(), token.clone()).unwrap();
    assert!(matches!(Identity::load(home.path()), Err(IdentityError::Unfinished { .. })));

    let (client, server) = join(&lab, enrolment.token(), now());
    let inviter = peer_of(&client.unwrap(), None, now()).unwrap();
    assert_eq!((inviter.node.as_str(), inviter.enrolling.is_some()), ("gpu-1", false));
    let shown = server.unwrap();
    let joiner = peer_of(&shown, Some(&invites(&lab)), now()).unwrap();
    assert_eq!((joiner.node.as_str(), joiner.enrolling.is_some()), ("gpu-7", true));
    assert_eq!(peer_of(&shown, None, now()), Err(PeerError::NotInviting));

    let key = joiner_key(&shown).unwrap();
    let chain = invites(&lab).redeem(&key, enrolment.request(), now()).unwrap();
    let identity = enrolment.finish(&chain, now()).unwrap();
    let expected = SpiffeId {
        domain: lab.ca.domain().clone(),
        tier: Tier::Public,
        site: "cloud".parse().unwrap(),
        kind: Kind::Node,
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
        let (node, site) = (name.parse().unwrap(), "cloud".parse().unwrap());
        let (who, place) = ((node, Kind::Node), (site, Tier::Public));
        invites.create(who, place, ttl_s, &address, at(secs)).map(drop)
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

//! What the CA signs, and the identity's files.

use super::*;

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
fn a_start_that_fails_leaves_no_keys_behind() {
    let home = tempfile::tempdir().unwrap();
    let folder = Identity::folder(home.path());
    std::fs::write(&folder, b"in the way").unwrap();
    let site = "onprem".parse().unwrap();
    let error = Identity::init(home.path(), "gpu-1".parse().unwrap(), site, Tier::Private, now());
    assert!(matches!(error, Err(IdentityError::File(FileError::Io { .. }))));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read(&folder).unwrap(), b"in the way");
}

#[test]
fn an_existing_pki_with_an_intermediate_ca_works() {
    let lab = Lab::new();
    let make = |params: &mut CertificateParams, name: &str| {
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()
    };
    let (mut root, mut middle) = (CertificateParams::default(), CertificateParams::default());
    let (root_key, middle_key) = (make(&mut root, "root"), make(&mut middle, "middle"));
    let root_cert = root.self_signed(&root_key).unwrap();
    let middle_cert =
        middle.signed_by(&middle_key, &Issuer::from_params(&root, &root_key)).unwrap();
    let load = |name: &str| {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let id = SpiffeId { domain: "corp.example".parse().unwrap(), ..lab.id(name) };
        let params = ca::node_params(&id, now(), NOW_S + DAY_S).unwrap();
        let leaf = params.signed_by(&key, &Issuer::from_params(&middle, &middle_key)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [ca, cert, key_path] = ["ca", "cert", "key"].map(|name| folder.path().join(name));
        std::fs::write(&ca, root_cert.pem()).unwrap();
        std::fs::write(&cert, leaf.pem() + &middle_cert.pem()).unwrap();
        super::super::files::write(&key_path, key.serialize_pem().as_bytes(), 0o640).unwrap();
        Identity::from_files(&ca, &cert, &key_path).unwrap()
    };
    let (a, b) = (load("gpu-1"), load("gpu-2"));
    assert_eq!(a.chain().len(), 3);
    let (client, server) = between(&a, &b, now());
    assert_eq!(peer_of(&client.unwrap(), None, now()).unwrap().node.as_str(), "gpu-2");
    assert_eq!(peer_of(&server.unwrap(), None, now()).unwrap().node.as_str(), "gpu-1");
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
    assert!(matches!(not_a_ca, Err(IdentityError::NotCa)));
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

//! Renewed certificates, and certificates of workloads.

use super::*;

/// A node that joined, for whom half of its certificate's life is over at the time that comes with it.
fn member(lab: &Lab) -> (tempfile::TempDir, UnixTime) {
    let home = tempfile::tempdir().unwrap();
    let token = invite(lab, "gpu-7");
    let enrolment = Enrolment::begin(home.path(), token.clone()).unwrap();
    let key = token.public_key().unwrap();
    let chain = invites(lab).redeem(&key, enrolment.request(), now()).unwrap();
    let half = enrolment.finish(&chain, now()).unwrap().renews_at();
    (home, half)
}

fn files_of(home: &Path) -> Vec<Vec<u8>> {
    let folder = Identity::folder(home);
    ["node.pem", "node.key"].map(|name| std::fs::read(folder.join(name)).unwrap()).into()
}

#[test]
fn a_certificate_is_renewed_at_half_of_its_life_for_the_same_identity_and_a_fresh_key() {
    let lab = Lab::new();
    let (home, half) = member(&lab);
    let before = Identity::load(home.path()).unwrap();
    let life_s = NODE_VALIDITY_S + 300;
    assert_eq!(half, at(NOW_S - 300 + life_s / 2));
    let early = at(half.as_secs() - 1);
    assert!(Renewal::begin(home.path(), early).unwrap().is_none());

    let renewal = Renewal::begin(home.path(), half).unwrap().expect("due");
    assert!(Renewal::begin(home.path(), half).unwrap().is_none(), "one at a time");
    let chain = invites(&lab).renew(before.id(), renewal.request(), half).unwrap();
    let renewed = renewal.finish(&chain, half).unwrap();
    assert_eq!(renewed.id(), before.id());
    assert_ne!(renewed.reset_key(), before.reset_key(), "another key");
    assert_eq!(renewed.expires_at(), at(half.as_secs() + NODE_VALIDITY_S));
    assert_eq!(Identity::load(home.path()).unwrap().chain(), renewed.chain());
    assert!(Renewal::begin(home.path(), half).unwrap().is_none(), "not due any more");
    let folder = Identity::folder(home.path());
    assert_eq!(std::fs::metadata(folder.join("node.key")).unwrap().mode() & 0o777, 0o600);
    assert!(!folder.join("node.key.next").exists());
    // Who was let in with the old one goes on, and the new one is let in.
    for identity in [&before, &renewed] {
        assert!(between(identity, &lab.identity, half).1.is_ok());
    }
}

#[test]
fn a_crash_in_the_middle_of_a_renewal_leaves_the_old_or_the_new_certificate() {
    let lab = Lab::new();
    let (home, half) = member(&lab);
    let folder = Identity::folder(home.path());
    let old = Identity::load(home.path()).unwrap();
    let old_key = std::fs::read(folder.join("node.key")).unwrap();
    let renewal = Renewal::begin(home.path(), half).unwrap().expect("due");
    // Before the certificate is in place.
    assert_eq!(Identity::load(home.path()).unwrap().chain(), old.chain());
    let chain = invites(&lab).renew(old.id(), renewal.request(), half).unwrap();
    let new = renewal.finish(&chain, half).unwrap();
    // After it is, and before the key is.
    std::fs::rename(folder.join("node.key"), folder.join("node.key.next")).unwrap();
    crate::identity::files::write(&folder.join("node.key"), &old_key, 0o600).unwrap();
    assert_eq!(Identity::load(home.path()).unwrap().chain(), new.chain());
    // The next renewal begins from there.
    let later = new.renews_at();
    let renewal = Renewal::begin(home.path(), later).unwrap().expect("due");
    drop(renewal);
    assert_eq!(Identity::load(home.path()).unwrap().chain(), new.chain(), "its key is not lost");
}

#[test]
fn a_certificate_for_somebody_else_is_not_taken_and_the_old_one_stays() {
    let (lab, other) = (Lab::new(), Lab::new());
    let (home, half) = member(&lab);
    let before = files_of(home.path());
    let own = Identity::load(home.path()).unwrap().id().clone();
    let begin = || Renewal::begin(home.path(), half).unwrap().expect("due");
    let renewal = begin();
    let chain = invites(&lab).renew(&lab.id("gpu-9"), renewal.request(), half).unwrap();
    assert!(matches!(renewal.finish(&chain, half), Err(RenewError::Other)));
    let renewal = begin();
    let chain = other.ca.issue(renewal.request(), &other.id("gpu-7"), half).unwrap().chain_pem;
    assert!(matches!(renewal.finish(&chain, half), Err(RenewError::Identity(_))));
    let first = begin().request().to_vec();
    let renewal = begin();
    let chain = invites(&lab).renew(&own, &first, half).unwrap();
    let error = renewal.finish(&chain, half).unwrap_err();
    assert!(matches!(error, RenewError::Identity(IdentityError::Key(_))), "{error}");
    assert!(matches!(begin().finish("", half), Err(RenewError::Reply)));
    let late = begin();
    let chain = invites(&lab).renew(&own, late.request(), half).unwrap();
    let over = at(half.as_secs() + 2 * NODE_VALIDITY_S);
    assert!(matches!(late.finish(&chain, over), Err(RenewError::Identity(_))));
    assert_eq!(files_of(home.path()), before);
}

#[test]
fn who_is_over_joins_again_under_its_name_only() {
    let lab = Lab::new();
    let (home, half) = member(&lab);
    let over = at(half.as_secs() + NODE_VALIDITY_S);
    let again = |name: &str, time| {
        let token = invite(&lab, name);
        let enrolment = Enrolment::again(home.path(), token.clone(), time)?;
        let key = token.public_key().unwrap();
        let chain = invites(&lab).redeem(&key, enrolment.request(), now()).unwrap();
        enrolment.finish(&chain, now())
    };
    assert!(matches!(again("gpu-7", half), Err(EnrolError::Identity(_))), "it is not over");
    let before = files_of(home.path());
    assert!(matches!(again("gpu-8", over), Err(EnrolError::Other { .. })));
    assert_eq!(files_of(home.path()), before);
    let joined = again("gpu-7", over).unwrap();
    assert_eq!(Identity::load(home.path()).unwrap().chain(), joined.chain());
    assert_ne!(files_of(home.path()), before);
    // The node with the CA renews its own.
    let token = invite(&lab, "gpu-7");
    let first = Enrolment::again(lab.home.path(), token, over);
    assert!(matches!(first, Err(EnrolError::Identity(_))));
    let renewal = Renewal::begin(lab.home.path(), over).unwrap().expect("due");
    let chain = renewal.sign_here(60, over).unwrap();
    let renewed = renewal.finish(&chain, over).unwrap();
    assert_eq!(renewed.expires_at(), at(over.as_secs() + 60));
    assert_eq!(renewed.renews_at(), at(over.as_secs() - 6 + 33), "short lives are backdated less");
}

#[test]
fn a_workload_opens_sessions_and_accepts_none() {
    let lab = Lab::new();
    let home = tempfile::tempdir().unwrap();
    let address = ["10.0.0.1:7411".to_owned()];
    let (who, place) =
        (("gpu-1".parse().unwrap(), Kind::Workload), ("cloud".parse().unwrap(), Tier::Public));
    let token = invites(&lab).create(who, place, INVITE_TTL_S, &address, now());
    let token = token.expect("a workload may be called as the node is");
    let enrolment = Enrolment::begin(home.path(), token.clone()).unwrap();
    let key = token.public_key().unwrap();
    let chain = invites(&lab).redeem(&key, enrolment.request(), now()).unwrap();
    let job = enrolment.finish(&chain, now()).unwrap();
    assert!(job.id().to_string().ends_with("/tier/public/site/cloud/workload/gpu-1"));
    let (client, server) = between(&job, &lab.identity, now());
    assert!(client.is_ok());
    let peer = peer_of(&server.unwrap(), None, now()).unwrap();
    assert_eq!((peer.kind, peer.called().as_str()), (Kind::Workload, "workload/gpu-1"));
    let node = peer_of(lab.identity.chain(), None, now()).unwrap();
    assert!(!peer.is_same(&node));
    let (client, _) = between(&lab.identity, &job, now());
    assert!(matches!(refused(client), PeerError::WrongUsage { needs: Usage::Server, .. }));
    // Nor does one whose certificate says both usages, of an existing PKI.
    let both = lab.node(|params| {
        let id = SpiffeId { kind: Kind::Workload, ..lab.id("gpu-7") };
        params.subject_alt_names = vec![uri(&id.to_string())];
    });
    let (client, _) = between(&lab.identity, &both, now());
    assert_eq!(refused(client), PeerError::Workload { name: "gpu-7".parse().unwrap() });
}

#[test]
fn a_listener_shows_the_newest_certificate() {
    let lab = Lab::new();
    let newer =
        lab.node(|params| params.subject_alt_names = vec![uri(&lab.id("gpu-1").to_string())]);
    let live = Arc::new(Live::new(lab.identity.clone()));
    let server = live_server_config(&live, None).unwrap();
    let client = client_config(&lab.node(|_| {}), Expect::Any).unwrap();
    let shown = |server| handshake(&client, server, now()).0.unwrap()[0].clone();
    assert_eq!(shown(&server), lab.identity.chain()[0]);
    live.renew(newer.clone());
    assert_eq!(shown(&server), newer.chain()[0]);
}

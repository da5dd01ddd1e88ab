//! Grants and revocations, version by version.

use super::*;

fn grant(who: &Principal, name: &str, dataset: &str) -> Grant {
    Grant { identity: who.clone(), role: role(name), dataset: path(dataset) }
}

fn held<'a>(roles: &'a Roles, who: &Principal, dataset: &str, now: i64) -> Vec<&'a str> {
    roles.held(who, &path(dataset), now).roles
}

#[test]
fn every_change_is_the_next_version_and_leaves_the_one_before_as_it_was() {
    let who = node("dc1");
    let none = Roles::default();
    let one = none.grant(grant(&who, "reader", "a"), None, NOW).expect("granted");
    let two = one.grant(grant(&who, "reader", "b"), Some(NOW + 5), NOW).expect("granted");
    let three = two.revoke(&who, &role("reader"), Some(&path("a"))).expect("revoked");
    assert_eq!([&none, &one, &two, &three].map(Roles::version), [0, 1, 2, 3]);
    assert_eq!([&none, &one, &two, &three].map(|roles| roles.grants().count()), [0, 1, 2, 1]);
    assert_eq!(held(&three, &who, "b/x", NOW), ["reader"]);
    assert_eq!(held(&three, &who, "a", NOW), [""; 0]);
    assert_eq!(two.revoke(&who, &role("reader"), None).expect("all").grants().count(), 0);
    for (name, dataset) in [("writer", None), ("reader", Some(path("a/b")))] {
        let nothing = two.revoke(&who, &role(name), dataset.as_ref());
        assert_eq!(nothing, Err(ChangeError::Nothing { identity: who.clone() }));
    }
}

#[test]
fn a_role_counts_below_its_dataset_until_its_end_and_for_its_identity_alone() {
    let (who, other) = (node("dc1"), principal("private", "dc1", "node", "gpu-12"));
    let roles = granted(&who, "reader", "a/b", Some(NOW + 5));
    let roles = roles.grant(grant(&who, "admin", ""), None, NOW).expect("granted");
    assert_eq!(held(&roles, &who, "a/b/c", NOW), ["admin", "reader"]);
    assert_eq!(held(&roles, &who, "a/b", NOW + 4), ["admin", "reader"]);
    assert_eq!(held(&roles, &who, "a/b", NOW + 5), ["admin"]);
    assert_eq!(held(&roles, &who, "a/bc", NOW), ["admin"]);
    assert_eq!(held(&roles, &other, "a/b", NOW), [""; 0]);
    // A role that is held by two grants is one role, which ends when it might.
    let twice = roles.grant(grant(&who, "reader", "a"), Some(NOW + 3), NOW).expect("granted");
    assert_eq!(held(&twice, &who, "a/b", NOW), ["admin", "reader"]);
    assert_eq!(twice.held(&who, &path("a/b"), NOW).until, Some(NOW + 3));
    assert_eq!(twice.held(&who, &path("x"), NOW).until, None);
}

#[test]
fn granting_again_changes_the_end_and_drops_what_is_over() {
    let who = node("dc1");
    let roles = granted(&who, "reader", "a", Some(NOW + 5));
    let longer = roles.grant(grant(&who, "reader", "a"), Some(NOW + 50), NOW).expect("granted");
    assert_eq!(longer.grants().map(|(_, until)| until).collect::<Vec<_>>(), [Some(NOW + 50)]);
    let later = roles.grant(grant(&who, "writer", "a"), None, NOW + 5).expect("granted");
    assert_eq!(later.grants().count(), 1);
    let over = roles.grant(grant(&who, "reader", "a"), Some(NOW), NOW);
    assert_eq!(over, Err(ChangeError::Over));
}

#[test]
fn a_revoked_identity_loses_its_grants_and_gets_none_until_it_is_readmitted() {
    let who = node("dc1");
    let revoked = granted(&who, "reader", "", None).revoke_identity(&who).expect("revoked");
    assert_eq!((revoked.version(), revoked.grants().count()), (2, 0));
    assert_eq!(revoked.revoked().collect::<Vec<_>>(), [&who]);
    let refused = revoked.grant(grant(&who, "reader", ""), None, NOW);
    assert_eq!(refused, Err(ChangeError::Revoked { identity: who.clone() }));
    assert_eq!(revoked.revoke_identity(&who), Err(ChangeError::Already { identity: who.clone() }));
    let back = revoked.readmit(&who).expect("readmitted");
    assert_eq!((back.version(), back.revoked().count()), (3, 0));
    assert_eq!(back.readmit(&who), Err(ChangeError::Nothing { identity: who.clone() }));
    assert!(back.grant(grant(&who, "reader", ""), None, NOW).is_ok());
}

#[test]
fn there_is_no_more_of_anything_than_its_bound() {
    let who = node("dc1");
    let mut roles = Roles::default();
    for n in 0..GRANTS_MAX {
        roles.grants.insert(grant(&who, "reader", &n.to_string()), None);
    }
    let full = roles.grant(grant(&who, "reader", "more"), None, NOW);
    assert_eq!(full, Err(ChangeError::Full { what: "grants", limit: GRANTS_MAX }));
    assert!(roles.grant(grant(&who, "reader", "7"), Some(NOW + 1), NOW).is_ok(), "one of them");
    for n in 0..REVOKED_MAX {
        roles.revoked.insert(principal("private", "dc1", "node", &format!("n{n}")));
    }
    let full = roles.revoke_identity(&who);
    assert_eq!(full, Err(ChangeError::Full { what: "revoked identities", limit: REVOKED_MAX }));
    let long = RelPath::from_bytes(&[&[b'a'; 255][..]; 17].join(&b'/')).expect("a path");
    let long = Grant { dataset: long, ..grant(&who, "reader", "") };
    assert_eq!(Roles::default().grant(long, None, NOW), Err(ChangeError::Path));
    // 4,096 bytes: fifteen components of 255, one of 254, and one of one, with slashes.
    let names = [vec![&[b'a'; 255][..]; 15], vec![&[b'a'; 254][..], &b"a"[..]]].concat();
    let longest = RelPath::from_bytes(&names.join(&b'/')).expect("a path");
    assert_eq!(longest.as_bytes().len(), 4096);
    let longest = Grant { dataset: longest, ..grant(&who, "reader", "") };
    assert!(Roles::default().grant(longest, None, NOW).is_ok());
    let last = Roles { version: u64::MAX, ..Roles::default() };
    assert_eq!(last.revoke_identity(&who), Err(ChangeError::Versions));
}

#[test]
fn older_roles_and_others_of_the_same_version_are_not_taken() {
    let who = node("dc1");
    let one = granted(&who, "reader", "", None);
    let two = one.revoke_identity(&who).expect("revoked");
    assert_eq!(one.succeed(two.clone()), Ok(two.clone()));
    assert_eq!(two.succeed(two.clone()), Ok(two.clone()));
    assert_eq!(two.succeed(one.clone()), Err(SucceedError::Older { offered: 1, held: 2 }));
    let other = granted(&who, "writer", "", None);
    assert_eq!(one.succeed(other), Err(SucceedError::Fork { version: 1 }));
}

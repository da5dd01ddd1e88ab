//! What the decoders of this module promise; `crate::fuzzing` lists them.

use std::collections::BTreeMap;

use super::{
    Action, BUILTIN, Bundle, Cases, Classes, Grant, Policy, Principal, Request, Roles, Side,
    Transport, Verdict,
};
use crate::base::RelPath;

fn who(name: &str) -> Principal {
    format!("spiffe://d/tier/private/site/dc1/node/{name}").parse().expect("an id")
}

/// A bundle with two grants and a revoked identity.
pub(super) fn bundle_of_three() -> Bundle {
    let grant = |name: &str, role: &str, dataset: &[u8]| Grant {
        identity: who(name),
        role: role.parse().expect("a role"),
        dataset: RelPath::from_bytes(dataset).expect("a path"),
    };
    let roles = Roles::default()
        .grant(grant("gpu-1", "reader", b"a/\xff"), Some(1_780_272_000), 0)
        .and_then(|roles| roles.grant(grant("gpu-1", "admin", b""), None, 0))
        .and_then(|roles| roles.revoke_identity(&who("gpu-9")))
        .expect("roles");
    Bundle { domain: "d".to_owned(), roles, algorithm: 0x0403, signature: vec![7; 8] }
}

pub(crate) fn bundle(data: &[u8]) -> bool {
    let Ok(bundle) = Bundle::decode(data) else { return false };
    assert_eq!(bundle.encode(), data);
    // What was read can be gone on from, and never goes back.
    let next = bundle.roles.revoke_identity(&who("fuzz"));
    if let Ok(next) = next {
        assert!(next.version() > bundle.roles.version());
        assert!(next.succeed(bundle.roles).is_err());
    }
    true
}

pub(crate) fn bundle_seeds() -> Vec<Vec<u8>> {
    let empty = Bundle { roles: Roles::default(), ..bundle_of_three() };
    vec![bundle_of_three().encode(), empty.encode()]
}

/// A table of cases: it is refused, or each case is decided.
pub(crate) fn cases(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(cases) = Cases::parse(text) else { return false };
    let results = cases.run(BUILTIN).expect("the ready policy fits any classes");
    assert!(!results.is_empty());
    true
}

pub(crate) fn cases_seeds() -> Vec<Vec<u8>> {
    let table = "revoked = [\"a/node/y\"]\n[sites]\na = { tier = \"private\" }\n\
                 [[grant]]\nwho = \"a/node/x\"\nrole = \"admin\"\nuntil = \"2026-12-31\"\n\
                 [[case]]\nname = \"n\"\nwho = \"a/node/x\"\naction = \"administer\"\n\
                 what = \".\"\nfrom = \"a\"\nexpect = \"granted\"\n";
    vec![table.as_bytes().to_vec()]
}

/// The text of a policy: it loads or is refused, and what loads decides.
pub(crate) fn text(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(policy) = Policy::load(text, 1, Classes::default(), BTreeMap::new()) else {
        return false;
    };
    let side = Side { site: "dc1".parse().expect("a site"), tier: crate::base::Tier::Private };
    for action in [Action::Push, Action::Administer] {
        let request = Request {
            who: who("gpu-1"),
            action,
            path: RelPath::root(),
            class: "internal".parse().expect("a class"),
            from: side.clone(),
            to: side.clone(),
            transport: Transport::Quic,
            relabel: None,
        };
        let decision = policy.decide(&request, &Roles::default(), 0);
        let known = policy.ids();
        assert!(decision.by.iter().all(|id| known.contains(id)));
        assert!(decision.verdict == Verdict::Denied || !decision.by.is_empty());
    }
    true
}

pub(crate) fn text_seeds() -> Vec<Vec<u8>> {
    let short = "@id(\"a\") @reason(\"b\") permit (principal, action, resource);";
    vec![BUILTIN.as_bytes().to_vec(), short.as_bytes().to_vec()]
}

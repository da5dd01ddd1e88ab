//! Bundles: their bytes, and what is refused.

use super::*;
use crate::manifest::DecodeError;
use crate::policy::fuzz::bundle_of_three;

#[test]
fn the_bytes_of_a_bundle_are_the_documented_ones() {
    let identity = b"spiffe://d/tier/private/site/dc1/node/gpu-1";
    let revoked = b"spiffe://d/tier/private/site/dc1/node/gpu-9";
    let mut body = vec![1, b'd'];
    body.extend(3_u64.to_le_bytes());
    body.extend([2, 0]);
    body.extend([43, 0]);
    body.extend(identity);
    body.extend(b"\x05admin\x00\x00\x00");
    body.extend([43, 0]);
    body.extend(identity);
    body.extend(b"\x06reader\x03\x00a/\xff\x01");
    body.extend(1_780_272_000_i64.to_le_bytes());
    body.extend([1, 0, 43, 0]);
    body.extend(revoked);
    let mut bytes = b"PWROLES1".to_vec();
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend(&body);
    bytes.extend([0x03, 0x04, 8, 0, 7, 7, 7, 7, 7, 7, 7, 7]);
    let bundle = bundle_of_three();
    assert_eq!(bundle.encode(), bytes);
    assert_eq!(Bundle::decode(&bytes), Ok(bundle.clone()));
    let message = Bundle::message("d", &bundle.roles);
    assert_eq!(message, [&b"portway roles 1\0"[..], &body].concat());
}

#[test]
fn every_cut_and_every_changed_length_is_refused() {
    let bytes = bundle_of_three().encode();
    for end in 0..bytes.len() {
        assert!(Bundle::decode(&bytes[..end]).is_err(), "{end}");
    }
    assert!(Bundle::decode(&[&bytes[..], &[0]].concat()).is_err());
    for at in 0..16 {
        let mut bad = bytes.clone();
        bad[at] ^= 0x80;
        assert!(Bundle::decode(&bad).is_err(), "{at}");
    }
    let large = vec![0; BUNDLE_BYTES_MAX + 1];
    assert!(matches!(Bundle::decode(&large), Err(DecodeError::Limit { .. })));
}

#[test]
fn there_is_one_form_of_each() {
    let bundle = bundle_of_three();
    let bytes = bundle.encode();
    let body = 16..bytes.len() - 12;
    let first = body.start + 12..body.start + 12 + 2 + 43 + 6 + 2 + 1;
    let second = first.end..first.end + 2 + 43 + 7 + 2 + 3 + 1 + 8;
    let swapped = [
        &bytes[..first.start],
        &bytes[second.clone()],
        &bytes[first.clone()],
        &bytes[second.end..],
    ]
    .concat();
    assert_eq!(swapped.len(), bytes.len());
    assert_eq!(Bundle::decode(&swapped), Err(DecodeError::Field { field: "order of grants" }));
    let twice = [&bytes[..first.end], &bytes[first.clone()], &bytes[second.end..]].concat();
    assert!(Bundle::decode(&twice).is_err());
    let mut flag = bytes.clone();
    flag[first.end - 1] = 2;
    assert_eq!(Bundle::decode(&flag), Err(DecodeError::Field { field: "until" }));
    // An identity that is revoked and has a grant.
    let mut both = bytes.clone();
    let last = both.len() - 13;
    assert_eq!(both[last], b'9');
    both[last] = b'1';
    assert_eq!(Bundle::decode(&both), Err(DecodeError::Field { field: "revoked" }));
}

#[test]
fn roles_never_outgrow_a_bundle() {
    let long = |n: usize| {
        let name = format!("{n:04}{}", "x".repeat(1900));
        principal("private", "dc1", "node", &name)
    };
    let mut roles = Roles::default();
    let mut count = 0;
    let full = loop {
        match roles.revoke_identity(&long(count)) {
            Ok(next) => roles = next,
            Err(error) => break error,
        }
        count += 1;
    };
    // The next one would have passed the bound: what is free is less than it takes.
    let bytes = Bundle { roles: roles.clone(), ..bundle_of_three() }.encode().len();
    assert!(bytes > BUNDLE_BYTES_MAX - 4096 - 255 - 2048, "{bytes}");
    assert_eq!(full, ChangeError::Large);
    let grant = Grant { identity: long(count), role: role("reader"), dataset: path("") };
    assert_eq!(roles.grant(grant, None, NOW), Err(ChangeError::Large));
    let bundle = Bundle { roles, ..bundle_of_three() };
    let bytes = bundle.encode();
    assert!(bytes.len() <= BUNDLE_BYTES_MAX);
    assert_eq!(Bundle::decode(&bytes), Ok(bundle));
}

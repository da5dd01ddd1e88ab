//! Bundles: their bytes, and what is refused.

use super::*;
use crate::base::FileTime;
use crate::manifest::DecodeError;
use crate::policy::bundle::BODY_BYTES_MAX;
use crate::policy::fields::Reader;
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
    let body_range = 16..bytes.len() - 12;
    let first = body_range.start + 12..body_range.start + 12 + 2 + 43 + 6 + 2 + 1;
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
    // One of them twice in place of both, and the revoked identity twice.
    let with = |parts: &[&[u8]]| {
        let body = parts.concat();
        let len = (body.len() as u64).to_le_bytes();
        [&bytes[..8], &len, &body, &bytes[body_range.end..]].concat()
    };
    let head = &bytes[body_range.start..first.start];
    let rest = &bytes[second.end..body_range.end];
    let (one, other) = (&bytes[first.clone()], &bytes[second.clone()]);
    assert_eq!(with(&[head, one, other, rest]), bytes);
    let twice = with(&[head, one, one, rest]);
    assert_eq!(Bundle::decode(&twice), Err(DecodeError::Field { field: "order of grants" }));
    let identity = &rest[2..];
    let twice = with(&[head, one, other, &[2, 0], identity, identity]);
    assert_eq!(Bundle::decode(&twice), Err(DecodeError::Field { field: "order of identities" }));
    let longer = with(&[head, one, other, rest, &[0]]);
    assert!(Bundle::decode(&longer).is_err(), "bytes after the last identity");
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
fn the_path_of_a_grant_has_a_bound() {
    let of = |len: usize| {
        let name = |at| if at % 200 == 199 { '/' } else { 'a' };
        let dataset = path(&(0..len).map(name).collect::<String>());
        let grant = Grant { identity: node("dc1"), role: role("reader"), dataset };
        let roles = Roles { grants: [(grant, None)].into(), ..Roles::default() };
        Bundle { roles, ..bundle_of_three() }
    };
    let longest = of(PATH_BYTES_MAX);
    assert_eq!(Bundle::decode(&longest.encode()), Ok(longest));
    let refused = Bundle::decode(&of(PATH_BYTES_MAX + 1).encode());
    assert!(matches!(refused, Err(DecodeError::Limit { .. })), "{refused:?}");
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
    // What is free can be used to the last byte.
    let free = BODY_BYTES_MAX - roles.encoded_len() - 2;
    let of = |len: usize| format!("spiffe://d/{}", "x".repeat(len - 11)).parse().expect("an id");
    assert_eq!(roles.revoke_identity(&of(free + 1)), Err(ChangeError::Large));
    let roles = roles.revoke_identity(&of(free)).expect("it fits");
    let bundle = Bundle { roles, ..bundle_of_three() };
    let bytes = bundle.encode();
    assert!(bytes.len() <= BUNDLE_BYTES_MAX);
    assert_eq!(Bundle::decode(&bytes), Ok(bundle));
}

#[test]
fn a_time_has_less_than_a_second_of_nanoseconds() {
    let at = |nanos: u32| {
        let bytes = [&5_i64.to_le_bytes()[..], &nanos.to_le_bytes()].concat();
        Reader::new(&bytes).time("at")
    };
    assert_eq!(at(999_999_999), Ok(FileTime { secs: 5, nanos: 999_999_999 }));
    assert!(matches!(at(1_000_000_000), Err(DecodeError::Limit { .. })));
}

//! What the decoder of this module promises; `crate::fuzzing` lists it.

use super::lowering::{FILE_BYTES_MAX, decode, encode};

/// A proposal that is read is written and read again.
pub(crate) fn proposal(data: &[u8]) -> bool {
    if data.len() as u64 > FILE_BYTES_MAX {
        return false;
    }
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Some((signature, _, who, proposal)) = decode(text) else { return false };
    let body = encode(&proposal, &who).expect("it was read");
    let again = format!("{signature}\n{body}");
    let again = decode(&again).expect("it was written");
    assert_eq!(again, (signature, body.as_str(), who, proposal));
    true
}

pub(crate) fn proposal_seeds() -> Vec<Vec<u8>> {
    let body = r#"{"id":"07070707070707070707070707070707","who":"spiffe://d/tier/private/site/s/node/n","path":"646174612f78","from":"restricted","to":"internal","until_s":1780272000}"#;
    vec![format!("{}\n{body}", "07".repeat(64)).into_bytes()]
}

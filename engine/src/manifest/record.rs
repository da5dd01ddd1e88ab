//! Checksummed records, one after the other: the layout of journal and manifest files.
//!
//! ```text
//! file:   magic (8 bytes)  record  record  ...
//! record: length u32 LE | check 8 bytes | payload (length bytes)
//! check:  the first 8 bytes of BLAKE3(length || payload)
//! ```

/// Bytes before a record's payload.
pub const RECORD_HEAD_BYTES: usize = 12;
/// Longest payload, in bytes.
pub const RECORD_BYTES_MAX: usize = 4 << 20;
/// Bytes of a file's magic.
pub const MAGIC_BYTES: usize = 8;

/// Records up to this size, in bytes, are hashed as one piece, which is faster than a piece and a piece.
const SHORT_BYTES: usize = 256;

fn check(length: [u8; 4], payload: &[u8]) -> [u8; 8] {
    let mut short = [0; SHORT_BYTES];
    let digest = if let Some(rest) = short.get_mut(..4 + payload.len()) {
        let (head, body) = rest.split_at_mut(4);
        head.copy_from_slice(&length);
        body.copy_from_slice(payload);
        blake3::hash(rest)
    } else {
        blake3::Hasher::new().update(&length).update(payload).finalize()
    };
    let mut out = [0; 8];
    out.copy_from_slice(&digest.as_bytes()[..8]);
    out
}

/// Appends `payload` as a record to `out`.
pub fn push(out: &mut Vec<u8>, payload: &[u8]) {
    push_with(out, |out| out.extend_from_slice(payload));
}

/// Appends what `put` appends as the payload of a record.
pub fn push_with(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(&[0; RECORD_HEAD_BYTES]);
    put(out);
    let (head, payload) = out[begin..].split_at_mut(RECORD_HEAD_BYTES);
    debug_assert!(payload.len() <= RECORD_BYTES_MAX, "writers keep to the limit");
    let length = (payload.len() as u32).to_le_bytes();
    head[..4].copy_from_slice(&length);
    head[4..].copy_from_slice(&check(length, payload));
}

/// What lies at the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A whole record: its payload, and the bytes that it takes in all.
    Record(&'a [u8], usize),
    /// More bytes are needed, this many in all.
    Short(usize),
    /// Not a record: torn or damaged.
    Damaged,
}

/// Looks at the record that `bytes` starts with.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some((head, rest)) = bytes.split_at_checked(RECORD_HEAD_BYTES) else {
        return Parsed::Short(RECORD_HEAD_BYTES);
    };
    let (length, sum) = head.split_at(4);
    let mut raw = [0; 4];
    raw.copy_from_slice(length);
    let len = u32::from_le_bytes(raw) as usize;
    if len > RECORD_BYTES_MAX {
        return Parsed::Damaged;
    }
    match rest.get(..len) {
        None => Parsed::Short(RECORD_HEAD_BYTES + len),
        Some(payload) if check(raw, payload) == sum => {
            Parsed::Record(payload, RECORD_HEAD_BYTES + len)
        }
        Some(_) => Parsed::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        push(&mut bytes, b"payload");
        assert_eq!(parse(&bytes), Parsed::Record(b"payload", bytes.len()));
        for i in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[i / 8] ^= 1 << (i % 8);
            assert!(!matches!(parse(&bad), Parsed::Record(..)), "bit {i}");
        }
        for cut in 0..bytes.len() {
            assert!(matches!(parse(&bytes[..cut]), Parsed::Short(_)));
        }
    }

    #[test]
    fn zeros_are_not_a_record_stream() {
        // A file extended by zeros after a power loss must read as damaged, not as empty records.
        assert_eq!(parse(&[0; 64]), Parsed::Damaged);
    }
}
